"""The table of everything that a run measured."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from torchflow import arguments
from torchflow.errors import ArgumentValueError, MissingExtraError
from torchflow.events import EpochEnded, Validated
from torchflow.hooks import Callback
from torchflow.intervals import Progress
from torchflow.types import State

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from torchflow.run import Run


class Best(NamedTuple):
    """The best value of a metric and where it was measured.

    Attributes:
        value: The value.
        epoch: The epoch, from 0.
        updates: The updates that were finished by then.
    """

    value: float
    epoch: int
    updates: int


@dataclass(slots=True)
class _Row:
    epoch: int
    updates: int
    ended: bool  # at an epoch's end, not in the middle of one
    metrics: dict[str, float] = field(default_factory=dict)


class History(Callback):
    """Gathers one row for every epoch and one for every validation in the middle of an epoch.

    A row is ``{"epoch": …, "updates": …, "train/loss": …, "valid/loss": …}``: the epoch that the values belong to, from 0 as
    in :class:`~torchflow.Progress`, the updates that were finished by then, and the values that were measured there. A
    validation at an epoch's end is part of the epoch's row. No clock is read, so equal runs have equal histories. Everything
    that is returned is a copy.
    """

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._noted: set[str] = set()

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> None:
        """Add the values of a validation."""
        self._add(event.progress, event.metrics, ended=False)

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> None:
        """Add the values of an epoch, to the row of the validation at its end where there is one."""
        self._add(event.progress, event.metrics, ended=True)

    def note(self, progress: Progress, values: Mapping[str, float]) -> None:
        """Take in values of another callback by their full names, whichever of the two is called first; never a clock's."""
        self._noted |= set(values)
        self._row(progress).metrics |= {name: float(value) for name, value in values.items()}

    def _row(self, progress: Progress) -> _Row:
        # The number of updates names a row, so that an epoch's end and its validation share one, on both sides of a resume.
        if not self._rows or self._rows[-1].updates != progress.updates:
            self._rows.append(_Row(progress.epoch, progress.updates, ended=False))
        return self._rows[-1]

    def _add(self, progress: Progress, metrics: Mapping[str, float], *, ended: bool) -> None:
        row = self._row(progress)
        if ended:
            row.epoch, row.ended = progress.epoch, True
        row.metrics = {name: float(value) for name, value in {**metrics, **row.metrics, **metrics}.items()}

    @property
    def rows(self) -> list[dict[str, float]]:
        """All rows, oldest first."""
        ordered = [{name: row.metrics[name] for name in self._sorted(row.metrics)} for row in self._rows]
        return [{"epoch": r.epoch, "updates": r.updates, **values} for r, values in zip(self._rows, ordered, strict=True)]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all metrics, in the order in which they first appeared; what was noted comes last."""
        return tuple(self._sorted(dict.fromkeys(name for row in self._rows for name in row.metrics)))

    def _sorted(self, names: Iterable[str]) -> list[str]:
        """Return names with the noted ones last, by the alphabet: the order of callbacks makes no difference."""
        return sorted(names, key=lambda name: (name in self._noted, name if name in self._noted else ""))

    @property
    def last(self) -> Mapping[str, float]:
        """The newest value of every metric, by name; a KeyError lists the names."""
        return _Last({name: value for row in self._rows for name, value in row.metrics.items()})

    def best(self, name: str, mode: Literal["min", "max"] = "min") -> Best:
        """Return the best finite value of a metric, the first one among equals.

        Args:
            name: The metric's full name, such as ``"valid/loss"``.
            mode: ``"min"`` where smaller is better, ``"max"`` where larger is.

        Raises:
            KeyError: There is no metric of this name.
            ArgumentValueError: It never had a finite value.
        """
        arguments.one_of("mode", mode, ("min", "max"))
        if not any(math.isfinite(value) for value in self[name]):
            raise ArgumentValueError(f"{name!r} never had a finite value in {len(self)} rows, so none is the best.")
        found = [Best(row.metrics[name], row.epoch, row.updates) for row in self._rows if name in row.metrics]
        sign = 1 if mode == "min" else -1
        return min((best for best in found if math.isfinite(best.value)), key=lambda best: sign * best.value)

    def epochs(self, name: str) -> list[float]:
        """Return where each value of ``history[name]`` was measured, in finished epochs.

        The end of the first epoch is 1.0; a validation in the middle of an epoch lies in between by its number of updates.
        NaN where no epoch has ended yet, so that nobody knows how many updates make one.

        Raises:
            KeyError: There is no metric of this name.
        """
        self[name]
        return [place for place, row in zip(self._places(), self._rows, strict=True) if name in row.metrics]

    def _places(self) -> list[float]:
        ends = [(0, 0), *((row.updates, row.epoch + 1) for row in self._rows if row.ended)]
        places, passed = [], 0
        for row in self._rows:
            while passed + 1 < len(ends) and ends[passed + 1][0] <= row.updates:
                passed += 1
            # The epoch around the row says how many updates make one; after the last end, the epoch before it.
            first = max(0, min(passed, len(ends) - 2))
            (u0, e0), (u1, e1) = ends[first], ends[min(first + 1, len(ends) - 1)]
            places.append(e0 + (row.updates - u0) * (e1 - e0) / (u1 - u0) if u1 > u0 else math.nan)
        return places

    def to_pandas(self) -> pd.DataFrame:
        """Return a table with the columns epoch, updates and one for each metric; NaN where a row has no value.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415, an extra
        except ImportError as error:
            raise MissingExtraError(
                "History.to_pandas needs pandas, which is not installed: pip install 'torchflow-train[frame]'. "
                "history.rows and to_csv do without."
            ) from error
        return pd.DataFrame(self.rows, columns=self._columns)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table as CSV (UTF-8), numbers in full precision, an empty field where a row has no value."""
        with arguments.path("path", path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Return the rows as a JSON list of objects, and write it to ``path`` where one is given.

        JSON has no NaN and no infinity: both become null.
        """
        rows = [{name: value if math.isfinite(value) else None for name, value in row.items()} for row in self.rows]
        text = json.dumps(rows, allow_nan=False, ensure_ascii=False, indent=1) + "\n"
        if path is not None:
            arguments.path("path", path).write_text(text, encoding="utf-8")
        return text

    def plot(self, path: str | os.PathLike[str] | None = None, names: list[str] | None = None) -> Figure:
        """Draw the curves; see :func:`torchflow.plots.history`."""
        from torchflow import plots  # noqa: PLC0415, a run does without plots

        return plots.history(self, path, names)

    def state(self) -> Mapping[str, State]:
        """Return the table as columns: exact, and a handful of tensors however long the run."""
        names, cpu = self.names, torch.device("cpu")
        table = [[row.metrics.get(name, math.nan) for name in names] for row in self._rows]
        given = [[name in row.metrics for name in names] for row in self._rows]
        shape = (len(self._rows), len(names))
        return {
            **({"noted": sorted(self._noted)} if self._noted else {}),
            "names": list(names),
            "epoch": torch.tensor([row.epoch for row in self._rows], dtype=torch.int64, device=cpu),
            "updates": torch.tensor([row.updates for row in self._rows], dtype=torch.int64, device=cpu),
            "ended": torch.tensor([row.ended for row in self._rows], dtype=torch.bool, device=cpu),
            "values": torch.tensor(table, dtype=torch.float64, device=cpu).reshape(shape),
            "given": torch.tensor(given, dtype=torch.bool, device=cpu).reshape(shape),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over a table."""
        self._noted = set(state.get("noted", ()))
        columns = [state[name].tolist() for name in ("epoch", "updates", "ended", "values", "given")]
        self._rows = [
            _Row(epoch, updates, ended, {name: v for name, v, there in zip(state["names"], values, given, strict=True) if there})
            for epoch, updates, ended, values, given in zip(*columns, strict=True)
        ]

    def __getitem__(self, name: str) -> list[float]:
        """Return all values of a metric, oldest first; a KeyError lists the names."""
        values = [row.metrics[name] for row in self._rows if name in row.metrics]
        return values or [_Last(self.last)[name]]  # without a value this raises the KeyError that lists the names

    def __iter__(self) -> Iterator[dict[str, float]]:
        """Iterate over the rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __repr__(self) -> str:
        return f"History({len(self)} rows of {', '.join(self.names) or 'nothing'})"

    @property
    def _columns(self) -> list[str]:
        return ["epoch", "updates", *self.names]


class _Last(dict[str, float]):
    def __missing__(self, name: str) -> float:
        there = ", ".join(repr(known) for known in self) or "none yet"
        raise KeyError(f"no metric {name!r} was measured; there are: {there}")


def history_of(run: Run[Any, Any]) -> History:
    """Return the history that every run has."""
    history = run.callbacks["history"]
    assert isinstance(history, History)
    return history
