"""One picture file as a tensor, whatever its format; what is wrong with it is said by its path."""

from __future__ import annotations

import importlib
import io
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from torchflow.data.readers.rasters import Raster, as_tensor, is_final, rendered
from torchflow.data.readers.rendering import Rendering
from torchflow.data.readers.sniffing import HEAD, kind_of
from torchflow.data.readers.tiff_images import Within, tiff_rasters
from torchflow.errors import DataError, FileError, MissingExtraError

R = TypeVar("R")


def read_image(file: Within, kind: str, size: int, *, how: Rendering, unscaled: bool = False) -> Tensor:
    """Return a picture (channels, height, width), or all its frames (frames, channels, height, width).

    Args:
        file: The open file.
        kind: Its format.
        size: Its bytes.
        how: How the picture is rendered.
        unscaled: Whether 8 bits a channel stay uint8, from 0 to 255, for who scales a whole batch at once.
    """
    rasters = rasters_of(file, kind, size, how)
    if unscaled and all(raster.values.dtype == np.uint8 and raster.top == 255 for raster in rasters):
        if how.frame is not None and is_final(rasters[0], how):
            return as_tensor(rasters[0].values.transpose(2, 0, 1))  # of any strides: whoever scales it copies it
        how = replace(how, dtype=None)
    return joined_frames(rasters, how)


def rasters_of(file: Within, kind: str, size: int, how: Rendering) -> list[Raster]:
    """Return the frames of an open file."""
    if kind == "TIFF":
        return tiff_rasters(file, size, how)
    if kind == "DICOM":
        raise DataError("it is DICOM. Read it with torchflow.data.from_dicom, which knows its units.")
    from torchflow.data.readers.pillow_images import pillow_rasters  # noqa: PLC0415

    return pillow_rasters(file, kind, size, how)


def joined_frames(rasters: list[Raster], how: Rendering) -> Tensor:
    """Return the tensor of one frame, or of all of them.

    Raises:
        DataError: The frames differ in shape, or cannot have the dtype.
    """
    made = [rendered(in_eight_bits(raster, how), how) for raster in rasters]
    if how.frame is not None:
        return made[0]
    shapes = {tuple(frame.shape) for frame in made}
    if len(shapes) > 1:
        said = " and ".join(map(str, sorted(shapes)[:2]))
        raise DataError(f"its frames have the shapes {said}. Pass mode= and size=, which make them equal, or frame=0.")
    return torch.stack(made)


def in_eight_bits(raster: Raster, how: Rendering) -> Raster:
    """Return a picture of 8 bits in its final mode and size, as Pillow makes it; other pictures as they are."""
    name = _MODES.get((raster.values.shape[2], raster.alpha))
    if raster.values.dtype != np.uint8 or raster.top != 255 or name is None or how.mode == "index" or is_final(raster, how):
        return raster
    from PIL import Image  # noqa: PLC0415  (an extra)

    from torchflow.data.readers.eight_bits import eight_bit_raster  # noqa: PLC0415

    values = raster.values[..., 0] if name == "L" else raster.values
    return eight_bit_raster(Image.fromarray(np.ascontiguousarray(values), name), how)


_MODES = {(1, False): "L", (2, True): "LA", (3, False): "RGB", (4, True): "RGBA"}


def opened(path: Path, read: Callable[[Within, str, int], R]) -> R:
    """Return what a function makes of an open file, its format and its size; every failure names the path.

    Args:
        path: The file.
        read: From the file, the name of its format and its bytes.

    Raises:
        FileError: The file is not there, is no regular file, or cannot be read as a picture.
        MissingExtraError: A library is not installed.
    """
    try:
        with Within(_raw(path)) as file:
            size = os.fstat(file.fileno()).st_size
            kind = kind_of(file.read(HEAD))
            file.seek(0)
            return read(file, kind, size)
    except FileError:
        raise
    except DataError as error:
        raise FileError(f"{path} cannot be read: {error}", path) from error.__cause__
    except ModuleNotFoundError as error:
        raise missing(error.name or "") from error
    except MemoryError as error:
        raise FileError(
            f"{path} cannot be read: it needs more memory than there is. Pass a smaller max_pixels= or leave it out.", path
        ) from error
    except Exception as error:  # a decoder that is given noise raises anything
        raise FileError(f"{path} cannot be read: {_said(error)} Copy or export it anew, or leave it out.", path) from error


def library(*modules: str) -> None:
    """Import libraries now, so that one that is missing is said when a dataset is made.

    Raises:
        MissingExtraError: One is not installed; the message names the extra that brings it.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise missing(error.name or module) from error


def missing(module: str) -> MissingExtraError:
    """Return the error that names the extra which brings a library."""
    name = {"PIL": "Pillow"}.get(module, module)
    extra = "dicom" if module == "pydicom" else "image"
    return MissingExtraError(f"reading pictures needs {name}, which is not installed: pip install 'torchflow-train[{extra}]'.")


def _raw(path: Path) -> io.FileIO:
    """Return an open file that is a file."""
    try:
        file = io.FileIO(path, opener=_without_waiting)
    except OSError as error:
        what = "a folder" if isinstance(error, IsADirectoryError) else "not there" if isinstance(error, FileNotFoundError) else ""
        raise FileError(
            f"{path} cannot be read: {f'it is {what}' if what else error.strerror or error}. Leave it out.", path
        ) from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileError(f"{path} cannot be read: it is no regular file. Leave it out.", path)
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # to open a pipe would wait for a writer


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}{f': {text}' if text else ''}."
