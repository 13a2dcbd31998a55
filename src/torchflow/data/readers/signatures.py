"""What kind of file of sound or film this is, by its first bytes."""

from __future__ import annotations

from collections.abc import Callable


def _is_riff(head: bytes, form: bytes) -> bool:
    return head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == form


_KINDS: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    ("wav", lambda head: _is_riff(head, b"WAVE")),
    ("flac", lambda head: head[:4] == b"fLaC"),
    ("ogg", lambda head: head[:4] == b"OggS"),
    ("aiff", lambda head: head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC")),
    ("au", lambda head: head[:4] in (b".snd", b"dns.")),
    ("caf", lambda head: head[:4] == b"caff"),
    ("w64", lambda head: head[:12] == b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb"),
    ("mp4", lambda head: head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    ("matroska", lambda head: head[:4] == b"\x1a\x45\xdf\xa3"),
    ("avi", lambda head: _is_riff(head, b"AVI ")),
    ("aac", lambda head: len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0),
    ("mp3", lambda head: head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0)),
)
WITH_PYAV = ("mp4", "matroska", "avi", "aac")
"""Kinds of files that the video extra reads."""


def kind_of(path: str) -> str | None:
    """Return what kind of file this is by its first bytes, whatever it is called; None where they say nothing."""
    with open(path, "rb") as file:
        head = file.read(16)
    return next((name for name, fits in _KINDS if fits(head)), None)


def beginning_of(path: str) -> str:
    """Return the first bytes of a file for a message."""
    with open(path, "rb") as file:
        return repr(file.read(16))[1:]
