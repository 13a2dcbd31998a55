"""Comparing a stored tree with a live one, leaf by leaf, before anything is touched."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from torchflow.arguments import shown

SameValue = Callable[[str, object, object], bool]
"""Decides about two plain values, given their path: does the stored one fit the live one?"""


def equal(path: str, stored: object, live: object) -> bool:
    """Two plain values fit if they are equal and of one type; a NaN fits a NaN."""
    return type(stored) is type(live) and (stored == live or (_is_nan(stored) and _is_nan(live)))


def same_kind(path: str, stored: object, live: object) -> bool:
    """Two plain values fit if they are of one type: values change while training."""
    return type(stored) is type(live)


def differences(stored: object, live: object, *, values: SameValue = equal) -> list[str]:
    """Compare two trees.

    Mappings are compared by key, lists and tuples by position, tensors by shape and dtype (never by value), plain
    values by ``values``.

    Args:
        stored: The tree that was read.
        live: The tree that it should be loaded into.
        values: Decides about plain values: :func:`equal`, :func:`same_kind` or any function of path, stored, live.

    Returns:
        One line for each leaf that does not fit, beginning with its path (``model/net.0.weight: ...``), in the order
        of the stored tree and then of the surplus of the live one. An empty list means that all fits.
    """
    lines: list[str] = []
    _compare(stored, live, "", values, lines)
    return lines


def _compare(stored: object, live: object, path: str, values: SameValue, lines: list[str]) -> None:
    if isinstance(stored, Mapping) and isinstance(live, Mapping):
        _compare_keys(stored, live, path, values, lines)
    elif isinstance(stored, Tensor) and isinstance(live, Tensor):
        if stored.shape != live.shape or stored.dtype != live.dtype:
            lines.append(f"{path}: stored as {described(stored)}, live as {described(live)}")
    elif isinstance(stored, (list, tuple)) and type(stored) is type(live):
        _compare_keys(_keyed(stored), _keyed(live), path, values, lines)
    elif _is_branch(stored) or _is_branch(live) or not values(path, stored, live):
        lines.append(f"{path}: stored as {described(stored)}, live as {described(live)}")


def _compare_keys(stored: Mapping[str, object], live: Mapping[str, object], path: str, values: SameValue, lines: list[str]) -> None:
    for key, value in stored.items():
        where = f"{path}/{key}" if path else str(key)
        if key in live:
            _compare(value, live[key], where, values, lines)
        else:
            lines.append(f"{where}: stored as {described(value)}, not there in the live one")
    for key, value in live.items():
        if key not in stored:
            where = f"{path}/{key}" if path else str(key)
            lines.append(f"{where}: not stored, live as {described(value)}")


def _keyed(items: object) -> dict[str, object]:
    return {str(position): item for position, item in enumerate(items)} if isinstance(items, (list, tuple)) else {}


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_branch(value: object) -> bool:
    return isinstance(value, (Mapping, Tensor, list, tuple))


def described(value: object) -> str:
    """Return what a leaf or a branch is, in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return f"a dict of {len(value)}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return shown(value)
