"""Loops by hand: those of a careful author, and that of the tutorials."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset
from tqdm import tqdm

from benchmarks.contestants import Timed
from benchmarks.gate import Gate
from benchmarks.quiet import Null
from benchmarks.workloads import Workload


def hand(workload: Workload) -> Timed:
    """Train as a careful author does: tensors in memory, one order an epoch, index_select, ``zero_grad``, no ``.item()``."""
    if workload.observed:
        return _observed(workload)
    model, loss_function = workload.model(), workload.loss()
    optimizer, total = workload.optimizer(model), torch.zeros(())
    x, y = workload.train
    start = time.perf_counter()
    for indices in workload.order(0).split(workload.batch):
        inputs, targets = x.index_select(0, indices), y.index_select(0, indices)
        loss = loss_function(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    total.item()
    return Timed(time.perf_counter() - start, model)


def hand_apart(workload: Workload, gate: Gate) -> None:
    """Train as ``hand`` does, epoch after epoch, in a process of its own."""
    model, loss_function = workload.model(), workload.loss()
    optimizer = workload.optimizer(model)
    x, y = workload.train
    for epoch in range(gate.rounds):
        gate.begin(model)
        total = torch.zeros(())
        for indices in workload.order(epoch).split(workload.batch):
            inputs, targets = x.index_select(0, indices), y.index_select(0, indices)
            loss = loss_function(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        total.item()


def hand_best(workload: Workload) -> Timed:
    """Train by the cheapest loop known: gradients cleared by hand, and the cheapest form of the optimizer."""
    if workload.observed:
        return _observed(workload, best=True)
    model, loss_function = workload.model(), workload.loss()
    optimizer, total = workload.best_optimizer(model), torch.zeros(())
    parameters = list(model.parameters())
    x, y = workload.train
    start = time.perf_counter()
    for indices in workload.order(0).split(workload.batch):
        inputs, targets = x.index_select(0, indices), y.index_select(0, indices)
        loss = loss_function(model(inputs), targets)
        loss.backward()
        optimizer.step()
        for parameter in parameters:
            parameter.grad = None
        total += loss.detach()
    total.item()
    return Timed(time.perf_counter() - start, model)


def hand_channels_last(workload: Workload) -> Timed:
    """Train as ``hand`` does, with images and kernels that store the channels of a pixel side by side."""
    model = workload.model().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    loss_function, optimizer, total = workload.loss(), workload.optimizer(model), torch.zeros(())
    x, y = workload.train
    x = x.contiguous(memory_format=torch.channels_last)
    start = time.perf_counter()
    for indices in workload.order(0).split(workload.batch):
        inputs, targets = x.index_select(0, indices), y.index_select(0, indices)
        loss = loss_function(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach()
    total.item()
    return Timed(time.perf_counter() - start, model)


def losses(workload: Workload, epochs: int) -> list[float]:
    """Return the loss of some rows after each epoch of the loop by hand, the reference for every contestant."""
    model, loss_function = workload.model(), workload.loss()
    optimizer = workload.optimizer(model)
    found = []
    for epoch in range(epochs):
        for inputs, targets in workload.batches(epoch):
            optimizer.zero_grad()
            loss_function(model(inputs), targets).backward()
            optimizer.step()
        found.append(workload.error(model))
    return found


def tutorial(workload: Workload) -> Timed:
    """Train by the loop of the tutorials: a DataLoader over a TensorDataset, and ``.item()`` at every update."""
    model, loss_function = workload.model(), workload.loss()
    optimizer = workload.optimizer(model)
    loader = DataLoader(TensorDataset(*workload.train), batch_size=workload.batch, sampler=Ordered(workload))
    valid = None if workload.valid is None else DataLoader(TensorDataset(*workload.valid), batch_size=workload.batch)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        total = error = 0.0
        for inputs, targets in tqdm(loader, file=Null()) if workload.observed else loader:
            predictions = model(inputs)
            loss = loss_function(predictions, targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            if workload.observed:
                error += (predictions - targets).abs().mean().item()
        if valid is not None:
            model.eval()
            with torch.no_grad():
                sum(loss_function(model(inputs), targets).item() for inputs, targets in valid)
            model.train()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, Path(folder) / "best.pt")
        return Timed(time.perf_counter() - start, model)


class Ordered(Sampler[int]):
    """The rows of each epoch in the workload's order; costs what torch's RandomSampler costs.

    Args:
        workload: What is trained.
        peeks: How often the library begins to read before the first epoch.
    """

    def __init__(self, workload: Workload, *, peeks: int = 0) -> None:
        self._workload, self._epoch = workload, -1 - peeks

    def __len__(self) -> int:
        return self._workload.rows

    def __iter__(self) -> Iterator[int]:
        self._epoch += 1
        yield from self._workload.order(max(0, self._epoch)).tolist()


def _observed(workload: Workload, *, best: bool = False) -> Timed:
    """Train with a metric, a validation, a bar and a checkpoint of the best epoch."""
    model, loss_function = workload.model(), workload.loss()
    optimizer = (workload.best_optimizer if best else workload.optimizer)(model)
    parameters = list(model.parameters())
    x, y = workload.train
    total, error, lowest = torch.zeros(()), torch.zeros(()), math.inf
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        with tqdm(total=workload.updates, file=Null()) as bar:
            for indices in workload.order(0).split(workload.batch):
                inputs, targets = x.index_select(0, indices), y.index_select(0, indices)
                predictions = model(inputs)
                loss = loss_function(predictions, targets)
                if not best:
                    optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if best:
                    for parameter in parameters:
                        parameter.grad = None
                with torch.no_grad():
                    total += loss
                    error += (predictions - targets).abs().mean()
                bar.update()
            bar.set_postfix(loss=total.item() / workload.updates, error=error.item() / workload.updates)
        if _validated(workload, model, loss_function) < lowest:
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, Path(folder) / "best.pt")
        return Timed(time.perf_counter() - start, model)


def _validated(workload: Workload, model: nn.Module, loss_function: nn.Module) -> float:
    """Return the validation loss, and measure the metric."""
    assert workload.valid is not None
    x, y = workload.valid
    total, error = torch.zeros(()), torch.zeros(())
    model.eval()
    with torch.inference_mode():
        pairs: Iterator[tuple[Tensor, Tensor]] = zip(x.split(workload.batch), y.split(workload.batch), strict=True)
        for inputs, targets in pairs:
            predictions = model(inputs)
            total += loss_function(predictions, targets) * len(inputs)
            error += (predictions - targets).abs().sum()
    model.train()
    error.item()
    return total.item() / len(x)
