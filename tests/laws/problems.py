"""What the laws are tested on: small models, data, optimizers, and the comparison of whole states to the last bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchflow import Callback, Run, Stepped
from torchflow.randomness import generator

Recipe = Callable[[nn.Module], Optimizer]

OPTIMIZERS: dict[str, Recipe] = {
    "SGD": lambda m: torch.optim.SGD(m.parameters(), lr=0.05),
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "Adam": lambda m: torch.optim.Adam(m.parameters(), lr=0.01),
    "Adam amsgrad": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, amsgrad=True),
    "Adam fused": lambda m: torch.optim.Adam(m.parameters(), lr=0.01, fused=True),
    "AdamW": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, weight_decay=0.1),
    "RMSprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=0.01, momentum=0.5, centered=True),
    "Adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=0.05),
    "Adadelta": lambda m: torch.optim.Adadelta(m.parameters(), lr=1.0),
    "Adamax": lambda m: torch.optim.Adamax(m.parameters(), lr=0.01),
    "NAdam": lambda m: torch.optim.NAdam(m.parameters(), lr=0.01),
    "RAdam": lambda m: torch.optim.RAdam(m.parameters(), lr=0.01),
    "Rprop": lambda m: torch.optim.Rprop(m.parameters(), lr=0.01),
    "ASGD": lambda m: torch.optim.ASGD(m.parameters(), lr=0.02),
    "Adafactor": lambda m: torch.optim.Adafactor(m.parameters(), lr=0.02),
    "two groups": lambda m: torch.optim.SGD(
        [{"params": [p], "lr": 0.05 / (number + 1)} for number, p in enumerate(m.parameters())], momentum=0.5
    ),
    "L-BFGS": lambda m: torch.optim.LBFGS(m.parameters(), lr=0.5, max_iter=4, history_size=3),
    "L-BFGS Wolfe": lambda m: torch.optim.LBFGS(m.parameters(), max_iter=3, line_search_fn="strong_wolfe"),
}


def numbers(shape: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers that depend on nothing but the seed."""
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def with_weights(model: nn.Module, seed: int, dtype: torch.dtype = torch.float32) -> nn.Module:
    """Give a model first weights that depend on nothing but the seed."""
    source = generator(seed)
    model = model.to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=source, dtype=dtype))
    return model


def small_network(features: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A network without randomness, (batch, features) to (batch, 1)."""
    return with_weights(nn.Sequential(nn.Linear(features, 5), nn.Tanh(), nn.Linear(5, 1)), seed, dtype)


def dropout_network(features: int, seed: int = 0) -> nn.Module:
    """A network that draws in every forward pass and keeps running statistics."""
    parts = [nn.Linear(features, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.4), nn.Linear(6, 1)]
    return with_weights(nn.Sequential(*parts), seed)


def table(rows: int, features: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Inputs (rows, features) and noisy linear targets (rows, 1)."""
    x = numbers((rows, features), seed, dtype)
    weights = numbers((features, 1), seed + 1, dtype)
    return x, x @ weights + 0.1 * numbers((rows, 1), seed + 2, dtype)


def copied(value: Any) -> Any:
    """A deep copy of a state tree that nothing writes to."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, Mapping):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(copied(item) for item in value)
    return value


def difference(one: Any, other: Any, path: str = "") -> str | None:
    """The path of the first leaf in which two state trees differ by as much as a bit, or None."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        same = one.shape == other.shape and one.dtype == other.dtype and torch.equal(one.nan_to_num(7.5), other.nan_to_num(7.5))
        return None if same else f"{path}: {one} != {other}"
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if set(one) != set(other):
            return f"{path}: keys {sorted(map(str, set(one) ^ set(other)))}"
        found = (difference(one[key], other[key], f"{path}/{key}") for key in one)
        return next((line for line in found if line is not None), None)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        if len(one) != len(other):
            return f"{path}: lengths {len(one)} and {len(other)}"
        found = (difference(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(one, other, strict=True)))
        return next((line for line in found if line is not None), None)
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return None
    return None if type(one) is type(other) and one == other else f"{path}: {one!r} != {other!r}"


class LossSum(Callback):
    """A user's own observer with state: the exact sum of all losses and the number of hooks that it saw."""

    def __init__(self) -> None:
        self.total = 0.0
        self.calls = 0

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        self.total += event.loss.item()
        self.calls += 1

    def on_epoch_start(self, run: Run[Any, Any], event: Any) -> None:
        self.calls += 100

    def on_validation_end(self, run: Run[Any, Any], event: Any) -> None:
        self.calls += 10_000

    def on_epoch_end(self, run: Run[Any, Any], event: Any) -> None:
        self.calls += 1_000_000

    def state(self) -> Mapping[str, Any]:
        return {"total": self.total, "calls": self.calls}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.total, self.calls = state["total"], state["calls"]


class MovingAverage(Callback):
    """A user's own average of the weights: state that is tensors, made at the first update."""

    def __init__(self, decay: float = 0.9) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}

    @torch.no_grad()
    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        for name, parameter in run.model.named_parameters():
            if name in self.average:
                self.average[name].lerp_(parameter, 1 - self.decay)
            else:
                self.average[name] = parameter.detach().clone()

    def state(self) -> Mapping[str, Any]:
        return {"average": dict(self.average)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.average = {name: tensor.clone() for name, tensor in state["average"].items()}
