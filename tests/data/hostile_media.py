"""Files of sound and film that lie, each made on purpose; what each is refused with is in test_hostile_media.py."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.data.media import sine, write_aac, write_film, write_sound

Maker = Callable[[Path], Path]


def _bytes(name: str, content: bytes) -> Maker:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _changed(name: str, change: Callable[[bytes], bytes], **options: Any) -> Maker:
    def make(folder: Path) -> Path:
        path = folder / name
        if path.suffix in (".mp4", ".mkv", ".avi"):
            write_film(path, **options)
        elif path.suffix == ".m4a":
            write_aac(path, sine(1.0, 16_000))
        else:
            write_sound(path, sine(1.0), **options)
        path.write_bytes(change(path.read_bytes()))
        return path

    return make


def _wav(channels: int = 1, rate: int = 8000, bits: int = 16, data: bytes = b"\0" * 64, claimed: int | None = None) -> bytes:
    width = max(1, channels * bits // 8)
    head = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, min(2**32 - 1, rate * width), width % 65536, bits)
    body = head + struct.pack("<4sI", b"data", len(data) if claimed is None else claimed) + data
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def _flac_of_many_samples(content: bytes) -> bytes:
    """STREAMINFO's 36 bits of total samples, all set."""
    place = 8 + 13
    return content[:place] + bytes([content[place] | 0x0F]) + b"\xff\xff\xff\xff" + content[place + 5 :]


def _large_frames(folder: Path) -> Path:
    path = folder / "large.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 8192, 8192, "gray"
        frame = av.VideoFrame.from_ndarray(np.zeros((8192, 8192), np.uint8), format="gray")
        frame.pts, frame.time_base = 0, Fraction(1, 25)
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    return path


def _long_film(folder: Path) -> Path:
    stamps = list(range(4200))
    still = np.zeros((16, 16, 3), np.uint8)
    return write_film(
        folder / "long.mp4", stamps, base=Fraction(1, 25), codec="mpeg4", group=5000, size=(16, 16), draw=lambda number: still
    )


def _far_stamps(folder: Path) -> Path:
    return write_film(folder / "far.mkv", [0, 40, 10**12], codec="libvpx")


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe.wav")
    return folder / "pipe.wav"


def _loop(folder: Path) -> Path:
    (folder / "loop.wav").symlink_to("loop.wav")
    return folder / "loop.wav"


def _playlist(name: str, text: str) -> Maker:
    def make(folder: Path) -> Path:
        write_film(folder / "secret.mp4")
        (folder / name).write_text(text.format(folder=folder), encoding="utf-8")
        return folder / name

    return make


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _first_frames(folder: Path) -> Path:
    """Cut between two frames, so that what is left decodes; in an mp4 whose table lies in front of its frames."""
    path = write_film(folder / "a.mp4", range(0, 4000, 40), options={"movflags": "faststart"}, private={"bf": "0"})
    with av.open(str(path)) as container:
        ends = [(packet.pos or 0) + packet.size for packet in container.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: ends[30]])
    return path


def _renamed(name: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(name, b"junk")


HOSTILE: dict[str, Maker] = {
    "a playlist as mp4": _playlist("list.mp4", "ffconcat version 1.0\nfile secret.mp4\n"),
    "a playlist as mkv": _playlist("list.mkv", "#EXTM3U\n#EXTINF:10,\nfile://{folder}/secret.mp4\n"),
    "a playlist as wav": _playlist("list.wav", "ffconcat version 1.0\nfile secret.mp4\n"),
    "a session as avi": _playlist("list.avi", "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"),
    "a manifest as m4a": _playlist("list.m4a", "<?xml version='1.0'?><MPD><BaseURL>file://{folder}/secret.mp4</BaseURL></MPD>"),
    "frames of 8192 x 8192": _large_frames,
    "a long film without key frames": _long_film,
    "time stamps far away": _far_stamps,
    "an mp4 without its table": _changed("a.mp4", _renamed(b"moov")),
    "half an mp4": _changed("a.mp4", _half),
    "half an mp4 with the table in front": _changed("a.mp4", _half, options={"movflags": "faststart"}, group=1),
    "the first frames of an mp4": _first_frames,
    "half an mkv": _changed("a.mkv", lambda content: content[:300]),
    "a picture as mp4": _bytes("a.mp4", b"\x89PNG\r\n\x1a\n" + b"\0" * 500),
    "a picture as wav": _bytes("a.wav", b"\x89PNG\r\n\x1a\n" + b"\0" * 500),
    "text as mp3": _bytes("a.mp3", b"this is no sound at all " * 50),
    "zeros as mp3": _bytes("a.mp3", b"\xff\xfb" + b"\0" * 5000),
    "zeros as flac": _bytes("a.flac", b"fLaC" + b"\0" * 500),
    "zeros as ogg": _bytes("a.ogg", b"OggS" + b"\0" * 500),
    "nothing": _bytes("a.wav", b""),
    "one byte": _bytes("a.flac", b"f"),
    "a tag of 256 MiB": _bytes("a.mp3", b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + b"\0" * 100),
    "a flac of 256 GiB": _changed("a.flac", _flac_of_many_samples),
    "half a flac": _changed("a.flac", _half),
    "half an mp3": _changed("a.mp3", _half),
    "half an ogg": _changed("a.ogg", _half),
    "half a wav": _changed("a.wav", _half),
    "half an m4a": _changed("a.m4a", _half),
    "a wav of no samples": _bytes("a.wav", _wav(data=b"")),
    "a wav of 255 channels": _bytes("a.wav", _wav(channels=255, data=b"\0" * 5100)),
    "a wav of 65535 channels": _bytes("a.wav", _wav(channels=65535, data=b"\0" * 500_000)),
    "a wav of no channels": _bytes("a.wav", _wav(channels=0)),
    "a wav of 4 GHz": _bytes("a.wav", _wav(rate=4_000_000_000)),
    "a wav of no rate": _bytes("a.wav", _wav(rate=0)),
    "a wav that promises more": _bytes("a.wav", _wav(claimed=1_000_000)),
    "a wav of a format that nobody knows": _bytes("a.wav", _wav().replace(b"\x10\0\0\0\x01\0", b"\x10\0\0\0\x99\x99")),
    "a pipe": _pipe,
    "a link to itself": _loop,
    "a device that never ends": lambda folder: Path("/dev/zero"),
    "a folder": lambda folder: folder,
}
