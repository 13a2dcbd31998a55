"""Callbacks that look at clocks: what they measure stays out of the history and of checkpoints."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchflow
from tests.compiled.interpreter import interpreting
from tests.laws.problems import OPTIMIZERS, small_network, table
from tests.small import columns, line, reacting, trainer
from torchflow import Every, Outputs, Profile, Stepped, Throughput, Timer, Updates
from torchflow.callbacks import Speed, Times
from torchflow.errors import ArgumentTypeError, ArgumentValueError


class Clock:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def ticking(self) -> Any:
        """A step of two seconds in training, and of five in evaluation."""

        def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
            self.now += 2.0 if model.training else 5.0
            loss: Tensor = (model(batch[0]) - batch[1]).square().mean()
            return loss

        return step


def test_a_timer_tells_updates_from_validation() -> None:
    clock = Clock()
    timer = Timer(clock)
    trainer(step=clock.ticking(), callbacks=[timer]).fit(
        line(), columns(20), batch_size=4, epochs=2, validation=table(8, 2), validate=Every(updates=5)
    )
    assert timer.rows == [Times(0, 20.0, 10.0, 10.0), Times(1, 20.0, 10.0, 10.0)]
    assert timer.total == Times(2, 40.0, 20.0, 20.0)
    assert timer.state() == {}


def test_a_second_call_of_a_timer_begins_anew_and_a_part_of_an_epoch_has_no_row() -> None:
    clock = Clock()
    timer = Timer(clock)
    made = trainer(step=clock.ticking(), callbacks=[timer])
    for _ in range(2):
        made.fit(line(), columns(20), batch_size=4, max_updates=7)
        assert timer.rows == [Times(0, 10.0, 10.0, 0.0)]


def test_throughput_counts_updates_samples_and_counts_without_the_validation() -> None:
    clock = Clock()
    told: list[Speed] = []

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Outputs:
        return Outputs(clock.ticking()(model, batch), count=torch.tensor(100))

    speed = Throughput(clock=clock, report=told.append)
    trainer(step=step, callbacks=[speed]).fit(
        line(), columns(20), batch_size=4, epochs=2, validation=table(4, 2), validate=Every(updates=2)
    )
    assert [row[1:] for row in speed.rows] == [(10.0, 0.5, 2.0, 50.0, None)] * 2
    assert [row.progress.updates for row in speed.rows] == [5, 10]
    assert told == speed.rows
    assert speed.state() == {}


def test_throughput_of_intervals_of_updates_begins_anew_each_time() -> None:
    clock = Clock()
    speed = Throughput(Every(updates=2), clock=clock, peak_flops=100.0, flops_per_sample=10.0)
    trainer(step=clock.ticking(), callbacks=[speed]).fit(
        line(), columns(20), batch_size=4, epochs=1, validation=table(4, 2), validate=Every(updates=2)
    )
    assert [(row.seconds, row.samples, row.utilisation) for row in speed.rows] == [(4.0, 2.0, 0.2)] * 2


def test_operations_of_a_sample_are_counted_forward_and_backward() -> None:
    speed = Throughput(peak_flops=1e9)
    model = small_network(3)
    trainer(callbacks=[speed]).fit(model, table(12, 3), batch_size=4, epochs=1)
    # Two operations a multiplication: forward 3*5 + 5*1; backward for the weights as much again, and 5*1 for the hidden layer.
    assert speed.flops_per_sample == 2 * (20 + 20 + 5)
    assert speed.rows[0].utilisation == pytest.approx(90 * speed.rows[0].samples / 1e9)
    assert isinstance(speed.rows[0], Speed)


def test_a_step_that_counts_its_calls_in_training_does_not_see_the_counting() -> None:
    calls: list[bool] = []

    def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        calls.append(model.training)
        loss: Tensor = (model(batch[0]) - batch[1]).square().mean()
        return loss

    model = line()
    run = trainer(step=step, callbacks=[Throughput(peak_flops=1e9)]).start(model, columns(8), batch_size=4)
    next(torchflow.events(run, epochs=1))
    assert calls == [False]
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_batches_that_can_be_read_once_are_not_read_to_count() -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*columns(8)), batch_size=4)
    with pytest.raises(
        ArgumentValueError, match=r"this training data yields batches that can be read once\. Give flops_per_sample=…"
    ):
        trainer(callbacks=[Throughput(peak_flops=1e9)]).fit(line(), loader, epochs=1)
    given = Throughput(peak_flops=1e9, flops_per_sample=10.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer(callbacks=[given]).fit(line(), loader, epochs=1)
    assert given.rows[0].utilisation is not None


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Throughput(2), ArgumentTypeError, r"Throughput\(every=…\) must be an interval"),  # type: ignore[arg-type]
        (lambda: Throughput(peak_flops=0), ArgumentValueError, "peak_flops must be a finite number above 0"),
        (lambda: Throughput(flops_per_sample=3.0), ArgumentValueError, "flops_per_sample says nothing without peak_flops"),
        (lambda: Throughput(report=3), ArgumentTypeError, "report must be a function"),  # type: ignore[arg-type]
        (lambda: Throughput(clock=3), ArgumentTypeError, "clock must be a function"),  # type: ignore[arg-type]
        (lambda: Timer(3), ArgumentTypeError, "clock must be a function"),  # type: ignore[arg-type]
        (lambda: Profile(3), ArgumentTypeError, "path must be a path"),  # type: ignore[arg-type]
        (lambda: Profile("a", after=0), ArgumentValueError, "after must be an int of at least 1"),
        (lambda: Profile("a", updates=0), ArgumentValueError, "updates must be an int of at least 1"),
        (lambda: Profile("a", memory=1), ArgumentTypeError, "memory must be True or False"),  # type: ignore[arg-type]
    ],
)
def test_impossible_choices_are_refused(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def names_in(path: Path) -> list[str]:
    return [event.get("name", "") for event in json.loads(path.read_text(encoding="utf-8"))["traceEvents"]]


def test_a_profile_holds_the_updates_of_its_window_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "trace.json"
    profile = Profile(path, after=2, updates=3)
    there: list[bool] = []
    spy = reacting("on_step_end", lambda run, event: there.append(path.exists()))
    made = trainer(callbacks={"profile": profile, "spy": spy}, optimizer=OPTIMIZERS["Adam"])
    made.fit(line(), columns(32), batch_size=4, epochs=1)
    assert there == [False] * 4 + [True] * 4
    names = names_in(path)
    assert names.count("aten::mse_loss") == 3
    assert "aten::linear" in names


def test_a_run_that_ends_inside_the_window_writes_what_it_has(tmp_path: Path) -> None:
    trainer(callbacks=[Profile(tmp_path / "a.json", after=1, updates=50)]).fit(line(), columns(12), batch_size=4, epochs=1)
    assert names_in(tmp_path / "a.json").count("aten::mse_loss") == 2
    trainer(callbacks=[Profile(tmp_path / "b.json", after=50)]).fit(line(), columns(12), batch_size=4, epochs=1)
    assert not (tmp_path / "b.json").exists()

    def fail(run: Any, event: Stepped) -> None:
        if event.progress.updates == 2:
            raise ValueError("no")

    failing = trainer(callbacks={"profile": Profile(tmp_path / "c.json", after=1), "fail": reacting("on_step_end", fail)})
    with pytest.raises(torchflow.errors.CallbackError):
        failing.fit(line(), columns(12), batch_size=4, epochs=1)
    assert names_in(tmp_path / "c.json").count("aten::mse_loss") == 1


@pytest.mark.parametrize("nonfinite", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_tokens_of_compiled_groups_are_counted_update_by_update(accumulate: int, nonfinite: bool) -> None:
    """And where a group is made again, one update after the other.

    Seen to fail when the count of a group's last update stands for all.
    """

    def step(model: nn.Module, batch: Any) -> Outputs:
        x, y, tokens = batch
        return Outputs((model(x) - y).square().mean(), tokens.sum())

    x, y = columns(32)
    if nonfinite:
        x[5] = torch.nan
    totals: dict[bool, list[float]] = {}
    with interpreting():
        for compiled in (False, True):
            clock = Clock()
            speed = Throughput(Every(updates=4), clock=clock)

            def tick(run: Any, event: Any, clock: Clock = clock) -> None:
                clock.now += 1.0

            made = trainer(
                step=step,
                accumulate=accumulate,
                callbacks={"tick": reacting("on_step_end", tick), "speed": speed},
                compile=Updates(4) if compiled else False,
                nonfinite="skip",
            )
            made.fit(line(), (x, y, torch.arange(32.0)), batch_size=2, epochs=2, shuffle=False)
            totals[compiled] = [row.counts * row.seconds for row in speed.rows]
    assert totals[True] == pytest.approx(totals[False])
    assert sum(totals[True]) == pytest.approx(2 * sum(range(32)))


def test_a_group_of_compiled_updates_counts_its_samples() -> None:
    speed = Throughput(Every(updates=1))
    event = Stepped(torchflow.Progress(0, 4, 4, 16), torch.tensor(1.0), {}, 4, {"main": 0.1}, 0, torch.tensor([1.0, 1.0, 1.0, 1.0]))
    run: Any = trainer(callbacks=[speed], compile=Updates(4)).start(line(), columns(16), batch_size=4)
    run.previous, run.progress = torchflow.Progress(), event.progress
    speed.on_step_end(run, event)
    row = speed.rows[0]
    assert row.counts == pytest.approx(row.samples) == pytest.approx(4 * row.updates)
