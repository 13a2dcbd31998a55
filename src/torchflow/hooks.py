"""What a callback is, a table of hooks that do nothing until overridden, and how the loop calls them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError, CallbackError
from torchflow.events import EpochEnded, EpochStarted, Failed, Finished, Gradients, Started, Stepped, Validated
from torchflow.types import State

if TYPE_CHECKING:
    from torchflow.run import Run

_LOG = logging.getLogger("torchflow")


@dataclass(frozen=True, slots=True)
class Stop:
    """What a hook returns to end the run at this safe point.

    Args:
        reason: Why, in one sentence; it becomes ``result.reason``.
    """

    reason: str

    def __post_init__(self) -> None:
        if not isinstance(self.reason, str):
            raise ArgumentTypeError(
                f"Stop takes the reason as a str, got {shown(self.reason)}. Write Stop('the loss is low enough')."
            )


class Callback:
    """Reacts to a run. Override any hook; each may return ``Stop("reason")``. There is no other control flow.

    Callbacks are observers: they may be called in any order without a difference, and they do not change the run. A class
    that does (swapping weights, freezing, gradient noise) says ``changes_run = True``; those are called first, in the order
    of the list. A hook that nobody overrides costs nothing.

    A class that writes says so: ``writes = "path"`` where the attribute of this name holds its file, ``writes = "folder"`` where it
    is a folder. Rehearsals and the folds of a cross-validation then give it a place of their own.
    """

    changes_run: bool = False
    writes: Literal["path", "folder"] | None = None

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse what cannot work, such as a metric of a name that will never come, before anything is written."""

    # The run is Run[Any, Any]: a callback works for every model and batch.
    def on_fit_start(self, run: Run[Any, Any], event: Started) -> Stop | None:
        """React before the first update, after a resume too."""

    def on_epoch_start(self, run: Run[Any, Any], event: EpochStarted) -> Stop | None:
        """React before the first batch of an epoch."""

    def on_gradients(self, run: Run[Any, Any], event: Gradients) -> Stop | None:
        """React to complete gradients before the optimizer steps. A Stop takes effect after the update."""

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> Stop | None:
        """React to a finished update."""

    def on_validation_end(self, run: Run[Any, Any], event: Validated) -> Stop | None:
        """React to a finished validation pass."""

    def on_epoch_end(self, run: Run[Any, Any], event: EpochEnded) -> Stop | None:
        """React to a finished epoch, its validation included."""

    def on_exception(self, run: Run[Any, Any], event: Failed) -> Stop | None:
        """React to whatever was raised; it goes on its way afterwards."""

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> Stop | None:
        """Clean up. Always called last, and once for every callback, even after an exception."""

    def validating(self, run: Run[Any, Any]) -> AbstractContextManager[object]:
        """Hold the model, while the context is open, as it is to be validated; put it back to the last bit at its end.

        Nothing by default, and asked only of a callback that says ``changes_run``. The context is open for the passes over the
        validation data and for every ``on_validation_end``.
        """
        return nullcontext()

    def state(self) -> Mapping[str, State]:
        """Return everything that changes while training; it goes into every checkpoint. Nothing by default."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned, tensors included."""

    @property
    def best_at(self) -> tuple[str, int] | None:
        """The full name of the metric that this callback judges by, and the updates at its best value; plots mark it. None by default."""
        return None

    def confirms(self, stop: Stop) -> bool:
        """Say, when a run is resumed that this callback had stopped, whether the stop still holds. It does by default."""
        return True


HOOKS = (
    "on_fit_start",
    "on_epoch_start",
    "on_gradients",
    "on_step_end",
    "on_validation_end",
    "on_epoch_end",
    "on_exception",
    "on_fit_end",
)

# One list of hooks serves every kind of event, so the event's type is left open here.
Hook: TypeAlias = Callable[["Run[Any, Any]", Any], Stop | None]


