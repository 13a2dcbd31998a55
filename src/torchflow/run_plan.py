"""What a run will do and what it will take, as frozen facts that read well."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torchflow.intervals import Every
from torchflow.moments import Moment, Timetable
from torchflow.text_table import counted, in_bytes, in_seconds

COUNTED = 1_000_000
"""Up to how many updates a plan counts what will happen; beyond, it would take seconds."""

_ENDS = "the first before the first update, the last at the end"


@dataclass(frozen=True, slots=True, repr=False)
class RunPlan:
    """What :meth:`torchflow.Trainer.plan` returns; its ``repr`` says it in words.

    Attributes:
        timetable: The numbers behind it; None where the data does not say how long an epoch is.
        updates: All updates of the run; None where no limit and no length says.
        max_seconds: The limit of seconds, or None.
        validations: How many batches each validation has, by its name; None without a length.
        validate: When validation is due; None without any.
        save: When a checkpoint is due; None without any.
        hooks: The names of the callbacks behind every hook that anybody overrides.
        seed: The seed of the run.
        order: How an epoch's samples are ordered.
        draws: What the step drew random numbers from: ``"torch"``, ``"random or numpy.random"``.
        microbatch: The most samples that go through the step at once, as was chosen, or as ``"auto"`` found in the timed updates;
            None where batches stay whole.
        memory: Bytes by what they hold.
        seconds_per_update: The median of three timed updates on copies.
        seconds_per_validation: What one pass over every validation will take, from one timed batch of each.
    """

    timetable: Timetable | None
    updates: int | None
    max_seconds: float | None
    validations: Mapping[str, int | None]
    validate: Every | None
    save: Every | None
    hooks: Mapping[str, tuple[str, ...]]
    seed: int
    order: str
    draws: tuple[str, ...]
    microbatch: int | None
    memory: Mapping[str, int]
    seconds_per_update: float
    seconds_per_validation: float

    def moments(self) -> Iterator[Moment]:
        """Yield all that will happen, in order, if nothing stops the run sooner; intervals in seconds are left out.

        Empty where the data does not say how long an epoch is.
        """
        return iter(()) if self.timetable is None else self.timetable.moments()

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each kind of moment comes; empty where nobody knows, or where there are more than a million updates."""
        if self.timetable is None or self.updates is None or self.updates > COUNTED:
            return {}
        return Counter(moment.what for moment in self.moments())

    @property
    def seconds(self) -> float | None:
        """What updates and validations will take together; None where nobody knows how many there are."""
        if self.updates is None:
            return self.max_seconds
        passes = self.counts.get("Validated", 0) * self.seconds_per_validation
        expected = self.updates * self.seconds_per_update + passes
        return expected if self.max_seconds is None else min(expected, self.max_seconds)

    def __repr__(self) -> str:
        counts = self.counts
        lines = [
            ("updates", self._updates()),
            ("validation", self._interval(self.validate, counts.get("Validated"), "none", ", ".join(self.validations))),
            ("checkpoints", self._interval(self.save, counts.get("Saved"), "none: nothing is written", _ENDS)),
            ("callbacks", "; ".join(f"{hook}: {', '.join(names)}" for hook, names in self.hooks.items()) or "none"),
            ("random", f"seed {self.seed}; {self.order}; the step draws from {' and '.join(self.draws) or 'nothing'}"),
            ("memory", ", ".join(f"{name} {in_bytes(size)}" for name, size in self.memory.items() if size)),
            ("time", self._time()),
        ]
        if self.microbatch is not None:
            lines.insert(1, ("microbatch", f"at most {counted(self.microbatch, 'sample')} at once"))
        return "\n".join(line for title, text in lines for line in _wrapped(title, text))

    def _updates(self) -> str:
        table, limit = self.timetable, f", at most {in_seconds(self.max_seconds)}" if self.max_seconds is not None else ""
        if table is None:
            total = "nobody knows how many" if self.updates is None else f"{self.updates:,} in all"
            return f"{total}{limit}; the data does not say how many samples an epoch has"
        per_epoch = -(-table.batches // table.accumulate)
        of = f" of {counted(table.samples, 'sample')}" if table.samples else ""
        epoch = f"{per_epoch:,} an epoch{of} in {table.batches:,} batch{'es' if table.batches > 1 else ''}"
        return (f"{self.updates:,} in all, " if self.updates is not None else "") + epoch + limit

    def _interval(self, every: Every | None, number: int | None, none: str, what: str) -> str:
        if every is None:
            return none
        times = "" if number is None or every.seconds is not None else f", {number:,} in all"
        return f"{every}{times}: {what}"

    def _time(self) -> str:
        validating = f", {in_seconds(self.seconds_per_validation)} a validation" if self.validations else ""
        total = "" if self.seconds is None else f", about {in_seconds(self.seconds)} in all"
        return f"{in_seconds(self.seconds_per_update)} an update{validating}{total}"


def _wrapped(title: str, text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=f"{title:<13}", subsequent_indent=" " * 13, break_long_words=False)
