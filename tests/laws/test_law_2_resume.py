"""Law 2, in process. A run that is cut at any event and resumed ends bit-equal to the run that nobody disturbed.

Compared is everything: parameters, buffers, optimizer, scheduler, callbacks with their best weights, history, running sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, ReduceLROnPlateau, StepLR

from tests.laws.problems import OPTIMIZERS, LossSum, MovingAverage, copied, difference, dropout_network, table
from torchflow import (
    EMA,
    SWA,
    Callback,
    Checkpoints,
    EarlyStopping,
    Event,
    Every,
    Finished,
    Freeze,
    Outputs,
    Run,
    Schedule,
    Trainer,
    Unfreeze,
    data,
    events,
    load,
    metrics,
    save,
    supervised,
)
from torchflow.data import Dataset
from torchflow.trainer import blueprint_of, trainer_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:the loss grows"),  # some of the drawn runs break out, which is no matter here
    pytest.mark.filterwarnings("ignore:(EMA|SWA) averaged nothing"),  # a run may stop before its first epoch ends
    pytest.mark.filterwarnings(r"ignore:(EMA|SWA)\(apply=True\) and EarlyStopping"),  # best weights that are no averages
]


def jittered(sample: tuple[Tensor, Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random augmentation."""
    x, y = sample
    return x + 0.1 * torch.randn(x.shape, generator=generator), y


def hiding(samples: list[tuple[Tensor, Tensor]]) -> Any:
    """A collate of a user's own that draws from torch's global generator."""
    x, y = data.collate(samples)
    return x * (torch.rand(x.shape) < 0.8), y


def mixing_step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Outputs:
    """A step of a user's own that draws from NumPy's global generator."""
    x, y = batch
    factor = float(np.random.uniform(0.5, 1.5))
    predictions = model(factor * x)
    return Outputs((predictions - y).square().mean(), metrics={"factor": torch.tensor(factor)})


SCHEDULES: dict[str, Any] = {
    "none": None,
    "by epochs": lambda optimizer: StepLR(optimizer, step_size=1, gamma=0.5),
    "by updates": Schedule(lambda optimizer, plan: CosineAnnealingLR(optimizer, T_max=7), every=Every(updates=1)),
    "one cycle": Schedule(lambda optimizer, plan: OneCycleLR(optimizer, 0.05, total_steps=1000), every=Every(updates=2)),
    "plateau": Schedule(lambda optimizer, plan: ReduceLROnPlateau(optimizer, patience=0), metric="valid/loss"),
    "plateau on train": Schedule(lambda optimizer, plan: ReduceLROnPlateau(optimizer, patience=0), metric="train/loss"),
}


CHANGING: dict[str, Callable[[], list[Callback]]] = {
    "nothing": list,
    "averages": lambda: [EMA(0.8, warm_up=True), SWA(Every(updates=2), every=Every(updates=3), apply=False)],
    "averages of epochs": lambda: [SWA(validate=True), EMA(0.6, every=Every(samples=7), buffers="average", validate=False)],
    "frozen": lambda: [Freeze("0", "*.bias"), EMA(0.9)],
    "released": lambda: [Unfreeze(["1", "0"], every=Every(updates=3)), SWA(every=Every(updates=1), statistics=False)],
    "released by epochs": lambda: [Unfreeze([["0", "1"]])],
}


@dataclass(frozen=True)
class Setting:
    """A drawn training."""

    rows: int
    batch_size: int
    accumulate: int
    epochs: int
    optimizer: str
    schedule: str
    validate: Every
    step: str
    patience: int
    seed: int
    changing: str = "nothing"
    precision: str = "float32"
    recomputed: tuple[str, ...] | None = None
    hides: bool = False

    def trainer(self, checkpoints: Checkpoints | None = None) -> Trainer[nn.Module, Any]:
        step: Any = mixing_step
        if self.step == "supervised":
            step = supervised(nn.MSELoss(), metrics={"error": metrics.absolute_error, "r2": metrics.R2()})
        return Trainer(
            step,
            optimizer=OPTIMIZERS[self.optimizer],
            scheduler=SCHEDULES[self.schedule],
            accumulate=self.accumulate,
            clip_norm=1.0,
            callbacks=[
                *CHANGING[self.changing](),
                EarlyStopping("valid/loss", patience=self.patience, restore_best=True),
                LossSum(),
                MovingAverage(),
            ],
            checkpoints=checkpoints,
            progress=False,
            precision=self.precision,
            activation_checkpointing=self.recomputed,
            seed=self.seed,
        )

    def data(self) -> dict[str, Any]:
        train: Dataset[Any] = data.from_tensors(*table(self.rows, 3)).map_random(jittered)
        return {
            "train": train,
            "batch_size": self.batch_size,
            "last_batch": "drop",  # BatchNorm learns nothing from a last batch of one sample
            "validation": table(9, 3, seed=5),
            "validate": self.validate,
            "collate": hiding if self.hides else None,
        }

    def run(self) -> Run[nn.Module, Any]:
        return self.trainer().start(dropout_network(3), **self.data())


INTERVALS = st.one_of(
    st.builds(Every, epochs=st.integers(1, 2)),
    st.builds(Every, updates=st.integers(1, 4)),
    st.builds(Every, samples=st.integers(1, 20)),
)
NAMES = st.sampled_from(["SGD", "momentum", "Adam", "AdamW", "RMSprop", "Adam fused", "two groups"])
SETTINGS = st.builds(
    Setting,
    rows=st.integers(8, 26),
    batch_size=st.integers(2, 8),
    accumulate=st.integers(1, 4),
    epochs=st.integers(1, 3),
    optimizer=NAMES,
    schedule=st.sampled_from(sorted(SCHEDULES)),
    validate=INTERVALS,
    step=st.sampled_from(["supervised", "mixing"]),
    patience=st.integers(1, 4),
    seed=st.integers(0, 2**63 - 1),
    changing=st.sampled_from(sorted(CHANGING)),
    precision=st.sampled_from(["float32", "float32", "bf16", "fp16", "float64"]),
    recomputed=st.sampled_from([None, None, ("1", "3")]),
    hides=st.booleans(),
)


