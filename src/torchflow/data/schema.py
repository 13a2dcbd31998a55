"""What a sample is: its parts, with their names, shapes, dtypes, units and classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Field:
    """One part of a sample.

    Attributes:
        name: What it is, such as ``"image"`` or ``"label"``.
        shape: The shape of one sample's part; None stands for a dimension that differs from sample to sample.
        dtype: The dtype of the tensor; None where the part is no tensor, such as text.
        unit: What its numbers count, such as ``"Hz"``, ``"seconds"`` or ``"Hounsfield units"``; None where they have no unit.
        classes: The names of the classes that its numbers stand for, in their order; None where it holds no classes.
        columns: The names of the elements along its last dimension, such as a table's columns; empty where they have none.
        target: Whether it is learnt, rather than learnt from.
    """

    name: str
    shape: tuple[int | None, ...] = ()
    dtype: torch.dtype | None = None
    unit: str | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    target: bool = False

    def __str__(self) -> str:
        shape = "x".join("?" if size is None else str(size) for size in self.shape)
        kind = "" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        said = [kind, shape, self.unit or "", "" if self.classes is None else f"{len(self.classes)} classes"]
        return " ".join([f"{self.name}:", *filter(None, said)])


@dataclass(frozen=True, slots=True)
class Schema:
    """The parts of a sample, in their order.

    Attributes:
        fields: One for each part: the elements of a tuple, or the keys of a dict by their names.
    """

    fields: tuple[Field, ...]

    @classmethod
    def of_columns(cls, features: tuple[str, ...], target: tuple[str, ...], dtype: torch.dtype = torch.float32) -> Schema:
        """Return the schema of samples ``(x, y)`` of a table of numbers, shapes (features,) and (targets,)."""
        x = Field("x", (len(features),), dtype, columns=features)
        return cls((x, Field("y", (len(target),), dtype, columns=target, target=True)))

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the columns that are learnt from, in the order of x."""
        return tuple(column for field in self.fields if not field.target for column in field.columns)

    @property
    def target(self) -> tuple[str, ...]:
        """The names of the columns that are learnt, in the order of y."""
        return tuple(column for field in self.fields if field.target for column in field.columns)

    def __getitem__(self, name: str) -> Field:
        """Return a field by its name; a KeyError lists the names."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"a sample has no part {name!r}; it has {', '.join(repr(field.name) for field in self.fields)}")

    def __str__(self) -> str:
        return ", ".join(map(str, self.fields))
