"""Log-mel spectrograms: the energy of sound by time and by pitch, as the ear spaces it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.fields import checked_field, part_of, with_field, with_part
from torchflow.data.schema import Field, Schema
from torchflow.errors import ArgumentValueError, DataError
from torchflow.types import State

SCALES = ("slaney", "htk")
NORMS = ("area", "none")
# Slaney (1998): below 1 kHz a mel is 200/3 Hz; above, 27 mels are a factor of 6.4.
_SLANEY_HZ, _SLANEY_BREAK, _SLANEY_STEP = 200 / 3, 1000.0, math.log(6.4) / 27


@dataclass(frozen=True)
class LogMel:
    """Turn sound (..., samples) into log-mel spectrograms (..., mels, frames), one frame each ``hop`` samples.

    The sound is cut into frames, each centred on a multiple of ``hop`` and weighted by a Hann window, with silence before its begin
    and behind its end; there are ``1 + samples // hop``. A frame's power spectrum is weighted by triangles that are spaced
    evenly in mel, and the logarithm of the sums is taken: ``log(max(mel, floor))``. With the defaults that is the spectrogram of
    Slaney's Auditory Toolbox (1998), as librosa computes it; ``scale="htk", norm="none"`` is that of the HTK Book (Young et al. 2006,
    section 5.4), as torchaudio computes it by default.

    It is a frozen function, for ``dataset.map_batch(LogMel(16_000))`` where sounds are of one length, and for ``map`` before
    :class:`PadBatch` where they are not. Nothing in it is learnt; its state is saved beside a model as that of an encoder.

    >>> from torchflow.data import LogMel
    >>> LogMel(16_000, field=None)(torch.zeros(1, 16_000)).shape
    torch.Size([1, 64, 63])

    Args:
        rate: Samples a second, in Hz: that of the sound.
        mels: How many bands.
        n_fft: Samples of a frame's Fourier transform.
        hop: Samples from one frame to the next; None is a quarter of ``n_fft``.
        window: Samples of the Hann window, in the middle of the frame; None is ``n_fft``.
        lowest: Where the first band begins, in Hz.
        highest: Where the last band ends, in Hz; None is half the rate.
        scale: "slaney": linear below 1 kHz and logarithmic above; "htk": 2595 log10(1 + f / 700).
        norm: "area" gives every triangle an area of one, in Hz; "none" a height of one.
        floor: The least energy that is told apart from silence.
        field: The part of a sample or batch: a position in a tuple, a key of a dict, an attribute, or None for the whole.
    """

    rate: int
    mels: int = 64
    n_fft: int = 1024
    hop: int | None = None
    window: int | None = None
    lowest: float = 0.0
    highest: float | None = None
    scale: str = "slaney"
    norm: str = "area"
    floor: float = 1e-10
    field: int | str | None = 0

    def __post_init__(self) -> None:
        arguments.whole("rate", self.rate)
        arguments.whole("mels", self.mels)
        arguments.whole("n_fft", self.n_fft, minimum=2)
        arguments.whole_or_none("hop", self.hop)
        arguments.whole_or_none("window", self.window)
        arguments.real("lowest", self.lowest, minimum=0)
        arguments.one_of("scale", self.scale, SCALES)
        arguments.one_of("norm", self.norm, NORMS)
        arguments.real("floor", self.floor, above=0)
        checked_field(self.field)
        top = self.rate / 2 if self.highest is None else arguments.real("highest", self.highest, above=0)
        if not self.lowest < top <= self.rate / 2:
            raise ArgumentValueError(
                f"bands go from lowest={self.lowest:g} to {top:g} Hz; they must rise, up to half the rate, {self.rate / 2:g}."
            )
        if self.window is not None and self.window > self.n_fft:
            raise ArgumentValueError(f"window must be at most n_fft, {self.n_fft}, got {self.window}.")
        empty = (self.filters().sum(1) == 0).nonzero()
        if len(empty):
            raise ArgumentValueError(
                f"band {int(empty[0])} of mels={self.mels} lies between two frequencies of n_fft={self.n_fft}, so nothing falls into it. "
                "Use fewer mels, a larger n_fft or a higher lowest."
            )

    # A sample or batch of any structure, in which one part becomes something else.
    def __call__(self, tree: Any) -> Any:
        """Return the sample or batch with its sound as a spectrogram.

        Raises:
            DataError: The part is no sound: a floating tensor (..., samples) with at least one sample.
        """
        sound = part_of(tree, self.field)
        if not isinstance(sound, Tensor) or not sound.is_floating_point() or not sound.ndim or not sound.numel():
            found = f"{sound.dtype} {tuple(sound.shape)}" if isinstance(sound, Tensor) else arguments.shown(sound)
            raise DataError(
                f"LogMel needs sound, floats of shape (..., samples), at field {self.field!r}, got {found}. Map it before PadBatch."
            )
        return with_part(tree, self.field, self._spectrogram(sound))

    def schema_after(self, before: Schema | None) -> Schema | None:
        """Return the schema with bands and frames in place of samples."""
        return with_field(before, self.field, self._described)

    def filters(self) -> Tensor:
        """Return the weights of the bands: float64, shape (mels, n_fft // 2 + 1)."""
        return _filters(self.rate, self.mels, self.n_fft, (self.lowest, self.highest or self.rate / 2), self.scale, self.norm)

    def state(self) -> dict[str, State]:
        """Return what :func:`encoder_from_state` makes it from."""
        return {"encoder": "log_mel", **asdict(self)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LogMel:
        """Return the transform of a state."""
        return cls(**{name: state[name] for name in cls.__dataclass_fields__})

    def _described(self, sound: Field) -> Field:
        hop = self._hop
        frames = None if not sound.shape or sound.shape[-1] is None else 1 + sound.shape[-1] // hop
        shape = (*sound.shape[:-1], self.mels, frames)
        return replace(sound, shape=shape, unit="log energy", dims=(*sound.dims[:-1], "frequency", "time"), rate=self.rate / hop)

    @property
    def _hop(self) -> int:
        return self.hop or max(1, self.n_fft // 4)

    def _spectrogram(self, sound: Tensor) -> Tensor:
        """Return (..., mels, frames) of (..., samples); a row's values do not depend on the other rows of a batch."""
        rows = sound.reshape(-1, sound.shape[-1])
        window = torch.hann_window(self.window or self.n_fft, dtype=sound.dtype, device=sound.device)
        spectrum = torch.stft(
            rows,
            self.n_fft,
            self._hop,
            win_length=self.window or self.n_fft,
            window=window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()
        filters = torch.as_tensor(self.filters(), dtype=sound.dtype, device=sound.device)
        mel = torch.bmm(filters.expand(len(rows), -1, -1), power)  # one product a row: of one size, whatever the batch
        return mel.clamp(min=self.floor).log().reshape(*sound.shape[:-1], *mel.shape[1:])


def to_mel(hertz: Tensor, scale: str) -> Tensor:
    """Return pitches in mel of frequencies in Hz.

    The scale "htk" is that of O'Shaughnessy (1987) and the HTK Book, "slaney" that of Slaney's Auditory Toolbox (1998).
    """
    if scale == "htk":
        return 2595 * torch.log10(1 + hertz / 700)
    above = _SLANEY_BREAK / _SLANEY_HZ + torch.log(hertz.clamp(min=1e-10) / _SLANEY_BREAK) / _SLANEY_STEP
    return torch.where(hertz < _SLANEY_BREAK, hertz / _SLANEY_HZ, above)


def to_hertz(mel: Tensor, scale: str) -> Tensor:
    """Return frequencies in Hz of pitches in mel, the inverse of :func:`to_mel`."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    above = _SLANEY_BREAK * torch.exp(_SLANEY_STEP * (mel - _SLANEY_BREAK / _SLANEY_HZ))
    return torch.where(mel < _SLANEY_BREAK / _SLANEY_HZ, mel * _SLANEY_HZ, above)


@lru_cache(maxsize=16)
def _filters(rate: int, mels: int, n_fft: int, ends: tuple[float, float], scale: str, norm: str) -> Tensor:  # noqa: PLR0917
    """Return triangles with their corners evenly spaced in mel: float64, shape (mels, n_fft // 2 + 1)."""
    first, last = to_mel(torch.tensor(ends, dtype=torch.float64), scale)
    corners = to_hertz(torch.linspace(float(first), float(last), mels + 2, dtype=torch.float64), scale)
    bins = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft
    left, middle, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    weights = torch.minimum((bins - left) / (middle - left), (right - bins) / (right - middle)).clamp(min=0)
    return weights * (2 / (right - left)) if norm == "area" else weights
