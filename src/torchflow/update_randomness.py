"""The random streams of updates: one for each forward pass, and a look whether somebody draws where nobody is expected to."""

from __future__ import annotations

import contextlib
import ctypes
import random
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.random import mtrand

from torchflow.randomness import MASK32, Keys, seed_globals, seed_python, seed_torch

_TWISTER_BYTES = 4 * (624 + 1)
"""The numbers of a Mersenne Twister, and its position in them."""


class ForwardStream:
    """Seeds of the forward passes: a keyed bijection of 32 bits, so that no stream repeats within a run.

    torch's CPU generator takes only 32 bits of a seed. A hash of the update would repeat itself after about
    65,000 updates (the birthday bound); a permutation of 32 bits never does before 2^32 forward passes.
    The permutation alternates exclusive ors with keys, multiplications by odd numbers and xor-shifts, each of which can be
    undone; the multipliers are those of MurmurHash3's 32-bit finaliser (Appleby, 2011).

    Args:
        keys: The keys of the run.
        shards: How many forward passes an update may hold.
    """

    __slots__ = ("_first", "_second", "_shards")

    def __init__(self, keys: Keys, shards: int) -> None:
        number = keys("forward")
        self._first, self._second = number & MASK32, number >> 32
        self._shards = shards

    def __call__(self, update: int, shard: int) -> int:
        """Return the seed, 0 to 2^32 - 1, of forward pass ``shard`` of update ``update``."""
        number = (update * self._shards + shard ^ self._first) & MASK32
        number = (number ^ number >> 16) * 0x85EBCA6B & MASK32
        number = ((number ^ number >> 13) * 0xC2B2AE35 ^ self._second) & MASK32
        return number ^ number >> 16


def _python_draws() -> tuple[object, ...]:
    """Return what every draw changes in generators that :func:`seed_python` has seeded, in a form that compares.

    Of NumPy's this is the memory: ``get_state`` takes 30 microseconds. A second normal number, which lies elsewhere, is there only
    after a first one.
    """
    twister = mtrand.get_bit_generator()
    if not isinstance(twister, np.random.MT19937):  # somebody has put another in its place since
        return random.getstate(), type(twister)
    return random.getstate(), (ctypes.c_char * _TWISTER_BYTES).from_address(twister.ctypes.state_address).raw


class UpdateRandomness:
    """Seeds every forward pass; NumPy's and Python's generators only where somebody draws from them.

    Keying those two costs a sixth of an update on the smallest models, and most steps never touch them. So the first two
    updates of every call and of every epoch find out: both generators are keyed, and a draw shows in their state. From the
    first draw on they are keyed for good. A step that begins to draw in the middle of an epoch is found at its end, and
    said: the numbers up to then belong to no key.

    Args:
        stream: The seeds of the forward passes.
    """

    __slots__ = ("_expected", "_first", "_keyed", "_stream", "drawn")

    def __init__(self, stream: ForwardStream) -> None:
        self._stream = stream
        self.drawn = False
        self.probe()

    def probe(self) -> None:
        """Look again from the next update on: a call or an epoch begins."""
        self._keyed, self._first = True, -1
        self._expected: tuple[object, ...] | None = None

    def seed(self, update: int, shard: int, device: torch.device | None) -> None:
        """Put the generators into the state of one forward pass."""
        number = self._stream(update, shard)
        seed_torch(number, device)
        if self._keyed:
            self._seed_and_look(number, update)

    def _seed_and_look(self, number: int, update: int) -> None:
        self.check()
        if self._first < 0:
            self._first = update
        if not self.drawn and update - self._first >= 2:
            self._keyed = False  # the state stays as expected until somebody draws
            return
        seed_python(number)
        if not self.drawn:
            self._expected = _python_draws()

    @contextlib.contextmanager
    def aside(self, number: int, device: torch.device | None) -> Iterator[None]:
        """Give callbacks a random stream of their own, at an event between updates; their draws say nothing of the step."""
        self.check()
        seed_globals(number, device)
        try:
            yield
        finally:
            if not self.drawn:
                seed_python(number)  # a normal number that a callback left in NumPy's generator would hide a draw
                self._expected = _python_draws()

    def check(self) -> None:
        """Look whether somebody drew, and warn where the generators were not keyed then."""
        if self.drawn or self._expected is None or _python_draws() == self._expected:
            return
        self.drawn = True
        if not self._keyed:
            self._keyed = True
            warnings.warn(
                "the step or a callback began to draw from `random` or numpy.random in the middle of an epoch: up to here its numbers "
                "depend on no key, so this epoch cannot be repeated to the bit. Draw from torch, or from run.generator(name).",
                stacklevel=2,
            )
