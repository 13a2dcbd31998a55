"""Texts from files, lines and tables: decoded strictly, labelled, and refused with the byte that is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import Vocabulary, from_text
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, FileError, TorchflowError

UNICODE = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=40)

Wrong: Any = from_text  # called with what its annotations forbid


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@given(
    lines=st.lists(UNICODE.map(lambda text: text.replace("\n", " ")), min_size=1, max_size=8),
    zipped=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    last=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
@settings(deadline=None, max_examples=60)
def test_lines_are_what_was_written_in_any_encoding(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], zipped: bool, end: str, last: bool, encoding: str
) -> None:
    text = end.join(lines) + (end if last or not lines[-1] else "")
    if text.startswith("\ufeff"):
        return  # a byte order mark, which is left out
    content = text.encode(encoding)
    path = write(tmp_path_factory.mktemp("text"), "a.txt", gzip.compress(content) if zipped else content)
    assert list(from_text(path, lines=True, encoding="utf-8" if encoding == "utf-8-sig" else encoding)) == lines
    whole = from_text(path, encoding="utf-8" if encoding == "utf-8-sig" else encoding)
    assert list(whole) == [text.replace("\r\n", "\n").replace("\r", "\n")]


def test_a_folder_a_class_and_a_list_with_labels(tmp_path: Path) -> None:
    write(tmp_path, "d/pos/1.txt", "good\nfilm")
    write(tmp_path, "d/neg/1.txt", "bad")
    write(tmp_path, "d/neg/2.txt.gz", gzip.compress(b"poor"))
    dataset = from_text(tmp_path / "d", labels="folder")
    assert [(text, int(y)) for text, y in dataset] == [("bad", 0), ("poor", 0), ("good\nfilm", 1)]
    assert str(dataset.schema) == "text, label: int64 2 classes"
    paths = [tmp_path / "d/pos/1.txt", tmp_path / "d/neg/1.txt"]
    assert [(text, float(y)) for text, y in from_text(paths, labels=[5.0, 1.0])] == [("good\nfilm", 5.0), ("bad", 1.0)]
    assert [(text, int(y)) for text, y in from_text(paths, lines=True, labels=["p", "n"])] == [("good", 1), ("film", 1), ("bad", 0)]
    assert list(from_text(tmp_path / "d")) == ["bad", "poor", "good\nfilm"]


def test_a_column_of_a_table(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", 'stars,text\n5,"fine, really"\n1,"two\nlines"\n')
    dataset = from_text(path, column="text", labels="stars")
    assert [(text, int(y)) for text, y in dataset] == [("fine, really", 1), ("two\nlines", 0)]
    assert dataset.schema is not None
    assert dataset.schema["label"].classes == ("1", "5")
    assert list(from_text(write(tmp_path, "t.tsv", "a\tb\nx\ty\n"), column="b", delimiter="\t")) == ["y"]
    frame = pd.DataFrame({"text": ["fine", "two"], "stars": [5.0, 1.0]})
    assert [(text, float(y)) for text, y in from_text(frame, column="text", labels="stars")] == [("fine", 5.0), ("two", 1.0)]
    listed = from_text({"text": ["fine", "two"]}, column="text", labels=["b", "a"], classes=["b", "a"])
    assert [int(y) for _, y in listed] == [0, 1]


def test_samples_are_encoded_by_a_vocabulary_and_the_schema_says_so(tmp_path: Path) -> None:
    path = write(tmp_path, "t.csv", "kind,text\na,abc\nb,cab\n")
    dataset = from_text(path, column="text", labels="kind")
    encoded = dataset.map(Vocabulary().fit(dataset))
    assert encoded[1][0].tolist() == [2, 0, 1]
    assert str(encoded.schema) == "text: int64 ?, label: int64 2 classes"


def test_bad_files_are_skipped_by_choice(tmp_path: Path) -> None:
    paths = [write(tmp_path, "a.txt", "one"), write(tmp_path, "b.txt", b"\xff"), write(tmp_path, "c.txt", "two")]
    for lines in (False, True):
        with pytest.warns(UserWarning, match="1 of 3 files cannot be read"):
            dataset = from_text(paths, labels=["x", "y", "z"], bad="skip", lines=lines)
        assert [(text, int(y)) for text, y in dataset] == [("one", 0), ("two", 2)]
        assert [path for path, _ in dataset.skipped] == [str(paths[1])]


def test_a_resume_notices_another_text(tmp_path: Path) -> None:
    path = write(tmp_path, "a.txt", "one\ntwo\n")
    before = from_text(path, lines=True).source.stamp()
    assert from_text(path, lines=True).source.stamp() == before
    write(tmp_path, "a.txt", "one\nTwo\n")
    assert from_text(path, lines=True).source.stamp() != before


@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (
            b"a\nb\n\xe9t\xe9",
            {},
            r"a.txt is no text in UTF-8: invalid continuation byte at byte 4 \(line 3\). Save it as UTF-8, or name",
        ),
        ("text".encode("utf-16"), {}, "It is UTF-16: encoding='utf-16'"),
        (b"a\0b", {}, "holds a NUL at character 1"),
        (b"\xed\xa0\x80", {}, "is no text in UTF-8"),
        (b"odd", {"encoding": "utf-16-le"}, "is no text in UTF-16-LE: truncated data"),
        (b"caf\xe9", {"encoding": "ascii"}, "ordinal not in range"),
        (gzip.compress(b"text" * 500, mtime=0)[:-20], {}, "is cut: its gzip stream has no end"),
        (b"\x1f\x8b" + b"x" * 40, {}, "is damaged as gzip"),
        (b"x" * 2_000, {"max_bytes": 1_000}, "has more than 1,000 bytes once inflated. If that is meant, raise max_bytes="),
        (gzip.compress(b"x" * 5_000_000, mtime=0), {"max_bytes": 10_000}, "has more than 10,000 bytes once inflated"),
    ],
)
def test_what_is_no_text_is_refused_with_its_byte(
    tmp_path: Path, content: bytes, arguments: dict[str, Any], message: str, lines: bool
) -> None:
    path = write(tmp_path, "a.txt", content)
    with pytest.raises(FileError, match=message) as raised:
        list(from_text(path, lines=lines, **arguments))
    assert raised.value.path == str(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it is empty"),
        ("text\n", "has no rows"),
        ("a,b\n1,2\n", "has no columns 'text'. Its columns are 'a', 'b'"),
        ("text,text\n1,2\n", "has 2 columns 'text'"),
        ("text,b\n1\n", "line 2 has 1 cells, and the header 2"),
        ('text\n"open\n', "line 2: unexpected end of data"),
        ("text\n" + "x" * 200_000 + "\n", "field larger than field limit"),
        ("text\na\0b\n", "holds a NUL"),
    ],
)
def test_a_table_that_is_damaged_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(FileError, match=message):
        from_text(write(tmp_path, "t.csv", content), column="text")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: from_text(p, encoding="utf-99"), ArgumentValueError, "encoding must be one that Python knows"),
        (lambda p: from_text(p, encoding="zlib"), ArgumentValueError, "encoding must be one that Python knows"),
        (lambda p: Wrong(p, encoding=3), ArgumentTypeError, "encoding must be the name of one"),
        (lambda p: Wrong(p, lines=1), ArgumentTypeError, "lines must be True or False"),
        (lambda p: from_text(p, lines=True, column="a"), ArgumentTypeError, "both say what a sample is"),
        (lambda p: Wrong(p, column=3), ArgumentTypeError, "column must be the name of one"),
        (lambda p: from_text(p, bad="x"), ArgumentValueError, "bad must be one of"),
        (lambda p: from_text(p, max_bytes=0), ArgumentValueError, "max_bytes must be"),
        (lambda p: from_text(p.parent / "none.txt"), FileError, "there is no such file"),
        (lambda p: from_text(p, labels=["a", "b"]), ArgumentValueError, "labels must be as many as files"),
        (lambda p: from_text({"t": ["a"]}), ArgumentTypeError, "path is a table. Name the column"),
        (lambda p: from_text({"t": ["a", None]}, column="t"), FileError, "row 1, column 't' is no text: None"),
        (lambda p: from_text({"t": []}, column="t"), FileError, "the table has no rows"),
        (
            lambda p: from_text({"t": ["a"], "y": ["b"]}, column="t", labels=["a", "b"]),
            ArgumentValueError,
            "labels must be as many as rows",
        ),
        (lambda p: from_text({"t": ["a", "b"]}, column="t", labels=["a", 3]), DataError, r"row 1, has the label 3"),
        (lambda p: from_text({"t": ["a"]}, column="u"), ArgumentValueError, "the table has no column 'u'"),
        (lambda p: from_text(p.parent, column="t"), FileError, "has nothing to read"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, call: Any, error: type[TorchflowError], message: str) -> None:
    with pytest.raises(error, match=message):
        call(write(tmp_path, "a.txt", "text"))


def test_bare_text_needs_a_vocabulary_before_it_is_trained_on(tmp_path: Path) -> None:
    dataset = from_text(write(tmp_path, "a.txt", "one\ntwo"), lines=True)
    assert dataset.take_batch(torch.tensor([1, 0])) == ["two", "one"]
    batches = data.batches_of(dataset, keys=__import__("torchflow").randomness.Keys(0), name="train")
    with pytest.raises(DataError, match="encode the text in a map"):
        next(batches.epoch(0))
