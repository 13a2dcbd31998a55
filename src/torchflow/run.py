"""Run: everything that changes while training, in the one mutable object and the one state tree."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchflow.averages import Averages
from torchflow.choices import Choices
from torchflow.data.batches import Batches
from torchflow.errors import ArgumentValueError
from torchflow.events import Plan
from torchflow.finite import FiniteCheck
from torchflow.hooks import Callback, Reactions, Stop, callback_state, load_callback_state
from torchflow.intervals import Alarm, Every, Progress
from torchflow.microbatches import microbatches_of
from torchflow.optimizer_steps import needs_closure
from torchflow.precision import autocasting, backward, scaling_of
from torchflow.randomness import Keys, generator, preserved
from torchflow.recomputing import recomputed
from torchflow.saver import NoSaver, Saver
from torchflow.schedule import Scheduling
from torchflow.state import load_model_state, load_optimizer_state, model_state, optimizer_state
from torchflow.step import Outputs, Step
from torchflow.steps import losses_of
from torchflow.types import B, M, State
from torchflow.update_randomness import ForwardStream, UpdateRandomness
from torchflow.updates import Compiled


@dataclass(eq=False)
class Run(Generic[M, B]):
    """Everything that changes while training. Made by :meth:`torchflow.Trainer.start`.

    Attributes:
        model: The model that is trained, on ``choices.device``.
        step: The step function.
        optimizers: The optimizers by name; a single one is called ``"main"``.
        schedulings: The live schedulers by the name of their optimizer.
        batches: The training data, epoch by epoch.
        validations: The validation data by name, such as ``"valid"``.
        validate: When validation is due.
        callbacks: The callbacks by name, those that change the run first.
        choices: What the Trainer decided.
        plan: What is known of the updates to come.
        custom_update: The user's own way to make an update, or None for the standard one.
        progress: How far the run has come.
        previous: The progress before the last update: what was due since then is due now.
        averages: The train metrics of the epoch under way.
        validated_metrics: The values of the last validation.
        stop: The stop that a callback asked for, and the callback's name.
        fresh: Whether it has not begun yet, and no checkpoint was loaded into it.
    """

    model: M
    step: Step[M, B]
    optimizers: dict[str, Optimizer]
    schedulings: dict[str, Scheduling]
    batches: Batches[B]
    validations: dict[str, Batches[B]]
    validate: Every
    callbacks: dict[str, Callback]
    choices: Choices
    plan: Plan
    custom_update: Callable[[Run[M, B], Sequence[B]], Tensor | Outputs] | None = None
    identity: Mapping[str, State] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    previous: Progress = field(default_factory=Progress)
    validated_metrics: dict[str, float] = field(default_factory=dict)
    stop: tuple[str, Stop] | None = None
    epoch_started: int = -1
    fresh: bool = True

    def __post_init__(self) -> None:
        self.keys = Keys(self.choices.seed)
        self.losses = losses_of(self.step)
        self.randomness = UpdateRandomness(ForwardStream(self.keys, self.choices.accumulate * (len(self.losses) or 1)))
        self.averages = Averages(getattr(self.step, "metrics", {}), self.choices.device, self.losses)
        self.reactions = Reactions(self.callbacks)
        self.saver: Saver = NoSaver()
        self.compiled: Compiled | None = None
        self.validation_alarm = Alarm(self.validate)
        self.parameters: list[nn.Parameter] = []
        self.accelerator = None if self.choices.device.type == "cpu" else self.choices.device
        self.all_finite = FiniteCheck(self.choices.device)
        self.scaling = scaling_of(self.choices.precision, self.choices.device)
        self.backward = backward if self.scaling is None else self.scaling.backward
        self.computed = False
        self.microbatches = microbatches_of(self.choices.microbatch)
        self.by_closure = any(map(needs_closure, self.optimizers.values()))
        self.settled = True
        self.looked = False
        self.first_loss: float | None = None
        self.list_parameters()

    @property
    def optimizer(self) -> Optimizer:
        """The only optimizer.

        Raises:
            ArgumentValueError: The run has several; take one from ``run.optimizers``.
        """
        if len(self.optimizers) != 1:
            names = ", ".join(map(repr, self.optimizers))
            raise ArgumentValueError(f"the run has {len(self.optimizers)} optimizers ({names}). Write run.optimizers[name].")
        return next(iter(self.optimizers.values()))

    @property
    def watched(self) -> bool:
        """Whether anything may be due between two updates of an epoch."""
        return bool(self.validations) or not isinstance(self.saver, NoSaver)

    @property
    def streams(self) -> tuple[str, ...]:
        """The names before the slash of every metric, ``"train"`` and those of the validations."""
        return ("train", *self.validations)

    @property
    def microbatch(self) -> int | None:
        """The most samples that go through the step at once, as was chosen or as ``"auto"`` has found; None for whole batches."""
        return None if self.microbatches is None else self.microbatches.size

    def generator(self, name: str) -> torch.Generator:
        """Return a CPU generator for a callback: a pure function of the seed, the name and the number of updates."""
        return generator(self.keys(f"callback/{name}", self.progress.updates))

    def computing(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which ``update=`` makes forward passes of its own; ``run.step`` opens it itself.

        In it operations run in the dtypes of ``precision="bf16"``; under other precisions it does nothing. Backward passes and
        optimizers belong outside.
        """
        self.computed = True
        return autocasting(self.choices.precision, self.choices.device)

    def list_parameters(self) -> None:
        """List every parameter of the model and of the optimizers once: those whose gradients the loop clears."""
        grouped = (p for optimizer in self.optimizers.values() for group in optimizer.param_groups for p in group["params"])
        self.parameters = list(dict.fromkeys([*self.model.parameters(), *grouped]))

    def step_schedulers(self, values: Mapping[str, float]) -> None:
        """Step every scheduler that wants one of these values.

        Raises:
            ArgumentValueError: The stream of its metric is there, and the metric is not.
        """
        streams = {name.partition("/")[0] for name in values}
        for scheduling in self.schedulings.values():
            if scheduling.metric is not None and scheduling.metric.partition("/")[0] in streams:
                if scheduling.metric not in values:
                    known = ", ".join(map(repr, values))
                    raise ArgumentValueError(f"Schedule(metric={scheduling.metric!r}) finds no such metric; there are {known}.")
                scheduling.step(values[scheduling.metric])

    def step_schedules(self, before: Progress, now: Progress) -> None:
        """Step every scheduler whose interval has passed between two progresses."""
        for scheduling in self.schedulings.values():
            if scheduling.metric is None and scheduling.every.reached(before, now):
                scheduling.step()

    def confirm_stop(self) -> None:
        """Ask the callback that stopped this run whether its stop still holds; a changed rule lets the run go on."""
        if self.stop is not None:
            name, stop = self.stop
            if name in self.callbacks and not self.callbacks[name].confirms(stop):
                self.stop = None

    @contextlib.contextmanager
    def validating(self) -> Iterator[None]:
        """Hold the model as the callbacks that change the run want it validated."""
        with contextlib.ExitStack() as held:
            for callback in self.callbacks.values():
                if callback.changes_run:
                    held.enter_context(callback.validating(self))
            yield

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Hold what a run needs, and put it back: random state, kernels, recomputed modules, every module's training flag.

        A model in evaluation mode is put into training mode; one in training mode keeps the flag of every module, so
        that a part which its owner froze in evaluation mode stays there.
        """
        flags = [(module, module.training) for module in self.model.modules()]
        with preserved(self.choices.device), self.choices.kernels(), recomputed(self.model, self.choices.recomputed):
            if not self.model.training:
                self.model.train()
            try:
                yield
            finally:
                for module, flag in flags:
                    module.training = flag

    def state(self) -> dict[str, State]:
        """Return the whole state as one tree. Its tensors are the live ones: copy what must outlive the next update."""
        return {
            "identity": dict(self.identity),
            "progress": self.progress._asdict(),
            "previous": self.previous._asdict(),
            "epoch_started": self.epoch_started,
            "stop": None if self.stop is None else {"by": self.stop[0], "reason": self.stop[1].reason},
            "model": model_state(self.model),
            "optimizers": {name: optimizer_state(optimizer, self.model) for name, optimizer in self.optimizers.items()},
            "schedulers": {name: scheduling.state() for name, scheduling in self.schedulings.items()},
            **({} if self.scaling is None else {"scaling": self.scaling.state()}),
            **({} if self.microbatches is None else {"microbatch": self.microbatches.size}),
            "averages": self.averages.state(),
            "validated": dict(self.validated_metrics),
            # A callback without state, such as a progress bar, may come and go between two starts.
            "callbacks": {
                name: dict(state) for name, callback in self.callbacks.items() if (state := callback_state(name, callback))
            },
        }

    def close(self) -> None:
        """End the threads and processes that read ahead."""
        for batches in (self.batches, *self.validations.values()):
            batches.close()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Copy a state that was compared before into the live objects; see :func:`torchflow.load`."""
        load_model_state(self.model, state["model"])
        for name, optimizer in self.optimizers.items():
            load_optimizer_state(optimizer, self.model, state["optimizers"][name])
        for name, scheduling in self.schedulings.items():
            scheduling.load_state(state["schedulers"][name])
        if self.scaling is not None and "scaling" in state:
            self.scaling.load_state(state["scaling"])
        if self.microbatches is not None and self.microbatches.auto:
            self.microbatches.size = state.get("microbatch")
        self.averages.load_state(state["averages"])
        self.validated_metrics = dict(state["validated"])
        for name, stored in state["callbacks"].items():
            load_callback_state(name, self.callbacks[name], stored)
        self.stop = None if state["stop"] is None else (state["stop"]["by"], Stop(state["stop"]["reason"]))
        self.epoch_started, self.fresh = state["epoch_started"], False
        self.progress, self.previous = Progress(**state["progress"]), Progress(**state["previous"])
        for parameter in self.parameters:
            parameter.grad = None
