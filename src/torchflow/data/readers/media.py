"""Films, and sound in mp4, mkv, webm, avi and aac files: opened with PyAV so that a file can only be what it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from torchflow.data.readers.signatures import beginning_of
from torchflow.data.readers.sound_files import (
    MAX_SAMPLES,
    Locate,
    Samples,
    Sound,
    checked_sound,
    cut,
    needed,
    too_much,
)
from torchflow.errors import FileError, TorchflowError

# A playlist or a list of files to join, whatever it is called, could read other files and the network: it is never taken for one.
_OPTIONS = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,aac",
    "protocol_whitelist": "file",
    "max_streams": "64",
}
MAX_STREAMS = 64
# Seconds that are decoded before a window of sound, so that the decoder has settled; a seek may miss, then it is tried from further ahead.
_BEFORE = (0.5, 5.0, float("inf"))
_LEAD = 10.0  # seconds before the first moment: where all packets are
_MISSING = 0.5  # seconds by which a sound may be shorter than its header says: more is a cut file
TOO_FAR = 365 * 24 * 3600.0  # seconds: no film lasts longer, so a time stamp beyond is damage


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open a film or a sound file; whatever this or the reading raises becomes a FileError that names the file."""
    av = needed("av", "video", "a film, or sound in an mp4, mkv, webm, avi or aac file,")
    try:
        with av.open("file:" + os.path.abspath(path), options=_OPTIONS, metadata_errors="replace") as container:
            if len(container.streams) > MAX_STREAMS:
                raise FileError(f"{path} has {len(container.streams)} streams; up to {MAX_STREAMS} are read. Convert it.", path)
            for stream in container.streams:
                if stream.codec_context is not None:
                    stream.codec_context.thread_count = 1  # the loader's threads and processes are the parallelism
            yield container
    except TorchflowError:
        raise
    except Exception as error:
        raise FileError(_unreadable(path, error), path) from error


def _unreadable(path: str, error: Exception) -> str:
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    expected = (
        f"It begins with {beginning_of(path)}; an mp4, mov, m4a, mkv, webm, avi or aac file was expected, whole and not damaged"
    )
    return f"{path} cannot be decoded: {said}. {expected}. Convert or replace it, or leave it out."


def origin_of(container: Any) -> float:
    """Return the time at which a file begins, in seconds: the first moment of any of its streams."""
    return (container.start_time or 0) / 1_000_000


def seconds_of(container: Any, stream: Any) -> float | None:
    """Return how long a stream lasts by the file's header, from the file's first moment; None where the header does not say."""
    if stream.duration is not None and stream.time_base is not None:
        start = float((stream.start_time or 0) * stream.time_base)
        return max(0.0, start + float(stream.duration * stream.time_base) - origin_of(container))
    return None if container.duration is None else max(0.0, container.duration / 1_000_000)


def seek(container: Any, stream: Any, seconds: float) -> None:
    """Go to a key frame of a stream at or before a time, in seconds from the file's first moment; before it, to the first packet."""
    timestamp = int((Fraction(seconds) + Fraction(origin_of(container))) / stream.time_base)
    container.seek(timestamp, stream=stream, backward=True, any_frame=False)


def seconds_at(container: Any, path: str, frame: Any) -> float:
    """Return when a decoded frame is shown, or its sound is heard: seconds from the file's first moment.

    Raises:
        FileError: It has no time stamp, or an impossible one, or could not be decoded whole.
    """
    stamp = frame.pts if frame.pts is not None else frame.dts
    if stamp is None or frame.time_base is None:
        raise FileError(f"{path} has a frame without a time stamp, so nobody knows when it is. Convert the file to mp4.", path)
    seconds = float(stamp * frame.time_base) - origin_of(container)
    if not -TOO_FAR < seconds < TOO_FAR:
        raise FileError(
            f"{path} has a frame at {seconds:.3g} seconds: its time stamps are damaged. Convert or replace the file.", path
        )
    if frame.is_corrupt:  # the decoder has filled in what it could not read
        raise FileError(f"{path} is damaged at {seconds:.3f} seconds. Replace it, or leave it out.", path)
    return seconds


@dataclass(frozen=True, slots=True)
class _Track:
    """A stream of sound in an open file."""

    container: Any
    stream: Any
    path: str
    rate: int
    channels: int


def _track(container: Any, path: str) -> _Track:
    stream = next(iter(container.streams.audio), None)
    if stream is None or stream.codec_context is None:
        raise FileError(f"{path} has no sound that can be decoded. Leave it out, or read its pictures alone (sound=False).", path)
    sound = checked_sound(path, Sound(int(stream.rate or 0), int(stream.channels or 0), 1))
    return _Track(container, stream, path, sound.rate, sound.channels)


