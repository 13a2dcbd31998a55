"""Nucleotides as numbers: codes, one-hot channels, reverse complements and k-mers.

Letters are those of the IUPAC nucleic acid notation (Cornish-Bowden, "Nomenclature for incompletely specified bases in
nucleic acid sequences", 1985). ``U`` is read as ``T``, so that RNA and DNA share one alphabet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.fields import checked_field, part_of, with_part
from torchflow.data.schema import Schema
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BASES = "ACGT"
N = 4
"""The code of a base that is not known."""
INVALID = 255
ENCODINGS = ("codes", "one-hot")

LETTERS = "ACGTNRYSWKMBDHV"
"""What the bytes of a packed sequence stand for: their positions in this text."""
_MEANS = ("A", "C", "G", "T", "ACGT", "AG", "CT", "CG", "AT", "GT", "AC", "CGT", "AGT", "ACT", "ACG")


def _letter_table() -> NDArray[np.uint8]:
    table = np.full(256, INVALID, dtype=np.uint8)
    for code, letter in enumerate(LETTERS):
        table[[ord(letter), ord(letter.lower())]] = code
    table[[ord("U"), ord("u")]] = LETTERS.index("T")
    return table


LETTER_CODES = _letter_table()
"""From the byte of a letter, upper or lower case, to its position in LETTERS; INVALID for other bytes."""
SOFT_MASKED_CODES = np.where(
    np.isin(np.arange(256), np.frombuffer(b"acgtunryswkmbdhv", dtype=np.uint8)), np.uint8(N), LETTER_CODES
).astype(np.uint8)
"""The same, with N for every lower case letter."""
FRACTIONS = np.array([[(base in bases) / len(bases) for bases in _MEANS] for base in BASES], dtype=np.float32)
"""Shape (4, 15): what each letter is made of, in equal parts."""
COMPLEMENTS = np.array(
    [_MEANS.index("".join(sorted(bases.translate(str.maketrans(BASES, BASES[::-1]))))) for bases in _MEANS], dtype=np.uint8
)


def reversed_complement(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the other strand of packed letters (..., length), read in its own direction."""
    flipped: NDArray[np.uint8] = COMPLEMENTS[packed[..., ::-1]]
    return flipped


def encoded(packed: NDArray[np.uint8], encoding: str) -> Tensor:
    """Return packed letters (..., length) as a sample or batch.

    Args:
        packed: Positions in LETTERS.
        encoding: "codes" gives int64 (..., length): 0 to 3 for A, C, G and T, and 4 for everything that is not known;
            "one-hot" gives float32 (..., 4, length), with an ambiguous letter in equal fractions.
    """
    if encoding == "codes":
        return torch.from_numpy(np.minimum(packed, np.uint8(N)).astype(np.int64))
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(FRACTIONS[:, packed], 0, -2)))


def pack(text: str, place: str) -> NDArray[np.uint8]:
    """Return a text of letters as positions in LETTERS, shape (length,).

    Raises:
        DataError: A letter that no nucleotide has; the message begins with ``place``.
    """
    packed = LETTER_CODES[np.frombuffer(text.encode("ascii", "replace"), dtype=np.uint8)]
    wrong = np.flatnonzero(packed == INVALID)
    if wrong.size:
        raise DataError(f"{place}, base {int(wrong[0]) + 1}: {wrong_letter(text[int(wrong[0])])}")
    return packed


def wrong_letter(letter: str) -> str:
    """Return what is wrong with a letter, and what to do about it."""
    if letter in "-.~":
        return f"{letter!r} is a gap of an alignment. Take the gaps out of the file first."
    if letter.upper() in "EFILPQZX*JO":
        return f"{letter!r} is no nucleotide. These may be proteins, for which torchflow.data.Vocabulary reads characters."
    return f"{letter!r} is no nucleotide. The letters are {LETTERS} and U, in either case."


def dna_codes(text: str) -> Tensor:
    """Return a text of nucleotides as int64 codes, shape (length,): A, C, G and T are 0 to 3, all other letters are 4.

    Args:
        text: IUPAC letters in either case; U is read as T.

    Raises:
        ArgumentTypeError: It is no text.
        DataError: A letter that no nucleotide has.

    >>> from torchflow.data import dna_codes
    >>> dna_codes("ACGTN")
    tensor([0, 1, 2, 3, 4])
    """
    return encoded(pack(_text(text), "the text"), "codes")


