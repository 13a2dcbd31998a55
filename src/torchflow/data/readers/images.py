"""Pictures as tensors: the factory, and the sources that it makes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchflow.data.dataset import Dataset
from torchflow.data.draw import Draw
from torchflow.data.readers.files import Files, FileSource, checked_files, examined, label_field, list_files
from torchflow.data.readers.image_arrays import ImageArrays, are_arrays
from torchflow.data.readers.image_files import library, opened, read_image
from torchflow.data.readers.rendering import MAX_PIXELS, Rendering, checked_rendering
from torchflow.data.schema import Field, Schema
from torchflow.errors import RaggedBatchError

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".webp", ".avif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".pbm", ".pgm", ".ppm", ".pnm", ".qoi"),
)
"""The ends of the names that are taken from folders."""
_LOOKED_AT = 4  # files that are read when the dataset is made, to fail early


def from_images(
    images: Any,  # whatever list_files takes, and arrays
    *,
    labels: str | Sequence[Any] | Tensor | None = None,
    classes: Sequence[str] | None = None,
    column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    recursive: bool = True,
    mode: str | None = None,
    size: int | tuple[int, int] | None = None,
    fit: str = "crop",
    resample: str = "bilinear",
    dtype: torch.dtype | None = torch.float32,
    frame: int | str = 0,
    background: float | Sequence[float] = 1.0,
    padding: float = 0.0,
    max_pixels: int = MAX_PIXELS,
    bad: str = "raise",
) -> Dataset[Any]:
    """Return the dataset of pictures: files, read when they are needed, or arrays.

    Files are JPEG, PNG, GIF, WebP, AVIF, BMP, TIFF, PGM, PPM or QOI, whatever their names say. They are turned upright by
    their EXIF orientation. Palettes, CMYK and YCbCr become RGB; colour profiles are not applied.

    A JPEG of 256 x 256 pixels costs about 0.9 ms, a PNG 1.5 ms, most of it outside the interpreter's lock, so that
    ``workers=2`` reads ahead by threads.

    Args:
        images: A folder, a file, a list of files, or a table with a column of paths. Or arrays of shape
            (samples, height, width) or (samples, height, width, channels), tensors of shape (samples, channels, height,
            width), or a list of such pictures.
        labels: ``"folder"`` for a folder a class; a list as long as the pictures; a table's column; None for none. Texts
            become int64 class indices, numbers stay numbers.
        classes: The names of the classes in their order; None is those that are found, sorted.
        column: The table's column of paths.
        root: What relative paths of a list or table start from.
        recursive: Whether folders in the folder are looked into.
        mode: ``"grey"`` (by the weights of ITU-R BT.601), ``"RGB"`` or ``"RGBA"``; ``"index"`` for the numbers of a palette
            or of one channel as they are, int64 of shape (height, width), as in masks of classes; None keeps the picture's
            own channels: grey 1, grey with alpha 2, RGB 3, RGBA 4, of a TIFF as many as it has.
        size: (height, width), or one number for a square; None keeps each picture's own.
        fit: How a picture gets its size: ``"crop"`` covers it and cuts what is over at both sides, ``"pad"`` fits inside
            with ``padding`` around, ``"stretch"`` ignores the proportions.
        resample: ``"nearest"``, ``"bilinear"`` or ``"bicubic"``, the latter two with antialiasing.
        dtype: A floating dtype for values from 0 to 1, divided by the maximum of the file's dtype (floats are left as they
            are); None, or the file's own integer dtype, for the values as they are.
        frame: Which page of a TIFF or frame of an animation, from 0 on; ``"all"`` for all, of shape
            (frames, channels, height, width).
        background: What is behind transparent pixels where mode has no alpha, from 0 (black) to 1 (white), or one number
            for each of red, green and blue.
        padding: What is around a picture with fit="pad", from 0 to 1, and transparent; a whole number with mode="index".
        max_pixels: The most pixels of one sample, all frames together; Pillow's own limit, ``PIL.Image.MAX_IMAGE_PIXELS``,
            holds beside it.
        bad: ``"raise"``, or ``"skip"`` to read every file once now and leave out those that cannot be read.

    Returns:
        Samples ``(image, label)``, or ``image`` without labels; images have the shape (channels, height, width).

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible value, or labels that do not belong to the pictures.
        FileError: A file is missing or cannot be read; the message names it.
        MissingExtraError: Pillow or tifffile is not installed.
    """
    how = checked_rendering(
        mode=mode,
        size=size,
        fit=fit,
        resample=resample,
        dtype=dtype,
        frame=frame,
        background=background,
        padding=padding,
        max_pixels=max_pixels,
    )
    if are_arrays(images):
        return Dataset(ImageArrays.of(images, labels, classes, how))
    library("PIL")
    files = list_files(
        images,
        factory="from_images",
        suffixes=SUFFIXES,
        labels=labels,
        classes=classes,
        column=column,
        root=root,
        recursive=recursive,
    )
    files, seen = examined_images(files, how, bad)
    return Dataset(ImageFiles(files, how, Schema((image_field(seen, how, complete=bad == "skip"), *label_field(files)))))


class ImageFiles(FileSource):
    """Pictures read from files.

    Args:
        files: Which files.
        how: How they are rendered.
        schema: What a sample is.
    """

    def __init__(self, files: Files, how: Rendering, schema: Schema) -> None:
        super().__init__(files, "from_images", schema)
        self._unscaled = stays_unscaled(how)
        self._read = partial(read_image, how=how, unscaled=self._unscaled)

    def read(self, path: str, part: int) -> Tensor:
        """Return a picture; its 8 bits are not scaled yet, which is cheaper for a whole batch."""
        return opened(Path(path), self._read)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Read the samples."""
        read = super().samples(indices, draw)
        if self.files.labels is None:
            return [self._scaled(image) for image in read]
        return [(self._scaled(image), label) for image, label in read]

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Read the samples into one tensor."""
        read = super().samples(indices, draw)
        labelled = self.files.labels is not None
        images = [image for image, _ in read] if labelled else read
        if len({image.dtype for image in images}) > 1:  # of several depths
            images = [self._scaled(image) for image in images]
        roots = (indices if draw.roots is None else draw.roots).tolist()
        refuse_unequal(images, roots, [self.files.paths[index] for index in indices.tolist()])
        made = self._stacked(images)
        return (made, torch.stack([label for _, label in read])) if labelled else made

    def _stacked(self, images: Sequence[Tensor]) -> Tensor:
        """Return equal pictures as one tensor, each scaled on its way there."""
        first = images[0]
        if not self._waits_for_scale(first):
            return torch.stack(list(images))
        made = torch.empty((len(images), *first.shape), dtype=torch.float32)
        for row, image in zip(made, images, strict=True):
            row.copy_(image).div_(255)
        return made

    def _scaled(self, image: Tensor) -> Tensor:
        """Return a picture in its dtype."""
        if not self._waits_for_scale(image):
            return image
        return torch.empty(image.shape, dtype=torch.float32).copy_(image).div_(255)

    def _waits_for_scale(self, image: Tensor) -> bool:
        return self._unscaled and image.dtype is torch.uint8


def stays_unscaled(how: Rendering) -> bool:
    """Return whether pictures of 8 bits are read as uint8, and scaled when they are put into a batch."""
    return how.dtype is torch.float32 and how.mode != "index"


def refuse_unequal(images: Sequence[Tensor], numbers: Sequence[int], paths: Sequence[str]) -> None:
    """Raise where pictures do not stack, naming the first pair that differs.

    Raises:
        RaggedBatchError: Their shapes or dtypes differ.
    """
    first = images[0]
    for image, number, path in zip(images, numbers, paths, strict=True):
        if image.shape != first.shape or image.dtype is not first.dtype:
            channels = image.shape[:-2] != first.shape[:-2]
            remedy = 'mode="RGB" or "grey" makes the channels equal' if channels else "size=(height, width) makes them equal"
            remedy = "dtype=torch.float32 makes them equal" if image.shape == first.shape else remedy
            found = [f"{str(each.dtype).removeprefix('torch.')} {tuple(each.shape)}" for each in (first, image)]
            raise RaggedBatchError(
                f"samples {numbers[0]} and {number} cannot be stacked: {paths[0]} is {found[0]} and {path} is {found[1]}. "
                f"In from_images, {remedy}; or pass collate= with a function of your own."
            )


Seen = tuple[tuple[int, ...], torch.dtype]
"""The shape and dtype of a picture that was looked at."""


def examined_images(files: Files, how: Rendering, bad: str) -> tuple[Files, list[Seen]]:
    """Return the files that can be read, and what was seen of them: of all with bad "skip", else of a few."""

    def look(path: str) -> Seen:
        image = opened(Path(path), partial(read_image, how=how, unscaled=stays_unscaled(how)))  # less memory for each thread
        return tuple(image.shape), torch.float32 if stays_unscaled(how) else image.dtype

    if bad == "skip":
        return examined(files, look, bad)
    files = checked_files(files, bad)
    step = max(1, len(files) // _LOOKED_AT)
    return files, [look(path) for path in files.paths[::step][:_LOOKED_AT]]


def image_field(seen: Sequence[Seen], how: Rendering, *, complete: bool) -> Field:
    """Return what is known of every picture, from the choices and what was seen of some or all."""
    shapes = {shape for shape, _ in seen}
    dims = (*(() if how.frame is not None else ("time",)), *(() if how.mode == "index" else ("channel",)), "height", "width")
    if complete and len(shapes) == 1:
        return Field("image", *seen[0], dims=dims)
    channels = {"grey": 1, "RGB": 3, "RGBA": 4}.get(how.mode or "")
    shape: tuple[int | None, ...] = how.size or (None, None)
    shape = shape if how.mode == "index" else (channels, *shape)
    return Field("image", shape if how.frame is not None else (None, *shape), seen[0][1], dims=dims)
