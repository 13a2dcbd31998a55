"""Randomness that is derived, never stored: keys, generators, and the only seeding in the package.

Every random stream of a run is a pure function of the run's seed, a purpose and a few integers:

    key(seed, purpose, *integers) = BLAKE2b-64("torchflow/1", seed, purpose, integers)

So there is no random state to save, nothing that a worker count could change, and two runs with neighbouring
seeds share no stream (which ``seed + epoch`` cannot say).
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import struct
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch

MASK32 = 0xFFFFFFFF
"""The bits of a seed that torch's CPU generator and NumPy's legacy one take."""


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


def seed_globals(number: int, device: torch.device | None = None) -> None:
    """Put every default generator that a user's code may draw from into the state that ``number`` names.

    Seeds torch's CPU generator, the one of ``device`` where that is an accelerator, NumPy's legacy one and :mod:`random`.

    Args:
        number: 64 bits; the CPU generator and NumPy take the low 32.
        device: The device that forward passes run on; None means the CPU alone.
    """
    seed_torch(number, device)
    seed_python(number)


def seed_torch(number: int, device: torch.device | None = None) -> None:
    """Seed torch's CPU generator and that of ``device``; ``torch.manual_seed`` reaches all and costs 80 times as much."""
    torch.default_generator.manual_seed(number)
    if device is not None and device.type != "cpu":
        _accelerator(device).manual_seed(number & 0x7FFFFFFFFFFFFFFF)


def torch_state(device: torch.device | None = None) -> list[torch.Tensor]:
    """Return the states of torch's CPU generator and of that of ``device``."""
    states = [torch.default_generator.get_state()]
    return states if device is None or device.type == "cpu" else [*states, _accelerator(device).get_rng_state()]


def seed_python(number: int) -> None:
    """Seed NumPy's legacy generator and :mod:`random`."""
    np.random.seed(number & MASK32)
    random.seed(number)


def python_state() -> tuple[object, ...]:
    """Return the state of the generators that :func:`seed_python` seeds, in a form that compares."""
    _, numbers, position, gauss, cached = cast("tuple[str, np.ndarray[Any, Any], int, int, float]", np.random.get_state())
    return random.getstate(), numbers.tobytes(), position, gauss, cached


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
