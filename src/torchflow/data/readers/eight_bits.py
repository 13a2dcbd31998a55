"""Pictures of 8 bits a channel, in Pillow's hands: upright, in a mode, in a size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from torchflow.data.readers.rasters import Raster, placing
from torchflow.data.readers.rendering import Rendering

if TYPE_CHECKING:
    from PIL.Image import Image

_ALPHA = ("LA", "RGBA", "PA", "La", "RGBa")
_GREY = ("1", "L", "LA", "La")
_ORIENTATION = 0x0112  # the EXIF tag


def eight_bit_raster(image: Image, how: Rendering) -> Raster:
    """Return a picture of 8 bits in its final mode and size."""
    made = placed(with_mode(image, how), how)
    values = np.array(made)
    return Raster(values[..., None] if values.ndim == 2 else values, 255.0, alpha=made.mode in ("LA", "RGBA"))


def orientation_of(image: Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 where it is damaged, as it often is in files that are fine."""
    if not any(name in image.info for name in ("exif", "xmp", "Raw profile type exif")):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # whatever a parser raises that was given noise
        return 1
    return int(found) if found in range(1, 9) else 1


def upright(image: Image) -> Image:
    """Return a picture as it should be looked at, by its EXIF orientation."""
    orientation = orientation_of(image)
    if orientation == 1:
        return image
    from PIL.Image import Transpose  # noqa: PLC0415  (an extra)

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(turns[orientation])


def with_mode(image: Image, how: Rendering) -> Image:
    """Return a picture of 8 bits as L, LA, RGB or RGBA: what it is, or what was asked for."""
    from PIL import Image as pillow  # noqa: N813, PLC0415  (an extra)

    alpha = image.mode in _ALPHA or "transparency" in image.info
    grey = image.mode in _GREY
    wanted = {None: "L" if grey else "RGB", "grey": "L", "RGB": "RGB", "RGBA": "RGBA"}[how.mode]
    if how.mode is None and alpha:
        wanted = "LA" if grey else "RGBA"
    if alpha and wanted in ("L", "RGB"):
        behind = pillow.new("RGBA", image.size, (*(round(255 * value) for value in how.background), 255))
        image = pillow.alpha_composite(behind, image if image.mode == "RGBA" else image.convert("RGBA")).convert("RGB")
    return image if image.mode == wanted else image.convert(wanted)


def placed(image: Image, how: Rendering) -> Image:
    """Return a picture fitted into the size: only what is seen is computed."""
    from PIL.Image import Resampling  # noqa: PLC0415  (an extra)

    if how.size is None or how.size == (image.height, image.width):
        return image
    (height, width), where = how.size, placing(image.height, image.width, how.size, how.fit)
    kernel = Resampling[how.resample.upper()]
    if how.fit == "pad":
        return _padded(image.resize((where.scaled[1], where.scaled[0]), kernel), (width, height), where.offset, how.padding)
    across, down = image.width / where.scaled[1], image.height / where.scaled[0]  # source pixels in one of the result
    top, left = where.offset
    right, bottom = min(image.width, (left + width) * across), min(image.height, (top + height) * down)
    return image.resize((width, height), kernel, (left * across, top * down, right, bottom))


def _padded(inner: Image, size: tuple[int, int], offset: tuple[int, int], padding: float) -> Image:
    from PIL.Image import new  # noqa: PLC0415  (an extra)

    level = min(255, max(0, round(255 * padding)))
    colour: dict[str, int | tuple[int, ...]] = {
        "L": level,
        "LA": (level, 0),
        "RGB": (level, level, level),
        "RGBA": (level, level, level, 0),
    }
    around = new(inner.mode, size, colour[inner.mode])
    around.paste(inner, (-offset[1], -offset[0]))
    return around
