"""The model in the folder of a run: which checkpoint, and whether its trained weights or those of an average."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from torchflow.arguments import shown
from torchflow.checkpoint.reading import Loaded
from torchflow.checkpoint.store import Store
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CheckpointError

_AVERAGE = {"count", "weights", "validate"}
"""What the state of a callback that averages weights holds, and that of no other."""


def check_average(average: object) -> None:
    """Refuse what chooses no weights.

    Raises:
        ArgumentTypeError: It is neither None, a bool nor a name.
    """
    if average is not None and not isinstance(average, (bool, str)):
        raise ArgumentTypeError(f"average must be True, False, None or a callback's name such as 'ema', got {shown(average)}.")


def model_of_run(folder: Path, *, best: bool, average: bool | str | None) -> dict[str, Tensor]:
    """Return the weights in the newest sound checkpoint of a run, or in its best.

    Args:
        folder: The folder of the run.
        best: Whether the best checkpoint is read.
        average: As :func:`torchflow.load_model` takes it.

    Raises:
        ArgumentValueError: It is no folder, or has several averages of which none is named.
        CheckpointError: There is no such checkpoint, or no such average in it.
        CorruptCheckpointError: It is not what was written.
    """
    if not os.path.isdir(folder):
        option = "best=True" if best else f"average={average!r}"
        raise ArgumentValueError(f"{option} is for the folder of a run, and {folder} is none. Give the folder of Checkpoints(...).")
    store = Store(folder)
    if not store.steps():
        raise CheckpointError(f"{folder} is a folder without checkpoints; give the folder of a run, or the model file in it.")
    step = store.pointed("best") if best else None
    if best and step is None:
        raise CheckpointError(f"{folder} has no best checkpoint; Checkpoints({str(folder)!r}, best='valid/loss') keeps one.")
    loaded = store.load(step)
    assert loaded is not None
    name = _chosen(loaded, average)
    return dict(loaded.state["model"] if name is None else loaded.state["callbacks"][name]["weights"])


def _chosen(loaded: Loaded, average: bool | str | None) -> str | None:
    """Return the name of the average whose weights are meant; None for the trained ones."""
    known: dict[str, Mapping[str, object]] = {
        name: state for name, state in loaded.state["callbacks"].items() if isinstance(state, Mapping) and state.keys() == _AVERAGE
    }
    if average is None:
        meant = {name: state for name, state in known.items() if state["validate"] and state["weights"] is not None}
    else:
        meant = {name: state for name, state in known.items() if average in (True, name)}
    if average is False or (average is None and not meant):
        return None
    trained = "Its trained weights are read with average=False."
    if not meant:
        called = f" called {average!r}; there are {', '.join(map(repr, known))}" if known else "; EMA or SWA in a run keeps one"
        raise CheckpointError(f"{loaded.path} holds no average{called}. {trained}")
    if len(meant) > 1:
        raise ArgumentValueError(
            f"{loaded.path} holds {len(meant)} averages, {', '.join(map(repr, meant))}. Say which: average={next(iter(meant))!r}. {trained}"
        )
    ((name, state),) = meant.items()
    if state["weights"] is None:
        raise CheckpointError(f"{loaded.path} is from before the first average of {name!r}. {trained}")
    return name
