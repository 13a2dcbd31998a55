from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow.data.order import LARGEST_SORT, Feistel, LookedUp, Sequential, SortedByHash, algorithm_of, mix64, order_of

KEYS = st.integers(0, 2**64 - 1)


def splitmix64(state: int) -> int:
    """The reference in plain Python: https://prng.di.unimi.it/splitmix64.c, one output."""
    mask = 2**64 - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_mix64_is_the_published_splitmix64() -> None:
    golden = 0x9E3779B97F4A7C15
    states = np.array([1234567 + golden, 1234567 + 2 * golden & 2**64 - 1], dtype=np.uint64)
    assert mix64(states).tolist() == [6457827717110365317, 3203168211198807973]  # its well-known first outputs
    assert mix64(states).tolist() == [splitmix64(1234567), splitmix64(1234567 + golden)]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (0, [0, 3, 5, 7, 9, 6, 2, 8, 1, 4]),
        (2**64 - 1, [3, 8, 4, 5, 0, 9, 6, 1, 2, 7]),
        (0x0123456789ABCDEF, [5, 6, 1, 3, 8, 4, 0, 7, 2, 9]),
    ],
)
def test_sorted_orders_are_those_of_the_first_release(key: int, expected: list[int]) -> None:
    assert SortedByHash(10, key)[0:10].tolist() == expected


def test_feistel_orders_are_those_of_the_first_release() -> None:
    order = Feistel(LARGEST_SORT + 1, 0)
    assert order[0:6].tolist() == [10201323, 1561618, 9304820, 16754528, 15450319, 12206819]
    assert Feistel(10**12, 0x0123456789ABCDEF)[0:4].tolist() == [315674302522, 549582630226, 967532620215, 594281381185]


@given(length=st.integers(0, 700), key=KEYS)
@settings(deadline=None, max_examples=60)
def test_every_order_has_every_sample_once(length: int, key: int) -> None:
    for order in (SortedByHash(length, key), Sequential(length), Feistel(length, key)):
        assert sorted(order[0:length].tolist()) == list(range(length))
        assert order[0:length].dtype == torch.int64


@given(length=st.integers(1, 400), key=KEYS, cuts=st.tuples(st.integers(0, 400), st.integers(0, 400)))
@settings(deadline=None, max_examples=60)
def test_a_slice_of_an_order_is_the_slice_of_the_whole(length: int, key: int, cuts: tuple[int, int]) -> None:
    start, stop = cuts
    table = torch.arange(length) * 3
    for order in (SortedByHash(length, key), Sequential(length), Feistel(length, key)):
        assert order[start:stop].tolist() == order[0:length].tolist()[start:stop]
        assert LookedUp(order, table)[start:stop].tolist() == (order[start:stop] * 3).tolist()
        assert LookedUp(order, table).algorithm == order.algorithm


def test_the_large_permutation_is_a_bijection_just_above_the_limit() -> None:
    length = LARGEST_SORT + 3
    order = order_of(length, 7)
    assert isinstance(order, Feistel)
    seen = torch.zeros(length, dtype=torch.bool)
    for start in range(0, length, 2**21):
        seen[order[start : start + 2**21]] = True
    assert bool(seen.all())


def test_the_algorithm_has_one_name_wherever_it_is_asked() -> None:
    for length in (1, 1000, LARGEST_SORT + 1):
        assert order_of(length, None).algorithm == algorithm_of(length, shuffle=False) == "sequential"
    assert order_of(1000, 1).algorithm == algorithm_of(1000, shuffle=True) == "sort-mix64/1"
    assert order_of(LARGEST_SORT + 1, 1).algorithm == algorithm_of(LARGEST_SORT + 1, shuffle=True) == "feistel8/1"


def test_all_orders_of_four_samples_are_equally_frequent() -> None:
    trials = 6000
    counts: dict[tuple[int, ...], int] = {}
    for key in range(trials):
        found = tuple(SortedByHash(4, splitmix64(key))[0:4].tolist())
        counts[found] = counts.get(found, 0) + 1
    assert len(counts) == 24
    chi_squared = sum((count - trials / 24) ** 2 / (trials / 24) for count in counts.values())
    assert chi_squared < 49.7  # 23 degrees of freedom, one in a thousand; the keys are fixed, so it never flickers


def test_neighbours_stay_neighbours_as_rarely_as_chance_has_it() -> None:
    length, trials = 64, 1500
    near = 0
    for key in range(trials):
        permutation = SortedByHash(length, splitmix64(key))[0:length]
        near += int(((permutation[1:] - permutation[:-1]).abs() == 1).sum())
    expected = trials * 2 * (length - 1) / length  # 2 (n - 1) of the n (n - 1) ordered pairs are neighbours
    assert abs(near / expected - 1) < 0.06
