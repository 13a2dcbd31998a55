"""The libraries that the how-to pages show: whether they are there, and what stands in for those that are not."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch

STOOD_IN_FOR = ("datasets", "timm", "transformers")


@cache
def is_there(name: str) -> bool:
    """Say whether a library can be imported, and not only found."""
    if find_spec(name) is None:
        return False
    apart = str(Path(sys.prefix) / "torchvision")
    try:
        if name == "timm" and find_spec("torchvision") is None:
            sys.path.append(apart)
            _import_torchvision()
        import_module(name)
    except ImportError:
        return False
    finally:
        if apart in sys.path:  # nor would the processes that are started later know what was declared here
            sys.path.remove(apart)
    return True


def stand_ins() -> dict[str, ModuleType]:
    """Return, by name, a module with the parts of the interface that the pages use for every library that is not there."""
    return {name: import_module(f"tests.fitting.standins.{name}") for name in STOOD_IN_FOR if not is_there(name)}


@contextlib.contextmanager
def standing_in() -> Iterator[None]:
    """Let the stand-ins be found while the block lasts, and no longer: other libraries look for these, too."""
    found = stand_ins()
    sys.modules.update(found)
    try:
        yield
    finally:
        for name in found:
            del sys.modules[name]


def _import_torchvision() -> None:
    """Import the torchvision that `make fitting` has put into a folder of its own, for timm.

    Beside a torch for CPUs, that of the index cannot load its kernels, and its import fails where it describes two of them.
    They are declared, and nobody calls them.
    """
    try:
        import_module("torchvision")
    except RuntimeError:
        for operator in ("nms", "qnms"):
            torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import_module("torchvision")
