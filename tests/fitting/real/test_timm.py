"""Models of timm, with random weights: left and resumed, with paths that are dropped by chance and statistics of batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.fitting.libraries import is_there
from torchflow import Checkpoints, Every, Trainer, load_model, save_model, summary, supervised

if not is_there("timm"):
    pytest.skip("timm is in the environment of `make fitting`", allow_module_level=True)

import timm

MODELS: dict[str, Any] = {
    "statistics of batches": lambda: timm.create_model("test_resnet", num_classes=3, drop_path_rate=0.3),
    "attention": lambda: timm.create_model("test_vit", num_classes=3, img_size=32, drop_path_rate=0.3),
    "layer scale": lambda: timm.create_model("test_convnext", num_classes=3, drop_path_rate=0.3),
}


def pictures() -> Any:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(24, 3, 32, 32, generator=generator), torch.randint(3, (24,), generator=generator)


def trainer(folder: Path | None = None) -> Trainer[Any, Any]:
    return Trainer(
        supervised(nn.CrossEntropyLoss()),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=0.001),
        memory_format="channels_last",
        checkpoints=None if folder is None else Checkpoints(folder, every=Every(updates=1)),
        progress=False,
    )


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_is_left_in_mid_epoch_ends_equal_and_is_read_back(name: str, tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole").fit(MODELS[name], pictures(), epochs=2, batch_size=8, validation=pictures()).model
    options: dict[str, Any] = {"batch_size": 8, "validation": pictures()}
    trainer(tmp_path / "parts").fit(MODELS[name], pictures(), max_updates=2, **options)
    parts = trainer(tmp_path / "parts").fit(MODELS[name], pictures(), epochs=2, resume=True, **options).model
    save_model(whole, tmp_path / "model.safetensors")
    read = load_model(tmp_path / "model.safetensors", into=MODELS[name]())
    for key, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[key], value), key
        assert torch.equal(read.state_dict()[key], value), key


@pytest.mark.parametrize("name", MODELS)
def test_the_summary_counts_what_timm_counts(name: str) -> None:
    model = MODELS[name]()
    assert summary(model, pictures()[0][:2]).trained == sum(parameter.numel() for parameter in model.parameters())
