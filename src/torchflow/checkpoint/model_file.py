"""Saving a model's weights as one file, and loading them into a model that was built in code.

The file holds numbers and names, never a class or a function: loading executes nothing and cannot build a model.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchflow import arguments
from torchflow.arguments import shown
from torchflow.checkpoint.compare import differences
from torchflow.checkpoint.files import FILES, FileSystem, read_file, replace_file
from torchflow.checkpoint.model_bytes import ModelContent, lay_out, read_bytes
from torchflow.checkpoint.model_of_run import check_average, model_of_run
from torchflow.checkpoint.shards import raw
from torchflow.checkpoint.tensors import check_tensor, snapshot, view_of
from torchflow.errors import ArgumentTypeError, CheckpointError, MismatchError, StateError
from torchflow.names import plain_name
from torchflow.types import HasState, M, State


def save_model(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    encoders: Mapping[str, HasState] | None = None,
    files: FileSystem = FILES,
) -> None:
    """Save parameters and persistent buffers as one safetensors file, replacing an older one in one piece.

    Args:
        model: The model; tied weights are stored once, under all their names. A compiled model is stored as what it
            was compiled from.
        path: The file, for example ``"line.safetensors"``; its folder must exist.
        encoders: Fitted encoders by name, objects with ``state()``: what a prediction needs beside the weights.
        files: The disk.

    Raises:
        ArgumentTypeError: No module, no path, or an encoder without ``state()``.
        StateError: A parameter without values (lazy, meta), or one that safetensors cannot hold; nothing was written.
        CheckpointError: The file cannot be written; an older one is untouched.
    """
    target = arguments.path("path", path)
    shard = lay_out(_live_tensors("model", model), _encoder_states(encoders))
    if os.path.isdir(target):
        raise CheckpointError(f"{target} is a folder; give the name of a file in it, for example {target / 'model.safetensors'}.")
    target = Path(os.path.realpath(target))  # through a link, the file that it points at is replaced, as by any other program
    if not os.path.isdir(target.parent):
        raise CheckpointError(f"{target.parent} is no folder, so {target.name} cannot be written there; create the folder first.")
    try:
        replace_file(files, target, shard.chunks())
    except OSError as error:
        raise CheckpointError(f"{target} was not saved: {error.strerror or error}; what was there before is untouched.") from error


def load_model(
    path: str | os.PathLike[str], into: M, *, strict: bool = True, best: bool = False, average: bool | str | None = None
) -> M:
    """Copy stored weights into a model's live tensors, and return the model.

    Args:
        path: A file of :func:`save_model`, whose every byte is checked, or any other safetensors file of a state dict; or the folder
            of a run, whose newest sound checkpoint is read.
        into: The model. Its tensors keep their identity, so optimizers that hold them go on working.
        strict: Whether names, shapes and dtypes must all fit. False: what fits is loaded, and a ``UserWarning`` lists
            what was skipped.
        best: Of the folder of a run, whether its best checkpoint is read, by the rule of ``Checkpoints(best=...)``.
        average: Of the folder of a run, which weights are read where an ``EMA`` or ``SWA`` averaged them. None: those that validation
            looked at, so that the best model is the one that was judged: the average's with ``validate=True`` once it has begun, and
            the trained ones otherwise. True: the average's; its callback's name, such as ``"ema"``, where there are several. False:
            the trained ones, from which a training goes on.

    Raises:
        ArgumentTypeError: No module, no path, ``strict`` or ``best`` no bool, or ``average`` neither bool nor name.
        ArgumentValueError: ``best`` or ``average`` of a file, or several averages of which none is named.
        CheckpointError: There is no such file, it is a pickle, or a folder without the checkpoint or the average that is asked for.
        CorruptCheckpointError: It is no safetensors file, or not what was written.
        MismatchError: It does not fit; ``differences`` has all the reasons, and the model is as it was.
        StateError: The model has parameters without values (lazy, meta).
    """
    source = arguments.path("path", path)
    arguments.flag("strict", strict)
    arguments.flag("best", best)
    check_average(average)
    live = _live_tensors("into", into)
    of_run = best or average is not None or os.path.isdir(source)
    stored = _with_tied_names(model_of_run(source, best=best, average=average) if of_run else _read(source).tensors, live)
    found = [*differences(stored, live), *_conflicts(stored, live)]
    if found and strict:
        listed = "\n  ".join(found)
        raise MismatchError(
            f"{source} does not fit the model, which is as it was. {len(found)} difference(s):\n  {listed}\n"
            "Build the model as it was when it was saved, or load what fits with strict=False.",
            found,
        )
    if found:
        warnings.warn(f"{source}: {len(found)} tensor(s) were skipped:\n  " + "\n  ".join(found), stacklevel=2)
    with torch.no_grad():
        for name, tensor in live.items():
            if name in stored and not any(line.startswith(f"{name}: ") for line in found):
                tensor.copy_(stored[name])
    return into


def read_encoder_states(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the states of the encoders in a model file by name; a file without any gives an empty dict.

    Raises:
        CheckpointError: As :func:`load_model`.
        CorruptCheckpointError: As :func:`load_model`.
    """
    return _read(arguments.path("path", path)).encoders


