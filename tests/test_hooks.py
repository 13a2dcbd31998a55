from __future__ import annotations

import re
from typing import Any

import pytest

from tests.small import HOOKS, Recorder, columns, line, raising, reacting, trainer
from torchflow import Callback, Failed, Finished, Progress, Stop
from torchflow.errors import ArgumentTypeError, CallbackError
from torchflow.hooks import HOOKS as ALL
from torchflow.hooks import Reactions
from torchflow.saver import NoSaver


class Fake:
    """As much of a run as calling hooks needs."""

    def __init__(self) -> None:
        self.progress = Progress(2, 3, 4)
        self.stop: Any = None


def test_the_hooks_are_these_and_a_callback_that_overrides_none_does_nothing() -> None:
    assert ALL == HOOKS
    callback, run = Callback(), Fake()
    for hook in ALL:
        assert getattr(callback, hook)(run, None) is None
    assert callback.state() == {}
    callback.load_state({})
    callback.check(run)  # type: ignore[arg-type]
    assert callback.confirms(Stop("why"))
    assert not callback.changes_run


def test_only_hooks_that_are_overridden_are_called() -> None:
    calls: list[str] = []
    callback = reacting("on_step_end", lambda run, event: calls.append(event))
    reactions = Reactions({"a": callback, "b": Callback()})
    assert [hook for hook in HOOKS if reactions.has(hook)] == ["on_step_end"]
    for hook in HOOKS:
        reactions(hook, Fake(), hook)  # type: ignore[arg-type]
    assert calls == ["on_step_end"]


def test_a_hook_set_on_the_instance_is_overridden_too() -> None:
    calls: list[object] = []
    callback: Any = Callback()
    callback.on_epoch_end = lambda run, event: calls.append(event)
    reactions = Reactions({"a": callback})
    reactions("on_epoch_end", Fake(), 1)  # type: ignore[arg-type]
    assert calls == [1]


def test_a_hook_inherited_from_a_base_is_overridden_too() -> None:
    class Below(Recorder):
        pass

    assert all(Reactions({"a": Below()}).has(hook) for hook in HOOKS)


def test_callbacks_that_change_the_run_are_called_first_each_kind_in_its_order() -> None:
    calls: list[str] = []

    def named(name: str, *, changes: bool) -> Callback:
        made = reacting("on_fit_start", lambda run, event: calls.append(name))
        made.changes_run = changes
        return made

    callbacks = {"a": named("a", changes=False), "b": named("b", changes=True), "c": named("c", changes=False)}
    trainer(callbacks={**callbacks, "d": named("d", changes=True)}).fit(line(), columns(), epochs=1)
    assert calls == ["b", "d", "a", "c"]


def test_the_first_stop_is_kept_and_the_others_still_see_the_event() -> None:
    recorder, run = Recorder(), Fake()
    reactions = Reactions(
        {
            "a": reacting("on_step_end", lambda run, event: Stop("first")),
            "b": reacting("on_step_end", lambda run, event: Stop("second")),
            "c": recorder,
        }
    )
    reactions("on_step_end", run, None)  # type: ignore[arg-type]
    assert run.stop == ("a", Stop("first"))
    assert recorder.hooks == ["on_step_end"]


