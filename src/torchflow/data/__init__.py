"""Datasets and their algebra, factories, batches and encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchflow.data.batches import Batches, batches_of
from torchflow.data.bucketing import Bucketed
from torchflow.data.collate import collate
from torchflow.data.dataset import Dataset
from torchflow.data.draw import Draw
from torchflow.data.factories import from_arrays, from_function, from_iterable, from_tensors
from torchflow.data.interop import as_dataset
from torchflow.data.schema import Field, Schema
from torchflow.data.workers import Workers
from torchflow.lazy import importing

if TYPE_CHECKING:
    from torchflow.data import augment
    from torchflow.data.categories import Categories, Categorized
    from torchflow.data.encoders import FittedEncoder, Standardize, Standardized, encoder_from_state, load_encoders
    from torchflow.data.fitted_vocabulary import FittedVocabulary
    from torchflow.data.kmers import KMers
    from torchflow.data.leaks import check_splits
    from torchflow.data.nucleotides import RandomReverseComplement, dna_codes, dna_one_hot, dna_text, reverse_complement
    from torchflow.data.overlaps import Overlap, SplitReport
    from torchflow.data.padding import MaskedLoss, PadBatch, Padded
    from torchflow.data.readers.audio import from_audio
    from torchflow.data.readers.dicom import from_dicom
    from torchflow.data.readers.dna import from_fasta, from_fastq
    from torchflow.data.readers.excel import from_excel
    from torchflow.data.readers.frames import from_frame
    from torchflow.data.readers.genome import from_genome
    from torchflow.data.readers.headers import read_labels
    from torchflow.data.readers.images import from_images
    from torchflow.data.readers.parquet import from_parquet
    from torchflow.data.readers.tables import from_csv
    from torchflow.data.readers.text import from_text
    from torchflow.data.readers.video import from_video
    from torchflow.data.spectrograms import LogMel
    from torchflow.data.synthetic import linear
    from torchflow.data.table_encoder import TableEncoder
    from torchflow.data.table_encoding import TableEncoding
    from torchflow.data.vocabulary import Vocabulary

__getattr__ = importing(
    __name__,
    {
        "torchflow.data.augment": (),
        "torchflow.data.categories": ("Categories", "Categorized"),
        "torchflow.data.encoders": ("FittedEncoder", "Standardize", "Standardized", "encoder_from_state", "load_encoders"),
        "torchflow.data.fitted_vocabulary": ("FittedVocabulary",),
        "torchflow.data.kmers": ("KMers",),
        "torchflow.data.leaks": ("check_splits",),
        "torchflow.data.nucleotides": ("RandomReverseComplement", "dna_codes", "dna_one_hot", "dna_text", "reverse_complement"),
        "torchflow.data.overlaps": ("Overlap", "SplitReport"),
        "torchflow.data.padding": ("MaskedLoss", "PadBatch", "Padded"),
        "torchflow.data.readers.audio": ("from_audio",),
        "torchflow.data.readers.dicom": ("from_dicom",),
        "torchflow.data.readers.dna": ("from_fasta", "from_fastq"),
        "torchflow.data.readers.excel": ("from_excel",),
        "torchflow.data.readers.frames": ("from_frame",),
        "torchflow.data.readers.genome": ("from_genome",),
        "torchflow.data.readers.headers": ("read_labels",),
        "torchflow.data.readers.images": ("from_images",),
        "torchflow.data.readers.parquet": ("from_parquet",),
        "torchflow.data.readers.tables": ("from_csv",),
        "torchflow.data.readers.text": ("from_text",),
        "torchflow.data.readers.video": ("from_video",),
        "torchflow.data.spectrograms": ("LogMel",),
        "torchflow.data.synthetic": ("linear",),
        "torchflow.data.table_encoder": ("TableEncoder",),
        "torchflow.data.table_encoding": ("TableEncoding",),
        "torchflow.data.vocabulary": ("Vocabulary",),
    },
)

__all__ = [
    "Batches",
    "Bucketed",
    "Categories",
    "Categorized",
    "Dataset",
    "Draw",
    "Field",
    "FittedEncoder",
    "FittedVocabulary",
    "KMers",
    "LogMel",
    "MaskedLoss",
    "Overlap",
    "PadBatch",
    "Padded",
    "RandomReverseComplement",
    "Schema",
    "SplitReport",
    "Standardize",
    "Standardized",
    "TableEncoder",
    "TableEncoding",
    "Vocabulary",
    "Workers",
    "as_dataset",
    "augment",
    "batches_of",
    "check_splits",
    "collate",
    "dna_codes",
    "dna_one_hot",
    "dna_text",
    "encoder_from_state",
    "from_arrays",
    "from_audio",
    "from_csv",
    "from_dicom",
    "from_excel",
    "from_fasta",
    "from_fastq",
    "from_frame",
    "from_function",
    "from_genome",
    "from_images",
    "from_iterable",
    "from_parquet",
    "from_tensors",
    "from_text",
    "from_video",
    "linear",
    "load_encoders",
    "read_labels",
    "reverse_complement",
]
