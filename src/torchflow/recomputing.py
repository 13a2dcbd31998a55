"""Activation checkpointing: modules that forget their activations, and compute them again in the backward pass.

The mathematics is that of Chen et al., "Training deep nets with sublinear memory cost" (2016), the code torch's own. What is added
makes the second pass a repetition of the first to the bit: NumPy's and Python's generators draw the same numbers, and
running statistics, or whatever else a module keeps in buffers, are not updated twice.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.names import matches, plain_name
from torchflow.randomness import python_repeated

Rule: TypeAlias = tuple[str, ...] | Callable[[nn.Module], bool]
"""Which modules: names or patterns of names, or a function of a module."""


def check_rule(rule: str | Sequence[str] | Callable[[nn.Module], bool] | None) -> Rule | None:
    """Check a rule over modules.

    Raises:
        ArgumentTypeError: It is neither a function nor names.
        ArgumentValueError: It is empty, or holds an empty name.
    """
    if rule is None or (callable(rule) and not isinstance(rule, type)):
        return rule
    patterns = (rule,) if isinstance(rule, str) else rule
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ArgumentTypeError(
            "activation_checkpointing must be names or patterns of modules such as 'blocks.*', or a function of a module, got "
            f"{shown(rule)}. Write activation_checkpointing=lambda module: isinstance(module, Block)."
        )
    if not patterns or not all(patterns):
        raise ArgumentValueError(f"activation_checkpointing must not be empty, got {shown(rule)}. Leave it out, or name a module.")
    return tuple(patterns)


def modules_of(model: nn.Module, rule: Rule | None) -> dict[str, nn.Module]:
    """Return the modules that a rule picks, by name; of modules within each other the outermost alone; without a rule none.

    Raises:
        ArgumentTypeError: The function returned no bool.
        ArgumentValueError: It picks none.
    """
    if rule is None:
        return {}
    found: dict[str, nn.Module] = {}
    within: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module not in within and _picked(name, module, rule):
            found[plain_name(name)] = module
            within.update(module.modules())
    if not found:
        parts = ", ".join(repr(plain_name(name)) for name, _ in model.named_modules() if name) or "none"
        raise ArgumentValueError(
            f"activation_checkpointing={rule if callable(rule) else list(rule)!r} picks no module of the model, whose modules are {parts}. A pattern is "
            "a name as in model.named_modules(), in which * stands for anything."
        )
    return found


def _picked(name: str, module: nn.Module, rule: Rule) -> bool:
    if not callable(rule):
        return bool(name) and any(matches(name, pattern) for pattern in rule)
    answer: object = rule(module)
    if not isinstance(answer, bool):
        raise ArgumentTypeError(
            f"activation_checkpointing must be a function that returns True or False, got {shown(answer)} for the module {name!r}."
        )
    return answer


@contextlib.contextmanager
def recomputed(model: nn.Module, rule: Rule | None) -> Iterator[None]:
    """Let the modules that a rule picks forget their activations while the block lasts; None picks none.

    Args:
        model: The model; at the end each module has the ``forward`` that it had.
        rule: Which modules.
    """
    changed = [(module, vars(module).get("forward")) for module in modules_of(model, rule).values()]
    for module, _ in changed:
        module.forward = Recomputed(module)
    try:
        yield
    finally:
        for module, own in changed:
            if own is None:
                del module.forward
            else:
                module.forward = own


class Recomputed:
    """The forward pass of a module that forgets its activations; without gradients there is nothing to forget.

    Args:
        module: The module.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._forward = module.forward

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """Compute what the module's own forward pass does."""
        if not torch.is_grad_enabled():
            return self._forward(*inputs, **named)
        return checkpoint(self._forward, *inputs, use_reentrant=False, context_fn=self._contexts, **named)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Give a copy of the module its own forward pass: nobody would put it back at the end."""
        return copy.deepcopy(self._forward, memo)

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Return the contexts of the first pass and of its repetition."""
        repetition = _Repetition(self._module)
        return repetition.noted(), repetition


class _Repetition(AbstractContextManager[None]):
    """Holds what a second pass over a module reads as the first one found it; may be entered for several backward passes.

    Args:
        module: The module, before its first pass.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._same_draws = python_repeated()
        self._written: list[tuple[nn.Module, str, Tensor]] = []
        self._open: list[ExitStack] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note, of all buffers, those that the first pass writes to, as they are before."""
        before = [(part, name, value, value.detach().clone(), value._version) for part, name, value in self._buffers()]
        yield
        self._written = [
            (part, name, copied)
            for part, name, value, copied, version in before
            if part._buffers.get(name) is not value or value._version != version
        ]

    def __enter__(self) -> None:
        stack = ExitStack()
        stack.enter_context(self._same_draws())
        for part, name, value in self._buffers():
            stack.callback(part._buffers.__setitem__, name, value)
            # Batch normalisation writes to its statistics without a trace, and never reads them.
            part._buffers[name] = value.clone()
        for part, name, copied in self._written:
            part._buffers[name] = copied.clone()
        self._open.append(stack)

    def __exit__(self, *raised: object) -> None:
        self._open.pop().close()

    def _buffers(self) -> list[tuple[nn.Module, str, Tensor]]:
        parts = self._module.modules()
        return [(part, name, value) for part in parts for name, value in part._buffers.items() if value is not None]
