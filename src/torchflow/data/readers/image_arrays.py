"""Pictures that lie in memory as arrays or tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.collate import collate
from torchflow.data.draw import Draw
from torchflow.data.readers.files import Files, label_field
from torchflow.data.readers.image_files import joined_frames, library
from torchflow.data.readers.listing import labelled
from torchflow.data.readers.rasters import Raster, Values
from torchflow.data.readers.rendering import Rendering
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError

_KINDS = "buif"


def are_arrays(images: object) -> bool:
    """Return whether these are pictures in memory, and no paths."""
    if isinstance(images, (np.ndarray, Tensor)):
        return not (isinstance(images, np.ndarray) and images.dtype.kind in "OUT")
    return isinstance(images, (list, tuple)) and bool(images) and isinstance(images[0], (np.ndarray, Tensor))


class ImageArrays(Source):
    """Pictures in memory, rendered when they are read.

    Args:
        rasters: The pictures.
        labels: A label for each, and the classes.
        how: How they are rendered.
    """

    random = foreign = users = columnar = False

    def __init__(self, rasters: Sequence[Raster], labels: Files, how: Rendering) -> None:
        self._rasters, self._labels, self._how = rasters, labels, how
        seen = [self._image(place, place) for place in sorted({0, len(rasters) - 1})]
        shapes = {raster.values.shape for raster in rasters}
        shape: tuple[int | None, ...] = tuple(seen[0].shape)
        if len(shapes) > 1:
            channels = seen[0].shape[:-2] if how.mode or len({shape[2] for shape in shapes}) == 1 else (None,)
            shape = (*channels, *(how.size or (None, None)))
        dims = ("channel", "height", "width")[-len(shape) :]
        self.schema = Schema((Field("image", shape, seen[0].dtype, dims=dims), *label_field(labels)))

    @classmethod
    def of(cls, images: Any, labels: Any, classes: Sequence[str] | None, how: Rendering) -> ImageArrays:
        """Return the source of arrays (samples, height, width[, channels]), tensors (samples, channels, height, width), or a list."""
        if how.frame != 0:
            raise ArgumentValueError("frame= has no meaning for arrays: each is one picture.")
        if isinstance(labels, str):
            raise ArgumentValueError(f"labels={labels!r} has no meaning for arrays. Pass a list as long as they are.")
        rasters = [_raster(place, image) for place, image in enumerate(images)]
        if not rasters:
            raise ArgumentValueError("images has no pictures. Pass at least one.")
        if how.size is not None or how.mode is not None:
            library("PIL")
        names = tuple(f"picture {place}" for place in range(len(rasters)))
        return cls(rasters, labelled(Files(names, names), labels, classes), how)

    @property
    def length(self) -> int:
        """How many pictures there are."""
        return len(self._rasters)

    @property
    def lineage(self) -> str:
        """The factory's name."""
        return "from_images"

    def column(self, part: str | int) -> Tensor | None:
        """Return the labels of all samples."""
        return self._labels.labels if part in (1, "label") else None

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Render the pictures."""
        roots = (indices if draw.roots is None else draw.roots).tolist()
        images = [self._image(place, root) for place, root in zip(indices.tolist(), roots, strict=True)]
        if self._labels.labels is None:
            return images
        return [(image, self._labels.labels[place].clone()) for image, place in zip(images, indices.tolist(), strict=True)]

    def batch(self, indices: Tensor, draw: Draw) -> Any:
        """Return the collated pictures."""
        roots = indices if draw.roots is None else draw.roots
        return collate(self.samples(indices, draw), roots.tolist())

    def _image(self, place: int, root: int) -> Tensor:
        try:
            return joined_frames([self._rasters[place]], self._how)
        except DataError as error:
            raise DataError(f"picture {root} cannot be rendered: {error}") from error


def _raster(place: int, image: Any) -> Raster:
    """Return a picture of an array (height, width[, channels]) or a tensor (channels, height, width)."""
    if isinstance(image, Tensor):
        if image.ndim not in (2, 3) or not image.is_cpu:
            raise ArgumentTypeError(
                f"picture {place} must be a tensor (channels, height, width) on the CPU, got {tuple(image.shape)}."
            )
        plain = image.detach().reshape(-1, *image.shape[-2:])
        values: Values = (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy().transpose(1, 2, 0)
    elif isinstance(image, np.ndarray):
        if image.ndim not in (2, 3):
            raise ArgumentTypeError(
                f"picture {place} must have the shape (height, width) or (height, width, channels), got {image.shape}."
            )
        values = image[..., None] if image.ndim == 2 else image
    else:
        raise ArgumentTypeError(f"picture {place} must be an array or a tensor as the first is, got {arguments.shown(image)}.")
    if values.dtype.kind not in _KINDS or not values.size:
        raise ArgumentTypeError(f"picture {place} must hold numbers, got {values.dtype} of shape {values.shape}.")
    kind = values.dtype.kind
    top = float(np.iinfo(values.dtype).max) if kind in "ui" else 1.0
    return Raster(values, top, alpha=values.shape[2] in (2, 4))
