"""Log-mel spectrograms against their published definitions, written a second time in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchflow import data, load_model, save_model
from torchflow.data import LogMel, Padded
from torchflow.data.spectrograms import to_hertz, to_mel
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError


def mel_of(hertz: float, scale: str) -> float:
    """The HTK Book, equation 5.13; Slaney, Auditory Toolbox, 1998: 40 filters, 13 linear ones 66.67 Hz apart, 27 logarithmic ones."""
    if scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    return hertz * 3 / 200 if hertz < 1000 else 15 + 27 * math.log(hertz / 1000) / math.log(6.4)


def hertz_of(mel: float, scale: str) -> float:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def triangles(rate: int, mels: int, n_fft: int, low: float, high: float, scale: str, norm: str) -> npt.NDArray[np.float64]:
    """One triangle after the other, by its three corners."""
    step = (mel_of(high, scale) - mel_of(low, scale)) / (mels + 1)
    corners = [hertz_of(mel_of(low, scale) + place * step, scale) for place in range(mels + 2)]
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    rows = []
    for left, middle, right in zip(corners, corners[1:], corners[2:], strict=False):
        height = 2 / (right - left) if norm == "area" else 1.0
        rows.append(np.interp(bins, [left, middle, right], [0, height, 0], left=0, right=0))
    return np.stack(rows)


def spectrogram(sound: npt.NDArray[np.float64], mel: LogMel) -> npt.NDArray[np.float64]:
    """One frame after the other, with NumPy's transform."""
    hop, size = mel.hop or mel.n_fft // 4, mel.window or mel.n_fft
    before = (mel.n_fft - size) // 2
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size), (before, mel.n_fft - size - before))
    padded = np.pad(sound, mel.n_fft // 2)
    frames = [padded[place * hop : place * hop + mel.n_fft] * window for place in range(1 + len(sound) // hop)]
    power = np.abs(np.fft.rfft(np.stack(frames))) ** 2
    weights = triangles(mel.rate, mel.mels, mel.n_fft, mel.lowest, mel.highest or mel.rate / 2, mel.scale, mel.norm)
    made: npt.NDArray[np.float64] = np.log(np.maximum(weights @ power.T, mel.floor))
    return made


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from([8000, 16_000, 22_050, 44_100]),
    st.integers(1, 24),
    st.sampled_from([(1024, None, None), (512, 100, 400), (1000, 333, 999)]),
    st.sampled_from([(0.0, None), (300.0, 3400.0)]),
    st.sampled_from(["slaney", "htk"]),
    st.sampled_from(["area", "none"]),
    st.integers(1, 4000),
    st.integers(0, 2**31),
)
def test_a_spectrogram_is_that_of_the_definition(
    rate: int,
    mels: int,
    cut: tuple[int, int | None, int | None],
    band: tuple[float, float | None],
    scale: str,
    norm: str,
    samples: int,
    seed: int,
) -> None:
    sound = np.random.default_rng(seed).uniform(-1, 1, samples)
    weights = triangles(rate, mels, cut[0], band[0], band[1] or rate / 2, scale, norm)
    if not weights.sum(1).all():
        with pytest.raises(ArgumentValueError, match="nothing falls into it"):
            LogMel(rate, mels, *cut, *band, scale, norm, field=None)
        return
    mel = LogMel(rate, mels, *cut, *band, scale, norm, field=None)
    found = mel(torch.from_numpy(sound)).numpy()
    np.testing.assert_allclose(found, spectrogram(sound, mel), rtol=0, atol=2e-4)


# What librosa 0.11.0 gives: filters.mel(sr=22050, n_fft=512, n_mels=8, ...), the peaks (bin, height) of bands 0, 3 and 6.
LIBROSA_FILTERS = {
    ("slaney", "area"): [(9, 0.0025739540881232403), (38, 0.0015564754983226673), (120, 0.0004926109129940975)],
    ("slaney", "none"): [(9, 0.9516116940953084), (38, 0.996107945223079), (120, 0.9895101760961745)],
    ("htk", "area"): [(6, 0.003272268792545361), (41, 0.0012596305503140216), (129, 0.0004976361716988062)],
    ("htk", "none"): [(6, 0.9972033360756821), (41, 0.9821614286101156), (129, 0.9927881091282101)],
}
# feature.melspectrogram(sr=16000, n_fft=512, hop_length=160, win_length=400, n_mels=20, fmin=50, fmax=7600) of a rising tone, its logarithm.
LIBROSA_SPECTROGRAM = {
    (0, 0): 3.63576,
    (0, 50): -8.04572,
    (5, 0): -5.59868,
    (10, 10): -1.10413,
    (10, 50): -7.78248,
    (19, 50): 1.81952,
}


@pytest.mark.parametrize(("scale", "norm"), LIBROSA_FILTERS)
def test_the_bands_are_librosa_s(scale: str, norm: str) -> None:
    filters = LogMel(22_050, 8, 512, scale=scale, norm=norm).filters()
    found = [(int(filters[band].argmax()), filters[band].max().item()) for band in (0, 3, 6)]
    for (place, height), (expected_place, expected) in zip(found, LIBROSA_FILTERS[scale, norm], strict=True):
        assert place == expected_place
        assert height == pytest.approx(expected, rel=1e-9)


def test_a_spectrogram_is_librosa_s() -> None:
    tone = np.sin(2 * np.pi * np.cumsum(np.linspace(100, 7000, 8000)) / 16_000)
    found = LogMel(16_000, 20, 512, 160, 400, 50.0, 7600.0, field=None)(torch.from_numpy(tone))
    assert found.shape == (20, 51)
    assert [found[place].item() for place in LIBROSA_SPECTROGRAM] == pytest.approx(list(LIBROSA_SPECTROGRAM.values()), abs=1e-4)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
@settings(deadline=None)
@given(hertz=st.floats(0, 48_000))
def test_mels_are_pitches_and_come_back(scale: str, hertz: float) -> None:
    mel = to_mel(torch.tensor([hertz], dtype=torch.float64), scale)
    assert mel.item() == pytest.approx(mel_of(hertz, scale), rel=1e-6, abs=1e-6)
    assert to_hertz(mel, scale).item() == pytest.approx(hertz, rel=1e-9, abs=1e-6)


def test_known_pitches() -> None:
    known = torch.tensor([0.0, 1000.0, 6400.0], dtype=torch.float64)
    assert to_mel(known, "slaney").tolist() == pytest.approx([0, 15, 42])  # Slaney's toolbox: 6400 Hz is 27 steps above 1 kHz
    assert to_mel(known, "htk").tolist() == pytest.approx([0, 1000, 2595 * math.log10(1 + 6400 / 700)], rel=1e-4)


def test_every_triangle_has_an_area_of_one_hertz() -> None:
    area = LogMel(16_000, mels=20, n_fft=8192).filters().sum(1) * 16_000 / 8192
    assert area.tolist() == pytest.approx([1.0] * 20, abs=0.01)


def test_a_tone_lights_the_band_of_its_pitch_at_its_time() -> None:
    mel = LogMel(16_000, mels=40, field=None)
    time = torch.arange(16_000) / 16_000
    sound = torch.where(time < 0.5, torch.sin(2 * math.pi * 500 * time), torch.sin(2 * math.pi * 4000 * time))
    bands = mel(sound)[:, [20, 45]].argmax(0).tolist()
    centres = mel.filters().argmax(1) * 16_000 / 1024
    assert centres[bands[0]].item() == pytest.approx(500, abs=40)
    assert centres[bands[1]].item() == pytest.approx(4000, abs=200)


def test_silence_is_the_floor() -> None:
    assert (LogMel(8000, mels=8, floor=1e-5, field=None)(torch.zeros(100)) == math.log(1e-5)).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_does_not_depend_on_its_batch(dtype: torch.dtype) -> None:
    mel = LogMel(8000, mels=20, n_fft=256, field=None)
    batch = torch.rand(7, 2, 3000, dtype=dtype) - 0.5
    made = mel(batch)
    assert made.shape == (7, 2, 20, 1 + 3000 // 64)
    assert made.dtype == dtype
    for count in (1, 3):
        assert torch.equal(mel(batch[:count]), made[:count])
    assert torch.equal(mel(batch[6, 1]), made[6, 1])


def test_it_is_mapped_and_says_what_it_makes() -> None:
    sounds: Any = data.from_tensors((torch.rand(5, 1, 800) - 0.5, torch.arange(5)))
    mel = LogMel(8000, mels=10, n_fft=200, hop=80)
    mapped = sounds.map_batch(mel)
    x, y = mapped.take_batch([1, 4])
    assert x.shape == (2, 1, 10, 11)
    assert y.tolist() == [1, 4]
    assert mapped.schema["x"].shape == (1, 10, 11)
    assert mapped.schema["x"].dims[-2:] == ("frequency", "time")
    assert mapped.schema["x"].rate == 100
    assert torch.equal(sounds.map(mel)[4][0], x[1])


def test_its_state_is_saved_beside_a_model(tmp_path: Any) -> None:
    mel = LogMel(8000, mels=10, highest=3000.0, scale="htk", field="audio")
    save_model(nn.Linear(1, 1), tmp_path / "m.safetensors", encoders={"sound": mel})
    assert data.load_encoders(tmp_path / "m.safetensors") == {"sound": mel}
    load_model(tmp_path / "m.safetensors", into=nn.Linear(1, 1))


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "rate": ({"rate": 0}, ArgumentValueError, "rate must be"),
    "mels": ({"mels": 1.5}, ArgumentTypeError, "mels must be an int"),
    "too many mels": ({"n_fft": 64}, ArgumentValueError, r"band 0 of mels=64 .* n_fft=64.*Use fewer mels, a larger n_fft"),
    "a band too high": ({"highest": 9000.0}, ArgumentValueError, r"from lowest=0 to 9000 Hz; .* up to half the rate, 8000"),
    "a falling band": ({"lowest": 900.0, "highest": 800.0}, ArgumentValueError, "must rise"),
    "window": ({"window": 2000}, ArgumentValueError, r"window must be at most n_fft, 1024, got 2000"),
    "scale": ({"scale": "bark"}, ArgumentValueError, "'slaney', 'htk'"),
    "norm": ({"norm": None}, ArgumentTypeError, "'area', 'none'"),
    "floor": ({"floor": 0}, ArgumentValueError, "floor must be a finite number above 0"),
    "field": ({"field": 1.5}, ArgumentTypeError, "field must be a position"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_choices_are_refused(wrong: str) -> None:
    options, error, message = WRONG[wrong]
    with pytest.raises(error, match=message):
        LogMel(**{"rate": 16_000, **options})


@pytest.mark.parametrize(
    "sound",
    [
        torch.zeros(8, dtype=torch.int16),
        torch.zeros(()),
        torch.zeros(1, 0),
        "text",
        Padded(torch.zeros(1, 8), torch.ones(1, 8) > 0),
    ],
    ids=["integers", "no dimension", "nothing", "text", "padded"],
)
def test_what_is_no_sound_is_refused(sound: Any) -> None:
    with pytest.raises(DataError, match=r"LogMel needs sound, floats of shape \(\.\.\., samples\)"):
        LogMel(8000, field=None)(sound)
