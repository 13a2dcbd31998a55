from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchflow
from tests.small import HOOKS, Noisy, Recorder, columns, line, raising, reacting, state_of, trainer, weights
from torchflow import EpochEnded, EpochStarted, Every, Finished, Progress, Started, Stepped, Stop, Validated
from torchflow.errors import CallbackError, DataError
from torchflow.limits import Limits
from torchflow.loop import _events


class Stream:
    """Batches without a length."""

    def __init__(self, batches: int, samples: int = 4) -> None:
        self.batches, self.samples = batches, samples

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (columns(self.samples, seed=number) for number in range(self.batches))


def kinds(found: list[Any]) -> str:
    """One letter for each event."""
    return "".join(
        type(event).__name__[0] if not isinstance(event, (EpochEnded, Started, EpochStarted)) else LETTER[type(event)]
        for event in found
    )


LETTER: dict[type, str] = {Started: "<", EpochStarted: "(", EpochEnded: ")"}


def test_events_come_in_their_order() -> None:
    run = trainer().start(line(), columns(12), batch_size=4, validation=columns(4))
    found = list(torchflow.events(run, epochs=2))
    assert kinds(found) == "<(SSSV)(SSSV)F"
    assert found[0] == Started(Progress(), torchflow.Plan(3, None, None))
    assert found[-1] == Finished(Progress(2, 0, 6, 24, 6), "all 2 epochs are done", complete=True)
    first = found[6]
    assert isinstance(first, EpochEnded)
    assert first.progress == (0, 3, 3, 12, 3)
    assert list(first.metrics) == ["train/loss", "valid/loss"]


@pytest.mark.parametrize(
    ("validate", "expected"),
    [
        (Every(epochs=1), "<(SSSSSV)(SSSSSV)F"),
        (Every(epochs=2), "<(SSSSS)(SSSSSV)F"),
        (Every(updates=2), "<(SSVSSVS)(SVSSVSSV)F"),
        (Every(updates=5), "<(SSSSSV)(SSSSSV)F"),
        (Every(samples=7), "<(SSVSSVS)(SVSSVSSV)F"),
        (Every(updates=100), "<(SSSSS)(SSSSS)F"),
    ],
)
def test_validation_comes_when_it_is_due(validate: Every, expected: str) -> None:
    run = trainer().start(line(), columns(18), batch_size=4, validation=columns(4), validate=validate)
    assert kinds(list(torchflow.events(run, epochs=2))) == expected


def test_validation_by_a_clock_that_always_rings_comes_after_every_update() -> None:
    run = trainer().start(line(), columns(8), batch_size=4, validation=columns(4), validate=Every(seconds=1e-9))
    assert kinds(list(torchflow.events(run, epochs=1))) == "<(SVSV)F"


def test_an_epochs_metrics_hold_a_validation_only_if_it_is_of_its_end() -> None:
    run = trainer().start(line(), columns(12), batch_size=4, validation=columns(4), validate=Every(updates=2))
    ends = [event for event in torchflow.events(run, epochs=2) if isinstance(event, EpochEnded)]
    assert [list(end.metrics) for end in ends] == [["train/loss"], ["train/loss", "valid/loss"]]


