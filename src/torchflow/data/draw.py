"""Which random numbers a sample gets: a key made of its place, never of the history."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchflow.randomness import Keys, key

_GOLDEN = 0x9E3779B97F4A7C15
_MASK64 = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """One draw of samples: the seed and epoch, and where in the tree of datasets the draw has come to.

    The key of a sample's randomness is ``keys("sample", epoch, root, repeat, node)``: the seed, the epoch, the index in
    the dataset that was asked, how often that index came before in one request (a padded batch, the steps of a
    window), and the path of the map. Nothing else, so it is the same for any batch size, worker or order of access.

    Args:
        keys: The keys of the run.
        epoch: The epoch, from 0 on.
        roots: int64, shape (batch,): the index in the outermost dataset of every index that goes down beside this
            draw; None where they are the same.
        repeats: int64, shape (batch,): the repeat of each; None where all are 0.
        node: The path so far, as 64 bits.
    """

    keys: Keys
    epoch: int = 0
    roots: Tensor | None = None
    repeats: Tensor | None = None
    node: int = 0

    def numbers(self, indices: Tensor) -> list[int]:
        """Return the key of every sample, 64 bits each.

        Args:
            indices: int64, shape (batch,): what the draw came down with.
        """
        roots = (indices if self.roots is None else self.roots).tolist()
        repeats = [0] * len(roots) if self.repeats is None else self.repeats.tolist()
        keys, epoch, node = self.keys, self.epoch, self.node
        return [keys("sample", epoch, root, repeat, node) for root, repeat in zip(roots, repeats, strict=True)]

    def repeated(self, indices: Tensor, repeats: Tensor | None) -> Draw:
        """Return the draw of a batch's indices with their repeats, where any is not 0."""
        return self if repeats is None else Draw(self.keys, self.epoch, indices, repeats)

    def rooted(self, indices: Tensor) -> Draw:
        """Return this draw with its roots written down: a node calls it before it changes the indices."""
        return self if self.roots is not None else Draw(self.keys, self.epoch, indices, self.repeats, self.node)

    def chosen(self, mask: Tensor) -> Draw:
        """Return the rooted draw of the samples that a mask (bool) or positions (int64), shape (batch,), choose."""
        roots = None if self.roots is None else self.roots[mask]
        repeats = None if self.repeats is None else self.repeats[mask]
        return Draw(self.keys, self.epoch, roots, repeats, self.node)

    def spread(self, indices: Tensor, first: int, count: int, total: int) -> Draw:
        """Return the draw of steps ``first`` to ``first + count`` out of ``total`` below each sample, sample by sample."""
        roots = (indices if self.roots is None else self.roots).repeat_interleave(count)
        before = torch.zeros_like(indices) if self.repeats is None else self.repeats
        steps = torch.arange(first, first + count)
        return Draw(self.keys, self.epoch, roots, (before[:, None] * total + steps).reshape(-1), self.node)

    def below(self, step: int) -> Draw:
        """Return the draw one step further down the tree, where ``step`` is 0 or the side that was taken."""
        mixed = ((self.node ^ (step + 1)) * _GOLDEN + step + 1) & _MASK64
        return Draw(self.keys, self.epoch, self.roots, self.repeats, mixed ^ (mixed >> 29))

    def named(self, name: str) -> Draw:
        """Return the draw whose path is a name: equal names draw equally, wherever they stand."""
        return Draw(self.keys, self.epoch, self.roots, self.repeats, key(0, f"node:{name}"))


def first_draw() -> Draw:
    """Return the draw of epoch 0 under seed 0, which ``dataset[i]`` shows."""
    return Draw(Keys(0))
