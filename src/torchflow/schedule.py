"""When and how learning rates move: torch's schedulers, stepped at the moment they were made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, TypeAlias

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from torchflow.arguments import function, shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.events import Plan
from torchflow.intervals import Every
from torchflow.types import State

SchedulerRecipe: TypeAlias = Callable[[Optimizer], LRScheduler]
"""A function from an optimizer to its scheduler, which then steps once an epoch."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scheduler together with the moment at which it steps.

    Args:
        recipe: ``(optimizer, plan) -> LRScheduler``; ``plan`` knows the updates to come (:class:`torchflow.Plan`).
        every: When the scheduler steps: ``Every(updates=n)`` or ``Every(epochs=n)``.
        metric: The full name, such as ``"valid/loss"``, of the value that the scheduler's ``step`` wants. A scheduler with
            a validation metric steps when that validation is finished, one with a train metric at the end of an epoch.

    Raises:
        ArgumentTypeError: ``recipe`` is no function, or ``every`` no interval.
        ArgumentValueError: ``every`` is given in samples or seconds, or ``metric`` is no full name.
    """

    recipe: Callable[[Optimizer, Plan], LRScheduler]
    every: Every = field(default_factory=lambda: Every(updates=1))
    metric: str | None = None

    def __post_init__(self) -> None:
        function("Schedule's recipe", self.recipe, hint="Write Schedule(lambda optimizer, plan: ...).")
        if not isinstance(self.every, Every):
            raise ArgumentTypeError(f"Schedule(every=…) must be an interval such as Every(updates=1), got {shown(self.every)}.")
        if self.every.updates is None and self.every.epochs is None:
            raise ArgumentValueError(
                f"a scheduler steps by updates or epochs, got {self.every}. Write Every(updates=1) or Every(epochs=1)."
            )
        if self.metric is not None and not (isinstance(self.metric, str) and all(self.metric.partition("/"))):
            raise ArgumentValueError(
                f"Schedule(metric=…) must be the full name of a metric such as 'valid/loss', got {shown(self.metric)}."
            )


@dataclass(frozen=True, slots=True)
class Scheduling:
    """A live scheduler of a run and the choices it was made with."""

    scheduler: LRScheduler
    every: Every
    metric: str | None

    @property
    def base_rates(self) -> list[list[Any]]:
        """The learning rates that the schedule and those inside it start from; none for a plateau rule, which has no formula."""
        return [list(getattr(scheduler, "base_lrs", [])) for scheduler in _all(self.scheduler)]

    def start_from(self, rates: list[list[Any]]) -> None:
        """Take over other :attr:`base_rates`."""
        for scheduler, base in zip(_all(self.scheduler), rates, strict=True):
            if base:
                scheduler.base_lrs = base

    def step(self, value: float | None = None) -> None:
        """Move the learning rates; ``value`` is the metric that a plateau rule wants."""
        # torch warns where no optimizer has stepped before its scheduler. Here the order is fixed by the loop, and the step
        # may have been made before a resume, in another process.
        self.scheduler.optimizer._opt_called = True  # type: ignore[attr-defined]
        if value is None:
            self.scheduler.step()
        else:
            # Plateau schedulers take a metric where the others take a deprecated epoch.
            self.scheduler.step(value)  # type: ignore[arg-type]

    def state(self) -> dict[str, State]:
        """Return the numbers of the scheduler; what comes from code (functions, other objects) stays in code."""
        return {name: _plain(value) for name, value in self.scheduler.state_dict().items() if _is_state(value)}

    def identity(self) -> dict[str, State]:
        """Return what the schedule was built from, without the learning rates themselves."""
        built = {"class": type(self.scheduler).__name__, "every": str(self.every), "metric": self.metric}
        return {**built, **_without_rates(self.state())}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        live = self.scheduler.state_dict()
        self.scheduler.load_state_dict(live | {name: _restored(value, live.get(name)) for name, value in state.items()})


def build(choice: SchedulerRecipe | Schedule, optimizer: Optimizer, plan: Plan, name: str = "scheduler") -> Scheduling:
    """Make the scheduler of one optimizer.

    Raises:
        ArgumentTypeError: The recipe returned no scheduler, or one that wants a metric without naming it, or the reverse.
        ArgumentValueError: The scheduler belongs to another optimizer.
    """
    schedule = choice if isinstance(choice, Schedule) else Schedule(lambda optimizer, plan: choice(optimizer), Every(epochs=1))
    scheduler = schedule.recipe(optimizer, plan)
    if not isinstance(scheduler, LRScheduler):
        raise ArgumentTypeError(f"{name} must be a recipe that returns an LRScheduler, but it returned {shown(scheduler)}.")
    if scheduler.optimizer is not optimizer:
        raise ArgumentValueError(
            f"{name} returned a scheduler of another optimizer. Write scheduler=lambda optimizer: StepLR(optimizer, ...) "
            "and use the optimizer that the recipe is given."
        )
    if isinstance(scheduler, ReduceLROnPlateau) and schedule.metric is None:
        raise ArgumentTypeError(
            f"{name} is a ReduceLROnPlateau, which wants a metric. Write scheduler=Schedule(lambda optimizer, plan: "
            "ReduceLROnPlateau(optimizer), every=Every(epochs=1), metric='valid/loss')."
        )
    if schedule.metric is not None and next(iter(signature(scheduler.step).parameters), "epoch") == "epoch":
        raise ArgumentTypeError(
            f"{name} is a {type(scheduler).__name__}, whose step takes no metric. Leave out metric={schedule.metric!r}: it is for "
            "ReduceLROnPlateau."
        )
    return Scheduling(scheduler, schedule.every, schedule.metric)


def length_remedy(stored: Mapping[str, Any], live: Mapping[str, Any]) -> str:
    """Say what to do where a schedule was built for another number of updates than the stored one.

    Args:
        stored: The identity of a stored run.
        live: That of the run which should go on with it.
    """
    for name, one in stored["schedulers"].items():
        then, now = _length(one), _length(live["schedulers"].get(name, {}))
        if None not in (then, now) and then != now and one["every"] == str(Every(updates=1)):
            held = "total_steps" not in one  # one cycle has nothing after its end
            kept = f"warm_up_cosine(updates={then}), which then stays at its lowest rate" if held else f"one_cycle(updates={then})"
            return f"the schedule was built for {then} updates, and here for {now}: pass the same epochs as before, or {kept}; "
    return "a schedule built from the run's length wants the same epochs as before; "


def _length(identity: Mapping[str, Any]) -> int | None:
    """Return how many steps a schedule of torch was built for: the falling half of a cosine, its own and what comes before, or one cycle."""
    parts, turns = identity.get("_schedulers"), identity.get("_milestones")
    if parts and turns:
        last = _length(parts[-1])
        return None if last is None else turns[-1] + last
    length: int | None = identity.get("total_steps", identity.get("T_max"))
    return length


def _all(scheduler: LRScheduler) -> list[LRScheduler]:
    """Return a scheduler and all that it is made of, as SequentialLR and ChainedScheduler are."""
    return [scheduler, *(inner for part in getattr(scheduler, "_schedulers", ()) for inner in _all(part))]


def _without_rates(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_rates(item) for key, item in value.items() if key not in ("base_lrs", "_last_lr")}
    return type(value)(map(_without_rates, value)) if isinstance(value, (list, tuple)) else value


def _is_state(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_state, value))
    if isinstance(value, dict):
        return all(isinstance(key, (str, int)) and _is_state(item) for key, item in value.items())
    return value is None or isinstance(value, (bool, int, float, str)) or type(value).__name__ == "Tensor"


def _plain(value: Any) -> State:
    """Return a value in the language of state trees: MultiStepLR's Counter has integers as keys."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value))
    plain: State = value
    return plain


def _restored(value: Any, live: Any) -> Any:
    """Return a stored value in the live one's type: integer keys and nested schedulers' states."""
    if isinstance(live, dict) and isinstance(value, dict):
        keys = {str(key): key for key in live}
        return type(live)({keys.get(name, name): _restored(item, live.get(keys.get(name, name))) for name, item in value.items()})
    if isinstance(live, (list, tuple)) and isinstance(value, (list, tuple)) and len(live) == len(value):
        return type(live)(_restored(item, own) for item, own in zip(value, live, strict=True))
    return value
