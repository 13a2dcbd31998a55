"""Sound from files: what comes out is what was written, in windows as in whole, by whichever library."""

from __future__ import annotations

import math
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.data.media import RATE, sine, write_aac, write_film, write_sound
from torchflow import data
from torchflow.data import PadBatch
from torchflow.data.readers.resampling import frames_at
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, FileError, MissingExtraError


def noise(seconds: float, rate: int = RATE, channels: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (round(seconds * rate), channels))
    made: np.ndarray[Any, np.dtype[np.float32]] = np.round(samples * 2**15).astype(np.float32) / np.float32(
        2**15
    )  # what 16 bits hold
    return made


def tensor_of(sound: np.ndarray[Any, np.dtype[np.float32]]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(sound.T))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff", ".au", ".caf", ".w64"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_files_without_loss_give_what_was_written(tmp_path: Path, suffix: str, channels: int) -> None:
    sound = noise(0.1, channels=channels)
    path = write_sound(tmp_path / f"a{suffix}", sound, subtype="PCM_16")
    sample = data.from_audio(path)[0]
    assert sample.dtype == torch.float32
    assert torch.equal(sample, tensor_of(sound))


@pytest.mark.parametrize(("suffix", "rate", "tolerance"), [(".ogg", 16_000, 0.08), (".mp3", 16_000, 0.03), (".opus", 48_000, 0.05)])
def test_files_with_loss_give_nearly_what_was_written(tmp_path: Path, suffix: str, rate: int, tolerance: float) -> None:
    sound = sine(1.0, rate)
    sample = data.from_audio(write_sound(tmp_path / f"a{suffix}", sound, rate))[0]
    assert sample.shape == (1, rate)
    inside = slice(rate // 10, -rate // 10)
    assert (sample - tensor_of(sound))[:, inside].abs().max() < tolerance


@pytest.mark.parametrize("suffix", [".m4a", ".mkv", ".mov"])
def test_aac_is_read_at_its_place(tmp_path: Path, suffix: str) -> None:
    sound = sine(1.0, 16_000, 200.0, channels=2)
    sample = data.from_audio(write_aac(tmp_path / f"a{suffix}", sound))[0]
    assert sample.shape[0] == 2
    inside = slice(2000, 14_000)
    assert (sample[:, inside] - tensor_of(sound)[:, inside]).abs().max() < 0.05


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_any_depth_is_full_scale_from_minus_one_to_one(tmp_path: Path, subtype: str) -> None:
    sound = noise(0.05)
    sample = data.from_audio(write_sound(tmp_path / "a.wav", sound, subtype=subtype))[0]
    tolerance = {"PCM_U8": 1 / 127, "ULAW": 0.03, "ALAW": 0.03}.get(subtype, 0)
    assert (sample - tensor_of(sound)).abs().max() <= tolerance


SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".m4a", ".mkv")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """1.3 seconds of noise at 16 kHz in files of several kinds."""
    folder = tmp_path_factory.mktemp("sounds")
    sound = noise(1.3, 16_000)
    return {
        suffix: write_aac(folder / f"a{suffix}", sound)
        if suffix in (".m4a", ".mkv")
        else write_sound(folder / f"a{suffix}", sound, 16_000)
        for suffix in SUFFIXES
    }


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(SUFFIXES),
    st.sampled_from([None, 8000, 44_100, 16_001, 300]),
    st.floats(0.02, 1.5),
    st.floats(0.05, 0.7),
    st.floats(0, 0.4),
    st.sampled_from(["pad", "drop"]),
)
def test_windows_are_the_cuts_of_the_whole(
    sounds: dict[str, Path], suffix: str, rate: int | None, seconds: float, stride: float, start: float, last: str
) -> None:
    whole = data.from_audio(sounds[suffix], rate=rate)[0]
    hertz = rate or 16_000
    size = round(seconds * hertz)
    ends_at = whole.shape[1] / hertz + (0.07 if suffix == ".mkv" else 0)  # whose headers count the encoder's filling
    assume(
        last == "pad" or suffix != ".mkv" or not -0.002 < start + seconds - whole.shape[1] / hertz < 0.08
    )  # header and sound disagree
    if last == "drop" and start + seconds > ends_at + 0.001:
        with pytest.raises(DataError, match="no window"):
            data.from_audio(sounds[suffix], rate=rate, seconds=seconds, stride=stride, start=start, last=last)
        return
    windows = data.from_audio(sounds[suffix], rate=rate, seconds=seconds, stride=stride, start=start, last=last)
    for place, window in enumerate(windows):
        at = round((start + place * stride) * hertz)
        expected = whole[:, at : at + size]
        assert window.shape == (1, size)
        torch.testing.assert_close(window[:, : expected.shape[1]], expected, rtol=0, atol=2e-5)
        assert (window[:, expected.shape[1] :].abs() < 2e-5).all(), "silence behind the end"
    ends = start + (len(windows) - 1) * stride + seconds
    assert ends + stride > whole.shape[1] / hertz - 0.002, "one more window would fit"
    assert last == "pad" or ends < ends_at + 0.002


