"""Random transforms do what they say, as often as they say, alike for a picture and its mask, and by their keys alone."""

from __future__ import annotations

import colorsys
import math
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from torch import Tensor, nn
from torch.nn import functional

from tests.data.pictures import smooth
from torchflow import data
from torchflow.data import Draw, augment, batches_of
from torchflow.data.augment import (
    Affine,
    ColorJitter,
    Compose,
    Crop,
    Erase,
    Flip,
    Keyed,
    Noise,
    ResizedCrop,
    Rotate,
    Sometimes,
    Transform,
)
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError
from torchflow.randomness import Keys, generator

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 12)


def places(height: int, width: int) -> Tensor:
    """A picture whose values say where they are: row and column."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack((y, x)).float()


def picture(height: int = 24, width: int = 32) -> Tensor:
    return torch.from_numpy(smooth(height, width).transpose(2, 0, 1).copy()).float() / 255


def eight_bits(image: Tensor) -> Image.Image:
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def whole(image: Tensor, transform: Callable[[Any, torch.Generator], Any], seed: int = 0) -> Tensor:
    """What a transform of the sample itself makes of a picture."""
    made: Tensor = transform(image, generator(seed))
    return made


ALL: list[Callable[..., Transform]] = [
    Flip,
    lambda **field: Flip("vertical", probability=0.3, **field),
    lambda **field: Crop(5, padding=3, **field),
    lambda **field: ResizedCrop((6, 7), **field),
    lambda **field: Rotate(30, **field),
    lambda **field: Affine(10, translate=0.2, scale=0.3, shear=5, **field),
    lambda **field: ColorJitter(0.4, 0.4, 0.4, 0.1, **field),
    Erase,
]


@pytest.mark.parametrize("make", ALL)
@given(seed=SEEDS, height=st.integers(5, 12), width=st.integers(5, 12))
@settings(deadline=None, max_examples=12)
def test_as_many_numbers_are_drawn_for_every_picture(make: Callable[..., Transform], seed: int, height: int, width: int) -> None:
    """So that a mask of another size, or a picture that is not flipped, does not shift what comes after.

    Fails if a transform that is not applied returns before it draws.
    """
    first, second = generator(seed), generator(seed)
    image = torch.rand(3, height, width)
    kept = image.clone()
    make(field=None)(image, first)
    make(field=None)(torch.rand(3, 9, 9), second)
    assert torch.equal(first.get_state(), second.get_state())
    assert torch.equal(image, kept)


@pytest.mark.parametrize("make", ALL)
def test_fields_of_one_sample_and_maps_of_one_name_are_transformed_alike(make: Callable[..., Transform]) -> None:
    images = torch.rand(6, 3, 9, 9)
    together = data.from_tensors(images, images).map_random(make(field=(0, 1)))
    for one, other in together:
        assert torch.equal(one, other)
    left, right = (data.from_tensors(images).map_random(make(field=None), name="augment") for _ in range(2))
    for one, other in left.zip(right):
        assert torch.equal(one, other)
    apart = data.from_tensors(images).map_random(make(field=None)).zip(data.from_tensors(images).map_random(make(field=None)))
    assert any(not torch.equal(one, other) for one, other in apart)


@pytest.mark.parametrize("make", ALL)
def test_transforms_travel_to_other_processes_and_say_what_they_are(make: Callable[..., Transform]) -> None:
    transform = make(field=None)
    again = pickle.loads(pickle.dumps(transform))
    assert torch.equal(whole(picture(), transform, 5), whole(picture(), again, 5))
    assert repr(again) == repr(transform)
    assert repr(transform).startswith(f"{type(transform).__name__}(")


@pytest.mark.parametrize(("axis", "dim"), [("horizontal", 2), ("vertical", 1)])
def test_a_flip_mirrors_as_often_as_it_says(axis: str, dim: int) -> None:
    image = places(4, 5)
    flipped = [torch.equal(whole(image, Flip(axis, probability=0.3, field=None), seed), image.flip(dim)) for seed in range(4000)]
    assert abs(sum(flipped) / 4000 - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 4000)
    for seed in range(20):
        assert torch.equal(whole(image, Flip(axis, probability=0, field=None), seed), image)
        assert torch.equal(whole(image, Flip(axis, probability=1, field=None), seed), image.flip(dim))


@given(height=SIZES, width=SIZES, size=st.tuples(SIZES, SIZES), padding=st.integers(0, 4), seed=SEEDS)
@settings(deadline=None, max_examples=60)
def test_a_crop_is_a_window_of_the_padded_picture(height: int, width: int, size: tuple[int, int], padding: int, seed: int) -> None:
    image, crop = places(height, width), Crop(size, padding=padding, fill=-1, field=None)
    if size[0] > height + 2 * padding or size[1] > width + 2 * padding:
        with pytest.raises(DataError, match=r"Crop cannot cut .* its padding included\. Use a smaller size"):
            whole(image, crop, seed)
        return
    padded = functional.pad(image, (padding,) * 4, value=-1)
    windows = padded.unfold(1, size[0], 1).unfold(2, size[1], 1)  # (2, down, right, *size)
    assert (windows == whole(image, crop, seed)[:, None, None]).all(-1).all(-1).all(0).any()


def test_every_place_of_a_crop_is_as_likely_as_any_other() -> None:
    """Fails if the last place is left out, or comes half as often, as rounding would have it."""
    image, crop = places(6, 7), Crop((3, 5), field=None)
    corners = [tuple(whole(image, crop, seed)[:, 0, 0].int().tolist()) for seed in range(6000)]
    counts = np.array([corners.count((top, left)) for top in range(4) for left in range(3)])
    assert counts.sum() == 6000
    assert ((counts - 500) ** 2 / 500).sum() < 31.3  # chi-squared, 11 degrees of freedom, one in a thousand


def test_a_resized_crop_is_a_window_that_was_resized() -> None:
    """The windows' areas are uniform in their range; fails if their sides are."""
    image = places(60, 60)
    areas = []
    for seed in range(800):
        made = whole(image, ResizedCrop(8, scale=(0.1, 0.5), ratio=(1, 1), resample="nearest", field=None), seed)
        step = (made[0, -1, 0] - made[0, 0, 0]) / 7  # rows of the window for each of the result
        areas.append(float((step * 8 / 60) ** 2))
        assert set(made[0].unique().tolist()) <= set(range(60))
    assert abs(np.mean(areas) - 0.3) < 0.02
    assert 0.06 < min(areas) < 0.14
    assert 0.44 < max(areas) < 0.58
    whole_picture = ResizedCrop((30, 40), scale=(1, 1), ratio=(2, 2), field=None)
    expected = functional.interpolate(picture(20, 40)[None], size=(30, 40), mode="bilinear", antialias=True)[0]
    assert torch.allclose(whole(picture(20, 40), whole_picture), expected, atol=1e-6)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, -1])
