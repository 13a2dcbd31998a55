"""When a run should end, as a pure rule over the values of a metric; the reaction is in ``early_stopping.py``.

Values are judged one by one. ``judge(rule, judged, value, progress)`` returns what is known afterwards and, where the run is
to end, a :class:`~torchflow.Stop`; it reads no clock and keeps nothing. Texts for people count epochs from 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from torchflow.arguments import flag, one_of, real, shown, whole
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.hooks import Stop
from torchflow.intervals import Every, Progress


@dataclass(frozen=True, slots=True)
class Rule:
    """When a metric says that a run should end. The arguments are those of :class:`EarlyStopping`."""

    metric: str
    patience: int | Every = 5
    mode: Literal["min", "max"] = "min"
    min_delta: float = 0.0
    relative: bool = False
    target: float | None = None
    divergence: float | None = None
    nan: Literal["stop", "ignore"] = "stop"
    start_after: int | Every = 0

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str):
            raise ArgumentTypeError(f"metric must be a str such as 'valid/loss', got {shown(self.metric)}.")
        if not all(self.metric.partition("/")):
            raise ArgumentValueError(
                f"metric must be a stream, a slash and a name, such as 'valid/loss' or 'train/loss', got {shown(self.metric)}."
            )
        _check_span("patience", self.patience, minimum=1, example=5)
        _check_span("start_after", self.start_after, minimum=0, example=3)
        one_of("mode", self.mode, ("min", "max"), hint="'min' is for losses, 'max' for scores.")
        one_of("nan", self.nan, ("stop", "ignore"))
        real("min_delta", self.min_delta, minimum=0.0)
        flag("relative", self.relative)
        for name, value in (("target", self.target), ("divergence", self.divergence)):
            if value is not None:
                real(name, value)
        if None not in (self.target, self.divergence) and not self.better(self.target, self.divergence):  # type: ignore[arg-type]
            raise ArgumentValueError(
                f"divergence must be worse than target in mode {self.mode!r}, got target={self.target} and "
                f"divergence={self.divergence}."
            )

    def better(self, value: float, other: float) -> bool:
        """Say whether a value is strictly better than another; NaN is never better."""
        return value < other if self.mode == "min" else value > other

    def improves(self, value: float, best: float | None) -> bool:
        """Say whether a value is better than the best by more than ``min_delta``; a tie is no improvement.

        A relative ``min_delta`` is a part of ``|best|``, so that it is right for negative scores too.
        """
        worst = math.inf if self.mode == "min" else -math.inf
        old = worst if best is None else best
        if not self.better(value, old):
            return False
        if math.isinf(value) or math.isinf(old):
            return True
        return abs(old - value) > self.min_delta * (abs(old) if self.relative else 1.0)

    def judges(self, seen: int, progress: Progress) -> bool:
        """Say whether the value number ``seen`` (from 1), taken at ``progress``, comes after the warm-up."""
        if not isinstance(self.start_after, Every):
            return seen > self.start_after
        return _position(self.start_after, progress) > _shifted(self.start_after, Progress())


@dataclass(frozen=True, slots=True)
class Judged:
    """What a rule knows after some values.

    Attributes:
        seen: Values so far, those of the warm-up included.
        value: The newest value.
        progress: Where it was taken.
        best: The best value after the warm-up; None before one that is neither NaN nor the worst infinity.
        since: Where the best was taken; where there is none, the first value after the warm-up.
        stale: Values since the best that did not improve on it.
    """

    seen: int = 0
    value: float = math.nan
    progress: Progress = field(default_factory=Progress)
    best: float | None = None
    since: Progress | None = None
    stale: int = 0


def judge(rule: Rule, judged: Judged, value: float, progress: Progress) -> tuple[Judged, Stop | None]:
    """Take in one more value.

    Args:
        rule: When a run should end.
        judged: What is known so far.
        value: The metric's newest value.
        progress: Where it was measured.

    Returns:
        What is known afterwards and, where the run is to end, why.
    """
    seen = judged.seen + 1
    if not rule.judges(seen, progress):
        after = Judged(seen, value, progress)
    elif rule.improves(value, judged.best):
        after = Judged(seen, value, progress, best=value, since=progress)
    else:
        after = Judged(seen, value, progress, judged.best, judged.since or progress, judged.stale + 1)
    return after, verdict(rule, after)


def verdict(rule: Rule, judged: Judged) -> Stop | None:
    """Say why the run is to end after the newest value, or None where it goes on.

    It depends on the rule as it is now: after a change of patience, target, divergence or NaN policy the same values may
    have another verdict.
    """
    value, where = judged.value, f"at epoch {_epoch(judged.progress)}"
    if judged.since is None or not rule.judges(judged.seen, judged.progress):
        return None
    if math.isnan(value) and rule.nan == "stop":
        return Stop(f"{rule.metric} is NaN {where}")
    if rule.target is not None and (value == rule.target or rule.better(value, rule.target)):
        return Stop(f"{rule.metric} reached the target {rule.target:g} ({value:.4g} {where})")
    if rule.divergence is not None and rule.better(rule.divergence, value):
        side = "above" if rule.mode == "min" else "below"
        return Stop(f"{rule.metric} diverged: {value:.4g} is {side} {rule.divergence:g} {where}")
    if isinstance(rule.patience, Every):
        out_of_patience = _position(rule.patience, judged.progress) >= _shifted(rule.patience, judged.since)
    else:
        out_of_patience = judged.stale >= rule.patience
    return Stop(_tired(rule, judged, judged.since)) if out_of_patience else None


def _tired(rule: Rule, judged: Judged, since: Progress) -> str:
    now = judged.progress
    count, unit = judged.stale, "validation"
    if isinstance(rule.patience, Every) and rule.patience.epochs is None:
        unit = "update" if rule.patience.updates is not None else "sample"
        count = getattr(now, f"{unit}s") - getattr(since, f"{unit}s")
    elif rule.metric.startswith("train/") or (now.epoch - since.epoch == judged.stale and now.batch == since.batch):
        unit = "epoch"  # every value judged since the best was taken one whole epoch after the one before
    best = "no value was finite" if judged.best is None else f"best {judged.best:.4g} at epoch {_epoch(since)}"
    return f"{rule.metric} has not improved for {count} {unit}{'s' * (count != 1)} ({best})"


def _epoch(progress: Progress) -> int:
    """Return the number, from 1, of the epoch in which the last finished update lies."""
    return max(1, progress.epoch + (progress.batch > 0))


def _position(span: Every, progress: Progress) -> tuple[int, int]:
    """Return a progress in the unit of a span; epochs are compared down to the batch, so that a part is not a whole one."""
    if span.epochs is not None:
        return progress.epoch, progress.batch
    return (progress.updates if span.updates is not None else progress.samples), 0


def _shifted(span: Every, start: Progress) -> tuple[int, int]:
    """Return the position that lies one span after ``start``."""
    first, second = _position(span, start)
    return first + (span.epochs or span.updates or span.samples or 0), second


def _check_span(name: str, value: object, *, minimum: int, example: int) -> None:
    hint = f"Write {name}={example} for judged values, or {name}=Every(epochs={example})."
    if not isinstance(value, Every):
        whole(name, value, minimum=minimum, hint=hint)
    elif value.seconds is not None:
        raise ArgumentValueError(f"{name} can't be in seconds, which differ from run to run, got {value}. {hint}")
