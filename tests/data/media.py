"""Small files of sound and film, and damage to them, for the tests."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import soundfile

RATE = 8000


def sine(seconds: float = 0.5, rate: int = RATE, hertz: float = 440.0, channels: int = 1) -> npt.NDArray[np.float32]:
    """Shape (samples, channels)."""
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave.astype(np.float32)[:, None], channels, axis=1)


def write_sound(path: Path, sound: npt.NDArray[np.float32] | None = None, rate: int = RATE, **options: Any) -> Path:
    """Write sound as what the suffix says."""
    if path.suffix in (".ogg", ".opus"):
        options = {"format": "OGG", "subtype": "VORBIS" if path.suffix == ".ogg" else "OPUS", **options}
    soundfile.write(path, sine() if sound is None else sound, rate, **options)
    return path


def write_aac(path: Path, sound: npt.NDArray[np.float32], rate: int = 16_000) -> Path:
    """Write sound (samples, channels) as AAC in mp4 or mkv."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=rate, layout="stereo" if sound.shape[1] == 2 else "mono")
        _encode_sound(container, stream, sound, rate)
    return path


def picture(number: int, height: int = 48, width: int = 64) -> npt.NDArray[np.uint8]:
    """A frame that shows its number in binary, in blocks that survive compression; bit 0 is at the top left."""
    bits = np.array([(number >> bit) & 1 for bit in range(8)], np.uint8).reshape(2, 4)
    grey = np.kron(bits * 160 + 40, np.ones((height // 2, width // 4), np.uint8))
    return np.repeat(grey[:, :, None], 3, axis=2)


def number_of(frame: Any) -> int:
    """The number that a frame (channels, height, width) of :func:`picture` shows."""
    blocks = np.asarray(frame, np.float32).mean(0)
    height, width = blocks.shape
    bits = blocks.reshape(2, height // 2, 4, width // 4).mean((1, 3)).reshape(-1) > 120
    return int(sum(int(bit) << place for place, bit in enumerate(bits)))


def write_film(
    path: Path,
    times: Sequence[int] | None = None,
    *,
    base: Fraction = Fraction(1, 1000),
    codec: str = "libx264",
    group: int = 5,
    sound: npt.NDArray[np.float32] | None = None,
    degrees: int = 0,
    size: tuple[int, int] = (48, 64),
    draw: Callable[[int], npt.NDArray[np.uint8]] | None = None,
    options: dict[str, str] | None = None,
    private: dict[str, str] | None = None,
) -> Path:
    """Write a film whose frame ``i`` shows the number ``i`` from ``times[i]`` on, in units of ``base``."""
    stamps = list(range(0, 1000, 40)) if times is None else list(times)
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = base
        stream.codec_context.gop_size = group
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.options = {"crf": "10", "preset": "fast", "bf": "2", "sc_threshold": "0", **(private or {})}
        if degrees:
            stream.set_display_rotation(degrees)
        other: Any = None
        if sound is not None:
            other = container.add_stream("aac", rate=16_000, layout="mono")
        for number, stamp in enumerate(stamps):
            image = picture(number, *size) if draw is None else draw(number)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = stamp, base
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
        if other is not None and sound is not None:
            _encode_sound(container, other, sound, 16_000)
    return path


def _encode_sound(container: Any, stream: Any, sound: npt.NDArray[np.float32], rate: int) -> None:
    frame = av.AudioFrame.from_ndarray(
        np.ascontiguousarray(sound.T), format="fltp", layout="stereo" if sound.shape[1] == 2 else "mono"
    )
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    for packet in (*stream.encode(frame), *stream.encode()):
        container.mux(packet)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A file that was cut, overwritten, shifted or lied in."""
    changed = bytearray(data)
    kind = rng.randrange(7)
    if kind == 0:
        return bytes(changed[: rng.randrange(1, len(changed))])
    if kind == 1:
        for _ in range(rng.choice((1, 5, 50))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    elif kind == 2:  # a header that lies
        for _ in range(rng.choice((1, 2, 4))):
            place = rng.randrange(min(len(changed) - 4, 256))
            lie = rng.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.randrange(2**32)))
            changed[place : place + 4] = struct.pack(rng.choice(("<I", ">I")), lie)
    elif kind == 3:
        place, length = rng.randrange(len(changed)), rng.randrange(1, 400)
        changed[place : place + length] = bytes(len(changed[place : place + length]))
    elif kind == 4:
        del changed[(place := rng.randrange(len(changed))) : place + rng.randrange(1, 400)]
    elif kind == 5:
        place = rng.randrange(len(changed))
        changed[place:place] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 400)))
    else:  # lies further in: the tables of an mp4 lie behind its pictures
        for _ in range(4):
            place = rng.randrange(len(changed) - 4)
            changed[place : place + 4] = struct.pack(">I", rng.choice((0, 0x7FFFFFFF, 0xFFFFFFFF, rng.randrange(2**32))))
    return bytes(changed)
