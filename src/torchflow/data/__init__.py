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
from torchflow.lazy import importing

if TYPE_CHECKING:
    from torchflow.data import augment
    from torchflow.data.categories import Categories, Categorized
    from torchflow.data.encoders import FittedEncoder, Standardize, Standardized, encoder_from_state, load_encoders
    from torchflow.data.leaks import check_splits
    from torchflow.data.overlaps import Overlap, SplitReport
    from torchflow.data.padding import MaskedLoss, PadBatch, Padded
    from torchflow.data.readers.audio import from_audio
    from torchflow.data.readers.dicom import from_dicom
    from torchflow.data.readers.excel import from_excel
    from torchflow.data.readers.frames import from_frame
    from torchflow.data.readers.images import from_images
    from torchflow.data.readers.parquet import from_parquet
    from torchflow.data.readers.tables import from_csv
    from torchflow.data.readers.video import from_video
    from torchflow.data.spectrograms import LogMel
    from torchflow.data.synthetic import linear
    from torchflow.data.table_encoder import TableEncoder
    from torchflow.data.table_encoding import TableEncoding

__getattr__ = importing(
    __name__,
    {
        "torchflow.data.augment": (),
        "torchflow.data.categories": ("Categories", "Categorized"),
        "torchflow.data.encoders": ("FittedEncoder", "Standardize", "Standardized", "encoder_from_state", "load_encoders"),
        "torchflow.data.leaks": ("check_splits",),
        "torchflow.data.overlaps": ("Overlap", "SplitReport"),
        "torchflow.data.padding": ("MaskedLoss", "PadBatch", "Padded"),
        "torchflow.data.readers.audio": ("from_audio",),
        "torchflow.data.readers.dicom": ("from_dicom",),
        "torchflow.data.readers.excel": ("from_excel",),
        "torchflow.data.readers.frames": ("from_frame",),
        "torchflow.data.readers.images": ("from_images",),
        "torchflow.data.readers.parquet": ("from_parquet",),
        "torchflow.data.readers.tables": ("from_csv",),
        "torchflow.data.readers.video": ("from_video",),
        "torchflow.data.spectrograms": ("LogMel",),
        "torchflow.data.synthetic": ("linear",),
        "torchflow.data.table_encoder": ("TableEncoder",),
        "torchflow.data.table_encoding": ("TableEncoding",),
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
    "LogMel",
    "MaskedLoss",
    "Overlap",
    "PadBatch",
    "Padded",
    "Schema",
    "SplitReport",
    "Standardize",
    "Standardized",
    "TableEncoder",
    "TableEncoding",
    "as_dataset",
    "augment",
    "batches_of",
    "check_splits",
    "collate",
    "encoder_from_state",
    "from_arrays",
    "from_audio",
    "from_csv",
    "from_dicom",
    "from_excel",
    "from_frame",
    "from_function",
    "from_images",
    "from_iterable",
    "from_parquet",
    "from_tensors",
    "from_video",
    "linear",
    "load_encoders",
]
