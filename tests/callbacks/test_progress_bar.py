from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from torchflow.callbacks import ProgressBar, progress_bar
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.events import EpochEnded, Failed, Finished, Plan, Started, Stepped, Validated
from torchflow.intervals import Progress

RUN: Any = None  # the bar never looks at the run
PLAN = Plan(updates_per_epoch=4, epochs=3, updates=12)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Loss:
    """Counts how often somebody waits for the device."""

    def __init__(self) -> None:
        self.reads = 0

    def item(self) -> float:
        self.reads += 1
        return 0.012345


def at(epoch: int, batch: int = 4) -> Progress:
    updates = 4 * epoch + batch
    return Progress(epoch, batch, updates, 8 * updates)


def stepped(progress: Progress, loss: Any) -> Stepped:
    return Stepped(progress, loss, {}, 8, {"main": 0.1})


def play(bar: ProgressBar, loss: Any, start: Progress | None = None, plan: Plan = PLAN) -> None:
    """Report three epochs of four updates with a validation each."""
    bar.on_fit_start(RUN, Started(start or Progress(), plan))
    for epoch in range(start.epoch if start else 0, 3):
        for batch in range(1, 5):
            bar.on_step_end(RUN, stepped(at(epoch, batch), loss))
        bar.on_validation_end(RUN, Validated(at(epoch), {"valid/loss": 0.011}))
        bar.on_epoch_end(RUN, EpochEnded(at(epoch), {"train/loss": 0.012345, "valid/loss": 0.011}))
    bar.on_fit_end(RUN, Finished(Progress(3, 0, 12, 96), "3 epochs are done"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock whose reading is the list's only item, and which counts how often it was read in a second item."""
    now = [0.0, 0]

    def monotonic() -> float:
        now[1] += 1
        return now[0]

    monkeypatch.setattr(progress_bar, "time", SimpleNamespace(monotonic=monotonic))
    return now


def test_elsewhere_there_is_one_plain_line_an_epoch_and_the_reason() -> None:
    stream, loss = io.StringIO(), Loss()
    play(ProgressBar(stream=stream), loss)
    assert stream.getvalue().splitlines() == [
        "epoch 1/3  train/loss 0.01235  valid/loss 0.011",
        "epoch 2/3  train/loss 0.01235  valid/loss 0.011",
        "epoch 3/3  train/loss 0.01235  valid/loss 0.011",
        "3 epochs are done",
    ]
    assert loss.reads == 0


def test_a_line_says_no_end_where_there_is_none() -> None:
    stream = io.StringIO()
    play(ProgressBar(stream=stream), Loss(), plan=Plan(None, None, None))
    assert stream.getvalue().startswith("epoch 1  train/loss 0.01235")


def test_a_terminal_gets_a_bar_that_ends_full_with_the_reason_below() -> None:
    stream = Terminal()
    play(ProgressBar(stream=stream), torch.tensor(0.5))
    *_, last, reason = stream.getvalue().splitlines()
    assert "epoch 3/3" in last
    assert "12/12" in last
    assert "valid/loss 0.011" in last
    assert reason == "3 epochs are done"


def test_style_decides_against_what_the_stream_is() -> None:
    lines, bar = Terminal(), io.StringIO()
    play(ProgressBar(stream=lines, style="lines"), Loss())
    play(ProgressBar(stream=bar, style="bar"), Loss())
    assert lines.getvalue().startswith("epoch 1/3  train/loss")
    assert "12/12" in bar.getvalue()


def test_standard_error_is_looked_up_when_the_run_starts(capsys: pytest.CaptureFixture[str]) -> None:
    play(ProgressBar(), Loss())
    assert capsys.readouterr().err.endswith("3 epochs are done\n")


def test_a_process_without_standard_error_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    play(ProgressBar(), Loss())


def test_a_resumed_run_starts_where_it_was() -> None:
    stream = Terminal()
    bar = ProgressBar(stream=stream)
    bar.on_fit_start(RUN, Started(Progress(epoch=2, batch=1, updates=9, samples=72), PLAN))
    assert "epoch 3/3" in stream.getvalue()
    assert "9/12" in stream.getvalue()
    bar.on_fit_end(RUN, Finished(at(2), "done"))


def test_the_loss_is_read_only_for_a_drawing_and_at_most_ten_times_a_second(clock: list[float]) -> None:
    stream, loss = Terminal(), Loss()
    bar = ProgressBar(stream=stream)
    bar.on_fit_start(RUN, Started(Progress(), Plan(1000, 1, 1000)))
    for update in range(1, 1001):
        clock[0] += 0.005  # five seconds in all
        bar.on_step_end(RUN, stepped(Progress(0, update, update, update), loss))
    assert 45 <= loss.reads <= 50
    assert "loss 0.01235" in stream.getvalue()
    bar.on_fit_end(RUN, Finished(Progress(0, 1000, 1000, 1000), "done"))


def test_an_update_between_two_drawings_costs_one_look_at_the_clock(clock: list[float]) -> None:
    stream, loss = Terminal(), Loss()
    bar = ProgressBar(stream=stream)
    bar.on_fit_start(RUN, Started(Progress(), PLAN))
    clock[1], text = 0, stream.getvalue()
    for batch in range(1, 4):
        bar.on_step_end(RUN, stepped(at(0, batch), loss))
    assert (clock[1], loss.reads, stream.getvalue()) == (3, 0, text)
    bar.on_fit_end(RUN, Finished(at(0, 3), "done"))


def test_an_exception_closes_the_bar_before_its_traceback() -> None:
    stream = Terminal()
    bar = ProgressBar(stream=stream)
    bar.on_fit_start(RUN, Started(Progress(), PLAN))
    bar.on_exception(RUN, Failed(at(0, 1), KeyboardInterrupt()))
    assert stream.getvalue().endswith("\n")
    bar.on_fit_end(RUN, Finished(at(0, 1), "interrupted", complete=False))
    assert stream.getvalue().endswith("\ninterrupted\n")


def test_one_bar_serves_several_runs() -> None:
    stream = Terminal()
    bar = ProgressBar(stream=stream)
    bar.on_validation_end(RUN, Validated(at(0), {"valid/loss": 7.0}))
    for _ in range(2):
        play(bar, Loss())
    assert stream.getvalue().count("3 epochs are done") == 2
    assert "valid/loss 7" not in stream.getvalue()
    assert bar.state() == {}


class HungUp(Terminal):
    """A terminal that goes away after a few writes."""

    def __init__(self, writes: int, error: Exception) -> None:
        super().__init__()
        self.writes, self.error = writes, error

    def write(self, text: str, /) -> int:
        self.writes -= 1
        if self.writes < 0:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), BrokenPipeError(), ValueError("I/O operation on closed file")])
