"""Statistics for each channel of pictures, whatever their sizes, learnt from the training split and saved with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.data.pictures import noise, png, write
from torchflow import data, save_model
from torchflow.data.encoders import Standardized
from torchflow.errors import ArgumentTypeError, DataError


@given(sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=8), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_a_channel_has_one_mean_and_one_spread_over_all_its_pixels(sizes: list[tuple[int, int]], seed: int) -> None:
    """Against all pixels in one row. Fails if pictures count alike whatever their sizes."""
    made = np.random.default_rng(seed)
    arrays = [made.normal(3, 2, (*size, 3)) for size in sizes]
    scale = data.Standardize(None, axes=(-2, -1)).fit(data.from_images(arrays, dtype=torch.float64))
    pixels = np.concatenate([array.reshape(-1, 3) for array in arrays])
    assert scale.mean.shape == scale.std.shape == (3, 1, 1)
    assert np.allclose(scale.mean.flatten(), pixels.mean(0), rtol=1e-10)
    spread = pixels.std(0) if len(pixels) > 1 else np.ones(3)
    assert np.allclose(scale.std.flatten(), spread, rtol=1e-10)


def test_samples_and_batches_are_scaled_alike_and_back() -> None:
    images = data.from_images(noise(6, 4, 5, 3), labels=list("abcabc"))
    train, test = images.take(4), images.skip(4)
    scale = data.Standardize(axes=(1, 2)).fit(train)
    for part in (train, test):
        batch = part.map_batch(scale).take_batch(range(len(part)))[0]
        for index, (image, _) in enumerate(part.map(scale)):
            assert torch.equal(image, batch[index])
    scaled = train.map_batch(scale).take_batch(range(4))[0]
    assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(scaled.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5)
    assert torch.allclose(scale.inverse(scaled), train.take_batch(range(4))[0], atol=1e-6)
    after = train.map_batch(scale).schema
    assert after is not None
    assert after["image"].dims == ("channel", "height", "width")


def test_the_statistics_are_saved_with_the_model(tmp_path: Path) -> None:
    train = data.from_images(noise(4, 4, 5, 3), labels=list("abcd"))
    scale = data.Standardize(axes=(-2, -1)).fit(train)
    save_model(nn.Linear(1, 1), tmp_path / "m.safetensors", encoders={"images": scale})
    again = data.load_encoders(tmp_path / "m.safetensors")["images"]
    assert isinstance(again, Standardized)
    assert torch.equal(again(train[0])[0], scale(train[0])[0])


def test_large_pictures_are_fitted_a_few_at_a_time(tmp_path: Path) -> None:
    """Fails if thousands of pictures are read into one batch, which no memory holds."""
    paths = [write(tmp_path / f"{number}.png", png(noise(30, 40, 3, seed=number))) for number in range(9)]
    sizes: list[int] = []

    class Watching(data.Dataset[Any]):
        def take_batch(self, indices: Any, draw: Any = None) -> Any:
            sizes.append(len(indices))
            return super().take_batch(indices, draw)

    from torchflow.data import fields  # noqa: PLC0415, used here alone

    pictures = data.from_images(paths)
    watched = Watching(pictures.source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "_ELEMENTS_AT_ONCE", 4 * 30 * 40 * 3)
        scale = data.Standardize(None).fit(watched)
    assert sizes == [4, 4, 1]
    whole: Tensor = torch.stack(list(pictures)).double()
    assert torch.allclose(scale.mean, whole.mean(0))


@pytest.mark.parametrize("axes", [(3,), (-4,), (0, 0), (0, -3)])
def test_axes_that_are_not_there_or_twice_are_refused(axes: tuple[int, ...]) -> None:
    with pytest.raises((DataError, ArgumentTypeError), match=r"axes.* (dimensions of a sample)"):
        data.Standardize(None, axes=axes).fit(data.from_images(noise(2, 4, 5, 3)))


@pytest.mark.parametrize("axes", ["height", 1.5, [None], True])
def test_axes_are_whole_numbers(axes: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"axes must be dimensions of a sample such as \(-2, -1\)"):
        data.Standardize(None, axes=axes)
