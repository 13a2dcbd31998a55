"""The frames of a film that are shown at given times, as tensors."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchflow.data.readers.film_look import Look, picture_of, turn_of
from torchflow.data.readers.media import TOO_FAR, opened, seconds_at, seconds_of, seek
from torchflow.errors import FileError

MAX_PIXELS = 2**25
"""Width times height of a frame, unless ``max_pixels=`` says otherwise: 8192 x 4096."""
MAX_FRAMES = 4096
"""Frames decoded for one sample, those before it from the key frame on included, unless ``max_frames=`` says otherwise."""
MAX_BYTES = 2**29
"""Bytes of one sample's pictures, unless ``max_bytes=`` says otherwise: 512 MiB."""
_LARGEST = 128  # as many frames of max_pixels may be decoded for one sample, and more of smaller ones
_EARLIER = (0.0, 1.0, 5.0, 30.0, math.inf)  # seconds: where a seek ends behind its target, it is tried from further ahead
_ROUNDED = 0.0005  # seconds by which time stamps may be rounded up: mkv has milliseconds, so that 2/30 becomes 0.067
_MISSING = 0.5  # seconds by which a film may be shorter than its header says: more is a cut file
Shown = tuple[float, Any]
"""When a frame begins to be shown, in seconds from the file's first moment and before any rounding; and the decoded frame."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a film and a sample of it may be: pixels of a frame, frames that are decoded for a sample, and its bytes."""

    pixels: int = MAX_PIXELS
    frames: int = MAX_FRAMES
    bytes: int = MAX_BYTES


@dataclass(frozen=True, slots=True)
class Film:
    """What a file says of its pictures.

    Attributes:
        seconds: How long they last.
        rate: Frames a second, on average; None where the file does not say.
        height: Pixels of a frame as it is shown, after its rotation.
        width: Pixels of a frame as it is shown, after its rotation.
    """

    seconds: float
    rate: float | None
    height: int
    width: int


def film_of(path: str, limits: Limits) -> Film:
    """Return what a file says of its pictures, after decoding the first one.

    Raises:
        FileError: It is no film, or what it says cannot be.
    """
    with opened(path) as container:
        stream = _stream(container, path, limits)
        seconds = seconds_of(container, stream)
        if seconds is None or not 0 < seconds < TOO_FAR:
            seconds = max((when for when, _ in _decoded(container, stream, path, limits)), default=0.0)
            seek(container, stream, -1.0)
        _, frame = next(_decoded(container, stream, path, limits), (0.0, None))
        if frame is None:
            raise FileError(f"{path} has no frame that can be decoded. It is cut or damaged: replace it, or leave it out.", path)
        height, width = (frame.width, frame.height) if turn_of(frame, path)[0] else (frame.height, frame.width)
        average = stream.average_rate
        return Film(seconds, float(average) if average else None, height, width)


def pictures_at(path: str, times: Sequence[float], look: Look, limits: Limits) -> Tensor:
    """Return the frames that are shown at some moments: of each, the last one that begins at it or before.

    Before the first frame that is the first, and behind the last one the last. Time stamps alone say when a frame is shown, so
    films of a varying frame rate are read as they play.

    Args:
        path: The film.
        times: Seconds from the file's first moment, in rising order.
        look: What frames are brought to.
        limits: What is refused.

    Returns:
        Shape (times, channels, height, width).

    Raises:
        FileError: The film cannot be read, or there is too much to decode.
    """
    with opened(path) as container:
        frames = _from(container, _stream(container, path, limits), path, times[0], limits)
        return _stacked(_shown(frames, times), times[0], look, limits, path)


def pictures_from(path: str, begin: float, end: float, *, count: int | None, look: Look, limits: Limits) -> Tensor:
    """Return all frames from the one that is shown at ``begin`` on: ``count`` of them, or those that begin before ``end``.

    Where the film has fewer than ``count``, the last one is repeated.

    Returns:
        Shape (frames, channels, height, width).

    Raises:
        FileError: The film cannot be read, or there is too much to decode.
    """
    with opened(path) as container:
        stream = _stream(container, path, limits)
        frames = _following(_from(container, stream, path, begin, limits), begin, end - _rounding_of(stream))
        made = _stacked(itertools.islice(frames, count), begin, look, limits, path)
    if count is None or len(made) == count:
        return made
    return torch.cat([made, made[-1:].expand(count - len(made), -1, -1, -1)])


