"""FASTA and FASTQ files as datasets: against a reader written out, from memory and from a mapped pack."""

from __future__ import annotations

import gzip
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import dna_codes, dna_one_hot, from_fasta, from_fastq, read_labels
from torchflow.data.readers import fastx
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, FileError, MissingExtraError, TorchflowError

Wrong: Any = from_fasta  # called with what its annotations forbid
LETTERS = "ACGTNRYSWKMBDHVUacgtnryswkmbdhvu"
NAMES = st.text("abcdefgh019_.|:", min_size=1, max_size=8)
RECORDS = st.lists(st.tuples(NAMES, st.text(LETTERS, min_size=1, max_size=70)), min_size=1, max_size=8)


def fasta(records: list[tuple[str, str]], width: int = 60, end: str = "\n") -> bytes:
    lines = [line for name, letters in records for line in (f">{name}", *re.findall(f".{{1,{width}}}", letters))]
    return (end.join(lines) + end).encode()


def fastq(reads: list[tuple[str, str, list[int]]], offset: int = 33, end: str = "\n") -> bytes:
    return "".join(
        f"@{name}{end}{letters}{end}+{end}{''.join(chr(score + offset) for score in scores)}{end}"
        for name, letters, scores in reads
    ).encode()


@given(
    records=RECORDS,
    width=st.integers(1, 80),
    end=st.sampled_from(["\n", "\r\n"]),
    zipped=st.booleans(),
    encoding=st.sampled_from(["codes", "one-hot"]),
    mapped=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_every_record_comes_back_whatever_the_file_looks_like(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[tuple[str, str]],
    width: int,
    end: str,
    zipped: bool,
    encoding: str,
    mapped: bool,
) -> None:
    folder = tmp_path_factory.mktemp("fasta")
    content = fasta(records, width, end)
    (folder / "a.fa").write_bytes(gzip.compress(content) if zipped else content)
    dataset = from_fasta(folder / "a.fa", encoding=encoding, cache=folder / "cache" if mapped else None)
    expected = [(dna_codes if encoding == "codes" else dna_one_hot)(letters) for _, letters in records]
    assert len(dataset) == len(records)
    assert all(torch.equal(one, other) for one, other in zip(dataset, expected, strict=True))
    source: Any = dataset.source
    assert [source.header(place) for place in range(len(records))] == [name for name, _ in records]
    if len({len(letters) for _, letters in records}) == 1:
        assert dataset.source.columnar
        assert torch.equal(dataset.take_batch(range(len(records))), torch.stack(expected))
    assert sorted(os.listdir(folder)) == ["a.fa", "cache"] if mapped else ["a.fa"]


@given(
    reads=st.lists(st.tuples(NAMES, st.text(LETTERS, min_size=1, max_size=30), st.data()), min_size=1, max_size=6),
    offset=st.sampled_from([33, 64]),
    end=st.sampled_from(["\n", "\r\n"]),
)
@settings(deadline=None, max_examples=40)
def test_qualities_are_phred_scores(tmp_path_factory: pytest.TempPathFactory, reads: Any, offset: int, end: str) -> None:
    path = tmp_path_factory.mktemp("fastq") / "a.fq"
    scores = [
        (name, letters, draw.draw(st.lists(st.integers(0, 126 - offset), min_size=len(letters), max_size=len(letters))))
        for name, letters, draw in reads
    ]
    path.write_bytes(fastq(scores, offset, end))
    for (x, quality), (_, letters, written) in zip(from_fastq(path, phred=offset), scores, strict=True):
        assert torch.equal(x, dna_codes(letters))
        assert quality.tolist() == written
        assert quality.dtype == torch.int64
    assert torch.equal(from_fastq(path, phred=offset, qualities=False)[0], dna_codes(scores[0][1]))


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_several_files_make_one_dataset_with_labels_by_folder_or_list(tmp_path: Path) -> None:
    write(tmp_path, "d/exon/1.fa", ">a\nAC\n>b\nGT\n")
    write(tmp_path, "d/intron/1.fasta.gz", gzip.compress(b">c\nTT\n"))
    write(tmp_path, "d/exon/notes.txt", "nothing")
    with pytest.warns(UserWarning, match=r"exon/notes.txt \(another suffix\) in the folder are left out"):
        dataset = from_fasta(tmp_path / "d", labels="folder")
    assert [(data.dna_text(x), int(y)) for x, y in dataset] == [("AC", 0), ("GT", 0), ("TT", 1)]
    assert dataset.schema is not None
    assert dataset.schema["label"].classes == ("exon", "intron")
    assert str(dataset.schema) == "sequence: int64 2, label: int64 2 classes"
    listed = from_fasta([tmp_path / "d/intron/1.fasta.gz", tmp_path / "d/exon/1.fa"], labels=[0.5, 2.5])
    assert listed.take_batch([0, 1, 2])[1].tolist() == [0.5, 2.5, 2.5]


@pytest.mark.parametrize(
    "label_from",
    [
        lambda header: header.split("class=")[1],
        r"class=(\w+)",
        re.compile(r"class=(\w+)"),
        {"r1": "coding", "r2": "noise", "r3": "coding"},
    ],
)
def test_labels_come_from_headers(tmp_path: Path, label_from: Any) -> None:
    path = write(tmp_path, "a.fa", ">r1 class=coding\nAC\n>r2 class=noise\nGT\n>r3 class=coding\nTT\n")
    dataset = from_fasta(path, label_from=label_from)
    assert [int(y) for _, y in dataset] == [0, 1, 0]
    assert dataset.schema is not None
    assert dataset.schema["label"].classes == ("coding", "noise")
    ordered = from_fasta(path, label_from=label_from, classes=["noise", "coding", "other"])
    assert [int(y) for _, y in ordered] == [1, 0, 1]


def test_labels_come_from_a_table(tmp_path: Path) -> None:
    path = write(tmp_path, "a.fa", ">r1 first\nAC\n>r2\nGT\n")
    table = write(tmp_path, "labels.csv", "name,kind,more\nr2,b,x\nr1,a,x\nr9,c,x\n")
    dataset = from_fasta(path, label_from=read_labels(table, key="name", label="kind"))
    assert [int(y) for _, y in dataset] == [0, 1]
    numbers = from_fasta(path, label_from=lambda header: float(len(header)))
    assert [float(y) for _, y in numbers] == [8.0, 2.0]


def test_soft_masking_is_a_choice(tmp_path: Path) -> None:
    path = write(tmp_path, "a.fa", ">r\nACgtuRrn\n")
    assert data.dna_text(from_fasta(path)[0]) == "ACGTTNNN"
    assert data.dna_text(from_fasta(path, encoding="one-hot")[0]) == "ACGTTRRN"
    assert data.dna_text(from_fasta(path, encoding="one-hot", soft_masked="N")[0]) == "ACNNNRNN"


def test_a_mapped_pack_is_found_again_made_anew_after_a_change_and_travels_by_name(tmp_path: Path) -> None:
    path, cache = write(tmp_path, "a.fa", ">r\nACGT\n>s\nGG\n"), tmp_path / "cache"
    first = from_fasta(path, cache=cache)
    (folder,) = cache.iterdir()
    before = (folder / "pack.json").stat().st_mtime_ns
    again = from_fasta(path, cache=cache)
    assert (folder / "pack.json").stat().st_mtime_ns == before
    assert torch.equal(first[1], again[1])
    sent = pickle.dumps(again.source)
    assert len(sent) < 2_000
    received = data.Dataset[Any](pickle.loads(sent))
    assert torch.equal(received[0], again[0])
    path.write_text(">r\nTTTT\n>s\nGG\n", encoding="utf-8")
    os.utime(path, ns=(1, 1))
    assert data.dna_text(from_fasta(path, cache=cache)[0]) == "TTTT"
    assert len(list(cache.iterdir())) == 2
    (folder / "codes").write_bytes(b"\0\0")
    with pytest.raises(FileError, match=r"the pack in .* is damaged: codes has 2 bytes. Delete that folder; it is made again"):
        pickle.loads(sent)
    for name in ("pack.json", "lengths"):
        (folder / name).write_text("{}", encoding="utf-8")
        with pytest.raises(FileError, match="is damaged"):
            pickle.loads(sent)


def test_bad_files_are_skipped_by_choice_and_told(tmp_path: Path) -> None:
    good, bad = write(tmp_path, "a.fa", ">r\nAC\n"), write(tmp_path, "b.fa", ">r\nA!\n")
    other = write(tmp_path, "c.fa", ">s\nGG\n")
    for cache in (None, tmp_path / "cache"):
        with pytest.warns(UserWarning, match=r"1 of 3 files cannot be read and are left out.*'!' is no nucleotide"):
            dataset = from_fasta([good, bad, other], labels=["x", "y", "z"], bad="skip", cache=cache)
        assert [(data.dna_text(x), int(y)) for x, y in dataset] == [("AC", 0), ("GG", 2)]
        assert [path for path, _ in dataset.skipped] == [str(bad)]
    found_again = from_fasta([good, bad, other], labels=["x", "y", "z"], bad="skip", cache=tmp_path / "cache")
    assert [path for path, _ in found_again.skipped] == [str(bad)]
    assert len(found_again) == 2
    with pytest.raises(FileError, match="none of 1 files can be read"):
        from_fasta([bad], bad="skip")


def test_a_resume_notices_another_file(tmp_path: Path) -> None:
    path = write(tmp_path, "a.fa", ">r\nACGTACGT\n>s\nGG\n")
    before = from_fasta(path).source.stamp()
    assert from_fasta(path).source.stamp() == before
    write(tmp_path, "a.fa", ">r\nACGTACGA\n>s\nGG\n")
    assert from_fasta(path).source.stamp() != before


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda p: from_fasta(p, encoding="onehot"), ArgumentValueError, "encoding must be one of 'codes', 'one-hot'"),
        (lambda p: from_fasta(p, soft_masked="upper"), ArgumentValueError, "soft_masked must be one of 'keep', 'N'"),
        (lambda p: from_fasta(p, bad="ignore"), ArgumentValueError, "bad must be one of"),
        (lambda p: from_fasta(p, max_length=0), ArgumentValueError, "max_length must be an int of at least 1"),
        (lambda p: from_fasta(p, labels=["a"], label_from="(.)"), ArgumentTypeError, "both say what is learnt"),
        (lambda p: from_fasta(p, labels=["a", "b"]), ArgumentValueError, "labels must be as many as files, 1, got 2"),
        (lambda p: from_fasta(p, label_from="("), ArgumentValueError, "label_from is no regular expression"),
        (lambda p: from_fasta(p, label_from="r"), ArgumentValueError, "label_from must have a group"),
        (lambda p: Wrong(p, label_from=3), ArgumentTypeError, "label_from must be a function"),
        (lambda p: from_fasta(p, label_from=r"=(\w)"), DataError, r"a.fa, record 1 \('r1'\) has no label"),
        (lambda p: from_fasta(p, label_from={"r1": "a"}), DataError, r"a.fa, record 2 \('r2'\) has no label"),
        (lambda p: from_fasta(p, label_from=lambda h: 1 / 0), DataError, "label_from failed at .*record 1.*ZeroDivisionError"),
        (lambda p: from_fasta(p, label_from={"r1": "a", "r2": 2}), DataError, r"record 2 .* has the label 2 \(int\)"),
        (lambda p: from_fasta(p, label_from=lambda h: float("nan")), DataError, "has the label nan"),
        (lambda p: from_fasta(p, label_from="(r.)", classes=["r1"]), DataError, "is labelled 'r2', which is none of classes: r1"),
        (lambda p: from_fasta(p, label_from=len, classes=["r1"]), ArgumentValueError, "these are numbers"),
        (lambda p: from_fasta([]), ArgumentValueError, "the list of files is empty"),
        (lambda p: from_fasta(3), ArgumentTypeError, "must be a folder, a file, a list of files or a table"),
        (from_fastq, FileError, "a.fa is FASTA, not FASTQ. Read it with torchflow.data.from_fasta"),
        (lambda p: from_fastq(p, phred=40), ArgumentValueError, "phred must be 33 or 64"),
        (lambda p: from_fasta(p, cache=p), FileError, "the cache folder .* cannot be written"),
        (lambda p: read_labels(p, key="name", label="kind"), FileError, "a.fa has no column 'name'. Its columns are '>r1'"),
        (lambda p: read_labels(p, key="a", label="b", delimiter=";;"), ArgumentValueError, "delimiter must be one character"),
        (lambda p: read_labels(p / "x", key="a", label="b"), FileError, "cannot be read as a table"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, call: Any, error: type[TorchflowError], message: str) -> None:
    with pytest.raises(error, match=message):
        call(write(tmp_path, "a.fa", ">r1\nAC\n>r2\nGT\n"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,kind\nr1,a\nr1,b\n", "line 3 names 'r1' again, with another label"),
        ("name,kind\nr1\n", "line 2 is shorter than the header"),
        ("", "has no column 'name'. Its columns are none"),
        (b"name,kind\n\xff,a\n", "is not text in UTF-8: invalid start byte at byte 10"),
        ('name,kind\n"r1,a\n', "cannot be read as a table: unexpected end of data"),
    ],
)
def test_a_table_of_labels_that_cannot_be_used_is_refused(tmp_path: Path, table: Any, message: str) -> None:
    with pytest.raises(FileError, match=message):
        read_labels(write(tmp_path, "t.csv", table), key="name", label="kind")


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "a.fa", ">r\nAC\n")
    monkeypatch.setitem(sys.modules, "needletail", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'torchflow-train\[dna\]'"):
        from_fasta(path)


@given(st.lists(st.binary(min_size=1, max_size=12).map(lambda b: bytes(b"\n>A"[c % 3] for c in b)), min_size=1, max_size=6))
@settings(deadline=None, max_examples=150)
def test_the_longest_run_between_separators_is_found_over_any_pieces(pieces: list[bytes]) -> None:
    for separator in (b"\n>", b"\n"):
        meter = fastx._Meter(separator)
        for piece in pieces:
            meter.add(piece)
        whole = b"".join(pieces)
        runs = whole.split(separator)
        assert meter.bytes == len(whole)
        assert meter.count == len(runs) - 1
        longest = max(len(run) + (len(separator) if place < len(runs) - 1 else 0) for place, run in enumerate(runs))
        assert meter.longest == longest
