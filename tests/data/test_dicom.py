"""DICOM files become numbers in the unit of their modality, and series become volumes in the order of their position."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from pydicom.dataset import Dataset as DicomDataset
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.processing import apply_modality_lut, apply_windowing
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from tests.data.fuzzed_pictures import DICOM
from tests.data.pictures import Values, noise, png, write
from torchflow import data
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError

UNIT = "Hounsfield units"


def image_of(path: Path, **options: Any) -> torch.Tensor:
    image: torch.Tensor = data.from_dicom([path], **options)[0]
    return image


def written(path: Path, values: Values, **header: Any) -> Path:
    """A file of signed or unsigned 16 bits, of one frame or several."""
    dataset = DicomDataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = UID("1.2.3")
    dataset.Modality, dataset.SeriesInstanceUID = "CT", UID("1.2.4")
    dataset.Rows, dataset.Columns = values.shape[-2:]
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, int(values.dtype.kind == "i")
    dataset.PixelData = values.tobytes()
    for name, value in header.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return write(path, buffer.getvalue())


def rescaled(slope: float, intercept: float, kind: str | None = "HU") -> dict[str, Any]:
    return {"RescaleSlope": slope, "RescaleIntercept": intercept, **({} if kind is None else {"RescaleType": kind})}


def test_a_ct_is_in_hounsfield_units() -> None:
    """The shipped file: -896 to 1167, by pydicom's own lookup. Fails without the intercept of -1024."""
    path = DICOM / "CT_small.dcm"
    dataset = data.from_dicom([path])
    stored = pydicom.dcmread(path)
    assert torch.equal(dataset[0][0], torch.from_numpy(apply_modality_lut(stored.pixel_array, stored)).float())
    assert dataset[0].min() == -896
    assert dataset.schema is not None
    assert dataset.schema["image"].unit == UNIT
    assert dataset.schema["image"].dims == ("channel", "height", "width")


@pytest.mark.parametrize(
    ("name", "other"), [("MR_small_RLE", "MR_small"), ("MR_small_bigendian", "MR_small"), ("MR_small_jp2klossless", "MR_small")]
)
def test_what_the_file_is_compressed_by_makes_no_difference(name: str, other: str) -> None:
    one, two = (image_of(DICOM / f"{each}.dcm") for each in (name, other))
    assert torch.equal(one, two)
    assert one.max() == 2145


def test_values_are_not_scaled_and_may_be_left_as_stored(tmp_path: Path) -> None:
    values = noise(6, 7, dtype=np.int16)
    path = written(tmp_path / "a.dcm", values, **rescaled(0.5, -10))
    assert torch.equal(image_of(path)[0], torch.from_numpy(values * 0.5 - 10).float())
    assert torch.equal(image_of(path, dtype=torch.float64)[0], torch.from_numpy(values * 0.5 - 10))
    for dtype in (None, torch.int16):
        stored = data.from_dicom([path], dtype=dtype)
        assert torch.equal(stored[0][0], torch.from_numpy(values))
        assert stored.schema is not None
        assert stored.schema["image"].unit is None
    with pytest.raises(FileError, match=r"its values are int16, which dtype=torch\.uint8 would cut"):
        image_of(path, dtype=torch.uint8)


def test_the_unit_is_what_the_file_says(tmp_path: Path) -> None:
    values = noise(4, 4, dtype=np.uint16)
    units = {"HU": UNIT, "OD": "optical density", "US": None, "KERMA": "KERMA", None: UNIT}
    for said, unit in units.items():
        dataset = data.from_dicom([written(tmp_path / f"{said}.dcm", values, **rescaled(1, 0, said))])
        assert dataset.schema is not None
        assert dataset.schema["image"].unit == unit
    plain = data.from_dicom([written(tmp_path / "plain.dcm", values)])
    assert plain.schema is not None
    assert plain.schema["image"].unit is None


def test_one_dataset_has_one_unit(tmp_path: Path) -> None:
    """Fails if the unit of the first file is taken for that of all."""
    values = noise(4, 4, dtype=np.uint16)
    paths = [written(tmp_path / f"{number}.dcm", values, **rescaled(1, 0)) for number in range(9)]
    paths[1] = written(tmp_path / "x.dcm", values, Modality="MR")
    dataset = data.from_dicom(paths)
    with pytest.raises(FileError, match=r"x\.dcm has values in no unit, and other files in Hounsfield units"):
        dataset[1]


