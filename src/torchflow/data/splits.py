"""Which samples go where: index arithmetic of split, kfold and select."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.order import order_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.randomness import key

_TOLERANCE = 1e-9


def split(length: int, parts: Sequence[object], seed: int) -> list[Tensor]:
    """Return the indices of each part of a random split, int64."""
    sizes = split_sizes(length, parts)
    shuffled = order_of(length, key(seed, "split"))[0:length]
    return list(torch.split(shuffled, sizes))


def kfold(length: int, folds: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Return the indices (train, valid) of each fold, int64; the first folds are larger by one where it does not divide."""
    if folds > length:
        raise ArgumentValueError(f"folds must be at most the number of samples, {length}, got {folds}. Use fewer folds.")
    shuffled = order_of(length, key(seed, "kfold"))[0:length]
    ends = [0, *accumulate(length // folds + (fold < length % folds) for fold in range(folds))]
    return [(torch.cat((shuffled[:start], shuffled[stop:])), shuffled[start:stop]) for start, stop in pairwise(ends)]


def split_sizes(length: int, parts: Sequence[object]) -> list[int]:
    """Return the size of each part: counts as they are, fractions by largest remainder (ties to the first)."""
    if not parts:
        raise ArgumentTypeError("split needs parts, for example split(0.8, 0.2) or split(800, 200).")
    if all(isinstance(part, numbers.Integral) and not isinstance(part, bool) for part in parts):
        sizes = [arguments.whole("a part of split", part) for part in parts]
        if sizes == [1]:
            return [length] if length else _refuse_empty(length, parts, 0)
        if sum(sizes) != length:
            raise ArgumentValueError(f"the counts of split must sum to the length, {length}, got {_sum(sizes)} = {sum(sizes)}.")
        return sizes
    shares = [_fraction(part) for part in parts]
    if abs(math.fsum(shares) - 1.0) > _TOLERANCE:
        remedy = "Add a part for the rest."
        raise ArgumentValueError(f"the fractions of split must sum to 1, got {_sum(shares)} = {math.fsum(shares):g}. {remedy}")
    sizes = [math.floor(share * length + _TOLERANCE) for share in shares]  # 0.29 * 100 is 28.999999999999996
    by_remainder = sorted(range(len(shares)), key=lambda i: sizes[i] - shares[i] * length)
    for i in by_remainder[: length - sum(sizes)]:
        sizes[i] += 1
    return sizes if all(sizes) else _refuse_empty(length, parts, sizes.index(0))


def checked_indices(indices: object, length: int, negative: bool) -> Tensor:
    """Return indices as an int64 tensor (batch,) whose values are from 0 to length - 1.

    Args:
        indices: A tensor, an array or a sequence of ints.
        length: How many samples there are.
        negative: Whether -1 is the last sample.

    Raises:
        ArgumentTypeError: They are not whole numbers in one dimension.
        ArgumentValueError: One is out of range.
    """
    try:
        tensor = torch.as_tensor(indices)
    except (TypeError, ValueError, RuntimeError):
        raise ArgumentTypeError(f"indices must be a sequence of ints, got {arguments.shown(indices)}.") from None
    if not tensor.numel():
        tensor = tensor.type(torch.int64)
    if tensor.ndim != 1 or tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        found = f"shape {tuple(tensor.shape)} of {tensor.dtype}"
        remedy = " Turn a mask into indices with mask.nonzero().flatten()." if tensor.dtype == torch.bool else ""
        raise ArgumentTypeError(f"indices must be whole numbers in one dimension, got {found}.{remedy}")
    tensor = tensor.type(torch.int64).cpu()
    low = -length if negative else 0
    outside = tensor[(tensor < low) | (tensor >= length)]
    if outside.numel():
        raise ArgumentValueError(f"indices must be from {low} to {length - 1}, got {int(outside[0])}.")
    return torch.where(tensor < 0, tensor + length, tensor) if negative else tensor


def _fraction(part: object) -> float:
    if isinstance(part, numbers.Integral):
        hint = "Give fractions that sum to 1 or counts that sum to the length, not both."
        raise ArgumentTypeError(f"the parts of split mix fractions and counts: {arguments.shown(part)}. {hint}")
    return arguments.real("a part of split", part, above=0.0)


def _refuse_empty(length: int, parts: Sequence[object], place: int) -> list[int]:
    remedy = "Use fewer parts, a larger fraction, or more samples."
    raise ArgumentValueError(f"part {place} of split ({parts[place]}) of {length} samples would be empty. {remedy}")


def _sum(values: Sequence[float]) -> str:
    return " + ".join(f"{value:g}" for value in values)
