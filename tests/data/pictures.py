"""Pictures for the tests: written by hand where Pillow would not, so that what is read is checked against what was meant."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

Values = np.ndarray[Any, np.dtype[Any]]
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> Values:
    """Whole numbers over the whole range of a dtype."""
    limits = np.iinfo(dtype)
    made: Values = np.asarray(np.random.default_rng(seed).integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True))
    return made


def smooth(height: int, width: int, channels: int = 3) -> Values:
    """A photograph's better behaved relative."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (7 + c) + c) + np.cos(y / (9 + 2 * c)) for c in range(channels)]
    made: Values = np.rint(np.stack(waves, -1) * 60 + 128).astype(np.uint8)
    return made


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(values: Values, *, filters: int = 0, extra: bytes = b"") -> bytes:
    """A PNG of an array (height, width, channels) of 8 or 16 bits; all rows under filter 0, 1 (Sub) or 2 (Up)."""
    height, width, channels = values.shape
    bits = values.dtype.itemsize * 8
    rows = values.astype(values.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8).reshape(height, -1)
    step = channels * values.dtype.itemsize
    before = np.zeros_like(rows)
    if filters == 1:
        before[:, step:] = rows[:, :-step]
    if filters == 2:
        before[1:] = rows[:-1]
    lines = b"".join(bytes([filters]) + row.tobytes() for row in rows - before)
    header = struct.pack(">IIBBBBB", width, height, bits, COLOUR_TYPES[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def png_header(width: int, height: int, *, bits: int = 8, colour: int = 2, content: bytes = b"") -> bytes:
    """A PNG that says it is of a size, and holds something else."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def write(path: Path, content: bytes) -> Path:
    """Write bytes, and the folders above."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
