"""DICOM: frames in the unit of their modality, and where a slice lies."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import numpy as np
from torch import Tensor

from torchflow.data.readers.dicom_values import as_stored, in_unit, unit_of, windowed
from torchflow.data.readers.image_files import joined_frames
from torchflow.data.readers.pillow_images import LARGEST_BYTES_A_PIXEL, refuse_bytes, refuse_pixels
from torchflow.data.readers.rasters import Raster, Values
from torchflow.data.readers.rendering import Rendering
from torchflow.errors import DataError

if TYPE_CHECKING:
    from pydicom import FileDataset

_DEFLATED = "1.2.840.10008.1.2.1.99"
_NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", _DEFLATED, "1.2.840.10008.1.2.2")
_RLE = "1.2.840.10008.1.2.5"


@dataclass(frozen=True, slots=True)
class Slice:
    """What a header says of where a file belongs.

    Args:
        series: The unique name of its series.
        position: Millimetres along the normal of the slice; None where it is not said.
        unit: What its values count; None where they have no unit.
    """

    series: str
    position: float | None
    unit: str | None


def read_dicom(file: IO[bytes], kind: str, size: int, *, how: Rendering) -> tuple[Tensor, Slice]:
    """Return a frame (channels, height, width), or all (frames, channels, height, width), and where the file belongs.

    Grey values are in the unit of their modality, colours from 0 to 1; with an integer dtype, or None, they are as stored.

    Args:
        file: The open file.
        kind: Its format.
        size: Its bytes.
        how: How the frames are rendered.

    Raises:
        DataError: It is no DICOM, too large, cut, or has no such frame.
        Exception: Whatever pydicom raises for a damaged file.
    """
    dataset = _parsed(file, kind, size, how)
    rasters = [_raster(dataset, number, how) for number in _checked_frames(dataset, how)]
    return joined_frames(rasters, how), _slice(dataset, how)


def read_slice(file: IO[bytes], kind: str, size: int, *, how: Rendering) -> Slice:
    """Return what the header of a DICOM file says of where it belongs; the arguments are those of :func:`read_dicom`."""
    dataset = _parsed(file, kind, size, how, stop_before_pixels=True)
    return _slice(dataset, how)


def _parsed(file: IO[bytes], kind: str, size: int, how: Rendering, *, stop_before_pixels: bool = False) -> FileDataset:
    from pydicom import dcmread  # noqa: PLC0415  (an extra)

    if kind != "DICOM":
        raise DataError(f"it is {kind}, and not DICOM. Read it with torchflow.data.from_images.")
    refuse_bytes(size, how)
    data = file.read()
    _refuse_inflation(data, how)
    return dcmread(io.BytesIO(data), stop_before_pixels=stop_before_pixels)


def _slice(dataset: FileDataset, how: Rendering) -> Slice:
    grey = str(dataset.get("PhotometricInterpretation", "")).startswith("MONOCHROME")
    return Slice(
        str(dataset.get("SeriesInstanceUID", "")),
        _position(dataset),
        unit_of(dataset) if grey and how.window is None and not as_stored(how) else None,
    )


def _refuse_inflation(data: bytes, how: Rendering) -> None:
    """Raise for a deflated file that becomes larger than any picture may be; pydicom inflates it without a limit."""
    if _DEFLATED.encode() not in data[:4096]:
        return
    start = 144 + int.from_bytes(data[140:144], "little")  # after the group of the file's own description, which is not deflated
    most = LARGEST_BYTES_A_PIXEL * how.max_pixels
    if len(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[start:], most)) >= most:
        raise DataError(f"it is deflated, and inflates to more than {most:,} bytes. Pass max_pixels= if it is meant.")


def _checked_frames(dataset: FileDataset, how: Rendering) -> Sequence[int]:
    """Return the numbers of the frames to read, after looking at what the header announces."""
    if "PixelData" not in dataset and "FloatPixelData" not in dataset and "DoubleFloatPixelData" not in dataset:
        kind = getattr(dataset.get("SOPClassUID", ""), "name", "") or "file without a class"
        raise DataError(f"it is a DICOM {kind}, which has no pixels. Leave it out.")
    rows, columns, samples, bits = (int(dataset.get(name) or 0) for name in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"))
    count = int(dataset.get("NumberOfFrames") or 1)
    refuse_pixels(columns, rows, how)
    if count < 1 or not 1 <= samples <= 4 or bits not in (1, 8, 16, 32, 64):
        raise DataError(f"its header says {count} frames of {samples} samples of {bits} bits, which is no picture. Export it anew.")
    if how.frame is not None and how.frame >= count:
        raise DataError(
            f"it has {count} frame{'s' if count > 1 else ''}, and frame={how.frame} was asked for. Pass one from 0 to {count - 1}."
        )
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    wanted = range(count) if how.frame is None else range(how.frame, how.frame + 1)
    refuse_pixels(columns, rows, how, len(wanted))
    if syntax in _NATIVE:
        needed = math.ceil(rows * columns * samples * count * bits / 8)
        found = len(dataset.get("PixelData") or dataset.get("FloatPixelData") or dataset.get("DoubleFloatPixelData") or b"")
        if found < needed * (2 / 3 if dataset.get("PhotometricInterpretation") == "YBR_FULL_422" else 1):
            raise DataError(f"it is cut: its header announces {needed:,} bytes of pixels, and {found:,} are there. Copy it anew.")
    elif syntax != _RLE:
        _refuse_other_sizes(dataset, rows, columns, count)
    return wanted


def _refuse_other_sizes(dataset: FileDataset, rows: int, columns: int, count: int) -> None:
    """Raise where a compressed frame says another size than the file around it; Pillow would decode what the frame says."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415
    from pydicom.encaps import generate_frames  # noqa: PLC0415

    for number, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=count)):
        try:
            with Image.open(io.BytesIO(frame), formats=["JPEG", "JPEG2000"]) as image:
                size = image.size
        except UnidentifiedImageError:
            continue  # such as JPEG-LS, which Pillow will not decode either
        if size != (columns, rows):
            raise DataError(
                f"its frame {number} is {size[0]} x {size[1]} pixels, and its header says {columns} x {rows}. Export it anew."
            )


