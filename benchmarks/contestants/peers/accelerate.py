"""Accelerate: the loop stays the user's, and is the tutorials' with its wrappers."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from benchmarks.contestants.peers.loading import train_loader, valid_loader
from benchmarks.gate import Gate
from benchmarks.quiet import Null
from benchmarks.workloads import Workload


def train(workload: Workload, gate: Gate) -> None:
    """Train with wrapped model, optimizer and loader."""
    accelerator = Accelerator(cpu=True)
    plain, loss_function, lowest = workload.model(), workload.loss(), math.inf
    model, optimizer, loader = accelerator.prepare(plain, workload.optimizer(plain), train_loader(workload))
    valid = None if workload.valid is None else accelerator.prepare(valid_loader(workload))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(gate.rounds):
            gate.begin(plain)
            total = torch.zeros(())
            for inputs, targets in tqdm(loader, file=Null()) if workload.observed else loader:
                predictions = model(inputs)
                loss = loss_function(predictions, targets)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                if workload.observed:
                    total += (predictions - targets).abs().mean().detach()
            if valid is not None and (value := _validated(model, loss_function, valid)) < lowest:
                lowest = value
                accelerator.save(accelerator.get_state_dict(model), Path(folder) / "best.pt")


def _validated(model: nn.Module, loss_function: nn.Module, valid: Any) -> float:
    """Return the validation loss, and measure the metric."""
    total = error = torch.zeros(())
    model.eval()
    with torch.no_grad():
        for inputs, targets in valid:
            predictions = model(inputs)
            total, error = total + loss_function(predictions, targets), error + (predictions - targets).abs().mean()
    model.train()
    return total.item() / len(valid)