def test_rotation_by_right_angles_is_exact_and_counter_clockwise(turns: int) -> None:
    image = torch.rand(3, 9, 9)
    made = whole(image, Rotate((90.0 * turns, 90.0 * turns), field=None))
    assert torch.allclose(made, image.rot90(turns, (1, 2)), atol=1e-5)


@pytest.mark.parametrize("degrees", [17.0, -40.0])
def test_rotation_is_pillow_s(degrees: float) -> None:
    image = picture(40, 50)
    made = whole(image, Rotate((degrees, degrees), field=None))
    expected = torch.from_numpy(
        np.stack([np.asarray(Image.fromarray(plane.numpy()).rotate(degrees, Image.Resampling.BILINEAR)) for plane in image])
    )
    inside = whole(torch.ones_like(image), Rotate((degrees, degrees), field=None)) > 0.999
    assert inside.float().mean() > 0.5
    assert (made - expected)[inside].abs().max() < 1e-3


def test_an_affine_map_is_pillow_s() -> None:
    """Scale, shear and shift together, against Pillow's transform by the inverse that is written out here."""
    image, scale, shear = picture(40, 50), 1.3, math.radians(12)
    shift = Affine((25, 25), translate=(0.1, 0.1), scale=(scale, scale), shear=(12, 12), field=None)
    angle = math.radians(25)
    forward = (
        scale
        * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        @ np.array([[1, -math.tan(shear)], [0, 1]])
    )
    inverse = np.linalg.inv(forward)
    centre, moved = np.array([25.0, 20.0]), np.array([0.1 * 50, 0.1 * 40])
    offset = centre - inverse @ (centre + moved)
    coefficients = (inverse[0, 0], inverse[0, 1], offset[0], inverse[1, 0], inverse[1, 1], offset[1])
    planes = [
        Image.fromarray(plane.numpy()).transform((50, 40), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
        for plane in image
    ]
    inside = whole(torch.ones_like(image), shift) > 0.999
    assert inside.float().mean() > 0.5
    difference = whole(image, shift) - torch.from_numpy(np.stack([np.asarray(plane) for plane in planes]))
    assert difference[inside].abs().max() < 1e-3


def test_a_shift_by_whole_pixels_moves_them_and_fills_the_rest() -> None:
    image = torch.rand(1, 8, 10)
    made = whole(image, Affine(translate=(0.5, 0.5), fill=7, field=None))
    assert torch.allclose(made[:, 4:, 5:], image[:, :4, :5], atol=1e-5)
    assert torch.allclose(made[:, :4], torch.tensor(7.0))


@given(seed=SEEDS, kind=st.sampled_from([torch.uint8, torch.int64, torch.bool]))
@settings(deadline=None, max_examples=20)
def test_masks_keep_their_classes(seed: int, kind: torch.dtype) -> None:
    """Fails if masks are interpolated: between classes 2 and 9 there is no class 5."""
    mask = (torch.randint(0, 2, (9, 9)) * 7 + 2).type(kind)
    for transform in (
        Rotate(45, fill=2, field=None),
        ResizedCrop(5, field=None),
        Affine(30, shear=20, scale=0.5, fill=2, field=None),
    ):
        made = whole(mask, transform, seed)
        assert made.dtype is kind
        assert made.ndim == 2
        assert set(made.unique().tolist()) <= set(mask.unique().tolist()) | {2 if kind is not torch.bool else True}


def test_half_precision_is_computed_in_full() -> None:
    image = picture().half()
    made = whole(image, Rotate((20, 20), field=None))
    assert made.dtype is torch.float16
    assert torch.allclose(made.float(), whole(image.float(), Rotate((20, 20), field=None)), atol=1e-3)


@pytest.mark.parametrize(
    ("name", "enhance"),
    [("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast), ("saturation", ImageEnhance.Color)],
)
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.5])
def test_colours_change_as_pillow_changes_them(name: str, enhance: Any, factor: float) -> None:
    image = picture()
    options: dict[str, Any] = {name: (factor, factor)}
    made = whole(image, ColorJitter(**options, field=None))
    expected = torch.from_numpy(np.asarray(enhance(eight_bits(image)).enhance(factor)).copy()).permute(2, 0, 1) / 255
    assert (made - expected).abs().max() < 2.5 / 255  # Pillow rounds, its mean grey too


@given(turns=st.floats(-0.5, 0.5), colour=st.tuples(*[st.floats(0, 1, width=32)] * 3))
@settings(deadline=None, max_examples=80)
def test_hue_is_turned_as_in_colorsys(turns: float, colour: tuple[float, float, float]) -> None:
    image = torch.tensor(colour, dtype=torch.float64)[:, None, None]
    made = whole(image, ColorJitter(hue=(turns, turns), field=None))
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)
    expected = colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)
    assert made.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_grey_pictures_are_jittered_in_brightness_and_contrast_alone() -> None:
    grey = picture()[:1]
    assert torch.equal(whole(grey, ColorJitter(saturation=0.9, hue=0.5, field=None)), grey)
    assert torch.allclose(whole(grey, ColorJitter((0.5, 0.5), field=None)), grey / 2)


