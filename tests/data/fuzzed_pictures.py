"""Damaged pictures by the hundred, each read under a limit of memory and of time.

python -m tests.data.fuzzed_pictures COUNT SEED    reads COUNT of them; the last line says what came of it
"""

from __future__ import annotations

import io
import random
import re
import resource
import signal
import sys
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import tifffile
from PIL import Image

from tests.data.pictures import noise, png, smooth
from torchflow import data
from torchflow.errors import FileError

SECONDS, MEMORY = 10, 2 * 2**30
DICOM = Path(pydicom.__file__).parent / "data" / "test_files"
REMEDIES = "Correct|[Ll]eave|Pass|Copy|Save|Export|Convert|Write|Use|Read|Replace|run|Pictures are"
WILD = [
    b"\0" * 4,
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80\0\0\0",
    b"\0\1\0\0",
    b"\0\0\1\0",
    b"\xff\xff",
    b"\0\0",
]


def with_pillow(values: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    first, *more = [Image.fromarray(value) for value in (values if isinstance(values, list) else [values])]
    first.save(buffer, kind, **options, **({"save_all": True, "append_images": more} if more else {}))
    return buffer.getvalue()


def with_tifffile(values: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


def sound_files() -> list[tuple[str, bytes]]:
    """Small files of every format, all of which can be read."""
    grey, colour, clear = smooth(33, 41, 1)[..., 0], smooth(33, 41), noise(20, 21, 4)
    several = [smooth(20, 20), smooth(20, 20)[::-1].copy(), noise(20, 20, 3)]
    deep = noise(20, 21, 3, dtype=np.uint16)
    made = [
        ("png", with_pillow(colour, "PNG")),
        ("png", with_pillow(clear, "PNG")),
        ("png", png(deep, filters=1)),
        ("png", png(noise(9, 8, 2, dtype=np.uint16))),
        ("png", with_pillow(several, "PNG")),
        ("jpg", with_pillow(colour, "JPEG")),
        ("jpg", with_pillow(colour, "JPEG", progressive=True)),
        ("jpg", with_pillow(grey, "JPEG")),
        ("gif", with_pillow(several, "GIF")),
        ("gif", with_pillow(grey, "GIF")),
        ("webp", with_pillow(colour, "WEBP")),
        ("webp", with_pillow(clear, "WEBP", lossless=True)),
        ("webp", with_pillow(several, "WEBP")),
        ("avif", with_pillow(colour, "AVIF")),
        ("bmp", with_pillow(colour, "BMP")),
        ("bmp", with_pillow(grey, "BMP")),
        ("ppm", with_pillow(colour, "PPM")),
        ("qoi", with_pillow(clear, "QOI")),
        ("tif", with_tifffile(deep, photometric="rgb")),
        ("tif", with_tifffile(deep, photometric="rgb", compression="lzw", predictor=True)),
        ("tif", with_tifffile(colour, photometric="rgb", compression="zlib", tile=(16, 16))),
        ("tif", with_tifffile(np.stack([grey] * 3), photometric="minisblack", bigtiff=True)),
        ("tif", with_tifffile(grey.astype(np.float32), photometric="minisblack", compression="zlib")),
        ("tif", with_pillow(grey > 127, "TIFF", compression="group4")),
        ("tif", with_pillow(colour, "TIFF", compression="jpeg")),
    ]
    names = ["CT_small", "MR_small_RLE", "JPEG2000", "SC_rgb_jpeg_dcmtk", "examples_palette", "image_dfl"]
    return made + [("dcm", (DICOM / f"{name}.dcm").read_bytes()) for name in names]


def damaged(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Cut, flip, overwrite, insert, delete or splice, once to three times."""
    made = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        size = max(1, len(made))
        at = chance.randrange(min(size, chance.choice([64, 512, size])))  # headers are hit more often
        match chance.randrange(7):
            case 0:
                del made[at:]
            case 1:
                for _ in range(chance.randint(1, 20)):
                    if made:
                        made[chance.randrange(len(made))] ^= 1 << chance.randrange(8)
            case 2 | 3:
                word = chance.choice(WILD)
                made[at : at + len(word)] = word
            case 4:
                made[at:at] = chance.randbytes(chance.randint(1, 40))
            case 5:
                del made[at : at + chance.randint(1, 60)]
            case _:
                other = chance.choice(others)
                made[at:] = other[at:]
    return bytes(made)


def judge(message: str, path: Path) -> None:
    """Check that an error says which file it is and what to do, and that nothing was allocated for it.

    Raises:
        AssertionError: It does not.
    """
    assert str(path) in message, f"does not name the file: {message}"
    assert re.search(rf"\b({REMEDIES})\b", message), f"no remedy: {message}"
    assert "more memory than there is" not in message, f"allocated what a header said: {message}"


def outcome_of(path: Path, how: dict[str, Any]) -> str:
    """Read a file, and return "read" or "refused"; anything else is raised.

    Raises:
        AssertionError: An error that says neither which file it is nor what to do, or that memory ended.
    """
    reader = data.from_dicom if path.suffix == ".dcm" else data.from_images
    options = {name: value for name, value in how.items() if name != "background" or reader is data.from_images}
    signal.alarm(SECONDS)  # nobody handles it: a decoder that hangs ends the process
    try:
        image = reader([path], **options)[0]
    except FileError as error:
        judge(str(error), path)
        return "refused"
    finally:
        signal.alarm(0)
    assert image.numel() <= 16 * 2**26
    return "read"


def campaign(count: int, seed: int, folder: Path) -> Counter[str]:
    """Read damaged files, and count what came of them."""
    sound, chance = sound_files(), random.Random(seed)
    hows: list[dict[str, Any]] = [{}, {"size": 32, "mode": "RGB"}, {"frame": "all"}, {"dtype": None}, {"mode": "grey", "frame": 1}]
    found: Counter[str] = Counter()
    for number in range(count):
        suffix, content = sound[number % len(sound)]
        path = folder / f"{number}.{suffix}"
        path.write_bytes(damaged(content, [other for _, other in sound], chance))
        found[outcome_of(path, chance.choice(hows))] += 1
        path.unlink()
    return found


def main() -> None:
    """Read as many as the command line says, under the limits."""
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    warnings.simplefilter("ignore")
    now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(count, seed, Path(folder))
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print(f"{found['read']} read, {found['refused']} refused, {more} MiB more at most")


if __name__ == "__main__":
    main()