@pytest.mark.parametrize("batches", [1, 2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("accumulate", [1, 2, 3, 8])
@pytest.mark.parametrize("sized", [True, False])
def test_updates_of_an_epoch_are_its_batches_by_the_window_rounded_up(batches: int, accumulate: int, sized: bool) -> None:
    data: Any = columns(4 * batches) if sized else Stream(batches)
    options: dict[str, Any] = {"batch_size": 4} if sized else {}
    windows: list[int] = []

    class Sizes(torchflow.Callback):
        def on_step_end(self, run: Any, event: Stepped) -> None:
            windows.append(int(event.count))

    run = trainer(accumulate=accumulate, callbacks=[Sizes()]).start(line(), data, **options)
    found = list(torchflow.events(run, epochs=2))
    updates = -(-batches // accumulate)
    assert kinds(found) == "<" + ("(" + "S" * updates + ")") * 2 + "F"
    last = batches - accumulate * (updates - 1)
    assert windows == ([4 * accumulate] * (updates - 1) + [4 * last]) * 2
    assert run.progress == (2, 0, 2 * updates, 8 * batches, -1)


def test_a_stream_and_its_list_of_batches_train_alike() -> None:
    from_stream = trainer(accumulate=2).fit(line(), Stream(5), epochs=2)
    by_hand = trainer(accumulate=2).start(line(), Stream(5))
    batches = list(Stream(5))
    for _ in range(2):
        for window in (batches[:2], batches[2:4], batches[4:]):
            torchflow.update(by_hand, window)
    assert weights(from_stream.model) == weights(by_hand.model)


@pytest.mark.parametrize("data", [columns(22), Stream(6)])
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("limit", [{"epochs": 3}, {"max_updates": 6}, {"max_updates": 7}, {"epochs": 2, "max_updates": 100}])
@pytest.mark.filterwarnings("ignore:train is a Stream. its first")
def test_breaking_at_any_event_and_going_on_ends_in_the_same_state(data: Any, accumulate: int, limit: dict[str, int]) -> None:
    def start() -> Any:
        made = trainer(accumulate=accumulate, seed=5, callbacks=[torchflow.EarlyStopping("valid/loss", patience=50)])
        options: dict[str, Any] = {} if isinstance(data, Stream) else {"batch_size": 4}
        return made.start(with_seed(), data, validation=columns(6, seed=3), validate=Every(updates=3), **options)

    whole = start()
    reference = list(torchflow.events(whole, **limit))
    for stop in range(len(reference)):
        run = start()
        first = []
        loop = torchflow.events(run, **limit)
        for event in loop:
            first.append(event)
            if len(first) > stop:
                break
        loop.close()
        rest = list(torchflow.events(run, **limit))
        assert state_of(run) == state_of(whole), f"left at {first[-1]}"
        again = kinds(first).rstrip("F") + kinds(rest)[1:]
        assert again == kinds(reference), f"left at {first[-1]}"


def with_seed() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Noisy()


@pytest.mark.parametrize("hook", ["on_epoch_start", "on_gradients", "on_step_end", "on_validation_end", "on_epoch_end"])
@pytest.mark.parametrize("at", [1, 2])
def test_a_stop_ends_where_every_break_and_going_on_ends_too(hook: str, at: int) -> None:
    def start() -> Any:
        calls: list[int] = []

        def react(run: Any, event: Any) -> Stop | None:
            calls.append(1)
            return Stop("enough") if len(calls) == at else None

        return trainer(callbacks=[reacting(hook, react)]).start(line(), columns(8), batch_size=4, validation=columns(4))

    whole = start()
    reference = list(torchflow.events(whole, epochs=9))
    assert reference[-1] == Finished(whole.progress, "enough", complete=True)
    for stop in range(len(reference)):
        run = start()
        loop = torchflow.events(run, epochs=9)
        for _ in range(stop + 1):
            next(loop)
        loop.close()
        rest = list(torchflow.events(run, epochs=9))
        assert rest[-1] == reference[-1]
        assert state_of(run) == state_of(whole)


def test_limits_count_from_the_first_update_of_the_run() -> None:
    run = trainer().start(line(), columns(12), batch_size=4)
    assert kinds(list(torchflow.events(run, max_updates=2))) == "<(SSF"
    assert kinds(list(torchflow.events(run, max_updates=2))) == "<F"
    assert kinds(list(torchflow.events(run, max_updates=4))) == "<S)(SF"
    assert kinds(list(torchflow.events(run, epochs=2))) == "<SS)F"
    assert kinds(list(torchflow.events(run, epochs=2))) == "<F"


def test_seconds_are_those_of_a_monotonic_clock() -> None:
    now = [0.0]

    def tick(run: Any, event: Any) -> None:
        now[0] += 1.0

    run = trainer(callbacks=[reacting("on_step_end", tick)]).start(line(), columns(12), batch_size=4)
    found = list(_events(run, Limits(max_seconds=4.5, clock=lambda: now[0])))
    assert kinds(found) == "<(SSS)(SSF"
    assert found[-1] == Finished(run.progress, "max_seconds=4.5 are over")


def test_gradients_are_none_at_every_event() -> None:
    run = trainer(accumulate=2).start(line(), columns(12), batch_size=4, validation=columns(4), validate=Every(updates=1))
    for _ in torchflow.events(run, epochs=2):
        assert all(p.grad is None for p in run.model.parameters())


def test_a_run_may_be_saved_at_every_event(tmp_path: Any) -> None:
    run = trainer().start(line(), columns(8), batch_size=4, validation=columns(4))
    for number, _ in enumerate(torchflow.events(run, epochs=1)):
        torchflow.save(run, tmp_path / str(number))
    assert len(list(tmp_path.iterdir())) == 7


# What is put back


def surroundings() -> tuple[object, ...]:
    state: Any = np.random.get_state()
    return (
        torch.random.get_rng_state().numpy().tobytes(),
        state[1].tobytes(),
        random.getstate(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.is_grad_enabled(),
    )


def noisy_step(model: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return nn.functional.mse_loss(model(x), y) + 0 * (random.random() + float(np.random.random()))


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("fault", [None, *[hook for hook in HOOKS if hook != "on_exception"]])
def test_flags_random_state_and_kernels_are_put_back_however_a_fit_ends(mode: bool, fault: str | None) -> None:
    model = with_seed().train(mode)
    flags = [module.training for module in model.modules()]
    callbacks = [] if fault is None else [raising(fault, ValueError("wrong"))]
    made = trainer(step=noisy_step, callbacks=callbacks)
    before = surroundings()
    if fault is None:
        made.fit(model, columns(8), batch_size=4, epochs=1, validation=columns(4))
    else:
        with pytest.raises(CallbackError):
            made.fit(model, columns(8), batch_size=4, epochs=1, validation=columns(4))
    assert surroundings() == before
    assert [module.training for module in model.modules()] == flags


def test_a_generator_that_is_left_puts_everything_back_and_ends_the_callbacks_once() -> None:
    recorder = Recorder()
    run = trainer(step=noisy_step, callbacks=[recorder]).start(with_seed().eval(), columns(8), batch_size=4)
    before = surroundings()
    loop = torchflow.events(run, epochs=1)
    while not isinstance(next(loop), Stepped):
        assert run.model.training
    loop.close()
    assert surroundings() == before
    assert not run.model.training
    assert recorder.hooks[-1] == "on_fit_end"
    assert recorder.seen[-1][1] == Finished(run.progress, "the loop was left", complete=False)
    assert "on_exception" not in recorder.hooks


def test_an_error_of_a_callback_when_the_loop_is_left_is_raised() -> None:
    run = trainer(callbacks={"mine": raising("on_fit_end", ValueError("wrong"))}).start(line(), columns(8))
    loop = torchflow.events(run, epochs=1)
    next(loop)
    with pytest.raises(CallbackError, match="callback 'mine' raised ValueError in on_fit_end"):
        loop.close()


# Exceptions


class Broken:
    """Batches that fail at the third."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[Any]:
        for number in range(5):
            if number == 2:
                raise self.error
            yield columns(4, seed=number)


@pytest.mark.parametrize("error", [ValueError("bad file"), KeyboardInterrupt(), SystemExit(2), MemoryError()], ids=repr)
@pytest.mark.parametrize("place", ["data", "step"])
def test_an_exception_in_data_or_step_reaches_everybody_once(error: BaseException, place: str) -> None:
    recorder, calls = Recorder(), []

    def step(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        if place == "step" and len(calls) == 3:
            raise error
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    data: Any = Broken(error) if place == "data" else Stream(5)
    made = trainer(step=step, callbacks=[recorder])
    wrapped = place == "data" and not isinstance(error, KeyboardInterrupt)
    with pytest.raises(DataError if wrapped else type(error)) as raised:
        made.fit(line(), data, epochs=1)
    assert (raised.value.__cause__ if wrapped else raised.value) is error
    assert recorder.hooks.count("on_step_end") == 2
    assert recorder.hooks[-2:] == ["on_exception", "on_fit_end"]
    assert recorder.hooks.count("on_exception") == 1


def test_a_stop_iteration_in_a_step_does_not_end_the_epoch_in_silence() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        raise StopIteration("an exhausted iterator")

    with pytest.raises(RuntimeError) as raised:
        trainer(step=step).fit(line(), columns(), epochs=1)
    assert isinstance(raised.value.__cause__, StopIteration)


class Lying(Stream):
    def __init__(self, batches: int, says: int) -> None:
        super().__init__(batches)
        self.says = says

    def __len__(self) -> int:
        return self.says


@pytest.mark.parametrize(("batches", "says"), [(3, 5), (5, 3), (0, 3)])
def test_data_whose_length_is_not_what_it_says_is_found(batches: int, says: int) -> None:
    with pytest.raises(DataError, match=r"train"):
        trainer().fit(line(), Lying(batches, says), epochs=1)


def test_an_epoch_without_a_batch_is_found() -> None:
    with pytest.raises(DataError, match=r"train gave no batch|train .* no batch"):
        trainer().fit(line(), Stream(0), epochs=1)


class Shrinking:
    """Batches of a source of torchflow's own kind that ends early."""

    length, samples = 4, 16

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        return iter([columns(4)] * 2)

    def indices(self, epoch: int, batch: int) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        """Nothing to end."""


@pytest.mark.parametrize(
    ("batches", "message"), [(2, r"train ended after 2 of 4 batches of epoch 0\. Its length is not what it says"), (0, "train .*0")]
)
def test_a_short_epoch_is_never_taken_for_a_whole_one(batches: int, message: str) -> None:
    run = trainer().start(line(), columns(16), batch_size=4)
    source: Any = Shrinking()
    source.epoch = lambda epoch, start=0: iter([columns(4)] * batches)
    run.batches = source
    with pytest.raises(DataError, match=message):
        list(torchflow.events(run, epochs=1))


def test_a_stream_that_gives_nothing_is_named() -> None:
    run = trainer().start(line(), columns(16), batch_size=4)
    source: Any = Shrinking()
    source.length, source.epoch = None, lambda epoch, start=0: iter([])
    run.batches = source
    with pytest.raises(DataError, match=r"train gave no batch in epoch 0\. Pass data with at least one sample"):
        list(torchflow.events(run, epochs=1))


def test_an_epoch_that_ends_with_its_window_is_ended_once() -> None:
    run = trainer(accumulate=2).start(line(), Stream(4))
    assert kinds(list(torchflow.events(run, epochs=1))) == "<(SS)F"


def test_validated_events_hold_floats_of_every_validation() -> None:
    run = trainer().start(line(), columns(8), validation={"valid": columns(4), "other": columns(6, seed=2)})
    found = [event for event in torchflow.events(run, epochs=1) if isinstance(event, Validated)]
    assert list(found[0].metrics) == ["valid/loss", "other/loss"]
    assert all(type(value) is float for value in found[0].metrics.values())


def test_an_error_of_the_users_own_code_says_where_it_was_and_on_what() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
        trainer().fit(nn.Linear(3, 1), columns(12), epochs=1, batch_size=4)
    where = "torchflow: in update 0 (epoch 0, batch 0), on [0][0] float32 (4, 2), [0][1] float32 (4, 1)"
    assert caught.value.__notes__[0] == where