def test_erased_rectangles_have_the_area_and_the_frequency_that_was_asked_for() -> None:
    image = torch.ones(2, 50, 40)
    erase = Erase(probability=0.25, area=(0.1, 0.2), ratio=(0.5, 2), field=None)
    areas = [1 - float(whole(image, erase, seed)[0].mean()) for seed in range(2000)]
    covered = [area for area in areas if area]
    assert abs(len(covered) / 2000 - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 2000)
    assert 0.09 < min(covered) <= max(covered) < 0.22
    assert abs(np.mean(covered) - 0.15) < 0.01
    made = whole(image, Erase(probability=1, fill=0.5, field=None))
    rows, columns = (made[0] == 0.5).nonzero(as_tuple=True)
    height, width = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
    assert len(rows) == height * width  # it is a rectangle


def test_noise_has_its_standard_deviation() -> None:
    image = torch.zeros(1, 200, 200)
    made = whole(image, Noise(0.5, field=None))
    assert abs(float(made.std()) - 0.5) < 0.01
    assert abs(float(made.mean())) < 0.02
    spreads = [float(whole(image[:, :40, :40], Noise((0.0, 1.0), field=None), seed).std()) for seed in range(300)]
    assert abs(np.mean(spreads) - 0.5) < 0.06


def test_transforms_one_after_the_other_and_only_sometimes() -> None:
    image = places(6, 6)
    both = Compose(Flip(probability=1, field=None), Flip("vertical", probability=1, field=None))
    assert torch.equal(whole(image, both), image.flip(1, 2))
    sometimes = Sometimes(Flip(probability=1, field=None), probability=0.2)
    count = sum(not torch.equal(whole(image, sometimes, seed), image) for seed in range(3000))
    assert abs(count / 3000 - 0.2) < 5 * math.sqrt(0.2 * 0.8 / 3000)
    assert repr(sometimes).startswith("Sometimes(Flip(axis='horizontal', probability=1.0, field=None), probability=0.2)")


