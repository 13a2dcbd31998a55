"""What the stored values of a DICOM file count: numbers in the unit of their modality, or in a window of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torchflow import arguments
from torchflow.data.readers.rasters import Values
from torchflow.data.readers.rendering import Rendering
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError

if TYPE_CHECKING:
    from pydicom import FileDataset

_UNITS = {"HU": "Hounsfield units", "HU_MOD": "modified Hounsfield units", "OD": "optical density", "US": None, "": None}


def as_stored(how: Rendering) -> bool:
    """Return whether values are left as they are stored, without their unit."""
    return how.dtype is None or not how.dtype.is_floating_point or how.mode == "index"


def checked_window(window: object, how: Rendering) -> Rendering:
    """Return how pictures are rendered, through a window: its center and width, or "file", or None.

    Raises:
        ArgumentTypeError: It is none of them.
        ArgumentValueError: It is impossible, or values are left as they are stored.
    """
    if window is None:
        return how
    if as_stored(how):
        raise ArgumentValueError("window= needs values in their unit. Use a floating dtype=, and no mode='index'.")
    if isinstance(window, str):
        return replace(how, window=arguments.one_of("window", window, ("file",), hint="Or use (center, width)."))
    if not isinstance(window, (tuple, list)) or len(window) != 2:
        raise ArgumentTypeError(f"window must be (center, width), 'file' or None, got {arguments.shown(window)}.")
    center, width = window
    return replace(how, window=(arguments.real("window's center", center), arguments.real("window's width", width, above=0)))


def in_unit(dataset: FileDataset, number: int, values: Values) -> Values:
    """Return stored values in the unit of the modality, float64: by its lookup table, or slope and intercept.

    The source is DICOM PS3.3, C.11.1 (modality LUT) and C.7.6.16.2.9 (the same for each frame of an enhanced file).
    """
    from pydicom.pixels.processing import apply_modality_lut  # noqa: PLC0415

    for group in _functional_groups(dataset, number):
        for item in group.get("PixelValueTransformationSequence") or ():
            return values * float(item.RescaleSlope) + float(item.RescaleIntercept)
    return np.asarray(apply_modality_lut(values, dataset), dtype=np.float64)


def windowed(dataset: FileDataset, number: int, values: Values, window: tuple[float, float] | str) -> Values:
    """Return values in their unit through a window, from 0 to 1: DICOM PS3.3, C.11.2.1 (and C.7.6.16.2.10 of an enhanced file)."""
    from pydicom.dataset import Dataset  # noqa: PLC0415
    from pydicom.pixels.processing import apply_windowing  # noqa: PLC0415
    from pydicom.valuerep import DSfloat  # noqa: PLC0415

    view = Dataset()
    view.PhotometricInterpretation, view.BitsStored, view.PixelRepresentation = "MONOCHROME2", 1, 0  # one bit: from 0 to 1
    if isinstance(window, tuple):
        view.WindowCenter, view.WindowWidth = (DSfloat(value, auto_format=True) for value in window)
        view.VOILUTFunction = "LINEAR_EXACT"
    else:
        groups = [item for group in _functional_groups(dataset, number) for item in group.get("FrameVOILUTSequence") or ()]
        said = groups[0] if groups else dataset
        if said.get("WindowCenter") is None or said.get("WindowWidth") is None:
            raise DataError(
                'it names no window (0028,1050 and 0028,1051). Pass window=(center, width), or leave window="file" out.'
            )
        view.WindowCenter, view.WindowWidth = said.WindowCenter, said.WindowWidth
        if said.get("VOILUTFunction"):
            view.VOILUTFunction = said.VOILUTFunction
    return np.asarray(apply_windowing(values, view), dtype=np.float64)


def unit_of(dataset: FileDataset) -> str | None:
    """Return what the values of a grey file count."""
    rescales = [item for group in _functional_groups(dataset, 0) for item in group.get("PixelValueTransformationSequence") or ()]
    said = str((rescales[0] if rescales else dataset).get("RescaleType") or "")
    if not said and dataset.get("Modality") == "CT" and (rescales or "RescaleSlope" in dataset):
        said = "HU"  # what a CT image means where it does not say (PS3.3, C.8.2.1.1.4)
    return _UNITS.get(said, said)


def _functional_groups(dataset: FileDataset, number: int) -> Iterator[Any]:
    """Yield the groups that describe one frame of an enhanced file: its own, then those that all share."""
    own = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    yield from own[number : number + 1]
    yield from dataset.get("SharedFunctionalGroupsSequence") or ()
