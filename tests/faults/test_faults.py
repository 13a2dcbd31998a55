"""A small part of the campaign, in a process of its own: children are forked from it, so it may have no thread."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def campaign(*words: str) -> str:
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.faults", *words]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=ROOT, env=surroundings)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.parametrize("faults", ["F1,F3,F7,F8,F14,F19", "F2,F9,F11,F13,F15,F16,F17,F22"])
def test_a_small_part_of_the_campaign_is_survived(faults: str) -> None:
    found = campaign("--quick", "--no-control", "--only", faults)
    assert [line.split()[0] for line in found.splitlines()] == faults.split(",")


def test_a_build_without_hashes_does_not_survive_the_flipped_bits() -> None:
    assert "no_hashes: caught" in campaign("--quick", "--only", "F12")