def test_a_schema_says_what_a_transform_makes() -> None:
    dataset = data.from_images(np.zeros((2, 9, 9, 3), np.uint8), labels=["a", "b"])
    cropped = dataset.map_random(Compose(Flip(), Crop(4), Sometimes(Rotate(5))))
    assert cropped.schema is not None
    assert cropped.schema["image"].shape == (3, 4, 4)
    assert cropped.schema["label"] == dataset.schema["label"]  # type: ignore[index]
    assert dataset.map_random(Sometimes(Crop(4))).schema is None
    assert dataset.map_random(Compose(lambda sample, _: sample)).schema is None


def test_a_transform_of_one_s_own_is_a_draw_and_a_function() -> None:
    class Shift(Transform):
        draws = 1

        def apply(self, image: Tensor, drawn: list[float], generator: torch.Generator) -> Tensor:
            return image + drawn[0]

    sample: dict[str, Any] = {"image": torch.zeros(1, 2, 2), "name": "x"}
    made = Shift(field="image")(sample, generator(1))
    assert made["name"] == "x"
    assert 0 < float(made["image"][0, 0, 0]) < 1
    assert not sample["image"].any()


class Foreign(nn.Module):
    """What kornia's and torchvision's transforms have in common: no generator is passed, torch's own is drawn from."""

    def forward(self, image: Tensor) -> Tensor:
        return image + torch.rand(()) + random.random() + np.random.rand()


def epoch_of(dataset: data.Dataset[Any], seed: int, epoch: int, **options: Any) -> Tensor:
    batches = batches_of(dataset, keys=Keys(seed), name="valid", **options)
    try:
        return torch.cat([batch[0] for batch in batches.epoch(epoch)])
    finally:
        batches.close()