@pytest.mark.parametrize("suffix", [".mp3", ".ogg"])
def test_every_place_of_a_file_with_loss_is_reached_exactly(sounds: dict[str, Path], suffix: str) -> None:
    whole = data.from_audio(sounds[suffix])[0]
    starts = [place / 16_000 for place in range(0, 20_000, 397)]
    for start, window in zip(starts, data.from_audio([sounds[suffix]] * len(starts), start=starts, seconds=0.05), strict=True):
        at = round(start * 16_000)
        torch.testing.assert_close(window, whole[:, at : at + 800], rtol=0, atol=1e-6)


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 10**6))
def test_a_resampled_length_is_rounded_to_the_nearest(frames: int, rate: int, wanted: int) -> None:
    found = frames_at(frames, rate, wanted)
    assert found >= (frames > 0)
    assert abs(found - frames * wanted / rate) <= 0.5 + 1e-6 * found or found == 1


@pytest.mark.parametrize("rate", [8000, 22_050, 48_000])
def test_resampling_keeps_a_tone(tmp_path: Path, rate: int) -> None:
    path = write_sound(tmp_path / "a.wav", sine(1.0, 44_100, 440.0), 44_100, subtype="FLOAT")
    sample = data.from_audio(path, rate=rate)[0]
    expected = tensor_of(sine(1.0, rate, 440.0))
    assert sample.shape == expected.shape
    assert (sample - expected)[:, rate // 50 : -rate // 50].abs().max() < 1e-4


def test_resampling_lets_nothing_through_that_the_rate_cannot_hold(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", sine(1.0, 44_100, 10_000.0), 44_100)
    assert data.from_audio(path, rate=16_000)[0][:, 800:-800].abs().max() < 1e-4


def test_channels(tmp_path: Path) -> None:
    sound = noise(0.1, channels=2)
    two, one = write_sound(tmp_path / "2.wav", sound), write_sound(tmp_path / "1.wav", sound[:, :1])
    assert torch.equal(data.from_audio(two, channels=1)[0], tensor_of(sound).mean(0, keepdim=True))
    assert torch.equal(data.from_audio(one, channels=2)[0], tensor_of(sound[:, [0, 0]]))
    with pytest.raises(FileError, match=r"2\.wav has 2 channels, which cannot become 3\. Use channels=1"):
        data.from_audio(two, channels=3)[0]


def classes(folder: Path) -> Path:
    for name, hertz in (("low", 200.0), ("high", 2000.0)):
        (folder / name).mkdir()
        for place in range(3):
            write_sound(folder / name / f"{place}.{('wav', 'flac', 'ogg')[place]}", sine(0.2 + place / 10, 16_000, hertz), 16_000)
    return folder


def test_a_folder_a_class(tmp_path: Path) -> None:
    dataset = data.from_audio(classes(tmp_path), labels="folder", seconds=0.1, rate=8000, channels=1)
    assert [int(label) for _, label in dataset] == [0] * 9 + [1] * 9
    assert repr(dataset) == "Dataset(18 samples, from_audio; audio: float32 1x800 amplitude at 8000 Hz, label: int64 2 classes)"
    schema = dataset.schema
    assert schema is not None
    assert schema["label"].classes == ("high", "low")
    assert schema["audio"].dims == ("channel", "time")
    x, y = dataset.take_batch([0, 9])
    assert x.shape == (2, 1, 800)
    assert y.tolist() == [0, 1]


def test_a_list_of_starts_gives_each_file_one_window(tmp_path: Path) -> None:
    sound = noise(1.0)
    path = write_sound(tmp_path / "a.wav", sound)
    table = pd.DataFrame({"path": ["a.wav"] * 3, "call": ["owl", "owl", "wren"], "from": [0.5, 0.0, 0.25]})
    calls = data.from_audio(table, column="path", root=tmp_path, labels="call", start=table["from"], seconds=0.25)
    assert len(calls) == 3
    for (window, label), begin, call in zip(calls, (4000, 0, 2000), (0, 0, 1), strict=True):
        assert torch.equal(window, tensor_of(sound)[:, begin : begin + 2000])
        assert label == call
    bad = write_sound(tmp_path / "bad.wav")
    bad.write_bytes(b"RIFF....WAVEnothing")
    with pytest.warns(UserWarning, match="1 of 3 files"):
        rest = data.from_audio([bad, path, path], start=[0.1, 0.5, 0.75], seconds=0.25, bad="skip")
    assert torch.equal(rest[1], tensor_of(sound)[:, 6000:])
    assert torch.equal(rest.take_samples([0])[0], tensor_of(sound)[:, 4000:6000])


def test_sounds_of_unequal_lengths_are_padded_to_a_batch(tmp_path: Path) -> None:
    dataset = data.from_audio(classes(tmp_path), labels="folder", rate=16_000)
    batch = next(iter(data.batches_of(dataset, keys=_keys(), name="valid", batch_size=6, collate=PadBatch()).epoch(0)))
    (values, mask), labels = batch
    assert values.shape == (6, 1, 6400)
    assert mask.sum(1).tolist() == [3200, 4800, 6400] * 2
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]


def _keys() -> Any:
    from torchflow.randomness import Keys  # noqa: PLC0415, used here alone

    return Keys(0)


def test_a_dataset_travels_to_another_process(tmp_path: Path) -> None:
    dataset = data.from_audio(classes(tmp_path), labels="folder", seconds=0.1)
    copy = pickle.loads(pickle.dumps(dataset.source))
    for index in (0, 7, 17):
        assert torch.equal(dataset[index][0], data.Dataset[Any](copy)[index][0])


def test_files_of_several_rates_are_told_apart(tmp_path: Path) -> None:
    one, two = write_sound(tmp_path / "1.wav"), write_sound(tmp_path / "2.wav", rate=16_000)
    choices: list[dict[str, Any]] = [{}, {"seconds": 0.1}]
    for options in choices:
        with pytest.raises(
            DataError, match=r"2\.wav has 16000 samples a second, and the first file has 8000\. Bring all to one: rate=8000"
        ):
            data.from_audio([one, two], **options)
    later = data.from_audio([one, one, one, two])
    with pytest.raises(DataError, match=r"from_audio failed at sample 3: .*2\.wav has 16000"):
        later[3]


def test_the_sound_of_a_film_begins_with_the_film(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", sound=sine(1.0, 16_000, 300.0))
    window = data.from_audio(path, seconds=0.25, start=0.5)[0]
    expected = tensor_of(sine(1.0, 16_000, 300.0))[:, 8000:12_000]
    assert (window - expected).abs().max() < 0.03


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "seconds": ({"seconds": 0}, ArgumentValueError, "seconds must be a finite number above 0"),
    "stride alone": ({"stride": 1.0}, ArgumentValueError, "stride says how far apart samples begin.*give their length"),
    "stride": ({"seconds": 1.0, "stride": -1}, ArgumentValueError, "stride must be"),
    "start": ({"start": -0.1}, ArgumentValueError, "start must be a finite number of at least 0"),
    "start text": ({"start": "0"}, ArgumentTypeError, "start must be seconds, or a list"),
    "starts alone": ({"start": [0.1]}, ArgumentValueError, "a list of starts gives each file one sample: give its length"),
    "too few starts": ({"start": [], "seconds": 1.0}, ArgumentValueError, r"start must be a number or as many as files, 1, got 0"),
    "a wrong start": ({"start": [None], "seconds": 1.0}, ArgumentTypeError, r"start\[0\] must be a number"),
    "a start behind the end": (
        {"start": 0.6},
        FileError,
        r"0\.500 seconds of sound and none from 0\.6 seconds on\. Choose an earlier",
    ),
    "last": ({"last": "keep"}, ArgumentValueError, "'pad', 'drop'"),
    "rate": ({"rate": 44.1}, ArgumentTypeError, "rate must be an int"),
    "a high rate": ({"rate": 2 * 10**6}, ArgumentValueError, "rate must be at most 1,000,000, got 2,000,000"),
    "channels": ({"channels": 65}, ArgumentValueError, "channels must be at most 64"),
    "max_seconds": ({"max_seconds": 0}, ArgumentValueError, "max_seconds must be"),
    "longer than max_seconds": (
        {"seconds": 700},
        ArgumentValueError,
        r"seconds=700 is more than max_seconds=600\. Raise max_seconds",
    ),
    "too long": (
        {"max_seconds": 0.25},
        FileError,
        r"a sample of 0\.5 seconds is longer than max_seconds=0\.25\. Read windows of it",
    ),
    "no window fits": (
        {"seconds": 2.0, "last": "drop"},
        DataError,
        r'no window of 2 seconds fits: the longest file has 0\.500.*last="pad"',
    ),
    "bad": ({"bad": "ignore"}, ArgumentValueError, "bad must be one of"),
    "labels": ({"labels": "folder"}, ArgumentValueError, "labels='folder' has no meaning for files"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_choices_are_refused(tmp_path: Path, wrong: str) -> None:
    options, error, message = WRONG[wrong]
    path = write_sound(tmp_path / "a.wav")
    with pytest.raises(error, match=message):
        data.from_audio(path, **options)[0]


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("soundfile", "a.wav", "audio"), ("soxr", "a.wav", "audio"), ("av", "a.m4a", "video")]
)
def test_a_missing_library_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, extra: str
) -> None:
    path = write_aac(tmp_path / name, sine()) if name.endswith("m4a") else write_sound(tmp_path / name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        MissingExtraError, match=rf"needs {module}, which is not installed: pip install 'torchflow-train\[{extra}\]'"
    ):
        data.from_audio(path, rate=4000)[0]


def test_a_sound_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    sound = sine()
    sound[7] = math.nan
    path = write_sound(tmp_path / "a.wav", sound, subtype="FLOAT")
    with pytest.raises(FileError, match=r"a\.wav holds sound that is not finite"):
        data.from_audio(path)[0]


def test_a_window_is_read_without_what_is_before_it(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        for _ in range(20):
            file.write(noise(30.0))
    frames: list[int] = []
    read = soundfile.SoundFile.read

    def counting(self: Any, count: int, *args: Any, **words: Any) -> Any:
        frames.append(count)
        return read(self, count, *args, **words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soundfile.SoundFile, "read", counting)
        data.from_audio(path, seconds=0.5, start=500.0)[3]
    assert sum(frames) == 4000
