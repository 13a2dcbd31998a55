"""What a dataset holds, in a few bytes: cheap enough for every start, and enough to notice another table."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow.data.draw import Draw
from torchflow.data.sources import Source
from torchflow.randomness import Keys
from torchflow.tree import leaves_with_paths

SAMPLES = 16


def content_of(source: Source, keys: Keys) -> str | None:
    """Return a digest of sixteen samples spread evenly over the dataset: names, shapes, dtypes, values; and of the files below.

    Returns:
        32 hexadecimal digits; where reading a sample runs Python of the user's, which a start should not, the files' digest
        alone, and None where there are no files either.
    """
    if not source.length:
        return None
    stamp = source.stamp()
    if source.users:
        return stamp or None
    count = min(SAMPLES, source.length)
    spread = torch.arange(count) * max(1, (source.length - 1) // max(1, count - 1))
    digest = hashlib.blake2b(stamp.encode(), digest_size=16)
    for sample in source.samples(spread, Draw(keys)):
        for path, leaf in leaves_with_paths(sample):
            digest.update(f"{path} {_described(leaf)}\n".encode())
            digest.update(_bytes(leaf))
    return digest.hexdigest()


def _described(leaf: Any) -> str:
    if isinstance(leaf, (Tensor, np.ndarray)):
        return f"{tuple(leaf.shape)} {leaf.dtype}"
    return type(leaf).__name__


def _bytes(leaf: Any) -> bytes:
    if isinstance(leaf, Tensor):
        return leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(leaf, np.ndarray) and leaf.dtype != object:
        return np.ascontiguousarray(leaf).tobytes()
    # Other objects may show their address; only plain values say the same in every process.
    return repr(leaf).encode() if isinstance(leaf, (bool, int, float, str, bytes, np.generic)) else b""
