"""The samples of a language model: windows over one long row of tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from torchflow.data.collate import rows
from torchflow.data.draw import Draw
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source


class TokenWindows(Source):
    """Windows and the tokens that follow each of theirs: ``(inputs, targets)``, gathered at once for a batch.

    Args:
        numbers: The tokens, int64, shape (tokens,).
        steps: Tokens of a window.
        stride: Tokens between the starts of two.
        size: How many tokens the vocabulary has.
    """

    random = foreign = False
    columnar = True

    def __init__(self, numbers: Tensor, steps: int, stride: int, size: int) -> None:
        # as few bytes a token as there may be: a text of a gigabyte is held whole
        self._numbers = numbers.type(torch.uint8 if size <= 256 else torch.int32)
        self._steps = steps
        self._stride = stride
        inputs = Field("inputs", (steps,), torch.int64, dims=("position",))
        self.schema = Schema((inputs, replace(inputs, name="targets", target=True)))

    @property
    def length(self) -> int:
        """How many whole windows there are."""
        return (len(self._numbers) - 1 - self._steps) // self._stride + 1

    @property
    def lineage(self) -> str:
        """What made it, and the sizes."""
        return f"vocabulary.windows({self._steps}, {self._stride})"

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return int64 inputs and targets, shape (batch, steps) each."""
        places = (indices * self._stride)[:, None] + torch.arange(self._steps + 1)
        found = self._numbers[places].type(torch.int64)
        return found[:, :-1].contiguous(), found[:, 1:].contiguous()

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Return the windows one by one."""
        return rows(self.batch(indices, draw), len(indices))
