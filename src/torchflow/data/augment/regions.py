"""Transforms that move pixels and compute none: flips, crops, erased rectangles; and the crop that is resized."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from torchflow import arguments
from torchflow.data.augment.transform import Transform, Where, between, pair_of, probability, span
from torchflow.data.augment.warping import RESAMPLES, in_floats
from torchflow.data.resizing import interpolated
from torchflow.data.schema import Field
from torchflow.errors import DataError

_AXES = {"horizontal": -1, "vertical": -2}


class Flip(Transform):
    """Mirror a picture with a probability.

    Args:
        axis: ``"horizontal"`` swaps left and right, ``"vertical"`` top and bottom.
        probability: How often, from 0 to 1.
        field: Which part of a sample, or several.
    """

    draws = 1

    def __init__(self, axis: str = "horizontal", *, probability: float = 0.5, field: Where = 0) -> None:
        super().__init__(field)
        self.axis = arguments.one_of("axis", axis, tuple(_AXES))
        self.probability = _probability(probability)

    def apply(self, image: Tensor, drawn: list[float], generator: torch.Generator) -> Tensor:
        """Return the picture, or its mirror image."""
        return image.flip(_AXES[self.axis]) if drawn[0] < self.probability else image


class Crop(Transform):
    """Cut a window of a size out of a picture, each place being as likely as any other.

    Args:
        size: (height, width) of the window, or one number for a square.
        padding: Pixels that are put around the picture first, at each side; or (above and below, left and right).
        fill: Their value.
        field: Which part of a sample, or several.
    """

    draws = 2

    def __init__(
        self, size: int | tuple[int, int], *, padding: int | tuple[int, int] = 0, fill: float = 0.0, field: Where = 0
    ) -> None:
        super().__init__(field)
        self.size = pair_of("size", size)
        self.padding = pair_of("padding", padding, minimum=0)
        self.fill = arguments.real("fill", fill)

    def apply(self, image: Tensor, drawn: list[float], generator: torch.Generator) -> Tensor:
        """Return the window."""
        down, right = self.padding
        if down or right:
            image = functional.pad(image, (right, right, down, down), value=self.fill)
        places = [image.shape[axis] - size for axis, size in zip((-2, -1), self.size, strict=True)]
        if min(places) < 0:
            found = tuple(image.shape[-2:])
            raise DataError(f"Crop cannot cut {self.size} out of a picture of {found}, its padding included. Use a smaller size.")
        top, left = (min(count, int(number * (count + 1))) for count, number in zip(places, drawn, strict=True))
        return image[..., top : top + self.size[0], left : left + self.size[1]].clone()

    def size_after(self, field: Field) -> tuple[int | None, ...]:
        """Return the shape with the window's size."""
        return (*field.shape[:-2], *self.size)


class ResizedCrop(Transform):
    """Cut out a window of random area and proportions, and resize it: the usual augmentation of photographs.

    The area is uniform, the logarithm of width / height too, and so is the place (Szegedy et al., 2015). A window that is
    higher or wider than the picture is cut to it.

    Args:
        size: (height, width) of the result, or one number for a square.
        scale: (least, most) of the window's area, as part of the picture's.
        ratio: (least, most) of width / height.
        resample: ``"nearest"``, ``"bilinear"`` (with antialiasing), or None: nearest for whole numbers, else bilinear.
        field: Which part of a sample, or several.
    """

    draws = 4

    def __init__(
        self,
        size: int | tuple[int, int],
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        resample: str | None = None,
        field: Where = 0,
    ) -> None:
        super().__init__(field)
        self.size = pair_of("size", size)
        self.scale = span("scale", scale, minimum=1e-6)
        self.ratio = span("ratio", ratio, minimum=1e-6)
        self.resample = None if resample is None else arguments.one_of("resample", resample, RESAMPLES)

    def apply(self, image: Tensor, drawn: list[float], generator: torch.Generator) -> Tensor:
        """Return the resized window."""
        whole_height, whole_width = image.shape[-2:]
        area = between(drawn[0], self.scale) * whole_height * whole_width
        ratio = math.exp(between(drawn[1], (math.log(self.ratio[0]), math.log(self.ratio[1]))))
        height, width = _window(area, ratio, whole_height, whole_width)
        top = min(whole_height - height, int(drawn[2] * (whole_height - height + 1)))
        left = min(whole_width - width, int(drawn[3] * (whole_width - width + 1)))
        window = image[..., top : top + height, left : left + width]
        return in_floats(window, self.resample, lambda values, resample: interpolated(values, self.size, resample))

    def size_after(self, field: Field) -> tuple[int | None, ...]:
        """Return the shape with the new size."""
        return (*field.shape[:-2], *self.size)


class Erase(Transform):
    """Cover a rectangle of random area, proportions and place, with a probability (Zhong et al., 2020).

    Args:
        probability: How often, from 0 to 1.
        area: (least, most) of the rectangle's area, as part of the picture's.
        ratio: (least, most) of width / height, uniform in the logarithm.
        fill: The value of the rectangle.
        field: Which part of a sample, or several.
    """

    draws = 5

    def __init__(
        self,
        *,
        probability: float = 0.5,
        area: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
        fill: float = 0.0,
        field: Where = 0,
    ) -> None:
        super().__init__(field)
        self.probability = _probability(probability)
        self.area = span("area", area, minimum=0.0)
        self.ratio = span("ratio", ratio, minimum=1e-6)
        self.fill = arguments.real("fill", fill)

    def apply(self, image: Tensor, drawn: list[float], generator: torch.Generator) -> Tensor:
        """Return the picture, or a copy with a covered rectangle."""
        if drawn[0] >= self.probability:
            return image
        whole_height, whole_width = image.shape[-2:]
        area = between(drawn[1], self.area) * whole_height * whole_width
        ratio = math.exp(between(drawn[2], (math.log(self.ratio[0]), math.log(self.ratio[1]))))
        height, width = _window(area, ratio, whole_height, whole_width)
        top = min(whole_height - height, int(drawn[3] * (whole_height - height + 1)))
        left = min(whole_width - width, int(drawn[4] * (whole_width - width + 1)))
        made = image.clone()
        made[..., top : top + height, left : left + width] = self.fill
        return made


def _window(area: float, ratio: float, height: int, width: int) -> tuple[int, int]:
    """Return (height, width) of a window of an area and a width / height, at least a pixel and at most the picture."""
    return min(height, max(1, round(math.sqrt(area / ratio)))), min(width, max(1, round(math.sqrt(area * ratio))))


_probability = probability  # the name is an argument's too