def test_each_frame_of_an_enhanced_file_has_its_own_slope(tmp_path: Path) -> None:
    """Fails if only the top of the file is looked at, where an enhanced file has no slope at all."""
    frames = noise(3, 4, 5, dtype=np.uint16)
    groups = []
    for number in range(3):
        transformation = DicomDataset()
        transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = number + 1, -number, "HU"
        group = DicomDataset()
        group.PixelValueTransformationSequence = DicomSequence([transformation])
        groups.append(group)
    path = written(tmp_path / "a.dcm", frames, PerFrameFunctionalGroupsSequence=DicomSequence(groups))
    dataset = data.from_dicom(path, frame="all")
    expected = frames.astype(np.float64) * np.array([1, 2, 3])[:, None, None] - np.array([0, 1, 2])[:, None, None]
    assert torch.equal(dataset[0][:, 0], torch.from_numpy(expected).float())
    assert dataset.schema is not None
    assert dataset.schema["image"].unit == UNIT
    assert torch.equal(image_of(path, frame=2), dataset[0][2])
    with pytest.raises(FileError, match=r"it has 3 frames, and frame=3 was asked for\. Pass one from 0 to 2"):
        image_of(path, frame=3)


def test_a_window_goes_from_0_to_1_in_the_unit_of_the_modality(tmp_path: Path) -> None:
    """Fails if the window is laid over the stored values: these are 1000 above their unit."""
    values = np.array([[-200, -160, 40, 140, 240, 300]], np.int16) + 1000
    path = written(tmp_path / "a.dcm", values.astype(np.int16), **rescaled(1, -1000), WindowCenter=500, WindowWidth=2)
    dataset = data.from_dicom([path], window=(40, 400))
    assert torch.allclose(dataset[0], torch.tensor([[[0, 0, 0.5, 0.75, 1, 1]]]))
    assert dataset[0].dtype == torch.float32
    assert dataset.schema is not None
    assert dataset.schema["image"].unit is None
    assert image_of(path, window=(40, 400), size=(1, 12), fit="pad", padding=0.5)[0, 0, 0] == 0.5
    third = written(tmp_path / "b.dcm", np.array([[0, 1]], np.int16), **rescaled(1 / 8, 1 / 4))
    assert torch.allclose(image_of(third, window=(1 / 3, 1 / 3)), torch.tensor([[[1 / 4, 5 / 8]]]))


@pytest.mark.parametrize("center", [400, 0])
@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_window_of_a_file_is_the_one_that_pydicom_applies(tmp_path: Path, function: str | None, center: float) -> None:
    """Fails if another of several windows is taken, if the function is left out, or if the range of stored values shows."""
    values = noise(9, 9, dtype=np.int16)
    header = {**rescaled(0.5, -10), "WindowCenter": [center, 10], "WindowWidth": [6000, 20]}
    path = written(tmp_path / "a.dcm", values, **header, **({} if function is None else {"VOILUTFunction": function}))
    stored = pydicom.dcmread(path)
    shown = apply_windowing(apply_modality_lut(stored.pixel_array, stored), stored)
    low, high = (end * 0.5 - 10 for end in (-(2**15), 2**15 - 1))
    assert torch.allclose(image_of(path, window="file", dtype=torch.float64)[0], torch.from_numpy((shown - low) / (high - low)))


def test_each_frame_of_an_enhanced_file_has_its_own_window(tmp_path: Path) -> None:
    groups = []
    for number in range(2):
        window = DicomDataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 100 * (number + 1), 100, "LINEAR_EXACT"
        group = DicomDataset()
        group.FrameVOILUTSequence = DicomSequence([window])
        groups.append(group)
    frames = np.full((2, 1, 1), 125, np.uint16)
    path = written(tmp_path / "a.dcm", frames, PerFrameFunctionalGroupsSequence=DicomSequence(groups))
    assert image_of(path, window="file", frame="all").reshape(-1).tolist() == [0.75, 0.0]


def test_series_are_windowed_slice_by_slice(tmp_path: Path) -> None:
    slices = series(tmp_path)
    (volume,) = data.from_dicom(tmp_path, by="series", window=(0, 2**15))
    expected = np.stack([slices[number] for number in range(5)]) / 2**15 + 0.5
    assert torch.allclose(volume[0], torch.from_numpy(expected).float().clamp(0, 1))


