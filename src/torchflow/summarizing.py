"""What a model is made of, seen in one forward pass of a copy: layers, shapes, parameters, memory and multiply-adds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from torch.utils.hooks import RemovableHandle

from torchflow import arguments
from torchflow.copies import copied
from torchflow.device import move
from torchflow.errors import ArgumentTypeError, ArgumentValueError, StepError
from torchflow.mistakes import meaning_of
from torchflow.randomness import preserved, seed_globals
from torchflow.text_table import aligned, in_bytes
from torchflow.tree import leaves_with_paths, map_leaves, shapes
from torchflow.types import M

_count: Any = sdpa_flop_count  # torch does not annotate it
# The kernel of the CPU is the one that torch has no formula for; its shapes are those of the others.
_ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *rest, **named: _count(q, k, v)}


@dataclass(frozen=True, slots=True)
class Layer:
    """One module of a model, as one forward pass saw it.

    Attributes:
        name: Its name in the model, such as ``"encoder.0"``; empty for the model itself.
        kind: Its class.
        calls: How often the pass called it.
        output: The shape of what it last gave, such as ``"(32, 10)"``; empty where it was not called. Of a tree of
            tensors, every leaf with its path.
        trained: Its own parameters' elements that are trained; a parameter that is shared counts where it comes first.
        frozen: Those that are not.
        multiply_adds: Multiplications with an addition in its pass, of the modules in it too.
    """

    name: str
    kind: str
    calls: int
    output: str
    trained: int
    frozen: int
    multiply_adds: int


@dataclass(frozen=True, slots=True, repr=False)
class Summary:
    """What :func:`torchflow.summary` returns; its ``repr`` is a table.

    Attributes:
        layers: The modules in the order of their definition; the first one is the model itself.
        trained: Elements of all parameters that are trained, shared ones once.
        frozen: Elements of all parameters that are not.
        shared: Elements that are counted once and used under several names.
        multiply_adds: Multiplications with an addition in one forward pass, of matrix products, convolutions and attention.
        parameter_bytes: Memory of all parameters.
        buffer_bytes: Memory of all buffers.
        gradient_bytes: Memory of the gradients, while they exist.
        kept_bytes: What the forward pass keeps for the backward pass, at this size of a batch, without parameters.
    """

    layers: tuple[Layer, ...]
    trained: int
    frozen: int
    shared: int
    multiply_adds: int
    parameter_bytes: int
    buffer_bytes: int
    gradient_bytes: int
    kept_bytes: int

    def __repr__(self) -> str:
        numbers = ((layer.trained, layer.frozen, layer.multiply_adds) for layer in self.layers)
        rows = [
            (_indented(layer), layer.output or "not called", *(f"{number:,}" if number else "" for number in row))
            for layer, row in zip(self.layers, numbers, strict=True)
        ]
        total = ("all", "", f"{self.trained:,}", f"{self.frozen:,}", f"{self.multiply_adds:,}")
        lines = aligned(("layer", "output", "trained", "frozen", "multiply-adds"), [*rows, (), total], left=2)
        if self.shared:
            lines.append(f"{self.shared:,} parameters are shared, and counted once")
        held = (("parameters", self.parameter_bytes), ("buffers", self.buffer_bytes), ("gradients", self.gradient_bytes))
        memory = [f"{name} {in_bytes(size)}" for name, size in (*held, ("kept for the backward pass", self.kept_bytes)) if size]
        return "\n".join([*lines, f"memory: {', '.join(memory) or 'none'}"])


# Inputs are whatever the model, or forward, takes.
def summary(model: M, inputs: Any, *, forward: Callable[[M, Any], object] | None = None) -> Summary:
    """Look at a model: its layers, their outputs, parameters, memory and multiply-adds.

    One forward pass of a deep copy in evaluation mode finds all of it; hooks of your own are called, as in any pass. The model, its hooks, its training flags, the inputs
    and the global random state stay as they are. Multiply-adds are those that ``torch.utils.flop_counter`` has a formula for: matrix
    products, convolutions and attention; recurrent layers that run as one kernel are not counted.

    Args:
        model: The model, on any device.
        inputs: What the model is called with, such as a tensor (batch, features); of a pair ``(inputs, targets)`` the first part.
        forward: How to call it where ``model(inputs)`` is not the way: ``(model, inputs) -> output``.

    Returns:
        The layers and the totals.

    Raises:
        ArgumentTypeError: The model is no module or cannot be copied, or ``forward`` is no function.
        ArgumentValueError: A parameter is lazy: it has no shape before the first pass.
        StepError: The forward pass failed on these inputs; the cause is chained.

    >>> summary(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), torch.zeros(32, 4))
    layer       output   trained  frozen  multiply-adds
    ---------------------------------------------------
    Sequential  (32, 1)                           1,280
      0 Linear  (32, 8)       40                  1,024
      1 ReLU    (32, 8)
      2 Linear  (32, 1)        9                    256
    ---------------------------------------------------
    all                       49       0          1,280
    memory: parameters 196 B, gradients 196 B, kept for the backward pass 1.54 kB
    """
    if not isinstance(model, nn.Module):
        raise ArgumentTypeError(f"model must be an nn.Module, got {arguments.shown(model)}.")
    if forward is not None:
        arguments.function("forward", forward, hint="Write forward=lambda model, inputs: model(*inputs).")
    lazy = next((n for n, p in model.named_parameters() if isinstance(p, nn.parameter.UninitializedParameter)), None)
    if lazy is not None:
        raise ArgumentValueError(f"model has a lazy parameter {lazy!r} without a shape. Run one batch through the model first.")
    [twin] = copied(model=getattr(model, "_orig_mod", model))  # what torch.compile wraps tells hooks nothing
    seen, kept = _watched(twin, inputs, forward or (lambda model, inputs: model(inputs)))
    return _summary(twin, seen, kept)


@dataclass(slots=True)
class _Seen:
    """What hooks saw of one module."""

    calls: int = 0
    output: str = ""
    multiply_adds: int = 0
    began: int = 0


def _watched(
    model: nn.Module, inputs: Any, forward: Callable[[Any, Any], object]
) -> tuple[dict[nn.Module, _Seen], dict[int, torch.UntypedStorage]]:
    """Run one forward pass of a copy; return what each module did and the memory that the backward pass would read."""
    model.eval()
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    batch = map_leaves(lambda leaf: leaf.detach().clone() if isinstance(leaf, Tensor) else leaf, inputs)
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.layout == torch.strided:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    counter, seen = FlopCounterMode(display=False, custom_mapping=_ATTENTION), {module: _Seen() for module in model.modules()}
    with preserved(device), torch.enable_grad(), _every_operation_shown(), _hooked(seen, counter):
        seed_globals(0, device)
        try:
            with saved_tensors_hooks(keep, lambda tensor: tensor), counter:
                forward(model, move(batch, device))
        except Exception as error:
            found = f"failed on inputs {shapes(inputs)}: {type(error).__name__}: {error}. {_remedy(inputs, error)}"
            raise StepError(f"the forward pass of {type(model).__name__} {found}") from error
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers()) if tensor.layout == torch.strided}
    return seen, {place: storage for place, storage in kept.items() if place not in own}


@contextlib.contextmanager
def _every_operation_shown() -> Iterator[None]:
    """Keep attention from its fast path, which no formula knows, and put the switch back."""
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


@contextlib.contextmanager
def _hooked(seen: dict[nn.Module, _Seen], counter: FlopCounterMode) -> Iterator[None]:
    """Note calls, outputs and multiply-adds of every module of a copy."""

    def before(module: nn.Module, arguments: object) -> None:
        seen[module].began = counter.get_total_flops()

    def after(module: nn.Module, arguments: object, output: object) -> None:
        found = seen[module]
        found.calls += 1
        found.multiply_adds += (counter.get_total_flops() - found.began) // 2
        found.output = str(tuple(output.shape)) if isinstance(output, Tensor) else shapes(output)

    handles: list[RemovableHandle] = []
    for module in seen:
        handles += [module.register_forward_pre_hook(before, prepend=True), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _summary(model: nn.Module, seen: dict[nn.Module, _Seen], kept: dict[int, torch.UntypedStorage]) -> Summary:
    """Count the parameters, shared ones once, and put everything together."""
    met: set[Tensor] = set()
    layers = []
    for name, module in model.named_modules():
        own = [p for p in dict.fromkeys(module.parameters(recurse=False)) if p not in met]
        met.update(own)
        trained, frozen = (sum(p.numel() for p in own if p.requires_grad == flag) for flag in (True, False))
        saw = seen[module]
        layers.append(Layer(name, type(module).__name__, saw.calls, saw.output, trained, frozen, saw.multiply_adds))
    parameters = list(model.parameters())
    named = [p for _, p in model.named_parameters(remove_duplicate=False)]
    return Summary(
        layers=tuple(layers),
        trained=sum(p.numel() for p in parameters if p.requires_grad),
        frozen=sum(p.numel() for p in parameters if not p.requires_grad),
        shared=sum(p.numel() for p in parameters if sum(p is other for other in named) > 1),
        multiply_adds=layers[0].multiply_adds,
        parameter_bytes=_bytes(parameters),
        buffer_bytes=_bytes(model.buffers()),
        gradient_bytes=_bytes(p for p in parameters if p.requires_grad),
        kept_bytes=sum(storage.nbytes() for storage in kept.values()),
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _indented(layer: Layer) -> str:
    place = layer.name.split(".")
    return f"{'  ' * len(place)}{place[-1]} {layer.kind}" if layer.name else layer.kind


def _remedy(inputs: object, error: Exception) -> str:
    if not any(isinstance(leaf, Tensor) for _, leaf in leaves_with_paths(inputs)):
        return "Give one batch of tensors, such as torch.zeros(2, 3), or dataset.take_batch(range(2))[0]."
    meaning = None if isinstance(inputs, tuple) else meaning_of(error)  # a pair is most often a batch with its targets
    return f"{meaning or 'Give what the model is called with.'} forward=lambda model, inputs: ... is for another way to call it."
