"""Pictures of more than 8 bits a channel in formats that Pillow reads, and of which it would leave 8."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from torchflow.data.readers.eight_bits import orientation_of
from torchflow.data.readers.rasters import Raster, oriented
from torchflow.errors import DataError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_TOPS = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I;16N": 65535, "I": 2**31 - 1, "F": 1}
_TRANSPARENT = "one of its 16-bit colours stands for transparent, which cannot be read. Save it with an alpha channel."
_HIGH_BITDEPTH = 0x40  # in the third byte of an AV1CodecConfigurationRecord: AV1 in ISOBMFF, 2.3.3


def refuse_deep_avif(data: bytes) -> None:
    """Raise for 10 and 12 bits a channel.

    Raises:
        DataError: The file says that it has them.
    """
    at = data.find(b"av1C")
    while at >= 0:
        if data[at + 6 : at + 7] and data[at + 6] & _HIGH_BITDEPTH:
            remedy = "Save it as a 16-bit PNG or TIFF."
            raise DataError(f"it is an AVIF of more than 8 bits a channel, of which Pillow leaves 8. {remedy}")
        at = data.find(b"av1C", at + 4)


def netpbm_raster(image: ImageFile, data: bytes) -> Raster | None:
    """Return a PGM or PPM whose white is not 255, from its raw numbers; None for the others."""
    tile = image.tile[0]
    args: Any = tile.args
    white = args[1] if tile.codec_name == "ppm" else 65535 if args == "I;16B" else None
    if white is None:
        return None
    bands = 3 if image.mode == "RGB" else 1
    kind = np.dtype(np.uint8 if white < 256 else ">u2")
    count, there = image.width * image.height * bands, len(data) - tile.offset
    if there < count * kind.itemsize:
        raise DataError(
            f"it is cut: {count * kind.itemsize:,} bytes of pixels are announced, and {there:,} are there. Copy it anew."
        )
    values = np.frombuffer(data, kind, count, tile.offset).reshape(image.height, image.width, bands)
    if int(values.max()) > white:
        raise DataError(f"it holds {int(values.max())}, and its header says that white is {white}. Write it anew.")
    return Raster(values.astype(kind.newbyteorder("=")), float(white))


def deep_grey(image: ImageFile, kind: str) -> Raster | None:
    """Return a loaded picture of one channel of 16 or 32 bits, or floats; None for others."""
    top = _TOPS.get(image.mode)
    if top is None:
        return None
    if "transparency" in image.info:
        raise DataError(_TRANSPARENT)
    values = np.array(image)[..., None]
    made = Raster(values.astype(values.dtype.newbyteorder("=")), float(top))
    return made if kind == "TIFF" else turned(image, made)  # Pillow turns a TIFF itself


def turned(image: ImageFile, raster: Raster) -> Raster:
    """Return a raster turned upright by the orientation of the picture that it was read from."""
    return Raster(np.ascontiguousarray(oriented(raster.values, orientation_of(image))), raster.top, raster.alpha)


def deep_colour(image: ImageFile, data: bytes, kind: str) -> Raster | None:
    """Return a picture of 16-bit colours; None for others.

    Pillow takes the first or the second byte of every number, as the raw mode says; so both are read, one after the other.
    """
    raw = _raw_mode(image, kind)
    if raw is None:
        return None
    if getattr(image, "n_frames", 1) > 1 and kind == "PNG":
        raise DataError("it is an animation of 16 bits a channel, which cannot be read. Save each frame as a file of its own.")
    if raw.startswith("LA"):  # read as four bytes, it is (grey high, grey low, opacity high, opacity low)
        pairs = _bytes(image, "RGBA").astype(np.uint16)
        return turned(image, Raster(pairs[..., 0::2] << 8 | pairs[..., 1::2], 65535.0, alpha=True))
    name, _, order = raw.partition(";16")
    from PIL import Image as pillow  # noqa: N813, PLC0415  (an extra)

    page = image.tell()
    with pillow.open(io.BytesIO(data), formats=[kind]) as again:
        again.seek(page)
        values = _bytes(image, f"{name};16{'B' if order == 'B' else 'L'}").astype(np.uint16)
        low = _bytes(again, f"{name};16{'L' if order == 'B' else 'B'}")
    if "transparency" in image.info:
        raise DataError(_TRANSPARENT)
    values <<= 8
    values |= low
    made = Raster(values[..., :3] if name == "RGBX" else values, 65535.0, alpha=name == "RGBA")
    return made if kind == "TIFF" else turned(image, made)


def _raw_mode(image: ImageFile, kind: str) -> str | None:
    """Return the raw mode of 16-bit colours, such as ``"RGB;16B"``."""
    if kind not in ("PNG", "TIFF") or not image.tile or image.mode not in ("RGB", "RGBA", "RGBX"):
        return None
    args: Any = image.tile[0].args
    raw = args if isinstance(args, str) else args[0]
    return raw if ";16" in raw else None


def _bytes(image: ImageFile, raw: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Decode a picture under another raw mode."""
    image.tile = [tile._replace(args=raw if isinstance(tile.args, str) else (raw, *(tile.args or ())[1:])) for tile in image.tile]
    return np.asarray(image)
