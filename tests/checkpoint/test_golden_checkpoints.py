"""Files that were written once must load for ever; a change of format gets a new version number, not new golden files."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import nn

from torchflow.checkpoint import load_model, read_checkpoint, read_encoder_states, write_checkpoint
from torchflow.checkpoint.run_file import read_run

GOLDEN = Path(__file__).parent / "golden"


def test_the_golden_checkpoint_loads() -> None:
    loaded = read_checkpoint(GOLDEN / "step-000000007")
    assert (loaded.step, loaded.parent) == (7, 5)
    assert loaded.environment == {
        "torch": "2.13.0",
        "device": "cpu",
        "cpu_capability": "AVX2",
        "threads": 2,
        "deterministic": True,
        "dtype": "float32",
    }
    state = dict(loaded.state)
    model = state.pop("model")
    weight = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    assert torch.equal(model["net.0.weight"], weight)
    assert torch.equal(model["net.0.tied"], weight)
    assert model["net.0.steps"].item() == 7
    assert model["net.0.steps"].shape == ()
    half, flags = state.pop("half"), state.pop("flags")
    assert half.dtype is torch.bfloat16
    assert half.view(torch.int16).tolist() == [0x3F00, -0x8000]
    assert flags.tolist() == [True, False]
    assert math.isnan(state.pop("unknown"))
    assert state == {
        "optimizer": {"betas": (0.9, 0.999), "lr": 0.1, "eps": 1e-08},
        "best": math.inf,
        "worst": -math.inf,
        "none": None,
        "yes": True,
        "count": 2**63,
        "text": "é ☃",
        "list": [1, [], {}],
    }


def test_the_golden_revision_loads() -> None:
    loaded = read_checkpoint(GOLDEN / "step-000000007-r1")
    assert loaded.state["empty"].shape == (0, 2)
    assert loaded.environment == {}


def test_the_golden_checkpoint_is_written_to_the_byte_as_before(tmp_path: Path) -> None:
    loaded = read_checkpoint(GOLDEN / "step-000000007")
    again = write_checkpoint(tmp_path, 7, loaded.state, loaded.parent, loaded.environment)
    for file in sorted((GOLDEN / "step-000000007").iterdir()):
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_the_golden_model_loads() -> None:
    model = load_model(GOLDEN / "model.safetensors", into=nn.Linear(2, 1))
    assert model.weight.tolist() == [[1.0, 2.0]]
    assert model.bias.tolist() == [3.0]
    table = read_encoder_states(GOLDEN / "model.safetensors")["table"]
    assert table["mean"].tolist() == [1.0, 2.0]
    assert table["names"] == ("a", "b")


def test_the_golden_run_file_loads() -> None:
    assert read_run(GOLDEN) == {"seed": 7, "data": {"length": 10, "order": "argsort-mix64/1"}, "betas": (0.9, math.nextafter(1, 0))}