def sound_in(path: str) -> Sound:
    """Return what a file's header says of its sound; the frames follow from its duration.

    Raises:
        FileError: The file or its sound cannot be read.
    """
    with opened(path) as container:
        return _sound(_track(container, path))


def samples_in(path: str, locate: Locate) -> tuple[Sound, Samples]:
    """Return what a file's header says of its sound, and the samples that are wanted, of shape (samples, channels).

    Sample 0 is the file's first moment, which may be a picture's. Where there is no sound between two moments it is silent;
    behind its end there are fewer samples.

    Args:
        path: The file.
        locate: From what the header says to the first sample and how many samples.

    Raises:
        FileError: The file or its sound cannot be read.
    """
    with opened(path) as container:
        track = _track(container, path)
        sound = _sound(track)
        start, frames = locate(sound)
        if frames * sound.channels > MAX_SAMPLES:
            raise FileError(too_much(path, frames * sound.channels), path)
        promised = track.stream.duration is not None
        wanted = max(0, min(frames, sound.frames - start)) if promised else frames  # what an encoder filled up counts not
        made = _samples(track, start, wanted)
    if promised and wanted - len(made) > _MISSING * sound.rate:
        raise FileError(cut(path, start + len(made), sound.frames), path)
    return sound, made


def _sound(track: _Track) -> Sound:
    """Return what the header says, checked."""
    seconds = seconds_of(track.container, track.stream)
    if seconds is None:  # written by something that could not go back to fill in the duration
        frames = max((stop for _, stop, _ in _pieces(track, None)), default=0)
        seek(track.container, track.stream, -_LEAD)
    else:
        frames = round(min(seconds, TOO_FAR) * track.rate)
    return checked_sound(track.path, Sound(track.rate, track.channels, frames))


def _samples(track: _Track, start: int, frames: int) -> Samples:
    """Return samples from ``start`` on."""
    for before in _BEFORE:
        early = start / track.rate - before
        if early > 0 or before != _BEFORE[0]:  # an encoder's first packet may lie before the first moment, where no seek ends
            seek(track.container, track.stream, max(-_LEAD, early))
        pieces = _pieces(track, start + frames)
        head = next(pieces, None)
        if head is None or head[0] <= start or early <= 0:  # otherwise the seek went too far
            wanted = [piece for piece in chain([] if head is None else [head], pieces) if piece[1] > start]
            return _joined(wanted, start, frames, track.channels)
    raise FileError(f"{track.path} cannot be read from {start / track.rate:.3f} seconds on: seeking fails. Convert it.", track.path)


def _joined(pieces: list[tuple[int, int, Samples]], start: int, frames: int, channels: int) -> Samples:
    """Return pieces of sound put at their places; where there is none, silence."""
    end = max((min(stop, start + frames) for _, stop, _ in pieces), default=start)
    made = np.zeros((max(0, end - start), channels), np.float32)
    for first, stop, values in pieces:
        begin, last = max(first, start), min(stop, end)
        if begin < last:
            made[begin - start : last - start] = values[begin - first : last - first]
    return made


def _pieces(track: _Track, limit: int | None) -> Iterator[tuple[int, int, Samples]]:
    """Yield ``(first sample, behind the last, samples)`` of the decoded sound, up to a sample."""
    decoded = 0
    for frame in track.container.decode(track.stream):
        if frame.rate != track.rate or len(frame.layout.channels) != track.channels:
            said = f"{track.path} changes its sound from {track.rate} Hz, {track.channels} channels midway. Convert it."
            raise FileError(said, track.path)
        values = _floats(frame, track.channels)
        first = round(seconds_at(track.container, track.path, frame) * track.rate)
        decoded += values.size
        if decoded > MAX_SAMPLES:
            raise FileError(too_much(track.path, decoded), track.path)
        if limit is not None and first >= limit:
            return
        yield first, first + len(values), values


def _floats(frame: Any, channels: int) -> Samples:
    """Return the sound of a decoded frame as float32, (samples, channels), full scale from -1 to 1."""
    array: npt.NDArray[Any] = frame.to_ndarray()
    array = array.T if frame.format.is_planar else array.reshape(-1, channels)
    values: Samples = array.astype(np.float32)
    if array.dtype.kind == "u":
        values = (values - np.float32(128)) / np.float32(128)
    elif array.dtype.kind == "i":
        values = values / np.float32(2 ** (8 * array.dtype.itemsize - 1))
    return values