def test_the_stops_of_other_callbacks_at_the_same_boundary_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Seen to fail when the second reason is dropped without a word."""

    def stopping(name: str, *hooks: str) -> Callback:
        made = Callback()
        for hook in hooks:
            setattr(made, hook, lambda run, event: Stop(f"{name} has seen enough"))
        return made

    callbacks = {"a": stopping("a", "on_step_end", "on_epoch_end"), "b": stopping("b", "on_epoch_end")}
    result = trainer(callbacks=callbacks).fit(line(), columns(4), batch_size=4, epochs=9)
    assert result.reason == "a has seen enough"
    assert caplog.messages == ["torchflow: 'a' stops the run, and so does 'b': b has seen enough"]


@pytest.mark.parametrize("answer", [True, False, 0, "stop", Stop])
def test_a_hook_returns_a_stop_or_nothing(answer: Any) -> None:
    reactions = Reactions({"mine": reacting("on_epoch_end", lambda run, event: answer)})
    with pytest.raises(
        CallbackError, match=rf"callback 'mine' returned {re.escape(repr(answer))[:5]}.* from on_epoch_end\. Return Stop"
    ):
        reactions("on_epoch_end", Fake(), None)  # type: ignore[arg-type]


def test_the_reason_of_a_stop_is_text() -> None:
    with pytest.raises(ArgumentTypeError, match=r"Stop takes the reason as a str, got 3 \(int\)\. Write Stop\('the loss"):
        Stop(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("error", [ValueError("wrong"), StopIteration("wrong"), MemoryError("wrong"), AssertionError("wrong")])
def test_an_exception_in_a_hook_is_named_and_chained(error: Exception) -> None:
    reactions = Reactions({"mine": raising("on_step_end", error)})
    with pytest.raises(CallbackError) as raised:
        reactions("on_step_end", Fake(), None)  # type: ignore[arg-type]
    assert str(raised.value) == (
        f"callback 'mine' raised {type(error).__name__} in on_step_end at epoch 2, batch 3, update 4: wrong"
    )
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_in_a_hook_goes_its_way_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised:
        Reactions({"mine": raising("on_step_end", error)})("on_step_end", Fake(), None)  # type: ignore[arg-type]
    assert raised.value is error


@pytest.mark.parametrize("hook", ["on_exception", "on_fit_end"])
@pytest.mark.parametrize("error", [ValueError("wrong"), KeyboardInterrupt(), SystemExit(3), StopIteration()])
def test_endings_of_the_others_are_called_once_whatever_one_raises(hook: str, error: BaseException) -> None:
    before, after = Recorder(), Recorder()
    reactions = Reactions({"before": before, "mine": raising(hook, error), "again": raising(hook, OSError()), "after": after})
    failure = reactions.end(hook, Fake(), None)  # type: ignore[arg-type]
    assert before.hooks == after.hooks == [hook]
    if isinstance(error, Exception):
        assert isinstance(failure, CallbackError)
        assert failure.__cause__ is error
        assert "callback 'mine' raised" in str(failure)
    else:
        assert failure is error


def test_an_interrupt_in_an_ending_goes_before_an_error_in_another() -> None:
    interrupt = KeyboardInterrupt()
    reactions = Reactions({"a": raising("on_fit_end", ValueError()), "b": raising("on_fit_end", interrupt)})
    failure: object = reactions.end("on_fit_end", Fake(), None)  # type: ignore[arg-type]
    assert failure is interrupt


def test_a_saver_that_writes_nothing_writes_nothing() -> None:
    saver, run = NoSaver(), Fake()
    saver.start(run)  # type: ignore[arg-type]
    saver.boundary(run)  # type: ignore[arg-type]
    saver.finish(run)  # type: ignore[arg-type]
    saver.rescue(run, ValueError())  # type: ignore[arg-type]
    assert vars(run) == vars(Fake())


# In a whole run


ERRORS = [ValueError("wrong"), KeyboardInterrupt(), SystemExit(3), StopIteration("wrong"), MemoryError("wrong")]
UNDER_WAY = [hook for hook in HOOKS if hook not in ("on_exception", "on_fit_end")]


@pytest.mark.parametrize("hook", UNDER_WAY)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_in_any_hook_is_told_once_to_all_and_goes_on(hook: str, error: BaseException) -> None:
    before, after = Recorder(), Recorder()
    made = trainer(callbacks={"before": before, "mine": raising(hook, error), "after": after})
    expected = CallbackError if isinstance(error, Exception) else type(error)
    with pytest.raises(expected) as raised:
        made.fit(line(), columns(), epochs=2, validation=columns(4))
    assert error in (raised.value, raised.value.__cause__)
    for recorder in (before, after):
        assert recorder.hooks[-2:] == ["on_exception", "on_fit_end"]
        assert recorder.hooks.count("on_exception") == recorder.hooks.count("on_fit_end") == 1
        failed, finished = (event for _, event in recorder.seen[-2:])
        assert isinstance(failed, Failed)
        assert failed.exception is raised.value
        assert finished == Finished(failed.progress, f"{expected.__name__} was raised", complete=False)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_exception_at_the_very_end_goes_on_after_every_other_callback_has_ended(error: BaseException) -> None:
    after = Recorder()
    expected = CallbackError if isinstance(error, Exception) else type(error)
    with pytest.raises(expected):
        trainer(callbacks={"mine": raising("on_fit_end", error), "after": after}).fit(line(), columns(), epochs=1)
    assert after.hooks.count("on_fit_end") == 1
    assert "on_exception" not in after.hooks


@pytest.mark.parametrize("hook", ["on_exception", "on_fit_end"])
def test_an_error_in_an_ending_is_noted_on_the_first_one(hook: str) -> None:
    first = ZeroDivisionError("the first")
    with pytest.raises(CallbackError) as raised:
        trainer(callbacks={"a": raising("on_step_end", first), "b": raising(hook, OSError("the second"))}).fit(
            line(), columns(), epochs=1
        )
    assert raised.value.__cause__ is first
    assert any("callback 'b' raised OSError" in note and "the second" in note for note in raised.value.__notes__)


@pytest.mark.parametrize("hook", ["on_exception", "on_fit_end"])
@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), SystemExit(3)])
def test_an_interrupt_in_an_ending_is_not_lost(hook: str, interrupt: BaseException) -> None:
    after = Recorder()
    made = trainer(callbacks={"a": raising("on_step_end", ValueError()), "b": raising(hook, interrupt), "c": after})
    with pytest.raises(type(interrupt)) as raised:
        made.fit(line(), columns(), epochs=1)
    assert raised.value is interrupt
    assert after.hooks[-2:] == ["on_exception", "on_fit_end"]


@pytest.mark.parametrize("hook", UNDER_WAY)
def test_a_stop_from_any_hook_ends_the_run_at_the_next_safe_point(hook: str) -> None:
    recorder = Recorder()
    made = trainer(callbacks={"mine": reacting(hook, lambda run, event: Stop(f"enough of {hook}")), "recorder": recorder})
    result = made.fit(line(), columns(12), batch_size=4, epochs=3, validation=columns(4))
    assert result.reason == f"enough of {hook}"
    updates = {
        "on_fit_start": 0,
        "on_epoch_start": 0,
        "on_gradients": 1,
        "on_step_end": 1,
        "on_validation_end": 3,
        "on_epoch_end": 3,
    }
    assert result.progress.updates == updates[hook]
    assert recorder.hooks[-1] == "on_fit_end"
    assert recorder.seen[-1][1] == Finished(result.progress, f"enough of {hook}", complete=True)
    assert "on_exception" not in recorder.hooks
    assert recorder.hooks.count("on_epoch_end") == (1 if updates[hook] == 3 else 0)


def test_a_stop_from_an_ending_changes_nothing() -> None:
    made = trainer(callbacks={"mine": reacting("on_fit_end", lambda run, event: Stop("too late"))})
    assert made.fit(line(), columns(), epochs=1).reason == "the epoch is done"
