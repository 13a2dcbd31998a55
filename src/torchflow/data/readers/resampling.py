"""From one sampling rate to another, and windows whose samples are those of the whole file."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from torchflow.data.readers.sound_files import Samples, needed

_MARGIN = 0.05  # seconds of sound around a window that the resampling filter sees, and at least
_PERIODS = 200  # samples at the lower of the two rates: the filter is longer where that is low


@dataclass(frozen=True, slots=True)
class Span:
    """Where the samples of a window lie in a file, at the file's own rate.

    Attributes:
        start: The first sample to read.
        frames: How many to read.
        rate: The file's rate.
        wanted: The rate of the window.
        skip: Samples to leave out at the window's rate, before the window begins.
        keep: Samples of the window.
    """

    start: int
    frames: int
    rate: int
    wanted: int
    skip: int
    keep: int


def frames_at(frames: int, rate: int, wanted: int) -> int:
    """Return how many samples a sound has at another rate, rounded to the nearest and at least one."""
    return max(1, (2 * frames * wanted + rate) // (2 * rate)) if frames else 0


def span_of(start: int, frames: int, rate: int, wanted: int) -> Span:
    """Return what to read for samples ``start`` to ``start + frames`` at the rate ``wanted``.

    With rates of greatest common divisor g, every rate/g samples of the file fall on a sample of the window's rate. Reading
    begins at such a place, at least 50 ms before the window, so that the window is that part of the whole file resampled.
    """
    if rate == wanted:
        return Span(start, frames, rate, wanted, 0, frames)
    common = math.gcd(rate, wanted)
    step, out = rate // common, wanted // common
    margin = math.ceil(max(_MARGIN, _PERIODS / min(rate, wanted)) * rate / step)
    first = max(0, start // out - margin)
    last = -(-(start + frames) // out) + margin
    return Span(first * step, (last - first) * step, rate, wanted, start - first * out, frames)


def resampled(sound: Samples, span: Span) -> Samples:
    """Return a window's samples, of shape (at most ``span.keep``, channels), from what was read for it.

    The filter is that of libsoxr at its high quality.
    """
    if span.rate != span.wanted and len(sound):
        total = frames_at(len(sound), span.rate, span.wanted)
        made: Samples = needed("soxr", "audio", "resampling sound").resample(np.ascontiguousarray(sound), span.rate, span.wanted)
        if len(made) < total:  # it rounds the length in its own way, by a sample
            made = np.concatenate([made, np.zeros((total - len(made), made.shape[1]), np.float32)])
        sound = made[:total]
    return sound[span.skip : span.skip + span.keep]
