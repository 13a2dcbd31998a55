"""Random transforms of pictures, for :meth:`torchflow.data.Dataset.map_random`.

Each is a frozen object that is called with a sample and a generator, and changes the fields that it is told. How many
numbers it draws depends neither on the picture nor on what was drawn, so that transforms of one ``name=`` do the same to a
picture and its mask::

    train = train.map_random(augment.Compose(augment.Flip(), augment.Crop(32, padding=4)))
"""

from __future__ import annotations

from torchflow.data.augment.colour import ColorJitter, Noise
from torchflow.data.augment.composition import Compose, Keyed, Sometimes
from torchflow.data.augment.regions import Crop, Erase, Flip, ResizedCrop
from torchflow.data.augment.transform import Transform
from torchflow.data.augment.warping import Affine, Rotate

__all__ = [
    "Affine",
    "ColorJitter",
    "Compose",
    "Crop",
    "Erase",
    "Flip",
    "Keyed",
    "Noise",
    "ResizedCrop",
    "Rotate",
    "Sometimes",
    "Transform",
]
