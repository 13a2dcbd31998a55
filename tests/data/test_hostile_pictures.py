"""Files that are not what they say: each is refused by a message that names it and what to do, before it costs anything."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset as DicomDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless

from tests.data.fuzzed_pictures import DICOM, judge, sound_files, with_pillow, with_tifffile
from tests.data.pictures import chunk, noise, png, png_header, smooth, write
from torchflow import data
from torchflow.errors import FileError

ZEROS = 80_000_000
FUZZED = int(os.environ.get("TORCHFLOW_FUZZ", "80"))


def patched(content: bytes, at: int, word: bytes) -> bytes:
    return content[:at] + word + content[at + len(word) :]


def entry(content: bytes, tag: int, value: int | None = None, count: int | None = None) -> bytes:
    """A little-endian classic TIFF with another value, or another count, of a tag of its first page."""
    first = int.from_bytes(content[4:8], "little")
    for number in range(int.from_bytes(content[first : first + 2], "little")):
        at = first + 2 + 12 * number
        if int.from_bytes(content[at : at + 2], "little") == tag:
            if value is not None:
                wide = content[at + 2] == 4
                content = patched(content, at + 8, value.to_bytes(4, "little") if wide else struct.pack("<HH", value, 0))
            return content if count is None else patched(content, at + 4, count.to_bytes(4, "little"))
    raise AssertionError(f"no tag {tag}")


def tiff(**options: Any) -> bytes:
    return with_tifffile(smooth(8, 8), photometric="rgb", **options)


def deflate_bomb() -> bytes:
    """A strip that stands for 192 bytes and inflates to ZEROS."""
    strip = zlib.compress(bytes(ZEROS), 9)
    made = tiff(compression="zlib", metadata=None)
    made = entry(entry(made, 273, value=len(made)), 279, value=min(len(strip), 2**32 - 1))
    return made + strip


def circle_of_pages() -> bytes:
    made = tiff(metadata=None)
    first = int.from_bytes(made[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(made[first : first + 2], "little")
    return patched(made, end, first.to_bytes(4, "little"))


def many_scans() -> bytes:
    made = with_pillow(smooth(64, 64), "JPEG", progressive=True)
    at = made.rindex(b"\xff\xda")
    return made[:at] + made[at:-2] * 500 + made[-2:]


def lying_jpeg() -> bytes:
    made = with_pillow(smooth(8, 8), "JPEG")
    return patched(made, made.index(b"\xff\xc0") + 5, struct.pack(">HH", 65500, 65500))


def many_frames() -> bytes:
    """A GIF of 1 x 1 pixels and 10,000 frames."""
    made = with_pillow([np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 255, np.uint8)], "GIF")
    at = made.rindex(b"\x21\xf9")
    return made[:at] + made[at:-1] * 10_000 + made[-1:]


def dicom(syntax: Any = ExplicitVRLittleEndian, **changes: Any) -> bytes:
    """A DICOM file of 8 x 8 pixels, with other values in its header."""
    dataset = DicomDataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = pydicom.uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.UID("1.2.3")
    dataset.Rows = dataset.Columns = 8
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.PixelData = noise(8, 8, dtype=np.uint16).tobytes()
    for name, value in changes.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def deep_avif() -> bytes:
    made = with_pillow(smooth(16, 16), "AVIF")
    at = made.index(b"av1C") + 6
    return patched(made, at, bytes([made[at] | 0x40]))


def other_size_inside() -> bytes:
    """A DICOM file of 8 x 8 whose compressed frame is 4000 x 4000."""
    frame = with_pillow(np.zeros((4000, 4000), np.uint8), "JPEG2000")
    return dicom(JPEG2000Lossless, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pydicom.encaps.encapsulate([frame]))


def nested(depth: int) -> bytes:
    """Sequences in sequences, deeper than Python's stack."""
    begin, item = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    made = dicom()
    return made[: made.index(b"\x08\x00\x16\x00UI")] + (begin + item) * depth


