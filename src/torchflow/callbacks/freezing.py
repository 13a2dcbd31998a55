"""Parameters that are not trained for a while: what :class:`Freeze` and :class:`Unfreeze` have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from torchflow.arguments import flag, shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.events import Finished, Started
from torchflow.hooks import Callback
from torchflow.intervals import Progress
from torchflow.names import matches, plain_name

if TYPE_CHECKING:
    from torchflow.run import Run

Patterns = tuple[str, ...]


class Freezing(Callback):
    """Holds stages of a model frozen while a run lasts, until each is released. Abstract: a subclass says when.

    What is released is a function of the progress, so a resumed run needs no state to know it. All flags are put back when the
    run ends, so that the next one finds the model as it was.

    Args:
        stages: The patterns of each stage, in the order of their release.
        statistics: Whether running statistics of normalisation layers in a frozen stage are frozen too.
    """

    changes_run = True

    def __init__(self, stages: Sequence[Patterns], *, statistics: bool) -> None:
        self.stages = tuple(stages)
        self._statistics = flag("statistics", statistics)
        self._parameters: list[list[tuple[nn.Parameter, bool]]] = []
        self._modules: list[list[tuple[nn.Module, bool]]] = []

    def released(self, progress: Progress) -> int:
        """Return how many stages train at a progress."""
        raise NotImplementedError

    def check(self, run: Run[Any, Any]) -> None:
        """Refuse patterns that match nothing, what two callbacks decide about, and a model of which nothing trains.

        Raises:
            ArgumentValueError: One of these.
        """
        name = type(self).__name__
        for pattern in (pattern for stage in self.stages for pattern in stage):
            if not any(matches(parameter, pattern) for parameter, _ in _named(run.model)):
                parts = ", ".join(dict.fromkeys(repr(plain_name(n).partition(".")[0]) for n, _ in _named(run.model)))
                raise ArgumentValueError(
                    f"{name}: {pattern!r} matches no parameter of the model, whose parts are {parts}. A pattern is the name of a "
                    "module or parameter as in model.named_parameters(), in which * stands for anything."
                )
        mine = {p for stage in self.stages for _, p in matching(run.model, stage)}
        every = [c for c in run.callbacks.values() if isinstance(c, Freezing)]
        theirs = {p for other in every if other is not self for stage in other.stages for _, p in matching(run.model, stage)}
        if clash := [plain_name(n) for n, p in _named(run.model) if p in mine & theirs]:
            raise ArgumentValueError(f"two callbacks decide about the parameter {clash[0]!r}. Name it in one Freeze or Unfreeze.")
        if all(p in mine | theirs or not p.requires_grad for _, p in _named(run.model)):
            listed = ", ".join(repr(pattern) for stage in self.stages for pattern in stage)
            raise ArgumentValueError(
                f"{name}: with {listed} frozen, no parameter of the model trains in the first update. Leave out the part that trains "
                "from the start."
            )

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Freeze what is not released yet."""
        self._parameters = [[(p, p.requires_grad) for _, p in matching(run.model, stage)] for stage in self.stages]
        layers = [(name, module) for name, module in run.model.named_modules() if isinstance(module, _NormBase)]
        self._modules = [
            [(m, m.training) for name, m in layers if self._statistics and any(matches(name, pattern) for pattern in stage)]
            for stage in self.stages
        ]
        self.release(event.progress)

    def release(self, progress: Progress) -> None:
        """Let the stages train that are released at a progress, and no others."""
        ready = self.released(progress)
        for number, (parameters, modules) in enumerate(zip(self._parameters, self._modules, strict=True)):
            for parameter, _ in parameters:
                parameter.requires_grad_(number < ready)
            for module, training in modules:
                module.training = training and number < ready

    def on_fit_end(self, run: Run[Any, Any], event: Finished) -> None:
        """Put every flag back to what it was when the run started."""
        for parameter, wanted in (pair for stage in self._parameters for pair in stage):
            parameter.requires_grad_(wanted)
        for module, training in (pair for stage in self._modules for pair in stage):
            module.training = training
        self._parameters, self._modules = [], []


def patterns_of(name: str, given: object, *, hint: str = "") -> Patterns:
    """Check the patterns of one stage: text, or a list of texts.

    Args:
        name: What a message calls them.
        given: The patterns.
        hint: What to write instead.

    Raises:
        ArgumentTypeError: They are something else.
        ArgumentValueError: There is none, or an empty one.
    """
    patterns = (given,) if isinstance(given, str) else given
    if not isinstance(patterns, (list, tuple)) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ArgumentTypeError(
            f"{name} must be names or patterns of modules such as 'encoder' or '*.bias', got {shown(given)}.{hint and ' ' + hint}"
        )
    if not patterns or not all(patterns):
        raise ArgumentValueError(f"{name} must not be empty, got {shown(given)}. Write the name of a module, such as 'encoder'.")
    return tuple(patterns)


def _named(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return every parameter under every name that it has."""
    return list(model.named_parameters(remove_duplicate=False))


def matching(model: nn.Module, patterns: Patterns) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters that one of the patterns names, under every name that they have."""
    return [(name, p) for name, p in _named(model) if any(matches(name, pattern) for pattern in patterns)]
