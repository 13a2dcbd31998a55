"""Sound from a moment of a file on, whichever library reads it, at the rate and with the channels that are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.readers import media, sound_files
from torchflow.data.readers.resampling import frames_at, resampled, span_of
from torchflow.data.readers.signatures import WITH_PYAV, beginning_of, kind_of
from torchflow.data.readers.sound_files import MAX_CHANNELS, MAX_RATE, MAX_SAMPLES, Samples, Sound, too_much
from torchflow.data.schema import Field
from torchflow.errors import ArgumentValueError, DataError, FileError

MAX_SECONDS = 600.0
"""How long one sample may be unless ``max_seconds=`` says otherwise."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What sound is brought to; see :func:`from_audio`."""

    rate: int | None
    channels: int | None
    max_seconds: float


def checked_sound_wanted(rate: object, channels: object, max_seconds: object) -> Wanted:
    """Return what sound is brought to, after checking it."""
    return Wanted(
        rate=None if rate is None else _bounded("rate", rate, MAX_RATE),
        channels=None if channels is None else _bounded("channels", channels, MAX_CHANNELS),
        max_seconds=arguments.real("max_seconds", max_seconds, above=0),
    )


def _bounded(name: str, value: object, limit: int) -> int:
    number = arguments.whole(name, value)
    if number > limit:
        raise ArgumentValueError(f"{name} must be at most {limit:,}, got {number:,}.")
    return number


def sound_field(wanted: Wanted, first: Sound, seconds: float | None) -> Field:
    """Return the schema's field of sound, where the first file says what was not asked for."""
    rate = wanted.rate or first.rate
    samples = None if seconds is None else round(seconds * rate)
    shape = (wanted.channels or first.channels, samples)
    return Field("audio", shape, torch.float32, "amplitude", dims=("channel", "time"), rate=rate)


def read_sound(path: str, begin: float, seconds: float | None, wanted: Wanted, rate: int) -> Tensor:
    """Return sound from a moment on, for some seconds or to the file's end: float32 (channels, samples).

    A window has exactly ``round(seconds * rate)`` samples; where its file has no more sound, it is silent.

    Raises:
        FileError: The file cannot be read, or is not what ``wanted`` asks for.
    """
    at = round(begin * rate)
    keep = None if seconds is None else round(seconds * rate)

    def locate(sound: Sound) -> tuple[int, int]:
        if wanted.rate is None and sound.rate != rate:
            raise DataError(other_rate(path, sound.rate, rate))
        length = keep if keep is not None else max(0, frames_at(sound.frames, sound.rate, rate) - at)
        if length > wanted.max_seconds * rate:
            raise FileError(_too_long(path, length / rate, wanted.max_seconds), path)
        if length * sound.channels > MAX_SAMPLES:
            raise FileError(too_much(path, length * sound.channels), path)
        span = span_of(at, length, sound.rate, rate)
        return span.start, span.frames

    sound, samples = (media.samples_in if _is_media(path) else sound_files.samples_of)(path, locate)
    if not np.isfinite(samples).all():
        raise FileError(f"{path} holds sound that is not finite (NaN or infinite). Replace it, or leave it out.", path)
    length = keep if keep is not None else max(0, frames_at(sound.frames, sound.rate, rate) - at)
    made = resampled(_in_channels(samples, wanted.channels, path), span_of(at, length, sound.rate, rate))
    if keep is not None and len(made) < keep:
        made = np.concatenate([made, np.zeros((keep - len(made), made.shape[1]), np.float32)])
    if not len(made):
        raise FileError(
            f"{path} has {sound.seconds:.3f} seconds of sound and none from {begin:g} seconds on. Choose an earlier start.", path
        )
    return torch.from_numpy(np.ascontiguousarray(made.T))


def sound_of(path: str) -> Sound:
    """Return what a file's header says of its sound.

    Raises:
        FileError: It is no file of sound.
    """
    return media.sound_in(path) if _is_media(path) else sound_files.sound_of(path)


def _is_media(path: str) -> bool:
    """Return whether PyAV reads a file, by its first bytes."""
    kind = kind_of(path)
    if kind is None:
        begins = beginning_of(path)
        remedy = "wav, flac, ogg, mp3, aiff, au, caf, m4a and aac files are read. Convert it, or leave it out."
        raise FileError(f"{path} is no file of sound: it begins with {begins}. {remedy}", path)
    return kind in WITH_PYAV


def decode_all(path: str) -> Sound:
    """Decode a file to its end, a part at a time, and return what its header says.

    Raises:
        FileError: It is no file of sound, or it cannot be read to its end.
    """
    if not _is_media(path):
        sound_files.read_through(path)
        return sound_files.sound_of(path)
    sound = media.sound_in(path)
    last = max(0, sound.frames - sound.rate)
    media.samples_in(path, lambda _: (last, sound.frames - last))
    return sound


def _in_channels(samples: Samples, channels: int | None, path: str) -> Samples:
    """Return samples (samples, channels) with the channels that are wanted."""
    found = samples.shape[1]
    if channels in (None, found):
        return samples
    if channels == 1:
        made: Samples = samples.mean(axis=1, keepdims=True, dtype=np.float32)
        return made
    if found == 1:
        return np.repeat(samples, channels or 1, axis=1)
    raise FileError(f"{path} has {found} channels, which cannot become {channels}. Use channels=1 or channels=None.", path)


def other_rate(path: str, found: int, rate: int) -> str:
    """Say that files differ in their rates."""
    return f"{path} has {found} samples a second, and the first file has {rate}. Bring all to one: rate={rate}."


def _too_long(path: str, found: float, limit: float) -> str:
    remedy = "Read windows of it (seconds=), or raise the limit with max_seconds= if that is meant."
    return f"{path}: a sample of {found:,.1f} seconds is longer than max_seconds={limit:g}. {remedy}"
