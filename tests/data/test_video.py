"""Films from files: which frame is shown when, exactly, and the sound of the same moment."""

from __future__ import annotations

import bisect
import pickle
import random
import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.data.media import number_of, picture, sine, write_film, write_sound
from torchflow import data
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, FileError, MissingExtraError

EVEN = [40 * place for place in range(60)]
UNEVEN = [0, 40, 50, 60, 200, 210, 700, 710, 720, 725, 1100, 1500, 1510, 1520, 1530, 1900]

# How films of many kinds are written: (suffix, words of write_film, what the encoder is told).
FILMS: dict[str, tuple[str, dict[str, Any]]] = {
    "mp4": (".mp4", {}),
    "open groups": (".mp4", {"private": {"x264-params": "open-gop=1:keyint=10:min-keyint=10:bframes=3:b-pyramid=normal"}}),
    "no key frames": (".mp4", {"private": {"x264-params": "intra-refresh=1:keyint=20"}}),
    "one group": (".mp4", {"group": 600}),
    "fragments": (".mp4", {"options": {"movflags": "frag_keyframe+empty_moov"}}),
    "mkv": (".mkv", {}),
    "webm": (".webm", {"codec": "libvpx"}),
    "avi": (".avi", {"codec": "mpeg4", "base": Fraction(1, 25)}),
    "uneven mp4": (".mp4", {"times": UNEVEN}),
    "uneven mkv": (".mkv", {"times": UNEVEN}),
    "uneven webm": (".webm", {"times": UNEVEN, "codec": "libvpx"}),
}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, list[float]]]:
    """Films whose frame i shows the number i, and the seconds at which each frame begins."""
    folder = tmp_path_factory.mktemp("films")
    made = {}
    for name, (suffix, words) in FILMS.items():
        base = words.get("base", Fraction(1, 1000))
        stamps = words.get("times", EVEN if base == Fraction(1, 1000) else list(range(60)))
        path = write_film(folder / f"{name}{suffix}", **{**words, "times": stamps})
        made[name] = (path, [float(stamp * base) for stamp in stamps])
    return made


def numbers(clip: Tensor) -> list[int]:
    return [number_of(frame) for frame in clip]


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(FILMS)), st.floats(0, 2.2), st.integers(1, 6), st.floats(3, 60))
def test_a_clip_has_the_frames_that_are_shown_at_its_moments(
    films: dict[str, tuple[Path, list[float]]], name: str, start: float, frames: int, fps: float
) -> None:
    path, begins = films[name]
    (clip,) = data.from_video([path], frames=frames, fps=fps, start=[start])
    moments = [start + place / fps for place in range(frames)]
    if any(0 < begin - moment < 0.0006 for begin in begins for moment in moments):
        return  # within the rounding of mkv's milliseconds either frame is right
    assert numbers(clip) == [max(0, bisect.bisect_right(begins, moment) - 1) for moment in moments]


@pytest.mark.parametrize("name", FILMS)
def test_every_frame_of_a_film_is_read_once_and_in_order(films: dict[str, tuple[Path, list[float]]], name: str) -> None:
    path, begins = films[name]
    whole = data.from_video(path)[0]
    assert whole.shape == (len(begins), 3, 48, 64)
    assert whole.dtype == torch.uint8
    assert numbers(whole) == list(range(len(begins)))


@pytest.mark.parametrize("name", FILMS)
def test_seeking_gives_the_very_frames_of_reading_from_the_start(films: dict[str, tuple[Path, list[float]]], name: str) -> None:
    path, begins = films[name]
    whole = data.from_video(path, size=24)[0]
    clips = data.from_video([path] * len(begins), frames=1, start=begins, size=24)
    for place in range(0, len(begins), 3):
        assert torch.equal(clips[place][0], whole[place]), f"frame {place}"


@settings(deadline=None, max_examples=30)
@given(st.floats(0.1, 3), st.floats(0.2, 1.0), st.floats(0, 0.5), st.sampled_from(["pad", "drop"]))
def test_clips_cover_a_film(
    films: dict[str, tuple[Path, list[float]]], seconds: float, stride: float, start: float, last: str
) -> None:
    path, _ = films["mp4"]
    length = 60 * 0.04
    frames = max(1, round(seconds * 20))
    if last == "drop" and start + seconds > length + 0.02:
        with pytest.raises(DataError, match=r"no clip fits: the longest film has 2\.400 seconds"):
            data.from_video(path, seconds=seconds, fps=20, stride=stride, start=start, last=last)
        return
    clips = data.from_video(path, seconds=seconds, fps=20, stride=stride, start=start, last=last, size=8)
    assert len(clips[0]) == len(clips[len(clips) - 1]) == frames
    end = start + (len(clips) - 1) * stride + seconds
    assert end + stride > length - 0.021, "one more clip would fit"
    assert last == "pad" or end < length + 0.021


