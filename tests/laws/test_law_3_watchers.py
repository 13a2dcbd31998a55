"""Law 3 for the callbacks that come with the library: whatever watches, the run is the same to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import torchflow
from tests.laws.problems import OPTIMIZERS, copied, difference, dropout_network, table
from tests.laws.test_law_2_resume import SCHEDULES, mixing_step
from torchflow import (
    EMA,
    SWA,
    Callback,
    CSVLog,
    Every,
    GradientNorm,
    JSONLines,
    LearningRate,
    Notify,
    Profile,
    Sample,
    Throughput,
    Timer,
    Trainer,
    supervised,
)

WATCHERS: dict[str, Callable[[Path, Every], Callback]] = {
    "ema": lambda folder, every: EMA(0.9, validate=False, apply=False, buffers="average"),
    "swa": lambda folder, every: SWA(every=every, validate=False, apply=False),
    "rate": lambda folder, every: LearningRate(every),
    "norm": lambda folder, every: GradientNorm(every),
    "speed": lambda folder, every: Throughput(every, peak_flops=1e9),
    "timer": lambda folder, every: Timer(),
    "sample": lambda folder, every: Sample(
        table(3, 3), lambda made, progress: made.add_(1.0), every=every, batch_size=2, forward=lambda model, batch: model(batch[0])
    ),
    "csv": lambda folder, every: CSVLog(folder / "log.csv"),
    "lines": lambda folder, every: JSONLines(folder / "log.jsonl", every=None if every.epochs else every),
    "notify": lambda folder, every: Notify(lambda text: None, at=["start", "validation", "epoch", "end"]),
}
EVERY = st.one_of(
    st.builds(Every, epochs=st.integers(1, 2)),
    st.builds(Every, updates=st.integers(1, 4)),
    st.builds(Every, samples=st.integers(1, 20)),
)


def run_of(callbacks: dict[str, Callback], optimizer: str, schedule: str, accumulate: int, step: str) -> torchflow.Run[Any, Any]:
    chosen: Any = mixing_step
    if step == "supervised":
        chosen = supervised(nn.MSELoss(), metrics={"error": torchmetrics.MeanSquaredError()})
    trainer = Trainer(
        chosen,
        optimizer=OPTIMIZERS[optimizer],
        scheduler=SCHEDULES[schedule],
        accumulate=accumulate,
        callbacks=callbacks,
        progress=False,
        seed=3,
    )
    return trainer.start(dropout_network(3), table(23, 3), batch_size=4, last_batch="drop", validation=table(7, 3, seed=5))


def parts(run: torchflow.Run[Any, Any]) -> dict[str, Any]:
    """Everything of a run but its callbacks."""
    return {name: value for name, value in copied(run.state()).items() if name != "callbacks"}


def reports(run: torchflow.Run[Any, Any], epochs: int) -> list[Any]:
    """What every event says, and the run after it; a profiler is seen by nothing but the clock."""
    seen = []
    for event in torchflow.events(run, epochs=epochs):
        values = {name: getattr(event, name) for name in ("loss", "metrics", "learning_rates", "reason") if hasattr(event, name)}
        seen.append((type(event).__name__, tuple(run.progress), copied({**values, "run": parts(run)})))
    return seen


@settings(max_examples=25, deadline=None)
@given(
    watchers=st.lists(st.sampled_from(sorted(WATCHERS)), unique=True, min_size=1),
    every=EVERY,
    optimizer=st.sampled_from(["momentum", "AdamW", "L-BFGS"]),
    schedule=st.sampled_from(["none", "by updates", "plateau"]),
    accumulate=st.integers(1, 2),
    step=st.sampled_from(["supervised", "mixing"]),
)
def test_a_run_that_is_watched_by_what_the_library_brings_is_the_same_run(
    watchers: list[str], every: Every, optimizer: str, schedule: str, accumulate: int, step: str
) -> None:
    """Every event, and the whole state after each, whoever watches and in which order.

    Seen to fail when the operations of a sample are counted on the model itself, when samples are predicted in training mode,
    and when the average of the weights is the model's own tensors.
    """
    expected = reports(run_of({}, optimizer, schedule, accumulate, step), 2)
    with TemporaryDirectory() as folder:
        callbacks = {name: WATCHERS[name](Path(folder), every) for name in watchers}
        assert not any(callback.changes_run for callback in callbacks.values())
        found = reports(run_of(callbacks, optimizer, schedule, accumulate, step), 2)
    assert difference(found, expected) is None


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(sorted(WATCHERS)), every=EVERY)
def test_the_order_of_the_librarys_watchers_makes_no_difference(order: list[str], every: Every) -> None:
    """Each ends in the same state, and the history is the same table.

    Seen to fail when values are noted into the history in the order of the callbacks.
    """
    states = []
    for names in (sorted(WATCHERS), order):
        with TemporaryDirectory() as folder:
            run = run_of({name: WATCHERS[name](Path(folder), every) for name in names}, "AdamW", "none", 1, "supervised")
            assert len(list(torchflow.events(run, epochs=2))) > 10
            states.append(copied(run.state()["callbacks"]))
    assert difference(states[0], states[1]) is None


@settings(max_examples=10, deadline=None)
@given(every=EVERY, share=st.floats(0, 0.99), step=st.sampled_from(["supervised", "mixing"]))
def test_what_watchers_remember_survives_a_restart(every: Every, share: float, step: str) -> None:
    """Law 2 for the callbacks above: the history and every state are those of a run that nobody cut.

    Seen to fail when the norms that were gathered are left out of the state.
    """
    with TemporaryDirectory() as first, TemporaryDirectory() as second:

        def made(folder: str) -> torchflow.Run[Any, Any]:
            return run_of({name: make(Path(folder), every) for name, make in WATCHERS.items()}, "AdamW", "by updates", 1, step)

        whole = made(first)
        saved = [copied(whole.state()) for _ in torchflow.events(whole, epochs=2)]
        expected = copied(whole.state())
        cut = made(second)
        place = int(share * (len(saved) - 1))
        for number, _ in enumerate(torchflow.events(cut, epochs=2)):
            if number == place:
                break
        resumed = made(second)
        resumed.load_state(saved[place])
        assert len(list(torchflow.events(resumed, epochs=2))) > 0
        assert difference(copied(resumed.state()), expected) is None


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_profiled_run_is_the_same_run(accumulate: int, tmp_path: Path) -> None:
    """The optimizer takes its public way while torch's profiler looks, and the bits are the same."""
    profile = Profile(tmp_path / "trace.json", after=1, updates=2, shapes=True, memory=True)
    expected = reports(run_of({}, "AdamW", "none", accumulate, "supervised"), 2)
    assert difference(reports(run_of({"profile": profile}, "AdamW", "none", accumulate, "supervised"), 2), expected) is None
    assert (tmp_path / "trace.json").stat().st_size > 1000
