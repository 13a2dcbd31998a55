"""Rows of a table become tensors: what is learnt for that is learnt from the training split alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.fields import training_parts
from torchflow.data.readers.cells import Growing
from torchflow.data.readers.columns import MOMENT
from torchflow.data.readers.schema import checked_dtype, names_of
from torchflow.data.table_cells import CYCLES
from torchflow.data.table_encoding import ROWS, TableEncoding
from torchflow.data.table_learning import Choices, Learner, LevelCounts, Moments, WordCounts
from torchflow.data.table_targets import Amounts, Classes
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError

_MISSING = ("error", "fill", "indicator")
_ROLES = ("numeric", "categorical", "datetime", "text")


class TableEncoder:
    """Turn the rows of a table into tensors ``(x, y)``: numbers scaled, categories one-hot or codes, dates and texts as numbers.

    Fit it on the training split alone, then map it over every split: ``encoding = TableEncoder(target="price").fit(train)``,
    ``train.map_batch(encoding)``. Which columns are what follows from the table where it is not said: texts are categories,
    dates are dates, all others numbers. A role that is given, be it an empty list, holds just what it names, and a column that
    a role names is in no other.

    Numbers are shifted and scaled to mean 0 and standard deviation 1. A date becomes its days since the training mean, in
    units of their standard deviation, and with ``cycles`` its place in the year, month, week or day as sine and cosine (UTC).
    A category becomes a 0 or 1 for each level, or with ``categories="codes"`` an index for ``nn.Embedding``, with x then
    ``{"numbers": ..., "codes": ...}``. A text becomes log(1 + count) of each of the most frequent words.

    Args:
        target: The column to learn, or several of numbers; None for x alone.
        numeric: The columns that are numbers, true and false being 1 and 0.
        categorical: The columns that are categories; numbers are levels by their value.
        datetime: The columns that are dates, or texts such as ``2024-05-31``.
        text: The columns that are texts.
        missing: What becomes of gaps: "error" refuses them; "fill" puts the training mean, or the most frequent level, in their
            place; "indicator" does that and adds a number that is 1 for a gap, or a level of its own, where the training split
            has gaps. A dict gives a rule for each column that it names, and "error" to the others.
        categories: "one-hot" or "codes".
        unknown: What becomes of a level that the training split did not have: an "error", or "other", a level for all of them.
        min_count: A level that stands fewer times in the training split belongs to the level for others.
        max_levels: The most levels that a column may have.
        words: The most words of a text column.
        cycles: For dates, some of "year", "month", "week" and "day".
        classes: Whether the target is classes; None is yes for texts and truth values, and no for numbers.
        standardize: Whether numbers and a target of numbers are scaled. Without, numbers of x and y stay as they are.
        dtype: The dtype of x, and of y where it is numbers.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible value, or a column in two roles.
    """

    def __init__(
        self,
        *,
        target: str | Sequence[str] | None = None,
        numeric: Sequence[str] | None = None,
        categorical: Sequence[str] | None = None,
        datetime: Sequence[str] | None = None,
        text: Sequence[str] | None = None,
        missing: str | Mapping[str, str] = "error",
        categories: str = "one-hot",
        unknown: str = "error",
        min_count: int = 1,
        max_levels: int = 1000,
        words: int = 256,
        cycles: Sequence[str] = (),
        classes: bool | None = None,
        standardize: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._target = () if target is None else names_of("target", target)
        given = {"numeric": numeric, "categorical": categorical, "datetime": datetime, "text": text}
        self._roles = {role: _role(role, names) for role, names in given.items() if names is not None}
        self._missing = _rules(missing)
        self._embed = arguments.one_of("categories", categories, ("one-hot", "codes")) == "codes"
        self._choices = Choices(
            arguments.one_of("unknown", unknown, ("error", "other")),
            arguments.whole("min_count", min_count),
            arguments.whole("max_levels", max_levels),
            arguments.whole("words", words),
            _cycles(cycles),
            arguments.flag("standardize", standardize),
        )
        self._classes = None if classes is None else arguments.flag("classes", classes)
        self._dtype = checked_dtype(dtype)
        if self._classes and len(self._target) != 1:
            raise ArgumentValueError(f"a target of classes is one column, got {len(self._target)}. Train a model for each.")
        _refuse_two_roles(self._target, self._roles)

    def fit(self, train: Dataset[Any]) -> TableEncoding:
        """Return the fitted transform, after one pass over the rows of the training split.

        Raises:
            ArgumentTypeError: ``train`` is no Dataset.
            DataError: Its samples are no rows, a column is missing or of another kind, or there is a gap that is refused.
        """
        learners: dict[str, Learner] = {}
        targets: dict[str, Learner] = {}
        kinds = _kinds_in(train)
        for first, batch in training_parts(train, None, "TableEncoder"):
            if not learners and not targets:
                learners, targets = self._learners(batch, train, kinds)
            for name, learner in (*learners.items(), *targets.items()):
                truths = kinds.get(name) == "truth" and name in targets
                learner.learn([cell.capitalize() for cell in batch[name]] if truths else batch[name], first)
        parts = tuple(learner.fitted(self._choices) for learner in learners.values())
        return TableEncoding(parts, self._fitted_target(targets), self._embed, self._dtype)

    def _learners(
        self, batch: object, train: Dataset[Any], kinds: Mapping[str, str | None]
    ) -> tuple[dict[str, Learner], dict[str, Learner]]:
        """Return what learns from each column, in the table's order, and what learns from the targets."""
        if not isinstance(batch, Mapping):
            raise DataError(f"TableEncoder needs rows, dicts of cells by column, got {arguments.shown(type(batch))}. {ROWS}")
        fields = {} if train.schema is None else {field.name: field for field in train.schema.fields}
        dates = {name for name, field in fields.items() if field.unit == MOMENT or kinds.get(name) == "date"}
        named = [name for names in (self._target, *self._roles.values(), self._missing) for name in names]
        for name in filter(None, named):
            _refuse_missing(name, batch)
        roles = {name: role for role, names in self._roles.items() for name in names}
        for name, cells in batch.items():
            kind = "datetime" if name in dates else "numeric" if isinstance(cells, Tensor) or name in kinds else "categorical"
            if name not in roles and name not in self._target and kind not in self._roles:
                roles[name] = kind
        chosen = {name: roles[name] for name in batch if name in roles}
        if not chosen:
            raise DataError("no column is left to learn from. Name at least one in numeric=, categorical=, datetime= or text=.")
        return {name: self._learner(name, role) for name, role in chosen.items()}, self._targets(batch, kinds)

    def _learner(self, name: str, role: str) -> Learner:
        rule = self._missing.get(name, self._missing[""])
        if role == "categorical":
            return LevelCounts(name, rule)
        return WordCounts(name, rule) if role == "text" else Moments(name, rule, dates=role == "datetime")

    def _targets(self, batch: Mapping[str, Any], kinds: Mapping[str, str | None]) -> dict[str, Learner]:
        """Return what learns from the targets: classes, or numbers."""
        numbers = [name for name in self._target if kinds.get(name) in ("whole", "number")]
        cells = [batch[name] for name in self._target if name not in numbers]
        named = any(not isinstance(values, Tensor) or values.dtype == torch.bool for values in cells)
        if (named if self._classes is None else self._classes) and self._target:
            if len(self._target) > 1:
                raise DataError(
                    f"a target of classes is one column, got {', '.join(map(repr, self._target))}. Train a model for each."
                )
            return {name: LevelCounts(name, None) for name in self._target}
        return {name: Moments(name, None) for name in self._target}

    def _fitted_target(self, targets: Mapping[str, Learner]) -> Amounts | Classes | None:
        if not targets:
            return None
        first = next(iter(targets.values()))
        if isinstance(first, LevelCounts):
            return Classes(first.column, tuple(first.levels()))
        scales = [
            learner.scale() if self._choices.standardize else (0.0, 1.0)
            for learner in targets.values()
            if isinstance(learner, Moments)
        ]
        return Amounts(tuple(targets), tuple(mean for mean, _ in scales), tuple(std for _, std in scales))


