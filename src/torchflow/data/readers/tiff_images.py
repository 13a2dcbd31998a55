"""TIFF: any depth and any number of channels and pages, through tifffile; the rarer compressions through Pillow."""

from __future__ import annotations

import io
import math
import os
import zlib
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from torchflow.data.readers.pillow_images import FRAME_COST, LARGEST_BYTES_A_PIXEL, pillow_rasters, refuse_pixels
from torchflow.data.readers.rasters import Raster, Values, oriented
from torchflow.data.readers.rendering import Rendering
from torchflow.errors import DataError

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_PLAIN, _DEFLATE = (1,), (8, 32946)
_GREYS, _RGB, _PALETTE, _SEPARATED = (0, 1), 2, 3, 5  # TIFF 6.0, PhotometricInterpretation; 0 is white at 0
_ASSOCIATED, _UNASSOCIATED = 1, 2  # TIFF 6.0, ExtraSamples
_RATIO = 1032  # what deflate can gain at most
_FREE = 2**26  # bytes that a strip may become without a closer look
_ORIENTATION = 274


class Within(io.BufferedReader):
    """A file that is never read past its end: a lying length costs no memory."""

    def __init__(self, raw: io.FileIO) -> None:
        super().__init__(raw)
        self._end = os.fstat(raw.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Return at most what is there."""
        there = max(0, self._end - self.tell())
        return super().read(there if size is None or size < 0 else min(size, there))


def tiff_rasters(file: IO[bytes], size: int, how: Rendering) -> list[Raster]:
    """Return the pages of a TIFF file that were asked for.

    Args:
        file: The open file.
        size: Its bytes.
        how: How the picture is rendered.

    Raises:
        DataError: The picture is too large, is cut, or has no such page.
        Exception: Whatever the decoders raise for a damaged file.
    """
    from tifffile import COMPRESSION, TiffFile  # noqa: PLC0415

    with TiffFile(file) as tiff:
        pages = list(_pages(tiff, how))
        if all(page.compression in (*_PLAIN, *_DEFLATE) and _understood(page) for page in pages):
            return [_raster(page, size, how) for page in pages]
        deep = next(
            (page for page in pages if page.bitspersample > 8 and page.samplesperpixel > 1 and page.planarconfig != 1), None
        )
        if deep is not None:
            raise DataError(f"it is compressed by {COMPRESSION(deep.compression).name} with each channel apart. {_SAVE_ANEW}")
    file.seek(0)
    return pillow_rasters(file, "TIFF", size, how)


_SAVE_ANEW = 'Save it anew without compression or by deflate: tifffile.imwrite(path, values, compression="zlib").'


def _pages(tiff: TiffFile, how: Rendering) -> Iterator[TiffPage]:
    """Yield the pages that were asked for, once their headers have been looked at."""
    if how.frame is not None:
        yield _page(tiff, how.frame, how)
        return
    number, pixels = 0, 0
    while True:
        try:
            page = _page(tiff, number, how)
        except IndexError:
            break
        pixels += max(page.imagewidth * page.imagelength, FRAME_COST)
        if pixels > how.max_pixels:
            raise DataError(
                f"its first {number + 1} pages have more than max_pixels={how.max_pixels:,} pixels. Pass a larger one, or frame=0."
            )
        yield page
        number += 1


def _page(tiff: TiffFile, number: int, how: Rendering) -> TiffPage:
    try:
        page: Any = tiff.pages[number]
    except IndexError:
        if how.frame is None and number:
            raise
        count = len(tiff.pages)
        raise DataError(
            f"it has {count} page{'s' if count != 1 else ''}, and frame={number} was asked for. Pass one from 0 to {count - 1}."
        ) from None
    page = page.aspage()
    refuse_pixels(page.imagewidth, page.imagelength, how)
    if page.imagedepth != 1:
        raise DataError(
            f"it holds a volume of {page.imagedepth} slices in one page, which is no picture. Save each slice as a page."
        )
    return page  # type: ignore[no-any-return]


def _understood(page: TiffPage) -> bool:
    """Return whether the numbers of a page mean something to :func:`_raster`."""
    return int(page.photometric) in (*_GREYS, _RGB, _PALETTE, _SEPARATED) and page.dtype is not None


def _raster(page: TiffPage, size: int, how: Rendering) -> Raster:
    """Return one page."""
    _refuse_lies(page, size, how)
    values: Values = page.asarray()
    axes = page.axes
    if axes == "SYX":
        values = values.transpose(1, 2, 0)
    elif axes == "YX":
        values = values[..., None]
    elif axes != "YXS":
        raise DataError(f"its axes are {axes}, which is no picture. Save it with the axes YX or YXS.")
    if values.dtype.kind not in "buif":
        raise DataError(f"its values are {values.dtype}, which no picture has. Save it as whole numbers or floats.")
    tag = page.tags.get(_ORIENTATION)
    turned = oriented(values, tag.value if tag is not None and tag.value in range(1, 9) else 1)
    return turned_colours(page, np.ascontiguousarray(turned), how)


def turned_colours(page: TiffPage, values: Values, how: Rendering) -> Raster:
    """Return the colours that the numbers of a page (height, width, channels) stand for."""
    kind, bits, photometric = values.dtype.kind, page.bitspersample, int(page.photometric)
    top = 1.0 if kind in "fb" else float(2 ** (bits - 1) - 1 if kind == "i" else 2**bits - 1)
    if photometric == _PALETTE and how.mode != "index" and page.colormap is not None:
        return Raster(page.colormap.T[values[..., 0]], 65535.0)
    if photometric == 0:
        values = ~values if kind == "b" else (1 if kind == "f" else -1 if kind == "i" else values.dtype.type(top)) - values
    if photometric == _SEPARATED:
        if values.shape[2] < 4 or kind != "u":
            raise DataError(
                f"its {values.shape[2]} channels are inks of {values.dtype}, and only four of whole numbers are understood. Save it as RGB."
            )
        inks = 1 - values[..., :4].astype(np.float32) / np.float32(top)
        return Raster(np.rint(inks[..., :3] * inks[..., 3:] * np.float32(top)).astype(values.dtype), top)
    colours = 3 if photometric == _RGB else 1
    extra = tuple(map(int, page.extrasamples))
    if values.shape[2] == colours + 1 and extra[:1] in ((_ASSOCIATED,), (_UNASSOCIATED,)):
        return Raster(_divided(values) if extra[0] == _ASSOCIATED else values, top, alpha=True)
    return Raster(values, top)


def _divided(values: Values) -> Values:
    """Return colours that were multiplied by their opacity as they were before."""
    opacity = values[..., -1:].astype(np.float64)
    top = 1.0 if values.dtype.kind == "f" else np.iinfo(values.dtype).max
    colours = np.divide(values[..., :-1] * float(top), opacity, out=np.zeros(values[..., :-1].shape), where=opacity > 0)
    made = colours if values.dtype.kind == "f" else np.rint(colours).clip(0, top)
    return np.concatenate((made.astype(values.dtype), values[..., -1:]), axis=-1)


def _refuse_lies(page: TiffPage, size: int, how: Rendering) -> None:
    """Raise where the header announces more than the file or ``max_pixels`` hold."""
    needed = math.prod(page.shape) * (page.dtype.itemsize if page.dtype is not None else 1)
    if needed > LARGEST_BYTES_A_PIXEL * how.max_pixels:
        said = f"{page.samplesperpixel} channels of {page.bitspersample} bits"
        raise DataError(
            f"its header says {page.imagewidth} x {page.imagelength} pixels of {said}: {needed:,} bytes. Pass a larger max_pixels= if it is meant."
        )
    offsets, counts = page.dataoffsets, page.databytecounts
    missing = len(offsets) < math.prod(page.chunked) or any(count <= 0 for count in counts)
    if missing or any(offset < 0 or offset + count > size for offset, count in zip(offsets, counts, strict=True)):
        raise DataError(
            f"it is cut: its header names {sum(counts):,} bytes of pixels, up to byte {max(map(sum, zip(offsets, counts, strict=True)), default=0):,} of {size:,}. Copy it anew."
        )
    chunk = math.prod(page.chunks) * (page.dtype.itemsize if page.dtype is not None else 1)
    if chunk > needed * 4 + _FREE:
        raise DataError(f"its tiles of {page.chunks} are larger than the picture of {page.shape}. Save it anew.")
    if page.compression in _DEFLATE:
        for offset, count in zip(offsets, counts, strict=True):
            if count * _RATIO > max(_FREE, 8 * chunk):
                _refuse_bomb(page, offset, count, chunk)


def _refuse_bomb(page: TiffPage, offset: int, count: int, chunk: int) -> None:
    """Raise where a strip or tile inflates to more than its part of the picture."""
    file = page.parent.filehandle
    inflating, got = zlib.decompressobj(), 0
    file.seek(offset)
    data = file.read(count)
    while data and not inflating.eof:
        got += len(inflating.decompress(data, 2**20))
        if got > chunk + 2**20:
            raise DataError(f"a strip of it inflates to more than the {chunk:,} bytes that it stands for. Save it anew.")
        data = inflating.unconsumed_tail
