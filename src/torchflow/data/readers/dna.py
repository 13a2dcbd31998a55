"""Sequences from FASTA and FASTQ files: read once into packed arrays, and sliced for every sample."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.nucleotides import ENCODINGS
from torchflow.data.readers.fastx import Limits
from torchflow.data.readers.files import Files, list_files
from torchflow.data.readers.headers import Labelling, labels_of
from torchflow.data.readers.packing import Packing
from torchflow.data.readers.packs import packed
from torchflow.data.readers.sequences import Sequences
from torchflow.errors import ArgumentTypeError, ArgumentValueError

SUFFIXES = {
    "FASTA": tuple(f".{end}{gz}" for end in ("fa", "fasta", "fna", "ffn", "frn", "fas") for gz in ("", ".gz")),
    "FASTQ": tuple(f".{end}{gz}" for end in ("fq", "fastq") for gz in ("", ".gz")),
}


def from_fasta(
    path: Any,  # whatever list_files takes
    *,
    labels: str | Sequence[Any] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    label_from: Labelling | None = None,
    encoding: str = "codes",
    soft_masked: str = "keep",
    cache: str | os.PathLike[str] | None = None,
    bad: str = "raise",
    max_bytes: int | None = None,
    max_records: int | None = None,
    max_length: int | None = None,
) -> Dataset[Any]:
    """Return the dataset of the records of FASTA files, plain or gzip, which are read once, now.

    Records of one length make batches without a Python call a sample; records of several lengths want
    ``fit(..., collate=PadBatch())``, and windows over a genome want :func:`from_genome`. RNA is read as DNA (U as T).

    Args:
        path: A file, a folder, or a list of files.
        labels: The label of every file, which all its records share: ``"folder"`` for the names of the folders right below
            ``path``, or a list as long as the files.
        classes: The names of the classes in their order; None is those that labels name, sorted.
        label_from: The label of every record, from its header: a function from the header; a regular expression, whose first
            group is taken; or a dict from record names, such as :func:`read_labels` gives. Texts become class
            indices, in sorted order; numbers stay numbers.
        encoding: ``"codes"``: int64 (length,), A, C, G and T being 0 to 3 and every other letter 4. ``"one-hot"``: float32
            (4, length), an ambiguous letter being a fraction of each base that it may be.
        soft_masked: Lower case letters, by which genomes mark repeats: ``"keep"`` reads them as upper case, ``"N"`` as unknown.
        cache: A folder in which the packed records are kept and read through a memory map, made anew when a file has
            changed; None keeps them in memory, one byte a base.
        bad: What becomes of a file that cannot be read: ``"raise"``, or ``"skip"`` with one warning.
        max_bytes: The largest file once inflated; 1 GiB by default.
        max_records: The most records of one file; ten million by default.
        max_length: The most bases of one record; a hundred million by default.

    Returns:
        Samples ``x``, or ``(x, y)`` where there is a label.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible value.
        FileError: A file is not there, is no FASTA, is damaged, or goes beyond a limit; the message names file and record.
        DataError: A label cannot be told.
        MissingExtraError: needletail is not installed.
    """
    limits = Limits.checked(max_bytes, max_records, max_length)
    masked = arguments.one_of("soft_masked", soft_masked, ("keep", "N")) == "N"
    packing = Packing("FASTA", masked, qualities=False, phred=33, limits=limits)
    files = _listed("FASTA", path, labels, classes, label_from)
    return _dataset("from_fasta", files, packing, label_from, encoding, classes=classes, cache=cache, bad=bad)


def from_fastq(
    path: Any,  # whatever list_files takes
    *,
    labels: str | Sequence[Any] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    label_from: Labelling | None = None,
    encoding: str = "codes",
    qualities: bool = True,
    phred: int = 33,
    cache: str | os.PathLike[str] | None = None,
    bad: str = "raise",
    max_bytes: int | None = None,
    max_records: int | None = None,
    max_length: int | None = None,
) -> Dataset[Any]:
    """Return the dataset of the reads of FASTQ files, plain or gzip, which are read once, now.

    Args:
        path: A file, a folder, or a list of files.
        labels: As for :func:`from_fasta`.
        classes: As for :func:`from_fasta`.
        label_from: As for :func:`from_fasta`.
        encoding: As for :func:`from_fasta`.
        qualities: Whether the qualities are a part of a sample: int64 (length,), the phred score -10 log10 of the probability
            that the base is wrong.
        phred: The character of quality 0: 33, or 64 in files of before 2011.
        cache: As for :func:`from_fasta`.
        bad: As for :func:`from_fasta`.
        max_bytes: As for :func:`from_fasta`.
        max_records: As for :func:`from_fasta`.
        max_length: As for :func:`from_fasta`.

    Returns:
        Samples ``(x, quality)`` or ``(x, quality, y)``; without qualities ``x`` or ``(x, y)``.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible value.
        FileError: A file is not there, is no FASTQ, is cut, or goes beyond a limit; the message names file and record.
        DataError: A label cannot be told.
        MissingExtraError: needletail is not installed.
    """
    limits = Limits.checked(max_bytes, max_records, max_length)
    if arguments.whole("phred", phred) not in (33, 64):
        raise ArgumentValueError(f"phred must be 33 or 64, the character of quality 0, got {phred}.")
    packing = Packing("FASTQ", False, qualities=arguments.flag("qualities", qualities), phred=phred, limits=limits)
    files = _listed("FASTQ", path, labels, classes, label_from)
    return _dataset("from_fastq", files, packing, label_from, encoding, classes=classes, cache=cache, bad=bad)


def _listed(kind: str, path: Any, labels: Any, classes: Sequence[str] | None, label_from: object) -> Files:
    if labels is not None and label_from is not None:
        raise ArgumentTypeError(
            "labels= and label_from= both say what is learnt. Give one: labels by file, or label_from by header."
        )
    return list_files(
        path,
        factory=f"from_{kind.lower()}",
        suffixes=SUFFIXES[kind],
        labels=labels,
        classes=classes if label_from is None else None,
    )


def _dataset(
    factory: str, files: Files, packing: Packing, label_from: object, encoding: str, *, classes: Any, cache: Any, bad: str
) -> Dataset[Any]:
    """Pack the files, and label the records."""
    kind = arguments.one_of("encoding", encoding, ENCODINGS)
    folder = None if cache is None else arguments.path("cache", cache)
    good, pack = packed(files, packing, folder, bad)
    return Dataset(Sequences(pack, kind, labels_of(pack, good, label_from, classes), good, factory))
