"""Datasets and their algebra, factories, batches and encoders."""

from __future__ import annotations

from torchflow.data.batches import Batches, batches_of
from torchflow.data.collate import collate
from torchflow.data.dataset import Dataset
from torchflow.data.draw import Draw
from torchflow.data.factories import from_arrays, from_function, from_iterable, from_tensors
from torchflow.data.interop import as_dataset
from torchflow.data.synthetic import linear

__all__ = [
    "Batches",
    "Dataset",
    "Draw",
    "as_dataset",
    "batches_of",
    "collate",
    "from_arrays",
    "from_function",
    "from_iterable",
    "from_tensors",
    "linear",
]
