from __future__ import annotations

import hashlib
import random
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import mtrand

from torchflow.randomness import (
    Keys,
    generator,
    key,
    numpy_generator,
    preserved,
    seed_globals,
    seed_torch,
)
from torchflow.update_randomness import ForwardStream, UpdateRandomness

SEEDS = st.integers(0, 2**63 - 1)


@given(SEEDS, st.text(max_size=20), st.lists(st.integers(-(2**63), 2**64), max_size=4))
def test_a_key_is_blake2b_of_the_version_the_seed_the_purpose_and_the_integers(
    seed: int, purpose: str, integers: list[int]
) -> None:
    name = purpose.encode()
    text = b"torchflow/1" + struct.pack("<Q", seed) + struct.pack("<I", len(name)) + name
    text += b"".join(struct.pack("<Q", number % 2**64) for number in integers)
    assert Keys(seed)(purpose, *integers) == int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")
    assert key(seed, purpose, *integers) == Keys(seed)(purpose, *integers)


def test_keys_are_what_they_have_always_been() -> None:
    assert Keys(0)("init") == 11032387318597702242
    assert Keys(0)("order", 0) == 12548351714805966794
    assert Keys(1)("order", 0) == 15788859715303633531
    assert Keys(2**63 - 1)("sample", 1, 2, 3, 4) == 16823395097298073218


def test_neighbouring_seeds_and_epochs_share_no_key() -> None:
    keys = {Keys(seed)("order", epoch) for seed in range(100) for epoch in range(100)}
    assert len(keys) == 10_000


def test_a_purpose_and_its_integers_do_not_run_into_each_other() -> None:
    keys = Keys(0)
    assert len({keys("a", 1), keys("a"), keys("a", 1, 0), keys("a1"), keys("", 1), keys("a", 257)}) == 6


@given(SEEDS, st.integers(1, 8), st.sets(st.integers(0, 2**29 - 1), min_size=2, max_size=200))
def test_the_forward_stream_never_gives_two_passes_one_seed(seed: int, shards: int, updates: set[int]) -> None:
    stream = ForwardStream(Keys(seed), shards)
    passes = [(update, shard) for update in updates for shard in range(shards)]
    seeds = {stream(update, shard) for update, shard in passes}
    assert len(seeds) == len({(update * shards + shard) % 2**32 for update, shard in passes})
    assert all(0 <= number < 2**32 for number in seeds)


def test_the_forward_stream_has_no_repetition_in_two_hundred_thousand_updates() -> None:
    stream = ForwardStream(Keys(3), 1)
    assert len({stream(update, 0) for update in range(200_000)}) == 200_000


def test_forward_seeds_are_what_they_have_always_been() -> None:
    one, four = ForwardStream(Keys(0), 1), ForwardStream(Keys(7), 4)
    assert [one(update, 0) for update in range(3)] == [668116597, 1064982856, 3458276737]
    assert [four(5, shard) for shard in range(4)] == [2249612892, 3238885257, 2766486301, 1485792910]


def test_shards_of_neighbouring_updates_do_not_overlap() -> None:
    stream = ForwardStream(Keys(0), 3)
    assert len({stream(update, shard) for update in range(1000) for shard in range(3)}) == 3000


def test_generators_are_pure_functions_of_their_number() -> None:
    assert torch.equal(torch.rand(3, generator=generator(5)), torch.rand(3, generator=generator(5)))
    assert not torch.equal(torch.rand(3, generator=generator(5)), torch.rand(3, generator=generator(6)))
    assert numpy_generator(5).random() == numpy_generator(5).random()
    assert numpy_generator(5).random() != numpy_generator(6).random()


def draws() -> tuple[float, float, float]:
    return torch.rand(()).item(), float(np.random.random()), random.random()


def test_seeding_reaches_torch_numpy_and_random() -> None:
    with preserved():
        seed_globals(123)
        first = draws()
        draws()
        seed_globals(123)
        assert draws() == first
        seed_globals(124)
        assert all(a != b for a, b in zip(draws(), first, strict=True))


def test_preserved_puts_torch_numpy_and_random_back() -> None:
    with preserved():
        seed_globals(1)
        np.random.standard_normal()  # leaves a cached second value behind
        with preserved():
            expected = draws(), np.random.standard_normal()
        with preserved():
            seed_globals(99)
            draws()
        assert (draws(), np.random.standard_normal()) == expected


def test_preserved_puts_back_after_an_exception_too() -> None:
    with preserved():
        seed_globals(2)
        with preserved():
            expected = draws()
        with pytest.raises(ZeroDivisionError), preserved():
            1 // int(draws()[0] > 2)
        assert draws() == expected


class FakeAccelerator:
    """As much of ``torch.cuda`` as seeding needs."""

    def __init__(self) -> None:
        self.state = torch.tensor([7], dtype=torch.uint8)
        self.seeds: list[int] = []

    def manual_seed(self, seed: int) -> None:
        self.seeds.append(seed)
        self.state = torch.tensor([seed % 256], dtype=torch.uint8)

    def get_rng_state(self) -> torch.Tensor:
        return self.state

    def set_rng_state(self, new_state: torch.Tensor) -> None:
        self.state = new_state


