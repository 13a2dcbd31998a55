"""load_model() from the folder of a run: the newest checkpoint's weights, or those of the best."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.laws.problems import small_network, table
from tests.small import columns, line, reacting, sgd, trainer, weights
from torchflow import Checkpoints, Every, load_model
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
