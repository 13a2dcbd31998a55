"""How a picture is rendered: the choices of a user, checked."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from torchflow import arguments
from torchflow.errors import ArgumentTypeError, ArgumentValueError

MAX_PIXELS = 2**26
"""The most pixels of one sample, all its frames together: 8192 x 8192."""
MODES = ("grey", "RGB", "RGBA", "index")
FITS = ("crop", "pad", "stretch")
RESAMPLES = ("nearest", "bilinear", "bicubic")


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a picture becomes a tensor; the arguments are those of :func:`torchflow.data.from_images`."""

    mode: str | None = None
    size: tuple[int, int] | None = None
    fit: str = "crop"
    resample: str = "bilinear"
    dtype: torch.dtype | None = torch.float32
    frame: int | None = 0  # None is all of them
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    padding: float = 0.0
    max_pixels: int = MAX_PIXELS
    window: tuple[float, float] | str | None = None  # of DICOM alone


def checked_rendering(
    *,
    mode: object,
    size: object,
    fit: object,
    resample: object,
    dtype: object,
    frame: object,
    background: object,
    padding: object,
    max_pixels: object,
) -> Rendering:
    """Return the choices of a user.

    Raises:
        ArgumentTypeError: One of the wrong type.
        ArgumentValueError: One that is impossible, or that another excludes.
    """
    chosen = None if mode is None else arguments.one_of("mode", mode, MODES)
    if dtype is not None and (not isinstance(dtype, torch.dtype) or dtype.is_complex or dtype is torch.bool):
        raise ArgumentTypeError(f"dtype must be a torch dtype such as torch.float32, or None, got {arguments.shown(dtype)}.")
    level = arguments.real("padding", padding)
    if chosen == "index" and not level.is_integer():
        raise ArgumentValueError(f'padding must be a whole number with mode="index", got {level}.')
    limit = arguments.whole("max_pixels", max_pixels)
    place = _size(size)
    if place is not None and place[0] * place[1] > limit:
        raise ArgumentValueError(
            f"size {place} has more pixels than max_pixels={limit:,}. Pass a larger max_pixels= if it is meant."
        )
    return Rendering(
        chosen,
        place,
        arguments.one_of("fit", fit, FITS),
        arguments.one_of("resample", resample, RESAMPLES),
        dtype,
        None if isinstance(frame, str) and frame == "all" else _frame(frame),
        _background(background),
        level,
        limit,
    )


def _size(size: object) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, numbers.Integral) else size
    if not isinstance(pair, (tuple, list, torch.Size)) or len(pair) != 2:
        raise ArgumentTypeError(f"size must be (height, width), one number for a square, or None, got {arguments.shown(size)}.")
    return arguments.whole("size", pair[0]), arguments.whole("size", pair[1])


def _frame(frame: object) -> int:
    if isinstance(frame, str):
        raise ArgumentValueError(f'frame must be a number from 0 on, or "all", got {frame!r}.')
    return arguments.whole("frame", frame, minimum=0, hint='Use "all" for all frames.')


def _background(background: object) -> tuple[float, float, float]:
    values = [background] * 3 if isinstance(background, numbers.Real) else background
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 3:
        shown = arguments.shown(background)
        raise ArgumentTypeError(f"background must be a number from 0 to 1, or one for each of red, green and blue, got {shown}.")
    red, green, blue = (arguments.real("background", value, minimum=0.0) for value in values)
    if max(red, green, blue) > 1 or not math.isfinite(red + green + blue):
        raise ArgumentValueError(f"background must be from 0 (black) to 1 (white), got {arguments.shown(background)}.")
    return red, green, blue
