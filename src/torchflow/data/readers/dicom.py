"""DICOM as tensors: a sample for each file, or for each series."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.readers.dicom_files import Slice, read_dicom, read_slice
from torchflow.data.readers.dicom_values import checked_window
from torchflow.data.readers.files import Files, FileSource, checked_files, examined, label_field, list_files, named
from torchflow.data.readers.image_files import library, opened
from torchflow.data.readers.images import image_field
from torchflow.data.readers.rendering import MAX_PIXELS, Rendering, checked_rendering
from torchflow.data.schema import Schema
from torchflow.errors import ArgumentValueError, FileError

SUFFIXES = (".dcm", ".dicom", ".ima")
_LOOKED_AT = 4  # files that are read when the dataset is made, to fail early
_UNEVEN = 0.1  # of the usual distance between slices


def from_dicom(
    files: Any,  # whatever list_files takes: tables of any library too
    *,
    by: str = "file",
    labels: str | Sequence[Any] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    recursive: bool = True,
    suffixes: Sequence[str] = SUFFIXES,
    mode: str | None = None,
    size: int | tuple[int, int] | None = None,
    fit: str = "crop",
    resample: str = "bilinear",
    dtype: torch.dtype | None = torch.float32,
    window: tuple[float, float] | Literal["file"] | None = None,
    frame: int | str = 0,
    padding: float = 0.0,
    max_pixels: int = MAX_PIXELS,
    bad: str = "raise",
) -> Dataset[Any]:
    """Return the dataset of DICOM files, read when they are needed.

    Grey values are in the unit of their modality, by its lookup table or by slope and intercept, such as Hounsfield units
    of a CT: ``dataset.schema["image"].unit``. They are not scaled, and no window is applied unless ``window`` names one.
    MONOCHROME1, where small values are shown bright, is not turned around. Colours are from 0 to 1.

    A slice of 512 x 512 costs about 3 ms uncompressed. What Pillow decodes is read beside it: RLE, JPEG of 8 bits and
    JPEG 2000; for other compressions, and JPEG of 12 bits, the message names what helps.

    Args:
        files: A folder, a file, a list of files, or a table with a column of paths.
        by: ``"file"`` for a sample a file, or ``"series"`` for a volume a series: its slices in the order of their
            position along the normal, whatever the files are called.
        labels: ``"folder"`` for a folder a class; a list as long as the files; a table's column; None for none. The files
            of a series must have one label.
        classes: The names of the classes in their order; None is those that are found, sorted.
        column: The table's column of paths.
        root: What relative paths of a list or table start from.
        recursive: Whether folders in the folder are looked into.
        suffixes: The ends of the names that are taken from a folder, in lower case; ``("",)`` takes all.
        mode: As for :func:`from_images`.
        size: As for :func:`from_images`.
        fit: As for :func:`from_images`.
        resample: As for :func:`from_images`.
        dtype: A floating dtype for values in their unit; None, or the file's own integer dtype, for values as they are stored.
        window: (center, width) in the unit of the values, such as (40, 400) for the soft tissue of a CT: center - width / 2 and all
            below become 0, center + width / 2 and all above 1, which is ``LINEAR_EXACT`` of DICOM PS3.3, C.11.2.1.3.2. ``"file"``
            takes the first window of each file, with the function that it names. None is no window.
        frame: Which frame of a file, from 0 on; ``"all"`` for all, of shape (frames, channels, height, width).
        padding: What is around a picture with fit="pad", in the unit of the values; with a window from 0 to 1.
        max_pixels: The most pixels of one file.
        bad: ``"raise"``, or ``"skip"`` to read every file once now and leave out those that cannot be read.

    Returns:
        Samples ``(image, label)``, or ``image`` without labels; images have the shape (channels, height, width), and volumes
        (channels, slices, height, width).

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible value, or labels that do not belong to the files.
        FileError: A file is missing or cannot be read, or a series has no order; the message names it.
        MissingExtraError: pydicom or Pillow is not installed.
    """
    how = checked_rendering(
        mode=mode,
        size=size,
        fit=fit,
        resample=resample,
        dtype=dtype,
        frame=frame,
        background=1.0,
        padding=padding,
        max_pixels=max_pixels,
    )
    how = checked_window(window, how)
    whole = arguments.one_of("by", by, ("file", "series")) == "series"
    if whole and how.frame != 0:
        raise ArgumentValueError('frame= has no meaning with by="series": a series has a frame in each file.')
    library("pydicom", "PIL")
    listed = list_files(
        files,
        factory="from_dicom",
        suffixes=suffixes,
        labels=labels,
        classes=classes,
        column=column,
        root=root,
        recursive=recursive,
    )
    return Dataset(_series(listed, how, bad) if whole else _single(listed, how, bad))


class DicomFiles(FileSource):
    """Pictures of DICOM files, all in one unit.

    Args:
        files: Which files.
        how: How they are rendered.
        schema: What a sample is.
        starts: Where each series begins among the files, and at last their number; None is a sample a file.
    """

    def __init__(self, files: Files, how: Rendering, schema: Schema, starts: Sequence[int] | None = None) -> None:
        super().__init__(files, "from_dicom", schema)
        self._how, self._starts = how, starts
        self._unit = schema["image"].unit

    @property
    def length(self) -> int:
        """How many files, or series, there are."""
        return len(self.files) if self._starts is None else len(self._starts) - 1

    def column(self, part: str | int) -> Tensor | None:
        """Return the labels of all samples, without reading a file."""
        labels = super().column(part)
        return labels if labels is None or self._starts is None else labels[torch.tensor(self._starts[:-1])]

    def read(self, path: str, part: int) -> Tensor:
        """Return the picture of a file."""
        image, where = opened(Path(path), partial(read_dicom, how=self._how))
        if where.unit != self._unit:
            units = [unit or "no unit" for unit in (where.unit, self._unit)]
            raise FileError(f"{path} has values in {units[0]}, and other files in {units[1]}. Make a dataset of each kind.", path)
        return image

    def _sample(self, index: int, root: int) -> Any:
        if self._starts is None:
            return super()._sample(index, root)
        first, end = self._starts[index], self._starts[index + 1]
        slices: list[Tensor] = []
        for path in self.files.paths[first:end]:
            try:
                slices.append(self.read(path, 0))
            except Exception as error:
                raise named(error, path, f"from_dicom failed at sample {root}: ") from error
            if slices[-1].shape != slices[0].shape:
                said = f"{tuple(slices[-1].shape)}, and the slices before it {tuple(slices[0].shape)}"
                raise FileError(
                    f"from_dicom failed at sample {root}: {path} has the shape {said}. Pass size=(height, width).", path
                )
        volume = torch.stack(slices, dim=-3)
        return volume if self.files.labels is None else (volume, self.files.labels[first].clone())


def _single(listed: Files, how: Rendering, bad: str) -> DicomFiles:
    """Return the source of a sample a file."""

    def look(path: str) -> tuple[tuple[int, ...], torch.dtype, str | None]:
        image, where = opened(Path(path), partial(read_dicom, how=how))
        return tuple(image.shape), image.dtype, where.unit

    if bad == "skip":
        files, seen = examined(listed, look, bad)
    else:
        files = checked_files(listed, bad)
        step = max(1, len(files) // _LOOKED_AT)
        seen = [look(path) for path in files.paths[::step][:_LOOKED_AT]]
    field = image_field([(shape, dtype) for shape, dtype, _ in seen], how, complete=bad == "skip")
    return DicomFiles(files, how, Schema((replace(field, unit=seen[0][2]), *label_field(files))))


def _series(listed: Files, how: Rendering, bad: str) -> DicomFiles:
    """Return the source of a volume a series."""
    files, slices = examined(listed, lambda path: opened(Path(path), partial(read_slice, how=how)), bad)
    groups: dict[str, list[int]] = {}
    for place, found in enumerate(slices):
        groups.setdefault(found.series, []).append(place)
    order: list[int] = []
    starts = [0]
    for places in groups.values():
        order += _ordered(files, slices, places)
        starts.append(len(order))
    files = files.chosen(order)
    image, where = opened(Path(files.paths[0]), partial(read_dicom, how=how))
    field = image_field([(tuple(image.shape), image.dtype)], how, complete=False)
    depths = {end - start for start, end in pairwise(starts)}
    shape = (*field.shape[:-2], depths.pop() if len(depths) == 1 else None, *field.shape[-2:])
    return DicomFiles(
        files,
        how,
        Schema(
            (replace(field, shape=shape, unit=where.unit, dims=(*field.dims[:-2], "depth", *field.dims[-2:])), *label_field(files))
        ),
        starts,
    )


def _ordered(files: Files, slices: Sequence[Slice], places: list[int]) -> list[int]:
    """Return the files of a series in the order of their position.

    Raises:
        FileError: A file has no position, two have the same, or their labels differ.
    """
    if files.labels is not None and len({tuple(files.labels[place].reshape(-1).tolist()) for place in places}) > 1:
        raise FileError(f"{files.paths[places[0]]} belongs to a series whose files have several labels.", files.paths[places[0]])
    found: list[tuple[float, int]] = []
    for place in places:
        position = slices[place].position
        if position is None:
            remedy = 'Use by="file", or leave it out.'
            raise FileError(f"{files.paths[place]} does not say where its slice lies. {remedy}", files.paths[place])
        found.append((position, place))
    found.sort()
    distances = [after - before for (before, _), (after, _) in pairwise(found)]
    for distance, (_, before), (position, place) in zip(distances, found, found[1:], strict=False):
        if distance < 1e-4:
            twice = f"{files.paths[before]} and {files.paths[place]} lie both at {position:g} mm"
            raise FileError(f"{twice}, so their series has no order. Leave one out, or use by='file'.", files.paths[place])
    if distances and max(distances) > (1 + _UNEVEN) * median(distances):
        said = f"the slices of the series of {files.paths[places[0]]} are {median(distances):g} mm apart"
        warnings.warn(f"{said}, and {max(distances):g} mm at one place: a slice may be missing.", stacklevel=5)
    return [place for _, place in found]
