"""Files of DNA and text that are cut, that lie, that swell, or that are something else: refused by name, within limits, or read.

``TORCHFLOW_FUZZ`` says how many damaged files are tried; 500 and more also make files of a gigabyte, and take two minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.hostile_sequences import HOSTILE

COUNT = int(os.environ.get("TORCHFLOW_FUZZ", "60"))
ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a process of 2 GiB and 10 seconds a file says of the files, hostile and damaged."""
    command = [sys.executable, "-m", "tests.data.fuzz_sequences", str(tmp_path_factory.mktemp("fuzz")), str(COUNT), "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600 + 10 * COUNT, check=False)
    assert done.returncode == 0, f"died with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused(said: str, name: str) -> None:
    found = re.search(rf"^hostile {re.escape(name)}: (.*)$", said, re.MULTILINE)
    assert found
    assert found[1].startswith("refused "), found[1]
    assert re.search(HOSTILE[name][1], found[1]), found[1]


def test_a_damaged_file_is_read_or_refused_and_nothing_else(said: str) -> None:
    found = re.search(
        r"^outcomes {'read': (\d+), 'refused': (\d+), 'wrong': 0} slowest (\S+) s, peak (\d+) MiB$", said, re.MULTILINE
    )
    assert found, said[-3000:]
    assert int(found[1]) + int(found[2]) == COUNT
    assert int(found[2]) > COUNT // 4
    assert int(found[4]) < 2048