def _stream(container: Any, path: str, limits: Limits) -> Any:
    """Return the first stream of pictures that is a film, and no cover of a song."""
    attached = container.streams.video[0].disposition.attached_pic if container.streams.video else None
    stream = next((stream for stream in container.streams.video if not (stream.disposition & attached)), None)
    if stream is None or stream.codec_context is None:
        raise FileError(f"{path} has no pictures that can be decoded: it is no film. Read its sound with from_audio.", path)
    _refuse_large(stream.codec_context.width, stream.codec_context.height, path, limits)
    return stream


def _rounding_of(stream: Any) -> float:
    """Return by how many seconds a time stamp may have been rounded up."""
    return min(float(stream.time_base) / 2, _ROUNDED) + 1e-6 if stream.time_base else 0.0


def _refuse_large(width: int, height: int, path: str, limits: Limits) -> None:
    if width * height > limits.pixels:
        raise FileError(
            f"{path} has frames of {width} x {height} pixels, more than max_pixels={limits.pixels:,}. Convert it, or raise max_pixels.",
            path,
        )


def _decoded(container: Any, stream: Any, path: str, limits: Limits) -> Iterator[Shown]:
    """Yield the frames of a film in the order in which they are shown, up to the limits."""
    pixels, end, rounding = 0, 0.0, _rounding_of(stream)
    for number, frame in enumerate(container.decode(stream)):
        _refuse_large(frame.width, frame.height, path, limits)
        pixels += frame.width * frame.height
        if number >= limits.frames or pixels > _LARGEST * limits.pixels:
            raise FileError(
                f"{path}: {number} frames of {frame.width} x {frame.height} pixels were decoded for one sample, and it is not complete. "
                "Ask for shorter ones, raise max_frames or max_pixels, or convert the film so that it has more key frames.",
                path,
            )
        when = seconds_at(container, path, frame)
        end = when + float((frame.duration or 0) * frame.time_base)
        yield when - rounding, frame
    promised = seconds_of(container, stream) if stream.duration is not None else None
    if promised is not None and end < promised - _MISSING:
        raise FileError(
            f"{path} ends after {end:.3f} seconds of the {promised:.3f} that its header promises: it is cut, or its header is wrong. "
            "Replace it, or leave it out.",
            path,
        )


def _from(container: Any, stream: Any, path: str, begin: float, limits: Limits) -> Iterator[Shown]:
    """Return the decoded frames from one on that is shown at ``begin`` or before."""
    for earlier in _EARLIER:
        target = max(0.0, begin - earlier)
        if target > 0 or earlier > 0:
            seek(container, stream, target or -1.0)
        frames = _decoded(container, stream, path, limits)
        with contextlib.nullcontext() if target == 0 else contextlib.suppress(FileError):  # it may need what was before it
            head = next(frames, None)
            if head is not None and (head[0] <= begin or target == 0):
                return itertools.chain([head], frames)
    raise FileError(f"{path} has no frame at {begin:.3f} seconds. It is cut or damaged: replace it, or leave it out.", path)


def _shown(frames: Iterator[Shown], times: Sequence[float]) -> Iterator[Shown]:
    """Yield, for every time, the frame that is shown then."""
    latest = next(frames)
    found = 0
    for following in frames:
        while found < len(times) and following[0] > times[found]:
            found += 1
            yield latest
        if found == len(times):
            return
        latest = following
    yield from itertools.repeat(latest, len(times) - found)


def _following(frames: Iterator[Shown], begin: float, end: float) -> Iterator[Shown]:
    """Yield the frame that is shown at ``begin``, and those that begin after it and before ``end``."""
    latest = next(frames)
    for following in frames:
        if following[0] >= end:
            break
        if following[0] > begin:
            yield latest
        latest = following
    yield latest


def _stacked(frames: Iterable[Shown], begin: float, look: Look, limits: Limits, path: str) -> Tensor:
    """Return frames as one tensor; one that is shown twice is brought to its look once."""
    made: list[Tensor] = []
    latest = None
    for _, frame in frames:
        if frame is latest:
            picture = made[-1]
        else:
            latest, picture = frame, picture_of(frame, look, path)
        made.append(picture)
        if len(made) * picture.nbytes > limits.bytes:
            shape = "x".join(map(str, picture.shape))
            raise FileError(
                f"{path}: a sample of more than {len(made) - 1} frames of {shape} {look.dtype} is larger than max_bytes={limits.bytes:,}. "
                "Use size= or fewer frames, or raise max_bytes.",
                path,
            )
        if picture.shape != made[0].shape:
            raise FileError(
                f"{path} changes the size of its frames midway, at {begin:.3f} seconds or later. Use size=(height, width).", path
            )
    return torch.stack(made)
