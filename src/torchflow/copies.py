"""Working on copies: what a trial does to them, nobody else sees."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from torchflow.errors import ArgumentTypeError


def copied(**values: Any) -> list[Any]:
    """Return deep copies; what occurs in several of them, such as a parameter that an optimizer holds too, stays one thing.

    Functions and classes are shared: what a closure refers to is not copied.

    Args:
        values: What to copy, under the names that a message gives them.

    Raises:
        ArgumentTypeError: Something in it cannot be copied.
    """
    try:
        return _copied(list(values.values()))
    except Exception as error:
        name = next((name for name, value in values.items() if not _is_copied(value)), " or ".join(values))
        raise ArgumentTypeError(
            f"{name} cannot be copied, and a trial works on copies alone: copy.deepcopy raised {type(error).__name__}: {error}. "
            "Leave out what holds files, locks or tensors that were computed, or give its class a __deepcopy__."
        ) from error


def _copied(values: list[Any]) -> list[Any]:
    """Copy optimizers with everything that they hold: their own way to be copied forgets what a class keeps beside groups and state."""
    memo: dict[int, Any] = {}
    optimizers = [
        one for value in values for one in (value.values() if isinstance(value, Mapping) else [value]) if isinstance(one, Optimizer)
    ]
    for optimizer in optimizers:
        memo[id(optimizer)] = object.__new__(type(optimizer))
    made = copy.deepcopy(values, memo)
    for optimizer in optimizers:
        vars(memo[id(optimizer)]).update(copy.deepcopy(vars(optimizer), memo))
    return made


def _is_copied(value: object) -> bool:
    try:
        _copied([value])
    except Exception:
        return False
    return True


@contextlib.contextmanager
def generators_kept(*data: object) -> Iterator[None]:
    """Put the generators that a DataLoader or a dataset draws from back to where they stood; the global ones are the caller's.

    Args:
        data: Whatever is read in the block.
    """
    found = [generator for source in data for generator in _generators(source)]
    states = [generator.get_state() for generator in found]
    try:
        yield
    finally:
        for generator, state in zip(found, states, strict=True):
            generator.set_state(state)


def _generators(source: Any) -> Iterator[torch.Generator]:
    """Yield the generators of a DataLoader, its samplers and its dataset."""
    batches, samples = (getattr(source, name, None) for name in ("batch_sampler", "sampler"))
    holders = (source, batches, samples, getattr(batches, "sampler", None), getattr(source, "dataset", None))
    generators = (getattr(holder, "generator", None) for holder in holders if holder is not None)
    yield from {id(one): one for one in generators if isinstance(one, torch.Generator)}.values()


def refuse_iterators(**data: object) -> None:
    """Refuse data that can be read once: a trial would use it up.

    Raises:
        ArgumentTypeError: Something is an iterator.
    """
    for name, source in data.items():
        if isinstance(source, Iterator):
            raise ArgumentTypeError(
                f"{name} is a {type(source).__name__}, which can be read once, and a trial would use it up. Pass a list, a Dataset, a "
                "DataLoader, or an object whose __iter__ begins anew."
            )
