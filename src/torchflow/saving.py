"""A run to a folder and back: compared leaf by leaf with the live one before anything is touched."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchflow import arguments, checkpoint
from torchflow.caller import warn_caller
from torchflow.errors import ArgumentTypeError, CheckpointError, MismatchError
from torchflow.names import plain_name
from torchflow.run import Run
from torchflow.schedule import length_remedy
from torchflow.state import hyperparameters, parameter_names
from torchflow.types import State


@dataclass(frozen=True, slots=True)
class Resume:
    """How ``fit`` goes on with a stored run whose recipe has changed on purpose.

    Args:
        override: Names of optimizer hyperparameters, such as ``["lr"]``, whose new value is meant: it replaces the stored one.
            A learning rate that a schedule has moved is scaled by the ratio of the new one to the old.
        strict: Whether every difference is refused. With False, what fits is loaded, what does not fit stays as it is in
            the live run, and one warning lists it.
        same_environment: Whether a difference of the environment that may change the last bits (torch's version, device,
            threads) is refused too; it is a warning by default.

    Raises:
        ArgumentTypeError: ``override`` is no list of names, or a switch no bool.
    """

    override: Sequence[str] = ()
    strict: bool = True
    same_environment: bool = False

    def __post_init__(self) -> None:
        arguments.flag("Resume(strict=…)", self.strict)
        arguments.flag("Resume(same_environment=…)", self.same_environment)
        given: object = self.override
        if not isinstance(given, (list, tuple, set, frozenset)) or not all(isinstance(name, str) for name in given):
            raise ArgumentTypeError(
                f"Resume(override=…) must be a list of names such as ['lr'], got {arguments.shown(self.override)}."
            )


def save(run: Run[Any, Any], folder: str | os.PathLike[str]) -> Path:
    """Publish the state of a run as a checkpoint in a folder; the newest two are kept.

    Args:
        run: The run, at a safe point: at any yield of :func:`torchflow.events`, or between two calls of ``update``.
        folder: A run folder; it is made where it is missing.

    Returns:
        The checkpoint's own folder.

    Raises:
        CheckpointError: The run is in the middle of an update or of its callbacks, or the files cannot be written.
    """
    refuse_unsettled(run)
    with checkpoint.Store(arguments.path("folder", folder)) as store:
        store.open(run_description(run))
        published = store.publish(run.progress.updates, run.state(), environment=environment(run))
        store.prune(2)
    return published


def load(run: Run[Any, Any], folder: str | os.PathLike[str], *, resume: Resume | None = None) -> None:
    """Load the newest good checkpoint of a folder into a live run; nothing is touched unless all of it fits.

    Args:
        run: A run that was built as the stored one was.
        folder: A run folder.
        resume: What has changed on purpose.

    Raises:
        CheckpointError: The folder holds no checkpoint.
        MismatchError: The checkpoint belongs to another run; ``differences`` lists everything.
    """
    refuse_unsettled(run)
    loaded = checkpoint.Store(arguments.path("folder", folder)).load()
    if loaded is None:
        raise CheckpointError(
            f"{os.fspath(folder)!r} holds no checkpoint. Save one first: torchflow.save(run, {os.fspath(folder)!r})."
        )
    restore(run, loaded, resume or Resume())


def refuse_unsettled(run: Run[Any, Any]) -> None:
    """Refuse to save or load in the middle of something.

    Raises:
        CheckpointError: An update is under way, or its callbacks are being called.
    """
    if not isinstance(run, Run):
        raise ArgumentTypeError(f"run must be a Run, from Trainer.start, got {arguments.shown(run)}.")
    if not run.settled:
        raise CheckpointError(
            "the run is in the middle of an update or of its callbacks, so its state is half done. Save in the loop over "
            "torchflow.events(run), or pass checkpoints=Checkpoints(folder) to the Trainer, which saves after every callback."
        )


def run_description(run: Run[Any, Any]) -> dict[str, State]:
    """Return what ``run.json`` says about a run."""
    return {"seed": run.choices.seed, "data": run.batches.describe()}


def environment(run: Run[Any, Any]) -> dict[str, State]:
    """Return the fingerprint of what the bits of this run depend on."""
    dtype, choices = next(run.model.parameters()).dtype, run.choices
    return checkpoint.fingerprint(
        choices.device.type,
        str(dtype).removeprefix("torch."),
        choices.deterministic is not False,
        choices.group,
        choices.matmul_precision,
        microbatch=choices.microbatch,
    )


def identity(run: Run[Any, Any]) -> dict[str, State]:
    """Return the recipe of a run as created: everything that a resume compares, apart from tensors."""
    choices = run.choices
    return {
        "seed": choices.seed,
        "accumulate": choices.accumulate,
        "clip_norm": choices.clip_norm,
        "clip_value": choices.clip_value,
        "nonfinite": choices.nonfinite,
        "precision": choices.precision,
        "data": run.batches.describe(),
        **({"steps": list(run.losses)} if run.losses else {}),  # in which order they are taken
        "frozen": [plain_name(name) for name, parameter in run.model.named_parameters() if not parameter.requires_grad],
        "optimizers": {
            name: {"class": type(optimizer).__name__, "groups": hyperparameters(optimizer, run.model)}
            for name, optimizer in run.optimizers.items()
        },
    }


def schedule_identity(run: Run[Any, Any]) -> dict[str, State]:
    """Return the schedulers as created: what they were built from, without the learning rates themselves."""
    return {name: scheduling.identity() for name, scheduling in run.schedulings.items()}


def restore(run: Run[Any, Any], loaded: checkpoint.Loaded, resume: Resume) -> None:
    """Compare a loaded checkpoint with the live run, then load it.

    Raises:
        MismatchError: It does not fit; the run is as it was.
    """
    found = run_differences(run, loaded.state, resume.override)
    listed = "\n  ".join(found)
    if found and resume.strict:
        raise MismatchError(
            f"{loaded.path} does not fit this run, which is as it was. {len(found)} difference(s):\n  {listed}\nBuild the run as it was built "
            "then; Resume(override=['lr']) says that a changed hyperparameter is meant; "
            f"{length_remedy(loaded.state['identity'], run.identity)}Resume(strict=False) loads what fits.",
            found,
        )
    changed = checkpoint.environment_differences(loaded.environment, environment(run))
    if changed and resume.same_environment:
        raise MismatchError(f"{loaded.path} was written in another environment: {'; '.join(changed)}.", changed)
    if changed:
        warn_caller(f"the resumed run may differ in its last bits: {'; '.join(changed)}.")
    if found:
        warn_caller(f"{loaded.path} was loaded as far as it fits; this stayed as it is in the live run:\n  {listed}")
    bases = {name: scheduling.base_rates for name, scheduling in run.schedulings.items()}
    run.load_state(_fitting(run, loaded.state) if found else loaded.state)
    if resume.override:
        _override(run, loaded.state["identity"]["optimizers"], bases, resume.override)


def _fitting(run: Run[Any, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state in which each part is the stored one where it fits and the live one elsewhere."""
    live: dict[str, Any] = run.state()

    def chosen(part: str, name: str) -> Any:
        was, now = stored[part].get(name), live[part][name]
        fits = name in stored[part] and not checkpoint.differences({name: _shape(part, was)}, {name: _shape(part, now)})
        return was if fits else now

    parts = {part: {name: chosen(part, name) for name in live[part]} for part in ("model", "optimizers", "schedulers", "callbacks")}
    late = (stored["callbacks"].keys() & run.callbacks.keys()) - live["callbacks"].keys()  # their state was empty at the start
    parts["callbacks"] |= {name: stored["callbacks"][name] for name in late}
    metrics = set(stored["averages"]["objects"]) == set(live["averages"]["objects"])
    return {**stored, **parts, "averages": stored["averages"] if metrics else live["averages"]}


