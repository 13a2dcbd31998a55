"""Models and optimizers as state trees, keyed by parameter names and never by positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchflow.errors import StateError
from torchflow.names import plain_name
from torchflow.tree import leaves_with_paths
from torchflow.types import State


def model_state(model: nn.Module) -> dict[str, State]:
    """Return every parameter and persistent buffer by its name: the live tensors, detached.

    Raises:
        StateError: A module keeps extra state that is no part of the language of state trees, or two tensors have one name once
            what ``torch.compile`` puts into names is left out.
    """
    state: dict[str, State] = {}
    for wrapped, value in model.state_dict().items():
        name = plain_name(wrapped)
        if name in state:
            raise StateError(f"model/{name}: two tensors have this name once '_orig_mod' is left out; rename the attribute.")
        if isinstance(value, Tensor):
            state[name] = value.detach()
        else:
            raise StateError(
                f"model/{name}: a checkpoint holds tensors of a model, got {type(value).__name__} from get_extra_state()."
            )
    return state


@torch.no_grad()
def load_model_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy values into the live parameters and buffers, which keep their identity."""
    for name, tensor in model.state_dict().items():
        tensor.copy_(state[plain_name(name)])


def parameter_names(model: nn.Module) -> dict[Tensor, str]:
    """Return the name of every parameter; a tied one goes by its first name."""
    return {parameter: plain_name(name) for name, parameter in model.named_parameters()}


def optimizer_state(optimizer: Optimizer, model: nn.Module) -> dict[str, State]:
    """Return an optimizer's groups (hyperparameters and names) and its state by parameter name."""
    names = parameter_names(model)
    groups: list[State] = [
        {**{key: value for key, value in group.items() if key != "params"}, "names": [names[p] for p in group["params"]]}
        for group in optimizer.param_groups
    ]
    state: dict[str, State] = {names[parameter]: dict(values) for parameter, values in optimizer.state.items() if values}
    return {"groups": groups, "state": state}


def load_optimizer_state(optimizer: Optimizer, model: nn.Module, state: Mapping[str, Any]) -> None:
    """Load what :func:`optimizer_state` returned; every tensor is copied, so the state given stays as it is.

    What belongs to a parameter element by element lies in memory as the parameter does, as the optimizer itself lays it out: files
    know no strides, and fused kernels go through both without looking at them.
    """
    names = parameter_names(model)
    parameters = {name: parameter for parameter, name in names.items()}
    numbers = {name: number for number, name in enumerate(n for group in state["groups"] for n in group["names"])}
    groups = [
        {
            **{key: _copied(value) for key, value in group.items() if key != "names"},
            "params": [numbers[names[p]] for p in live["params"]],
        }
        for group, live in zip(state["groups"], optimizer.param_groups, strict=True)
    ]
    moments = {
        numbers[name]: {key: _laid_out_as(parameters[name], value) for key, value in values.items()}
        for name, values in state["state"].items()
    }
    optimizer.load_state_dict({"param_groups": groups, "state": moments})


def _laid_out_as(parameter: Tensor, value: Any) -> Any:
    if not isinstance(value, Tensor) or value.shape != parameter.shape:
        return _copied(value)
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device, requires_grad=False).copy_(value)


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_copied(item) for item in value)
    return value


def hyperparameters(optimizer: Optimizer, model: nn.Module) -> list[State]:
    """Return the groups of an optimizer as created: what a resume compares."""
    names = parameter_names(model)
    return [
        {
            **{key: value.clone() if isinstance(value, Tensor) else value for key, value in group.items() if key not in _MOVING},
            "names": [names[p] for p in group["params"]],
        }
        for group in optimizer.param_groups
    ]


_MOVING = ("params", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "foreach", "fused")
"""Group entries that are no choice of the mathematics: filled in by schedulers, or how a step is computed."""


def kept_leaves(state: dict[str, Any]) -> dict[str, Any]:
    """Return the leaves of a state by their path, so that nobody changes them."""
    return {path: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf for path, leaf in leaves_with_paths(state)}


def first_difference(one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Return the path of the first leaf that differs by as much as a bit."""
    for path in one | other:
        first, second = one.get(path), other.get(path)
        if isinstance(first, Tensor) and isinstance(second, Tensor):
            same = first.dtype == second.dtype and torch.equal(first.nan_to_num(), second.nan_to_num())
        else:
            same = path in one and path in other and repr(first) == repr(second)  # a NaN is equal to itself
        if not same:
            return path
    return None
