"""Checkpoints and model files: saving, loading, and what may have changed at a resume."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

import torch
from torch import Tensor, nn

from torchflow import Resume, Run, import_torch, load, load_model, save, save_model
from torchflow.data import FittedEncoder, Standardize, Standardized, load_encoders

Pair = tuple[Tensor, Tensor]


def right_saving(run: Run[nn.Linear, Pair], model: nn.Linear, scale: Standardized) -> None:
    assert_type(save(run, "runs/line"), Path)
    load(run, Path("runs/line"))
    load(run, "runs/line", resume=Resume(override=("lr",), strict=False, same_environment=True))
    save_model(model, "line.safetensors", encoders={"scale": scale})
    assert_type(load_model("line.safetensors", into=nn.Linear(1, 1), strict=False), nn.Linear)
    assert_type(load_model("runs/line", into=nn.Linear(1, 1), best=True, average="ema"), nn.Linear)
    assert_type(load_encoders("line.safetensors"), dict[str, FittedEncoder])
    assert_type(import_torch("line.pt", key="model"), dict[str, Tensor])


def wrong_saving(run: Run[nn.Linear, Pair], model: nn.Linear) -> None:
    save(run)  # type: ignore[call-arg]  # where?
    save("runs/line", run)  # type: ignore[arg-type]  # the other way round
    save(model, "runs/line")  # type: ignore[arg-type]  # save_model
    load("runs/line")  # type: ignore[call-arg, arg-type]  # into which run?
    load(run, "runs/line", resume=True)  # type: ignore[arg-type]
    Resume(override={"lr": 0.1})  # type: ignore[arg-type]  # the names; the values are the Trainer's
    Resume(override=0.1)  # type: ignore[arg-type]
    Resume(strict="no")  # type: ignore[arg-type]
    save_model(model.state_dict(), "line.safetensors")  # type: ignore[arg-type]  # the model itself
    save_model(model, "line.safetensors", encoders=[])  # type: ignore[arg-type]
    save_model(model, "line.safetensors", encoders={"scale": Standardize()})  # type: ignore[dict-item]  # not fitted yet
    load_model("line.safetensors")  # type: ignore[call-arg]  # into what?
    load_model("line.safetensors", into=nn.Linear)  # type: ignore[type-var]  # the class
    load_model("runs/line", into=nn.Linear(1, 1), average=0.99)  # type: ignore[arg-type]  # which one, not how
    import_torch(torch.ones(3))  # type: ignore[arg-type]
