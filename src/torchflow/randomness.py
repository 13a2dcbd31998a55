"""Randomness that is derived, never stored: keys, generators, and the only seeding in the package.

Every random stream of a run is a pure function of the run's seed, a purpose and a few integers:

    key(seed, purpose, *integers) = BLAKE2b-64("torchflow/1", seed, purpose, integers)

So there is no random state to save, nothing that a worker count could change, and two runs with neighbouring
seeds share no stream (which ``seed + epoch`` cannot say).
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import random
import struct
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.random import mtrand

_MASK32 = 0xFFFFFFFF
_TWISTER_BYTES = 4 * (624 + 1)
"""The numbers of a Mersenne Twister, and its position in them."""


class _DeviceRandomness(Protocol):
    """What ``torch.cuda``, ``torch.xpu`` and ``torch.mps`` have in common."""

    def manual_seed(self, seed: int) -> None: ...

    def get_rng_state(self) -> torch.Tensor: ...

    def set_rng_state(self, new_state: torch.Tensor) -> None: ...


class Keys:
    """The keys of one run: ``keys("order", epoch)`` is a 64-bit integer.

    Args:
        seed: The seed of the run, 0 to 2^63 - 1.
    """

    __slots__ = ("_prefix", "seed")

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._prefix = hashlib.blake2b(b"torchflow/1" + struct.pack("<Q", seed), digest_size=8)

    def __reduce__(self) -> tuple[type[Keys], tuple[int]]:
        return Keys, (self.seed,)  # a digest under way cannot be sent to another process

    def __call__(self, purpose: str, *integers: int) -> int:
        """Return the key of a purpose and integers, each reduced to 64 bits."""
        digest = self._prefix.copy()  # the prefix is hashed once, not at every call
        name = purpose.encode()
        digest.update(struct.pack(f"<I{len(name)}s{len(integers)}Q", len(name), name, *(i & 0xFFFFFFFFFFFFFFFF for i in integers)))
        return int.from_bytes(digest.digest(), "little")


def key(seed: int, purpose: str, *integers: int) -> int:
    """Return ``Keys(seed)(purpose, *integers)``: a 64-bit integer."""
    return Keys(seed)(purpose, *integers)


def generator(number: int) -> torch.Generator:
    """Return a new CPU generator in the state that ``number`` names (torch's uses its low 32 bits)."""
    return torch.Generator().manual_seed(number)


def numpy_generator(number: int) -> np.random.Generator:
    """Return a new NumPy generator in the state that ``number`` names."""
    return np.random.Generator(np.random.PCG64(number))


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
        self._first, self._second = number & _MASK32, number >> 32
        self._shards = shards

    def __call__(self, update: int, shard: int) -> int:
        """Return the seed, 0 to 2^32 - 1, of forward pass ``shard`` of update ``update``."""
        number = (update * self._shards + shard ^ self._first) & _MASK32
        number = (number ^ number >> 16) * 0x85EBCA6B & _MASK32
        number = ((number ^ number >> 13) * 0xC2B2AE35 ^ self._second) & _MASK32
        return number ^ number >> 16


def seed_globals(number: int, device: torch.device | None = None) -> None:
    """Put every default generator that a user's code may draw from into the state that ``number`` names.

    Seeds torch's CPU generator, the one of ``device`` where that is an accelerator, NumPy's legacy one and :mod:`random`.

    Args:
        number: 64 bits; the CPU generator and NumPy take the low 32.
        device: The device that forward passes run on; None means the CPU alone.
    """
    seed_torch(number, device)
    _seed_python(number)


def seed_torch(number: int, device: torch.device | None = None) -> None:
    """Seed torch's CPU generator and that of ``device``; ``torch.manual_seed`` reaches all and costs 80 times as much."""
    torch.default_generator.manual_seed(number)
    if device is not None and device.type != "cpu":
        _accelerator(device).manual_seed(number & 0x7FFFFFFFFFFFFFFF)


def torch_state(device: torch.device | None = None) -> list[torch.Tensor]:
    """Return the states of torch's CPU generator and of that of ``device``."""
    states = [torch.default_generator.get_state()]
    return states if device is None or device.type == "cpu" else [*states, _accelerator(device).get_rng_state()]


def _seed_python(number: int) -> None:
    np.random.seed(number & _MASK32)
    random.seed(number)


def python_state() -> tuple[object, ...]:
    """Return the state of the generators that :func:`_seed_python` seeds, in a form that compares."""
    _, numbers, position, gauss, cached = cast("tuple[str, np.ndarray[Any, Any], int, int, float]", np.random.get_state())
    return random.getstate(), numbers.tobytes(), position, gauss, cached


def _python_draws() -> tuple[object, ...]:
    """Return what every draw changes in generators that :func:`_seed_python` has seeded, in a form that compares.

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
        _seed_python(number)
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
                _seed_python(number)  # a normal number that a callback left in NumPy's generator would hide a draw
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


@contextlib.contextmanager
def preserved(device: torch.device | None = None) -> Iterator[None]:
    """Put the global random state back at the end of the block, however it ends."""
    saved_torch = torch.default_generator.get_state()
    accelerator = None if device is None or device.type == "cpu" else _accelerator(device)
    saved_accelerator = None if accelerator is None else accelerator.get_rng_state()
    saved_numpy, saved_random = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.default_generator.set_state(saved_torch)
        if accelerator is not None and saved_accelerator is not None:
            accelerator.set_rng_state(saved_accelerator)
        np.random.set_state(saved_numpy)
        random.setstate(saved_random)


@contextlib.contextmanager
def _python_set(states: tuple[Any, Any]) -> Iterator[None]:
    with preserved():
        np.random.set_state(states[0])
        random.setstate(states[1])
        yield


def python_repeated() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Return what makes blocks in which NumPy's and Python's generators draw again what they draw from now on."""
    return partial(_python_set, (np.random.get_state(), random.getstate()))


def _accelerator(device: torch.device) -> _DeviceRandomness:
    """Return the module of an accelerator, such as ``torch.cuda``: all have the same three functions."""
    module: _DeviceRandomness = getattr(torch, device.type)
    return module
