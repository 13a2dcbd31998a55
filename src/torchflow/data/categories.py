"""Categories as whole numbers, learnt from the training split."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.fields import checked_field, part_of, training_parts, with_field, with_part
from torchflow.data.schema import Schema
from torchflow.errors import ArgumentValueError, DataError
from torchflow.types import State


class Categories:
    """Replace the values of one part, whole numbers or texts, by codes 0, 1, 2, ... in sorted order.

    Args:
        field: The part: a tuple position, a dict key, an attribute, or None for the sample itself.
        unknown: What a value that the training split did not have becomes: an "error", or the "code" after the last.
    """

    def __init__(self, field: int | str | None = 0, *, unknown: str = "error") -> None:
        self._field = checked_field(field)
        self._unknown = arguments.one_of("unknown", unknown, ("error", "code"))

    def fit(self, train: Dataset[Any]) -> Categorized:
        """Return the fitted transform, after one pass over the samples.

        Raises:
            ArgumentTypeError: ``train`` is no Dataset.
            DataError: The values are neither whole numbers nor texts, or both.
        """
        found: set[Any] = set()
        for _, part in training_parts(train, self._field, "Categories"):
            found.update(_values(part, self._field))
        if len({type(value) for value in found}) > 1:
            raise DataError(f"field {self._field!r} holds texts and numbers at once. Turn all into texts in a map.")
        return Categorized(self._field, tuple(sorted(found)), self._unknown)


@dataclass(frozen=True)
class Categorized:
    """A fitted :class:`Categories`.

    Args:
        field: The part that is encoded.
        vocabulary: The known values, sorted: all int or all str.
        unknown: "error" or "code".
    """

    field: int | str | None
    vocabulary: tuple[int, ...] | tuple[str, ...]
    unknown: str

    @property
    def size(self) -> int:
        """How many codes there are, the one for unknown values included, as in ``nn.Embedding(size, ...)``."""
        return len(self.vocabulary) + (self.unknown == "code")

    # A sample or batch of any structure, in which one part becomes something else.
    def __call__(self, tree: Any) -> Any:
        """Return the sample or batch with int64 codes in place of its part, of the same shape."""
        part = part_of(tree, self.field)
        codes = torch.tensor([self._code(value) for value in _values(part, self.field)], dtype=torch.int64)
        single = isinstance(part, (str, int, np.generic))
        return with_part(tree, self.field, codes.reshape(()) if single else codes.reshape(np.shape(part)))

    def schema_after(self, before: Schema | None) -> Schema | None:
        """Return the schema with the part as int64 codes of classes."""
        classes = (*map(str, self.vocabulary), *(["unknown"] if self.unknown == "code" else []))
        return with_field(before, self.field, lambda field: replace(field, dtype=torch.int64, unit=None, classes=classes))

    def inverse(self, codes: Tensor) -> list[Any]:
        """Return the value of every code, shape (batch,); None for the code of unknown values.

        Raises:
            ArgumentValueError: A code that no value has.
        """
        known: list[Any] = [*self.vocabulary, *([None] if self.unknown == "code" else [])]
        wrong = next((code for code in codes.reshape(-1).tolist() if code not in range(len(known))), None)
        if wrong is not None:
            raise ArgumentValueError(f"codes must be from 0 to {len(known) - 1}, got {wrong}.")
        return [known[code] for code in codes.reshape(-1).tolist()]

    def state(self) -> dict[str, State]:
        """Return the name, field, vocabulary and rule."""
        return {"encoder": "categories", "field": self.field, "vocabulary": list(self.vocabulary), "unknown": self.unknown}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Categorized:
        """Return the transform of a state."""
        return cls(checked_field(state["field"]), tuple(state["vocabulary"]), state["unknown"])

    def _code(self, value: Any) -> int:
        known: Sequence[Any] = self.vocabulary
        if type(value) is type(known[0]):
            place = bisect_left(known, value)
            if place < len(known) and known[place] == value:
                return place
        if self.unknown == "code":
            return len(known)
        some = ", ".join(map(repr, known[:8])) + (", ..." if len(known) > 8 else "")
        raise DataError(
            f"{value!r} at field {self.field!r} was not in the training split, which had {some}. "
            'Use Categories(unknown="code") to give such values a code of their own.'
        )


def _values(part: Any, field: int | str | None) -> list[Any]:
    """Return the values of a part, flat: all int or str."""
    if isinstance(part, (Tensor, np.ndarray, np.generic)):
        values = part.reshape(-1).tolist()
    else:
        values = list(part) if isinstance(part, (list, tuple)) else [part]
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            remedy = "Turn it into text or whole numbers in a map."
            raise DataError(f"Categories needs whole numbers or texts at field {field!r}, got {arguments.shown(value)}. {remedy}")
    return values