def test_windows_that_are_none_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.dcm", noise(3, 3, dtype=np.int16))
    with pytest.raises(FileError, match=r"a\.dcm cannot be read: it names no window \(0028,1050 and 0028,1051\)\. Pass window="):
        image_of(path, window="file")
    with pytest.raises(FileError, match="it is in colours, which have no window"):
        image_of(DICOM / "SC_rgb_rle.dcm", window=(40, 400))
    empty = written(tmp_path / "b.dcm", noise(3, 3, dtype=np.int16), WindowCenter=None, WindowWidth=400)
    with pytest.raises(FileError, match="it names no window"):
        image_of(empty, window="file")
    for dtype in (None, torch.int16):
        with pytest.raises(ArgumentValueError, match=r"window= needs values in their unit\. Use a floating dtype="):
            image_of(path, window=(40, 400), dtype=dtype)
    wrong: list[tuple[Any, type[Exception], str]] = [
        ("lung", ArgumentValueError, r"window must be 'file', got 'lung' \(str\)\. Or use \(center, width\)"),
        (40, ArgumentTypeError, "window must be \\(center, width\\), 'file' or None, got 40"),
        ((1, 2, 3), ArgumentTypeError, "window must be"),
        ((40, 0), ArgumentValueError, "window's width must be a finite number above 0, got 0"),
        ((float("nan"), 1), ArgumentValueError, "window's center must be a finite number"),
    ]
    for window, error, message in wrong:
        with pytest.raises(error, match=message):
            image_of(path, window=window)


def test_colours_are_pictures_from_0_to_1() -> None:
    path = DICOM / "SC_rgb_rle.dcm"
    image = image_of(path)
    assert torch.equal(image, torch.from_numpy(pydicom.dcmread(path).pixel_array).permute(2, 0, 1) / 255)
    palette = image_of(DICOM / "examples_palette.dcm")
    assert palette.shape == (3, 350, 800)
    assert 0 <= palette.min() < palette.max() <= 1
    assert image_of(path, mode="grey", size=10).shape == (1, 10, 10)


def test_units_survive_a_change_of_size(tmp_path: Path) -> None:
    values = np.full((10, 20), -200, np.int16)
    path = written(tmp_path / "a.dcm", values, **rescaled(1, 0))
    made = image_of(path, size=8, fit="pad", padding=-1000)
    assert made[0, :2].unique().tolist() == [-1000]
    assert torch.allclose(made[0, 2:6], torch.tensor(-200.0))


def series(folder: Path, count: int = 5, name: str = "1.9", gap: float = 2.5, **header: Any) -> dict[int, Values]:
    """Slices whose names say nothing of their order; the normal points to the head, and positions go down."""
    numbers = list(range(count))
    random.Random(name).shuffle(numbers)
    made = {}
    for place, number in enumerate(numbers):
        made[number] = noise(4, 5, dtype=np.int16, seed=number)
        where = {"ImagePositionPatient": [0.0, 0.0, -100 + gap * number], "ImageOrientationPatient": [1.0, 0, 0, 0, 1.0, 0]}
        path = folder / f"{name}-{place}.dcm"
        written(path, made[number], SeriesInstanceUID=UID(name), **{**where, **rescaled(1, 0), **header})
    return made


def test_a_series_is_a_volume_in_the_order_of_position(tmp_path: Path) -> None:
    """Fails if the files' names are the order."""
    one, two = series(tmp_path), series(tmp_path, count=3, name="1.8")
    dataset = data.from_dicom(tmp_path, by="series")
    assert len(dataset) == 2
    volumes = {len(one): one, len(two): two}
    for volume in dataset:
        slices = volumes[volume.shape[1]]
        assert torch.equal(volume[0], torch.from_numpy(np.stack([slices[number] for number in range(len(slices))])).float())
    assert dataset.schema is not None
    field = dataset.schema["image"]
    assert field.dims == ("channel", "depth", "height", "width")
    assert field.shape == (None, None, None, None)
    assert field.unit == UNIT


def test_a_tilted_series_is_ordered_along_its_normal(tmp_path: Path) -> None:
    """Fails if the third coordinate is the position: here it is the first."""
    for number in (2, 0, 1):
        place = {"ImagePositionPatient": [3.0 * number, 0, 0], "ImageOrientationPatient": [0, 1.0, 0, 0, 0, 1.0]}
        written(tmp_path / f"{9 - number}.dcm", np.full((2, 2), number, np.int16), **place)
    (volume,) = data.from_dicom(tmp_path, by="series")
    assert volume[0, :, 0, 0].tolist() == [0, 1, 2]


