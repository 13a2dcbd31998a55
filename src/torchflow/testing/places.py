"""Where a job is defined, so that a new process can make it again: by names that the caller gives, never a file's."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.trainer import Trainer
from torchflow.types import Data

SCRIPT = "__mp_main__"
"""The name of a script that is loaded a second time, as multiprocessing has it: its ``__main__`` part does not run."""


@dataclass(frozen=True)
class Job:
    """A training that can be made again: what a job function returns.

    Args:
        trainer: The Trainer, with its callbacks and checkpoints. Its checkpoints' folder is never touched.
        model: The model, or a recipe of it.
        train: The training data.
        fit: The other arguments of :meth:`torchflow.Trainer.fit` by name, a duration among them.

    Raises:
        ArgumentTypeError: ``trainer`` is no Trainer, or ``fit`` no mapping.
        ArgumentValueError: ``fit`` holds ``resume``, ``model``, ``train`` or ``max_seconds``.
    """

    trainer: Trainer[Any, Any]
    model: Any  # a module or a recipe of one
    train: Data[Any]
    fit: Mapping[str, Any]

    def __post_init__(self) -> None:
        if not isinstance(self.trainer, Trainer):
            raise ArgumentTypeError(f"Job(trainer=…) must be a torchflow.Trainer, got {shown(self.trainer)}.")
        if not isinstance(self.fit, Mapping):
            raise ArgumentTypeError(f"Job(fit=…) must be a mapping such as {{'epochs': 2}}, got {shown(self.fit)}.")
        remedies = {
            "resume": "The verification decides who resumes",
            "model": "Give it as Job(model=…)",
            "train": "Give it as Job(train=…)",
            "max_seconds": "A clock ends every run elsewhere; give max_updates",
        }
        for name, remedy in remedies.items():
            if name in self.fit:
                raise ArgumentValueError(f"Job(fit=…) cannot hold {name!r}. {remedy}.")


JobFunction = Callable[[], Job]


@dataclass(frozen=True)
class Place:
    """Where a function stands.

    Attributes:
        module: The module's name; empty for a script, which is found by its file alone.
        file: The module's file; empty where there is none.
        name: The function's qualified name.
    """

    module: str
    file: str
    name: str


def place_of(job: object) -> Place:
    """Return where a job function is defined.

    Raises:
        ArgumentTypeError: It is no function at the top of a module.
        ArgumentValueError: It was typed into a notebook or an interpreter, where no other process can find it.
    """
    if not inspect.isfunction(job) or "<" in job.__qualname__:
        raise ArgumentTypeError(
            f"job must be a function at the top of a module that takes nothing and returns a Job, got {shown(job)}. "
            "Another process makes the job again, so it must be found by its name: write def job() -> Job: ..."
        )
    module, file = job.__module__, getattr(sys.modules.get(job.__module__), "__file__", None) or ""
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        module = "" if spec is None else spec.name  # python -m package.module has a name, python script.py has a file
        if not module and not os.path.isfile(file):
            raise ArgumentValueError(
                f"{job.__qualname__} was defined in a notebook or an interactive session, where another process cannot find it. "
                "Write it into a file, such as job.py, and import it: from job import job."
            )
    place = Place(module, os.path.abspath(file) if file else "", job.__qualname__)
    if _named(sys.modules[job.__module__], place.name) is not job:
        raise ArgumentTypeError(f"job is not found under its own name, {job.__module__}.{place.name}. Give the function itself.")
    return place


def made_at(place: Place) -> Job:
    """Import the module of a place and call its job function.

    Raises:
        ArgumentTypeError: The function is not there, or returns no Job.
    """
    function = _named(module_of(place), place.name)
    if not callable(function):
        raise ArgumentTypeError(f"{place.file or place.module} has no function {place.name} when it is imported again.")
    job = function()
    if not isinstance(job, Job):
        raise ArgumentTypeError(f"{place.name} must return a torchflow.testing.Job, but it returned {shown(job)}.")
    return job


def _named(module: ModuleType, name: str) -> Any:
    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def module_of(place: Place) -> ModuleType:
    """Import by name where that works, else by file: tests and scripts are not always importable."""
    if place.module:
        try:
            return importlib.import_module(place.module)
        except ModuleNotFoundError as error:
            if not place.file or error.name is None or not f"{place.module}.".startswith(f"{error.name}."):
                raise  # the module is there, and what it imports is not
    name = place.module or SCRIPT
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None) == place.file:
        return loaded
    loader = importlib.machinery.SourceFileLoader(name, place.file)
    spec = importlib.util.spec_from_file_location(name, place.file, loader=loader)
    assert spec is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
