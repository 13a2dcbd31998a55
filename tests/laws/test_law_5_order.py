"""Law 5: the order of samples, and a sample's randomness, are pure functions of their keys."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import Batches, Dataset, Draw, batches_of
from torchflow.randomness import Keys

SEEDS = st.integers(0, 2**63 - 1)
EPOCHS = st.integers(0, 1000)


def numbers(length: int) -> Dataset[Any]:
    return data.from_tensors(torch.arange(length))


def with_generator(value: Any, generator: torch.Generator) -> Any:
    return torch.cat((value.reshape(1).double(), torch.rand(2, generator=generator, dtype=torch.float64)))


def with_globals(value: Any) -> Any:
    return torch.stack((value.double(), torch.rand((), dtype=torch.float64), torch.tensor(np.random.rand() + random.random())))


def augmented(length: int, kind: str) -> Dataset[Any]:
    return numbers(length).map_random(with_generator) if kind == "generator" else numbers(length).map(with_globals)


def train(dataset: Dataset[Any], seed: int, **options: Any) -> Batches[Any]:
    return batches_of(dataset, keys=Keys(seed), name="train", **options)


def order(length: int, seed: int, epoch: int, **options: Any) -> list[int]:
    return [int(value) for batch in train(numbers(length), seed, **options).epoch(epoch) for value in batch]


@given(length=st.integers(1, 200), seed=SEEDS, epoch=EPOCHS)
@settings(deadline=None, max_examples=80)
def test_every_sample_comes_once_an_epoch(length: int, seed: int, epoch: int) -> None:
    """Fails if a sorted word does not carry its whole index: ``words |= index >> 1``, say."""
    assert sorted(order(length, seed, epoch)) == list(range(length))


@given(length=st.integers(1, 200), seed=SEEDS, epoch=EPOCHS, first=st.integers(1, 60), second=st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_the_order_is_a_function_of_seed_epoch_and_length_alone(
    length: int, seed: int, epoch: int, first: int, second: int
) -> None:
    """Fails if the order depends on the batch cut, on the epochs before, or on global state: keyed by batch size, say."""
    torch.manual_seed(1)
    one = order(length, seed, epoch, batch_size=first)
    torch.manual_seed(2)
    batches = train(numbers(length), seed, batch_size=second)
    list(batches.epoch(epoch + 1))
    assert [int(value) for batch in batches.epoch(epoch) for value in batch] == one


@given(seed=SEEDS, epoch=EPOCHS, start=st.integers(0, 12), size=st.integers(1, 9))
@settings(deadline=None, max_examples=40)
def test_an_epoch_that_begins_late_is_the_rest_of_the_whole(seed: int, epoch: int, start: int, size: int) -> None:
    """Fails if ``start`` is counted in samples, or if a late start draws a new order."""
    batches = train(augmented(40, "generator"), seed, batch_size=size)
    whole = list(batches.epoch(epoch))[start:]
    late = list(train(augmented(40, "generator"), seed, batch_size=size).epoch(epoch, start))
    assert len(late) == len(whole)
    assert all(torch.equal(one, other) for one, other in zip(late, whole, strict=True))


def test_orders_of_distinct_seeds_and_epochs_are_distinct() -> None:
    """Fails if seed and epoch are added: then seed 0, epoch 1 is seed 1, epoch 0."""
    orders = [tuple(order(50, seed, epoch)) for seed in range(12) for epoch in range(12)]
    assert len(set(orders)) == 144


def test_orders_of_neighbouring_epochs_are_unrelated() -> None:
    """Fails if an epoch's order is the last one, rolled: one order a seed, and the epoch added to the positions, say."""
    length = 500
    orders = [torch.tensor(order(length, seed, epoch)).argsort() for seed in (0, 1) for epoch in range(6)]
    for one, other in pairwise(orders):
        correlation = float(torch.corrcoef(torch.stack((one, other)).double())[0, 1])
        assert abs(correlation) < 5 / length**0.5
        assert int((one == other).sum()) < 12  # of 500, one is expected


@given(seed=SEEDS, epoch=EPOCHS, kind=st.sampled_from(["generator", "globals"]), size=st.integers(1, 20), shuffle=st.booleans())
@settings(deadline=None, max_examples=40)
def test_a_sample_draws_the_same_whatever_batch_it_is_in(seed: int, epoch: int, kind: str, size: int, shuffle: bool) -> None:
    """Fails if the key is the position in the batch or in the order, or one generator serves a whole batch."""
    dataset = augmented(20, kind)
    expected = dataset.take_batch(range(20), Draw(Keys(seed), epoch))
    for batch in train(dataset, seed, batch_size=size, shuffle=shuffle).epoch(epoch):
        for row in batch:
            assert torch.equal(row, expected[int(row[0])])


@given(seed=SEEDS, chosen=st.lists(st.integers(0, 19), min_size=1, max_size=8, unique=True))
@settings(deadline=None, max_examples=30)
def test_a_sample_draws_the_same_in_any_order_of_access(seed: int, chosen: list[int]) -> None:
    """Fails if a draw depends on what was read before: without keying before each sample, say."""
    for kind in ("generator", "globals"):
        dataset = augmented(20, kind)
        whole = dataset.take_batch(range(20), Draw(Keys(seed), 3))
        assert torch.equal(dataset.take_batch(chosen, Draw(Keys(seed), 3)), whole[chosen])
        for index in chosen:
            assert torch.equal(dataset.take_samples([index], Draw(Keys(seed), 3))[0], whole[index])


@pytest.mark.parametrize("kind", ["generator", "globals"])
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(kind: str, workers: int) -> None:
    """Fails if worker processes are not keyed sample by sample, or if threads share a generator or lose their order."""
    inline = train(augmented(24, kind), 7, batch_size=5)
    ahead = train(augmented(24, kind), 7, batch_size=5, workers=workers)
    for epoch, start in ((0, 0), (1, 0), (1, 3)):
        for one, other in zip(inline.epoch(epoch, start), ahead.epoch(epoch, start), strict=True):
            assert torch.equal(one, other)
    ahead.close()


def test_no_two_samples_epochs_or_seeds_share_a_draw() -> None:
    """Fails if any part is left out of the key, or if parts are added up."""
    dataset = augmented(30, "generator")
    seen = {
        tuple(row[1:].tolist())
        for seed in range(4)
        for epoch in range(4)
        for row in dataset.take_batch(range(30), Draw(Keys(seed), epoch))
    }
    assert len(seen) == 4 * 4 * 30