def _kinds_in(train: Dataset[Any]) -> dict[str, str | None]:
    """Return the columns of texts whose cells in the training split are all numbers or dates, with their kind.

    A cell of another split may have made them texts; what is learnt must not depend on it.
    """
    schema = train.schema if isinstance(train, Dataset) else None  # what is none is refused where it is read
    fields = () if schema is None else schema.fields
    columns = {field.name: Growing(frozenset({""})) for field in fields if field.guessed}
    for _, batch in training_parts(train, None, "TableEncoder") if columns else ():
        columns = {name: column for name, column in columns.items() if isinstance(batch, Mapping) and name in batch}
        for name, column in columns.items():
            column.extend(batch[name])
        columns = {name: column for name, column in columns.items() if column.kind != "text"}
        if not columns:
            break
    return {name: column.kind for name, column in columns.items()}


def _role(role: str, names: object) -> tuple[str, ...]:
    """Return the columns of a role, of which there may be none."""
    if isinstance(names, Sequence) and not isinstance(names, str) and not names:
        return ()
    return names_of(role, names)


def _rules(missing: object) -> dict[str, str]:
    """Return the rule for gaps by column; under the empty name, the rule of all others."""
    if not isinstance(missing, Mapping):
        return {"": arguments.one_of("missing", missing, _MISSING)}
    for name, rule in missing.items():
        if not isinstance(name, str):
            raise ArgumentTypeError(f"missing must be a rule or a dict from columns to rules, got the key {arguments.shown(name)}.")
        arguments.one_of(f"missing[{name!r}]", rule, _MISSING)
    return {"": "error", **missing}


def _cycles(cycles: object) -> tuple[str, ...]:
    if isinstance(cycles, str) or not isinstance(cycles, Sequence):
        raise ArgumentTypeError(f"cycles must be a list such as ['year', 'day'], got {arguments.shown(cycles)}.")
    return tuple(dict.fromkeys(arguments.one_of("cycles", cycle, CYCLES) for cycle in cycles))


def _refuse_two_roles(target: Sequence[str], roles: Mapping[str, Sequence[str]]) -> None:
    seen = dict.fromkeys(target, "target")
    for role, names in roles.items():
        for name in names:
            if name in seen:
                raise ArgumentValueError(f"{name!r} is in {seen[name]} and in {role} at once. Leave it in one of them.")
            seen[name] = role


def _refuse_missing(name: str, batch: Mapping[str, Any]) -> None:
    if name not in batch:
        near = get_close_matches(name, [str(column) for column in batch], 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(map(repr, list(batch)[:20])) + (", ..." if len(batch) > 20 else "")
        raise DataError(f"a row has no column {name!r}. Its columns are {listed}.{meant}")
