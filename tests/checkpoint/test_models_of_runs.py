"""load_model() from the folder of a run: the newest checkpoint's weights, or those of the best."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from tests.laws.problems import small_network, table
from tests.small import columns, line, reacting, sgd, trainer, weights
from torchflow import EMA, SWA, Callback, Checkpoints, Every, load_model
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CheckpointError, MismatchError


@settings(max_examples=10, deadline=None)
@given(
    updates=st.integers(1, 9),
    every=st.integers(1, 4),
    keep=st.integers(2, 3),
    lr=st.floats(0.01, 3.0),
    mode=st.sampled_from(["min", "max"]),
)
def test_the_newest_and_the_best_weights_come_out_of_a_run(updates: int, every: int, keep: int, lr: float, mode: Any) -> None:
    """Seen to fail when the newest is read in place of the best."""
    seen: list[tuple[float, dict[str, Any]]] = []
    note = reacting("on_validation_end", lambda run, event: seen.append((event.metrics["valid/loss"], weights(run.model))))
    with TemporaryDirectory() as folder:
        rules = Checkpoints(folder, every=Every(updates=every), keep=keep, best="valid/loss", mode=mode, background=False)
        made = trainer(callbacks=[note], optimizer=sgd(lr), checkpoints=rules)
        result = made.fit(
            small_network(2), table(20, 2), batch_size=4, max_updates=updates, validation=table(9, 2), validate=Every(updates=1)
        )
        newest, best = small_network(2), small_network(2)
        assert load_model(folder, into=newest) is newest
        load_model(folder, into=best, best=True)
    assert weights(newest) == weights(result.model)
    assert weights(best) == (min if mode == "min" else max)(seen, key=lambda pair: pair[0])[1]


@settings(max_examples=8, deadline=None)
@given(
    updates=st.integers(1, 9),
    lr=st.floats(0.01, 3.0),
    start=st.sampled_from([None, Every(updates=2), Every(updates=99)]),
    validate=st.booleans(),
    best=st.booleans(),
)
@example(updates=5, lr=0.1, start=None, validate=True, best=False)
@example(updates=6, lr=0.1, start=Every(updates=2), validate=True, best=True)
def test_the_model_that_comes_out_of_a_run_is_the_one_that_validation_saw(
    updates: int, lr: float, start: Every | None, validate: bool, best: bool
) -> None:
    """And the trained weights, and those of the average, where they are asked for.

    Seen to fail when the trained weights are read whatever validation looks at.
    """
    seen: list[tuple[float, dict[str, Any]]] = []
    trained: list[dict[str, Any]] = []
    averages: list[dict[str, Any] | None] = []
    average = EMA(0.6, start_after=start, validate=validate, apply=False)
    note = reacting("on_validation_end", lambda run, event: seen.append((event.metrics["valid/loss"], weights(run.model))))

    def copy(run: Any, event: Any) -> None:
        trained.append(weights(run.model))
        averages.append(weights(average.averaged) if average.count else None)

    def loaded(**options: Any) -> dict[str, Any]:
        return weights(load_model(folder, into=small_network(2), best=best, **options))

    with TemporaryDirectory() as folder:
        rules = Checkpoints(folder, best="valid/loss", background=False)
        callbacks: dict[str, Callback] = {"ema": average, "note": note, "copy": reacting("on_step_end", copy)}
        made = trainer(callbacks=callbacks, optimizer=sgd(lr), checkpoints=rules)
        made.fit(
            small_network(2), table(20, 2), batch_size=4, max_updates=updates, validation=table(9, 2), validate=Every(updates=1)
        )
        place = min(range(updates), key=lambda number: seen[number][0]) if best else updates - 1
        assert loaded() == seen[place][1]
        assert loaded(average=False) == trained[place]
        if averages[place] is not None:
            assert loaded(average=True) == loaded(average="ema") == averages[place]
        else:
            with pytest.raises(
                CheckpointError, match=r"step-\d+ is from before the first average of 'ema'\. Its trained weights are"
            ):
                loaded(average=True)


def test_an_average_that_is_not_there_or_one_of_several_is_said(tmp_path: Path) -> None:
    trainer(checkpoints=tmp_path / "none").fit(line(), columns(), epochs=1)
    callbacks = {"ema": EMA(0.9), "slow": EMA(0.99), "swa": SWA()}
    trainer(callbacks=callbacks, checkpoints=tmp_path / "three").fit(line(), columns(), epochs=1)
    live = line()
    before = weights(live)
    with pytest.raises(
        CheckpointError, match=r"step-\d+ holds no average; EMA or SWA in a run keeps one\. Its trained weights are read with"
    ):
        load_model(tmp_path / "none", into=live, average=True)
    with pytest.raises(CheckpointError, match=r"holds no average called 'sma'; there are 'ema', 'slow', 'swa'\. Its trained"):
        load_model(tmp_path / "three", into=live, average="sma")
    with pytest.raises(
        ArgumentValueError, match=r"holds 3 averages, 'ema', 'slow', 'swa'\. Say which: average='ema'\. Its trained"
    ):
        load_model(tmp_path / "three", into=live, average=True)
    with pytest.raises(ArgumentValueError, match=r"holds 2 averages, 'ema', 'slow'\. Say which"):  # SWA() is not validated
        load_model(tmp_path / "three", into=live)
    with pytest.raises(ArgumentValueError, match=r"average='ema' is for the folder of a run, and .*model\.safetensors is none"):
        load_model(tmp_path / "model.safetensors", into=live, average="ema")
    with pytest.raises(ArgumentTypeError, match="average must be True, False, None or a callback's name such as 'ema', got 3"):
        load_model(tmp_path / "three", into=live, average=3)  # type: ignore[arg-type]
    assert weights(live) == before


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    trainer(checkpoints=tmp_path / "run").fit(line(), columns(), epochs=1)
    live = line()
    before = weights(live)
    with pytest.raises(CheckpointError, match=r"run has no best checkpoint; Checkpoints\('.*', best='valid/loss'\) keeps one"):
        load_model(tmp_path / "run", into=live, best=True)
    with pytest.raises(ArgumentValueError, match=r"best=True is for the folder of a run, and .*model\.safetensors is none"):
        load_model(tmp_path / "model.safetensors", into=live, best=True)
    with pytest.raises(ArgumentTypeError, match="best must be True or False"):
        load_model(tmp_path / "run", into=live, best=1)  # type: ignore[arg-type]
    assert weights(live) == before
    with pytest.raises(MismatchError, match=r"stored as a tensor \(1, 2\)"):
        load_model(tmp_path / "run", into=nn.Linear(3, 1))


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    trainer(checkpoints=Checkpoints(tmp_path, every=Every(updates=1), background=False)).fit(line(), columns(), max_updates=2)
    older, newer = sorted((tmp_path / "checkpoints").iterdir())[-2:]
    expected = load_model(tmp_path, into=line())
    (tensors,) = newer.glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.warns(UserWarning, match=newer.name):
        found = load_model(tmp_path, into=line())
    assert not torch.equal(found.weight, expected.weight)
    assert newer.exists(), "reading renames nothing"
    assert older.exists()