HOSTILE: dict[str, tuple[Callable[[], bytes], dict[str, Any], str]] = {
    "nothing.png": (lambda: b"", {}, r"it is empty\. Correct the path"),
    "zeros.png": (lambda: bytes(500), {}, r"begins with zeros, as after a copy that broke off\. Copy it anew"),
    "text.png": (lambda: b"a picture of a cat", {}, r"it is no picture: it begins with b'a pictur'\. Pictures are JPEG, PNG"),
    "eps.png": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", {}, r"it is PostScript \(EPS\), not a picture"),
    "pdf.jpg": (lambda: b"%PDF-1.7\n", {}, r"it is PDF, not a picture"),
    "svg.png": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, r"it is SVG, not a picture"),
    "page.jpg": (lambda: b"<!DOCTYPE html><html>404</html>", {}, r"it is HTML or XML, not a picture"),
    "zip.tif": (lambda: b"PK\x03\x04" + bytes(90), {}, r"it is a zip archive"),
    "lfs.png": (lambda: b"version https://git-lfs.github.com/spec/v1\n", {}, r"run git lfs pull"),
    "plain.ppm": (lambda: b"P3 1 1 255 0 0 0", {}, r"it is a PPM in text"),
    "cut.png": (lambda: png(noise(50, 60, 3))[:900], {}, r"cannot be read: OSError.*Copy or export it anew"),
    "cut.jpg": (lambda: with_pillow(smooth(50, 60), "JPEG")[:900], {}, r"cannot be read: OSError: .*truncated"),
    "cut.gif": (lambda: with_pillow(smooth(50, 60), "GIF")[:900], {}, r"cannot be read: .*Copy or export it anew"),
    "cut.webp": (lambda: with_pillow(noise(50, 60, 3), "WEBP")[:900], {}, r"cannot be read: .*Copy or export it anew"),
    "cut.avif": (lambda: with_pillow(smooth(50, 60), "AVIF")[:400], {}, r"cannot be read: .*Copy or export it anew"),
    "cut.bmp": (lambda: with_pillow(smooth(50, 60), "BMP")[:900], {}, r"cannot be read: OSError.*Copy or export it anew"),
    "cut.ppm": (lambda: b"P6 50 60 65535\n" + bytes(900), {}, r"it is cut: 18,000 bytes of pixels are announced, and 900 are"),
    "cut.qoi": (lambda: with_pillow(noise(50, 60, 4), "QOI")[:200], {}, r"cannot be read: .*Copy or export it anew"),
    "cut.tif": (lambda: with_tifffile(smooth(50, 60), photometric="rgb")[:3000], {}, r"it is cut: its header names 9,000 bytes"),
    "sparse.tif": (lambda: entry(tiff(metadata=None), 279, value=0), {}, r"it is cut: its header names 0 bytes"),
    "none.png": (lambda: png_header(0, 5), {}, r"cannot be read: .*(Leave it out|Copy or export it anew)"),
    "bomb.png": (lambda: png_header(50_000, 50_000), {}, r"Pass a larger max_pixels=.*PIL\.Image\.MAX_IMAGE_PIXELS"),
    "large.png": (lambda: png_header(9_000, 9_000), {}, r"its header says 9000 x 9000 pixels, and max_pixels is 67,108,864"),
    "largest.png": (lambda: png_header(2**31 - 1, 2**31 - 1), {}, r"cannot be read: "),
    "text bomb.png": (
        lambda: png(noise(4, 4, 3), extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(ZEROS)))),
        {},
        r"cannot be read: ValueError: Decompressed data too large",
    ),
    "lying.jpg": (lying_jpeg, {}, r"max_pixels"),
    "scans.jpg": (many_scans, {}, r"it is a JPEG of \d+ scans, which cost as many passes"),
    "lying.gif": (
        lambda: patched(with_pillow(smooth(8, 8), "GIF"), 6, struct.pack("<HH", 65535, 65535)),
        {},
        r"max_pixels",
    ),
    "frames.gif": (many_frames, {"frame": "all"}, r"says 1 x 1 pixels in 1\d,?\d+ frames, and max_pixels .*or frame=0"),
    "lying.bmp": (
        lambda: patched(with_pillow(smooth(8, 8), "BMP"), 18, struct.pack("<ii", 2**31 - 1, 2**31 - 1)),
        {},
        r"max_pixels",
    ),
    "lying.qoi": (
        lambda: patched(with_pillow(smooth(8, 8), "QOI"), 4, struct.pack(">II", 2**32 - 1, 2**32 - 1)),
        {},
        r"max_pixels",
    ),
    "lying.ppm": (lambda: b"P6 60000 60000 255\n", {}, r"max_pixels"),
    "lying.tif": (lambda: entry(tiff(metadata=None), 257, value=4_000_000_000 >> 16), {}, r"its header|cut"),
    "channels.tif": (lambda: entry(tiff(metadata=None), 277, value=65535), {}, r"cannot be read: "),
    "strips.tif": (lambda: entry(tiff(metadata=None), 273, count=2**30), {}, r"cannot be read: "),
    "offset.tif": (lambda: entry(tiff(metadata=None), 273, value=2**31), {}, r"cannot be read: "),
    "bomb.tif": (deflate_bomb, {}, r"a strip of it inflates to more than the 192 bytes that it stands for"),
    "circle.tif": (circle_of_pages, {"frame": "all"}, r"cannot be read: |its first \d+ pages have more than max_pixels"),
    "deep.avif": (
        deep_avif,
        {},
        r"it is an AVIF of more than 8 bits a channel, of which Pillow leaves 8\. Save it as a 16-bit PNG",
    ),
    "dicom.png": (dicom, {}, r"it is DICOM\. Read it with torchflow\.data\.from_dicom"),
    "picture.dcm": (lambda: png(noise(4, 4, 3)), {}, r"it is PNG, and not DICOM\. Read it with torchflow\.data\.from_images"),
    "rows.dcm": (lambda: dicom(Rows=65535, Columns=65535), {}, r"its header says 65535 x 65535 pixels, and max_pixels"),
    "frames.dcm": (lambda: dicom(NumberOfFrames=10**9), {"frame": "all"}, r"says 8 x 8 pixels in 1000000000 frames"),
    "more.dcm": (
        lambda: dicom(Rows=8000, Columns=8000),
        {},
        r"it is cut: its header announces 128,000,000 bytes of pixels, and 128",
    ),
    "cut.dcm": (lambda: dicom()[:-40], {}, r"cannot be read: .*(anew|out)"),
    "bits.dcm": (lambda: dicom(BitsAllocated=48), {}, r"1 frames of 1 samples of 48 bits, which is no picture"),
    "none.dcm": (lambda: dicom(Rows=0), {}, r"its header says 8 x 0 pixels, which is no picture"),
    "report.dcm": (
        (DICOM / "test-SR.dcm").read_bytes,
        {},
        r"it is a DICOM Comprehensive SR Storage, which has no pixels",
    ),
    "deflated.dcm": (
        lambda: dicom(DeflatedExplicitVRLittleEndian, PixelData=bytes(ZEROS)),
        {"max_pixels": 1_000_000},
        r"it is deflated, and inflates to more than 16,000,000 bytes",
    ),
    "inside.dcm": (other_size_inside, {}, r"its frame 0 is 4000 x 4000 pixels, and its header says 8 x 8"),
    "nested.dcm": (lambda: nested(5000), {}, r"cannot be read: "),
    "12 bits.dcm": ((DICOM / "JPEG-lossy.dcm").read_bytes, {}, r"JPEG Extended.*could not be decoded.*pylibjpeg"),
}


