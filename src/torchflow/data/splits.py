"""Which samples go where: index arithmetic of split, kfold and select."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.caller import warn_caller
from torchflow.data import partition
from torchflow.data.order import order_of
from torchflow.data.sources import Source
from torchflow.data.values import codes_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.randomness import key

_TOLERANCE = 1e-9


@dataclass(frozen=True)
class By:
    """What a split goes by: at most one of classes, groups and time, else nothing but chance.

    Args:
        seed: Names the shuffle.
        stratify: What has equal shares in all parts.
        group: What is never divided.
        time: What orders the samples; True where they are in order.
        gap: How many samples are left out between two parts in time.
    """

    seed: int = 0
    stratify: Any = None
    group: Any = None
    time: Any = None
    gap: int = 0

    def __post_init__(self) -> None:
        arguments.seed("seed", self.seed)
        arguments.whole("gap", self.gap, minimum=0)
        given = [
            name for name in ("stratify", "group", "time") if getattr(self, name) is not None and getattr(self, name) is not False
        ]
        for name in given:
            if getattr(self, name) is True and name != "time":
                raise ArgumentTypeError(
                    f"{name}=True does not say by what. Name a part of a sample, where {name}=1 is the second of a pair, or give a list of values."
                )
        if len(given) > 1:
            raise ArgumentTypeError(f"{' and '.join(given)} exclude each other. Name the one that matters most.")
        if self.gap and given != ["time"]:
            raise ArgumentTypeError("gap= leaves samples out between parts in time: it needs time=True or the name of a time.")

    @property
    def kind(self) -> str:
        """Return "random", "stratify", "group" or "time"."""
        names = ("stratify", "group", "time")
        return next((name for name in names if getattr(self, name) is not None and getattr(self, name) is not False), "random")

    def codes(self, source: Source) -> Tensor | None:
        """Return a code for every sample, int64; None where none is needed."""
        value = None if self.kind == "random" else getattr(self, self.kind)
        return None if value is None or value is True else codes_of(source, self.kind, value)[0]


def split(source: Source, parts: Sequence[object], by: By) -> list[Tensor]:
    """Return the indices of each part, int64."""
    length, codes = source.length, by.codes(source)
    sizes = split_sizes(max(0, length - by.gap * (len(parts) - 1)), parts)
    if by.kind == "time":
        return partition.ordered(codes, length, sizes, by.gap, "split")
    if codes is None:
        shuffled = order_of(length, key(by.seed, "split"))[0:length]
        return list(torch.split(shuffled, sizes))
    if by.kind == "stratify":
        whole = all(isinstance(part, numbers.Integral) for part in parts)
        fractions = [size / length if whole else float(cast(float, part)) for part, size in zip(parts, sizes, strict=True)]
        made = partition.stratified(codes, fractions, sizes, by.seed)
    else:
        made = partition.grouped(codes, sizes, by.seed, "split")
    sizes = [len(part) for part in made]
    if not all(sizes):
        _refuse_empty(length, parts, sizes.index(0))
    return made


def kfold(source: Source, folds: int, by: By) -> list[tuple[Tensor, Tensor]]:
    """Return the indices (train, valid) of each fold, int64; sizes differ by one where it does not divide."""
    length, codes = source.length, by.codes(source)
    if folds > length:
        raise ArgumentValueError(f"folds must be at most the number of samples, {length}, got {folds}. Use fewer folds.")
    if by.kind == "time":
        return _forward(codes, length, folds, by.gap)
    if by.kind == "stratify" and codes is not None:
        _check_classes(torch.bincount(codes), folds)
        valid = partition.dealt(codes, folds, by.seed)
    elif codes is not None:
        valid = partition.grouped(codes, [length / folds] * folds, by.seed, "kfold")
    else:
        shuffled = order_of(length, key(by.seed, "kfold"))[0:length]
        valid = list(torch.split(shuffled, [length // folds + (fold < length % folds) for fold in range(folds)]))
    return [(torch.cat([*valid[:fold], *valid[fold + 1 :]]), own) for fold, own in enumerate(valid)]


def _check_classes(members: Tensor, folds: int) -> None:
    """Warn where a class is missing from some folds; refuse where every class is."""
    least, most = int(members.min()), int(members.max())
    if most < folds:
        raise ArgumentValueError(
            f"folds must be at most the number of samples of the largest class, {most}, where folds are stratified, got {folds}. Use fewer folds."
        )
    if least < folds:
        remedy = f"Use at most {least} folds, or give it more samples." if least > 1 else "Give it more samples, or leave it out."
        warn_caller(f"folds={folds} is more than the smallest class has samples, {least}: some folds hold out none of it. {remedy}")


def _forward(times: Tensor | None, length: int, folds: int, gap: int) -> list[tuple[Tensor, Tensor]]:
    """Return folds in time: each validates a block and trains on all before it, as far as the gap allows."""
    blocks = partition.ordered(times, length, split_sizes(length, [1 / (folds + 1)] * (folds + 1)), 0, "kfold")
    pairs = []
    for fold in range(1, len(blocks)):
        before = torch.cat(blocks[:fold])
        if gap >= len(before):
            raise ArgumentValueError(
                f"gap must be below the size of the first block, {len(before)}, got {gap}. Use fewer folds or a smaller gap."
            )
        pairs.append((before[: len(before) - gap], blocks[fold]))
    return pairs


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
