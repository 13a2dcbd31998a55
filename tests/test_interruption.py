from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.small import Recorder, columns, line, reacting, trainer, weights
from torchflow import Checkpoints, Every, Outputs, Trainer, interruption

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before
    interruption.check()  # nothing is asked for any more
    assert not interruption.save_asked()


def steps(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-").partition("-")[0]) for path in (folder / "checkpoints").glob("step-*"))


def signalling(number: int, update: int, times: int = 1) -> Any:
    """A callback that raises a signal when an update is finished."""

    def react(run: Any, event: Any) -> None:
        if event.progress.updates == update:
            for _ in range(times):
                signal.raise_signal(number)

    return reacting("on_step_end", react)


@pytest.mark.parametrize(("number", "left"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_lets_the_update_finish_saves_once_and_leaves(tmp_path: Path, number: int, left: type[BaseException]) -> None:
    folder, recorder = tmp_path / "run", Recorder()
    made = trainer(
        callbacks={"signal": signalling(number, 3), "recorder": recorder}, checkpoints=Checkpoints(folder, every=Every(epochs=9))
    )
    with pytest.raises(left) as raised:
        made.fit(line(), columns(20), batch_size=4, epochs=2)
    if isinstance(raised.value, SystemExit):
        assert raised.value.code == 143
    assert steps(folder) == [0, 3]
    assert recorder.hooks[-3:] == ["on_step_end", "on_exception", "on_fit_end"]
    whole = trainer().fit(line(), columns(20), batch_size=4, epochs=2)
    resumed = trainer(checkpoints=Checkpoints(folder)).fit(line(), columns(20), batch_size=4, epochs=2, resume=True)
    assert weights(resumed.model) == weights(whole.model)
    assert resumed.history.rows == whole.history.rows


def test_sigusr1_saves_and_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made = trainer(callbacks=[signalling(signal.SIGUSR1, 2)], checkpoints=Checkpoints(folder, every=Every(epochs=9), keep=9))
    assert made.fit(line(), columns(20), batch_size=4, epochs=1).progress.updates == 5
    assert steps(folder) == [0, 2, 5]


def test_a_second_sigint_leaves_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made = trainer(callbacks=[signalling(signal.SIGINT, 2, times=2)], checkpoints=Checkpoints(folder, every=Every(epochs=9)))
    with pytest.raises(KeyboardInterrupt, match="a second SIGINT") as raised:
        made.fit(line(), columns(20), batch_size=4, epochs=1)
    assert steps(folder) == [0]
    assert any("nothing was saved" in note for note in raised.value.__notes__)


def test_what_is_called_on_the_way_out_goes_through(tmp_path: Path) -> None:
    inner: list[int] = []

    def react(run: Any, event: Any) -> None:
        inner.append(trainer(checkpoints=tmp_path / "inner").fit(line(), columns(8), epochs=1).progress.updates)

    made = trainer(
        callbacks={"signal": signalling(signal.SIGTERM, 2), "last": reacting("on_exception", react)}, checkpoints=tmp_path / "run"
    )
    with pytest.raises(SystemExit):
        made.fit(line(), columns(20), batch_size=4, epochs=1)
    assert inner == [1]


def test_outside_the_main_thread_nothing_is_heard_and_one_line_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    results: list[Any] = []

    def work() -> None:
        results.append(trainer(checkpoints=tmp_path / "run").fit(line(), columns(), epochs=1))

    with caplog.at_level(logging.WARNING, "torchflow"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert results[0].progress.epoch == 1
    assert [record.getMessage()[:55] for record in caplog.records] == [
        "torchflow: fit runs outside the main thread, where Pytho"[:55]
    ]


@pytest.mark.parametrize("method", ["evaluate", "predict"])
@pytest.mark.parametrize("batch", [1, 3])
def test_outside_a_run_sigterm_lets_the_batch_finish_and_leaves(method: str, batch: int) -> None:
    """Also where it comes in the last batch."""
    seen: list[int] = []

    def step(model: Any, given: Any) -> Outputs:
        seen.append(len(seen) + 1)
        if len(seen) == batch:
            signal.raise_signal(signal.SIGUSR1)  # nothing to save, and no reason to end
            signal.raise_signal(signal.SIGTERM)
        return Outputs(model(given[0]).mean(), predictions=given[0])

    made = Trainer(step, optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1), progress=False)
    with pytest.raises(SystemExit) as left:
        getattr(made, method)(line(), columns(12), batch_size=4)
    assert left.value.code == 143
    assert seen == list(range(1, batch + 1))


def test_outside_a_run_a_handler_of_the_programs_own_is_left_alone() -> None:
    heard: list[int] = []

    def step(model: Any, given: Any) -> torch.Tensor:
        signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGINT) is before
        loss: torch.Tensor = model(given[0]).mean()
        return loss

    before, own = signal.getsignal(signal.SIGINT), signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        made = Trainer(step, optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1), progress=False)
        assert "loss" in made.evaluate(line(), columns(8), batch_size=4)
    finally:
        signal.signal(signal.SIGTERM, own)
    assert heard == [signal.SIGTERM] * 2


def test_a_signal_after_the_last_update_is_obeyed_when_the_run_is_saved(tmp_path: Path) -> None:
    made = trainer(
        callbacks={"late": reacting("on_fit_end", lambda run, event: signal.raise_signal(signal.SIGTERM))},
        checkpoints=tmp_path / "run",
    )
    with pytest.raises(SystemExit) as left:
        made.fit(line(), columns(8), batch_size=4, epochs=1)
    assert left.value.code == 143
    assert steps(tmp_path / "run") == [0, 2]


def test_without_a_folder_signals_do_what_they_always_do() -> None:
    seen: list[Any] = []

    def react(run: Any, event: Any) -> None:
        seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    trainer(callbacks=[reacting("on_fit_start", react)]).fit(line(), columns(), epochs=1)
    assert seen == [before]


def test_a_signal_that_comes_when_nobody_listens_any_more_is_not_remembered() -> None:
    interruption._hear(signal.SIGTERM, None)
    interruption.check()