class Reactions:
    """The hooks that the callbacks of a run override, listed once: what nobody overrides is never called.

    Args:
        callbacks: The callbacks by name, in the order of calling.
    """

    def __init__(self, callbacks: Mapping[str, Callback]) -> None:
        self._lists: dict[str, list[tuple[str, Hook]]] = {
            hook: [(name, getattr(callback, hook)) for name, callback in callbacks.items() if _overrides(callback, hook)]
            for hook in HOOKS
        }

    def has(self, hook: str) -> bool:
        """Say whether any callback overrides a hook."""
        return bool(self._lists[hook])

    def __call__(self, hook: str, run: Run[Any, Any], event: object) -> None:
        """Call one hook of every callback; the first Stop is kept in ``run.stop``, and those of other callbacks are logged.

        Raises:
            CallbackError: A callback raised, or returned something that is neither None nor a Stop.
        """
        for name, react in self._lists[hook]:
            try:
                answer = react(run, event)
            except Exception as error:
                raise _failed(run, name, hook, error) from error
            if answer is not None:
                if not isinstance(answer, Stop):
                    raise CallbackError(
                        f"callback {name!r} returned {shown(answer)} from {hook}. Return Stop('reason') or nothing."
                    )
                if run.stop is None:
                    run.stop = (name, answer)
                elif run.stop[0] != name:
                    _LOG.warning("torchflow: %r stops the run, and so does %r: %s", run.stop[0], name, answer.reason)

    def end(self, hook: str, run: Run[Any, Any], event: object) -> BaseException | None:
        """Call an ending hook of every callback, each once whatever the others raise; return what is to be raised.

        That is the first interrupt (``KeyboardInterrupt``, ``SystemExit``), or else the first error.
        """
        failure: BaseException | None = None
        for name, react in self._lists[hook]:
            try:
                react(run, event)
            except Exception as error:
                caught = _failed(run, name, hook, error)
                caught.__cause__ = error
                failure = failure or caught
            except BaseException as interrupt:
                failure = interrupt if failure is None or isinstance(failure, Exception) else failure
        return failure


def callback_state(name: str, callback: Callback) -> Mapping[str, State]:
    """Return a callback's state.

    Raises:
        CallbackError: It raised, or returned no mapping.
    """
    try:
        state: object = callback.state()
    except Exception as error:
        raise CallbackError(f"callback {name!r} raised {type(error).__name__} in state(): {error}") from error
    if not isinstance(state, Mapping):
        raise CallbackError(
            f"callback {name!r} returned {shown(state)} from state(). Return a dict, {{}} where there is nothing to keep."
        )
    return state


def load_callback_state(name: str, callback: Callback, state: Mapping[str, Any]) -> None:
    """Let a callback take over its state.

    Raises:
        CallbackError: It raised.
    """
    try:
        callback.load_state(state)
    except Exception as error:
        raise CallbackError(f"callback {name!r} raised {type(error).__name__} in load_state(): {error}") from error


def _overrides(callback: Callback, hook: str) -> bool:
    return getattr(type(callback), hook) is not getattr(Callback, hook) or hook in vars(callback)


def _failed(run: Run[Any, Any], name: str, hook: str, error: Exception) -> CallbackError:
    epoch, batch, updates = run.progress[:3]
    return CallbackError(
        f"callback {name!r} raised {type(error).__name__} in {hook} at epoch {epoch}, batch {batch}, update {updates}: {error}"
    )


def tell_failure(run: Run[Any, Any], error: BaseException) -> None:
    """Tell the callbacks and the saver that the run was left; what goes wrong in there is noted on the exception.

    Raises:
        BaseException: A callback was interrupted, or failed where only a ``break`` had left the loop.
    """
    left = isinstance(error, GeneratorExit)
    reason = "the loop was left" if left else f"{type(error).__name__} was raised"
    failures: list[BaseException | None] = []
    try:
        if not left:
            failures.append(run.reactions.end("on_exception", run, Failed(run.progress, error)))
            run.saver.rescue(run, error)
    finally:
        failures.append(run.reactions.end("on_fit_end", run, Finished(run.progress, reason, complete=False)))
    for failure in failures:
        if isinstance(failure, Exception) and not left:
            error.add_note(f"torchflow: {failure}")
        elif failure is not None:
            raise failure