def test_clips_of_all_frames_by_seconds_and_by_count(films: dict[str, tuple[Path, list[float]]]) -> None:
    uneven = data.from_video(films["uneven mp4"][0], seconds=0.5)
    assert [numbers(clip) for clip in uneven][:3] == [[0, 1, 2, 3, 4, 5], [5, 6, 7, 8, 9], [9, 10]]
    assert uneven.schema is not None
    assert uneven.schema["video"].shape == (None, 3, 48, 64)
    even = data.from_video(films["mp4"][0], frames=25)
    assert [numbers(clip) for clip in even] == [list(range(25)), list(range(25, 50)), [*range(50, 60), *[59] * 15]]


def test_size_and_colour_are_made_in_the_decoder(films: dict[str, tuple[Path, list[float]]]) -> None:
    path, _ = films["mp4"]
    assert data.from_video(path, frames=1, size=24)[0].shape == (1, 3, 24, 32)
    assert data.from_video(path, frames=1, size=(20, 90))[0].shape == (1, 3, 20, 90)
    grey = data.from_video(path, frames=1, size=(24, 32), grey=True, dtype=torch.float32)[3]
    assert grey.shape == (1, 1, 24, 32)
    assert grey.dtype == torch.float32
    assert 0.05 < grey.min() < 0.25
    assert 0.7 < grey.max() < 0.9
    assert number_of(grey[0].repeat(3, 1, 1) * 255) == 3


def test_deep_films_keep_more_than_eight_bits_as_floats(tmp_path: Path) -> None:
    path = tmp_path / "deep.mkv"
    ramp = np.linspace(0, 65535, 64 * 1024).reshape(64, 1024).astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 1024, "gray12le"
        frame = av.VideoFrame.from_ndarray(ramp, format="gray16le")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    shallow = data.from_video(path, grey=True)[0]
    deep = data.from_video(path, grey=True, dtype=torch.float32)[0]
    assert len(shallow.unique()) <= 256
    assert len(deep.unique()) > 1000
    assert (deep[0, 0] - torch.from_numpy(ramp.astype(np.float32)) / 65535).abs().max() < 0.002


