"""Law 3. Observers do not disturb: whatever watches a run, its parameters are the same to the last bit."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.laws.problems import OPTIMIZERS, LossSum, copied, difference, dropout_network, table
from torchflow import Callback, Checkpoints, EarlyStopping, Every, Run, Stepped, Trainer, events, metrics, supervised, update
from torchflow.hooks import HOOKS

pytestmark = pytest.mark.filterwarnings("ignore:the loss grows")  # some of the drawn runs break out, which is no matter here

EVERY = st.one_of(
    st.builds(Every, epochs=st.integers(1, 2)),
    st.builds(Every, updates=st.integers(1, 5)),
    st.builds(Every, samples=st.integers(1, 30)),
)


class Nosy(Callback):
    """Draws from every global generator, evaluates, predicts and reads in every hook that it is called in."""

    def __init__(self, hooks: frozenset[str], other: Trainer[Any, Any]) -> None:
        for hook in hooks:
            setattr(self, hook, self._look)
        self._other = other

    def _look(self, run: Run[Any, Any], event: Any) -> None:
        torch.rand(3)
        np.random.rand(2)
        random.random()
        flags = [module.training for module in run.model.modules()]
        self._other.evaluate(run.model, table(5, 3))
        self._other.predict(run.model, table(5, 3), batch_size=2)
        assert [module.training for module in run.model.modules()] == flags
        copied(run.state())


def trained(observers: dict[str, Callback], validation: Any, validate: Every | None, folder: Path | None, **fitted: Any) -> Any:
    trainer = Trainer(
        supervised(nn.MSELoss(), metrics={"error": metrics.absolute_error} if validation else {}),
        optimizer=OPTIMIZERS["Adam"],
        accumulate=fitted.pop("accumulate"),
        callbacks=observers,
        checkpoints=None if folder is None else Checkpoints(folder / "run", every=validate),
        progress=folder is not None,
    )
    result = trainer.fit(
        dropout_network(3), table(23, 3), validation=validation, validate=validate, last_batch="drop", batch_size=4, **fitted
    )
    return result.model.state_dict(), result.progress[:4]


@settings(max_examples=25, deadline=None)
@given(
    hooks=st.frozensets(st.sampled_from([hook for hook in HOOKS if hook != "on_exception"])),
    order=st.permutations(["nosy", "sum", "stopping"]),
    validations=st.integers(0, 2),
    validate=EVERY,
    accumulate=st.integers(1, 3),
    epochs=st.integers(1, 3),
)
def test_a_watched_run_equals_an_unwatched_one(
    hooks: frozenset[str], order: list[str], validations: int, validate: Every, accumulate: int, epochs: int
) -> None:
    """Validation, logging, progress, checkpoints, evaluation and prediction, in any number, order and interval.

    Seen to fail when evaluation leaves the model in evaluation mode, when it does not put the random state back and forward
    passes are not keyed, and when a validation pass goes through the running sums of the training data.
    """
    observers: dict[str, Callback] = {
        "nosy": Nosy(hooks, Trainer(supervised(nn.MSELoss()), optimizer=OPTIMIZERS["SGD"], progress=False, seed=5)),
        "sum": LossSum(),
        "stopping": EarlyStopping("train/loss", patience=1000),
    }
    names = {0: None, 1: table(7, 3, seed=5), 2: {"valid": table(7, 3, seed=5), "other": table(3, 3, seed=6)}}
    plain = trained({}, None, None, None, accumulate=accumulate, epochs=epochs)
    with TemporaryDirectory() as folder:
        chosen = {name: observers[name] for name in order}
        watched = trained(chosen, names[validations], validate, Path(folder), accumulate=accumulate, epochs=epochs)
    assert difference(watched, plain) is None


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(["nosy", "sum", "again"]), epochs=st.integers(1, 2))
def test_the_order_of_observers_makes_no_difference(order: list[str], epochs: int) -> None:
    """Each observer ends in the same state, whoever was called before it.

    Seen to fail when only the first callback hears of an update.
    """
    states = []
    for names in (["nosy", "sum", "again"], order):
        nosy = Nosy(frozenset({"on_step_end"}), Trainer(supervised(nn.MSELoss()), optimizer=OPTIMIZERS["SGD"], progress=False))
        observers: dict[str, Callback] = {"nosy": nosy, "sum": LossSum(), "again": LossSum()}
        trainer = Trainer(
            supervised(nn.MSELoss()), optimizer=OPTIMIZERS["SGD"], callbacks={n: observers[n] for n in names}, progress=False
        )
        trainer.fit(dropout_network(3), table(12, 3), epochs=epochs, batch_size=4)
        states.append({name: dict(observers[name].state()) for name in ("sum", "again")})
    assert difference(states[0], states[1]) is None


@settings(max_examples=10, deadline=None)
@given(epochs=st.integers(1, 3))
def test_the_process_is_as_it_was_after_fit(epochs: int) -> None:
    """Global random state, training flags and deterministic switches are put back.

    Seen to fail when the session does not restore NumPy's state.
    """
    model = dropout_network(3)
    model[1].eval()  # type: ignore[index]  # a part that its owner froze in evaluation mode
    flags = [module.training for module in model.modules()]
    before = (torch.get_rng_state(), np.array(np.random.get_state(legacy=True)[1]), random.getstate())  # type: ignore[index]
    deterministic = torch.are_deterministic_algorithms_enabled()
    trained_by = Trainer(supervised(nn.MSELoss()), optimizer=OPTIMIZERS["SGD"], progress=False)
    trained_by.fit(model, table(12, 3), epochs=epochs, validation=table(3, 3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.array(np.random.get_state(legacy=True)[1]), before[1])  # type: ignore[index]
    assert random.getstate() == before[2]
    assert [module.training for module in model.modules()] == flags
    assert torch.are_deterministic_algorithms_enabled() == deterministic


@pytest.mark.parametrize("accumulate", [1, 2])
def test_nobody_writes_to_a_reported_loss_again(accumulate: int) -> None:
    """The tensors of all Stepped events keep their values to the end of the run.

    Seen to fail when every event carries the same buffer.
    """
    trainer = Trainer(supervised(nn.MSELoss()), optimizer=OPTIMIZERS["Adam"], accumulate=accumulate, progress=False)
    run = trainer.start(dropout_network(3), table(200, 3), batch_size=4)
    kept = [(event.loss, event.loss.item()) for event in events(run, epochs=3) if isinstance(event, Stepped)]
    assert len(kept) > 70
    assert all(loss.item() == value and loss.shape == () and not loss.requires_grad for loss, value in kept)


def test_an_update_waits_for_no_log(monkeypatch: Any) -> None:
    """Between two epochs' ends, nothing but the check for finite values reads a number from the device."""
    trainer = Trainer(supervised(nn.MSELoss(), metrics={"e": metrics.absolute_error}), optimizer=OPTIMIZERS["SGD"], progress=False)
    run = trainer.start(dropout_network(3), table(64, 3), batch_size=8)
    reads: list[int] = []
    read = torch.Tensor.item

    def counted(tensor: Tensor) -> Any:
        reads.append(1)
        return read(tensor)

    monkeypatch.setattr(torch.Tensor, "item", counted)
    batch = next(run.batches.epoch(0))
    update(run, [batch])
    first = len(reads)
    for _ in range(5):
        update(run, [batch])
    assert first <= 2
    assert len(reads) == 6 * first