def test_an_accelerator_is_seeded_and_put_back_like_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, cuda = FakeAccelerator(), torch.device("cuda", 0)
    monkeypatch.setattr(torch, "cuda", fake)
    with preserved(cuda):
        seed_globals(2**64 - 1, cuda)
        assert fake.seeds == [2**63 - 1]
        assert fake.state.item() == 255
    assert fake.state.item() == 7
    with preserved(torch.device("cpu")):
        seed_torch(5, torch.device("cpu"))
    assert fake.seeds == [2**63 - 1]


STREAM = ForwardStream(Keys(0), 1)


def run_updates(randomness: UpdateRandomness, drawing: list[bool], draw: Any) -> list[object]:
    """Seed and step once for each update; a step draws where it is told to."""
    found: list[object] = []
    for update, draws_now in enumerate(drawing):
        randomness.seed(update, 0, None)
        found.append(draw() if draws_now else None)
    return found


@pytest.mark.parametrize("draw", [random.random, np.random.random, np.random.standard_normal, lambda: random.gauss(0, 1)])
def test_a_step_that_draws_from_the_start_is_keyed_at_every_update(draw: Any) -> None:
    with preserved():
        randomness = UpdateRandomness(STREAM)
        first = run_updates(randomness, [True] * 6, draw)
        assert randomness.drawn
        draw()
        assert run_updates(randomness, [True] * 6, draw) == first
        expected = []
        for update in range(6):
            seed_globals(STREAM(update, 0))
            expected.append(draw())
        assert first == expected


def test_a_step_that_never_draws_is_not_keyed_after_the_probes() -> None:
    with preserved():
        randomness = UpdateRandomness(STREAM)
        run_updates(randomness, [False] * 5, random.random)
        assert not randomness.drawn
        before = random.getstate()
        run_updates(randomness, [False] * 5, random.random)
        assert random.getstate() == before
        randomness.check()
        assert not randomness.drawn


@pytest.mark.parametrize("shards", [1, 3])
def test_every_forward_pass_of_the_first_two_updates_is_keyed(shards: int) -> None:
    with preserved():
        stream = ForwardStream(Keys(0), shards)
        randomness = UpdateRandomness(stream)
        for update in range(2):
            for shard in range(shards):
                randomness.seed(update, shard, None)
                found = random.getstate()
                random.seed(stream(update, shard))
                assert random.getstate() == found


def test_a_step_that_begins_to_draw_at_a_new_epoch_is_found_by_the_probe() -> None:
    with preserved():
        randomness = UpdateRandomness(STREAM)
        run_updates(randomness, [False] * 5, random.random)
        randomness.probe()
        first = run_updates(randomness, [True] * 4, random.random)
        assert run_updates(UpdateRandomness(STREAM), [True] * 4, random.random) == first
        randomness.check()


def test_a_step_that_begins_to_draw_in_mid_epoch_is_warned_of_once_and_keyed_from_then_on() -> None:
    with preserved():
        randomness = UpdateRandomness(STREAM)
        run_updates(randomness, [False] * 5 + [True], np.random.random)
        with pytest.warns(UserWarning, match=r"began to draw from `random` or numpy\.random in the middle of an epoch"):
            randomness.check()
        randomness.check()  # said once
        assert randomness.drawn
        first = run_updates(randomness, [True] * 3, np.random.random)
        assert run_updates(randomness, [True] * 3, np.random.random) == first


def test_callbacks_draw_aside_from_their_own_stream_and_say_nothing_of_the_step() -> None:
    with preserved():
        randomness = UpdateRandomness(STREAM)
        run_updates(randomness, [False] * 4, random.random)
        with randomness.aside(77, None):
            first = draws()
        assert not randomness.drawn
        randomness.check()
        with randomness.aside(77, None):
            assert draws() == first
        with randomness.aside(78, None):
            assert draws() != first


def test_a_draw_before_an_aside_is_still_found() -> None:
    with preserved():
        randomness = UpdateRandomness(STREAM)
        run_updates(randomness, [False] * 4 + [True], random.random)
        with pytest.warns(UserWarning, match="began to draw"), randomness.aside(77, None):
            draws()
        with randomness.aside(77, None):
            assert draws() != draws()
        assert randomness.drawn


@pytest.mark.parametrize("draw", [random.random, np.random.random, np.random.standard_normal, lambda: random.gauss(0, 1)])
def test_one_draw_is_found_whatever_callbacks_have_drawn(draw: Any) -> None:
    """A callback that drew one normal number left a second one behind, which the step may take."""
    with preserved():
        randomness = UpdateRandomness(STREAM)
        run_updates(randomness, [False] * 4, draw)
        with randomness.aside(77, None):
            draw()
        run_updates(randomness, [True], draw)
        with pytest.warns(UserWarning, match="began to draw"):
            randomness.check()


def test_another_generator_in_the_place_of_numpys_is_a_draw() -> None:
    with preserved():
        randomness = UpdateRandomness(STREAM)
        run_updates(randomness, [False] * 4, random.random)
        twister = mtrand.get_bit_generator()
        mtrand.set_bit_generator(np.random.PCG64(0))
        try:
            with pytest.warns(UserWarning, match="began to draw"):
                randomness.check()
        finally:
            mtrand.set_bit_generator(twister)


def test_torch_is_keyed_at_every_update_whatever_the_others_do() -> None:
    with preserved():
        randomness = UpdateRandomness(STREAM)
        first = run_updates(randomness, [True] * 6, lambda: torch.rand(()).item())
        assert run_updates(randomness, [True] * 6, lambda: torch.rand(()).item()) == first
        assert len(set(first)) == 6
        assert not randomness.drawn
