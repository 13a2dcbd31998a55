"""Nucleotides as numbers: every letter, both strands, and k-mers, against definitions written out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import KMers, RandomReverseComplement, dna_codes, dna_one_hot, dna_text, reverse_complement
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, TorchflowError

# The table of the IUPAC notation, written out.
MEANS = {
    **{letter: letter for letter in "ACGT"},
    **{
        "R": "AG",
        "Y": "CT",
        "S": "CG",
        "W": "AT",
        "K": "GT",
        "M": "AC",
        "B": "CGT",
        "D": "AGT",
        "H": "ACT",
        "V": "ACG",
        "N": "ACGT",
    },
}
PAIRS = dict(zip("ACGTRYSWKMBDHVN", "TGCAYRSWMKVHDBN", strict=True))

Wrong: Any = data  # called with what its annotations forbid
sequences = st.text("ACGTN", min_size=1, max_size=40)
letters = st.text("".join(MEANS), min_size=1, max_size=40)


@given(letters)
@settings(deadline=None, max_examples=60)
def test_every_letter_is_made_of_equal_parts_of_what_it_may_be(text: str) -> None:
    channels = dna_one_hot(text)
    assert channels.shape == (4, len(text))
    assert channels.dtype == torch.float32
    for column, letter in zip(channels.T, text, strict=True):
        expected = [(base in MEANS[letter]) / len(MEANS[letter]) for base in "ACGT"]
        assert torch.allclose(column, torch.tensor(expected))
    assert dna_text(channels) == text


@given(letters)
@settings(deadline=None, max_examples=60)
def test_case_does_not_matter_and_rna_reads_as_dna(text: str) -> None:
    assert torch.equal(dna_codes(text.lower()), dna_codes(text))
    assert torch.equal(dna_codes(text.replace("T", "U")), dna_codes(text))
    assert torch.equal(dna_one_hot(text.lower().replace("t", "u")), dna_one_hot(text))


@given(letters)
@settings(deadline=None, max_examples=60)
def test_codes_know_four_bases_and_call_the_rest_unknown(text: str) -> None:
    codes = dna_codes(text)
    assert codes.dtype == torch.int64
    assert codes.tolist() == ["ACGT".find(letter) % 5 for letter in text]
    plain = "".join(letter if letter in "ACGT" else "N" for letter in text)
    assert dna_text(codes) == plain
    assert torch.equal(dna_one_hot(codes), dna_one_hot(plain))


@given(letters)
@settings(deadline=None, max_examples=60)
def test_the_other_strand_pairs_every_letter_and_comes_back(text: str) -> None:
    other = "".join(PAIRS[letter] for letter in reversed(text))
    assert dna_text(reverse_complement(dna_one_hot(text))) == other
    assert torch.equal(reverse_complement(dna_codes(text)), dna_codes(other))
    batch = torch.stack([dna_codes(text), dna_codes(other)])
    assert torch.equal(reverse_complement(batch), batch.flip(0))
    assert torch.equal(reverse_complement(dna_one_hot(batch)), dna_one_hot(reverse_complement(batch)))
    from torchflow.data.nucleotides import pack, reversed_complement  # noqa: PLC0415

    assert np.array_equal(reversed_complement(pack(text, "")), pack(other, ""))


@given(text=sequences, k=st.integers(1, 5), canonical=st.booleans())
@settings(deadline=None, max_examples=80)
def test_kmers_spell_their_bases_in_base_four(text: str, k: int, canonical: bool) -> None:
    kmers = KMers(k, field=None, canonical=canonical)
    if len(text) < k:
        with pytest.raises(DataError, match=f"a sequence of {len(text)} bases has no {k}-mer"):
            kmers(dna_codes(text))
        return

    def number(run: str) -> int:
        return 4**k if "N" in run else sum("ACGT".index(base) * 4 ** (k - 1 - place) for place, base in enumerate(run))

    runs = [text[start : start + k] for start in range(len(text) - k + 1)]
    expected = [number(run) for run in runs]
    if canonical:
        others = [number("".join(PAIRS[base] for base in reversed(run))) for run in runs]
        expected = [min(one, other) for one, other in zip(expected, others, strict=True)]
    assert kmers(dna_codes(text)).tolist() == expected
    counted = KMers(k, field=None, canonical=canonical, counts=True)(dna_codes(text))
    assert counted.shape == (4**k,)
    assert counted.tolist() == [expected.count(value) for value in range(4**k)]


def test_kmers_of_batches_are_those_of_their_rows() -> None:
    dataset = data.from_tensors((torch.stack([dna_codes("ACGTAC"), dna_codes("TTTTNA")]), torch.tensor([0, 1])))
    assert KMers(3).size == 65
    whole, labels = dataset.map_batch(KMers(3)).take_batch([0, 1])
    assert torch.equal(whole[1], dataset.map(KMers(3))[1][0])
    assert labels.tolist() == [0, 1]
    counts = dataset.map_batch(KMers(2, counts=True)).take_batch([1])[0]
    assert counts.shape == (1, 16)
    assert counts[0, 15] == 3


def test_both_strands_have_the_same_canonical_kmers() -> None:
    codes = torch.randint(0, 5, (200,), generator=torch.Generator().manual_seed(0))
    kmers = KMers(4, field=None, canonical=True)
    assert kmers(codes).sort().values.equal(kmers(reverse_complement(codes)).sort().values)


def test_the_random_strand_is_drawn_for_every_sample_and_epoch_and_turns_qualities_with_it() -> None:
    codes, quality = dna_codes("ACGTTN"), torch.arange(6)
    dataset = data.from_iterable([(codes, quality, 1)] * 400).map_random(RandomReverseComplement(also=1))
    turned = 0
    for x, q, y in dataset:
        assert y == 1
        if torch.equal(x, codes):
            assert torch.equal(q, quality)
        else:
            assert torch.equal(x, reverse_complement(codes))
            assert torch.equal(q, quality.flip(0))
            turned += 1
    assert 150 < turned < 250
    assert torch.equal(dataset[3][0], dataset[3][0])
    never = data.from_iterable([codes] * 50).map_random(RandomReverseComplement(None, probability=0.0))
    always = data.from_iterable([codes] * 50).map_random(RandomReverseComplement(None, probability=1.0))
    assert all(torch.equal(x, codes) for x in never)
    assert all(torch.equal(x, reverse_complement(codes)) for x in always)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dna_codes("ACG-T"), DataError, r"the text, base 4: '-' is a gap of an alignment"),
        (lambda: dna_codes("MKLV"), DataError, r"base 3: 'L' is no nucleotide. These may be proteins"),
        (lambda: dna_one_hot("AC T"), DataError, r"base 3: ' ' is no nucleotide. The letters are ACGTN"),
        (lambda: dna_codes("ACGé"), DataError, "base 4: 'é' is no nucleotide"),
        (lambda: dna_codes("A\0"), DataError, r"base 2: '\\x00' is no nucleotide"),
        (lambda: Wrong.dna_codes(b"ACGT"), ArgumentTypeError, "a sequence must be text"),
        (lambda: dna_one_hot(torch.tensor([0, 7])), DataError, "a code must be from 0 to 4, got 7"),
        (lambda: dna_one_hot(torch.tensor([-1])), DataError, "a code must be from 0 to 4, got -1"),
        (lambda: dna_one_hot(torch.ones(3)), ArgumentTypeError, "must be a tensor of whole numbers"),
        (lambda: dna_text(torch.ones(3, 7)), ArgumentTypeError, r"codes \(length,\) or channels \(4, length\), got shape \(3, 7\)"),
        (lambda: Wrong.dna_text("ACGT"), ArgumentTypeError, "sequence must be codes"),
        (lambda: reverse_complement(torch.ones(3, 7)), ArgumentTypeError, r"shape \(..., 4, length\), got \(3, 7\)"),
        (lambda: KMers(0), ArgumentValueError, "k must be an int of at least 1"),
        (lambda: KMers(32), ArgumentValueError, "k must be at most 31, got 32"),
        (lambda: KMers(13, counts=True), ArgumentValueError, "k must be at most 12 to be counted"),
        (lambda: KMers(2)((torch.ones(3),)), ArgumentTypeError, "whole numbers"),
        (lambda: RandomReverseComplement(probability=1.5), ArgumentValueError, "probability must be from 0 to 1"),
    ],
)
def test_what_is_no_sequence_is_refused(call: Any, error: type[TorchflowError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
