"""Early stopping: the thin reaction around the rule of ``stopping_rule.py``."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from torchflow.arguments import flag
from torchflow.callbacks.stopping_rule import Judged, Rule, judge, verdict
from torchflow.errors import ArgumentValueError, MismatchError
from torchflow.events import EpochEnded, Finished, Validated
from torchflow.hooks import Callback, Stop
from torchflow.intervals import Every, Progress
from torchflow.keywords import explained
from torchflow.names import plain_name
from torchflow.types import State

if TYPE_CHECKING:
    from torchflow.run import Run


class EarlyStopping(Callback):
    """Stops a run when a metric no longer improves, reached a target, diverged or became NaN.

    A validation's metric is judged at every validation, a ``"train/…"`` metric at every epoch's end.

    Args:
        metric: The full name, such as ``"valid/loss"``.
        patience: How many judged values in a row may bring no improvement (an int), or how far the run may go on after
            the best value (an :class:`~torchflow.Every` of epochs, updates or samples).
        mode: ``"min"`` where smaller is better, ``"max"`` where larger is.
        min_delta: What an improvement must exceed.
        relative: ``min_delta`` is a part of ``|best|`` instead of a difference.
        target: Stop as soon as a value is this good.
        divergence: Stop as soon as a value is worse than this.
        nan: ``"stop"`` at a NaN, or ``"ignore"`` it: it counts as no improvement.
        start_after: Ignore so many values, or all up to the end of an ``Every``: for a warm-up.
        restore_best: Keep a copy of the model's state at every improvement, on the model's device and in every checkpoint,
            and copy the best back into the model when the run ends complete, whatever :class:`EMA` or :class:`SWA` put there.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: An argument has an impossible value.
    """

    @explained("Write the others by name: EarlyStopping('valid/loss', patience=5).")
    def __init__(
        self,
        metric: str,
        *,
        patience: int | Every = 5,
        mode: Literal["min", "max"] = "min",
        min_delta: float = 0.0,
        relative: bool = False,
        target: float | None = None,
        divergence: float | None = None,
        nan: Literal["stop", "ignore"] = "stop",
        start_after: int | Every = 0,
        restore_best: bool = False,
    ) -> None:
        self.rule = Rule(metric, patience, mode, min_delta, relative, target, divergence, nan, start_after)
        self.judged = Judged()
        self.changes_run = flag("restore_best", restore_best)
        self._weights: dict[str, Any] | None = None

    @property
    def reason(self) -> str | None:
        """Why the newest value ended the run; None where it did not."""
        stop = verdict(self.rule, self.judged)
        return stop.reason if stop else None

    @property
    def best_at(self) -> tuple[str, int] | None:
        """The metric, and the updates at its best value; None before there is one."""
        judged = self.judged
        return None if judged.best is None or judged.since is None else (self.rule.metric, judged.since.updates)

    @property
    def restores(self) -> bool:
        """Whether a run that ends complete now ends with the weights that are kept here."""
        return self._weights is not None

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse a metric whose stream this run does not have."""
        stream = self._stream
        if stream not in run.streams:
            raise ArgumentValueError(
                f"EarlyStopping({self.rule.metric!r}) needs a stream named {stream!r}; this run has {_listed(run.streams)}. "
                f"Pass validation=… to fit, or a mapping validation={{{stream!r}: …}}, or name a metric of a stream it has."
            )

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> Stop | None:
        """Judge the metric of a validation."""
        if self._stream == "train" or not any(name.startswith(f"{self._stream}/") for name in event.metrics):
            return None  # another validation
        return self._judge(run, event)

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> Stop | None:
        """Judge a metric of the training data."""
        return self._judge(run, event) if self._stream == "train" else None

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Copy the best weights back into the model, where that was asked for and the run ended complete.

        Raises:
            MismatchError: The model's state no longer has the names or shapes of the weights that were kept.
        """
        if not (self.changes_run and event.complete) or self.judged.best is None:
            return
        if self._weights is None:
            warnings.warn(
                "restore_best=True restores nothing: the best value lies before the resume, when restore_best was False.",
                stacklevel=2,
            )
            return
        names = {name: plain_name(name) for name in run.model.state_dict()}
        kept, live = _shapes(self._weights), _shapes(_weights_of(run.model))
        if kept != live:
            lines = [f"{n}: {kept.get(n, 'absent')} in the best weights, {live.get(n, 'absent')} in the model" for n in kept | live]
            differences = [line for line, n in zip(lines, kept | live, strict=True) if kept.get(n) != live.get(n)]
            raise MismatchError(
                "the best weights do not fit the model, so it was left as it is:\n  " + "\n  ".join(differences), differences
            )
        with torch.no_grad():
            run.model.load_state_dict({name: self._weights[plain] for name, plain in names.items()})

    def confirms(self, stop: Stop) -> bool:
        """Say whether the rule, as it is now, still ends a run whose newest value is the stored one."""
        return verdict(self.rule, self.judged) is not None

    def state(self) -> Mapping[str, State]:
        """Return what is known so far, and under ``"weights"`` the model's state at the best value, or None."""
        judged = self.judged
        return {
            "metric": self.rule.metric,
            "mode": self.rule.mode,
            "seen": judged.seen,
            "value": judged.value,
            "progress": list(judged.progress),
            "best": judged.best,
            "since": None if judged.since is None else list(judged.since),
            "stale": judged.stale,
            "weights": None if self._weights is None else dict(self._weights),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state. One of another metric or mode says nothing about this one's: it begins anew."""
        self.judged, self._weights = Judged(), None
        if (state["metric"], state["mode"]) != (self.rule.metric, self.rule.mode):
            return
        self.judged = Judged(
            seen=state["seen"],
            value=state["value"],
            progress=Progress(*state["progress"]),
            best=state["best"],
            since=None if state["since"] is None else Progress(*state["since"]),
            stale=state["stale"],
        )
        if self.changes_run and state["weights"] is not None:
            self._weights = _copied(state["weights"])

    @property
    def _stream(self) -> str:
        return self.rule.metric.partition("/")[0]

    def _judge(self, run: Run[Any, Any], event: Validated | EpochEnded) -> Stop | None:
        name = self.rule.metric
        if name not in event.metrics:
            raise ArgumentValueError(f"EarlyStopping({name!r}) finds no such metric; there are {_listed(event.metrics)}.")
        self.judged, stop = judge(self.rule, self.judged, float(event.metrics[name]), event.progress)
        if self.changes_run and self.judged.best is not None and self.judged.stale == 0:
            self._weights = _copied(_weights_of(run.model))
        return stop


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in names)


def _weights_of(model: nn.Module) -> dict[str, Any]:
    return {plain_name(name): value for name, value in model.state_dict().items()}


def _copied(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return weights that nobody else writes to; a module's extra state, which is no tensor, is copied as well."""
    return {name: w.detach().clone() if isinstance(w, torch.Tensor) else copy.deepcopy(w) for name, w in weights.items()}


def _shapes(weights: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(tuple(w.shape)) if isinstance(w, torch.Tensor) else "extra state" for name, w in weights.items()}
