"""A plan says what will happen: its moments are the events of the run, in order, and making it changes nothing."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.laws.problems import OPTIMIZERS, LossSum, copied, difference, dropout_network, table
from tests.small import Recorder
from torchflow import Checkpoints, Every, Trainer, supervised
from torchflow.checkpoint import Store

EVERY = st.one_of(
    st.builds(Every, epochs=st.integers(1, 2)),
    st.builds(Every, updates=st.integers(1, 5)),
    st.builds(Every, samples=st.integers(1, 30)),
)
LIMITS = st.one_of(
    st.fixed_dictionaries({"epochs": st.integers(1, 3)}),
    st.fixed_dictionaries({"max_updates": st.integers(1, 12)}),
    st.fixed_dictionaries({"epochs": st.integers(1, 3), "max_updates": st.integers(1, 12)}),
)


class Traced(Recorder):
    """The trace of a run: every event but the gradients, with its progress, and every checkpoint with its updates."""

    def trace(self) -> list[tuple[str, Any]]:
        return [(type(event).__name__ if hook != "Saved" else hook, event) for hook, event in self.seen if hook != "on_gradients"]


def traced(trainer_options: dict[str, Any], folder: Path, save: Every | None, train: Any, **options: Any) -> list[tuple[str, Any]]:
    recorder = Traced()
    saver = None if save is None else Checkpoints(folder / "run", every=save, keep=1000, background=False)
    trainer = Trainer(
        supervised(nn.MSELoss()),
        optimizer=OPTIMIZERS["Adam"],
        callbacks=[recorder],
        checkpoints=saver,
        progress=False,
        **trainer_options,
    )
    publish = Store.publish

    def noted(store: Store, step: int, *arguments: Any, **named: Any) -> Any:
        recorder.seen.append(("Saved", step))
        return publish(store, step, *arguments, **named)

    with patch.object(Store, "publish", noted):
        trainer.fit(dropout_network(3), train, **options)
    return [(what, event if what == "Saved" else event.progress) for what, event in recorder.trace()]


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(2, 25),
    size=st.integers(2, 8),
    last_batch=st.sampled_from(["drop", "pad"]),
    accumulate=st.integers(1, 3),
    limits=LIMITS,
    validate=st.none() | EVERY,
    save=st.none() | EVERY,
)
def test_the_moments_of_a_plan_are_the_events_of_the_run(
    samples: int, size: int, last_batch: str, accumulate: int, limits: Any, validate: Every | None, save: Every | None
) -> None:
    """Seen to fail when the last, short window of an epoch is left out, when a validation at an epoch's end does not count as one of the
    epoch, and when the checkpoint at the end is told twice."""
    options = {
        **limits,
        "batch_size": min(size, samples),
        "last_batch": last_batch,
        "validation": None if validate is None else table(5, 3),
        "validate": validate,
    }
    with TemporaryDirectory() as folder:
        happened = traced({"accumulate": accumulate}, Path(folder), save, table(samples, 3), **options)
        saver = None if save is None else Checkpoints(Path(folder) / "planned", every=save)
        planner = Trainer(
            supervised(nn.MSELoss()), optimizer=OPTIMIZERS["Adam"], accumulate=accumulate, checkpoints=saver, progress=False
        )
        plan = planner.plan(dropout_network(3), table(samples, 3), **options)
        assert not (Path(folder) / "planned").exists()
    said = [(what, progress.updates if what == "Saved" else progress) for what, progress in plan.moments()]
    assert said == happened
    assert plan.updates is not None
    assert plan.counts["Stepped"] == sum(what == "Stepped" for what, _ in happened)


@pytest.mark.filterwarnings("ignore:the loss grows")  # L-BFGS may break out, which is no matter here
@settings(max_examples=15, deadline=None)
@given(
    accumulate=st.integers(1, 3),
    loader=st.booleans(),
    optimizer=st.sampled_from(["momentum", "Adam", "L-BFGS"]),
    given_as=st.booleans(),
)
def test_a_run_after_its_plan_equals_one_without(accumulate: int, loader: bool, optimizer: str, given_as: bool) -> None:
    """Seen to fail when the timed updates train the model itself, and when a DataLoader's generator is not put back."""

    def trained(planned: bool) -> Any:
        torch.manual_seed(3)
        model, observer = dropout_network(3), LossSum()
        recipe = OPTIMIZERS[optimizer]
        trainer = Trainer(
            supervised(nn.MSELoss()),
            optimizer=recipe(model) if given_as else recipe,
            accumulate=accumulate,
            callbacks=[observer],
            progress=False,
        )
        train: Any = table(23, 3)
        if loader:
            train = DataLoader(TensorDataset(*train), batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(5))
        options: Any = {"epochs": 2, "validation": table(5, 3), **({} if loader else {"batch_size": 4})}
        if planned:
            before = torch.get_rng_state()
            trainer.plan(model, train, **options)
            trainer.rehearse(model, train, **options)
            assert torch.equal(before, torch.get_rng_state())
            assert observer.calls == 0
        result = trainer.fit(model, train, **options)
        return copied(model.state_dict()), dict(result.history.last), dict(observer.state()), torch.get_rng_state()

    assert difference(trained(True), trained(False)) is None
