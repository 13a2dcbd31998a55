"""An optimizer's shadow: the same class and choices over other tensors, whose step can be written down."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from torchflow.compiled.reasons import Uncapturable, Unprimed


def shadow_of(optimizer: Optimizer, groups: list[list[Tensor]], rates: list[Tensor]) -> Optimizer:
    """Return an optimizer of the same class over other tensors, whose learning rates are tensors and whose steps can be traced."""
    shadow: Any = object.__new__(type(optimizer))
    shadow.__dict__.update(vars(optimizer))
    traceable = {"foreach": True, "fused": False, "capturable": True, "differentiable": False}
    shadow.param_groups = [
        {**group, **{key: value for key, value in traceable.items() if key in group}, "params": tensors, "lr": rate}
        for group, tensors, rate in zip(optimizer.param_groups, groups, rates, strict=True)
    ]
    shadow.state = defaultdict(dict)
    for group, tensors in zip(optimizer.param_groups, groups, strict=True):
        for parameter, tensor in zip(group["params"], tensors, strict=True):
            plain = {k: v for k, v in optimizer.state.get(parameter, {}).items() if not isinstance(v, Tensor)}
            if plain:
                shadow.state[tensor].update(plain)
    made: Optimizer = shadow
    return made


def plain_parts(optimizer: Optimizer) -> list[Any]:
    """Return what an optimizer keeps beside tensors: the entries of its groups, and the keys and plain values of its state."""
    groups = [{k: v for k, v in group.items() if k not in ("params", "lr")} for group in optimizer.param_groups]
    states = [
        {k: None if isinstance(v, Tensor) else v for k, v in optimizer.state[p].items()} if p in optimizer.state else {}
        for group in optimizer.param_groups
        for p in group["params"]
    ]
    return [groups, states]


def check_plain_parts(optimizer: Optimizer, before: list[Any], after: list[Any]) -> None:
    """Refuse an optimizer whose step leaves something behind that is no tensor it had."""
    if [set(state) for state in before[1]] != [set(state) for state in after[1]]:
        raise Unprimed
    if before != after:
        raise Uncapturable(f"{type(optimizer).__name__} keeps numbers that are no tensors, which a graph cannot change")