def test_series_have_labels_and_batches(tmp_path: Path) -> None:
    for kind, name in (("ill", "1.5"), ("well", "1.6")):
        (tmp_path / kind).mkdir()
        series(tmp_path / kind, name=name)
    dataset = data.from_dicom(tmp_path, by="series", labels="folder", size=4)
    volumes, labels = dataset.take_batch([1, 0])
    assert volumes.shape == (2, 1, 5, 4, 4)
    column = dataset.source.column("label")
    assert column is not None
    assert column.tolist() == [0, 1]
    assert labels.tolist() == [1, 0]
    assert dataset.schema is not None
    assert dataset.schema["label"].classes == ("ill", "well")
    paths = sorted(tmp_path.rglob("*.dcm"))
    with pytest.raises(FileError, match="belongs to a series whose files have several labels"):
        data.from_dicom(paths, by="series", labels=[number % 2 for number in range(len(paths))])


def test_a_series_without_an_order_is_refused(tmp_path: Path) -> None:
    values = noise(3, 3, dtype=np.int16)
    written(tmp_path / "a.dcm", values)
    with pytest.raises(FileError, match=r'a\.dcm does not say where its slice lies\. Use by="file"'):
        data.from_dicom(tmp_path, by="series")
    where = {"ImagePositionPatient": [0.0, 0.0, 7.0], "ImageOrientationPatient": [1.0, 0, 0, 0, 1.0, 0]}
    for name in "ab":
        written(tmp_path / f"{name}.dcm", values, **where)
    with pytest.raises(FileError, match=r"a\.dcm and .*b\.dcm lie both at 7 mm, so their series has no order"):
        data.from_dicom(tmp_path, by="series")


def test_a_missing_slice_is_said(tmp_path: Path) -> None:
    series(tmp_path)
    for path in tmp_path.iterdir():
        if pydicom.dcmread(path).ImagePositionPatient[2] == -95:
            path.unlink()
    with pytest.warns(UserWarning, match=r"are 2\.5 mm apart, and 5 mm at one place: a slice may be missing"):
        dataset = data.from_dicom(tmp_path, by="series")
    assert dataset[0].shape[1] == 4


def test_slices_of_different_sizes_are_refused(tmp_path: Path) -> None:
    series(tmp_path)
    path = sorted(tmp_path.iterdir())[0]
    stored = pydicom.dcmread(path)
    where = {"ImagePositionPatient": list(stored.ImagePositionPatient), "ImageOrientationPatient": [1.0, 0, 0, 0, 1.0, 0]}
    written(path, noise(6, 5, dtype=np.int16), SeriesInstanceUID=UID("1.9"), **where, **rescaled(1, 0))
    with pytest.raises(FileError, match=r"failed at sample 0: .*has the shape .*Pass size=\(height, width\)"):
        data.from_dicom(tmp_path, by="series")[0]
    assert data.from_dicom(tmp_path, by="series", size=4)[0].shape == (1, 5, 4, 4)


def test_suffixes_and_wrong_choices(tmp_path: Path) -> None:
    written(tmp_path / "IM0001", noise(3, 3, dtype=np.int16))
    with pytest.raises(FileError, match=r"has nothing to read: from_dicom reads \.dcm"):
        data.from_dicom(tmp_path)
    assert len(data.from_dicom(tmp_path, suffixes=("",))) == 1
    with pytest.raises(ArgumentValueError, match="by must be one of 'file', 'series', got 'patient'"):
        data.from_dicom(tmp_path, by="patient")
    with pytest.raises(ArgumentValueError, match="frame= has no meaning with by="):
        data.from_dicom(tmp_path, by="series", frame=1)


def test_bad_files_are_skipped(tmp_path: Path) -> None:
    written(tmp_path / "a.dcm", noise(3, 3, dtype=np.int16), **rescaled(1, 0))
    write(tmp_path / "b.dcm", png(noise(3, 3, 1)))
    for by in ("file", "series"):
        with pytest.raises(FileError, match=r"b\.dcm cannot be read: it is PNG, and not DICOM"):
            data.from_dicom(tmp_path, by=by)
    with pytest.warns(UserWarning, match="1 of 2 files cannot be read and are left out"):
        dataset = data.from_dicom(tmp_path, bad="skip")
    assert dataset.skipped[0][0].endswith("b.dcm")
    assert dataset.schema is not None
    assert dataset.schema["image"].shape == (1, 3, 3)
