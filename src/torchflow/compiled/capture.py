"""One update as a pure graph: from values, a batch and learning rates to new values and what the update reports.

The user's step, the backward pass, clipping and the optimizers' own steps run once, on tensors without storage, and every
operation is written down. So the mathematics of an optimizer is torch's, whichever it is. What cannot be written down is
found here and said: the run then goes on uncompiled.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, functionalize
from torch.fx import GraphModule

from torchflow.compiled.passes import changed, compute_scalars_once, lift_constants, spell_out_alphas
from torchflow.compiled.products import rewrite_products
from torchflow.compiled.reasons import Uncapturable, Unprimed
from torchflow.compiled.shadow import check_plain_parts, plain_parts, shadow_of
from torchflow.compiled.traces import told_that_it_compiles, untouched
from torchflow.compiled.values import Values
from torchflow.optimizer_steps import undecorated_step
from torchflow.precision import clip, divide
from torchflow.run import Run
from torchflow.step import checked_loss
from torchflow.tree import leaves_with_paths, map_leaves, samples_in
from torchflow.updating import Counted, mean_loss, total_count


class Place(int):
    """Where among the reports of an update a tensor lies."""


@dataclass(frozen=True)
class Captured:
    """One update as a graph of flat lists of tensors.

    Attributes:
        graph: From values, the leaves of a window's batches, learning rates (groups,) and constants to new values, what the
            update reports, and whether it was finite, a bool of shape ().
        changed: Which of the values an update changes.
        constants: Tensors that the step knows beside its arguments, such as class weights.
        parts: What the step gave for each batch of an update; a tensor in it is replaced by its place among the reports.
    """

    graph: GraphModule
    changed: tuple[int, ...]
    constants: tuple[Tensor, ...]
    parts: tuple[Counted, ...]


def capture(run: Run[Any, Any], values: Values, window: list[Any], rates: Tensor) -> Captured:
    """Write down the update that a window of batches makes; nothing of the run is changed.

    Args:
        run: The run, before the update.
        values: Its live tensors.
        window: The batches of one update, on the run's device.
        rates: Learning rates, float64, shape (groups,), over all groups of all optimizers.

    Raises:
        Uncapturable: The update depends on values that only a run knows, or leaves something behind that no graph can.
    """
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415  (the compiler takes a second to import)

    from torchflow.compiled.foreach import decompositions  # noqa: PLC0415

    update = _Update(run, values, window)
    arguments = [*values.live(), *leaves_of(window), rates]
    options: dict[str, Any] = {"tracing_mode": "fake", "_allow_non_fake_inputs": True}
    try:
        with untouched(run.model), told_that_it_compiles(), torch.enable_grad():
            graph = make_fx(update, decomposition_table=decompositions(), **options)(*arguments)
            graph = make_fx(functionalize(graph, remove="mutations"), **options)(*arguments)
    except (Uncapturable, Unprimed):
        raise
    except Exception as error:
        said = (str(error).strip().splitlines() or [""])[0]
        raise Uncapturable(f"its update cannot be written down as a graph ({type(error).__name__}: {said})") from error
    graph.graph.eliminate_dead_code()
    spell_out_alphas(graph)
    rewrite_products(graph)
    compute_scalars_once(graph)
    constants = lift_constants(graph, values.live())
    graph.recompile()
    return Captured(graph, changed(graph, len(values.live())), constants, update.parts)


class _Update:
    """The function that is written down."""

    def __init__(self, run: Run[Any, Any], values: Values, window: list[Any]) -> None:
        self._run, self._values, self._window = run, values, window
        self._stepping = _Stepping(run.model, run.step)
        self._keys = values.keys
        self.parts: tuple[Counted, ...] = ()

    def __call__(self, *flat: Tensor) -> list[Tensor]:
        names, count = self._values.names, len(self._values.names)
        values, rates, given = flat[: count + len(self._keys)], flat[-1], iter(flat[count + len(self._keys) : -1])
        tensors = [
            v.detach().clone().requires_grad_(wanted) for v, wanted in zip(values[:count], self._values.trained, strict=True)
        ]
        window = [map_leaves(lambda _: next(given), batch) for batch in self._window]
        named = {f"model.{name}": tensor for name, tensor in zip(names, tensors, strict=True)}
        parts = self._forward_and_backward(named, window, [t for t in tensors if t.requires_grad])
        finite = self._prepare([t for t in tensors if t.grad is not None], parts)
        buffers = [named[f"model.{name}"] for name in names]
        # Bias corrections in float32 would cost parity seven digits.
        states = [v.clone().type(v.dtype if v.ndim or not v.is_floating_point() else torch.float64) for v in values[count:]]
        with torch.no_grad():
            states = self._step(tensors, states, rates)
            after = [t if wanted else b for t, b, wanted in zip(tensors, buffers, self._values.trained, strict=True)]
            new = [v.detach().type(old.dtype) for v, old in zip([*after, *states], values, strict=True)]
        return [*new, *self._reports(parts), finite]

    def _forward_and_backward(self, named: dict[str, Tensor], window: list[Any], parameters: list[Tensor]) -> list[Counted]:
        """Leave the gradient of the window's mean loss in the parameters, as an uncompiled update does."""
        parts: list[Counted] = []
        for batch in window:
            outputs = checked_loss(functional_call(self._stepping, named, (batch,)), training=True)
            samples = samples_in(batch)
            weight = samples if outputs.count is None else outputs.count
            parts.append(Counted(outputs.metrics, outputs.loss.detach(), weight, samples))
            loss = outputs.loss if len(window) == 1 else outputs.loss * weight
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
                if gradient is not None:
                    parameter.grad = gradient.detach() if parameter.grad is None else parameter.grad + gradient.detach()
        if len(parts) > 1:
            divide((p.grad for p in parameters if p.grad is not None), total_count(parts))
        return parts

    def _prepare(self, parameters: list[Tensor], parts: list[Counted]) -> Tensor:
        """Clip; return whether the losses and the gradients were finite, shape ()."""
        choices = self._run.choices
        looked_at = [part.loss for part in parts]
        if choices.clip_norm is None:
            looked_at += [p.grad for p in parameters if p.grad is not None]
        norm = clip(parameters, choices.clip_norm, choices.clip_value) if choices.clips else None
        looked_at += [] if norm is None else [norm]
        # Not by a product with zero, which the compiler takes for zero, whatever the other factor is.
        return reduce(torch.logical_and, [torch.isfinite(tensor).all() for tensor in looked_at])

    def _step(self, tensors: list[Tensor], states: list[Tensor], rates: Tensor) -> list[Tensor]:
        """Let each optimizer's own step act on the tensors; return the new state."""
        number = 0
        after: dict[tuple[str, int, str], Tensor] = {}
        for name, optimizer in self._run.optimizers.items():
            groups = [[tensors[place] for place in group] for group in self._values.groups[name]]
            shadow = shadow_of(optimizer, groups, list(rates[number : number + len(groups)]))
            for (owner, place, key), state in zip(self._keys, states, strict=True):
                if owner == name:
                    shadow.state[tensors[place]][key] = state
            before = plain_parts(shadow)
            undecorated_step(type(optimizer))(shadow)
            check_plain_parts(optimizer, before, plain_parts(shadow))
            after |= {(n, place, key): shadow.state[tensors[place]][key] for n, place, key in self._keys if n == name}
            number += len(groups)
        return [after[key] for key in self._keys]

    def _reports(self, parts: list[Counted]) -> list[Tensor]:
        """Gather every tensor that an update reports, its mean loss first, and remember which is which."""
        reports: list[Tensor] = [mean_loss(parts)]

        def placed(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            if leaf is not reports[0]:
                reports.append(leaf.detach())
            return Place(0 if leaf is reports[0] else len(reports) - 1)

        described = []
        for part in parts:
            loss, weight, metrics = map_leaves(placed, (part.loss, part.weight, dict(part.metrics)))
            described.append(Counted(metrics, loss, weight, part.samples))
        self.parts = tuple(described)
        return reports


class _Stepping(nn.Module):
    """The step as a module around the model, so that torch can call it with other tensors in the model's place."""

    def __init__(self, model: nn.Module, step: Any) -> None:
        super().__init__()
        self.model = model
        self._step = step

    def forward(self, batch: Any) -> Any:
        return self._step(self.model, batch)


def leaves_of(window: list[Any]) -> list[Tensor]:
    """Return the tensors of a window's batches."""
    found = []
    for path, leaf in leaves_with_paths(window):
        if not isinstance(leaf, Tensor):
            raise Uncapturable(f"a batch holds a {type(leaf).__name__} at {path}, and a graph takes tensors")
        found.append(leaf)
    return found