@pytest.mark.parametrize("verb", ["map", "map_random"])
def test_transforms_of_other_libraries_depend_on_their_keys_alone(verb: str) -> None:
    """Fails if ``Keyed`` does not seed, or is read by threads, which would fight for the globals."""
    source = data.from_tensors(torch.zeros(12, 1, 3, 3), torch.arange(12))
    transform = Foreign()
    dataset = (
        source.map_random(Keyed(transform)) if verb == "map_random" else source.map(lambda pair: (transform(pair[0]), pair[1]))
    )
    torch.manual_seed(1)
    state = torch.get_rng_state()
    expected = epoch_of(dataset, 3, 0, batch_size=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(expected[:, 0, 0, 0].unique()) == 12
    torch.manual_seed(2)
    assert torch.equal(epoch_of(dataset, 3, 0, batch_size=5), expected)
    assert torch.equal(epoch_of(dataset, 3, 0, batch_size=4, workers=2), expected)
    assert not torch.equal(epoch_of(dataset, 3, 1, batch_size=4), expected)
    assert not torch.equal(epoch_of(dataset, 4, 0, batch_size=4), expected)
    assert dataset.source.foreign


def test_what_holds_a_foreign_transform_is_foreign_too() -> None:
    source = data.from_tensors(torch.zeros(2, 1, 3, 3), torch.arange(2))
    assert source.map_random(Compose(Flip(), Keyed(Foreign()))).source.foreign
    assert source.map_random(Sometimes(Keyed(Foreign()))).source.foreign
    assert not source.map_random(Compose(Flip(), Sometimes(Rotate(3)))).source.foreign


def test_kornia_s_transforms_work() -> None:
    kornia = pytest.importorskip("kornia.augmentation")
    images = torch.rand(6, 3, 16, 16)
    transform = kornia.ImageSequential(kornia.RandomHorizontalFlip(p=0.5), kornia.ColorJiggle(0.2, 0.2, 0.2, 0.1, p=1.0))
    dataset = data.from_tensors(images, torch.arange(6)).map_random(Keyed(lambda image: transform(image)[0]))
    first = epoch_of(dataset, 1, 0, batch_size=2)
    assert first.shape == images.shape
    assert torch.equal(epoch_of(dataset, 1, 0, batch_size=3), first)
    assert not torch.equal(epoch_of(dataset, 1, 1, batch_size=2), first)
    assert torch.equal(epoch_of(dataset, 1, 0, batch_size=2, workers=1), first)


@given(
    seed=st.integers(0, 2**63 - 1), epoch=st.integers(0, 99), size=st.integers(1, 9), chosen=st.lists(st.integers(0, 8), min_size=1)
)
@settings(deadline=None, max_examples=15)
def test_an_augmented_picture_depends_on_seed_epoch_and_index_alone(seed: int, epoch: int, size: int, chosen: list[int]) -> None:
    """Law 5 with the library's own transforms, over pictures that are decoded when they are read."""
    dataset = data.from_images(np.stack([smooth(8 + 0 * i, 9) + np.uint8(i) for i in range(9)]), labels=list(range(9)))
    dataset = dataset.map_random(Compose(Flip(), Crop(8, padding=2), Rotate(10), ColorJitter(0.2, 0.2), Erase()))
    expected = epoch_of(dataset, seed, epoch, batch_size=9)
    assert torch.equal(epoch_of(dataset, seed, epoch, batch_size=size), expected)
    assert torch.equal(epoch_of(dataset, seed, epoch, batch_size=size, workers=2), expected)
    for index in chosen:
        assert torch.equal(dataset.take_samples([index], Draw(Keys(seed), epoch))[0][0], expected[index])


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Flip("diagonal"), ArgumentValueError, "axis must be one of 'horizontal', 'vertical', got 'diagonal'"),
    (lambda: Flip(probability=1.5), ArgumentValueError, "probability must be from 0 to 1, got 1.5"),
    (lambda: Crop(0), ArgumentValueError, "size must be an int of at least 1"),
    (lambda: Crop((1, 2, 3)), ArgumentTypeError, r"size must be one whole number or \(height, width\), got \(1, 2, 3\)"),  # type: ignore[arg-type]
    (lambda: Rotate("some"), ArgumentTypeError, "degrees must be a pair|degrees must be a number"),  # type: ignore[arg-type]
    (lambda: Rotate((20, 10)), ArgumentValueError, r"degrees must be a pair \(least, most\), got \(20, 10\)"),
    (lambda: Affine(scale=(0.0, 1.0)), ArgumentValueError, r"scale must be a pair \(least, most\) from 0\.001 on"),
    (lambda: Affine(resample="bicubic"), ArgumentValueError, "resample must be one of 'nearest', 'bilinear'"),
    (lambda: ColorJitter(hue=0.7), ArgumentValueError, r"hue must be within -0\.5 and 0\.5 turns, got 0\.7"),
    (lambda: Compose([Flip()]), ArgumentTypeError, r"transforms must be a function.*Pass them one by one"),  # type: ignore[arg-type]
    (lambda: Flip(field=()), ArgumentValueError, "field names no part of a sample"),
    (lambda: Keyed(3), ArgumentTypeError, "transform must be a function, got 3"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("make", "error", "message"), WRONG)
def test_wrong_choices_are_refused_when_the_transform_is_made(
    make: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(DataError, match=r"Flip needs a tensor \(\.\.\., height, width\) at field 1, got a tensor of shape \(\)"):
        Flip(field=1)((torch.rand(1, 2, 2), torch.tensor(3)), generator(0))
    with pytest.raises(DataError, match=r"ColorJitter needs floats from 0 to 1 of 1 or 3 channels .*got uint8 \(3, 2, 2\)"):
        whole(torch.zeros(3, 2, 2, dtype=torch.uint8), ColorJitter(0.5, field=None))
    with pytest.raises(DataError, match=r"Noise needs floats, got torch\.int64"):
        whole(torch.zeros(3, 2, 2, dtype=torch.int64), Noise(0.5, field=None))
    assert augment.Flip is Flip
