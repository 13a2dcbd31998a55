"""From a user's choices to the parts of a run, each checked before any file, thread or worker exists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from inspect import iscoroutinefunction, signature
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from torchflow.arguments import real, shown
from torchflow.choices import Choices, refuse_closure
from torchflow.data.interop import named_data
from torchflow.data.reading import Reading
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.events import Plan
from torchflow.hooks import HOOKS, Callback
from torchflow.optimizer_steps import needs_closure, refuse_unfit_for_closures
from torchflow.randomness import Keys, preserved, seed_globals
from torchflow.schedule import Schedule, Scheduling, build
from torchflow.state import parameter_names


def named_callbacks(callbacks: Sequence[Callback] | Mapping[str, Callback]) -> dict[str, Callback]:
    """Return callbacks by name: the keys of a mapping, or each class in snake case.

    Raises:
        ArgumentTypeError: Something is no callback, or a class instead of an instance.
        ArgumentValueError: Two callbacks have one name, or one object is given twice.
    """
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable) or isinstance(callbacks, (str, bytes)):
        raise ArgumentTypeError(
            f"callbacks must be a list or a mapping of callbacks, got {shown(callbacks)}. Write callbacks=[...]."
        )
    given = callbacks.items() if isinstance(callbacks, Mapping) else [(None, callback) for callback in callbacks]
    named: dict[str, Callback] = {}
    for key, callback in given:
        if isinstance(callback, type):
            raise ArgumentTypeError(
                f"callbacks must be instances, got the class {callback.__name__}. Write {callback.__name__}(...)."
            )
        if not isinstance(callback, Callback):
            raise ArgumentTypeError(f"callbacks must derive from torchflow.Callback, got {shown(callback)}.")
        name = snake_case(type(callback).__name__) if key is None else key
        if not isinstance(name, str) or not name or name.startswith("$"):
            raise ArgumentValueError(f"a callback's name must be text that does not begin with '$', got {shown(name)}.")
        if name in named:
            raise ArgumentValueError(f"two callbacks are called {name!r}. Name them: callbacks={{'first': ..., 'second': ...}}.")
        if any(callback is other for other in named.values()):
            raise ArgumentValueError(f"the callback {name!r} is the same object as another one. Make a second instance.")
        _check_hooks(name, callback)
        named[name] = callback
    return named


def _check_hooks(name: str, callback: Callback) -> None:
    """Refuse a method that looks like a hook and would never be called, or could not be."""
    for method in (m for m in dir(callback) if m.startswith("on_") and callable(getattr(callback, m))):
        if method not in HOOKS:
            raise ArgumentTypeError(
                f"callback {name!r} has {method}, which is no hook and is never called. Hooks are {', '.join(HOOKS)}."
            )
        hook = getattr(callback, method)
        if iscoroutinefunction(hook):
            raise ArgumentTypeError(
                f"callback {name!r}: {method} is async, and nobody awaits a hook. Write def {method}(self, run, event)."
            )
        try:
            signature(hook).bind(None, None)
        except TypeError as error:
            given = f"{method}{signature(hook)}"
            raise ArgumentTypeError(f"callback {name!r} has {given}, and is called with (run, event): {error}.") from error


def snake_case(name: str) -> str:
    """Return ``EarlyStopping`` as ``early_stopping``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def ordered(callbacks: Mapping[str, Callback]) -> dict[str, Callback]:
    """Return the callbacks with those that change the run first, otherwise in their own order."""
    return dict(sorted(callbacks.items(), key=lambda item: not item[1].changes_run))


def build_model(model: Any, keys: Keys) -> nn.Module:
    """Return a model: itself, or what its recipe gives under the key ``("init")``.

    Raises:
        ArgumentTypeError: It is neither a module nor a recipe of one.
        ArgumentValueError: It has no parameter that requires a gradient, or one that is not initialised yet.
    """
    if isinstance(model, type) and issubclass(model, nn.Module):
        recipe = model
    elif isinstance(model, nn.Module):
        return checked_model(model)
    elif callable(model):
        recipe = model
    else:
        raise ArgumentTypeError(f"model must be an nn.Module, or a function that returns one, got {shown(model)}.")
    with preserved():
        seed_globals(keys("init"))
        made = recipe()
    if not isinstance(made, nn.Module):
        raise ArgumentTypeError(f"model is a recipe that must return an nn.Module, but it returned {shown(made)}.")
    return checked_model(made)


def checked_model(model: nn.Module) -> nn.Module:
    """Refuse a model that cannot be trained.

    Raises:
        ArgumentValueError: It has no parameter that requires a gradient, or a lazy one.
    """
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ArgumentValueError(f"model has a lazy parameter {name!r} without a shape. Run one batch through the model first.")
    if not parameters:
        raise ArgumentValueError(f"model ({type(model).__name__}) has no parameters, so there is nothing to train.")
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ArgumentValueError(
            f"all {len(parameters)} parameters of the model ({type(model).__name__}) are frozen. Unfreeze one: parameter.requires_grad_(True)."
        )
    return model