def read(path: Path, **options: Any) -> Any:
    reader = data.from_dicom if path.suffix == ".dcm" else data.from_images
    return reader([path], **options)[0]


@pytest.mark.filterwarnings("ignore")  # what decoders say of such files on the side
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_by_name_and_with_a_remedy(tmp_path: Path, name: str) -> None:
    make, options, message = HOSTILE[name]
    path = write(tmp_path / name, make())
    with pytest.raises(FileError, match=message) as caught:
        read(path, **options)
    assert str(caught.value.path) == str(path)
    judge(str(caught.value), path)


def test_what_is_no_file_is_refused_without_being_opened(tmp_path: Path) -> None:
    """Fails if a pipe is opened: that waits until somebody writes."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name, message in {
        "pipe.png": "no regular file",
        "folder.png": "it is a folder|nothing to read",
        "circle.png": "cannot be looked at",
        "nowhere.png": "there is no such file",
        "zero.png": "no regular file",
    }.items():
        with pytest.raises(FileError, match=message):
            read(tmp_path / name)
    write(tmp_path / "target", png(noise(3, 4, 3)))
    (tmp_path / "link.png").symlink_to(tmp_path / "target")
    assert read(tmp_path / "link.png").shape == (3, 3, 4)


def test_a_file_that_becomes_a_pipe_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", png(noise(3, 4, 3)))
    dataset = data.from_images(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(FileError, match=r"from_images failed at sample 0: .*a\.png cannot be read: it is no regular file"):
        dataset[0]
    path.unlink()
    with pytest.raises(FileError, match="cannot be read: it is not there"):
        dataset[0]


def test_a_larger_limit_lets_large_pictures_in(tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", png(noise(20, 20, 3)))
    with pytest.raises(FileError, match="max_pixels is 399"):
        read(path, max_pixels=399)
    assert read(path, max_pixels=400).shape == (3, 20, 20)


@pytest.mark.filterwarnings("ignore")
def test_all_of_them_in_one_folder_are_skipped_and_reported(tmp_path: Path) -> None:
    names = [name for name, (_, options, _) in HOSTILE.items() if not options and not name.endswith(".dcm")]
    for name in names:
        write(tmp_path / name, HOSTILE[name][0]())
    os.mkfifo(tmp_path / "pipe.png")
    write(tmp_path / "sound.png", png(noise(3, 4, 3)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        dataset = data.from_images(tmp_path, bad="skip")
    assert len(dataset) == 1
    assert sorted(Path(path).name for path, _ in dataset.skipped) == sorted([*names, "pipe.png"])
    assert any(f"{len(names) + 1} of {len(names) + 2} files cannot be read" in str(warning.message) for warning in said)


def test_ghostscript_is_never_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "check_call", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    with pytest.raises(FileError, match="PostScript"):
        read(write(tmp_path / "a.eps", HOSTILE["eps.png"][0]()))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory by what Linux tells")
def test_damaged_files_end_in_a_typed_error_within_two_gigabytes_and_ten_seconds() -> None:
    """TORCHFLOW_FUZZ says how many files; each runs under a limit of memory, and an alarm ends the process after 10 seconds."""
    command = [sys.executable, "-m", "tests.data.fuzzed_pictures", str(FUZZED), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent.parent.parent)
    assert done.returncode == 0, done.stderr
    found = re.search(r"^(\d+) read, (\d+) refused, (\d+) MiB more at most$", done.stdout, re.MULTILINE)
    assert found
    assert int(found[1]) + int(found[2]) == FUZZED
    assert int(found[2]) > FUZZED // 3
    assert int(found[3]) < 2048


def test_the_sound_files_of_the_campaign_are_sound(tmp_path: Path) -> None:
    """Otherwise damaged ones would be refused for another reason."""
    for number, (suffix, content) in enumerate(sound_files()):
        image = read(write(tmp_path / f"{number}.{suffix}", content))
        assert image.ndim == 3
