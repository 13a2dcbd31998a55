"""Datasets and their algebra, factories, batches and encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchflow.data.batches import Batches, batches_of
from torchflow.data.collate import collate
from torchflow.data.dataset import Dataset
from torchflow.data.draw import Draw
from torchflow.data.factories import from_arrays, from_function, from_iterable, from_tensors
from torchflow.data.interop import as_dataset
from torchflow.data.schema import Field, Schema
from torchflow.data.workers import Workers
from torchflow.lazy import importing

if TYPE_CHECKING:
    from torchflow.data.categories import Categories, Categorized
    from torchflow.data.encoders import FittedEncoder, Standardize, Standardized, encoder_from_state, load_encoders
    from torchflow.data.leaks import check_splits
    from torchflow.data.overlaps import Overlap, SplitReport
    from torchflow.data.readers.frames import from_frame
    from torchflow.data.readers.tables import from_csv
    from torchflow.data.synthetic import linear

__getattr__ = importing(
    __name__,
    {
        "torchflow.data.categories": ("Categories", "Categorized"),
        "torchflow.data.encoders": ("FittedEncoder", "Standardize", "Standardized", "encoder_from_state", "load_encoders"),
        "torchflow.data.leaks": ("check_splits",),
        "torchflow.data.overlaps": ("Overlap", "SplitReport"),
        "torchflow.data.readers.frames": ("from_frame",),
        "torchflow.data.readers.tables": ("from_csv",),
        "torchflow.data.synthetic": ("linear",),
    },
)

__all__ = [
    "Batches",
    "Categories",
    "Categorized",
    "Dataset",
    "Draw",
    "Field",
    "FittedEncoder",
    "Overlap",
    "Schema",
    "SplitReport",
    "Standardize",
    "Standardized",
    "Workers",
    "as_dataset",
    "batches_of",
    "check_splits",
    "collate",
    "encoder_from_state",
    "from_arrays",
    "from_csv",
    "from_frame",
    "from_function",
    "from_iterable",
    "from_tensors",
    "linear",
    "load_encoders",
]