def _read(source: Path) -> ModelContent:
    if os.path.isdir(source):
        raise CheckpointError(f"{source} is a folder; give the model file in it.")
    if not os.path.exists(source):
        raise CheckpointError(f"{source} does not exist; save_model(model, {str(source)!r}) writes it.")
    return read_bytes(read_file(Path(os.path.realpath(source))), str(source))


def _live_tensors(argument: str, model: object) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers themselves, by name."""
    if not isinstance(model, nn.Module):
        hint = " Call the class, to make a model of it." if isinstance(model, type) else ""
        raise ArgumentTypeError(f"{argument} must be a torch.nn.Module, got {shown(model)}.{hint}")
    tensors: dict[str, Tensor] = {}
    for wrapped, value in model.state_dict(keep_vars=True).items():
        name = plain_name(wrapped)
        if name in tensors:
            raise StateError(f"{name}: two tensors have this name once '_orig_mod' is left out; rename the attribute.")
        if not isinstance(value, Tensor) or name.rpartition(".")[2] == "_extra_state":
            raise StateError(
                f"{name}: got {shown(value)}; a model file holds parameters and buffers, so keep extra state in a buffer."
            )
        check_tensor(value, name)
        tensors[name] = value
    return tensors


def _encoder_states(encoders: Mapping[str, HasState] | None) -> dict[str, Mapping[str, State]]:
    if encoders is None:
        return {}
    if not isinstance(encoders, Mapping):
        raise ArgumentTypeError(f"encoders must be a dict from names to fitted encoders, got {shown(encoders)}.")
    for name, encoder in encoders.items():
        if isinstance(encoder, type) or not callable(getattr(encoder, "state", None)):
            raise ArgumentTypeError(f"encoders[{name!r}] must be a fitted encoder with state(), got {shown(encoder)}.")
    return {name: encoder.state() for name, encoder in encoders.items()}


def _with_tied_names(stored: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the names that other programs leave out because the model has them tied to one that is there."""
    there = {view_of(live[name]): stored[name] for name in stored if name in live}
    absent = {name: there[view_of(tensor)] for name, tensor in live.items() if name not in stored and view_of(tensor) in there}
    return {**stored, **absent}


def _conflicts(stored: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> list[str]:
    """Find live tensors that cannot take what is stored although shape and dtype fit."""
    lines = []
    first: dict[tuple[object, ...], str] = {}
    for name, tensor in live.items():
        if name not in stored or stored[name].shape != tensor.shape or stored[name].dtype != tensor.dtype:
            continue
        other = first.setdefault(view_of(tensor), name)
        if stored[other] is not stored[name] and raw(snapshot(stored[other])) != raw(snapshot(stored[name])):
            lines.append(f"{name}: stored with another value than {other}, with which it is one tensor in the model")
        if tensor.is_inference() or any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)):
            lines.append(f"{name}: cannot be written to in the model (an expanded or an inference tensor); clone() it there")
    return lines
