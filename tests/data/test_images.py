"""Pictures of any mode and depth become tensors without a silent loss of range, upright, in a mode and a size."""

from __future__ import annotations

import io
import struct
import sys
import threading
import warnings
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import sklearn
import tifffile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torch import Tensor

from tests.data.fuzzed_pictures import with_tifffile
from tests.data.pictures import Values, chunk, lzw_tiff, noise, png, smooth, write
from torchflow import data
from torchflow.data import batches_of
from torchflow.data.readers.eight_bits import eight_bit_raster
from torchflow.data.readers.images import ImageFiles
from torchflow.data.readers.rasters import Raster, rendered
from torchflow.data.readers.rendering import Rendering
from torchflow.data.resizing import interpolated
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, FileError, MissingExtraError, RaggedBatchError
from torchflow.randomness import Keys

ONE_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, **options: Any) -> Tensor:
    image: Tensor = data.from_images(path, **options)[0]
    return image


def expected(values: Values, top: float) -> Tensor:
    """Channels first, from 0 to 1, by NumPy in double precision."""
    planes = values if values.ndim == 3 else values[..., None]
    return torch.from_numpy((planes.astype(np.float64) / top).astype(np.float32).transpose(2, 0, 1).copy())


def saved(path: Path, values: Values, mode: str, **options: Any) -> Path:
    Image.fromarray(values, mode).save(path, **options)
    return path


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 4),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    filters=st.integers(0, 2),
    seed=st.integers(0, 99),
)
@settings(ONE_FOLDER, max_examples=60)
def test_a_png_of_any_depth_keeps_every_bit(
    tmp_path: Path, height: int, width: int, channels: int, dtype: Any, filters: int, seed: int
) -> None:
    """Fails if 16-bit colours go through Pillow's own modes, which hold 8: ``deep_colour`` returning None, say."""
    values = noise(height, width, channels, dtype=dtype, seed=seed)
    path = write(tmp_path / "a.png", png(values, filters=filters))
    assert torch.equal(read(path), expected(values, np.iinfo(dtype).max))
    assert np.array_equal(read(path, dtype=None).numpy(), values.transpose(2, 0, 1))


