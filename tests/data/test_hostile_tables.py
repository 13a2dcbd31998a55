from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import hostile_tables

FUZZED = int(os.environ.get("TORCHFLOW_FUZZ", "60"))


@pytest.mark.parametrize("name", hostile_tables.BY_HAND)
def test_a_file_that_is_not_what_it_says_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    suffix, make, message = hostile_tables.BY_HAND[name]
    content = make()
    path = tmp_path / f"table{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = hostile_tables.read(path)
    if message is None:
        assert found == "read"
    else:
        assert found != "read"
        assert re.search(message, found)


def test_a_damaged_file_is_read_or_refused_and_nothing_else(tmp_path: Path) -> None:
    outcomes = list(hostile_tables.campaign(FUZZED, tmp_path, seed=FUZZED))
    assert len(outcomes) == FUZZED
    assert {suffix for suffix, found, _ in outcomes if found != "read"} == set(hostile_tables.READERS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["parquet of a long text, often", "a cell far away", "a bomb that says so"])
def test_a_bomb_stays_under_two_gibibytes(tmp_path: Path, name: str) -> None:
    suffix, make, _ = hostile_tables.BY_HAND[name]
    content = make()
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    program = (
        "import resource, sys, pathlib\nfrom tests.data import hostile_tables\n"
        "hostile_tables.read(pathlib.Path(sys.argv[1]))\n"
        "print(max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout) * 1024 < 2 * 2**30
