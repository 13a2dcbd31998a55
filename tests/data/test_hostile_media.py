"""Files of sound and film that are cut, that lie, or that are something else: refused by name, within limits, or read.

``TORCHFLOW_FUZZ`` says how many damaged files are tried; 500 take half a minute.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.hostile_media import HOSTILE

COUNT = int(os.environ.get("TORCHFLOW_FUZZ", "60"))
ROOT = Path(__file__).parent.parent.parent
NO_FILM = (
    r"cannot be decoded: .*an mp4, mov, m4a, mkv, webm, avi or aac file was expected, whole and not damaged\. Convert or replace it"
)
NO_SOUND = r"is no file of sound: it begins with .*wav, flac, ogg, mp3, aiff, au, caf, m4a and aac files are read"

EXPECTED = {
    "a playlist as mp4": rf"list\.mp4 {NO_FILM}",
    "a playlist as mkv": rf"list\.mkv {NO_FILM}",
    "a playlist as wav": rf"list\.wav {NO_SOUND}",
    "a session as avi": rf"list\.avi {NO_FILM}",
    "a manifest as m4a": rf"list\.m4a {NO_SOUND}",
    "frames of 8192 x 8192": r"large\.mkv has frames of 8192 x 8192 pixels, more than max_pixels=33,554,432",
    "a long film without key frames": r"long\.mp4: 4096 frames of 16 x 16 pixels were decoded for one sample, and it is not complete",
    "time stamps far away": r"far\.mkv has a frame at 1e\+09 seconds: its time stamps are damaged",
    "an mp4 without its table": NO_FILM,
    "half an mp4": NO_FILM,
    "half an mp4 with the table in front": NO_FILM,
    "the first frames of an mp4": r"a\.mp4 ends after 1\.240 seconds of the 4\.000 that its header promises: it is cut",
    "half an mkv": NO_FILM,
    "a picture as mp4": NO_FILM,
    "a picture as wav": NO_SOUND,
    "text as mp3": NO_SOUND,
    "zeros as mp3": r"a\.mp3 cannot be read as sound: nothing in it can be decoded\. It may be cut or damaged: replace it",
    "zeros as flac": r"a\.flac cannot be read as sound: File contains data in an unimplemented format",
    "zeros as ogg": r"a\.ogg cannot be read as sound",
    "nothing": r"a\.wav cannot be read: it is empty",
    "one byte": NO_SOUND,
    "a tag of 256 MiB": r"a\.mp3 cannot be read as sound",
    "a flac of 256 GiB": r"a\.flac claims 68,719,476,735 samples, more than a file of its size can hold",
    "half a flac": r"a\.flac cannot be read as sound: flac decoder lost sync\. It may be cut",
    "half an mp3": r"a\.mp3 ends after [\d,]+ samples of the 8,000 that its header promises: it is cut, or its header is wrong",
    "half an ogg": r"a\.ogg cannot be read as sound: Supported file format but file is malformed",
    "half a wav": r"a\.wav is cut: its header promises 16,000 bytes of sound, and 7,978 are there",
    "half an m4a": NO_FILM,
    "a wav of no samples": r"a\.wav holds no sound: its header promises 0 samples",
    "a wav of 255 channels": r"a\.wav claims 255 channels of sound; up to 64 are read",
    "a wav of 65535 channels": r"a\.wav cannot be read as sound: Too many channels",
    "a wav of no channels": r"a\.wav cannot be read as sound: Channel count is zero",
    "a wav of 4 GHz": r"a\.wav cannot be read as sound",
    "a wav of no rate": r"a\.wav cannot be read as sound",
    "a wav that promises more": r"a\.wav is cut: its header promises 1,000,000 bytes of sound, and 64 are there",
    "a wav of a format that nobody knows": r"a\.wav cannot be read as sound",
    "a pipe": r"pipe\.wav cannot be read: it is no regular file but a pipe",
    "a link to itself": r"loop\.wav cannot be read: it cannot be looked at: Too many levels of symbolic links",
    "a device that never ends": r"/dev/zero cannot be read: it is no regular file",
    "a folder": r"has nothing to read: from_audio reads \.wav, \.flac",
}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a process of 2 GiB and 10 seconds a file says of the files, hostile and damaged."""
    command = [sys.executable, "-m", "tests.data.fuzz_media", str(tmp_path_factory.mktemp("fuzz")), str(COUNT), "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60 + 10 * COUNT, check=False)
    assert done.returncode == 0, f"died with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_every_hostile_file_is_expected_to_be_refused() -> None:
    assert set(EXPECTED) == set(HOSTILE)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_hostile_file_is_refused(said: str, name: str) -> None:
    found = re.search(rf"^hostile {re.escape(name)}: (.*)$", said, re.MULTILINE)
    assert found
    assert found[1].startswith("refused "), found[1]
    assert re.search(EXPECTED[name], found[1])


def test_a_damaged_file_is_read_or_refused_and_nothing_else(said: str) -> None:
    found = re.search(
        r"^outcomes {'read': (\d+), 'refused': (\d+), 'wrong': 0} slowest (\S+) s, peak (\d+) MiB$", said, re.MULTILINE
    )
    assert found, said[-3000:]
    assert int(found[1]) + int(found[2]) == COUNT
    assert int(found[2]) > COUNT // 4
    assert int(found[4]) < 2048
