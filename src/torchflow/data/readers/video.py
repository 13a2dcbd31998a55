"""Films: clips of frames by time, and the sound of the same moment."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers import media
from torchflow.data.readers.clips import Clip, checked_clip, checked_dtype, checked_size
from torchflow.data.readers.cuts import Cuts, CutSource, checked_cuts
from torchflow.data.readers.files import Files, checked_files, examined, label_field, list_files
from torchflow.data.readers.film import MAX_BYTES, MAX_FRAMES, MAX_PIXELS, Film, Limits, film_of, pictures_at, pictures_from
from torchflow.data.readers.film_look import Look
from torchflow.data.readers.sound import MAX_SECONDS, Wanted, checked_sound_wanted, read_sound, sound_field
from torchflow.data.schema import Field, Schema
from torchflow.errors import ArgumentValueError, DataError, FileError

SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi")
_FIRST_FILES = 3  # that are looked into when a dataset is made


def from_video(
    path: Any,  # whatever list_files takes: tables of any library too
    *,
    labels: str | Sequence[Any] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    recursive: bool = True,
    frames: int | None = None,
    seconds: float | None = None,
    fps: float | None = None,
    stride: float | None = None,
    start: float | Iterable[float] = 0.0,
    last: str = "pad",
    size: int | tuple[int, int] | None = None,
    grey: bool = False,
    dtype: torch.dtype = torch.uint8,
    sound: bool = False,
    rate: int | None = None,
    channels: int | None = None,
    max_seconds: float = MAX_SECONDS,
    max_pixels: int = MAX_PIXELS,
    max_frames: int = MAX_FRAMES,
    max_bytes: int = MAX_BYTES,
    bad: str = "raise",
) -> Dataset[Any]:
    """Return the dataset of films, or of clips of them; mp4, mov, mkv, webm and avi files, with the extra ``video``.

    A clip's frames are those that are shown at its moments by the film's time stamps, whatever its frame rate and wherever its
    key frames are. Frames are turned as the camera meant them, and scaled by the decoder.

    Args:
        path: A folder, a file, a list of files, or a table with a column of paths.
        labels: ``"folder"`` for the names of the folders right below ``path``; a list as long as the files; of a table the
            column's name; None for none.
        classes: The names of the classes in their order; None is those that are found, sorted.
        column: The table's column of paths.
        root: What relative paths of a list or a table start from; None is the working folder.
        recursive: Whether folders in the folder are looked into.
        frames: How many frames a clip has; without it and ``seconds`` a sample is a whole film.
        seconds: How long a clip is, in place of ``frames``.
        fps: Frames a second (Hz) that are taken from a film; None takes every frame, so that clips of ``seconds`` may differ in
            their number of frames.
        stride: Seconds from one clip's start to the next one's; None makes them follow each other.
        start: Where in its film a clip begins, in seconds: a list gives each file of a list one clip; a number is where the first
            clip of each film begins.
        last: What becomes of a last clip that does not fill: "pad" it with its last frame and silence, or "drop" it.
        size: Height and width, or the shorter side alone; None is the film's own.
        grey: One channel of brightness in place of red, green and blue.
        dtype: uint8, from 0 to 255; or float32, from 0 to 1, for which films of more than 8 bits are read with 16.
        sound: Whether a sample is a dict with the "video" and the "audio" of the same moment; it needs ``seconds`` or ``fps``, or
            whole films.
        rate: Samples of the sound a second, in Hz; None is the first film's.
        channels: Of the sound, as in :func:`from_audio`.
        max_seconds: How long one sample may be.
        max_pixels: How large a frame may be, width times height.
        max_frames: How many frames may be decoded for one sample, those from the key frame before it on included.
        max_bytes: How large a sample may be in memory.
        bad: "raise" refuses the first file that cannot be read; "skip" decodes begin and end of all files and leaves bad ones out.

    Returns:
        Samples (frames, channels, height, width), or dicts with them as "video" and float32 (channels, samples) as "audio"; with
        labels pairs ``(x, y)``.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible value, or some that do not go together.
        FileError: A file is missing, or is no film that can be read.
        DataError: No clip fits.
        MissingExtraError: PyAV is not installed.
    """
    files = list_files(
        path, factory="from_video", suffixes=SUFFIXES, labels=labels, classes=classes, column=column, root=root, recursive=recursive
    )
    look = Look(checked_size(size), arguments.flag("grey", grey), checked_dtype(dtype))
    limits = Limits(
        arguments.whole("max_pixels", max_pixels),
        arguments.whole("max_frames", max_frames),
        arguments.whole("max_bytes", max_bytes),
    )
    clip = checked_clip(frames, seconds, fps)
    cuts = checked_cuts(stride, start, last, files, windows=clip.frames is not None or clip.seconds is not None)
    if not arguments.flag("sound", sound) and (rate is not None or channels is not None):
        raise ArgumentValueError("rate and channels are those of the sound, which is not read. Add sound=True.")
    wanted = checked_sound_wanted(rate, channels, max_seconds)
    if clip.seconds is not None and clip.seconds > wanted.max_seconds:
        said = f"a clip of {clip.seconds:g} seconds is longer than max_seconds={wanted.max_seconds:g}"
        raise ArgumentValueError(f"{said}. Raise max_seconds if that is meant.")
    if sound and clip.frames is not None and clip.fps is None:
        raise ArgumentValueError("sound=True needs clips of one length in time: give seconds= or fps= beside frames=.")
    return Dataset(_source(files, clip, cuts, _How(look, limits, wanted, sound), bad))


@dataclass(frozen=True, slots=True)
class _How:
    """What a clip is brought to."""

    look: Look
    limits: Limits
    wanted: Wanted
    sound: bool


class VideoSource(CutSource):
    """Clips of films.

    Args:
        files: Which files, already looked at.
        begins: For each file, where its clips begin, in seconds.
        clip: How long a clip is.
        how: What it is brought to.
        schema: What a sample is.
        rate: Of the sound, in Hz; 0 where it is not read.
    """

    def __init__(self, files: Files, begins: Sequence[Tensor], *, clip: Clip, how: _How, schema: Schema, rate: int) -> None:
        super().__init__(files, "from_video", schema, begins)
        self._clip, self._how, self._rate = clip, how, rate

    def read(self, path: str, part: int) -> Tensor | dict[str, Tensor]:
        """Return a clip (frames, channels, height, width), with its sound where that is wanted."""
        begin = self.begin_of(part)
        video = _pictures(path, begin, self._clip, self._how)
        if not self._how.sound:
            return video
        return {"video": video, "audio": read_sound(path, begin, self._clip.seconds, self._how.wanted, self._rate)}


def _pictures(path: str, begin: float, clip: Clip, how: _How) -> Tensor:
    """Return the frames of a clip."""
    look, limits = how.look, how.limits
    if clip.fps is not None:
        count = clip.frames
        if count is None:  # the whole film
            count = max(1, math.floor((film_of(path, limits).seconds - begin) * clip.fps + 0.5))
        if count / clip.fps > how.wanted.max_seconds:
            raise FileError(_too_long(path, count / clip.fps, how.wanted.max_seconds), path)
        return pictures_at(path, [begin + place / clip.fps for place in range(count)], look, limits)
    end = math.inf if clip.seconds is None else begin + clip.seconds
    return pictures_from(path, begin, end, count=clip.frames, look=look, limits=limits)


def _source(files: Files, clip: Clip, cuts: Cuts, how: _How, bad: str) -> VideoSource:
    """Return the source, after a look into all files, or, where no durations are needed, into the first ones."""
    windows = clip.frames is not None or clip.seconds is not None
    if bad == "skip":
        good, films = examined(files, lambda path: _both_ends(path, how), bad)
    elif windows and cuts.starts is None:
        good, films = examined(files, lambda path: film_of(path, how.limits), bad)
    else:
        good = checked_files(files, bad)
        films = [film_of(path, how.limits) for path in good.paths[:_FIRST_FILES]]
    sound = media.sound_in(good.paths[0]) if how.sound else None
    if not windows or cuts.starts is not None:
        begins = cuts.single(files, good)
    else:
        known = list(zip(good.paths, films, strict=True))
        spans = [clip.span(film, path) for path, film in known]
        begins = [
            cuts.begins(path, film.seconds, span, 0.5 / (film.rate or 25.0))
            for (path, film), span in zip(known, spans, strict=True)
        ]
    if not any(map(len, begins)):
        longest = max(film.seconds for film in films)
        raise DataError(f'no clip fits: the longest film has {longest:.3f} seconds. Use shorter ones, or last="pad".')
    fields = [_video_field(clip, how.look, films[0] if len(files) == 1 else None)]
    fields += [] if sound is None else [sound_field(how.wanted, sound, clip.seconds)]
    nested = how.sound and good.labels is not None
    rate = how.wanted.rate or (0 if sound is None else sound.rate)
    return VideoSource(good, begins, clip=clip, how=how, schema=Schema((*fields, *label_field(good)), nested), rate=rate)


def _both_ends(path: str, how: _How) -> Film:
    """Decode a film's first and last moments, and return what it says."""
    film = film_of(path, how.limits)
    pictures_at(path, [max(0.0, film.seconds - 0.5)], how.look, how.limits)
    if how.sound:
        sound = media.sound_in(path)
        last = max(0, sound.frames - sound.rate)
        media.samples_in(path, lambda _: (last, sound.frames - last))
    return film


def _video_field(clip: Clip, look: Look, film: Film | None) -> Field:
    """Return the schema's field of the frames."""
    height, width = (
        look.size if isinstance(look.size, tuple) else (None, None) if film is None else look.shape(film.height, film.width)
    )
    shape = (clip.frames, 1 if look.grey else 3, height, width)
    rate = clip.fps or (None if film is None else film.rate)
    return Field("video", shape, look.dtype, "brightness", dims=("time", "channel", "height", "width"), rate=rate)


def _too_long(path: str, found: float, limit: float) -> str:
    return f"{path}: a clip of {found:,.1f} seconds is longer than max_seconds={limit:g}. Read shorter ones, or raise max_seconds."
