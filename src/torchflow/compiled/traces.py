"""What holds while an update is written down: nothing is left behind, and torch's optimizers know of it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from torchflow.compiled.reasons import Uncapturable
from torchflow.randomness import python_state


@contextlib.contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Make sure that writing an update down leaves nothing behind: no attribute of a module, no draw that would become a constant."""
    before = {module: dict(vars(module)) for module in model.modules()}
    drawn = python_state()
    try:
        yield
    finally:
        touched = [
            (module, name)
            for module, attributes in before.items()
            for name in vars(module).keys() | attributes.keys()
            if vars(module).get(name) is not attributes.get(name)
        ]
        for module, _ in touched:
            vars(module).clear()
            vars(module).update(before[module])
    if touched:
        module, name = touched[0]
        raise Uncapturable(f"{type(module).__name__} sets its attribute {name!r} in a forward pass")
    if python_state() != drawn:
        raise Uncapturable("the step draws from `random` or numpy.random, and the numbers would become constants")


@contextlib.contextmanager
def told_that_it_compiles() -> Iterator[None]:
    """Let torch's optimizers know that they are traced: their steps then keep numbers on tensors, on the CPU too."""
    earlier = torch.compiler.is_compiling
    torch.compiler.is_compiling = lambda: True
    try:
        yield
    finally:
        torch.compiler.is_compiling = earlier
