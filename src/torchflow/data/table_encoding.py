"""A fitted TableEncoder: a frozen function from rows of cells to tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.order import pieces
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Columns
from torchflow.data.table_parts import Levels, Part
from torchflow.data.table_states import part_from_state, target_from_state
from torchflow.data.table_targets import Amounts, Classes
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError
from torchflow.tree import map_leaves
from torchflow.types import State

_AT_ONCE = 4096
_DTYPES = {"float32": torch.float32, "float64": torch.float64, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, repr=False)
class TableEncoding:
    """A fitted :class:`TableEncoder`, with everything that was learnt from the training split.

    It is a function from a row, or a batch of rows, to ``(x, y)``; where the target is not among the columns, to ``x`` alone.
    Map it over every split: ``train.map_batch(encoding)``, or ``encoding.encode(train)`` to do all of it now.

    Args:
        parts: The columns that are learnt from.
        target: What is learnt, or None.
        embed: Whether categories are codes for embeddings: x is then ``{"numbers": (batch, columns), "codes": (batch, codes)}``.
        dtype: The dtype of x, and of y where it is numbers.
    """

    parts: tuple[Part, ...]
    target: Amounts | Classes | None
    embed: bool
    dtype: torch.dtype

    def __repr__(self) -> str:
        learnt = ", ".join(f"{part.column} ({type(part).__name__.lower()})" for part in self.parts)
        target = "" if self.target is None else f"; target {', '.join(self.target.columns)}"
        return f"TableEncoding({learnt or 'no columns'}; {self.schema}{target})"

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the numbers in x, in their order."""
        return tuple(name for part in self.parts if not self._is_code(part) for name in part.names)

    @property
    def sizes(self) -> dict[str, int]:
        """How many codes each column of codes has, by name, in the order of ``x["codes"]``; empty without embeddings."""
        return {part.column: part.size for part in self.parts if isinstance(part, Levels) and self.embed}

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the target's classes, in the order of their indices; empty where the target is numbers."""
        return self.target.classes if isinstance(self.target, Classes) else ()

    @property
    def schema(self) -> Schema:
        """What an encoded sample is."""
        numbers = Field("numbers" if self.embed else "x", (len(self.columns),), self.dtype, columns=self.columns)
        codes = [Field("codes", (len(self.sizes),), torch.int64, columns=tuple(self.sizes))] if self.embed else []
        target = [] if self.target is None else [self.target.field(self.dtype)]
        return Schema((numbers, *codes, *target), nested=self.embed and bool(target))

    def schema_after(self, before: Schema | None) -> Schema:
        """Return what an encoded sample is, without a target where the table has none."""
        columns = None if before is None else {field.name for field in before.fields}
        if columns is None or self.target is None or columns.issuperset(self.target.columns):
            return self.schema
        return Schema(tuple(field for field in self.schema.fields if not field.target))

    # A sample or batch of any structure, in which one part becomes something else.
    def __call__(self, tree: Any) -> Any:
        """Return ``(x, y)`` of a row or a batch of rows: x of shape (columns,) or (batch, columns).

        Raises:
            DataError: It is no such row, or a cell that the training split gives no number for.
        """
        if not isinstance(tree, Mapping):
            raise DataError(f"TableEncoder needs rows, dicts of cells by column, got {arguments.shown(type(tree))}. {ROWS}")
        missing = [part.column for part in self.parts if part.column not in tree]
        if missing:
            raise DataError(
                f"a row has no column {missing[0]!r}, which the encoder was fitted with. It has {', '.join(map(repr, tree))}."
            )
        single = not any(isinstance(cell, list) or (isinstance(cell, Tensor) and cell.ndim) for cell in tree.values())
        batch = {name: _as_batch(cell) for name, cell in tree.items()} if single else tree
        x = self._inputs(batch)
        known = self.target is not None and all(column in batch for column in self.target.columns)
        made = (x, self.target.encode(batch, self.dtype)) if self.target is not None and known else x
        return map_leaves(lambda leaf: leaf[0], made) if single else made

    def encode(self, dataset: Dataset[Any]) -> Dataset[Any]:
        """Return the encoded samples of a dataset, made now and kept in memory as tensors: batches then cost next to nothing.

        Raises:
            ArgumentTypeError: It is no Dataset.
            ArgumentValueError: It has a random map: its samples differ from epoch to epoch.
            DataError: As when it is called.
        """
        if not isinstance(dataset, Dataset):
            raise ArgumentTypeError(f"encode takes a Dataset of rows, got {arguments.shown(dataset)}.")
        if dataset.source.random:
            raise ArgumentValueError("encode makes every sample once, and this dataset has a random map. Use map_batch(encoding).")
        if not len(dataset):
            raise DataError("encode got an empty dataset. It needs at least one row.")
        made = [self(dataset.take_batch(indices)) for indices in pieces(len(dataset), _AT_ONCE)]
        source = Columns(_below(made), f"{dataset.source.lineage}.encode", self.schema_after(dataset.schema))
        source.parents = (dataset.source,)  # so that it stays known which part of a split this is
        return Dataset(source)

    def inverse(self, predictions: Tensor) -> Tensor | list[str]:
        """Return predictions in the table's own terms: numbers in their units, or the names of classes.

        Args:
            predictions: Numbers (batch, targets); for classes scores (batch, classes) or indices (batch,).

        Raises:
            ArgumentTypeError: They are no such tensor.
            ArgumentValueError: They have another width, or there is no target.
        """
        if self.target is None:
            raise ArgumentValueError("the encoder was fitted without a target, so there is nothing to predict. Fit with target=.")
        return self.target.inverse(predictions)

    def state(self) -> dict[str, State]:
        """Return everything that was learnt."""
        return {
            "encoder": "table",
            "parts": [part.state() for part in self.parts],
            "target": None if self.target is None else self.target.state(),
            "embed": self.embed,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TableEncoding:
        """Return the transform of a state."""
        listed, aim = state["parts"], state["target"]
        if not isinstance(listed, Sequence) or not all(isinstance(part, Mapping) for part in listed):
            raise ArgumentValueError(f"the state of encoder 'table' has parts={arguments.shown(listed)}, which are no columns.")
        parts = tuple(part_from_state(part) for part in listed)
        if not isinstance(aim, (Mapping, NoneType)):
            raise ArgumentValueError(f"the state of encoder 'table' has target={arguments.shown(aim)}, which is none.")
        target = None if aim is None else target_from_state(aim)
        if not isinstance(state["dtype"], str) or state["dtype"] not in _DTYPES or not isinstance(state["embed"], bool):
            raise ArgumentValueError(
                f"the state of encoder 'table' has dtype={arguments.shown(state['dtype'])}, which x cannot have."
            )
        return cls(parts, target, state["embed"], _DTYPES[state["dtype"]])

    def _is_code(self, part: Part) -> bool:
        return self.embed and isinstance(part, Levels)

    def _inputs(self, batch: Mapping[str, Any]) -> Any:
        """Return x of a batch."""
        made = [part.encode(batch[part.column]) for part in self.parts if not self._is_code(part)]
        rows = len(next(iter(batch.values())))
        numbers = (torch.cat(made, dim=1) if made else torch.zeros(rows, 0)).type(self.dtype)
        if not self.embed:
            return numbers
        codes = [part.codes(batch[part.column]) for part in self.parts if isinstance(part, Levels)]
        return {"numbers": numbers, "codes": torch.stack(codes, dim=1) if codes else torch.zeros(rows, 0, dtype=torch.int64)}


ROWS = "Read the table without target=, as in data.from_csv(path): its samples are rows."


def _as_batch(cell: Any) -> Any:
    """Return one cell as a batch of one."""
    if isinstance(cell, Tensor):
        return cell[None]
    return [cell] if isinstance(cell, str) else torch.tensor([cell])


def _below(made: list[Any]) -> Any:
    """Return batches of one structure one below the other."""
    first = made[0]
    if isinstance(first, Tensor):
        return torch.cat(made)
    if isinstance(first, Mapping):
        return {name: _below([part[name] for part in made]) for name in first}
    return tuple(_below([part[place] for part in made]) for place in range(len(first)))