@pytest.mark.parametrize("writes", [0, 1, 2, 5])
@pytest.mark.parametrize("style", ["bar", "lines"])
def test_a_stream_that_goes_away_does_not_end_the_run(style: Any, writes: int, error: Exception, clock: list[float]) -> None:
    bar = ProgressBar(stream=HungUp(writes, error), style=style)
    bar.on_fit_start(RUN, Started(Progress(), PLAN))
    for batch in range(1, 5):
        clock[0] += 1.0
        bar.on_step_end(RUN, stepped(at(0, batch), Loss()))
    bar.on_epoch_end(RUN, EpochEnded(at(0), {"train/loss": 0.5}))
    bar.on_fit_end(RUN, Finished(at(0), "done"))


def test_a_closed_stream_is_no_terminal() -> None:
    stream = io.StringIO()
    stream.close()
    play(ProgressBar(stream=stream), Loss())


def test_names_that_the_stream_cannot_write_are_escaped() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    bar = ProgressBar(stream=stream)
    bar.on_fit_start(RUN, Started(Progress(), PLAN))
    bar.on_epoch_end(RUN, EpochEnded(at(0), {"prüf/loss": 0.5}))
    assert raw.getvalue() == b"epoch 1/3  pr\\xfcf/loss 0.5\n"


def test_a_notebook_gets_a_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    auto = SimpleNamespace(tqdm=progress_bar._bar_class(notebook=False))
    monkeypatch.setitem(sys.modules, "tqdm.auto", auto)
    play(ProgressBar(), Loss())
    assert "12/12" in capsys.readouterr().err


def test_no_thread_runs_beside_the_training() -> None:
    from tqdm import tqdm  # noqa: PLC0415

    play(ProgressBar(stream=Terminal()), Loss())
    assert tqdm.monitor_interval > 0  # other bars of the process keep their choice
    assert progress_bar._bar_class(notebook=False).monitor_interval == 0


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ArgumentTypeError, match=r"stream must be an open text file such as sys\.stdout, got 'log\.txt'"):
        ProgressBar(stream="log.txt")  # type: ignore[arg-type]
    with pytest.raises(ArgumentValueError, match="style must be one of 'auto', 'bar', 'lines', got 'fancy'"):
        ProgressBar(style="fancy")  # type: ignore[arg-type]
