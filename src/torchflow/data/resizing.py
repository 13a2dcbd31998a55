"""Pictures in another size, by torch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def interpolated(images: Tensor, size: tuple[int, int], resample: str) -> Tensor:
    """Return pictures in another size, with antialiasing where they shrink; the places are Pillow's.

    Args:
        images: Floats of shape (batch, channels, height, width).
        size: (height, width).
        resample: "nearest", "bilinear" or "bicubic".
    """
    if resample == "nearest":
        return functional.interpolate(images, size=size, mode="nearest-exact")
    if images.shape[-1] == 1:
        images = images.expand(-1, -1, -1, 2).contiguous()
    if size[1] == 1:  # torch (2.13) takes the rows of a picture of one column for one another: so columns come last
        images = functional.interpolate(images, size=(size[0], images.shape[-1]), mode=resample, antialias=True)
    return functional.interpolate(images, size=size, mode=resample, antialias=True)
