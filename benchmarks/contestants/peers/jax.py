"""JAX: the same mathematics, a step jitted or the whole epoch as one scan."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gate import Gate
from benchmarks.workloads import RATES, Workload

Tree = Any


def train(workload: Workload, gate: Gate, *, scan: bool) -> None:
    """Train with a step that is jitted, or with one scan over all full batches of an epoch."""
    if torch.get_num_threads() == 1:
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # XLA knows no number of threads
    x, y = (jnp.asarray(column.numpy()) for column in workload.train)
    parameters, state = _parameters(workload), None
    state = (jnp.zeros(()), *(jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)))
    step, epoch = _step(workload), _epoch(workload)
    for number in range(gate.rounds):
        gate.begin(partial(_predicted, workload, parameters))
        total = jnp.zeros(())
        order = workload.order(number).numpy().astype(np.int32)
        full = len(order) // workload.batch if scan else 0
        if full:
            groups = jnp.asarray(order[: full * workload.batch].reshape(full, workload.batch))
            parameters, state, total = epoch(parameters, state, x, y, groups)
        for start in range(full * workload.batch, len(order), workload.batch):
            parameters, state, loss = step(parameters, state, x, y, order[start : start + workload.batch])
            total = total + loss
        jax.block_until_ready((parameters, total))


def _predicted(workload: Workload, parameters: Tree, inputs: Tensor) -> Tensor:
    return torch.as_tensor(np.asarray(_forward(workload.name, parameters, jnp.asarray(inputs.numpy()))))


def _parameters(workload: Workload) -> Tree:
    """Return the first weights of every layer that has some: (weight, bias)."""
    modules = [module for module in workload.model().modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    return [tuple(jnp.asarray(p.detach().numpy()) for p in module.parameters()) for module in modules]


def _forward(name: str, parameters: Tree, inputs: Any) -> Any:
    """Return the predictions of the line, the perceptron or the convolutions."""
    hidden = inputs
    if name == "W3":
        *convolutions, parameters = parameters[:3], parameters[3:]
        for number, (weight, bias) in enumerate(convolutions[0]):
            hidden = jax.lax.conv_general_dilated(hidden, weight, (1, 1), "SAME")
            hidden = jax.nn.relu(hidden + bias[None, :, None, None])
            if number:
                hidden = jax.lax.reduce_window(hidden, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
        hidden = hidden.reshape(len(hidden), -1)
    for number, (weight, bias) in enumerate(parameters):
        hidden = hidden @ weight.T + bias
        if number + 1 < len(parameters):
            hidden = jax.nn.relu(hidden)
    return hidden


def _update(workload: Workload) -> Any:
    """Return one update: parameters, optimizer state, inputs and targets to new ones and the loss."""
    name, rate = workload.name, RATES[workload.name]

    def loss_of(parameters: Tree, inputs: Any, targets: Any) -> Any:
        predictions = _forward(name, parameters, inputs)
        if name == "W3":
            return -jnp.take_along_axis(jax.nn.log_softmax(predictions), targets[:, None], 1).mean()
        return ((predictions - targets) ** 2).mean()

    def update(parameters: Tree, state: Tree, inputs: Any, targets: Any) -> Any:
        loss, gradients = jax.value_and_grad(loss_of)(parameters, inputs, targets)
        count, means, squares = state
        if name == "W1":
            return jax.tree.map(lambda p, g: p - rate * g, parameters, gradients), state, loss
        if name == "W3":
            means = jax.tree.map(lambda m, g: 0.9 * m + g, means, gradients)
            return jax.tree.map(lambda p, m: p - rate * m, parameters, means), (count, means, squares), loss
        count = count + 1
        means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, gradients)
        squares = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, squares, gradients)
        first, second = 1 - 0.9**count, jnp.sqrt(1 - 0.999**count)
        moved = jax.tree.map(lambda p, m, v: p - rate / first * m / (jnp.sqrt(v) / second + 1e-8), parameters, means, squares)
        return moved, (count, means, squares), loss

    return update


def _step(workload: Workload) -> Any:
    update = _update(workload)

    def step(parameters: Tree, state: Tree, x: Any, y: Any, indices: Any) -> Any:
        return update(parameters, state, x[indices], y[indices])

    return jax.jit(step, donate_argnums=(0, 1))


def _epoch(workload: Workload) -> Any:
    update = _update(workload)

    def epoch(parameters: Tree, state: Tree, x: Any, y: Any, groups: Any) -> Any:
        def body(carry: Tree, indices: Any) -> Any:
            parameters, state, loss = update(*carry, x[indices], y[indices])
            return (parameters, state), loss

        (parameters, state), each = jax.lax.scan(body, (parameters, state), groups)
        return parameters, state, each.sum()

    return jax.jit(epoch, donate_argnums=(0, 1))
