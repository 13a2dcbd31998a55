"""Sound in wav, flac, ogg, mp3, aiff, au and caf files: what the header promises, and the samples themselves."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from torchflow.errors import FileError, MissingExtraError, TorchflowError

Samples = npt.NDArray[np.float32]
"""Shape (samples, channels); integers are scaled so that full scale is from -1 to 1."""

MAX_SAMPLES = 2**27
"""Numbers in the sound of one sample, samples times channels: 512 MiB as float32."""
MAX_CHANNELS = 64
MAX_RATE = 1_000_000
_BLOCK = 2**20  # numbers that are read at once: memory grows with what is there, never with what a header promises
_FRAMES_OF_A_BYTE = 2**16  # silence, packed as tightly as any format packs it
_RESERVOIR = 20 * 1152  # samples of the frames that hold the 511 bytes that an mp3 frame may take from before it, at 8 kbit/s
_PAGE = 65_307  # bytes of the largest page of an Ogg file
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # what writers that cannot seek leave in a wav file's header


@dataclass(frozen=True, slots=True)
class Sound:
    """What a file says of its sound.

    Attributes:
        rate: Samples a second, in Hz.
        channels: How many there are.
        frames: How many samples each channel has.
    """

    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.frames / self.rate


Locate = Callable[[Sound], tuple[int, int]]
"""From what a file says of its sound to the first sample that is wanted, and how many are."""


def needed(module: str, extra: str, purpose: str) -> Any:
    """Return an optional module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: the C library that it loads is not there
        raise MissingExtraError(
            f"{purpose} needs {module}, which is not installed: pip install 'torchflow-train[{extra}]'."
        ) from error


def checked_sound(path: str, sound: Sound) -> Sound:
    """Return what a file says of its sound, where it can be believed.

    Raises:
        FileError: Too many channels, an impossible rate, no sound at all, or more than the file can hold.
    """
    if sound.frames > os.path.getsize(path) * _FRAMES_OF_A_BYTE:
        raise FileError(
            f"{path} claims {sound.frames:,} samples, more than a file of its size can hold. Replace it, or leave it out.", path
        )
    if not 1 <= sound.channels <= MAX_CHANNELS:
        raise FileError(f"{path} claims {sound.channels} channels of sound; up to {MAX_CHANNELS} are read. Convert it.", path)
    if not 1 <= sound.rate <= MAX_RATE:
        raise FileError(f"{path} claims {sound.rate} samples a second; 1 to {MAX_RATE:,} are read. Convert it.", path)
    if sound.frames < 1:
        raise FileError(f"{path} holds no sound: its header promises {max(0, sound.frames)} samples. Leave it out.", path)
    return sound


