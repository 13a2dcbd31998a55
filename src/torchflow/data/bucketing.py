"""The order of samples that differ in length: batches of like lengths, so that little is padding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.draw import first_draw
from torchflow.data.fields import checked_field, part_of
from torchflow.data.order import Order, mix64, order_of, pieces
from torchflow.data.sources import Source
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError

ALGORITHM = "bucketed/1"
_BATCHES = 0x6275636B65746564  # sets the order of batches apart from that of samples
_AT_ONCE = 256


class Bucketed:
    """An order of training in which the samples of a batch have nearly one length: ``fit(..., shuffle=Bucketed())``.

    Each epoch, all samples are shuffled, cut into pools of ``pool`` batches, sorted by length within each pool, cut into
    batches, and the batches shuffled. Every sample comes once an epoch. The order is a pure function of seed, epoch, lengths and
    batch size; a resume compares the lengths. The samples of a last batch that is too small are taken at random, not by length.

    Args:
        lengths: The length of every training sample, shape (samples,). None measures them when training starts, which reads every
            sample once.
        field: The part whose length counts, where it is measured: a tuple position, a dict key, an attribute, or None for the
            sample itself; a sample that is text or a tensor is measured itself.
        axis: The dimension that is its length.
        pool: Batches of a pool: more of them make the lengths in a batch more alike, and the order less random.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: A length below 0, or an impossible pool.
    """

    def __init__(
        self,
        lengths: Tensor | Sequence[int] | None = None,
        *,
        field: int | str | None = 0,
        axis: int = -1,
        pool: int = 50,
    ) -> None:
        self._lengths = None if lengths is None else _checked(lengths)
        self._field = checked_field(field)
        if isinstance(axis, bool) or not isinstance(axis, int):
            raise ArgumentTypeError(f"axis must be an int, got {arguments.shown(axis)}.")
        self._axis = axis
        self._pool = arguments.whole("pool", pool)

    def __repr__(self) -> str:
        return f"Bucketed(pool={self._pool})"

    def over(self, source: Source, batch_size: int) -> Bucketing:
        """Return the orders of a dataset's epochs.

        Raises:
            ArgumentValueError: There are more or fewer lengths than samples, or a random map changes them from epoch to epoch.
            DataError: A sample has nothing with a length at the field.
        """
        lengths = self._measured(source) if self._lengths is None else self._lengths
        if len(lengths) != source.length:
            raise ArgumentValueError(f"Bucketed has {len(lengths)} lengths, and the training data {source.length} samples.")
        return Bucketing(lengths, batch_size, self._pool)

    def _measured(self, source: Source) -> Tensor:
        """Return the length of every sample, after reading each once."""
        if source.random:
            remedy = "Pass the lengths: Bucketed(lengths), for example those before the random map."
            raise ArgumentValueError(
                f"Bucketed cannot measure {source.lineage}, whose samples differ from epoch to epoch. {remedy}"
            )
        source.prepare()
        found: list[int] = []
        for indices in pieces(source.length, _AT_ONCE):
            for index, sample in zip(indices.tolist(), source.samples(indices, first_draw()), strict=True):
                found.append(self._length(sample, index))
        return torch.tensor(found, dtype=torch.int64)

    def _length(self, sample: Any, index: int) -> int:
        part = sample if isinstance(sample, (str, Tensor, np.ndarray)) else part_of(sample, self._field)
        if isinstance(part, (str, bytes, list)):
            return len(part)
        shape: Any = getattr(part, "shape", ())
        if not -len(shape) <= self._axis < len(shape):
            remedy = "Name the part that has one: Bucketed(field=...)."
            raise DataError(f"sample {index} has no length at field {self._field!r}: it is {arguments.shown(part)}. {remedy}")
        return int(shape[self._axis])


class Bucketing:
    """The orders of the epochs of one dataset.

    Args:
        lengths: int64, shape (samples,).
        batch_size: Samples of a batch.
        pool: Batches of a pool.

    Attributes:
        algorithm: Its name and version, and a digest of what the order depends on beside the key.
    """

    def __init__(self, lengths: Tensor, batch_size: int, pool: int) -> None:
        self._lengths, self._size, self._pool = lengths, batch_size, pool
        digest = hashlib.blake2b(lengths.numpy().astype("<i8").tobytes(), digest_size=8).hexdigest()
        self.algorithm = f"{ALGORITHM} pool {pool} lengths {digest}"

    def order(self, key: int) -> Order:
        """Return the order of the epoch that has a key."""
        size, count = self._size, len(self._lengths)
        shuffled = order_of(count, key)[0:count]
        whole = count - count % size
        body, tail = shuffled[:whole], shuffled[whole:]
        lengths = self._lengths[body]
        ranks = torch.unique(lengths, return_inverse=True)[1]  # 0, 1, ...: no product below can overflow
        pools = torch.arange(whole) // (size * self._pool)
        body = body[torch.argsort(pools * (len(ranks) + 1) + ranks, stable=True)]
        batches = order_of(whole // size, _other(key))[0 : whole // size]
        return _Listed(torch.cat((body.reshape(-1, size)[batches].reshape(-1), tail)), self.algorithm)


class _Listed:
    """An order that is written down.

    Args:
        indices: int64, shape (length,).
        algorithm: What made it.
    """

    __slots__ = ("_indices", "algorithm", "length")

    def __init__(self, indices: Tensor, algorithm: str) -> None:
        self._indices = indices
        self.algorithm = algorithm
        self.length = len(indices)

    def __getitem__(self, positions: slice) -> Tensor:
        return self._indices[positions]


def _other(key: int) -> int:
    """Return a second key that is a pure function of the first."""
    return int(mix64(np.array([key & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64) ^ np.uint64(_BATCHES))[0])


def _checked(lengths: Any) -> Tensor:
    """Return lengths as int64, all at least 0."""
    try:
        made = torch.as_tensor(lengths)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentTypeError(f"lengths must be whole numbers, one a sample, got {arguments.shown(lengths)}.") from None
    if made.ndim != 1 or made.is_floating_point() or made.is_complex() or made.dtype == torch.bool:
        raise ArgumentTypeError(f"lengths must be whole numbers in one dimension, got shape {tuple(made.shape)} of {made.dtype}.")
    if len(made) and int(made.min()) < 0:
        raise ArgumentValueError(f"a length must be at least 0, got {int(made.min())}.")
    return made.detach().cpu().type(torch.int64).clone()
