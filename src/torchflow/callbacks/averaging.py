"""Averages of a model's weights, kept beside the training: what :class:`EMA` and :class:`SWA` have in common."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from torchflow import checkpoint
from torchflow.arguments import flag
from torchflow.callbacks.early_stopping import EarlyStopping
from torchflow.callbacks.recurring import interval
from torchflow.caller import warn_caller
from torchflow.errors import ArgumentValueError, MismatchError
from torchflow.events import EpochEnded, Finished, Started, Stepped
from torchflow.hooks import Callback
from torchflow.intervals import Every, Progress
from torchflow.state import load_model_state, model_state
from torchflow.types import State
from torchflow.updates import Updates

if TYPE_CHECKING:
    from torchflow.run import Run


class Averaging(Callback):
    """Averages the weights after every interval. Abstract: a subclass says how.

    The average is torch's :class:`torch.optim.swa_utils.AveragedModel`, a copy of the model on the model's device; it is part of
    every checkpoint.

    Args:
        every: When the weights of the moment are taken in.
        start_after: Up to here nothing is taken in; None begins at once.
        validate: Whether validation looks at the average.
        apply: Whether the average is copied into the model at the end. ``EarlyStopping(restore_best=True)`` has the last word.
        average_buffers: Whether buffers are averaged too; else they are those of the model when the weights were taken in.
    """

    def __init__(
        self, every: Every, start_after: Every | None, *, validate: bool, apply: bool, average_buffers: bool = False
    ) -> None:
        name = type(self).__name__
        self.every = interval(f"{name}(every=…)", every, every, seconds=False)
        self.start_after = None if start_after is None else interval(f"{name}(start_after=…)", start_after, every, seconds=False)
        self.validates = flag("validate", validate)
        self.applies = flag("apply", apply)
        self.changes_run = self.validates or self.applies
        self._average_buffers = average_buffers
        self._count = 0
        self._model: AveragedModel | None = None
        self._stored: dict[str, Tensor] | None = None

    def rule(self, averages: Sequence[Tensor], weights: Sequence[Tensor], count: int) -> None:
        """Take weights into their averages, in place.

        Args:
            averages: The averages, of one dtype and device.
            weights: The weights of the moment, of the same shapes.
            count: How many were taken in before, at least 1.
        """
        raise NotImplementedError

    @property
    def count(self) -> int:
        """How many times the weights of a moment were taken in."""
        return self._count

    @property
    def averaged(self) -> nn.Module:
        """The model with averaged weights: a copy that keeps up with the run.

        Raises:
            ArgumentValueError: Nothing was averaged yet.
        """
        if self._model is None:
            raise ArgumentValueError(f"{type(self).__name__} has averaged nothing yet: its first average is due {self._begin}.")
        return self._model.module

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse an interval that a compiled run cannot keep: what is between the updates of one group nobody sees.

        An average that the model cannot end with, because best weights are restored that are none of its own, is warned of.
        """
        group, updates = run.choices.group or 1, self.every.updates
        if updates is not None and updates % group:
            shown, instead = f"Updates({group}) shows every {group} updates", f"Every(updates={group})"
            if group == Updates("epoch").size:
                shown, instead = "Updates('epoch') shows the end of every epoch", "Every(epochs=1)"
            raise ArgumentValueError(
                f"{type(self).__name__} averages {self.every}, and compile={shown}. Average every={instead}, with a decay for that "
                "interval, or pass compile=True."
            )
        for stopping in _restoring(run) if self.applies else ():
            metric, name = stopping.rule.metric, type(self).__name__
            if metric.startswith("train/"):
                why, remedy = f"{metric!r} is measured with the weights that are trained", "judge a validation's metric"
            elif not self.validates:
                why, remedy = "validation does not look at the average", f"write {name}(validate=True)"
            else:  # the best weights are averaged ones
                continue
            warn_caller(
                f"{name}(apply=True) and EarlyStopping({metric!r}, restore_best=True) both say what the model ends with. It will be the best "
                f"weights, and these are no averages: {why}. For the best averages {remedy}; to end with the last average, "
                f"restore_best=False; to keep it beside the model, {name}(apply=False), whose .averaged it is."
            )

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Rebuild the average that a checkpoint held.

        Raises:
            MismatchError: It is that of another model.
        """
        stored = self._stored
        if stored is None:
            return
        if differences := checkpoint.differences(stored, model_state(run.model)):
            raise MismatchError("the stored average does not fit the model:\n  " + "\n  ".join(differences), differences)
        self._model = self._copy_of(run.model)
        load_model_state(self._model.module, stored)
        self._model.n_averaged.fill_(self._count)
        self._stored = None

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        """Average where that is due, before the validation that may be due as well."""
        progress, epochs = event.progress, self.every.epochs
        if epochs is None:
            due = self.every.reached(run.previous, progress)
        else:
            due = progress.batch == run.batches.length and (progress.epoch + 1) % epochs == 0
        if due and self._has_begun(progress):
            self._take_in(run.model)

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> None:
        """Average at the end of an epoch of a stream, whose last update nobody knew to be the last."""
        due = run.batches.length is None and self.every.reached(event.progress, run.progress)
        if due and self.every.epochs is not None and self._has_begun(event.progress):
            self._take_in(run.model)

    @contextlib.contextmanager
    def validating(self, run: Run[Any, Any]) -> Iterator[None]:
        """Let the model have the averaged weights, and put its own back to the last bit."""
        if not self.validates or self._model is None:
            yield
            return
        own = [tensor.detach().clone() for tensor in _tensors(run.model)]
        settled = run.settled  # a run that is killed while weights are half copied is not saved
        try:
            run.settled = False
            _copy(self._model.module, run.model)
            run.settled = settled
            yield
        finally:
            settled, run.settled = run.settled, False
            with torch.no_grad():
                for live, kept in zip(_tensors(run.model), own, strict=True):
                    live.copy_(kept)
            run.settled = settled

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Copy the average into the model, where that was asked for, the run ended complete, and no best weights are restored."""
        if not (self.applies and event.complete):
            return
        restored = any(stopping.restores for stopping in _restoring(run))  # whichever of the two is called first
        if self._model is None:
            left = "has its best weights" if restored else "is as the last update left it"
            warnings.warn(
                f"{type(self).__name__} averaged nothing, and the model {left}: the first average was due {self._begin}.",
                stacklevel=2,
            )
            return
        self.finish(run, self._model.module)
        if not restored:
            _copy(self._model.module, run.model)

    def finish(self, run: Run[Any, Any], averaged: nn.Module) -> None:
        """Do what the average needs before it is used in place of the model. Nothing by default."""

    def state(self) -> Mapping[str, State]:
        """Return the average, how many went into it, and whether validation looks at it: :func:`load_model` wants to know."""
        if self._model is not None:
            weights: dict[str, State] | None = model_state(self._model.module)
        else:
            weights = None if self._stored is None else dict(self._stored)
        return {"count": self._count, "weights": weights, "validate": self.validates}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over a state; the average is rebuilt where the run starts."""
        weights = state["weights"]
        self._count, self._model = state["count"], None
        self._stored = None if weights is None else {name: tensor.detach().clone() for name, tensor in weights.items()}

    def _take_in(self, model: nn.Module) -> None:
        if self._model is None:
            self._model = self._copy_of(model)
        self._model.update_parameters(model)
        self._count += 1

    def _copy_of(self, model: nn.Module) -> AveragedModel:
        return AveragedModel(
            model,
            multi_avg_fn=lambda averages, weights, _: self.rule(averages, weights, self._count),
            use_buffers=self._average_buffers,
        )

    def _has_begun(self, progress: Progress) -> bool:
        """Say whether an update lies after the start."""
        start = self.start_after
        if start is None:
            return True
        if start.epochs is not None:
            return (progress.epoch, progress.batch) > (start.epochs, 0)
        return progress.updates > (start.updates or 0) if start.samples is None else progress.samples > start.samples

    @property
    def _begin(self) -> str:
        return str(self.every) + ("" if self.start_after is None else f", after the first {self.start_after}".replace("every ", ""))


def _restoring(run: Run[Any, Any]) -> list[EarlyStopping]:
    """Return the callbacks that may put best weights into the model at the end."""
    return [callback for callback in run.callbacks.values() if isinstance(callback, EarlyStopping) and callback.changes_run]


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]


@torch.no_grad()
def _copy(source: nn.Module, into: nn.Module) -> None:
    """Copy every parameter and buffer; those of the model keep their identity."""
    for live, value in zip(_tensors(into), _tensors(source), strict=True):
        live.copy_(value)
