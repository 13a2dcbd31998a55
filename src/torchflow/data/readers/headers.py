"""What is learnt of a sequence, read from its header or looked up by its name."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.readers.listing import checked_classes
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, FileError

if TYPE_CHECKING:
    from torchflow.data.readers.listing import Files
    from torchflow.data.readers.packs import Pack

Label: TypeAlias = str | int | float
Labelling: TypeAlias = "str | re.Pattern[str] | Mapping[str, Label] | Callable[[str], Label]"


@dataclass(frozen=True, eq=False)
class Labels:
    """The target of every record.

    Attributes:
        targets: Class indices, or numbers as they were, shape (records, ...).
        classes: The names of the classes, sorted; None where the targets are values.
    """

    targets: Tensor
    classes: tuple[str, ...] | None


def read_labels(path: str | os.PathLike[str], *, key: str, label: str, delimiter: str = ",") -> dict[str, str]:
    """Return the labels in a table, by the name of what they belong to: for ``from_fasta(..., label_from=...)``.

    Args:
        path: A text file in UTF-8 with a header line.
        key: The column of the names.
        label: The column of the labels.
        delimiter: What stands between cells, one character.

    Raises:
        ArgumentValueError: An impossible delimiter.
        FileError: The file cannot be read, lacks a column, or names something twice.
    """
    file = arguments.path("path", path)
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise ArgumentValueError(f"delimiter must be one character, for example ',' or '\\t', got {arguments.shown(delimiter)}.")
    found: dict[str, str] = {}
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, delimiter=delimiter, strict=True)
            for column in (key, label):
                if column not in (reader.fieldnames or ()):
                    said = ", ".join(map(repr, reader.fieldnames or ()))
                    raise FileError(f"{file} has no column {column!r}. Its columns are {said or 'none'}.", file)
            for row in reader:
                name, value = row[key], row[label]
                if name is None or value is None:
                    raise FileError(f"{file}, line {reader.line_num} is shorter than the header. Complete it.", file)
                if found.setdefault(name, value) != value:
                    remedy = "Leave one line for each name."
                    raise FileError(f"{file}, line {reader.line_num} names {name!r} again, with another label. {remedy}", file)
    except UnicodeDecodeError as error:
        raise FileError(f"{file} is not text in UTF-8: {error.reason} at byte {error.start}. Save it as UTF-8.", file) from error
    except (csv.Error, OSError) as error:
        raise FileError(f"{file} cannot be read as a table: {error}. Check the path, and export it anew.", file) from error
    return found


def labels_of(pack: Pack, files: Files, label_from: object, classes: Sequence[str] | None) -> Labels | None:
    """Return the labels of a pack's records, from their headers or their files; None where nobody asked for any.

    Args:
        pack: The records.
        files: Where they come from, with labels where files have any.
        label_from: What the user passed.
        classes: The names of the classes in their order, or None.

    Raises:
        ArgumentTypeError: ``label_from`` is nothing that gives labels.
        ArgumentValueError: It is no regular expression with a group.
        DataError: A record has none, or they mix kinds.
    """
    if label_from is not None:
        find = _finder(label_from)
        found = [_found(find, pack, files, number) for number in range(len(pack))]
        return as_targets(found, lambda number: place_of(pack, files, number), classes)
    if files.labels is None:
        return None
    return Labels(files.labels.repeat_interleave(torch.tensor(pack.counts), dim=0), files.classes)


def as_targets(found: Sequence[Any], place: Callable[[int], str], classes: Sequence[str] | None = None) -> Labels:
    """Return labels as targets: texts as indices of sorted classes, whole and broken numbers as they are.

    Args:
        found: The labels.
        place: From a label's number to where it comes from, for the messages.
        classes: The names of the classes in their order; None is those that are found, sorted.

    Raises:
        DataError: They mix kinds, a float is not finite, or a text is no class; the message names the place.
    """
    kinds = (str,) if isinstance(found[0], str) else (int, float)
    for number, value in enumerate(found):
        if isinstance(value, bool) or not isinstance(value, kinds) or (isinstance(value, float) and not math.isfinite(value)):
            remedy = "Labels are all texts (classes), or all numbers."
            raise DataError(f"{place(number)} has the label {arguments.shown(value)}. {remedy}")
    if kinds == (int, float):
        if classes is not None:
            raise ArgumentValueError("classes= names what labels of text are, and these are numbers. Leave it out.")
        return Labels(torch.tensor(list(found)), None)
    known = tuple(sorted(set(found))) if classes is None else checked_classes(classes)
    codes = {value: code for code, value in enumerate(known)}
    for number, value in enumerate(found):
        if value not in codes:
            raise DataError(f"{place(number)} is labelled {value!r}, which is none of classes: {', '.join(known)}.")
    return Labels(torch.tensor([codes[value] for value in found]), known)


def place_of(pack: Pack, files: Files, number: int) -> str:
    """Return where a record of a pack comes from, for a message."""
    before = number
    for path, count in zip(files.paths, pack.counts, strict=True):
        if before < count:
            return f"{path}, record {before + 1} ({pack.header(number)[:40]!r})"
        before -= count
    return f"record {number}"


def _finder(label: Any) -> Callable[[str], Any]:
    """Return the function from a header to a label, or to None."""
    if isinstance(label, Mapping):
        return lambda header: label.get(header.split(None, 1)[0] if header.strip() else header, label.get(header))
    if isinstance(label, (str, re.Pattern)):
        try:
            pattern = re.compile(label)
        except re.error as error:
            raise ArgumentValueError(f"label_from is no regular expression: {error}. Got {arguments.shown(label)}.") from None
        if pattern.groups < 1:
            raise ArgumentValueError(f"label_from must have a group to take, such as 'class=(\\w+)', got {arguments.shown(label)}.")

        def searched(header: str) -> str | None:
            match = pattern.search(header)
            return None if match is None else match.group(1)

        return searched
    if not callable(label):
        raise ArgumentTypeError(
            f"label_from must be a function, a regular expression or a dict from names to labels, got {arguments.shown(label)}."
        )
    return label  # type: ignore[no-any-return]  # whatever the user's function takes


def _found(find: Callable[[str], Any], pack: Pack, files: Files, number: int) -> Any:
    """Return the label of one record."""
    try:
        value = find(pack.header(number))
    except Exception as error:
        raise DataError(
            f"label_from failed at {place_of(pack, files, number)}: it raised {type(error).__name__}: {error}."
        ) from error
    if value is None:
        remedy = "Correct label_from=, or leave such records out of the file."
        raise DataError(f"{place_of(pack, files, number)} has no label. {remedy}")
    return value