@pytest.mark.parametrize("degrees", [0, 90, 180, -90, 270])
def test_films_are_turned_as_they_are_shown(tmp_path: Path, degrees: int) -> None:
    """A camera held upright writes a film that lies on its side, and a matrix that says how it is shown."""
    path = write_film(tmp_path / "a.mp4", [0, 40], degrees=degrees)
    found = data.from_video(path)[0]
    written = data.from_video(write_film(tmp_path / "b.mp4", [0, 40]))[0]
    with av.open(str(path)) as container:
        said = next(container.decode(video=0)).rotation
    assert torch.equal(found, torch.rot90(written, said // 90, (2, 3)))  # FFmpeg's angle is counterclockwise
    assert said % 360 == degrees % 360 or degrees in (90, -90, 270)
    schema = data.from_video(path).schema
    assert schema is not None
    assert schema["video"].shape[2:] == found.shape[2:]
    assert data.from_video(path, size=(16, 20))[0].shape[2:] == (16, 20)


def test_a_slant_is_refused(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", [0, 40], degrees=30)
    with pytest.raises(FileError, match=r"a\.mp4 is to be shown at a slant, and only right angles are read\. Convert it"):
        data.from_video(path)


@pytest.fixture(scope="module")
def talkie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds, in which the sound grows louder with the number of the frame."""
    loud = np.repeat(np.linspace(0.1, 0.9, 50), 640).astype(np.float32)[:, None]
    return write_film(tmp_path_factory.mktemp("talkie") / "a.mp4", EVEN[:50], sound=sine(2.0, 16_000, 500.0) * loud)


@settings(deadline=None, max_examples=15)
@given(start=st.floats(0, 1.6), rate=st.sampled_from([16_000, 8000, 44_100]))
def test_the_sound_is_that_of_the_moment(talkie: Path, start: float, rate: int) -> None:
    (sample,) = data.from_video([talkie], frames=5, fps=12.5, start=[start], sound=True, rate=rate, channels=1)
    assert set(sample) == {"video", "audio"}
    assert sample["audio"].shape == (1, round(0.4 * rate))
    shown = numbers(sample["video"])
    heard = sample["audio"][0].reshape(5, -1).abs().amax(1)
    expected = torch.tensor([0.5 * (0.1 + 0.8 * number / 49) for number in shown])
    assert (heard - expected).abs().max() < 0.05


def test_video_sound_and_labels_together(talkie: Path) -> None:
    dataset = data.from_video([talkie, talkie], labels=["no", "yes"], frames=4, fps=8, sound=True, size=16)
    x, y = dataset.take_batch([0, 5])
    assert x["video"].shape == (2, 4, 3, 16, 21)
    assert x["audio"].shape == (2, 1, 8000)
    assert y.tolist() == [0, 1]
    schema = dataset.schema
    assert schema is not None
    assert [field.name for field in schema.fields] == ["video", "audio", "label"]
    assert schema.nested
    assert schema["video"].rate == 8
    assert schema["audio"].rate == 16_000
    copy: Any = pickle.loads(pickle.dumps(dataset.source))
    assert torch.equal(data.Dataset[Any](copy)[5][0]["video"], x["video"][1])


def test_a_film_without_sound_is_refused_where_sound_is_wanted(films: dict[str, tuple[Path, list[float]]]) -> None:
    with pytest.raises(FileError, match=r"has no sound that can be decoded.*sound=False"):
        data.from_video(films["mp4"][0], sound=True)


def test_the_cover_of_a_song_is_no_film(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        cover: Any = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = 48, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(picture(1), format="rgb24")
        frame.pts, frame.time_base = 0, Fraction(1)
        for packet in (*cover.encode(frame), *cover.encode()):
            container.mux(packet)
    with pytest.raises(FileError, match=r"song\.m4a has no pictures that can be decoded: it is no film"):
        data.from_video(path)


def test_damage_to_pictures_is_never_read_in_silence(tmp_path: Path) -> None:
    path = write_film(tmp_path / "a.mp4", EVEN[:25])
    whole = path.read_bytes()
    start = whole.index(b"mdat")
    end = start - 4 + int.from_bytes(whole[start - 4 : start], "big")
    refused = 0
    for seed in range(40):
        rng, damaged = random.Random(seed), bytearray(whole)
        for _ in range(5):
            damaged[rng.randrange(start + 800, end)] = rng.randrange(256)  # behind what the encoder writes about itself
        path.write_bytes(damaged)
        try:
            found = numbers(data.from_video(path)[0])
        except FileError as error:
            refused += re.search(r"a\.mp4 (is damaged at|cannot be decoded)", str(error)) is not None
        else:
            assert found == list(range(25))
    assert refused > 20


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "frames": ({"frames": 0}, ArgumentValueError, "frames must be an int of at least 1"),
    "frames and seconds": ({"frames": 2, "seconds": 1.0}, ArgumentValueError, "frames and seconds both say how long"),
    "fps": ({"fps": -1}, ArgumentValueError, "fps must be a finite number above 0"),
    "stride alone": ({"stride": 1.0}, ArgumentValueError, "stride says how far apart samples begin"),
    "size": ({"size": "64x48"}, ArgumentTypeError, r"size must be \(height, width\), the shorter side or None"),
    "a size of three": ({"size": (3, 4, 5)}, ArgumentTypeError, r"size must be \(height, width\)"),
    "a size of nothing": ({"size": (0, 4)}, ArgumentValueError, "the height of size must be an int of at least 1"),
    "a large size": ({"size": 20_000}, ArgumentValueError, "size must be at most 16,384 pixels"),
    "grey": ({"grey": 1}, ArgumentTypeError, "grey must be True or False"),
    "dtype": ({"dtype": torch.float64}, ArgumentValueError, "dtype must be torch.uint8 or torch.float32"),
    "rate without sound": ({"rate": 8000}, ArgumentValueError, "rate and channels are those of the sound.*Add sound=True"),
    "sound of frames": ({"frames": 3, "sound": True}, ArgumentValueError, "give seconds= or fps= beside frames="),
    "long": ({"seconds": 700}, ArgumentValueError, r"a clip of 700 seconds is longer than max_seconds=600"),
    "a long film": ({"fps": 5, "max_seconds": 1}, FileError, r"a clip of 2\.4 seconds is longer than max_seconds=1"),
    "max_pixels": ({"max_pixels": 1000}, FileError, r"frames of 64 x 48 pixels, more than max_pixels=1,000.*raise max_pixels"),
    "max_frames": ({"max_frames": 20}, FileError, r"20 frames of 64 x 48 pixels were decoded.*raise max_frames"),
    "max_bytes": (
        {"max_bytes": 20_000},
        FileError,
        r"more than 2 frames of 3x48x64 torch.uint8 is larger than max_bytes=20,000\. Use size=",
    ),
    "too many clips": (
        {"frames": 1, "fps": 1, "stride": 1e-9},
        FileError,
        r"would give 1,\d{3},\d{3},\d{3} samples.*larger stride",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_choices_are_refused(films: dict[str, tuple[Path, list[float]]], wrong: str) -> None:
    options, error, message = WRONG[wrong]
    with pytest.raises(error, match=message):
        data.from_video(films["mp4"][0], **options)[0]


def test_a_missing_library_names_its_extra(films: dict[str, tuple[Path, list[float]]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtraError, match=r"needs av, which is not installed: pip install 'torchflow-train\[video\]'"):
        data.from_video(films["mp4"][0])


def test_a_folder_a_class_with_a_bad_film_that_is_skipped(tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        write_film(tmp_path / name / "a.mp4", EVEN[:10])
    write_sound(tmp_path / "dogs" / "b.wav").rename(tmp_path / "dogs" / "b.mp4")
    with pytest.raises(FileError, match=r"dogs.b\.mp4 cannot be decoded"):
        data.from_video(tmp_path, labels="folder", frames=4, fps=10)
    with pytest.warns(UserWarning, match="1 of 3 files cannot be read"):
        dataset = data.from_video(tmp_path, labels="folder", frames=4, fps=10, bad="skip")
    assert [Path(path).name for path, _ in dataset.skipped] == ["b.mp4"]
    assert [int(label) for _, label in dataset] == [0, 1]
