"""F14 and F15: a run that is another one, and values that are not finite."""

from __future__ import annotations

import hashlib
import math
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.faults.campaign import Campaign, Trials
from tests.faults.dataset import FEATURES, SAMPLES, Foreign
from tests.faults.job import UPDATES, Job, augmented, columns, leaves, network, run_job, seeing_step
from tests.laws.problems import LossSum, with_weights
from torchflow import Every, Schedule, data
from torchflow.checkpoint import read_checkpoint
from torchflow.errors import MismatchError, NonFiniteError


def optimizer(kind: type[torch.optim.Optimizer], **options: Any) -> Callable[[nn.Module], torch.optim.Optimizer]:
    """The recipe of another optimizer."""
    return lambda model: kind(model.parameters(), **options)


def _two_groups(model: nn.Module) -> torch.optim.Optimizer:
    first, *rest = model.parameters()
    return torch.optim.AdamW([{"params": [first]}, {"params": rest}], lr=0.02, weight_decay=0.05)


def _frozen() -> nn.Module:
    model = network()
    next(model.parameters()).requires_grad_(False)
    return model


def _renamed() -> nn.Module:
    return nn.Sequential(OrderedDict(zip("abcd", network().children(), strict=True)))


def _deeper() -> nn.Module:
    parts = [nn.Linear(FEATURES, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 1)]
    return with_weights(nn.Sequential(*parts), 5)


def _shallower() -> nn.Module:
    return with_weights(nn.Sequential(nn.Linear(FEATURES, 1)), 5)


def _shorter(optimizer: torch.optim.Optimizer, plan: object) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10)


def _other_rows(samples: int, seed: int) -> Any:
    return data.from_tensors(columns(samples, seed)).map_random(augmented)


def changed_jobs(job: Job) -> dict[str, Job]:
    """Return the job with one thing changed, by what it is."""
    adamw = torch.optim.AdamW
    models = {
        "another width": lambda: network(9),
        "another dtype": lambda: network().double(),
        "a layer more": _deeper,
        "a layer less": _shallower,
        "parameters renamed": _renamed,
        "a parameter frozen": _frozen,
    }
    trainers: dict[str, dict[str, Any]] = {
        "another optimizer": {"optimizer": optimizer(torch.optim.SGD, lr=0.02)},
        "another learning rate": {"optimizer": optimizer(adamw, lr=0.03, weight_decay=0.05)},
        "another weight decay": {"optimizer": optimizer(adamw, lr=0.02, weight_decay=0.06)},
        "other betas": {"optimizer": optimizer(adamw, lr=0.02, weight_decay=0.05, betas=(0.8, 0.99))},
        "two groups": {"optimizer": _two_groups},
        "no scheduler": {"scheduler": None},
        "another schedule": {"scheduler": Schedule(_shorter, every=Every(updates=1))},
        "another accumulation": {"accumulate": 1},
        "clipping": {"clip_norm": 1.0},
        "another policy": {"nonfinite": "skip"},
        "another seed": {"seed": 4},
        "callbacks missing": {"callbacks": {}},
    }
    fits: dict[str, dict[str, Any]] = {
        "another batch size": {"batch_size": 5},
        "another last batch": {"last_batch": "drop"},
        "another order": {"shuffle": False},
    }
    trains: dict[str, Any] = {
        "another length": _other_rows(SAMPLES - 1, 1),
        "other numbers": _other_rows(SAMPLES, 2),
        "data of another kind": Foreign(),
        "no augmentation": data.from_tensors(columns(SAMPLES, 1)),
    }
    return (
        {name: replace(job, model=model) for name, model in models.items()}
        | {name: replace(job, trainer=changes) for name, changes in trainers.items()}
        | {name: replace(job, fit=changes) for name, changes in fits.items()}
        | {name: replace(job, train=train) for name, train in trains.items()}
        | {"a callback more": replace(job, extra=(LossSum(),))}
    )


