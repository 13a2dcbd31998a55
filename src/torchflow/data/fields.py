"""One part of a sample or batch: reading it, and putting another in its place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.order import pieces
from torchflow.data.provenance import check_training
from torchflow.data.schema import Field, Schema
from torchflow.errors import ArgumentTypeError, DataError

_AT_ONCE = 4096  # samples read at once while fitting


def checked_field(field: object) -> int | str | None:
    """Return a field: a position, a key or attribute, or None for the whole."""
    if field is None or isinstance(field, str) or (isinstance(field, int) and not isinstance(field, bool)):
        return field
    raise ArgumentTypeError(
        f"field must be a position in a tuple, a key of a dict, an attribute or None for the sample itself, got {arguments.shown(field)}."
    )


def part_of(tree: Any, field: int | str | None) -> Any:
    """Return the part of a tree that a field names.

    Raises:
        DataError: The tree has no such part; the message says what it has.
    """
    if field is None:
        return tree
    if isinstance(tree, Mapping) and field in tree:
        return tree[field]
    if isinstance(field, int) and isinstance(tree, (tuple, list)) and -len(tree) <= field < len(tree):
        return tree[field]
    if isinstance(field, str) and field in _attributes(tree):
        return getattr(tree, field)
    raise DataError(f"a sample has no field {field!r}: it is {_described(tree)}. Name one of those, or None for the sample itself.")


def with_part(tree: Any, field: int | str | None, value: Any) -> Any:
    """Return the tree with another value in place of the part that :func:`part_of` returns."""
    if field is None:
        return value
    if isinstance(tree, Mapping):
        return {**tree, field: value}
    if isinstance(field, str):
        replace: Callable[..., Any] = tree._replace if hasattr(tree, "_replace") else partial(dataclasses.replace, tree)
        return replace(**{field: value})
    values = list(tree)
    values[field] = value
    return type(tree)(*values) if hasattr(tree, "_fields") else type(tree)(values)


def with_field(schema: Schema | None, field: int | str | None, change: Callable[[Field], Field]) -> Schema | None:
    """Return a schema with one field changed: at a position, of a name, or the only one; None where it has no such field."""
    if schema is None:
        return None
    fields = list(schema.fields)
    if field is None:
        places = [0] if len(fields) == 1 else []
    elif isinstance(field, int):
        places = [field] if not schema.nested and -len(fields) <= field < len(fields) else []
    else:
        places = [place for place, one in enumerate(fields) if one.name == field]
    if not places:
        return None
    fields[places[0]] = change(fields[places[0]])
    return Schema(tuple(fields))


def training_parts(train: object, field: int | str | None, encoder: str) -> Iterator[tuple[int, Any]]:
    """Yield ``(index of the first sample, part)`` of every batch of the training split.

    Raises:
        ArgumentTypeError: ``train`` is no Dataset.
        DataError: It has no samples, or the part is not there.
        LeakError: It is a part that is held out, or the whole of what was split.
    """
    if not isinstance(train, Dataset):
        remedy = "Wrap it with torchflow.data.as_dataset."
        raise ArgumentTypeError(f"{encoder}.fit takes the training Dataset, got {arguments.shown(train)}. {remedy}")
    if not len(train):
        raise DataError(f"{encoder}.fit needs at least one sample, got an empty dataset.")
    check_training(train.source, encoder)
    for indices in pieces(len(train), _AT_ONCE):
        yield int(indices[0]), part_of(train.take_batch(indices), field)


def _attributes(tree: Any) -> tuple[str, ...]:
    if isinstance(tree, tuple):
        return tuple(getattr(tree, "_fields", ()))
    is_record = dataclasses.is_dataclass(tree) and not isinstance(tree, type)
    return tuple(f.name for f in dataclasses.fields(tree)) if is_record else ()


def _described(tree: Any) -> str:
    kind = type(tree).__name__
    if isinstance(tree, Mapping):
        return f"a {kind} with the keys {', '.join(map(repr, tree))}"
    if _attributes(tree):
        return f"a {kind} with the attributes {', '.join(_attributes(tree))}"
    return f"a {kind} of {len(tree)}" if isinstance(tree, (tuple, list)) else f"a {kind}"
