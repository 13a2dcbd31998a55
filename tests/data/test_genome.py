"""Windows over a genome: against slices of the text, whatever the line length, the strand and the reader."""

from __future__ import annotations

import gzip
import os
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import dna_codes, dna_one_hot, from_genome, reverse_complement
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, FileError, MissingExtraError, TorchflowError

LETTERS = "ACGTNRYKMacgtun"
CHROMOSOMES = st.lists(st.text(LETTERS, min_size=1, max_size=60), min_size=1, max_size=3)


def write(folder: Path, chromosomes: list[str], width: int = 10, end: str = "\n") -> Path:
    lines = []
    for number, letters in enumerate(chromosomes, start=1):
        lines += [f">chr{number} something", *(letters[at : at + width] for at in range(0, len(letters), width))]
    (folder / "g.fa").write_bytes((end.join(lines) + end).encode())
    return folder / "g.fa"


@given(
    chromosomes=CHROMOSOMES,
    width=st.integers(1, 70),
    end=st.sampled_from(["\n", "\r\n"]),
    length=st.integers(1, 25),
    stride=st.integers(1, 30),
    strand=st.sampled_from(["+", "-", "both"]),
    encoding=st.sampled_from(["codes", "one-hot"]),
)
@settings(deadline=None, max_examples=12)
def test_every_whole_window_is_a_sample(
    tmp_path_factory: pytest.TempPathFactory,
    chromosomes: list[str],
    width: int,
    end: str,
    length: int,
    stride: int,
    strand: str,
    encoding: str,
) -> None:
    folder = tmp_path_factory.mktemp("genome")
    path = write(folder, chromosomes, width, end)
    encode = dna_codes if encoding == "codes" else dna_one_hot
    windows = [
        (f"chr{number}", start, letters[start : start + length])
        for number, letters in enumerate(chromosomes, start=1)
        for start in range(0, len(letters) - length + 1, stride)
    ]
    if not windows:
        with pytest.raises(DataError, match=f"no sequence of .* has {length} bases; the longest has {max(map(len, chromosomes))}"):
            from_genome(path, length=length, stride=stride, strand=strand)
        return
    dataset = from_genome(path, length=length, stride=stride, strand=strand, encoding=encoding)
    forward = [(name, start, "+", encode(letters)) for name, start, letters in windows]
    backward = [(name, start, "-", reverse_complement(x)) for name, start, _, x in forward]
    expected = {"+": forward, "-": backward, "both": forward + backward}[strand]
    assert len(dataset) == len(expected)
    source: Any = dataset.source
    for place, (name, start, side, x) in enumerate(expected):
        assert source.interval(place) == (name, start, start + length, side)
        assert torch.equal(dataset[place], x)
    assert torch.equal(dataset.take_batch(range(len(expected))), torch.stack([x for *_, x in expected]))
    assert os.listdir(folder) == ["g.fa"], "nothing is written beside the data"


def test_windows_cross_lines_whatever_ends_them(tmp_path: Path) -> None:
    letters = "ACGTTGCANNRYACGGTACCATGACGT"
    for end in ("\n", "\r\n"):
        path = write(tmp_path, [letters, letters[::-1]], width=7, end=end)
        for start in (0, 5, 6, 7, 13, 20):
            dataset = from_genome(path, intervals=[("chr1", start, start + 7), ("chr2", start, len(letters))])
            assert torch.equal(dataset[0], dna_codes(letters[start : start + 7]))
            assert torch.equal(dataset[1], dna_codes(letters[::-1][start:]))


