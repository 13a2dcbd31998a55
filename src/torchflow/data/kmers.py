"""K-mers: every run of k nucleotides as one number."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.fields import checked_field, part_of, with_field, with_part
from torchflow.data.nucleotides import N, checked_codes, reverse_complement
from torchflow.data.schema import Field, Schema
from torchflow.errors import ArgumentValueError, DataError

LARGEST_K = 31  # 4^31 fits into int64
LARGEST_COUNTED = 12  # 4^12 counts are 64 MB a sample


class KMers:
    """Replace codes by the runs of k that they hold: ``dataset.map_batch(KMers(6))``, or ``map`` where lengths differ.

    A k-mer is the number that its codes spell in base 4, the first base leading: ``AA`` is 0, ``AC`` is 1, ``TT`` is 15. Where a
    base is not known the k-mer is ``4**k``. Samples of shape (..., length) become int64 of shape (..., length - k + 1).

    Args:
        k: How many bases, from 1 to 31.
        field: Where the codes are: a tuple position, a dict key, an attribute, or None for the sample itself.
        canonical: Whether a k-mer and its reverse complement are one: the smaller number stands for both.
        counts: Whether to count them instead: float32 of shape (..., 4**k), for k up to 12; those with an unknown base are
            left out.

    Attributes:
        size: How many values there are, as in ``nn.Embedding(kmers.size, ...)``: 4**k, and one more for unknown bases where
            they are not counted.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible k.

    >>> from torchflow.data import KMers, dna_codes
    >>> KMers(2, field=None)(dna_codes("AACNT"))
    tensor([ 0,  1, 16, 16])
    """

    def __init__(self, k: int, *, field: int | str | None = 0, canonical: bool = False, counts: bool = False) -> None:
        self.k = arguments.whole("k", k)
        self._counts = arguments.flag("counts", counts)
        largest = LARGEST_COUNTED if counts else LARGEST_K
        if self.k > largest:
            raise ArgumentValueError(f"k must be at most {largest}{' to be counted' if counts else ''}, got {k}.")
        self._field = checked_field(field)
        self._canonical = arguments.flag("canonical", canonical)
        self.size = 4**self.k + (not counts)

    def __repr__(self) -> str:
        return f"KMers({self.k})"

    # A sample or batch of any structure, in which one part becomes something else.
    def __call__(self, tree: Any) -> Any:
        """Return the sample or batch with k-mers in place of its codes.

        Raises:
            DataError: The part is no tensor of codes, or is shorter than k.
        """
        codes = checked_codes(part_of(tree, self._field))
        if codes.shape[-1] < self.k:
            raise DataError(
                f"a sequence of {codes.shape[-1]} bases has no {self.k}-mer. Leave short sequences out: dataset.filter(...)."
            )
        numbers = self._numbers(codes)
        if self._canonical:
            numbers = torch.minimum(numbers, self._numbers(reverse_complement(codes)).flip(-1))
        return with_part(tree, self._field, self._counted(numbers) if self._counts else numbers)

    def schema_after(self, before: Schema | None) -> Schema | None:
        """Return the schema with k-mers, or their counts, in place of codes."""
        return with_field(before, self._field, self._described)

    def _described(self, field: Field) -> Field:
        if self._counts:
            return replace(field, shape=(*field.shape[:-1], 4**self.k), dtype=torch.float32, dims=(*field.dims[:-1], "k-mer"))
        size = field.shape[-1]
        return replace(field, shape=(*field.shape[:-1], None if size is None else size - self.k + 1))

    def _numbers(self, codes: Tensor) -> Tensor:
        """Return the number of every run, 4**k where it has an unknown base."""
        count = codes.shape[-1] - self.k + 1
        numbers = torch.zeros_like(codes[..., :count])
        unknown = torch.zeros_like(numbers, dtype=torch.bool)
        for step in range(self.k):
            base = codes[..., step : step + count]
            numbers = numbers * 4 + base.clamp(max=N - 1)
            unknown |= base == N
        return numbers.masked_fill(unknown, 4**self.k)

    def _counted(self, numbers: Tensor) -> Tensor:
        """Return how often each k-mer occurs, the unknown ones left out."""
        made = torch.zeros(*numbers.shape[:-1], 4**self.k + 1, device=numbers.device)
        made.scatter_add_(-1, numbers, torch.ones_like(numbers, dtype=made.dtype))
        return made[..., :-1].contiguous()
