"""The order of samples: pure integers, owned and versioned, the only shuffling in the package.

An order of ``length`` samples is a pure function of a 64-bit key and the length. Neither ``torch.randperm`` nor
NumPy's generators promise the same stream across releases, so the algorithms live here, under names that go into
checkpoints:

``sequential``
    0, 1, 2, ...
``sort-mix64/1``
    Up to 2^24 samples: one sort of 64-bit words, whose high 40 bits are a hash of (key, index) and whose low 24 bits
    are the index itself. Ties of the hash fall to the smaller index (for 2^24 samples about 1 pair in 2^17).
``feistel8/1``
    Above: a Feistel network of eight rounds with cycle walking, O(1) memory and random access (Black and Rogaway,
    "Ciphers with Arbitrary Finite Domains", 2002). It is visibly not uniform for small lengths: never used there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from torchflow.data.sorting import sorted_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_SORT = 2**24
_LOW24 = np.uint64(LARGEST_SORT - 1)
_HIGH40 = ~_LOW24
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 8
_MASK64 = 0xFFFFFFFFFFFFFFFF


class Order(Protocol):
    """A permutation of ``range(length)``, read in slices."""

    @property
    def algorithm(self) -> str:
        """The name and version of the algorithm."""
        ...

    @property
    def length(self) -> int:
        """How many samples are ordered."""
        ...

    def __getitem__(self, positions: slice) -> Tensor:
        """Return the sample indices at positions ``start`` to ``stop``, int64, shape (stop - start,)."""
        ...


class Orders(Protocol):
    """The order of each epoch, as a function of its key.

    Attributes:
        algorithm: What a resume compares: the name and version, and whatever the order depends on beside the key.
    """

    algorithm: str

    def order(self, key: int) -> Order:
        """Return the order of the epoch that has a key of 64 bits."""
        ...


class Ordinary:
    """One algorithm for every epoch.

    Args:
        length: How many samples.
        shuffle: Whether each epoch has an order of its own; otherwise samples come as they are.
    """

    def __init__(self, length: int, shuffle: bool) -> None:
        self._length, self._shuffle = length, shuffle
        self.algorithm = algorithm_of(length, shuffle)

    def order(self, key: int) -> Order:
        """Return the order under a key."""
        return order_of(self._length, key if self._shuffle else None)


def order_of(length: int, key: int | None) -> Order:
    """Return the order of ``length`` samples under a key; None keeps them as they are.

    Args:
        length: How many samples, at least 0.
        key: 64 bits, for an epoch ``keys("order", epoch)``; None is the sequential order.
    """
    if key is None:
        return Sequential(length)
    return SortedByHash(length, key) if length <= LARGEST_SORT else Feistel(length, key)


def algorithm_of(length: int, shuffle: bool) -> str:
    """Return the name of the algorithm that :func:`order_of` takes."""
    kind = (SortedByHash if length <= LARGEST_SORT else Feistel) if shuffle else Sequential
    return kind.algorithm


def mix64(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a bijective hash of each 64-bit word: the finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    mixed = words >> np.uint64(30)  # two arrays in all: memory costs more here than arithmetic
    mixed ^= words
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    shifted = mixed >> np.uint64(27)
    mixed ^= shifted
    mixed *= np.uint64(0x94D049BB133111EB)
    np.right_shift(mixed, np.uint64(31), out=shifted)
    mixed ^= shifted
    return mixed


def pieces(length: int, size: int) -> Iterator[Tensor]:
    """Yield the indices 0 to length - 1 in pieces, int64 (size,), the last one shorter; nothing for no length."""
    for start in range(0, length, size):
        yield torch.arange(start, min(start + size, length))


class Sequential:
    """The samples as they are.

    Args:
        length: How many samples.
    """

    algorithm = "sequential"
    __slots__ = ("length",)

    def __init__(self, length: int) -> None:
        self.length = length

    def __getitem__(self, positions: slice) -> Tensor:
        start, stop, _ = positions.indices(self.length)
        return torch.arange(start, max(start, stop))


class SortedByHash:
    """A permutation of up to 2^24 samples by one sort, which is done once, here.

    Args:
        length: How many samples, at most 2^24.
        key: 64 bits.
    """

    algorithm = "sort-mix64/1"
    __slots__ = ("_permutation", "length")

    def __init__(self, length: int, key: int) -> None:
        self.length = length
        index = np.arange(length, dtype=np.uint64)
        words = index * _GOLDEN
        words += np.uint64(key & _MASK64)
        words = mix64(words)  # the stream of SplitMix64 whose state begins at `key`
        words &= _HIGH40
        words |= index
        words = sorted_words(words)
        words &= _LOW24
        self._permutation = torch.from_numpy(words.view(np.int64))

    def __getitem__(self, positions: slice) -> Tensor:
        return self._permutation[positions]


class LookedUp:
    """The samples that an order's positions stand for in a table: a shuffled selection, with one lookup a block.

    Args:
        order: Which positions come when.
        table: int64, shape (length,): the sample at each position.
    """

    __slots__ = ("_order", "_table", "algorithm", "length")

    def __init__(self, order: Order, table: Tensor) -> None:
        self._order, self._table = order, table
        self.algorithm = order.algorithm
        self.length = order.length

    def __getitem__(self, positions: slice) -> Tensor:
        return self._table.index_select(0, self._order[positions])


class Feistel:
    """A permutation of any length by a keyed network: nothing is stored, any position costs the same.

    Args:
        length: How many samples.
        key: 64 bits.
    """

    algorithm = "feistel8/1"
    __slots__ = ("_half", "_salts", "length")

    def __init__(self, length: int, key: int) -> None:
        self.length = length
        bits = max(2, (length - 1).bit_length())
        self._half = np.uint64((bits + 1) // 2)  # two halves of equal width: at most 4 times `length` values
        numbers = np.arange(1, _ROUNDS + 1, dtype=np.uint64)
        self._salts = mix64(numbers * _GOLDEN + np.uint64(key & _MASK64))

    def __getitem__(self, positions: slice) -> Tensor:
        start, stop, _ = positions.indices(self.length)
        words = self._encrypt(np.arange(start, max(start, stop), dtype=np.uint64))
        outside = np.flatnonzero(words >= self.length)
        while outside.size:  # cycle walking: a value outside is encrypted again until it falls inside
            words[outside] = self._encrypt(words[outside])
            outside = outside[words[outside] >= self.length]
        return torch.from_numpy(words.view(np.int64))

    def _encrypt(self, words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return the network's value of each word: a bijection of ``2 * half`` bits."""
        left, right = words >> self._half, words & ((np.uint64(1) << self._half) - np.uint64(1))
        shift = np.uint64(64) - self._half
        for salt in self._salts:
            left, right = right, left ^ (mix64(right * _GOLDEN ^ salt) >> shift)
        return left << self._half | right
