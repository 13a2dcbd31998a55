"""Callbacks: hooks get the run and their own event, and return nothing or Stop; what the given ones take."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, assert_type

import torch

import torchflow
from torchflow import (
    EMA,
    SWA,
    Callback,
    Checkpoints,
    EarlyStopping,
    Every,
    Freeze,
    History,
    Notify,
    Run,
    Sample,
    Stop,
    Throughput,
    Timer,
    Unfreeze,
    data,
)
from torchflow.callbacks import Best, Speed, Times
from torchflow.events import EpochEnded, Failed, Gradients, Stepped, Validated


class RightCallback(Callback):
    """Every hook with its own event; a hook that never stops may say so."""

    changes_run = True

    def on_gradients(self, run: Run[Any, Any], event: Gradients) -> None:
        assert_type(event.norm, torch.Tensor | None)

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> Stop | None:
        return Stop("far enough") if event.progress.updates > 10 else None

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> Stop:
        return Stop(f"{event.metrics['valid/loss']:.3f}")

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded | Validated) -> None:
        assert_type(event.metrics, Mapping[str, float])

    def on_exception(self, run: Run[Any, Any], event: Failed) -> None:
        assert_type(event.exception, BaseException)

    def state(self) -> dict[str, torchflow.types.State]:
        return {"seen": 3, "values": [1.0, None], "weights": {"w": torch.ones(3)}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        assert_type(state["seen"], Any)


class WrongCallback(Callback):
    """Hooks that the loop could not call, or whose answer it would not understand."""

    changes_run = "yes"  # type: ignore[assignment]

    def on_fit_start(self, run: Run[Any, Any]) -> None: ...  # type: ignore[override]  # without the event

    def on_epoch_start(self, event: Stepped, run: Run[Any, Any]) -> None: ...  # type: ignore[override]  # the other way round

    def on_gradients(self, run: Run[Any, Any], event: Stepped) -> None: ...  # type: ignore[override]  # another event

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> bool: ...  # type: ignore[override, empty-body]  # Stop, not True

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> str: ...  # type: ignore[override, empty-body]

    async def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> None: ...  # type: ignore[override]  # nobody awaits it

    def on_fit_end(self, run: Run[Any, Any], event: int) -> None: ...  # type: ignore[override]

    def state(self) -> list[int]: ...  # type: ignore[override, empty-body]  # by name

    def confirms(self) -> bool: ...  # type: ignore[override, empty-body]


def right_callbacks(history: History, points: data.Dataset[Any]) -> None:
    EarlyStopping("valid/loss", patience=Every(updates=100), mode="max", nan="ignore", restore_best=True)
    assert_type(EarlyStopping("valid/loss").reason, str | None)
    Checkpoints("runs/line", every=Every(seconds=600), best="valid/loss", mode="min", on_error="warn")
    EMA(0.99, every=Every(updates=2), buffers="average")
    SWA(Every(epochs=10), statistics=False)
    Freeze("encoder.*", "head.bias")
    Unfreeze(["head", ["encoder.1", "encoder.2"]], every=Every(epochs=2))
    Notify(print, at=["start", "failure"], on_error="stop")
    Sample(points, lambda predictions, progress: print(progress.updates), every=Every(epochs=1))
    torchflow.ProgressBar(stream=io.StringIO(), style="lines")
    torchflow.CSVLog(Path("log.csv"))
    assert_type(Throughput(report=lambda speed: print(speed.samples)).rows, list[Speed])
    assert_type(Timer().total, Times)
    assert_type(history.best("valid/loss", mode="max"), Best)
    assert_type(history["train/loss"], list[float])


def wrong_callbacks(history: History, points: data.Dataset[Any]) -> None:
    Stop()  # type: ignore[call-arg]  # why?
    Stop(3)  # type: ignore[arg-type]
    Stop("done").reason = "not yet"  # type: ignore[misc]
    EarlyStopping()  # type: ignore[call-arg]  # of what?
    EarlyStopping("valid/loss", 5)  # type: ignore[call-arg]
    EarlyStopping("valid/loss", patience="5 epochs")  # type: ignore[arg-type]
    EarlyStopping("valid/loss", mode="lowest")  # type: ignore[arg-type]
    Checkpoints()  # type: ignore[call-arg]  # where?
    Checkpoints("runs", every=10)  # type: ignore[arg-type]  # Every(updates=10)
    Checkpoints("runs", best="valid/loss", mode="lowest")  # type: ignore[arg-type]
    Checkpoints("runs", on_error="ignore")  # type: ignore[arg-type]
    EMA("0.99")  # type: ignore[arg-type]
    EMA(0.99, buffers="mean")  # type: ignore[arg-type]
    Freeze(3)  # type: ignore[arg-type]
    Notify("print")  # type: ignore[arg-type]
    Notify(print, at=["begin"])  # type: ignore[list-item]
    Notify(print, on_error="ignore")  # type: ignore[arg-type]
    Sample(points)  # type: ignore[call-arg]
    Sample(points, lambda predictions: None)  # type: ignore[arg-type, misc]
    Throughput(report=lambda: None)  # type: ignore[arg-type, misc]
    torchflow.ProgressBar(style="fancy")  # type: ignore[arg-type]
    history.best("valid/loss", mode="lowest")  # type: ignore[arg-type]
    history[0]  # type: ignore[index]  # by name; history.rows has a row an update
    history.rows = []  # type: ignore[misc]