def too_much(path: str, numbers: int) -> str:
    """Say that a sample would be too large."""
    return f"{path}: one sample would hold {numbers:,} numbers of sound; up to {MAX_SAMPLES:,} are read. Read windows: seconds=."


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Open a file with libsndfile; whatever it or the reading raises names the file."""
    soundfile = needed("soundfile", "audio", "sound in a file")
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except TorchflowError:
        raise
    except Exception as error:
        reason = str(error).removeprefix("Error : ").removeprefix(f"Error opening {path!r}: ").rstrip(".")
        reason = "nothing in it can be decoded" if reason.startswith("File does not exist") else reason  # it was opened before
        raise FileError(
            f"{path} cannot be read as sound: {reason}. It may be cut or damaged: replace it, or leave it out.", path
        ) from error


def sound_of(path: str) -> Sound:
    """Return what a file's header says.

    Raises:
        FileError: It is no sound file, or a cut one, or what it says cannot be.
        MissingExtraError: soundfile is not installed.
    """
    with _opened(path) as file:
        return _sound(path, file)


def samples_of(path: str, locate: Locate) -> tuple[Sound, Samples]:
    """Return what a file's header says, and the samples that are wanted: fewer only where its sound ends before.

    Args:
        path: The file.
        locate: From what the header says to the first sample and how many samples.

    Raises:
        FileError: The file cannot be read, or ends before its header says.
    """
    with _opened(path) as file:
        sound = _sound(path, file)
        start, frames = locate(sound)
        wanted = max(0, min(frames, sound.frames - start))
        if wanted * sound.channels > MAX_SAMPLES:
            raise FileError(too_much(path, wanted * sound.channels), path)
        if wanted and start:
            _go_to(file, path, start)
        made = list(_blocks(file, wanted))
    found = sum(map(len, made))
    if found < wanted:
        raise FileError(cut(path, start + found, sound.frames), path)
    return sound, made[0] if len(made) == 1 else np.concatenate([np.zeros((0, sound.channels), np.float32), *made])


def read_through(path: str) -> None:
    """Decode a file to its end and keep nothing, to see that it can be read."""
    with _opened(path) as file:
        sound = _sound(path, file)
        found = sum(map(len, _blocks(file, sound.frames)))
        if found < sound.frames:
            raise FileError(cut(path, found, sound.frames), path)


def _sound(path: str, file: Any) -> Sound:
    """Return what an open file's header says, checked."""
    sound = checked_sound(path, Sound(file.samplerate, file.channels, file.frames))
    if file.format in ("WAV", "WAVEX"):
        _refuse_cut_wave(path)
    return sound


def cut(path: str, found: int, promised: int) -> str:
    """Say that a file ends early."""
    reason = f"{path} ends after {found:,} samples of the {promised:,} that its header promises"
    return f"{reason}: it is cut, or its header is wrong. Replace it, or leave it out."


def _go_to(file: Any, path: str, start: int) -> None:
    """Go to a sample, and arrive there with what a decoder knows that came from the beginning.

    A frame of mp3 takes bits from those before it, and in the last page of a Vorbis stream libsndfile misses its target:
    there the samples before are decoded and thrown away.
    """
    begin = start
    if file.format in ("MP3", "MPEG"):
        begin = max(0, start - _RESERVOIR)
    elif file.format == "OGG" and file.subtype == "VORBIS":
        begin = max(0, min(start, _last_page_of(path) - 1))
    file.seek(begin)
    for _ in _blocks(file, start - begin):
        pass


def _last_page_of(path: str) -> int:
    """Return the sample at which the last page of an Ogg file begins (RFC 3533: the position at the end of the page before it)."""
    with open(path, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 4 * _PAGE))
        tail = file.read()
    place = tail.rfind(b"OggS")
    while (place := tail.rfind(b"OggS", 0, max(0, place))) >= 0:
        position = int.from_bytes(tail[place + 6 : place + 14], "little", signed=True)
        if position >= 0:
            return position
    return 0


def _blocks(file: Any, wanted: int) -> Iterator[Samples]:
    """Yield up to ``wanted`` frames, a block at a time, until nothing more comes."""
    step = max(1, _BLOCK // file.channels)
    while wanted > 0:
        block: Samples = file.read(min(step, wanted), dtype="float32", always_2d=True)
        if not len(block):
            return
        wanted -= len(block)
        yield block


def _refuse_cut_wave(path: str) -> None:
    """Refuse a wav file whose header promises more than the file holds, which libsndfile reads as a shorter one in silence."""
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        order = "big" if file.read(12)[:4] == b"RIFX" else "little"
        for _ in range(1000):  # chunks before the sound
            name, size = file.read(4), int.from_bytes(file.read(4), order)  # type: ignore[arg-type]
            if len(name) < 4 or name == b"data":
                break
            file.seek(size + size % 2, os.SEEK_CUR)
        there = end - file.tell()
    if name == b"data" and size not in _UNKNOWN_SIZES and size < 0x7FFFF000 and size > there:
        raise FileError(
            f"{path} is cut: its header promises {size:,} bytes of sound, and {max(0, there):,} are there. Replace it, or leave it out.",
            path,
        )