def _raster(dataset: FileDataset, number: int, how: Rendering) -> Raster:
    """Return one frame."""
    from pydicom.pixels.processing import apply_color_lut  # noqa: PLC0415
    from pydicom.pixels.utils import pixel_array  # noqa: PLC0415

    try:
        values: Values = pixel_array(dataset, index=number)
    except RuntimeError as error:
        name, why = dataset.file_meta.TransferSyntaxUID.name, " ".join(str(error).split()).rpartition("plugins: ")[2]
        remedy = (
            "Convert it with gdcmconv --raw or dcmdjpeg, or install a decoder that pydicom knows: pylibjpeg, whose libjpeg is GPL."
        )
        raise DataError(f"it is compressed by {name}, which could not be decoded ({why[:120]}). {remedy}") from error
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR" and how.mode != "index":
        values = apply_color_lut(values, dataset)
    if values.ndim == 3 and how.window is not None:
        raise DataError("it is in colours, which have no window. Leave it out, or read it without window=.")
    if values.ndim == 3:
        return Raster(values, 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max))
    values = values[..., None]
    if as_stored(how):
        return Raster(values, 1.0)
    values = in_unit(dataset, number, values)
    return Raster(values if how.window is None else windowed(dataset, number, values, how.window), 1.0)


def _position(dataset: FileDataset) -> float | None:
    """Return where a slice lies along its normal, in millimetres: PS3.3, C.7.6.2.1.1."""
    place, axes = dataset.get("ImagePositionPatient"), dataset.get("ImageOrientationPatient")
    if place is None or axes is None or len(place) != 3 or len(axes) != 6:
        return None
    along, down, where = (np.array([float(value) for value in part]) for part in (axes[:3], axes[3:], place))
    found = float(np.cross(along, down) @ where)
    return found if math.isfinite(found) else None