def end_of(run: Run[nn.Module, Any], epochs: int, each: Callable[[Event], None] = lambda event: None) -> tuple[Any, str]:
    """Train to the end; return the whole state and the reason."""
    reason = ""
    for event in events(run, epochs=epochs):
        each(event)
        if isinstance(event, Finished):
            reason = event.reason
    return copied(run.state()), reason


@settings(max_examples=25, deadline=None)
@given(setting=SETTINGS)
def test_a_run_cut_at_every_event_and_resumed_ends_equal(setting: Setting) -> None:
    """Every event is a safe point: the state at its yield holds all that the rest of the run depends on.

    Seen to fail when forward passes are not keyed, when a collate is not, when ``validated`` is left out of the state, when the running sums of
    an epoch are, and when a run that is entered again does not first finish what was due where it was left.
    """
    whole, saved = setting.run(), []
    expected = end_of(whole, setting.epochs, each=lambda event: saved.append((type(event).__name__, copied(whole.state()))))
    for number, (name, state) in enumerate(saved):
        resumed = setting.run()
        resumed.load_state(state)
        if name == "Finished":  # the best weights are back in the model, and there is nothing left to do
            assert end_of(resumed, setting.epochs)[1] == expected[1]
            continue
        found = end_of(resumed, setting.epochs)
        assert difference(found, expected) is None, f"cut at event {number}, {name}"


@settings(max_examples=40, deadline=None)
@given(setting=SETTINGS)
@example(
    Setting(
        rows=8, batch_size=2, accumulate=1, epochs=1, optimizer="Adam", schedule="by epochs", validate=Every(updates=1), step="mixing",
        patience=2, seed=1,
    )
)  # stops at the last boundary of an epoch  # fmt: skip
def test_a_loop_left_at_every_event_and_entered_again_ends_equal(setting: Setting) -> None:
    """``break`` at any yield, go on later with another call on the same run.

    Seen to fail when a run that is entered again does not first finish what was due where it was left.
    """
    counted: list[str] = []
    expected = end_of(setting.run(), setting.epochs, each=lambda event: counted.append(type(event).__name__))
    for leave in range(len(counted) - 1):
        run = setting.run()
        for number, _ in enumerate(events(run, epochs=setting.epochs)):
            if number == leave:
                break
        assert difference(end_of(run, setting.epochs), expected) is None, f"left at event {leave}, {counted[leave]}"


@settings(max_examples=10, deadline=None)
@given(setting=SETTINGS, share=st.floats(0, 0.99))
def test_a_run_saved_to_files_and_loaded_ends_equal(setting: Setting, share: float) -> None:
    """The same through safetensors and JSON, at one drawn event.

    Seen to fail when floats are written with 15 digits.
    """
    total = len([None for _ in events(setting.run(), epochs=setting.epochs)])
    expected = end_of(setting.run(), setting.epochs)
    with TemporaryDirectory() as folder:
        run = setting.run()
        for number, _ in enumerate(events(run, epochs=setting.epochs)):
            if number == int(share * (total - 1)):
                save(run, Path(folder) / "run")
                break
        resumed = setting.run()
        load(resumed, Path(folder) / "run")
        assert difference(end_of(resumed, setting.epochs), expected) is None


class Killed(BaseException):
    """Stands for the end of the process."""


@settings(max_examples=12, deadline=None)
@given(setting=SETTINGS, kills=st.lists(st.integers(1, 6), max_size=4), every=INTERVALS)
def test_a_fit_killed_again_and_again_ends_equal(setting: Setting, kills: list[int], every: Every) -> None:
    """``fit(resume=True)`` goes on from the last checkpoint, whatever has happened since it was written.

    Seen to fail when a resumed run does not put the optimizer's state back.
    """
    reference = setting.trainer().fit(dropout_network(3), epochs=setting.epochs, **setting.data())
    with TemporaryDirectory() as folder:
        model = dropout_network(3)
        for updates in kills:
            trainer = setting.trainer(Checkpoints(Path(folder) / "run", every=every, on_exception=False))
            remaining = [updates]

            def step(model: nn.Module, batch: Any, own: Any = trainer.step, remaining: list[int] = remaining) -> Any:
                if model.training:
                    remaining[0] -= 1
                    if remaining[0] < 0:
                        raise Killed
                return own(model, batch)

            step.metrics = getattr(trainer.step, "metrics", {})  # type: ignore[attr-defined]
            trainer = trainer_of(replace(blueprint_of(trainer), step=step))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("logging.Logger.warning", lambda *arguments: None)
                try:
                    trainer.fit(model, epochs=setting.epochs, resume=True, **setting.data())
                except Killed:
                    model = dropout_network(3, seed=99)  # whatever weights the next process starts from
        trainer = setting.trainer(Checkpoints(Path(folder) / "run", every=every))
        result = trainer.fit(model, epochs=setting.epochs, resume=True, **setting.data())
        assert result.reason == reference.reason
        assert result.progress == reference.progress
        assert difference(list(result.history.rows), list(reference.history.rows)) is None
        assert difference(result.model.state_dict(), reference.model.state_dict()) is None


def test_schedules_are_recipes_of_torch() -> None:
    """What the settings draw from is what it says."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    assert isinstance(SCHEDULES["by epochs"](optimizer), LRScheduler)
