"""Transforms that compute every pixel anew from where it comes from: rotation, and affine maps in general."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from torchflow import arguments
from torchflow.data.augment.transform import Transform, Where, between, span

RESAMPLES = ("nearest", "bilinear")
Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]


class Affine(Transform):
    """Rotate, shear, scale and shift a picture about its centre, in this order; each number is uniform in its range.

    The picture keeps its size; what comes from outside has the value ``fill``.

    Args:
        degrees: The angle, counter-clockwise: from -degrees to degrees, or (least, most).
        translate: The shift as part of the height and of the width: from -translate to translate.
        scale: The factor: (least, most), or how far it is from 1.
        shear: The angle in degrees that vertical lines lean by: from -shear to shear, or (least, most).
        fill: The value of what comes from outside.
        resample: ``"nearest"``, ``"bilinear"``, or None: nearest for whole numbers, as masks have, else bilinear.
        field: Which part of a sample, or several.
    """

    draws = 5

    def __init__(
        self,
        degrees: float | tuple[float, float] = 0.0,
        *,
        translate: float | tuple[float, float] = 0.0,
        scale: float | tuple[float, float] = 0.0,
        shear: float | tuple[float, float] = 0.0,
        fill: float = 0.0,
        resample: str | None = None,
        field: Where = 0,
    ) -> None:
        super().__init__(field)
        self.degrees = span("degrees", degrees, around=0.0)
        self.translate = span("translate", translate, around=0.0)
        self.scale = span("scale", scale, around=1.0, minimum=1e-3)
        self.shear = span("shear", shear, around=0.0)
        self.fill = arguments.real("fill", fill)
        self.resample = None if resample is None else arguments.one_of("resample", resample, RESAMPLES)

    def apply(self, image: Tensor, drawn: list[float], generator: torch.Generator) -> Tensor:
        """Return the picture that was moved."""
        height, width = image.shape[-2:]
        angle, shear = (math.radians(between(drawn[place], bounds)) for place, bounds in ((0, self.degrees), (4, self.shear)))
        down, right = between(drawn[1], self.translate) * height, between(drawn[2], self.translate) * width
        source = inverse_of(angle, between(drawn[3], self.scale), shear, right, down)
        return in_floats(image, self.resample, lambda values, resample: warped(values, source, self.fill, resample))


class Rotate(Affine):
    """Rotate a picture about its centre by an angle that is uniform in its range.

    Args:
        degrees: From -degrees to degrees, counter-clockwise, or (least, most).
        fill: The value of what comes from outside.
        resample: ``"nearest"``, ``"bilinear"``, or None: nearest for whole numbers, as masks have, else bilinear.
        field: Which part of a sample, or several.
    """

    def __init__(
        self, degrees: float | tuple[float, float], *, fill: float = 0.0, resample: str | None = None, field: Where = 0
    ) -> None:
        super().__init__(degrees, fill=fill, resample=resample, field=field)


def inverse_of(angle: float, scale: float, shear: float, right: float, down: float) -> Matrix:
    """Return the matrix (2, 3) from a place in the result to where it comes from, both in pixels from the centre, x first.

    The map itself takes p to ``scale * R(angle) * S(shear) * p + (right, down)``; y points down, so that a positive angle
    turns counter-clockwise to who looks at it.
    """
    cos, sin, lean = math.cos(angle), math.sin(angle), math.tan(shear)
    # R = [[cos, sin], [-sin, cos]], S = [[1, -lean], [0, 1]]; both are inverted and divided by the scale
    xx, xy = (cos + lean * sin) / scale, (-sin + lean * cos) / scale
    yx, yy = sin / scale, cos / scale
    return (xx, xy, -(xx * right + xy * down)), (yx, yy, -(yx * right + yy * down))


def warped(images: Tensor, source: Matrix, fill: float, resample: str) -> Tensor:
    """Return pictures (1, channels, height, width) whose every pixel comes from where the matrix says."""
    height, width = images.shape[-2:]
    ratio = height / width  # affine_grid counts both sides from -1 to 1
    (xx, xy, x), (yx, yy, y) = source
    theta = torch.tensor([[[xx, xy * ratio, 2 * x / width], [yx / ratio, yy, 2 * y / height]]], dtype=images.dtype)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    moved = functional.grid_sample(images - fill, grid, mode=resample, padding_mode="zeros", align_corners=False)
    return moved + fill


def in_floats(image: Tensor, resample: str | None, compute: Callable[[Tensor, str], Tensor]) -> Tensor:
    """Return what a function of floats (1, channels, height, width) makes of a picture (..., height, width) of any dtype.

    Whole numbers are computed in float64, which holds them, and rounded back.
    """
    whole = not image.is_floating_point()
    flat = image.reshape(1, -1, *image.shape[-2:])
    values = flat.type(torch.float64) if whole else flat.float() if image.dtype.itemsize < 4 else flat
    made = compute(values, resample or ("nearest" if whole else "bilinear"))
    made = made.round() if whole else made
    return made.type(image.dtype).reshape(*image.shape[:-2], *made.shape[-2:])
