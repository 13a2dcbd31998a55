"""Transforms of the values: colour jitter, and noise."""

from __future__ import annotations

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.augment.transform import Transform, Where, between, span
from torchflow.errors import ArgumentValueError, DataError

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in from_images


class ColorJitter(Transform):
    """Change brightness, contrast, saturation and hue, in this order, by factors that are uniform in their ranges.

    Brightness scales every value; contrast and saturation mix the picture with its mean grey and with its own grey; hue
    turns the colours. Values stay from 0 to 1. Grey pictures (one channel) keep saturation and hue.

    Args:
        brightness: The factor: (least, most), or how far it is from 1.
        contrast: The same.
        saturation: The same.
        hue: How far colours are turned, in turns: from -hue to hue, at most 0.5, or (least, most).
        field: Which part of a sample, or several.
    """

    draws = 4

    def __init__(
        self,
        brightness: float | tuple[float, float] = 0.0,
        contrast: float | tuple[float, float] = 0.0,
        saturation: float | tuple[float, float] = 0.0,
        hue: float | tuple[float, float] = 0.0,
        *,
        field: Where = 0,
    ) -> None:
        super().__init__(field)
        self.brightness = span("brightness", brightness, around=1.0, minimum=0.0)
        self.contrast = span("contrast", contrast, around=1.0, minimum=0.0)
        self.saturation = span("saturation", saturation, around=1.0, minimum=0.0)
        self.hue = span("hue", hue, around=0.0)
        if self.hue[0] < -0.5 or self.hue[1] > 0.5:
            raise ArgumentValueError(f"hue must be within -0.5 and 0.5 turns, got {arguments.shown(hue)}.")

    def apply(self, image: Tensor, drawn: list[float], generator: torch.Generator) -> Tensor:
        """Return the picture in other colours."""
        if not image.is_floating_point() or image.ndim < 3 or image.shape[-3] not in (1, 3):
            found = f"{str(image.dtype).removeprefix('torch.')} {tuple(image.shape)}"
            raise DataError(f"ColorJitter needs floats from 0 to 1 of 1 or 3 channels (..., channels, height, width), got {found}.")
        made = (image * between(drawn[0], self.brightness)).clamp(0, 1)
        if self.contrast != (1.0, 1.0):
            made = _mixed(grey_of(made).mean((-3, -2, -1), keepdim=True), made, between(drawn[1], self.contrast))
        if image.shape[-3] == 3 and self.saturation != (1.0, 1.0):
            made = _mixed(grey_of(made), made, between(drawn[2], self.saturation))
        if image.shape[-3] == 3 and self.hue != (0.0, 0.0):
            made = turned_hue(made, between(drawn[3], self.hue))
        return made


class Noise(Transform):
    """Add noise of a normal distribution to every value.

    Args:
        std: The standard deviation: (least, most), uniform, or one number.
        field: Which part of a sample, or several; each gets noise of its own.
    """

    draws = 1

    def __init__(self, std: float | tuple[float, float], *, field: Where = 0) -> None:
        super().__init__(field)
        self.std = span("std", std if isinstance(std, tuple) else (std, std), minimum=0.0)

    def apply(self, image: Tensor, drawn: list[float], generator: torch.Generator) -> Tensor:
        """Return the picture with noise."""
        if not image.is_floating_point():
            raise DataError(f"Noise needs floats, got {image.dtype}. Use dtype=torch.float32 where the pictures are read.")
        return image + between(drawn[0], self.std) * torch.randn(image.shape, generator=generator, dtype=image.dtype)


def grey_of(image: Tensor) -> Tensor:
    """Return the grey of pictures (..., 1 or 3, height, width), of shape (..., 1, height, width)."""
    if image.shape[-3] == 1:
        return image
    weights = torch.tensor(LUMA, dtype=image.dtype)[:, None, None]
    return (image * weights).sum(-3, keepdim=True)


def turned_hue(image: Tensor, turns: float) -> Tensor:
    """Return pictures (..., 3, height, width) from 0 to 1 whose hue in the HSV hexcone is turned (Smith, 1978)."""
    top, bottom = image.amax(-3), image.amin(-3)
    chroma = top - bottom
    safe = torch.where(chroma > 0, chroma, 1)
    red, green, blue = image.unbind(-3)
    sector = torch.where(
        top == red, (green - blue) / safe, torch.where(top == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    hue = (sector / 6 + turns) % 1
    # how far each colour is from the hue, in sixths of a turn: 0 to 1 of the chroma (the closed form of the hexcone)
    parts = [(((offset + hue * 6) % 6) - 3).abs().sub(1).clamp(0, 1) for offset in (0, 4, 2)]
    return torch.stack([bottom + chroma * part for part in parts], dim=-3)


def _mixed(other: Tensor, image: Tensor, factor: float) -> Tensor:
    return (other + factor * (image - other)).clamp(0, 1)