@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 2, 3, 4, 5]),
    dtype=st.sampled_from(["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]),
    order=st.sampled_from("<>"),
    planar=st.booleans(),
    compression=st.sampled_from([None, "zlib"]),
    seed=st.integers(0, 99),
)
@settings(ONE_FOLDER, max_examples=60)
def test_a_tiff_of_any_dtype_and_any_number_of_channels_keeps_every_value(
    tmp_path: Path,
    height: int,
    width: int,
    channels: int,
    dtype: str,
    order: Any,
    planar: bool,
    compression: Any,
    seed: int,
) -> None:
    kind = np.dtype(dtype)
    values = noise(height, width, channels, dtype=f"i{kind.itemsize}" if kind.kind == "f" else kind, seed=seed)
    values = values.astype(kind) / 7 if kind.kind == "f" else values
    values = values.astype(kind)
    layout: dict[str, Any] = {"planarconfig": "separate" if planar else "contig"} if channels > 1 else {}
    stored = values.transpose(2, 0, 1) if planar and channels > 1 else values if channels > 1 else values[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="minisblack", byteorder=order, compression=compression, **layout)
    assert np.array_equal(read(tmp_path / "a.tif", dtype=None).numpy(), values.transpose(2, 0, 1))
    top = 1.0 if kind.kind == "f" else float(np.iinfo(kind).max)
    scaled = read(tmp_path / "a.tif", dtype=torch.float64).numpy()
    assert np.allclose(scaled, values.transpose(2, 0, 1) / top, rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_that_pillow_decompresses_keeps_its_bits_too(tmp_path: Path, dtype: Any, channels: int, order: str) -> None:
    """Fails if the bytes are taken in the wrong order, or one of them is dropped."""
    pages = [noise(11, 7, channels, dtype=dtype, seed=seed) for seed in (0, 1)]
    path = write(tmp_path / "a.tif", lzw_tiff(*pages, order=order))
    top = np.iinfo(dtype).max
    assert torch.equal(read(path), expected(pages[0], top))
    assert torch.equal(read(path, frame="all"), torch.stack([expected(page, top) for page in pages]))


@pytest.mark.parametrize("predictor", [2, 3])
def test_predictors_of_tiff_are_undone(tmp_path: Path, predictor: int) -> None:
    values = (
        noise(9, 8, 3, dtype=np.uint16) if predictor == 2 else np.random.default_rng(0).normal(size=(9, 8, 1)).astype(np.float32)
    )
    if predictor == 2:
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", compression="zlib", predictor=True)
    else:
        Image.fromarray(values[..., 0]).save(tmp_path / "a.tif", compression="tiff_adobe_deflate", tiffinfo={317: predictor})
    assert np.array_equal(read(tmp_path / "a.tif", dtype=None).numpy(), values.transpose(2, 0, 1))


FORMATS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "png": ("png", {}, ["1", "L", "LA", "RGB", "RGBA"]),
    "webp": ("webp", {"lossless": True, "exact": True}, ["RGB", "RGBA"]),
    "bmp": ("bmp", {}, ["1", "L", "RGB"]),
    "tif": ("tif", {}, ["1", "L", "LA", "RGB", "RGBA"]),
    "lzw": ("tif", {"compression": "tiff_lzw"}, ["L", "RGB", "RGBA"]),
    "fax": ("tif", {"compression": "group4"}, ["1"]),
    "ppm": ("ppm", {}, ["1", "L", "RGB"]),
    "qoi": ("qoi", {}, ["RGB", "RGBA"]),
}


@pytest.mark.parametrize(("name", "mode"), [(name, mode) for name, (_, _, modes) in FORMATS.items() for mode in modes])
def test_a_format_without_loss_gives_what_was_written(tmp_path: Path, name: str, mode: str) -> None:
    suffix, options, _ = FORMATS[name]
    channels = {"1": 1, "L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    values = noise(13, 21, channels)
    flat = values[..., 0] if channels == 1 else values
    path = tmp_path / f"a.{suffix}"
    if mode == "1":
        values = (values > 127) * np.uint8(255)
        Image.fromarray(flat > 127).save(path, **options)
    else:
        saved(path, flat, mode, **options)
    assert torch.equal(read(path), expected(values, 255))


@pytest.mark.parametrize("white", [1, 3, 100, 255, 1023, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_white_of_a_netpbm_is_one(tmp_path: Path, white: int, channels: int) -> None:
    """Fails if Pillow is left to scale PPM of more than 8 bits, which it cuts to 8."""
    values = (noise(5, 4, channels, dtype=np.uint16).astype(int) % (white + 1)).astype(np.uint16)
    values[0, 0] = white
    content = b"P%d\n# made by hand\n4 5\n%d\n" % (5 if channels == 1 else 6, white)
    raw = values.astype(np.uint8 if white < 256 else ">u2").tobytes()
    path = write(tmp_path / "a.pgm", content + raw)
    assert torch.equal(read(path), expected(values, white))


def test_jpeg_and_avif_are_what_pillow_decodes(tmp_path: Path) -> None:
    values = smooth(40, 60)
    for suffix in ("jpg", "avif"):
        path = saved(tmp_path / f"a.{suffix}", values, "RGB", quality=90)
        with Image.open(path) as image:
            assert torch.equal(read(path), expected(np.asarray(image), 255))


def test_photographs_and_drawings_that_others_made(tmp_path: Path) -> None:
    """What scikit-learn and matplotlib ship: JPEGs of cameras, and PNGs with opacity."""
    photographs = sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
    drawings = sorted((Path(matplotlib.get_data_path()) / "images").glob("*.png"))
    assert len(photographs) == 2
    assert len(drawings) > 5
    for path in (*photographs, *drawings):
        with Image.open(path) as image:
            assert torch.equal(read(path), expected(np.asarray(image), 255))
    batch = data.from_images([*photographs, *drawings], mode="RGB", size=(60, 80)).take_batch(range(4))
    assert batch.shape == (4, 3, 60, 80)


def test_a_palette_becomes_its_colours_with_or_without_opacity(tmp_path: Path) -> None:
    image = Image.fromarray(smooth(16, 16)).quantize(8)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "a.gif")
    colours = expected(np.asarray(image.convert("RGB")), 255)
    assert torch.equal(read(tmp_path / "a.png"), colours)
    assert torch.equal(read(tmp_path / "a.gif"), colours)
    image.save(tmp_path / "b.png", transparency=3)
    seen = read(tmp_path / "b.png")
    assert torch.equal(seen[:3], colours)
    assert torch.equal(seen[3], torch.from_numpy(np.asarray(image) != 3).float())


def test_a_mask_of_a_palette_or_of_grey_keeps_its_numbers(tmp_path: Path) -> None:
    classes = noise(9, 12) % 20
    image = Image.fromarray(classes, "P")
    image.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
    image.save(tmp_path / "a.png")
    saved(tmp_path / "b.png", classes, "L")
    tifffile.imwrite(tmp_path / "c.tif", classes.astype(np.uint16), photometric="minisblack")
    for name in ("a.png", "b.png", "c.tif"):
        mask = read(tmp_path / name, mode="index")
        assert mask.dtype is torch.int64
        assert torch.equal(mask, torch.from_numpy(classes.astype(np.int64)))
    small = read(tmp_path / "a.png", mode="index", size=(3, 4))
    assert torch.equal(small, torch.from_numpy(classes.astype(np.int64))[1::3, 1::3])
    padded = read(tmp_path / "a.png", mode="index", size=(12, 12), fit="pad", padding=99)
    assert torch.equal(padded[1:10], torch.from_numpy(classes.astype(np.int64)))
    assert (padded[[0, 10, 11]] == 99).all()
    with pytest.raises(FileError, match=r'mode="index" needs a palette or one channel of whole numbers, and it has 3 channels'):
        read(saved(tmp_path / "d.png", smooth(4, 4), "RGB"), mode="index")


def test_a_tiff_says_what_its_numbers_mean(tmp_path: Path) -> None:
    grey, ramp = noise(6, 5), np.arange(256, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "white.tif", grey, photometric="miniswhite")
    assert torch.equal(read(tmp_path / "white.tif"), expected(255 - grey, 255))
    colours = np.stack([ramp * 257, ramp[::-1] * 257, ramp * 3])
    tifffile.imwrite(tmp_path / "palette.tif", grey, photometric="palette", colormap=colours)
    assert torch.equal(read(tmp_path / "palette.tif"), expected(colours.T[grey], 65535))
    inks = noise(6, 5, 4)
    tifffile.imwrite(tmp_path / "inks.tif", inks, photometric="separated")
    paper = (1 - inks[..., :3] / 255) * (1 - inks[..., 3:] / 255)
    assert torch.allclose(read(tmp_path / "inks.tif"), expected(paper, 1), atol=0.5 / 255 + 1e-6)
    straight = noise(6, 5, 4)
    straight[..., 3] |= 128
    multiplied = np.rint(straight[..., :3] * (straight[..., 3:] / 255)).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "alpha.tif", np.dstack((multiplied, straight[..., 3])), photometric="rgb", extrasamples=["assocalpha"]
    )
    assert torch.allclose(read(tmp_path / "alpha.tif"), expected(straight, 255), atol=1.01 / 255)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(smooth(16, 16, 4), "CMYK")
    image.save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as again:
        assert again.mode == "CMYK"
        assert torch.equal(read(tmp_path / "a.jpg"), expected(np.asarray(again.convert("RGB")), 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    """Fails if two turns are swapped: 6 and 8, say, which differ by half a turn."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = smooth(24, 40)
    with_exif: list[tuple[str, dict[str, Any]]] = [("a.png", {}), ("a.jpg", {"quality": 95}), ("a.webp", {"lossless": True})]
    for name, options in with_exif:
        path = saved(tmp_path / name, values, "RGB", exif=exif, **options)
        with Image.open(path) as stored:
            upright = np.asarray(ImageOps.exif_transpose(stored))
        assert torch.equal(read(path), expected(upright, 255)), name
    wide = noise(5, 8, 3, dtype=np.uint16)
    deep = png(wide, extra=chunk(b"eXIf", exif.tobytes()[6:]))
    turned = read(write(tmp_path / "deep.png", deep), dtype=None).numpy().transpose(1, 2, 0)
    shown = ImageOps.exif_transpose(_tagged((wide >> 8).astype(np.uint8), orientation))
    assert np.array_equal(turned >> 8, np.asarray(shown))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    assert torch.equal(read(tmp_path / "a.tif"), expected(np.asarray(ImageOps.exif_transpose(_tagged(values, orientation))), 255))
    image = Image.fromarray(values)
    image.save(tmp_path / "b.tif", compression="tiff_lzw", tiffinfo={274: orientation})
    assert torch.equal(read(tmp_path / "b.tif"), read(tmp_path / "a.tif"))


def _tagged(values: Values, orientation: int) -> Image.Image:
    image = Image.fromarray(values)
    image.getexif()[0x0112] = orientation
    return image


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_is_no_reason_to_refuse_a_picture(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", smooth(8, 8), "RGB", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read(path).shape == (3, 8, 8)


@given(mode=st.sampled_from(["grey", "RGB", "RGBA"]), channels=st.integers(1, 4), wide=st.booleans(), seed=st.integers(0, 99))
@settings(ONE_FOLDER, max_examples=50)
def test_every_picture_gets_the_mode_that_was_asked_for(tmp_path: Path, mode: str, channels: int, wide: bool, seed: int) -> None:
    """Against the same by NumPy in double precision. Fails if opacity is dropped, or grey is a mean of the channels."""
    kind = np.uint16 if wide else np.uint8
    values = noise(5, 6, channels, dtype=kind, seed=seed)
    path = write(tmp_path / "a.png", png(values))
    full = values / np.iinfo(kind).max
    opacity = full[..., -1:] if channels in (2, 4) else np.ones_like(full[..., :1])
    colour = full[..., :1].repeat(3, -1) if channels < 3 else full[..., :3]
    paper = np.array([0.25, 0.5, 1.0])
    if mode == "RGBA":
        meant = np.concatenate((colour, opacity), -1)
    else:
        meant = colour * opacity + paper * (1 - opacity)
        meant = meant @ np.array([[0.299], [0.587], [0.114]]) if mode == "grey" else meant
    made = read(path, mode=mode, background=(0.25, 0.5, 1.0))
    assert made.dtype is torch.float32
    error = (made - torch.from_numpy(meant.transpose(2, 0, 1))).abs().max()
    assert error < (1e-6 if wide else 1.6 / 255)  # Pillow rounds twice where it works in 8 bits


def test_grey_stays_grey_and_16_bits_stay_16_bits_whatever_the_mode(tmp_path: Path) -> None:
    """Fails with ``image.convert("RGB")`` on a 16-bit picture, which leaves it white."""
    values = noise(6, 7, 1, dtype=np.uint16)
    path = write(tmp_path / "a.png", png(values))
    made = read(path, mode="RGB")
    assert all(torch.equal(plane, expected(values, 65535)[0]) for plane in made)
    assert read(path, mode="RGB", dtype=None).dtype is torch.uint16


SIZES = st.tuples(st.integers(1, 30), st.integers(1, 30))


@given(
    before=SIZES,
    size=SIZES,
    fit=st.sampled_from(["crop", "pad", "stretch"]),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 9),
)
@settings(ONE_FOLDER, max_examples=60)
def test_depth_makes_no_difference_to_where_a_picture_is_put(
    tmp_path: Path, before: tuple[int, int], size: tuple[int, int], fit: str, channels: int, seed: int
) -> None:
    """8 bits go through Pillow and 16 through torch. Fails if one of them is off by a pixel, or pads on the other side."""
    values = noise(*before, channels, seed=seed)
    write(tmp_path / "a.png", png(values))
    write(tmp_path / "b.png", png(values.astype(np.uint16) * 257))
    one, other = (read(tmp_path / name, size=size, fit=fit, padding=0.5) for name in ("a.png", "b.png"))
    assert one.shape == (channels, *size)
    assert (one - other).abs().max() < 2.1 / 255  # Pillow rounds after each of two passes
    array = read_array(values, size=size, fit=fit, padding=0.5)
    assert torch.equal(array, one)


def read_array(values: Values, **options: Any) -> Tensor:
    image: Tensor = data.from_images(values[None], **options)[0]
    return image


def test_a_picture_is_covered_padded_or_stretched(tmp_path: Path) -> None:
    values = np.zeros((40, 80, 3), np.uint8)
    values[:, :20] = (255, 0, 0)  # left quarter red, right quarter blue
    values[:, 60:] = (0, 0, 255)
    path = saved(tmp_path / "a.png", values, "RGB")
    assert not read(path, size=40, fit="crop").any()  # the middle is black
    stretched = read(path, size=(40, 40), fit="stretch")
    assert stretched[0, :, :8].min() == 1
    assert stretched[2, :, 32:].min() == 1
    padded = read(path, size=80, fit="pad", padding=0.2)
    assert torch.equal(padded[:, 20:60], expected(values, 255))
    assert torch.allclose(padded[:, [0, 19, 60, 79]], torch.tensor(51 / 255))
    assert torch.equal(read(path, size=(40, 80)), expected(values, 255))


def test_resizing_is_pillow_s_and_the_draft_of_a_jpeg_is_close_to_it(tmp_path: Path) -> None:
    values = smooth(300, 400)
    for name in ("a.png", "a.jpg"):
        path = saved(tmp_path / name, values, "RGB", **({"quality": 95} if name == "a.jpg" else {}))
        with Image.open(path) as image:
            whole = image.convert("RGB").resize((64, 48), Image.Resampling.BILINEAR)
        error = (read(path, size=(48, 64)) - expected(np.asarray(whole), 255)).abs()
        assert error.max() < (1e-6 if name == "a.png" else 0.04)
        assert error.mean() < 0.01


@pytest.mark.parametrize(("resample", "kernel"), [("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)])
def test_floats_of_every_small_size_are_resized_as_pillow_resizes_them(resample: str, kernel: Image.Resampling) -> None:
    """Fails where torch is asked for one column at once: it then takes rows for one another."""
    for height, width, down, right in product(range(1, 5), repeat=4):
        image = torch.rand(1, 2, height, width)
        made = interpolated(image, (down, right), resample)[0]
        planes = [np.asarray(Image.fromarray(plane.numpy()).resize((right, down), kernel)) for plane in image[0]]
        assert np.allclose(made, np.stack(planes), atol=1e-5), (height, width, down, right)


def test_the_jpeg_decoder_itself_shrinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if ``draft`` is left out: then the whole picture is decoded for a thumbnail."""
    sizes: list[tuple[int, int]] = []

    def watching(image: Any, how: Any) -> Any:
        sizes.append(image.size)
        return eight_bit_raster(image, how)

    monkeypatch.setattr("torchflow.data.readers.pillow_images.eight_bit_raster", watching)
    exif = Image.Exif()
    exif[0x0112] = 6
    read(saved(tmp_path / "a.jpg", smooth(800, 1200), "RGB"), size=100)
    read(saved(tmp_path / "b.jpg", smooth(800, 1200), "RGB", exif=exif), size=(100, 60))
    assert sizes[::2] == [(150, 100), (100, 150)]  # each file is looked at once before


def test_opacity_weighs_the_colours_when_a_picture_shrinks(tmp_path: Path) -> None:
    """Fails if hidden colours bleed into what is seen, in 8 bits or in 16."""
    values = np.zeros((8, 8, 4), np.uint8)
    values[:, ::2] = (255, 0, 0, 255)
    values[:, 1::2] = (0, 255, 0, 0)  # invisible green
    for name, kind, factor in (("a.png", np.uint8, 1), ("b.png", np.uint16, 257)):
        path = write(tmp_path / name, png(values.astype(kind) * factor))
        made = read(path, size=4, fit="stretch")
        assert made[0].min() > 0.99
        assert made[1].max() < 0.01
        assert torch.allclose(made[3], torch.full((4, 4), 0.5), atol=0.08)


def animated(path: Path, frames: int = 3, **options: Any) -> list[Values]:
    """Frames of flat colours, which a palette holds exactly."""
    levels = [np.full((6, 9, 3), (90 * number, 255 - 80 * number, 40), np.uint8) for number in range(frames)]
    images = [Image.fromarray(level) for level in levels]
    images[0].save(path, save_all=True, append_images=images[1:], **options)
    return levels


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.gif", {}), ("a.png", {}), ("a.webp", {"lossless": True}), ("a.tif", {}), ("b.tif", {"compression": "tiff_lzw"})],
)
def test_frames_and_pages_are_chosen(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    path = tmp_path / name
    levels = animated(path, **options)
    assert torch.equal(read(path), expected(levels[0], 255))
    assert torch.equal(read(path, frame=2), expected(levels[2], 255))
    every = read(path, frame="all", mode="RGB")
    assert torch.equal(every, torch.stack([expected(level, 255) for level in levels]))
    assert data.from_images(path, frame="all", mode="RGB").schema["image"].shape == (None, 3, None, None)  # type: ignore[index]
    with pytest.raises(FileError, match=r"it has 3 (frames|pages), and frame=3 was asked for\. Pass one from 0 to 2"):
        read(path, frame=3)


def test_a_long_stack_of_pages_is_not_read_whole(tmp_path: Path) -> None:
    """Pages of a file that is larger than any picture may be."""
    pages = noise(6, 20, 20, 3, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb", compression="zlib")
    write(tmp_path / "b.tif", lzw_tiff(*pages))
    for name in ("a.tif", "b.tif"):
        assert (tmp_path / name).stat().st_size > 16 * 400
        assert torch.equal(read(tmp_path / name, max_pixels=400, frame=4), expected(pages[4], 65535))


def test_pages_of_different_sizes_need_a_size(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(noise(5, 6), photometric="minisblack")
        tiff.write(noise(7, 6), photometric="minisblack")
    with pytest.raises(FileError, match=r"its frames have the shapes \(1, 5, 6\) and \(1, 7, 6\)\. Pass mode= and size="):
        read(tmp_path / "a.tif", frame="all")
    assert read(tmp_path / "a.tif", frame="all", size=4).shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (torch.uint8, r"its values are uint16, which dtype=torch\.uint8 would cut.*Use a floating dtype"),
        (torch.int64, r"its values are uint16, which dtype=torch\.int64"),
    ],
)
def test_a_dtype_that_would_lose_range_is_refused(tmp_path: Path, asked: torch.dtype, message: str) -> None:
    path = write(tmp_path / "a.png", png(noise(4, 4, 3, dtype=np.uint16)))
    with pytest.raises(FileError, match=message):
        read(path, dtype=asked)
    with pytest.raises(FileError, match=message):
        read(path, dtype=asked, size=2, mode="grey")
    assert read(path, dtype=torch.uint16).dtype is torch.uint16


def test_floats_that_overflow_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.array([[1e39, 0.0]]), photometric="minisblack")
    with pytest.raises(FileError, match=r"do not fit into torch\.float32: some are 1e\+39\. Use a wider dtype="):
        read(tmp_path / "a.tif")
    assert read(tmp_path / "a.tif", dtype=torch.float64).max() == 1e39


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_dtypes_are_scaled_as_well(tmp_path: Path, dtype: torch.dtype) -> None:
    values = noise(4, 5, 3)
    made = read(saved(tmp_path / "a.png", values, "RGB"), dtype=dtype)
    assert torch.equal(made, (torch.from_numpy(values.transpose(2, 0, 1).copy()).double() / 255).type(dtype))


def folder_of_classes(folder: Path) -> Path:
    for name in ("dog", "cat", "eel"):
        for number in range(3):
            saved_in = folder / name
            saved_in.mkdir(exist_ok=True, parents=True)
            saved(saved_in / f"{number}.png", smooth(8 + number, 8), "RGB")
    return folder


def test_a_folder_a_class(tmp_path: Path) -> None:
    pets = data.from_images(folder_of_classes(tmp_path), labels="folder", size=8)
    assert len(pets) == 9
    assert [int(label) for _, label in pets] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert pets.schema is not None
    assert pets.schema["label"].classes == ("cat", "dog", "eel")
    assert pets.schema["image"] == data.Field("image", (None, 8, 8), torch.float32, dims=("channel", "height", "width"))
    images, labels = pets.take_batch([0, 8])
    assert images.shape == (2, 3, 8, 8)
    assert labels.tolist() == [0, 2]
    assert repr(pets).startswith("Dataset(9 samples, from_images")


def test_a_list_with_labels_and_a_table_of_paths(tmp_path: Path) -> None:
    folder_of_classes(tmp_path)
    listed = data.from_images(["dog/0.png", "cat/1.png"], root=tmp_path, labels=["woof", "meow"])
    assert [int(label) for _, label in listed] == [1, 0]
    frame = pd.DataFrame({"path": ["dog/0.png", "cat/1.png"], "weight": [30.5, 4.0]})
    table = data.from_images(frame, column="path", labels="weight", root=tmp_path)
    assert [float(label) for _, label in table] == [30.5, 4.0]
    assert torch.equal(table[0][0], listed[0][0])


def test_the_name_says_nothing_and_the_content_all(tmp_path: Path) -> None:
    values = noise(6, 6, 3)
    write(tmp_path / "a.jpg", png(values))
    assert torch.equal(read(tmp_path / "a.jpg"), expected(values, 255))
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "GIF")
    assert read(write(tmp_path / "a.tif", buffer.getvalue())).shape == (3, 6, 6)


def test_batches_are_the_samples_and_unequal_ones_say_what_helps(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", noise(5, 6, 3), "RGB")
    saved(tmp_path / "b.png", noise(7, 6, 3), "RGB")
    saved(tmp_path / "c.png", noise(5, 6), "L")
    write(tmp_path / "d.png", png(noise(5, 6, 1, dtype=np.uint16)))
    dataset = data.from_images(tmp_path)
    with pytest.raises(
        RaggedBatchError, match=r"samples 0 and 1 .*a\.png is .*\(3, 5, 6\) and .*b\.png is .*\(3, 7, 6\).*size=\(height, width\)"
    ):
        dataset.take_batch([0, 1])
    with pytest.raises(RaggedBatchError, match=r'mode="RGB" or "grey" makes the channels equal'):
        dataset.take_batch([0, 2])
    with pytest.raises(RaggedBatchError, match=r"dtype=torch\.float32 makes them equal"):
        data.from_images(tmp_path, dtype=None).take_batch([2, 3])
    batch = dataset.take_batch([2, 3])
    assert all(torch.equal(batch[row], dataset[index]) for row, index in enumerate((2, 3)))
    equal = data.from_images(tmp_path, mode="RGB", size=4)
    for count in (3, 4):  # the first three have 8 bits
        batch = equal.take_batch(range(count))
        assert batch.is_contiguous()
        assert all(torch.equal(batch[index], equal[index]) for index in range(count))


def test_threads_read_ahead_and_change_nothing(tmp_path: Path) -> None:
    dataset = data.from_images(folder_of_classes(tmp_path), labels="folder", size=8)
    assert not dataset.source.foreign
    one, two = (list(batches_of(dataset, keys=Keys(1), name="train", batch_size=2, workers=workers).epoch(3)) for workers in (0, 2))
    assert len(one) == 5
    assert all(torch.equal(a, b) for first, second in zip(one, two, strict=True) for a, b in zip(first, second, strict=True))


def test_all_threads_read_the_first_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also through what lies above: a selection, a random map, a cache."""
    dataset = data.from_images(folder_of_classes(tmp_path), labels="folder", size=8)
    both = threading.Barrier(2)
    read, readers = ImageFiles.read, set[str]()

    def noting(self: ImageFiles, path: str, part: int) -> torch.Tensor:
        if len(readers) < 2:
            readers.add(threading.current_thread().name)
            both.wait(20)
        return read(self, path, part)

    monkeypatch.setattr(ImageFiles, "read", noting)
    for built in (dataset, dataset.select(range(8)).map_random(lambda sample, _: sample), dataset.cache()):
        readers.clear()
        made = batches_of(built, keys=Keys(1), name="train", batch_size=8, workers=2)
        assert len(next(iter(made.epoch(0)))[0]) == 8
        assert len(readers) == 2
        assert not any("MainThread" in name for name in readers)


def test_bad_files_are_skipped_by_choice_and_reported(tmp_path: Path) -> None:
    saved(tmp_path / "a.png", noise(5, 6, 3), "RGB")
    write(tmp_path / "b.png", png(noise(50, 60, 3))[:700])
    with pytest.raises(FileError, match=r"b\.png cannot be read"):
        data.from_images(tmp_path)
    with pytest.warns(UserWarning, match=r"1 of 2 files cannot be read and are left out"):
        dataset = data.from_images(tmp_path, bad="skip")
    assert len(dataset) == 1
    ((path, reason),) = dataset.skipped
    assert path.endswith("b.png")
    assert "cannot be read" in reason
    assert dataset.schema is not None
    assert dataset.schema["image"].shape == (3, 5, 6)  # all were looked at, so all is known


ARRAYS: dict[str, tuple[Callable[[], Any], tuple[int, ...], float]] = {
    "grey": (lambda: noise(2, 5, 6), (1, 5, 6), 255),
    "colours": (lambda: noise(2, 5, 6, 3), (3, 5, 6), 255),
    "16 bits": (lambda: noise(2, 5, 6, 3, dtype=np.uint16), (3, 5, 6), 65535),
    "a list": (lambda: list(noise(2, 5, 6, 4)), (4, 5, 6), 255),
    "big endian": (lambda: noise(2, 5, 6).astype(">u2"), (1, 5, 6), 65535),
    "read only": (lambda: np.broadcast_to(noise(5, 6), (2, 5, 6)), (1, 5, 6), 255),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_are_pictures_too(name: str) -> None:
    make, shape, top = ARRAYS[name]
    arrays = make()
    dataset = data.from_images(arrays, labels=["b", "a"])
    image, label = dataset[1]
    assert image.shape == shape
    assert torch.equal(image, expected(np.asarray(arrays[1]), top))
    assert int(label) == 0
    assert dataset.schema is not None
    assert dataset.schema["image"].shape == shape


def test_tensors_have_their_channels_first() -> None:
    tensors = torch.from_numpy(noise(2, 3, 5, 6))
    dataset = data.from_images(tensors, mode="grey")
    assert dataset[0].shape == (1, 5, 6)
    floats = torch.rand(3, 4, 4)
    assert torch.equal(data.from_images([floats, floats])[0], floats)
    floats.zero_()
    assert dataset.take_batch([0, 1]).shape == (2, 1, 5, 6)


def test_what_is_read_is_the_reader_s_own() -> None:
    dataset = data.from_images(noise(2, 4, 4), dtype=None)
    first = dataset[0].clone()
    dataset[0].zero_()
    assert torch.equal(dataset[0], first)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "BGR"}, ArgumentValueError, r"mode must be one of 'grey', 'RGB', 'RGBA', 'index', got 'BGR'"),
        ({"size": 0}, ArgumentValueError, r"size must be an int of at least 1"),
        ({"size": "big"}, ArgumentTypeError, r"size must be \(height, width\), one number for a square, or None, got 'big'"),
        ({"size": (1, 2, 3)}, ArgumentTypeError, r"size must be \(height, width\)"),
        ({"size": 10_000}, ArgumentValueError, r"has more pixels than max_pixels=67,108,864"),
        ({"fit": "fill"}, ArgumentValueError, r"fit must be one of 'crop', 'pad', 'stretch'"),
        ({"resample": "lanczos"}, ArgumentValueError, r"resample must be one of"),
        ({"dtype": "float"}, ArgumentTypeError, r"dtype must be a torch dtype such as torch\.float32, or None"),
        ({"dtype": torch.bool}, ArgumentTypeError, r"dtype must be a torch dtype"),
        ({"frame": -1}, ArgumentValueError, r'frame must be an int of at least 0.*Use "all" for all frames'),
        ({"frame": "last"}, ArgumentValueError, r'frame must be a number from 0 on, or "all", got .last.'),
        ({"background": 2}, ArgumentValueError, r"background must be from 0 \(black\) to 1 \(white\)"),
        ({"background": "white"}, ArgumentTypeError, r"background must be a number from 0 to 1, or one for each"),
        ({"padding": None}, ArgumentTypeError, r"padding must be a number"),
        ({"mode": "index", "padding": 0.5}, ArgumentValueError, r'padding must be a whole number with mode="index"'),
        ({"max_pixels": 0}, ArgumentValueError, r"max_pixels must be an int of at least 1"),
        ({"bad": "ignore"}, ArgumentValueError, r"bad must be one of 'raise', 'skip'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_read(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = saved(tmp_path / "a.png", noise(3, 3), "L")
    with pytest.raises(error, match=message):
        data.from_images(path, **options)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([np.zeros((2, 2)), "a.png"], r"picture 1 must be an array or a tensor as the first is, got 'a\.png'"),
        ([np.zeros(3)], r"picture 0 must have the shape \(height, width\) or \(height, width, channels\), got \(3,\)"),
        ([np.zeros((2, 2), complex)], r"picture 0 must hold numbers, got complex128"),
        ([torch.zeros(3)], r"picture 0 must be a tensor \(channels, height, width\) on the CPU, got \(3,\)"),
    ],
)
def test_wrong_arrays_are_refused(arrays: Any, message: str) -> None:
    with pytest.raises(ArgumentTypeError, match=message):
        data.from_images(arrays)


def test_arrays_have_no_frames_and_no_folders() -> None:
    with pytest.raises(ArgumentValueError, match="frame= has no meaning for arrays"):
        data.from_images(noise(1, 2, 2), frame=1)
    with pytest.raises(ArgumentValueError, match="labels='folder' has no meaning for arrays"):
        data.from_images(noise(1, 2, 2), labels="folder")
    with pytest.raises(ArgumentValueError, match="images has no pictures"):
        data.from_images(np.zeros((0, 2, 2), np.uint8))
    with pytest.raises(DataError, match=r"picture 0 cannot be rendered: its values are uint8, which dtype=torch.int16"):
        data.from_images(noise(1, 2, 2), dtype=torch.int16)


def test_reading_says_nothing_on_the_side(tmp_path: Path) -> None:
    folder_of_classes(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(list(data.from_images(tmp_path, mode="RGBA", size=(5, 7), fit="pad"))) == 9


def test_decoded_pictures_are_kept_on_disk_until_a_choice_changes(tmp_path: Path) -> None:
    """Fails if the cache takes pictures of another size, or mode, for the same."""
    folder_of_classes(tmp_path / "pets")
    for options in ({"size": 8}, {"size": 4}, {"size": 4, "mode": "grey"}, {"size": 4, "padding": 1.0, "fit": "pad"}):
        fresh = data.from_images(tmp_path / "pets", labels="folder", **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is in the folder is of other choices, which it says
            kept = fresh.cache(tmp_path / "cache")
        for one, other in zip(fresh, kept, strict=True):
            assert torch.equal(one[0], other[0])


def test_pictures_are_shown_with_their_classes(tmp_path: Path) -> None:
    pets = data.from_images(folder_of_classes(tmp_path / "pets"), labels="folder")
    figure = pets.show(4, tmp_path / "pets.png")
    titles = " ".join(axes.get_title() for axes in figure.axes)
    assert "cat" in titles
    assert "eel" in titles


@pytest.mark.parametrize(("module", "extra"), [("PIL", "image"), ("tifffile", "image"), ("pydicom", "dicom")])
def test_a_library_that_is_missing_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise(3, 3), photometric="minisblack")
    monkeypatch.setitem(sys.modules, module, None)
    reader = data.from_dicom if module == "pydicom" else data.from_images
    with pytest.raises(MissingExtraError, match=rf"is not installed: pip install 'torchflow-train\[{extra}\]'"):
        reader([tmp_path / "a.tif"])


def test_arrays_that_stay_as_they_are_need_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("PIL", "tifffile"):
        monkeypatch.setitem(sys.modules, module, None)
    assert data.from_images(noise(2, 3, 4))[0].shape == (1, 3, 4)
    with pytest.raises(MissingExtraError, match="Pillow, which is not installed"):
        data.from_images(noise(2, 3, 4), size=2)


def planar_lzw() -> bytes:
    made = lzw_tiff(noise(4, 4, 3, dtype=np.uint16))
    at = made.index(struct.pack("<HHI", 278, 4, 1))  # RowsPerStrip, which nobody needs
    return made[:at] + struct.pack("<HHIHH", 284, 3, 1, 2, 0) + made[at + 12 :]  # PlanarConfiguration: each channel apart


UNREADABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "grey colour key": (
        lambda: png(noise(3, 3, 1, dtype=np.uint16), extra=chunk(b"tRNS", b"\0\7")),
        r"one of its 16-bit colours stands for transparent.*Save it with an alpha channel",
    ),
    "colour key": (
        lambda: png(noise(3, 3, 3, dtype=np.uint16), extra=chunk(b"tRNS", b"\0\1\0\2\0\3")),
        r"one of its 16-bit colours stands for transparent",
    ),
    "16-bit animation": (
        lambda: png(noise(3, 3, 3, dtype=np.uint16), extra=chunk(b"acTL", struct.pack(">II", 2, 0))),
        r"it is an animation of 16 bits a channel, which cannot be read",
    ),
    "more than white": (lambda: b"P5 2 1 100\n\x10\xff", r"it holds 255, and its header says that white is 100"),
    "channels apart": (
        planar_lzw,
        r"it is compressed by LZW with each channel apart\. Save it anew without compression or by deflate",
    ),
    "complex": (
        lambda: with_tifffile(np.ones((2, 2), np.complex64), photometric="minisblack"),
        r"its values are complex64, which no picture",
    ),
    "a volume": (
        lambda: with_tifffile(noise(16, 16, 16), photometric="minisblack", volumetric=True, tile=(16, 16, 16)),
        r"it holds a volume of 16 slices in one page",
    ),
    "broken inks": (
        lambda: with_tifffile(noise(4, 4, 4).astype(np.float32), photometric="separated", planarconfig="contig"),
        r"its 4 channels are inks of float32, and only four of whole numbers are understood",
    ),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_would_be_read_wrong_is_refused(tmp_path: Path, name: str) -> None:
    make, message = UNREADABLE[name]
    with pytest.raises(FileError, match=message):
        read(write(tmp_path / "a", make()))


def test_channels_that_are_no_colours_have_no_colour_mode() -> None:
    with pytest.raises(DataError, match=r"it has 2 channels that are no colours\. Use mode=None"):
        rendered(Raster(np.ones((2, 2, 2), np.int32), 9.0), Rendering(mode="RGB"))