def test_intervals_come_from_a_list_or_a_bed_file_with_labels(tmp_path: Path) -> None:
    path = write(tmp_path, ["ACGTACGTACGTTT", "GGGGGCCCCC"])
    listed = from_genome(path, intervals=[("chr2", 0, 10, "-"), ("chr1", 10, 14)], labels=["peak", "none"])
    assert [(data.dna_text(x), int(y)) for x, y in listed] == [("GGGGGCCCCC", 1), ("GTTT", 0)]
    assert str(listed.schema) == "sequence: int64 ?, label: int64 2 classes"
    bed = tmp_path / "peaks.bed"
    bed.write_text("# peaks\ntrack name=x\nchr2\t0\t10\tp\t9\t-\n\nchr1\t10\t14\n", encoding="utf-8")
    again = from_genome(path, intervals=bed, labels=torch.tensor([1.5, 2.5]))
    assert torch.equal(again[0][0], listed[0][0])
    assert [float(y) for _, y in again] == [1.5, 2.5]


def test_the_index_is_kept_where_it_is_asked_for_and_made_anew_after_a_change(tmp_path: Path) -> None:
    path, cache = write(tmp_path, ["ACGTACGTAC" * 3]), tmp_path / "cache"
    dataset = from_genome(path, length=5, cache=cache)
    (index,) = cache.iterdir()
    written = index.stat().st_mtime_ns
    assert torch.equal(from_genome(path, length=5, cache=cache)[1], dataset[1])
    assert index.stat().st_mtime_ns == written
    path.write_text(">chr1\nTTTTTTT\n", encoding="utf-8")
    with pytest.raises(FileError, match=r"has changed since it was indexed\. Make the dataset anew"):
        dataset[0]
    assert data.dna_text(from_genome(path, length=5, cache=cache)[0]) == "TTTTT"
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize("line", ["chr1\t999999\t6\t10\t11", "chr1\t30\t-4\t10\t11", "chr1\t0\t6\t0\t0", "chr1"])
def test_an_index_that_lies_is_refused(tmp_path: Path, line: str) -> None:
    path, cache = write(tmp_path, ["ACGTACGTAC" * 3]), tmp_path / "cache"
    from_genome(path, length=5, cache=cache)
    (index,) = cache.iterdir()
    index.write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(FileError):
        data.Dataset[Any](from_genome(path, length=5, cache=cache).source)[3]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\n\n", "is empty: it holds no record"),
        (b"hello\n", r"begins with b'hello\\n', and a FASTA file begins with '>'"),
        (b"@r\nAC\n+\nII\n", "is FASTQ, not FASTA"),
        (gzip.compress(b">a\nACGT\n", mtime=0), "is compressed by gzip, where no window can be found"),
        (b">a\nACGT\nAC\nACGT\n", r"(?i)line length of fasta file is not consistent"),
        (b">a\nACGT\n>a\nACGT\n", "Duplicate key"),
        (b">\nACGT\n", "Bad sequence name"),
        (b">a\n>b\nACGT\n", "'a' has no bases"),
        (b">a\n", r"no bases|valid"),
        (b">a\xff\nACGT\n", "utf-8"),
        (b">a\n" + b"A" * 3_000_000 + b"\n", r"has a line of more than 1000000 bases\. If that is meant, raise max_length="),
    ],
)
def test_what_cannot_be_indexed_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "g.fa").write_bytes(content)
    with pytest.raises(FileError, match=message) as raised:
        from_genome(tmp_path / "g.fa", length=2, max_length=1_000_000)
    assert raised.value.path == str(tmp_path / "g.fa")
    assert os.listdir(tmp_path) == ["g.fa"]


