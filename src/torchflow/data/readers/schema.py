"""Which columns of a table are learnt from, and which are learnt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches

import torch

from torchflow import arguments
from torchflow.data.schema import Schema
from torchflow.errors import ArgumentTypeError, ArgumentValueError, TableError

GAPS = frozenset({"", "na", "n/a", "nan", "null", "none", "-", "?", "<na>", "#n/a"})


def schema_of(
    place: str, header: Sequence[str], target: object, features: object, *, hint: str = "", dtype: torch.dtype = torch.float32
) -> Schema:
    """Return the columns to read out of those that a table has.

    Args:
        place: What the messages call the table.
        header: Its columns.
        target: One name, or several.
        features: Names, or None for all columns but the target.
        hint: What to add where a column is missing.
        dtype: The dtype of the numbers.

    Raises:
        ArgumentTypeError: Names that are no text.
        ArgumentValueError: A column is feature and target at once, or nothing is left for features.
        TableError: The table has no such column, or two of one name.
    """
    refuse_doubles(place, header)
    targets = names_of("target", target)
    chosen = tuple(name for name in header if name not in targets) if features is None else names_of("features", features)
    refuse_missing(place, header, (*targets, *chosen), hint)
    both = set(targets) & set(chosen)
    if both:
        raise ArgumentValueError(f"{sorted(both)[0]!r} is the target and a feature at once. Leave it out of features.")
    if not chosen:
        raise ArgumentValueError(f"no column of {place} is left for features. Name at least one column that is not the target.")
    return Schema.of_columns(chosen, targets, dtype)


def chosen_columns(place: str, header: Sequence[str], features: object) -> tuple[str, ...]:
    """Return the columns of a table whose samples are rows: the named ones, or all.

    Args:
        place: What the messages call the table.
        header: Its columns.
        features: Names, or None for all.

    Raises:
        ArgumentTypeError: Names that are no text.
        TableError: The table has no such column, or two of one name.
    """
    refuse_doubles(place, header)
    chosen = tuple(header) if features is None else names_of("features", features)
    refuse_missing(place, header, chosen)
    return chosen


def refuse_doubles(place: str, header: Sequence[str]) -> None:
    """Refuse two columns of one name.

    Raises:
        TableError: There are two.
    """
    name, count = Counter(header).most_common(1)[0] if header else ("", 0)
    if count > 1:
        raise TableError(f"{place} has the column {name!r} {count} times. Rename all but one.")


def refuse_missing(place: str, header: Sequence[str], names: Sequence[str], hint: str = "") -> None:
    """Refuse names that no column has.

    Raises:
        TableError: There is such a name; the message lists the columns.
    """
    there = set(header)
    for name in names:
        if name not in there:
            near = get_close_matches(name, header, 1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            listed = ", ".join(map(repr, header[:20])) + (", ..." if len(header) > 20 else "")
            raise TableError(f"{place} has no column {name!r}. Its columns are {listed}.{meant}{hint}")


def refuse_others(place: str, header: Sequence[str], first: str, columns: Sequence[str], *, named: bool, hint: str = "") -> None:
    """Refuse a further file of a table whose columns are not those of the first; their order may differ.

    Args:
        place: What the messages call the file.
        header: Its columns.
        first: What they call the first file.
        columns: Those that were named, or all of the first file.
        named: Whether they were named: then others may differ.
        hint: What to add where a column is missing.

    Raises:
        TableError: A column is missing, there is one more, or two of one name; the message names file and column.
    """
    refuse_doubles(place, header)
    if named:
        refuse_missing(place, header, columns, hint)
        return
    remedy = "Name the columns that all files have, features=[...], or make their columns equal."
    refuse_missing(place, header, columns, hint or f" {first} has it. {remedy}")
    more = next((name for name in header if name not in set(columns)), None)
    if more is not None:
        raise TableError(f"{place} has the column {more!r}, which {first} has not. {remedy}")


def checked_dtype(dtype: object) -> torch.dtype:
    """Return a floating dtype."""
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ArgumentTypeError(f"dtype must be a floating torch dtype such as torch.float32, got {arguments.shown(dtype)}.")
    return dtype


def is_gap(text: str) -> bool:
    """Return whether a cell stands for a missing value."""
    return text.strip().lower() in GAPS


def names_of(argument: str, value: object) -> tuple[str, ...]:
    """Return one name or several as a tuple.

    Raises:
        ArgumentTypeError: They are no texts.
        ArgumentValueError: There is none, or one twice.
    """
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ArgumentTypeError(f"{argument} must be a column's name or a list of names, got {arguments.shown(value)}.")
    if not names:
        raise ArgumentValueError(f"{argument} must name at least one column, got {arguments.shown(value)}.")
    if len(set(names)) < len(names):
        raise ArgumentValueError(f"{argument} names a column twice: {arguments.shown(value)}.")
    return tuple(names)
