"""Microbatches: the pieces of a batch that go through the step one after the other, and how large they may be."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from torchflow.arguments import one_of, whole
from torchflow.errors import DataError
from torchflow.tree import map_leaves, samples_in, shapes

N = TypeVar("N")
AUTO = "auto"

_PLAIN = (bool, int, float, complex, str, bytes, np.generic, type(None))
"""What belongs to no sample, and is given to every piece."""


def check_microbatch(choice: int | str | None) -> int | str | None:
    """Check the samples of a microbatch: a count, ``"auto"``, or None for whole batches.

    Raises:
        ArgumentTypeError: It is neither a count nor text.
        ArgumentValueError: It is below 1, or another text.
    """
    hint = "Or 'auto', which cuts batches where the memory does not suffice."
    if isinstance(choice, str):
        return one_of("microbatch", choice, (AUTO,), hint="Or a number of samples.")
    return None if choice is None else whole("microbatch", choice, hint=hint)


class Microbatches:
    """How large the pieces of a batch may be: decided once, or found where the memory does not suffice.

    Args:
        choice: The most samples of a piece, or ``"auto"``.

    Attributes:
        auto: Whether the memory decides.
        size: The most samples of a piece; None while batches stay whole.
    """

    __slots__ = ("auto", "size")

    def __init__(self, choice: int | str) -> None:
        self.auto = isinstance(choice, str)
        self.size: int | None = None if isinstance(choice, str) else choice


def microbatches_of(choice: int | str | None) -> Microbatches | None:
    """Return what cuts batches, or None where they stay whole."""
    return None if choice is None else Microbatches(choice)


def cut(batch: N, size: int) -> Iterator[N]:
    """Yield a batch in as few pieces as have at most ``size`` samples each; their sizes differ by one at most.

    Pieces are copies in torch's own alignment, as batches are, because results depend on it. A batch that is small enough is yielded
    itself.

    Args:
        batch: A tree whose tensors and arrays have a first dimension of samples; lists of text have one text a sample. What has
            no dimension belongs to no sample, and to every piece.
        size: The most samples of a piece.

    Raises:
        DataError: Something in the batch cannot be cut.
    """
    samples = samples_in(batch)
    number = -(-samples // size)
    if number <= 1:
        yield batch
        return
    for piece in range(number):
        rows = slice(samples * piece // number, samples * (piece + 1) // number)
        yield map_leaves(partial(_part, rows, samples, batch), batch, _is_one_column)


def check_cut(batch: object) -> None:
    """Refuse a batch that cannot be cut, without copying it.

    Raises:
        DataError: Something in the batch cannot be cut.
    """
    map_leaves(partial(_part, slice(0, 0), samples_in(batch), batch), batch, _is_one_column)


def _is_one_column(branch: Any) -> bool:
    """Say what is no branch although it is built like one: a packed sequence, and a list or tuple of plain values."""
    if isinstance(branch, PackedSequence):
        return True
    listed = isinstance(branch, (list, tuple)) and not hasattr(branch, "_fields") and len(branch) > 0
    return listed and all(isinstance(value, _PLAIN) for value in branch)


def _part(rows: slice, samples: int, batch: object, leaf: Any) -> Any:
    """Return some rows of a leaf, as a copy."""
    if isinstance(leaf, _PLAIN):
        return leaf
    if isinstance(leaf, Tensor):
        if not leaf.ndim:
            return leaf
        if leaf.layout is torch.strided and not leaf.is_nested and leaf.shape[0] == samples:
            return leaf[rows].clone()
    elif isinstance(leaf, np.ndarray):
        if leaf.ndim and len(leaf) == samples:
            return leaf[rows].copy()
    elif type(leaf) in (list, tuple) and len(leaf) == samples and all(isinstance(value, (str, bytes)) for value in leaf):
        return leaf[rows]
    raise DataError(
        f"a batch of {samples} samples cannot be cut into microbatches: it holds {_said(leaf)}, and all that it holds is {shapes(batch)}. "
        f"Give every tensor a first dimension of samples, with another collate= or in a map; or leave microbatch out and pass a smaller batch_size, with "
        "accumulate raised by the same factor."
    )


def _said(leaf: Any) -> str:
    if isinstance(leaf, PackedSequence):
        return "a PackedSequence, whose rows are no samples"
    if isinstance(leaf, (list, tuple)):
        return f"a {type(leaf).__name__} of {len(leaf)} plain values"
    shape = getattr(leaf, "shape", None)
    if shape is None or not len(shape):
        return f"a {type(leaf).__name__}"
    layout = getattr(leaf, "layout", torch.strided)
    kind = "a nested tensor" if getattr(leaf, "is_nested", False) else "a tensor" if layout is torch.strided else "a sparse tensor"
    return f"{kind if isinstance(leaf, Tensor) else 'an array'} of shape {tuple(shape)}"
