"""What a file is, by its first bytes and never by its name."""

from __future__ import annotations

from torchflow.errors import DataError

HEAD = 144
"""How many bytes are looked at."""

_BEGINNINGS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"qoif", "QOI"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),  # BigTIFF
    (b"MM\0+", "TIFF"),
    (b"P4", "PPM"),
    (b"P5", "PPM"),
    (b"P6", "PPM"),
)
_OTHERS = (
    (b"%!PS", "PostScript (EPS)"),
    (b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip"),
    (b"8BPS", "a Photoshop document"),
    (b"\x00\x00\x01\x00", "an icon"),
    (b"P1", "a PBM in text"),
    (b"P2", "a PGM in text"),
    (b"P3", "a PPM in text"),
    (b"\x00\x00\x00\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"<?xml", "XML, such as SVG"),
    (b"<svg", "SVG"),
    (b"<", "HTML or XML"),
    (b"version https://git-lfs", "a pointer of Git LFS: run git lfs pull"),
)
_READ = "JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, PGM, PPM, QOI and DICOM"


def kind_of(head: bytes) -> str:
    """Return the format of a file: "JPEG", "PNG", ..., as Pillow calls it, or "DICOM".

    Args:
        head: Its first :data:`HEAD` bytes.

    Raises:
        DataError: It is no picture, or of a format that is not read; the message says what it looks like.
    """
    if head[128:132] == b"DICM":  # first, because what stands before it may be the beginning of a TIFF
        return "DICOM"
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"mif1", b"miaf"):
        return "AVIF"
    if not head.strip(b"\0"):
        raise DataError(
            "it is empty. Copy it anew." if not head else "it begins with zeros, as after a copy that broke off. Copy it anew."
        )
    other = next((name for beginning, name in _OTHERS if head.lstrip().startswith(beginning)), None)
    said = f"it is {other}, not a picture that can be read" if other else f"it is no picture: it begins with {head[:8]!r}"
    raise DataError(f"{said}. Pictures are {_READ}.")