def changed(campaign: Campaign) -> Trials:
    """F14: refused with a list of the differences; the live model and the folder are as they were."""
    base = campaign.killed(25)

    def make(trials: Trials) -> None:
        for name, job in campaign.some(list(changed_jobs(base).items()), least=5):
            model = job.model()
            before, files = dict(leaves(model.state_dict())), _files(base.runs)
            problem: str | None = "it went on"
            try:
                run_job(job, model=model)
            except MismatchError as error:
                problem = None if error.differences else "no difference is named"
            touched = None if dict(leaves(model.state_dict())) == before else "the live model was changed"
            trials.count(name, problem, touched, None if _files(base.runs) == files else "the folder was changed")

    trials = campaign.serving(make)
    trials.count("nothing changed", campaign.finished(base))
    return trials


def _files(folder: Path) -> dict[str, str]:
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


Poison = Callable[[Tensor, nn.Module], Tensor]


def poisons() -> dict[str, Poison]:
    """Return what makes a loss or one gradient NaN or infinite, from a good loss and the model."""

    def steep(model: nn.Module) -> Tensor:
        """Zero, with an infinite gradient."""
        first = next(model.parameters())
        return (first - first.detach()).sum().abs().sqrt()

    return {
        "NaN loss": lambda loss, model: loss * math.nan,
        "infinite loss": lambda loss, model: loss + math.inf,
        "NaN gradient": lambda loss, model: loss + 0.0 * (0.0 * next(model.parameters()).sum()).sqrt(),
        "infinite gradient": lambda loss, model: loss + steep(model),
    }


def poisoned_step(poison: Poison, update: int) -> Callable[[nn.Module, Any], Tensor]:
    """Return the job's step, poisoned at one update, counted from the start of the process."""
    calls: Iterator[int] = iter(range(10**9))

    def step(model: nn.Module, batch: Any) -> Tensor:
        loss = seeing_step(model, batch)
        return poison(loss, model) if model.training and next(calls) // 2 == update else loss

    return step


def not_finite(campaign: Campaign) -> Trials:
    """F15: no parameter and no checkpoint is touched by it; "raise" ends the run, which goes on equal, and "skip" goes on."""
    halves = {policy: campaign.killed(25, Job(campaign.fresh(), trainer={"nonfinite": policy})) for policy in ("raise", "skip")}
    cases = [
        (policy, place, name) for policy in halves for place in ("first", "first after a resume", "last") for name in poisons()
    ]

    def make(trials: Trials) -> None:
        for policy, place, name in campaign.some(cases, least=4):
            resumed = place == "first after a resume"
            job = campaign.copied(halves[policy]) if resumed else Job(campaign.fresh())
            step = poisoned_step(poisons()[name], UPDATES - 1 if place == "last" else 0)
            problem = _poisoned(replace(job, trainer={"step": step, "nonfinite": policy}), raises=policy == "raise")
            after = campaign.finished_here(replace(job, trainer={"nonfinite": policy})) if policy == "raise" else None
            survived = trials.count(f"{name}, {policy}, {place}", problem, _not_finite_on_disk(job.runs), after)
            campaign.done(job.folder, survived)

    return campaign.serving(make)


def _poisoned(job: Job, *, raises: bool) -> str | None:
    try:
        found = run_job(job)
    except NonFiniteError as error:
        said = "epoch" in str(error) and "samples" in str(error)
        return None if raises and said else f"it raised {error}"
    if raises:
        return "it went on"
    return None if found["/run/progress/updates"] == str(UPDATES) else f"it ended after {found['/run/progress/updates']} updates"


def _not_finite_on_disk(runs: Path) -> str | None:
    for path in sorted((runs / "checkpoints").glob("step-*")):
        state = read_checkpoint(path).state
        # A history has NaN where a row lacks a metric; what a run goes on from has none.
        parts = {"model": state["model"], "optimizers": state["optimizers"], "early": state["callbacks"]["early"]}
        for part, tree in parts.items():
            for name, tensor in _tensors(tree, part):
                if not bool(tensor.isfinite().all()):
                    return f"{os.path.basename(path)} holds {name} that is not finite"
    return None


def _tensors(tree: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from _tensors(value, f"{path}/{name}")
    elif isinstance(tree, (list, tuple)):
        for number, value in enumerate(tree):
            yield from _tensors(value, f"{path}/{number}")
    elif isinstance(tree, Tensor) and tree.is_floating_point():
        yield path, tree