def dna_one_hot(sequence: str | Tensor) -> Tensor:
    """Return nucleotides as float32 channels A, C, G and T, shape (..., 4, length).

    Args:
        sequence: A text of IUPAC letters, of which an ambiguous one is made of equal fractions (R is half A and half G); or
            codes (..., length) of :func:`dna_codes`, where 4 is a quarter of each.

    Raises:
        ArgumentTypeError: Neither text nor a tensor of whole numbers.
        DataError: A letter or a code that no nucleotide has.

    >>> from torchflow.data import dna_one_hot
    >>> dna_one_hot("AR")
    tensor([[1.0000, 0.5000],
            [0.0000, 0.0000],
            [0.0000, 0.5000],
            [0.0000, 0.0000]])
    """
    if isinstance(sequence, Tensor):
        codes = checked_codes(sequence)
        table = torch.from_numpy(FRACTIONS[:, : N + 1].copy())
        return torch.as_tensor(table, device=codes.device)[:, codes].movedim(0, -2).contiguous()
    return encoded(pack(_text(sequence), "the text"), "one-hot")


def dna_text(sequence: Tensor) -> str:
    """Return one sequence as text: the letter of every code, or the letter that has exactly the channels that are not 0.

    Args:
        sequence: Codes, shape (length,), or channels, shape (4, length), of any encoding of this module.

    Raises:
        ArgumentTypeError: It is no tensor of such a shape.
        DataError: A code that no nucleotide has.
    """
    if isinstance(sequence, Tensor) and sequence.is_floating_point() and sequence.ndim == 2 and sequence.shape[0] == 4:
        present = (sequence.detach().cpu() > 0).numpy()
        number = (present * np.array([[1], [2], [4], [8]])).sum(0)
        letters = {sum(1 << BASES.index(base) for base in bases): LETTERS[code] for code, bases in enumerate(_MEANS)}
        return "".join(letters.get(int(value), "-") for value in number)
    if not isinstance(sequence, Tensor) or sequence.is_floating_point() or sequence.ndim != 1:
        found = f"shape {tuple(sequence.shape)}" if isinstance(sequence, Tensor) else arguments.shown(sequence)
        raise ArgumentTypeError(f"sequence must be codes (length,) or channels (4, length), got {found}.")
    return "".join(LETTERS[code] for code in checked_codes(sequence).tolist())


def reverse_complement(sequence: Tensor) -> Tensor:
    """Return the other strand of sequences, read in its own direction.

    Args:
        sequence: Codes (..., length), or floating channels (..., 4, length).

    Raises:
        ArgumentTypeError: It is no such tensor.
        DataError: A code that no nucleotide has.

    >>> from torchflow.data import dna_codes, dna_text, reverse_complement
    >>> dna_text(reverse_complement(dna_codes("AACGTN")))
    'NACGTT'
    """
    if isinstance(sequence, Tensor) and sequence.is_floating_point():
        if sequence.ndim < 2 or sequence.shape[-2] != 4:
            raise ArgumentTypeError(f"channels must have shape (..., 4, length), got {tuple(sequence.shape)}.")
        return sequence.flip(-2, -1)
    codes = checked_codes(sequence).flip(-1)
    return torch.where(codes < N, 3 - codes, codes)


class RandomReverseComplement:
    """The augmentation that shows a sequence from its other strand: ``train.map_random(RandomReverseComplement())``.

    Args:
        field: Where the sequence is: a tuple position, a dict key, an attribute, or None for the sample itself.
        probability: How often, from 0 to 1.
        also: Another part whose last dimension is turned round with it, such as qualities; None for no other.

    Raises:
        ArgumentTypeError: ``field`` is no field.
        ArgumentValueError: An impossible probability.
    """

    def __init__(self, field: int | str | None = 0, *, probability: float = 0.5, also: int | str | None = None) -> None:
        self._field, self._also = checked_field(field), checked_field(also)
        self._probability = arguments.real("probability", probability, minimum=0.0)
        if self._probability > 1:
            raise ArgumentValueError(f"probability must be from 0 to 1, got {probability}.")

    # A sample of any structure comes back with one part turned.
    def __call__(self, sample: Any, generator: torch.Generator) -> Any:
        """Return the sample, or its other strand."""
        if float(torch.rand((), generator=generator)) >= self._probability:
            return sample
        turned = with_part(sample, self._field, reverse_complement(part_of(sample, self._field)))
        if self._also is not None:
            turned = with_part(turned, self._also, part_of(turned, self._also).flip(-1))
        return turned

    def schema_after(self, before: Schema | None) -> Schema | None:
        """Return the schema as it is."""
        return before


def _text(text: object) -> str:
    if not isinstance(text, str):
        raise ArgumentTypeError(f"a sequence must be text, got {arguments.shown(text)}.")
    return text


def checked_codes(sequence: object) -> Tensor:
    """Return codes as int64, all from 0 to 4."""
    if not isinstance(sequence, Tensor) or sequence.is_floating_point() or sequence.is_complex() or not sequence.ndim:
        raise ArgumentTypeError(f"a sequence must be a tensor of whole numbers (..., length), got {arguments.shown(sequence)}.")
    codes = sequence.type(torch.int64)
    wrong = codes[(codes < 0) | (codes > N)]
    if wrong.numel():
        raise DataError(f"a code must be from 0 to {N}, got {int(wrong[0])}. Codes are those of dna_codes.")
    return codes
