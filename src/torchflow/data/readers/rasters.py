"""Pictures as numbers: which channels they have, how they fit into a size, and how a dtype holds their range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow.data.readers.rendering import Rendering
from torchflow.data.resizing import interpolated
from torchflow.errors import DataError

Values = np.ndarray[Any, np.dtype[Any]]

LUMA = (0.299, 0.587, 0.114)
"""The weights of red, green and blue in grey, by ITU-R BT.601, which JPEG and Pillow use."""


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """A picture that was read, before anything is lost.

    Args:
        values: Shape (height, width, channels), in the dtype of the file.
        top: What stands for white or full: the maximum of the dtype, 1 for floats.
        alpha: Whether the last channel is opacity, not multiplied into the others.
    """

    values: Values
    top: float
    alpha: bool = False


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a picture goes: it is scaled to a size, and a window of that, or a frame around it, is the result.

    Args:
        scaled: (height, width) of the whole picture after scaling.
        offset: (down, right): where the result begins in the scaled picture; negative where there is padding before it.
    """

    scaled: tuple[int, int]
    offset: tuple[int, int]


def placing(height: int, width: int, size: tuple[int, int], fit: str) -> Placing:
    """Return how a picture (height, width) fits into a size, its proportions kept unless it is stretched."""
    if fit == "stretch":
        return Placing(size, (0, 0))
    choose, least = (max, size) if fit == "crop" else (min, (1, 1))
    scale = choose(size[0] / height, size[1] / width)
    scaled = (max(least[0], round(height * scale)), max(least[1], round(width * scale)))
    down, right = (abs(whole - seen) // 2 for whole, seen in zip(scaled, size, strict=True))
    return Placing(scaled, (down, right) if fit == "crop" else (-down, -right))


def oriented(values: Values, orientation: int) -> Values:
    """Return a picture (height, width, ...) as it should be looked at, from its EXIF orientation, 1 to 8."""
    if orientation in (5, 6, 7, 8):  # its first row is a side of what is shown
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return values


def rendered(raster: Raster, how: Rendering) -> Tensor:
    """Return the tensor (channels, height, width) of a picture; (height, width) with the mode "index".

    Raises:
        DataError: The dtype would lose range, or the picture has no such channels.
    """
    if how.mode == "index":
        return _index(raster, how)
    if is_final(raster, how):
        return scaled_to(raster.values.transpose(2, 0, 1), raster.top, how.dtype)
    exact = how.dtype is torch.float64 or raster.values.dtype.itemsize > 2
    working = torch.float64 if exact else torch.float32
    made = scaled_to(raster.values.transpose(2, 0, 1), raster.top, working)
    made, alpha = _channels(made, raster.alpha, how)
    if how.size is not None and tuple(made.shape[1:]) != how.size:
        made = _sized(made, alpha, how)
    if raster.values.dtype.kind in "bu":
        made = made.clamp(0, 1)  # a filter may overshoot
    return _in_dtype(made, raster, how.dtype)


def scaled_to(values: Values, top: float, dtype: torch.dtype | None) -> Tensor:
    """Return a fresh tensor of an array of any strides, divided by ``top`` where the dtype is floating.

    Raises:
        DataError: The dtype is not floating and not that of the array, or too narrow for its values.
    """
    if values.dtype == np.bool_:
        values, top = values * np.uint8(255), 255.0
    tensor = as_tensor(values)
    if dtype is None or (dtype is tensor.dtype and not dtype.is_floating_point):
        return tensor.clone(memory_format=torch.contiguous_format)
    if not dtype.is_floating_point:
        refuse_dtype(tensor.dtype, dtype)
    exact = torch.float64 if dtype is torch.float64 or tensor.dtype.itemsize > 2 else torch.float32
    made = torch.empty(tensor.shape, dtype=exact).copy_(tensor)
    return refuse_overflow((made if top == 1 else made.div_(top)).type(dtype), tensor)


def as_tensor(values: Values) -> Tensor:
    """Return the tensor of an array, without a copy where torch can have it as it is."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if not native.flags.writeable or any(stride < 0 for stride in native.strides):
        native = native.copy()  # torch has no read-only tensors and no negative strides
    return torch.from_numpy(native)


def refuse_dtype(own: torch.dtype, asked: torch.dtype) -> None:
    """Raise for an integer dtype that is not the picture's own."""
    named = [str(kind).removeprefix("torch.") for kind in (own, asked)]
    raise DataError(
        f"its values are {named[0]}, which dtype=torch.{named[1]} would cut or leave on another scale. "
        "Use a floating dtype, which is scaled to 0 to 1, or dtype=None for the file's own."
    )


def refuse_overflow(made: Tensor, source: Tensor) -> Tensor:
    """Return a tensor after checking that what was finite in another dtype still is."""
    if (
        source.is_floating_point()
        and made.dtype.itemsize < source.dtype.itemsize
        and bool((made.isinf() & source.isfinite()).any())
    ):
        raise DataError(
            f"its values do not fit into {made.dtype}: some are {source[source.isfinite()].abs().max().item():.4g}. Use a wider dtype=."
        )
    return made


def is_final(raster: Raster, how: Rendering) -> bool:
    """Return whether a picture has the mode and the size that were asked for."""
    if how.size is not None and tuple(raster.values.shape[:2]) != how.size:
        return False
    channels = (raster.values.shape[2], raster.alpha)
    return how.mode is None or channels == {"grey": (1, False), "RGB": (3, False), "RGBA": (4, True)}[how.mode]


def _channels(values: Tensor, alpha: bool, how: Rendering) -> tuple[Tensor, bool]:
    """Return values (channels, height, width) from 0 to 1 in a mode, and whether the last channel is opacity."""
    if how.mode is None:
        return values, alpha
    opacity = values[-1:] if alpha else None
    colour = values[:-1] if alpha else values
    if how.mode == "RGBA":
        opacity = torch.ones_like(colour[:1]) if opacity is None else opacity
        return torch.cat((_rgb(colour), opacity)), True
    colour = colour if len(colour) == 1 and how.mode == "grey" else _rgb(colour)
    behind = torch.tensor(how.background, dtype=values.dtype)[:, None, None]
    if opacity is not None:
        colour = colour * opacity + (1 - opacity) * (behind if len(colour) == 3 else _grey(behind))
    return (_grey(colour) if how.mode == "grey" and len(colour) == 3 else colour), False


def _rgb(colour: Tensor) -> Tensor:
    if len(colour) == 1:
        return colour.expand(3, -1, -1)
    if len(colour) < 3:
        raise DataError(f"it has {len(colour)} channels that are no colours. Use mode=None for all of them as they are.")
    return colour[:3]


def _grey(colour: Tensor) -> Tensor:
    made = colour[:1] * LUMA[0]
    return made.add_(colour[1:2], alpha=LUMA[1]).add_(colour[2:3], alpha=LUMA[2])


def _sized(values: Tensor, alpha: bool, how: Rendering) -> Tensor:
    """Return values (channels, height, width) fitted into the size; colours are weighted by their opacity."""
    assert how.size is not None
    where = placing(values.shape[1], values.shape[2], how.size, how.fit)
    if alpha:
        values = torch.cat((values[:-1] * values[-1:], values[-1:]))
    made = interpolated(values[None], where.scaled, how.resample)[0]
    if alpha:
        made = torch.cat((torch.where(made[-1:] > 0, made[:-1] / made[-1:], 0), made[-1:]))
    (top, left), (height, width) = where.offset, how.size
    if how.fit != "pad":
        return made[:, top : top + height, left : left + width]
    around = torch.full((len(made), height, width), how.padding, dtype=made.dtype)
    if alpha:
        around[-1] = 0
    around[:, -top : -top + where.scaled[0], -left : -left + where.scaled[1]] = made
    return around


def _in_dtype(made: Tensor, raster: Raster, dtype: torch.dtype | None) -> Tensor:
    """Return values from 0 to 1 in the dtype that was asked for, integers scaled back and rounded."""
    own = scaled_to(raster.values[:0, :0], raster.top, None).dtype
    if dtype is not None and dtype.is_floating_point:
        return refuse_overflow(made.type(dtype).contiguous(), made)
    if dtype is not None and dtype is not own:
        refuse_dtype(own, dtype)
    if own.is_floating_point:
        return made.type(own).contiguous()
    top = 255.0 if raster.values.dtype == np.bool_ else raster.top
    limits = torch.iinfo(own)
    return (made * top).round().clamp(limits.min, limits.max).type(own).contiguous()


def _index(raster: Raster, how: Rendering) -> Tensor:
    """Return the whole numbers of a picture of one channel as they are, int64 of shape (height, width)."""
    values = raster.values
    if values.shape[2] != 1 or values.dtype.kind not in "bui":
        found = f"{values.shape[2]} channels of {values.dtype}"
        raise DataError(f'mode="index" needs a palette or one channel of whole numbers, and it has {found}. Use another mode.')
    made = torch.from_numpy(np.ascontiguousarray(values[..., 0]).astype(np.int64))
    if how.size is None or tuple(made.shape) == how.size:
        return made
    where = placing(made.shape[0], made.shape[1], how.size, how.fit)
    rows, columns = (_nearest(made.shape[axis], where, how.size, axis) for axis in (0, 1))
    chosen = made[rows.clamp(min=0)[:, None], columns.clamp(min=0)]
    return torch.where((rows >= 0)[:, None] & (columns >= 0), chosen, int(how.padding))


def _nearest(length: int, where: Placing, size: tuple[int, int], axis: int) -> Tensor:
    """Return the nearest source position of every place of the result along an axis; -1 in the padding."""
    places = torch.arange(size[axis]) + where.offset[axis]
    source = ((places + 0.5) * (length / where.scaled[axis])).floor().long().clamp(max=length - 1)
    return torch.where((places >= 0) & (places < where.scaled[axis]), source, -1)
