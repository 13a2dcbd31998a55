"""Pictures that Pillow decodes: JPEG, PNG, GIF, WebP, AVIF, BMP, PPM, QOI, and the TIFF files that tifffile leaves."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import numpy as np

from torchflow.data.readers.deep_images import deep_colour, deep_grey, netpbm_raster, refuse_deep_avif, turned
from torchflow.data.readers.eight_bits import eight_bit_raster, orientation_of, upright
from torchflow.data.readers.rasters import Raster, placing
from torchflow.data.readers.rendering import Rendering
from torchflow.errors import DataError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

FRAME_COST = 2**14
"""What a frame costs at least, in pixels, against ``max_pixels``: so a file of many tiny frames ends too."""
LARGEST_BYTES_A_PIXEL = 16
_MOST_SCANS, _SOME_SCANS = 100, 16


def pillow_rasters(file: IO[bytes], kind: str, size: int, how: Rendering) -> list[Raster]:
    """Return the frames of a picture that were asked for; those of 8 bits in their final mode and size.

    Args:
        file: The open file.
        kind: The format's name, as Pillow calls it.
        size: The file's bytes.
        how: How the picture is rendered.

    Raises:
        DataError: The picture is too large, too deep for Pillow, or has no such frame.
        Exception: Whatever Pillow raises for a damaged file.
    """
    from PIL import Image  # noqa: PLC0415  (an extra, and only for who reads pictures)

    refuse_bytes(size, how)
    data = file.read()
    if kind == "AVIF":
        refuse_deep_avif(data)
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG", "MPO"] if kind == "JPEG" else [kind]) as image:
            refuse_pixels(image.width, image.height, how)
            if "progressive" in image.info:
                _refuse_scans(data, image.width * image.height, how)
            return [_raster(frame, data, kind, how) for frame in _frames(image, how)]
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = "PIL.Image.MAX_IMAGE_PIXELS"
        raise DataError(f"{error} Pass a larger max_pixels=, and raise {limit} too, if it is meant.") from error


def refuse_bytes(size: int, how: Rendering) -> None:
    """Raise where a file is larger than any picture of ``max_pixels`` needs."""
    if size > LARGEST_BYTES_A_PIXEL * how.max_pixels:
        remedy = "Pass a larger max_pixels= if it is meant."
        raise DataError(f"the file has {size:,} bytes, more than {how.max_pixels:,} pixels (max_pixels) need. {remedy}")


def refuse_pixels(width: int, height: int, how: Rendering, frames: int = 1) -> None:
    """Raise where a picture has more pixels than ``max_pixels``, or none."""
    if width < 1 or height < 1:
        raise DataError(f"its header says {width} x {height} pixels, which is no picture. Leave it out.")
    if max(width * height, FRAME_COST if frames > 1 else 0) * frames > how.max_pixels:
        several = f" in {frames} frames" if frames > 1 else ""
        one = ", or frame=0 for the first alone" if frames > 1 else ""
        said = f"its header says {width} x {height} pixels{several}, and max_pixels is {how.max_pixels:,}"
        raise DataError(f"{said}. Pass a larger max_pixels= if it is meant{one}.")


def _refuse_scans(data: bytes, pixels: int, how: Rendering) -> None:
    """Raise for a progressive JPEG whose scans would take minutes: each one runs over the whole picture."""
    scans = data.count(b"\xff\xda")
    if scans > _MOST_SCANS or (scans > _SOME_SCANS and scans * pixels > 4 * how.max_pixels):
        raise DataError(f"it is a JPEG of {scans} scans, which cost as many passes over {pixels:,} pixels. Save it anew.")


def _frames(image: ImageFile, how: Rendering) -> Iterator[ImageFile]:
    """Yield the frames that were asked for, each while the file stands at it."""
    if how.frame == 0:
        yield image
        return
    count = int(getattr(image, "n_frames", 1))
    if how.frame is not None and how.frame >= count:
        has = f"it has {count} frame{'s' if count > 1 else ''}"
        raise DataError(f"{has}, and frame={how.frame} was asked for. Pass one from 0 to {count - 1}.")
    refuse_pixels(image.width, image.height, how, count if how.frame is None else how.frame + 1)
    for number in range(count) if how.frame is None else (how.frame,):
        image.seek(number)
        refuse_pixels(image.width, image.height, how)
        yield image


def _raster(image: ImageFile, data: bytes, kind: str, how: Rendering) -> Raster:
    """Return one frame."""
    special = netpbm_raster(image, data) if kind == "PPM" else deep_colour(image, data, kind)
    if special is not None:
        return special
    if kind == "JPEG":
        _draft(image, how)
    image.load()
    deep = deep_grey(image, kind)
    if deep is not None:
        return deep
    if how.mode == "index":
        values = np.array(image)
        raster = Raster(values[..., None] if values.ndim == 2 else values, 255.0)
        return raster if kind == "TIFF" else turned(image, raster)
    return eight_bit_raster(image if kind == "TIFF" else upright(image), how)  # Pillow turns a TIFF itself


def _draft(image: ImageFile, how: Rendering) -> None:
    """Let the JPEG decoder shrink by 2, 4 or 8 where the result is smaller still, and leave out colours that nobody wants."""
    scaled = None
    if how.size is not None:
        lies = orientation_of(image) > 4  # its first row is a side of what is shown
        height, width = (image.width, image.height) if lies else (image.height, image.width)
        wanted = placing(height, width, how.size, how.fit).scaled
        scaled = wanted if lies else wanted[::-1]
    if scaled is not None or how.mode == "grey":
        image.draft("L" if how.mode == "grey" else None, scaled)
