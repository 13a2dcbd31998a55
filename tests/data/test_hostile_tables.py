from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import hostile_tables
from torchflow.data.readers import workbook_cells

FUZZED = int(os.environ.get("TORCHFLOW_FUZZ", "40"))


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


BOMBS = ("parquet of a long text, often", "a cell far away", "a bomb that says so")


def test_bombs_stay_under_two_gibibytes(tmp_path: Path) -> None:
    paths = []
    for number, name in enumerate(BOMBS):
        suffix, make, _ = hostile_tables.BY_HAND[name]
        content = make()
        paths.append(tmp_path / f"bomb{number}{suffix}")
        paths[-1].write_bytes(content if isinstance(content, bytes) else content.encode())
    program = (
        "import re, resource, sys, pathlib\nfrom tests.data import hostile_tables\n"
        "for path in sys.argv[1:]:\n    hostile_tables.read(pathlib.Path(path))\n"
        # The peak of ru_maxrss is also that of whoever started the process: these tests, which may be large themselves.
        "own = re.search(r'VmHWM:\\s+(\\d+)', pathlib.Path('/proc/self/status').read_text())[1]\n"
        "print(max(int(own), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n"
    )
    command = [sys.executable, "-c", program, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) * 1024 < 2 * 2**30


@pytest.mark.parametrize(
    "name", [name for name, (suffix, _, _) in hostile_tables.BY_HAND.items() if suffix in (".xlsx", ".xls", ".ods")]
)
def test_what_the_first_look_at_a_workbook_says_is_typed(tmp_path: Path, name: str) -> None:
    content = hostile_tables.BY_HAND[name][1]()
    path = tmp_path / "book"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        workbook_cells.check(str(path), 2**29)
        workbook_cells.refuse_far_cells(str(path), 10_000_000)
    except ValueError as error:
        found = str(error)
    else:
        found = "sound so far"
    assert found.endswith((".", "so far"))