def _shape(part: str, value: Any) -> Any:
    """Return what must be alike for a part to fit: all of a tensor, the names of a group, the keys of the rest."""
    if part == "model":
        return value
    if part == "optimizers":
        return [[*group["names"], *_names(group)] for group in value["groups"]]
    return _names(value)


def _override(run: Run[Any, Any], stored: Mapping[str, Any], bases: Mapping[str, list[list[Any]]], names: Collection[str]) -> None:
    """Put the live recipe's hyperparameters in the place of the stored ones, where that is meant."""
    created: Any = run.identity["optimizers"]
    for name, optimizer in run.optimizers.items():
        for group, now, then in zip(optimizer.param_groups, created[name]["groups"], stored[name]["groups"], strict=True):
            for key in set(names) & set(now):
                group[key] = group[key] * (now[key] / then[key]) if key == "lr" and then[key] else now[key]
                if key == "lr" and "initial_lr" in group:
                    group["initial_lr"] = now[key]
    if "lr" in names:
        for name, scheduling in run.schedulings.items():
            scheduling.start_from(bases[name])


def run_differences(run: Run[Any, Any], state: Mapping[str, Any], override: Collection[str]) -> list[str]:
    """Return one line for each difference between a stored state and the live run."""
    live = run.state()

    def fits(path: str, stored: object, here: object) -> bool:
        """A plain value fits if it is equal, or meant to differ."""
        chosen = _HYPERPARAMETER.fullmatch(path)
        return (chosen is not None and chosen[1] in override) or checkpoint.equal(path, stored, here)

    found = checkpoint.differences(state["identity"], run.identity, values=fits) + checkpoint.differences(
        {"model": state["model"]}, {"model": live["model"]}
    )
    for part in ("optimizers", "schedulers"):
        found += checkpoint.differences({part: _names(state[part])}, {part: _names(live[part])})
    # A callback whose state is empty at the start, and so is not in the live tree, may well have stored one later.
    stored, here = _names(state["callbacks"]), _names(live["callbacks"])
    found += checkpoint.differences({"callbacks": stored}, {"callbacks": here | _names(stored.keys() & run.callbacks.keys())})
    found += checkpoint.differences({"metrics": _names(state["averages"]["objects"])}, {"metrics": _names(run.averages.objects)})
    names = set(parameter_names(run.model).values())
    for name, optimizer in state["optimizers"].items():
        for extra in set(optimizer["state"]) - names:
            found += [f"optimizers/{name}/{extra}: stored, but the model has no such parameter"]
    return found


_HYPERPARAMETER = re.compile(r"optimizers/.+/groups/\d+/(?!names\b)([^/]+)(?:/\d+)?")
"""The path of a hyperparameter, or of one number of it, in a run's identity."""


def _names(branch: Any) -> dict[str, None]:
    return dict.fromkeys(branch)
