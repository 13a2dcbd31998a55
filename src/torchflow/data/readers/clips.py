"""How long a clip of a film is, and what its frames are brought to: the choices, checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchflow import arguments
from torchflow.data.readers.film import Film
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError

MAX_SIDE = 16_384


@dataclass(frozen=True, slots=True)
class Clip:
    """How long a clip is; see :func:`from_video`."""

    frames: int | None
    seconds: float | None
    fps: float | None

    def span(self, film: Film, path: str) -> float:
        """Return how long a clip of a film is, in seconds.

        Raises:
            FileError: Nobody knows.
        """
        if self.seconds is not None:
            return self.seconds
        if not film.rate or self.frames is None:
            raise FileError(
                f"{path} does not say its frame rate, so nobody knows how long {self.frames} frames are. Give fps= or seconds=.",
                path,
            )
        return self.frames / film.rate


def checked_clip(frames: object, seconds: object, fps: object) -> Clip:
    """Return how long a clip is; with a rate, both its frames and its seconds."""
    count = arguments.whole_or_none("frames", frames)
    length = None if seconds is None else arguments.real("seconds", seconds, above=0)
    rate = None if fps is None else arguments.real("fps", fps, above=0)
    if count is not None and length is not None:
        raise ArgumentValueError("frames and seconds both say how long a clip is: give one of them, and fps= for the other.")
    if rate is not None and length is not None:
        count = max(1, round(length * rate))
    elif rate is not None and count is not None:
        length = count / rate
    return Clip(count, length, rate)


def checked_size(size: object) -> tuple[int, int] | int | None:
    """Return the size that frames are brought to."""
    if size is None or (isinstance(size, int) and not isinstance(size, bool)):
        return _side("size", size)
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ArgumentTypeError(f"size must be (height, width), the shorter side or None, got {arguments.shown(size)}.")
    height, width = _side("the height of size", size[0]), _side("the width of size", size[1])
    return (height or 1, width or 1)


def _side(name: str, value: object) -> int | None:
    side = arguments.whole_or_none(name, value)
    if side is not None and side > MAX_SIDE:
        raise ArgumentValueError(f"{name} must be at most {MAX_SIDE:,} pixels, got {side:,}.")
    return side


def checked_dtype(dtype: object) -> torch.dtype:
    """Return the dtype of frames."""
    if dtype is not torch.uint8 and dtype is not torch.float32:
        raise ArgumentValueError(f"dtype must be torch.uint8 or torch.float32, got {arguments.shown(dtype)}.")
    return torch.uint8 if dtype is torch.uint8 else torch.float32
