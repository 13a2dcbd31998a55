"""What a sample is: its parts, with their names, shapes, dtypes, units and classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from torchflow.tree import leaves_with_paths

_FIELDS_TO_NAME = 6


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
        dims: What the dimensions are, as many as ``shape`` has: ``("channel", "height", "width")`` of an image,
            ``("channel", "time")`` of sound, ``("frequency", "time")`` of a spectrogram, ``("time", "channel", "height", "width")``
            of a clip, ``("time", "feature")`` of a series, ``("position",)`` or ``("base", "position")`` of a sequence; empty where
            nobody said.
        rate: Steps a second along the dimension of time, in Hz; None where it is not known.
        guessed: Whether it is text because one of all its cells is neither a number nor a date, as in a CSV file.
    """

    name: str
    shape: tuple[int | None, ...] = ()
    dtype: torch.dtype | None = None
    unit: str | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] = ()
    target: bool = False
    dims: tuple[str, ...] = ()
    rate: float | None = None
    guessed: bool = False

    def __str__(self) -> str:
        shape = "x".join("?" if size is None else str(size) for size in self.shape)
        kind = "" if self.dtype is None else str(self.dtype).removeprefix("torch.")
        said = [
            kind,
            shape,
            self.unit or "",
            "" if self.rate is None else f"at {self.rate:g} Hz",
            "" if self.classes is None else f"{len(self.classes)} classes",
        ]
        return f"{self.name}: {' '.join(filter(None, said))}" if any(said) else self.name


@dataclass(frozen=True, slots=True)
class Schema:
    """The parts of a sample, in their order.

    Attributes:
        fields: One for each part: the elements of a tuple, or the keys of a dict by their names; of nested samples the
            innermost parts, from left to right.
        nested: Whether a part of a sample has parts itself, so that positions in a sample are not those of the fields.
    """

    fields: tuple[Field, ...]
    nested: bool = False

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

    @classmethod
    # A batch is any tree of tensors.
    def of_batch(cls, batch: Any) -> Schema:
        """Return the schema of the samples in a tree of tensors (batch, ...), named by their keys, ``x`` and ``y``, or positions."""
        pair = type(batch) is tuple and len(batch) == 2 and all(isinstance(part, Tensor) for part in batch)
        fields, nested = [], False
        for place, (path, leaf) in enumerate(leaves_with_paths(batch)):
            nested = nested or len(re.findall(r"\w+", path)) > 1
            name = "xy"[place] if pair else ".".join(re.findall(r"\w+", path)) or "x"
            fields.append(Field(name, tuple(leaf.shape[1:]), leaf.dtype, target=pair and place == 1))
        return cls(tuple(fields), nested)

    @staticmethod
    def side_by_side(schemas: Sequence[Schema | None]) -> Schema | None:
        """Return the schema of tuples of samples; a name that comes again gets a number. None where a side has none."""
        fields: dict[str, Field] = {}
        for schema in schemas:
            if schema is None:
                return None
            for field in schema.fields:
                names = (field.name, *(f"{field.name}_{again}" for again in range(2, len(fields) + 3)))
                name = next(name for name in names if name not in fields)
                fields[name] = replace(field, name=name)
        return Schema(tuple(fields.values()), any(schema is not None and len(schema.fields) > 1 for schema in schemas))

    @staticmethod
    def common(schemas: Sequence[Schema | None]) -> Schema | None:
        """Return the schema of samples of either kind: sizes that differ become None; None where more than sizes differs."""
        first = schemas[0]
        if first is None or any(schema is None or len(schema.fields) != len(first.fields) for schema in schemas):
            return None
        made = []
        for fields in zip(*(schema.fields for schema in schemas if schema is not None), strict=True):
            shapes = [field.shape for field in fields]
            if len({replace(field, shape=()) for field in fields}) > 1 or len({len(shape) for shape in shapes}) > 1:
                return None
            sizes = tuple(each[0] if len(set(each)) == 1 else None for each in zip(*shapes, strict=True))
            made.append(replace(fields[0], shape=sizes))
        return Schema(tuple(made), first.nested)

    def over_time(self, steps: int, suffix: str = "", *, target: bool = False) -> Schema:
        """Return the schema of ``steps`` samples that are stacked along a first dimension of time."""
        return Schema(
            tuple(
                replace(
                    field,
                    name=field.name + suffix,
                    shape=(steps, *field.shape),
                    target=target or field.target,
                    dims=_over_time(field),
                )
                for field in self.fields
            ),
            self.nested,
        )

    def __getitem__(self, name: str) -> Field:
        """Return a field by its name; a KeyError lists the names."""
        for field in self.fields:
            if field.name == name:
                return field
        raise KeyError(f"a sample has no part {name!r}; it has {', '.join(repr(field.name) for field in self.fields)}")

    def __str__(self) -> str:
        more = len(self.fields) - _FIELDS_TO_NAME
        return ", ".join([*map(str, self.fields[:_FIELDS_TO_NAME]), *([f"and {more} more"] if more > 0 else [])])


def _over_time(field: Field) -> tuple[str, ...]:
    """Return the dimensions of a field's values one after the other, where they are known."""
    if field.dims or not field.shape:
        return ("time", *field.dims)
    return ("time", "feature") if len(field.shape) == 1 else ()


@runtime_checkable
class Describing(Protocol):
    """A function of samples or batches that knows what it makes, so that a dataset that it is mapped over has a schema."""

    def schema_after(self, before: Schema | None, /) -> Schema | None:
        """Return the schema of what the function returns, from that of what it takes; None where that is not known."""
        ...


def after(function: object, before: Schema | None) -> Schema | None:
    """Return the schema of what a function makes, where the function says what that is."""
    return function.schema_after(before) if isinstance(function, Describing) else None
