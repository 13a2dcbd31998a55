"""Samples that begin at moments of files: how files are cut by seconds, and the source that knows where each begins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.readers.files import Files, FileSource
from torchflow.data.schema import Schema
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError

LAST = ("pad", "drop")
MOST_SAMPLES = 2**24
"""Samples of one file."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """How files are cut into samples.

    Attributes:
        stride: Seconds from one sample's start to the next one's; None makes them follow each other.
        start: Where the first sample of each file begins, in seconds.
        starts: Where the one sample of each file begins; None where files are cut by the stride.
        last: What becomes of a last sample that does not fill: "pad" or "drop".
    """

    stride: float | None
    start: float
    starts: tuple[float, ...] | None
    last: str

    def begins(self, path: str, duration: float, span: float, slack: float) -> Tensor:
        """Return where the samples of a file begin, in seconds: float64, shape (samples,).

        Args:
            path: The file.
            duration: How long it is, in seconds.
            span: How long a sample is.
            slack: Seconds by which durations are rounded.

        Raises:
            FileError: There are absurdly many.
        """
        step = span if self.stride is None else self.stride
        left = duration - self.start
        if self.last == "drop":
            count = math.floor((left - span + slack) / step) + 1
        else:
            count = max(1, math.ceil((left - span - slack) / step) + 1) if left > slack else 0
        if count > MOST_SAMPLES:
            said = f"{path} would give {count:,} samples: by its header it lasts {duration:,.0f} seconds"
            raise FileError(f"{said}, and up to {MOST_SAMPLES:,} are read. Use a larger stride, or leave it out.", path)
        return self.start + step * torch.arange(max(0, count), dtype=torch.float64)

    def single(self, files: Files, good: Files) -> list[Tensor]:
        """Return where the one sample of each file begins, of those that were not left out."""
        starts = [self.start] * len(files) if self.starts is None else self.starts
        skipped = {path for path, _ in good.skipped}
        kept = (start for path, start in zip(files.paths, starts, strict=True) if path not in skipped)
        return [torch.tensor([start], dtype=torch.float64) for start in kept]


class CutSource(FileSource):
    """Samples that begin at moments of files.

    Args:
        files: Which files, already looked at.
        lineage: The factory's name.
        schema: What a sample is.
        begins: For each file, where its samples begin, in seconds.
    """

    def __init__(self, files: Files, lineage: str, schema: Schema, begins: Sequence[Tensor]) -> None:
        super().__init__(files, lineage, schema, [len(moments) for moments in begins])
        self._begins = torch.cat(list(begins))

    def begin_of(self, part: int) -> float:
        """Return where a sample begins, in seconds; ``part`` is what ``read`` is called with."""
        return float(self._begins[part])

    def _place(self, index: int) -> tuple[int, int]:
        return super()._place(index)[0], index


def checked_cuts(stride: object, start: object, last: object, files: Files, *, windows: bool) -> Cuts:
    """Return how files are cut, after checking that it makes sense.

    Args:
        stride: As :class:`Cuts`.
        start: Seconds, or a list of seconds as long as the files.
        last: "pad" or "drop".
        files: The files.
        windows: Whether the length of a sample was given.
    """
    chosen = arguments.one_of("last", last, LAST)
    if not windows and stride is not None:
        raise ArgumentValueError("stride says how far apart samples begin, and samples are whole files: give their length as well.")
    step = None if stride is None else arguments.real("stride", stride, above=0)
    if isinstance(start, (int, float)):
        return Cuts(step, arguments.real("start", start, minimum=0), None, chosen)
    if isinstance(start, (str, bytes)) or not hasattr(start, "__iter__"):
        raise ArgumentTypeError(f"start must be seconds, or a list of seconds, got {arguments.shown(start)}.")
    if not windows or stride is not None:
        raise ArgumentValueError("a list of starts gives each file one sample: give its length as well, and no stride=.")
    values = start.tolist() if hasattr(start, "tolist") else list(start)
    if len(values) != len(files):
        raise ArgumentValueError(f"start must be a number or as many as files, {len(files)}, got {len(values)}.")
    return Cuts(None, 0.0, tuple(arguments.real(f"start[{place}]", value, minimum=0) for place, value in enumerate(values)), chosen)
