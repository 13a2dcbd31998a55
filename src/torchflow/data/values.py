"""One value of every sample, such as its label or its group, read without the rest where that is possible."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.draw import first_draw
from torchflow.data.order import pieces
from torchflow.data.schema import Schema
from torchflow.data.sources import Source
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError
from torchflow.tree import leaves_with_paths


def codes_of(source: Source, argument: str, by: Any) -> tuple[Tensor, list[Any]]:
    """Return a code for every sample, and the values that the codes stand for, sorted.

    Args:
        source: The samples.
        argument: What the messages call ``by``.
        by: The name of a field or of a column of the schema, a key, a position in a tuple, or a list as long as the dataset.

    Returns:
        int64 codes of shape (samples,), and the values: numbers, texts or dates in their order.

    Raises:
        ArgumentTypeError: ``by`` is nothing of that kind.
        ArgumentValueError: There is no such part, or the list has another length.
        DataError: The values are no numbers, texts or dates, or are not comparable with each other.
    """
    values = _values(source, argument, by)
    if isinstance(values, Tensor):
        unique, codes = torch.unique(values, return_inverse=True)
        return codes, unique.tolist()
    for place, value in enumerate(values):
        if not isinstance(value, (bool, int, float, str, datetime.date)) or (isinstance(value, float) and math.isnan(value)):
            found = arguments.shown(value)
            raise DataError(f"{argument} needs a number, a text or a date of every sample; sample {place} has {found}.")
    try:
        known = sorted(set(values))
    except TypeError as error:
        raise DataError(f"{argument} has values that have no order: {error}. Make them all numbers, or all texts.") from None
    index = {value: code for code, value in enumerate(known)}
    return torch.tensor([index[value] for value in values], dtype=torch.int64), known


def _values(source: Source, argument: str, by: Any) -> list[Any] | Tensor:
    """Return one value of every sample: a tensor (samples,) of numbers without NaN, or a list of what Python has."""
    if isinstance(by, (str, int)) and not isinstance(by, bool):
        column = known_column(source, by)
        if column is None:
            return _read(source, argument, by)
        if column.ndim != 1:
            raise ArgumentValueError(
                f"{argument}={by!r} names a part of shape {tuple(column.shape[1:])}, and one number a sample is needed."
            )
        return _plain(column) if column.is_floating_point() else column
    if isinstance(by, (Tensor, np.ndarray)) or (isinstance(by, Sequence) and not isinstance(by, bytes)) or hasattr(by, "tolist"):
        values = _plain(by)
        if len(values) != source.length:
            raise ArgumentValueError(f"{argument} must have a value for each of {source.length} samples, got {len(values)}.")
        return values
    raise ArgumentTypeError(
        f"{argument} must be the name of a part of a sample, its position, or a list of values, got {arguments.shown(by)}."
    )


def known_column(source: Source, by: str | int) -> Tensor | None:
    """Return a part of all samples, shape (samples, ...), where the source has it without reading samples."""
    tree = source.column(by)
    if tree is None and isinstance(by, str) and source.schema is not None:
        names = [field.name for field in source.schema.fields]
        if not source.schema.nested and by in names:
            tree = source.column(names.index(by))
        for place, field in enumerate(source.schema.fields):
            if by in field.columns and not source.schema.nested:
                whole = source.column(place)
                tree = whole[:, field.columns.index(by)] if whole is not None and whole.ndim == 2 else None
    if tree is not None and tree.ndim == 2 and tree.shape[1] == 1:
        tree = tree[:, 0]
    return tree


def _read(source: Source, argument: str, by: str | int) -> list[Any]:
    """Return a part of every sample, by reading them all."""
    made: list[Any] = []
    for indices in pieces(source.length, 1024 if source.columnar else 1):
        made += [_part(sample, source.schema, argument, by) for sample in source.samples(indices, first_draw())]
    return made


def _part(sample: Any, schema: Schema | None, argument: str, by: str | int) -> Any:
    """Return one number or text of a sample: under a key, at a position, by the schema's name of a field or column."""
    paths = [(re.findall(r"\w+", path), leaf) for path, leaf in leaves_with_paths(sample)]
    fields = schema.fields if schema is not None and len(schema.fields) == len(paths) else ()
    for place, (path, leaf) in enumerate(paths):
        by_position = isinstance(by, int) and -len(paths) <= by < len(paths) and path == [str(by % len(paths))]
        if by_position or path == [by] or (fields and fields[place].name == by):
            return _single(leaf, argument, by)
        if fields and by in fields[place].columns:
            return _single(leaf[..., fields[place].columns.index(str(by))], argument, by)
    names = [field.name for field in fields] or [".".join(path) for path, _ in paths]
    raise ArgumentValueError(f"{argument}={by!r} names no part of a sample, which has {', '.join(map(repr, names)) or 'none'}.")


def _single(leaf: Any, argument: str, by: object) -> Any:
    if isinstance(leaf, (Tensor, np.ndarray, np.generic)):
        if _count(leaf) != 1:
            raise ArgumentValueError(f"{argument}={by!r} names a part of shape {tuple(leaf.shape)}, and one number is needed.")
        return leaf.item()
    return leaf


def _plain(column: Any) -> list[Any]:
    """Return a list, tensor, array or series as Python's values; NumPy's and pandas' dates become datetimes."""
    if isinstance(column, (Tensor, np.ndarray)) and column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]
    if not isinstance(column, Tensor) and hasattr(column, "to_numpy"):
        column = column.to_numpy()
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        column = column.astype("datetime64[us]")
    values = column.tolist() if hasattr(column, "tolist") else list(column)
    return [value.item() if isinstance(value, (np.generic, Tensor)) and _count(value) == 1 else value for value in values]


def _count(leaf: Any) -> int:
    return leaf.numel() if isinstance(leaf, Tensor) else int(leaf.size)
