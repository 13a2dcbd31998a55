"""What a Trainer was given, checked: how runs are built from it."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchflow import arguments, building
from torchflow.callbacks.checkpoints import Checkpoints
from torchflow.callbacks.files import of_fold, writing_elsewhere
from torchflow.callbacks.history import History
from torchflow.callbacks.progress_bar import ProgressBar
from torchflow.caller import warn_caller
from torchflow.choices import Choices
from torchflow.copies import copied
from torchflow.data.batches import Batches
from torchflow.data.reading import Reading
from torchflow.device import move_model
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.evaluation import evaluation_key
from torchflow.hooks import Callback, load_callback_state
from torchflow.intervals import Every
from torchflow.limits import Limits, plan_of
from torchflow.precision import prepare_model, under
from torchflow.randomness import Keys, key
from torchflow.recomputing import modules_of
from torchflow.run import Run
from torchflow.saving import Resume, identity, schedule_identity
from torchflow.step import Outputs, Step
from torchflow.steps import Steps
from torchflow.types import B, M
from torchflow.updates import Updates


@dataclass(frozen=True)
class Blueprint(Generic[M, B]):
    """All that the runs of a Trainer have in common; what differs from run to run is given to :meth:`run`.

    Attributes:
        step: The mathematics; :class:`~torchflow.steps.Steps` where there are several.
        optimizer: Recipes or optimizers, as :func:`recipes` returns them.
        scheduler: The same for schedulers, or None.
        update: The user's own way to make an update, or None.
        callbacks: The user's callbacks by name.
        at_construction: The state of each of them, from which every run begins.
        checkpoints: Who saves, or None.
        progress: Whether there is a bar.
        choices: The numbers and names that the loop looks at.
    """

    step: Step[M, B]
    # Recipes are of any kind of model and optimizer here; the Trainer's signature binds them together.
    optimizer: Any
    scheduler: Any
    update: Callable[[Run[M, B], Sequence[B]], Tensor | Outputs] | None
    callbacks: Mapping[str, Callback]
    at_construction: Mapping[str, Any]
    checkpoints: Checkpoints | None
    progress: bool
    choices: Choices

    def run(
        self, model: Any, train: Any, reading: Reading, *, validation: Any, validate: Every | None, limits: Limits | None
    ) -> Run[M, B]:
        """Check everything, then build a run."""
        choices, keys, pinned = self.choices, Keys(self.choices.seed), self.choices.device.type == "cuda"
        if validate is not None and not isinstance(validate, Every):
            raise ArgumentTypeError(f"validate must be an interval such as Every(epochs=1), got {arguments.shown(validate)}.")
        batches = reading.training(train, keys, pin_memory=pinned)
        validations = {
            name: reading.evaluation(data, keys, "validation" if name == "valid" else f"validation[{name!r}]", pin_memory=pinned)
            for name, data in building.named_validations(validation).items()
        }
        live: Any = building.build_model(model, keys)
        if lonely := building.warn_of_lonely_sample(live, batches.samples, reading):
            warn_caller(lonely)
        self.place(live)
        modules_of(live, choices.recomputed)
        optimizers = building.build_optimizers(self.optimizer, live)
        building.refuse_clashes(optimizers, self.update, choices)
        plan = plan_of(batches.length, choices.accumulate, limits)
        run: Run[M, B] = Run(
            model=live,
            step=self.step_under_precision(),
            optimizers=optimizers,
            schedulings={},
            batches=batches,
            validations=validations,
            validate=validate or Every(epochs=1),
            callbacks=self.fresh_callbacks(),
            choices=choices,
            plan=plan,
            custom_update=self.update,
        )
        if choices.group is not None:
            from torchflow.compiled import CompiledUpdates  # noqa: PLC0415  (most runs are not compiled)

            run.compiled = CompiledUpdates(choices.group)
        created = identity(run)
        run.schedulings = building.build_schedulings(self.scheduler, optimizers, plan, run.streams)
        run.identity = {**created, "schedulers": schedule_identity(run)}
        for callback in run.callbacks.values():
            callback.check(run)
        return run

    def fresh_callbacks(self) -> dict[str, Callback]:
        """Return the callbacks as they were at construction, with those that every run has."""
        for name, callback in self.callbacks.items():
            load_callback_state(name, callback, copy.deepcopy(self.at_construction[name]))
        own: dict[str, Callback] = {"history": History()}
        if self.progress:
            own["progress_bar"] = ProgressBar()
        if self.checkpoints is not None:
            self.checkpoints.reset()
            own["checkpoints"] = self.checkpoints
        return building.ordered({**self.callbacks, **own})

    def fold(self, number: int) -> Blueprint[M, B]:
        """Return the same under a seed of its own, with files in a folder of their own, for cross-validation."""
        choices = replace(self.choices, seed=key(self.choices.seed, "fold", number) >> 1)  # a seed has 63 bits
        own, folder = self.checkpoints, f"fold-{number}"
        callbacks = writing_elsewhere(self.callbacks, of_fold(folder))
        return replace(self, choices=choices, callbacks=callbacks, checkpoints=own and own.moved(own.folder / folder))

    def on_copies(self, model: Any) -> tuple[Blueprint[M, B], Any]:
        """Return one that is silent and writes nothing, and a model: copies, with which a trial may do what it wants."""
        names = ("step", "optimizer", "scheduler", "update", "callbacks")
        model, *copies = copied(model=model, **{name: getattr(self, name) for name in names})
        return replace(self, checkpoints=None, progress=False, **dict(zip(names, copies, strict=True))), model

    def place(self, model: torch.nn.Module) -> None:
        """Bring a model to where, and into the form in which, it computes."""
        move_model(model, self.choices.device, self.choices.memory_format)
        prepare_model(model, self.choices.precision)

    def step_under_precision(self) -> Step[M, B]:
        """Return the step as it computes in the precision that was chosen."""
        where = self.choices
        if isinstance(self.step, Steps):
            return self.step.under(where.precision, where.device)
        return under(self.step, where.precision, where.device)

    def for_evaluation(self, model: M, data: Any, purpose: str, reading: Reading, name: str = "data") -> tuple[Batches[B], int]:
        """Return the batches of a pass over data, which messages call ``name``, and its key; the model is placed."""
        if not isinstance(model, torch.nn.Module):
            raise ArgumentTypeError(f"model must be an nn.Module, got {arguments.shown(model)}.")
        keys = Keys(self.choices.seed)
        batches = reading.evaluation(data, keys, name, pin_memory=self.choices.device.type == "cuda")
        self.place(model)
        return batches, evaluation_key(keys, purpose, 0)

    def resume_of(self, resume: bool | Resume) -> Resume | None:
        """Return how to go on, or None for a fresh run.

        Raises:
            ArgumentTypeError: ``resume`` is neither a bool nor a Resume.
            ArgumentValueError: There is no folder to go on from.
        """
        if isinstance(resume, Resume):
            going_on: Resume | None = resume
        else:
            going_on = Resume() if arguments.flag("resume", resume, hint="Or Resume(override=['lr']).") else None
        if going_on is not None and self.checkpoints is None:
            raise ArgumentValueError(
                "resume needs a folder to go on from. Pass checkpoints=Checkpoints('runs/name') to the Trainer."
            )
        return going_on


def group_size(choice: object) -> int | None:
    """Return how many updates one call of compiled code makes, or None."""
    if isinstance(choice, Updates):
        return choice.size
    return 1 if arguments.flag("compile", choice, hint="Or Updates(32).") else None


def recipes(name: str, choice: Any, kind: type) -> Any:
    """Check a recipe, an object of ``kind``, or a mapping of them."""
    if isinstance(choice, Mapping):
        if not choice or not all(isinstance(key, str) and key for key in choice):
            raise ArgumentValueError(f"{name} must be a mapping from names to recipes, got {arguments.shown(choice)}.")
        return {key: recipes(f"{name}[{key!r}]", recipe, kind) for key, recipe in choice.items()}
    if isinstance(choice, type) and issubclass(choice, Optimizer):
        remedy = f"Write {name}=lambda model: torch.optim.{choice.__name__}(model.parameters(), lr=...)."
        raise ArgumentTypeError(f"{name} must be a recipe, got the class {choice.__name__}. {remedy}")
    if not callable(choice) and not isinstance(choice, kind):
        example = (
            "lambda model: torch.optim.SGD(model.parameters(), lr=0.1)" if name.startswith("optimizer") else "lambda optimizer: ..."
        )
        raise ArgumentTypeError(f"{name} must be a recipe, got {arguments.shown(choice)}. Write {name}={example}.")
    return choice


def checked_checkpoints(checkpoints: object) -> Checkpoints | None:
    """Return who saves; a folder alone is enough to say."""
    if checkpoints is None or isinstance(checkpoints, Checkpoints):
        return checkpoints
    if isinstance(checkpoints, (str, os.PathLike)):
        return Checkpoints(checkpoints)
    raise ArgumentTypeError(f"checkpoints must be Checkpoints('runs/name') or a folder, got {arguments.shown(checkpoints)}.")
