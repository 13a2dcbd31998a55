"""Nested values (tuples, lists, dicts, named tuples, dataclasses): mapping their leaves, types kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar, cast

from torch import Tensor

N = TypeVar("N")


def map_leaves(function: Callable[[Any], Any], tree: N, leaf: Callable[[Any], bool] | None = None) -> N:
    """Return a tree of the same types with ``function`` applied to every leaf.

    Tuples, lists, mappings, named tuples and dataclass instances are branches, but for those that ``leaf`` says it of; everything
    else is a leaf.
    """
    branch: Any = tree  # how a branch is rebuilt depends on its class, which no annotation can follow
    if leaf is not None and leaf(branch):
        branch = function(branch)
    elif isinstance(branch, tuple):
        values = [map_leaves(function, value, leaf) for value in branch]
        branch = type(branch)(*values) if hasattr(branch, "_fields") else type(branch)(values)
    elif isinstance(branch, list):
        branch = type(branch)(map_leaves(function, value, leaf) for value in branch)
    elif isinstance(branch, Mapping):
        branch = type(branch)({name: map_leaves(function, value, leaf) for name, value in branch.items()})  # type: ignore[call-arg]
    elif dataclasses.is_dataclass(branch) and not isinstance(branch, type):
        changes = {f.name: map_leaves(function, getattr(branch, f.name), leaf) for f in dataclasses.fields(branch) if f.init}
        branch = dataclasses.replace(branch, **changes)
    else:
        branch = function(branch)
    return cast(N, branch)


def leaves(tree: object) -> Iterator[Any]:
    """Yield the leaves of a tree from left to right."""
    for _, leaf in leaves_with_paths(tree):
        yield leaf


def leaves_with_paths(tree: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield ``(path, leaf)`` from left to right; a path reads like Python: ``[0].image['left']``."""
    names = getattr(tree, "_fields", None) if isinstance(tree, tuple) else None
    if names is not None:
        for name in names:
            yield from leaves_with_paths(getattr(tree, name), f"{path}.{name}")
    elif isinstance(tree, (tuple, list)):
        for position, value in enumerate(tree):
            yield from leaves_with_paths(value, f"{path}[{position}]")
    elif isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from leaves_with_paths(value, f"{path}[{name!r}]")
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for f in dataclasses.fields(tree):
            yield from leaves_with_paths(getattr(tree, f.name), f"{path}.{f.name}")
    else:
        yield path, tree


def samples_in(batch: object) -> int:
    """Count the samples of a batch: the first dimension of its first tensor or array that has one; 1 without any.

    A batch of graphs, which is one large graph, says itself how many it holds: ``num_graphs``, as PyTorch Geometric's does.
    """
    first = batch[0] if isinstance(batch, tuple) and len(batch) > 0 else batch
    if isinstance(first, Tensor) and first.ndim:  # the common case, in under a microsecond
        return first.shape[0]
    for leaf in leaves(batch):
        shape: Any = getattr(leaf, "shape", ())
        if len(shape):
            return int(shape[0])
        if isinstance(graphs := getattr(leaf, "num_graphs", None), int):
            return graphs
    return 1


def shapes(tree: object) -> str:
    """Say in a few words what a tree holds, for a message: ``[0][1] float32 (32, 3)``; the first eight leaves."""
    described = []
    for path, leaf in leaves_with_paths(tree):
        shape: Any = getattr(leaf, "shape", None)
        kind = str(getattr(leaf, "dtype", type(leaf).__name__)).removeprefix("torch.")
        described.append(f"{path} {kind}".lstrip() + ("" if shape is None else f" {tuple(shape)}"))
    return ", ".join(described[:8]) + (", …" if len(described) > 8 else "")
