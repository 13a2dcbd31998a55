"""A child process that reads what may bring a process down: every end that it can come to is an ordinary error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from torchflow.data.readers.child import rows_of_child
from torchflow.errors import FileError

MODULE = """
import os, signal, sys, time

def count(to):
    for number in range(to):
        yield [number, "é\\n\\u2028", None, 0.1, float("inf")]

def stop_early():
    yield [1]
    sys.exit(0)

def crash():
    yield [1]
    os.abort()

def devour():
    yield [1]
    yield len(bytearray(64 * 2**30))

def sleep():
    yield [1]
    time.sleep(60)

def burn():
    while True:
        pass
    yield

def refuse(why):
    raise ValueError(why)
    yield

def explode():
    raise KeyError("sheet")
    yield

def chatter():
    print("hello")
    os.write(1, b"from C")
    yield "torch" in sys.modules or "torchflow" in sys.modules or "numpy" in sys.modules

def cut():
    os.closerange(3, 64)  # the pipe is among them
    yield [1]
"""


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "reads_in_child.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)

    def call(function: str, *arguments: Any, **options: Any) -> list[Any]:
        return list(rows_of_child("reads_in_child", function, arguments, path="book.xls", **options))

    return call


def test_rows_come_back_as_they_were(rows: Any) -> None:
    assert rows("count", 3) == [[number, "é\n\u2028", None, 0.1, float("inf")] for number in range(3)]
    assert len(rows("count", 20_000)) == 20_000


def test_what_a_library_prints_is_no_row_and_torch_is_not_imported(rows: Any) -> None:
    assert rows("chatter") == [False]


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("stop_early", {}, r"book\.xls cannot be read: the process that read it ended with code 0\. It may be damaged"),
        ("crash", {}, r"ended with code -6"),
        ("cut", {}, r"ended with code"),
        ("sleep", {"seconds": 0.5}, r"it took longer than 0\.5 seconds\. Use seconds="),
        ("explode", {}, r"book\.xls cannot be read: KeyError: 'sheet'"),
    ],
)
def test_every_other_end_is_an_error_that_names_the_file(rows: Any, function: str, options: Any, message: str) -> None:
    with pytest.raises(FileError, match=message) as caught:
        rows(function, hint="Use seconds=.", **options)
    assert caught.value.path == "book.xls"


def test_what_the_function_says_is_said(rows: Any) -> None:
    with pytest.raises(FileError, match=r"^book\.xls cannot be read: there is no sheet 'b'$"):
        rows("refuse", "there is no sheet 'b'")


@pytest.mark.skipif(sys.platform == "win32", reason="processes have no limits there: the caller looks at the file before")
def test_memory_and_processor_time_are_bounded(rows: Any) -> None:
    with pytest.raises(FileError, match=r"more than the 0\.5 GiB of memory"):
        rows("devour", memory=2**29)
    with pytest.raises(FileError, match=r"longer than 1 seconds"):
        rows("burn", seconds=1)


def test_who_stops_reading_leaves_no_process_behind(rows: Any, tmp_path: Path) -> None:
    first = rows_of_child("reads_in_child", "count", [10_000_000], path="book.xls")
    assert next(first)[0] == 0
    first.close()  # type: ignore[attr-defined]  # a generator; a child that were still there would make this wait or warn
