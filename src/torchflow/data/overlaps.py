"""What splits share, and how that is said."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

_TO_NAME = 3


@dataclass(frozen=True, slots=True)
class Overlap:
    """Something that two splits share.

    Attributes:
        kind: "exact", "near" or "group".
        first: The earlier split, and the index of the sample in it.
        second: The later split, and the index of the sample in it.
        value: The group that both belong to; None for duplicates.
    """

    kind: str
    first: tuple[str, int]
    second: tuple[str, int]
    value: Any = None  # what a group is known by: whatever the user has


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What :func:`check_splits` found.

    Attributes:
        sizes: How many samples each split has, by its name.
        overlaps: For every sample of a later split its first twin in each earlier one, and every group that two splits share.
    """

    sizes: dict[str, int]
    overlaps: tuple[Overlap, ...]

    @property
    def clean(self) -> bool:
        """Whether the splits share nothing."""
        return not self.overlaps

    def of_kind(self, kind: str) -> tuple[Overlap, ...]:
        """Return the overlaps of a kind: "exact", "near" or "group"."""
        return tuple(overlap for overlap in self.overlaps if overlap.kind == kind)

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        if self.clean:
            return f"nothing is shared between the splits ({sizes})."
        counts: Counter[tuple[str, str, str]] = Counter()
        some: dict[tuple[str, str, str], list[str]] = {}
        for overlap in self.overlaps:
            place = (overlap.kind, overlap.first[0], overlap.second[0])
            counts[place] += 1
            if counts[place] <= _TO_NAME:
                value = "" if overlap.kind != "group" else f" (group {overlap.value!r})"
                some.setdefault(place, []).append(f"{overlap.first[1]} and {overlap.second[1]}{value}")
        nouns = {"exact": "exact duplicates", "near": "near duplicates", "group": "shared groups"}
        lines = [
            f"{count} {nouns[kind]} in {first} and {second}: samples {', '.join(some[kind, first, second])}"
            + (", ..." if count > _TO_NAME else "")
            for (kind, first, second), count in counts.items()
        ]
        return f"the splits ({sizes}) share samples:\n  " + "\n  ".join(lines)
