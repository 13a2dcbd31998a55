"""How a film's frames become tensors: turned as they are shown, scaled and converted by the decoder's own code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow.errors import FileError


@dataclass(frozen=True, slots=True)
class Look:
    """What frames are brought to, in the decoder.

    Attributes:
        size: Height and width; or the shorter side, the other in proportion; None for the film's own.
        grey: One channel of brightness instead of red, green and blue.
        dtype: uint8, or float32 from 0 to 1.
    """

    size: tuple[int, int] | int | None = None
    grey: bool = False
    dtype: torch.dtype = torch.uint8

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of a frame that comes as ``height`` x ``width``."""
        if self.size is None:
            return height, width
        if isinstance(self.size, int):
            shorter = min(height, width)
            return max(1, round(height * self.size / shorter)), max(1, round(width * self.size / shorter))
        return self.size


def picture_of(frame: Any, look: Look, path: str) -> Tensor:
    """Return a decoded frame as a tensor (channels, height, width).

    Raises:
        FileError: It is to be shown at an angle that is no multiple of a right one.
    """
    swap, upside_down, mirrored = turn_of(frame, path)
    height, width = look.shape(*((frame.width, frame.height) if swap else (frame.height, frame.width)))
    deep = look.dtype == torch.float32 and max(component.bits for component in frame.format.components) > 8
    kind = ("gray16le" if deep else "gray") if look.grey else ("rgb48le" if deep else "rgb24")
    across, down = (height, width) if swap else (width, height)
    array = frame.reformat(across, down, kind, threads=1).to_ndarray()
    array = array.reshape(down, across, -1)
    array = array.swapaxes(0, 1) if swap else array
    array = array[:: -1 if upside_down else 1, :: -1 if mirrored else 1].transpose(2, 0, 1)
    picture = torch.from_numpy(np.ascontiguousarray(array.astype(np.int32) if deep else array))
    return picture if look.dtype == torch.uint8 else picture.type(look.dtype) / (65535 if deep else 255)


def turn_of(frame: Any, path: str) -> tuple[bool, bool, bool]:
    """Return how a frame is turned before it is shown: whether rows become columns, and then which sides change.

    Cameras write it as a matrix in 16.16 fixed point that maps (x, y) to (a x + c y, b x + d y), in the order a, b, u, c, d, v (ISO/IEC
    14496-12, 8.3.2).

    Raises:
        FileError: It is no multiple of a right angle.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    if (a or d) and (b or c):
        raise FileError(
            f"{path} is to be shown at a slant, and only right angles are read. Convert it so that it stands upright.", path
        )
    return (True, b < 0, c < 0) if b or c else (False, d < 0, a < 0)
