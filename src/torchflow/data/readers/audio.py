"""Sound: whole files, or windows of them by seconds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.cuts import Cuts, CutSource, checked_cuts
from torchflow.data.readers.files import Files, checked_files, examined, label_field, list_files
from torchflow.data.readers.sound import (
    MAX_SECONDS,
    Wanted,
    checked_sound_wanted,
    decode_all,
    other_rate,
    read_sound,
    sound_field,
    sound_of,
)
from torchflow.data.readers.sound_files import Sound
from torchflow.data.schema import Schema
from torchflow.errors import ArgumentValueError, DataError

SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64", ".m4a", ".aac")
_FIRST_FILES = 3  # whose headers are read when a dataset is made


def from_audio(
    path: Any,  # whatever list_files takes: tables of any library too
    *,
    labels: str | Sequence[Any] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    recursive: bool = True,
    seconds: float | None = None,
    stride: float | None = None,
    start: float | Iterable[float] = 0.0,
    last: str = "pad",
    rate: int | None = None,
    channels: int | None = None,
    max_seconds: float = MAX_SECONDS,
    bad: str = "raise",
) -> Dataset[Any]:
    """Return the dataset of sound files, or of windows of them.

    wav, flac, ogg, mp3, aiff, au and caf files need the extra ``audio``; m4a, aac and the sound of films the extra ``video``.
    What a file is, its first bytes say, and not its name. A window is read without what is before it.

    Args:
        path: A folder, a file, a list of files, or a table with a column of paths.
        labels: ``"folder"`` for the names of the folders right below ``path``; a list as long as the files; of a table the
            column's name; None for none.
        classes: The names of the classes in their order; None is those that are found, sorted.
        column: The table's column of paths.
        root: What relative paths of a list or a table start from; None is the working folder.
        recursive: Whether folders in the folder are looked into.
        seconds: How long a window is; None makes one sample of each file.
        stride: Seconds from one window's start to the next one's; None is ``seconds``, so that they follow each other.
        start: Where in its file a window begins, in seconds: a list gives each file of a list one window; a number is where
            the first window, or the sample, of each file begins.
        last: What becomes of a last window that does not fill: "pad" it with silence, or "drop" it.
        rate: Samples a second, in Hz, to which all sound is brought, by libsoxr at its high quality; None keeps the files' own, which
            must then be one.
        channels: 1 for the mean of all channels; a number of channels that files have, or that one is repeated to; None keeps
            the files' own.
        max_seconds: How long one sample may be.
        bad: "raise" refuses the first file that cannot be read; "skip" decodes all files once and leaves bad ones out.

    Returns:
        Samples: float32 (channels, samples), integers scaled so that full scale is from -1 to 1; with labels pairs ``(x, y)``.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible value.
        FileError: A file is missing, or is no sound that can be read.
        DataError: The files have several rates and ``rate`` is None, or no window fits.
        MissingExtraError: A library is not installed.
    """
    files = list_files(
        path, factory="from_audio", suffixes=SUFFIXES, labels=labels, classes=classes, column=column, root=root, recursive=recursive
    )
    cuts = checked_cuts(stride, start, last, files, windows=seconds is not None)
    wanted = checked_sound_wanted(rate, channels, max_seconds)
    length = None if seconds is None else arguments.real("seconds", seconds, above=0)
    if length is not None and length > wanted.max_seconds:
        raise ArgumentValueError(
            f"seconds={length:g} is more than max_seconds={wanted.max_seconds:g}. Raise max_seconds if that is meant."
        )
    return Dataset(_source(files, cuts, length, wanted, bad))


class AudioSource(CutSource):
    """Sound from files.

    Args:
        files: Which files, already looked at.
        begins: For each file, where its samples begin, in seconds.
        seconds: How long a sample is; None for the whole file.
        wanted: What sound is brought to.
        first: What the first file's header says.
    """

    def __init__(self, files: Files, begins: Sequence[Tensor], seconds: float | None, wanted: Wanted, first: Sound) -> None:
        self._seconds, self._wanted = seconds, wanted
        self._rate = wanted.rate or first.rate
        schema = Schema((sound_field(wanted, first, seconds), *label_field(files)))
        super().__init__(files, "from_audio", schema, begins)

    def read(self, path: str, part: int) -> Tensor:
        """Return a window, or the whole sound: float32 (channels, samples)."""
        return read_sound(path, self.begin_of(part), self._seconds, self._wanted, self._rate)


def _source(files: Files, cuts: Cuts, seconds: float | None, wanted: Wanted, bad: str) -> AudioSource:
    """Return the source, after a look at the headers of all files, or, where samples are whole files, of the first ones."""
    if bad == "skip":
        good, sounds = examined(files, decode_all, bad)
    elif seconds is not None and cuts.starts is None:
        good, sounds = examined(files, sound_of, bad)
    else:
        good = checked_files(files, bad)
        sounds = [sound_of(path) for path in good.paths[:_FIRST_FILES]]
    for path, sound in zip(good.paths, sounds, strict=False):
        if wanted.rate is None and sound.rate != sounds[0].rate:
            raise DataError(other_rate(path, sound.rate, sounds[0].rate))
    if seconds is None or cuts.starts is not None:
        begins = cuts.single(files, good)
    else:
        known = zip(good.paths, sounds, strict=True)
        begins = [cuts.begins(path, sound.seconds, seconds, 0.5 / sound.rate) for path, sound in known]
    if not any(map(len, begins)):
        longest = max(sound.seconds for sound in sounds)
        raise DataError(f'no window of {seconds:g} seconds fits: the longest file has {longest:.3f} seconds. Use last="pad".')
    return AudioSource(good, begins, seconds, wanted, sounds[0])