def build_optimizers(choice: Any, model: nn.Module) -> dict[str, Optimizer]:
    """Return the optimizers by name; a single one is called ``"main"``.

    Raises:
        ArgumentTypeError: A recipe returned no optimizer.
        ArgumentValueError: An optimizer holds parameters of another model, or L-BFGS stands beside another one.
    """
    recipes = dict(choice) if isinstance(choice, Mapping) else {"main": choice}
    return {name: _optimizer(name, recipe, model) for name, recipe in recipes.items()}


def refuse_clashes(optimizers: Mapping[str, Optimizer], custom_update: object, choices: Choices) -> None:
    """Refuse optimizers that cannot share an update, or make one as it was chosen, unless the user makes the update.

    Raises:
        ArgumentValueError: L-BFGS stands beside another one, works in fp16 or on parameters in channels_last, or would begin again; or
            two optimizers hold one parameter.
    """
    if custom_update is not None:
        return
    if any(map(needs_closure, optimizers.values())):
        refuse_closure(choices)
        refuse_unfit_for_closures(optimizers)
    held: dict[Tensor, str] = {}
    for name, optimizer in optimizers.items():
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            if held.setdefault(parameter, name) != name:
                raise ArgumentValueError(
                    f"optimizers {held[parameter]!r} and {name!r} both hold a parameter of shape {tuple(parameter.shape)}, and every update "
                    "would step it twice. Give each its own parameters, or pass update=..."
                )


def _optimizer(name: str, recipe: Any, model: nn.Module) -> Optimizer:
    optimizer = recipe if isinstance(recipe, Optimizer) else recipe(model)
    if not isinstance(optimizer, Optimizer):
        raise ArgumentTypeError(
            f"optimizer {name!r} must be a recipe that returns a torch Optimizer, but it returned {shown(optimizer)}."
        )
    names = parameter_names(model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    strangers = sum(p not in names for p in held)
    if strangers:
        raise ArgumentValueError(
            f"optimizer {name!r} holds {strangers} of {len(held)} parameters that are not the model's. Build it from the model "
            "that is trained: optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1)."
        )
    if not any(p.requires_grad for p in held):
        raise ArgumentValueError(f"optimizer {name!r} holds no parameter that requires a gradient, so it would change nothing.")
    for group in optimizer.param_groups:
        real(f"optimizer {name!r}: lr", float(group.get("lr", 0.0)), minimum=0.0)
    return optimizer


def build_schedulings(
    choice: Any, optimizers: Mapping[str, Optimizer], plan: Plan, streams: Sequence[str]
) -> dict[str, Scheduling]:
    """Return the live schedulers by the name of their optimizer.

    Raises:
        ArgumentTypeError: A recipe returned no scheduler.
        ArgumentValueError: A name has no optimizer, or a metric no stream.
    """
    if choice is None:
        return {}
    if isinstance(choice, Mapping):
        recipes = dict(choice)
    elif len(optimizers) == 1:
        recipes = {next(iter(optimizers)): choice}
    else:
        raise ArgumentTypeError("with several optimizers, scheduler must be a mapping from their names to recipes.")
    for name, recipe in recipes.items():
        if name not in optimizers:
            raise ArgumentValueError(f"scheduler names the optimizer {name!r}; there are {', '.join(map(repr, optimizers))}.")
        metric = recipe.metric if isinstance(recipe, Schedule) else None
        if metric is not None and metric.partition("/")[0] not in streams:
            raise ArgumentValueError(
                f"Schedule(metric={metric!r}) needs a stream named {metric.partition('/')[0]!r}; this run has "
                f"{', '.join(map(repr, streams))}. Pass validation=... to fit, or name a metric of a stream it has."
            )
    return {name: build(recipe, optimizers[name], plan, "scheduler") for name, recipe in recipes.items()}


def named_validations(validation: Any) -> dict[str, Any]:
    """Return validation datasets by name: one dataset is called ``"valid"``.

    Raises:
        ArgumentValueError: A name is no text, holds a slash, or is ``"train"``.
    """
    if validation is None:
        return {}
    return named_data(validation, "a validation", taken="train") or {"valid": validation}


def warn_of_lonely_sample(model: nn.Module, samples: int | None, reading: Reading) -> str | None:
    """Return a warning where BatchNorm would meet a last batch of one sample, which it cannot normalise."""
    size = reading.batch_size or 32
    lonely = samples is not None and size > 1 and samples % size == 1 and reading.last_batch == "keep"
    if lonely and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return (
            f"the last batch of every epoch has one sample ({samples} samples, batch_size {size}), from which BatchNorm learns nothing "
            "or fails. Choose another batch_size, or last_batch='drop'."
        )
    return None