def test_a_wrong_letter_is_named_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_bytes(b">c1\nACGTA\nCG*TA\n")
    dataset = from_genome(tmp_path / "g.fa", length=5)
    assert data.dna_text(dataset[0]) == "ACGTA"
    with pytest.raises(FileError, match=r"sample 1: .*g.fa, c1, base 8: '\*' is no nucleotide. These may be proteins"):
        dataset[1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ArgumentTypeError, "needs length= for windows over everything, or intervals="),
        ({"length": 2, "intervals": [("chr1", 0, 2)]}, ArgumentTypeError, "and not both"),
        ({"intervals": [("chr1", 0, 2)], "strand": "-"}, ArgumentTypeError, "Intervals have strands of their own"),
        ({"length": 2, "strand": "*"}, ArgumentValueError, r"strand must be one of '\+', '-', 'both'"),
        ({"length": 0}, ArgumentValueError, "length must be an int of at least 1"),
        ({"length": 2**27}, ArgumentValueError, "length must be at most"),
        ({"intervals": []}, ArgumentValueError, "intervals must hold at least one"),
        ({"intervals": 3}, ArgumentTypeError, "intervals must be a list"),
        ({"intervals": [("chr1", 0)]}, ArgumentTypeError, r"intervals\[0\] must be \(chromosome, start, stop\)"),
        ({"intervals": [("chr1", 0, 2, "x")]}, ArgumentValueError, r"strand of intervals\[0\] must be one of"),
        ({"intervals": [("chr1", -1, 2)]}, ArgumentValueError, r"start of intervals\[0\] must be an int of at least 0"),
        ({"intervals": [("chrX", 0, 2)]}, DataError, "interval 0 is on 'chrX', which .* does not have. It has 'chr1'"),
        ({"intervals": [("chr1", 0, 99)]}, DataError, r"interval 0, chr1:0-99 \(\+\), must lie within 0 and 10"),
        ({"intervals": [("chr1", 3, 3)]}, DataError, "and not be empty"),
        ({"intervals": [("chr1", 0, 2)], "labels": ["a", "b"]}, DataError, "labels must be as many as intervals, 1, got 2"),
        ({"intervals": [("chr1", 0, 2)], "labels": "a"}, ArgumentTypeError, "labels must be a list"),
        ({"intervals": "missing.bed"}, FileError, "missing.bed cannot be read: No such file"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, arguments: dict[str, Any], error: type[TorchflowError], message: str) -> None:
    with pytest.raises(error, match=message):
        from_genome(write(tmp_path, ["ACGTACGTAC"]), **arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no interval"),
        (b"chr1\t5\n", r"line 1 is no interval: 'chr1\\t5'. A BED line is: chromosome"),
        (b"chr1\t-5\t9\n", "line 1 is no interval"),
        (b"# x\nchr1\t1\t2\tn\t0\t?\n", "line 2 is no interval"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_bed_file_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.bed").write_bytes(content)
    with pytest.raises(FileError, match=message):
        from_genome(write(tmp_path, ["ACGTACGTAC"]), intervals=tmp_path / "a.bed")


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, ["ACGT"])
    monkeypatch.setattr(
        "torchflow.data.readers.stretches.find_spec", lambda name: None if name == "pyfaidx" else util.find_spec(name)
    )
    with pytest.raises(MissingExtraError, match=r"pip install 'torchflow-train\[dna\]'"):
        from_genome(path, length=2)
    assert "pyfaidx" not in sys.modules, "it is imported in the child alone"


def test_lines_that_never_agree_are_refused_before_the_indexer_remembers_them(tmp_path: Path) -> None:
    path = tmp_path / "g.fa"
    for lines, message in (
        (b"A\nAC\n" * 4_000, "has lines of unequal lengths"),
        (b"AAA\n" + b"A\n" * 9_000_000, "has lines of a few bytes"),
    ):
        path.write_bytes(b">a\n" + lines)
        with pytest.raises(FileError, match=message):
            from_genome(path, length=2)


def test_the_indexer_is_bounded_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "g.fa"
    path.write_bytes(b">a\nACGT\n" + b"A\n" * 2_000_000)
    monkeypatch.setattr("torchflow.data.readers.stretches._MEMORY", 62 * 2**20)
    monkeypatch.setattr("torchflow.data.readers.stretches._SECONDS", 5)  # CPython 3.11 may hang where memory ends
    with pytest.raises(FileError, match=r"it needs more than the|it took longer than"):
        from_genome(path, length=2)
