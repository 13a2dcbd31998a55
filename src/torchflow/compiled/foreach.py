"""Optimizers' operations on lists of tensors, taken apart: a graph of single operations is what a compiler can fuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import get_decompositions

Operation = Callable[..., Any]


def decompositions() -> dict[Any, Operation]:
    """Return a decomposition for every ``aten::_foreach_*`` operation, by its overload, and for batch normalisation.

    The latter writes its running statistics without saying so in its signature; taken apart, it says so.
    """
    table: dict[Any, Operation] = dict(get_decompositions([torch.ops.aten.native_batch_norm]))
    for full in torch._C._dispatch_get_all_op_names():
        if full.startswith("aten::_foreach_") and not full.endswith("out"):
            name, _, overload = full.removeprefix("aten::").partition(".")
            operation = getattr(getattr(torch.ops.aten, name), overload or "default")
            table[operation] = _one_by_one(operation)
    return table


def _one_by_one(operation: Any) -> Operation:
    """Return a function that does to each tensor of the lists what a foreach operation does to all."""
    name = operation._schema.name.partition("::_foreach_")[2]
    in_place = operation._schema.is_mutable

    def apply(*arguments: Any, **options: Any) -> list[Any] | None:
        length = next(len(argument) for argument in arguments if isinstance(argument, (list, tuple)))
        made = [_single(name, [_at(argument, i) for argument in arguments], options) for i in range(length)]
        return None if in_place else made

    return apply


def _at(argument: Any, place: int) -> Any:
    return argument[place] if isinstance(argument, (list, tuple)) else argument


def _single(name: str, arguments: list[Any], options: dict[str, Any]) -> Any:
    """Call the operation on one tensor; some take their arguments in another form than their foreach."""
    if name.rstrip("_") in _CLAMPS and isinstance(arguments[1], (int, float)):
        name = _CLAMPS[name.rstrip("_")] + name[len(name.rstrip("_")) :]
    if name == "norm":
        return torch.linalg.vector_norm(*arguments, **options)
    if name.rstrip("_") in ("addcmul", "addcdiv") and len(arguments) == 4:
        *arguments, options["value"] = arguments
    if not hasattr(torch.ops.aten, name):  # maximum and minimum have no form in place but as foreach
        return arguments[0].copy_(getattr(torch.ops.aten, name.rstrip("_"))(*arguments, **options))
    return getattr(torch.ops.aten, name)(*arguments, **options)


_CLAMPS = {"maximum": "clamp_min", "minimum": "clamp_max"}
"""What single operations call the comparison with a number."""
