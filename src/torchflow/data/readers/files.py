"""Readers of files: one sample, or several, out of each file of a listing."""

from __future__ import annotations

import hashlib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any, TypeVar

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.draw import Draw
from torchflow.data.readers.handles import PerProcess
from torchflow.data.readers.listing import Files, is_table, list_files, say_what_was_left_out
from torchflow.data.readers.regular import ends_of, read_bytes, why_not_a_file
from torchflow.data.readers.walking import Skipped
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source
from torchflow.data.threads import each
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError, MissingExtraError

__all__ = ["FileSource", "Files", "PerProcess", "checked_files", "examined", "is_table", "label_field", "list_files", "read_bytes"]

F = TypeVar("F")
LOOKED_AT_ONCE = 8  # threads that look at files when a dataset is made
FILES_TO_STAMP = 1000  # whose first and last bytes a resume compares


class FileSource(Source, ABC):
    """Samples read from files, whenever they are needed and wherever: in threads, forked and spawned processes.

    A subclass says what :meth:`read` makes of a file. It keeps paths and choices, and no open file; what is dear to open is
    lent by a :class:`PerProcess`. Whatever is raised while a file is read becomes a FileError that names file and sample.

    Args:
        files: Which files, after :func:`checked_files` or :func:`examined`.
        lineage: The factory's name.
        schema: What a sample is.
        counts: How many samples each file has; None is one each.
    """

    random = foreign = users = columnar = False
    shared = True

    def __init__(self, files: Files, lineage: str, schema: Schema | None = None, counts: Sequence[int] | None = None) -> None:
        self.files = files
        self.schema = schema
        self._lineage = lineage
        self._ends = None if counts is None else torch.tensor(list(accumulate(counts)), dtype=torch.int64)

    @property
    def length(self) -> int:
        """How many samples the files have."""
        return len(self.files) if self._ends is None else int(self._ends[-1])

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return self._lineage

    @property
    def skipped(self) -> Skipped:
        """The files that cannot be read."""
        return self.files.skipped

    @property
    def left_out(self) -> Skipped:
        """What the folder holds and nobody asked for."""
        return self.files.left_out

    @abstractmethod
    def read(self, path: str, part: int) -> Any:
        """Return what a file holds, without its label.

        It is called from several threads at once. What it returns is the caller's own: fresh tensors.

        Args:
            path: The file.
            part: Which of the file's samples, from 0 on.

        Raises:
            FileError: The file is not what it was taken for; other exceptions are turned into one.
        """

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Read the samples, ``(x, y)`` where files have labels and ``x`` where they have none."""
        roots = indices if draw.roots is None else draw.roots
        return each(self._sample, indices.tolist(), roots.tolist())

    def column(self, part: str | int) -> Tensor | None:
        """Return the labels of all samples, without reading a file."""
        if self.files.labels is None or part not in (1, "label"):
            return None
        if self._ends is None:
            return self.files.labels
        return self.files.labels.repeat_interleave(torch.diff(self._ends, prepend=torch.tensor([0])), 0)

    def seams(self) -> Tensor:
        """Return where another file begins, in files of several samples."""
        return torch.empty(0, dtype=torch.int64) if self._ends is None else torch.unique(self._ends[:-1])

    def stamp(self) -> str:
        """Return a digest of names, labels and sizes of all files, and the ends of a thousand of them.

        It is cheap enough for every start, and says when files were changed, added, renamed or taken away. What it does
        not notice is a change in the middle of a file that keeps its size.
        """
        digest = hashlib.blake2b(repr((self.files.names, self.files.classes)).encode("utf-8", "surrogateescape"), digest_size=16)
        if self.files.labels is not None:
            digest.update(self.files.labels.contiguous().view(torch.uint8).numpy().tobytes())
        step = max(1, len(self.files) // FILES_TO_STAMP)
        for place, path in enumerate(self.files.paths):
            try:
                digest.update(ends_of(path) if place % step == 0 else os.stat(path).st_size.to_bytes(8, "big"))
            except OSError:
                digest.update(b"cannot be read")
        return digest.hexdigest()

    def times(self) -> tuple[int, ...]:
        """Return when each file was last changed, in nanoseconds; 0 for a file that is gone."""
        return tuple(os.stat(path).st_mtime_ns if os.path.exists(path) else 0 for path in self.files.paths)

    def _sample(self, index: int, root: int) -> Any:
        file, part = self._place(index)
        path = self.files.paths[file]
        try:
            x = self.read(path, part)
        except Exception as error:
            raise named(error, path, f"{self._lineage} failed at sample {root}: ") from error
        return x if self.files.labels is None else (x, self.files.labels[file].clone())

    def _place(self, index: int) -> tuple[int, int]:
        """Return the file of a sample, and which of its samples it is."""
        if self._ends is None:
            return index, 0
        file = int(torch.searchsorted(self._ends, index, right=True))
        return file, index - (int(self._ends[file - 1]) if file else 0)


def named(error: Exception, path: str, before: str = "") -> Exception:
    """Return an exception that was raised while a file was read, as a FileError that names it."""
    if isinstance(error, (MissingExtraError, ArgumentTypeError, ArgumentValueError)):
        return error
    if isinstance(error, FileError):
        return FileError(f"{before}{error}", error.path or path)
    reason = why_not_a_file(path)
    if isinstance(error, MemoryError) and reason is None:
        reason = "it needs more memory than there is"
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return FileError(f"{before}{path} cannot be read: {reason or said}. Replace the file, or leave it out.", path)


def checked_files(files: Files, bad: str) -> Files:
    """Return the files that are regular, not empty and there; ``bad`` says what becomes of the others.

    Raises:
        ArgumentValueError: ``bad`` is neither "raise" nor "skip".
        FileError: A file cannot be read and bad is "raise", or none is left.
    """
    return examined(files, _nothing_more, bad)[0]


def examined(files: Files, look: Callable[[str], F], bad: str) -> tuple[Files, list[F]]:
    """Look at every file, in threads, and return those that can be read with what was seen.

    Args:
        files: What to look at.
        look: From a path to what the reader wants to know of a file, such as its duration; it raises where the file is bad.
        bad: "raise" refuses the first bad file; "skip" leaves bad files out, with one warning that says how many.

    Raises:
        ArgumentValueError: ``bad`` is neither "raise" nor "skip".
        FileError: A file cannot be read and bad is "raise", or none is left.
    """
    skip = arguments.one_of("bad", bad, ("raise", "skip")) == "skip"
    say_what_was_left_out(files)
    good: list[int] = []
    seen: list[F] = []
    wrong: list[tuple[str, str]] = []
    with ThreadPoolExecutor(LOOKED_AT_ONCE, thread_name_prefix="torchflow-look") as pool:
        try:
            for place, (fact, error) in enumerate(pool.map(lambda place: _looked(files, place, look), range(len(files)))):
                if error is None:
                    good.append(place)
                    seen.append(fact)
                elif skip and isinstance(error, FileError):
                    wrong.append((files.paths[place], str(error)))
                else:
                    raise error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if not good:
        raise FileError(f"none of {len(files)} files can be read; the first: {wrong[0][1]}", wrong[0][0])
    if wrong:
        reason = f"{len(wrong)} of {len(files)} files cannot be read and are left out; the first: {wrong[0][1]}"
        warnings.warn(f"{reason} dataset.skipped lists them.", stacklevel=4)
    return files.chosen(good, tuple(wrong)), seen


def label_field(files: Files) -> tuple[Field, ...]:
    """Return the schema's field of the labels: one, or none where files have no labels."""
    if files.labels is None:
        return ()
    shape = tuple(files.labels.shape[1:])
    return (Field("label", shape, files.labels.dtype, classes=files.classes, target=True),)


def _looked(files: Files, place: int, look: Callable[[str], F]) -> tuple[Any, Exception | None]:
    """Return what was seen of a file, or what was raised."""
    path = files.paths[place]
    reason = why_not_a_file(path)
    if reason is not None:
        return None, FileError(f'{path} cannot be read: {reason}. Correct the path, or use bad="skip".', path)
    try:
        return look(path), None
    except Exception as error:
        made = named(error, path)
        made.__cause__ = error if made is not error else None
        return None, made


def _nothing_more(path: str) -> None:
    """Look no further than at what kind of file it is."""
