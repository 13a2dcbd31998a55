"""Whether the parts of a split are apart: exact and near duplicates and shared groups across them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.draw import first_draw
from torchflow.data.order import pieces
from torchflow.data.overlaps import Overlap, SplitReport
from torchflow.data.signatures import BITS_APART, Content, Words, alike, content_of_sample, signature
from torchflow.data.values import codes_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError, LeakError
from torchflow.types import SampleValues

_CELLS = 2**22  # signatures compared at once


def check_splits(
    *splits: Dataset[Any],
    names: Sequence[str] | None = None,
    group: SampleValues = None,
    near: bool = True,
    raises: bool = True,
) -> SplitReport:
    """Look for samples and groups that several splits share, by a hash of each sample's inputs.

    Targets are not compared: the same picture under another label is a leak too. All samples are read once, in batches; what
    is kept of each is 16 bytes (a text: 136), and those that seem to be equal are read again and compared.

    * *Exact* duplicates have the same inputs to the bit, dtypes and shapes too.
    * *Near* duplicates, of images: signatures of 64 bits (dHash) that differ in at most 3, and 16 x 16 greys that differ by 3 % of
      their range on average. Of texts: four in five of all runs of five letters are the same, whatever case and blanks (MinHash). Of at
      least 8 numbers: equal in three significant digits, after averaging a dimension above 64 down to 64.

    Args:
        splits: The training split first, then those that are held out.
        names: What the report calls them; None is train, valid and test.
        group: What no two splits may share: the name or position of a part, or a list of values for each split.
        near: Whether near duplicates are looked for.
        raises: Whether an overlap is raised; otherwise it is only in the report.

    Returns:
        The report; ``str`` of it says what was found.

    Raises:
        LeakError: The splits share something, and ``raises`` is True; the message is the report.
        ArgumentTypeError: Something is no Dataset.
        ArgumentValueError: Fewer than two splits, or a number of names or groups that is not theirs.
    """
    called = _names(splits, names)
    arguments.flag("near", near)
    arguments.flag("raises", raises)
    hashed = [_hashed(split, near) for split in splits]
    overlaps: list[Overlap] = []
    for later in range(1, len(splits)):
        for earlier in range(later):
            pair = _Pair(splits[earlier], splits[later], called[earlier], called[later])
            exact = pair.confirmed("exact", _equal(hashed[earlier].exact, hashed[later].exact))
            overlaps += exact
            if near:
                known = {overlap.second[1] for overlap in exact}
                pairs = _near(hashed[earlier], hashed[later])
                overlaps += pair.confirmed("near", ((one, other) for one, other in pairs if other not in known))
    if group is not None:
        overlaps += _shared_groups(splits, called, group)
    report = SplitReport({name: len(split) for name, split in zip(called, splits, strict=True)}, tuple(overlaps))
    if raises and not report.clean:
        raise LeakError(f"{report}\nLeave them out of one split, or split by group= what they have in common.")
    return report


def _names(splits: Sequence[object], names: Sequence[str] | None) -> list[str]:
    for split in splits:
        if not isinstance(split, Dataset):
            raise ArgumentTypeError(
                f"check_splits takes datasets, got {arguments.shown(split)}. Wrap it with torchflow.data.as_dataset."
            )
    if len(splits) < 2:
        raise ArgumentValueError(f"check_splits compares at least two splits, got {len(splits)}.")
    usual = {2: ["train", "test"], 3: ["train", "valid", "test"]}
    called = usual.get(len(splits), [f"split {place}" for place in range(len(splits))]) if names is None else list(names)
    if len(called) != len(splits) or len(set(called)) < len(called):
        raise ArgumentValueError(f"names must give each of {len(splits)} splits a name of its own, got {arguments.shown(names)}.")
    return called


@dataclass(frozen=True, slots=True)
class _Hashed:
    """The hashes of a split: ``exact`` of shape (samples,), and for each kind of signature the samples and their words."""

    exact: Words
    near: dict[str, tuple[npt.NDArray[np.int64], Words]]


def _hashed(split: Dataset[Any], near: bool) -> _Hashed:
    """Return the hashes of a split, which is read once."""
    exact = np.zeros(len(split), dtype=np.uint64)
    places: dict[str, list[int]] = {}
    words: dict[str, list[Words]] = {}
    for place, content in _contents(split, np.arange(len(split))):
        exact[place] = np.frombuffer(content.exact[:8], dtype=np.uint64)[0]
        if near and content.kind:
            places.setdefault(content.kind, []).append(place)
            words.setdefault(content.kind, []).append(signature(content))
    return _Hashed(exact, {kind: (np.array(places[kind]), np.stack(words[kind])) for kind in places})


def _contents(split: Dataset[Any], places: npt.NDArray[Any]) -> Iterator[tuple[int, Content]]:
    """Yield the content of samples, read a batch at a time."""
    source = split.source
    for chunk in pieces(len(places), 256 if source.columnar else 1):
        wanted = torch.as_tensor(places[chunk.numpy()])
        for place, sample in zip(wanted.tolist(), source.samples(wanted, first_draw()), strict=True):
            yield place, content_of_sample(sample, source.schema)


def _equal(first: Words, second: Words) -> Iterator[tuple[int, int]]:
    """Yield ``(place in first, place in second)`` of every pair of equal words."""
    order = np.argsort(first, kind="stable")
    begins, ends = (np.searchsorted(first[order], second, side=side) for side in ("left", "right"))
    for place in np.flatnonzero(ends > begins).tolist():
        for one in order[begins[place] : ends[place]].tolist():
            yield one, place


def _near(first: _Hashed, second: _Hashed) -> Iterator[tuple[int, int]]:
    """Yield pairs of samples whose signatures are near."""
    for kind in first.near.keys() & second.near.keys():
        (own, words), (others, other_words) = first.near[kind], second.near[kind]
        if kind == "image":
            pairs = _within(words[:, 0], other_words[:, 0])
        else:
            columns = range(words.shape[1])
            pairs = iter(sorted({pair for column in columns for pair in _equal(words[:, column], other_words[:, column])}))
        for one, other in pairs:
            yield int(own[one]), int(others[other])


def _within(first: Words, second: Words) -> Iterator[tuple[int, int]]:
    """Yield pairs of words that differ in at most three bits, a block at a time."""
    rows = max(1, _CELLS // max(1, len(first)))
    for begin in range(0, len(second), rows):
        apart = _ones(second[begin : begin + rows, None] ^ first[None, :])
        for other, one in zip(*np.nonzero(apart <= BITS_APART), strict=True):
            yield int(one), begin + int(other)


def _ones(words: Words) -> Words:
    """Return how many bits of each word are set: sums of pairs, of fours, of eights, of all (Warren, Hacker's Delight, 5-1)."""
    words = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    words = (words & np.uint64(0x3333333333333333)) + ((words >> np.uint64(2)) & np.uint64(0x3333333333333333))
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    with np.errstate(over="ignore"):
        return (words * np.uint64(0x0101010101010101)) >> np.uint64(56)


@dataclass(frozen=True, slots=True)
class _Pair:
    """Two splits and their names."""

    first: Dataset[Any]
    second: Dataset[Any]
    name: str
    other: str

    def confirmed(self, kind: str, pairs: Iterator[tuple[int, int]]) -> list[Overlap]:
        """Return the overlaps among pairs of samples, after reading both; one for each sample of the second split."""
        made: dict[int, Overlap] = {}
        for one, other in pairs:
            if other in made:
                continue
            ((_, mine),) = _contents(self.first, np.array([one]))
            ((_, theirs),) = _contents(self.second, np.array([other]))
            if mine.exact == theirs.exact if kind == "exact" else alike(mine, theirs):
                made[other] = Overlap(kind, (self.name, one), (self.other, other))
        return list(made.values())


def _shared_groups(splits: Sequence[Dataset[Any]], names: Sequence[str], group: Any) -> list[Overlap]:
    """Return every group that is in two splits, with its first sample in each."""
    listed = not isinstance(group, (str, int))
    if listed and len(group) != len(splits):
        raise ArgumentValueError(
            f"group must be the name of a part, or a list of values for each of {len(splits)} splits, got {len(group)}."
        )
    seen: dict[Any, tuple[str, int]] = {}
    overlaps: dict[tuple[Any, str], Overlap] = {}
    for place, (split, name) in enumerate(zip(splits, names, strict=True)):
        codes, values = codes_of(split.source, "group", group[place] if listed else group)
        firsts = np.unique(codes.numpy(), return_index=True)[1]
        for value, first in zip(values, firsts.tolist(), strict=True):
            if value in seen:
                overlaps[value, name] = Overlap("group", seen[value], (name, first), value)
            else:
                seen[value] = (name, first)
    return list(overlaps.values())
