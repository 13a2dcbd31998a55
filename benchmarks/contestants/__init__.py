"""Who takes part: loops by hand, torchflow, and other libraries, each training the same workload.

There are two kinds. A *timed* contestant is a function that trains one epoch afresh, in this process, and returns the seconds
and the model. A *gated* one trains on and on in a process of its own and waits at the start of every epoch for its turn.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from torch import nn

from benchmarks.gate import Gate
from benchmarks.workloads import Workload

ALL = ("W1", "W2", "W3", "W4")


class Timed(NamedTuple):
    """What a timed contestant did in one round."""

    seconds: float
    model: nn.Module


TimedContestant = Callable[[Workload], Timed]
GatedContestant = Callable[[Workload, Gate], None]


@dataclass(frozen=True)
class Contestant:
    """One line of the table.

    Attributes:
        name: Its name in tables.
        place: Module and function, as in ``"benchmarks.contestants.loops:hand"``.
        workloads: Those that it can train.
        gated: Whether it waits in a process of its own.
        needs: The module that must be importable; a peer's library, in the peers' environment.
        peer: Whether it runs under the peers' interpreter.
        tolerance: How far, relatively, its loss may lie from that of the loop by hand.
        why: Why the tolerance is larger than rounding, where it is.
        choices: Keyword arguments of the function.
        compiles: Whether its first epoch compiles.
        updates: Updates of a round by workload, where it would take too long to train whole epochs.
    """

    name: str
    place: str
    workloads: tuple[str, ...] = ALL
    gated: bool = False
    needs: str = "torch"
    peer: bool = False
    tolerance: float = 1e-4
    why: str = ""
    choices: Mapping[str, object] = field(default_factory=dict)
    updates: Mapping[str, int] = field(default_factory=dict)
    compiles: bool = False

    def function(self) -> Callable[..., Timed | None]:
        """Import and return the function; its choices are not applied yet."""
        module, _, name = self.place.partition(":")
        function: Callable[..., Timed | None] = getattr(importlib.import_module(module), name)
        return function

    def missing(self) -> str | None:
        """Return why it cannot take part in this process's environment, or None."""
        if importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed"
        check = getattr(importlib.import_module(self.place.partition(":")[0]), "missing", None)
        return None if check is None else check(**self.choices)


_SHORT = {"W1": 300, "W2": 120, "W3": 4, "W4": 200}
_JAX = "another compiler's arithmetic"
_OWN = "benchmarks.contestants.flow"


def _peer(
    name: str,
    module: str,
    needs: str,
    workloads: tuple[str, ...] = ALL,
    *,
    tolerance: float = 1e-4,
    why: str = "",
    choices: Mapping[str, object] = MappingProxyType({}),
    updates: Mapping[str, int] = MappingProxyType(_SHORT),
) -> Contestant:
    """Return a library of the peers' environment."""
    place = f"benchmarks.contestants.peers.{module}:train"
    return Contestant(name, place, workloads, True, needs, True, tolerance, why, choices, updates, needs == "jax")


CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("hand", "benchmarks.contestants.loops:hand"),
    Contestant("hand-again", "benchmarks.contestants.loops:hand"),
    Contestant("hand-apart", "benchmarks.contestants.loops:hand_apart", ("W1", "W2", "W3"), gated=True),
    Contestant("hand-best", "benchmarks.contestants.loops:hand_best"),
    Contestant("torchflow", f"{_OWN}:watched"),
    Contestant("torchflow-bare", f"{_OWN}:bare", ("W1", "W2", "W3")),
    Contestant("hand-channels-last", "benchmarks.contestants.loops:hand_channels_last", ("W3",)),
    Contestant("torchflow-channels-last", f"{_OWN}:watched", ("W3",), choices={"memory_format": "channels_last"}),
    Contestant("torchflow-compile", f"{_OWN}:compiled", gated=True, choices={"updates": 1}, compiles=True),
    Contestant("torchflow-compile-32", f"{_OWN}:compiled", ("W1", "W2", "W4"), gated=True, choices={"updates": 32}, compiles=True),
    Contestant(
        "torchflow-compile-epoch", f"{_OWN}:compiled", ("W1", "W2", "W4"), gated=True, choices={"updates": "epoch"}, compiles=True
    ),
    Contestant("tutorial", "benchmarks.contestants.loops:tutorial", updates=_SHORT),
    _peer("lightning-bare", "lightning", "lightning", ("W1", "W2", "W3"), choices={"bare": True}),
    _peer("lightning", "lightning", "lightning", choices={"bare": False}),
    _peer("ignite", "ignite", "ignite"),
    _peer("skorch", "skorch", "skorch"),
    _peer("accelerate", "accelerate", "accelerate"),
    _peer("poutyne", "poutyne", "poutyne"),
    _peer("fastai", "fastai", "fastai"),
    _peer("transformers", "transformers", "transformers"),
    _peer("keras", "keras", "keras", tolerance=1e-2, why="its own optimizers"),
    _peer("jax-step", "jax", "jax", ("W1", "W2", "W3"), choices={"scan": False}, tolerance=1e-2, why=_JAX, updates={}),
    _peer("jax-scan", "jax", "jax", ("W1", "W2"), choices={"scan": True}, tolerance=1e-2, why=_JAX, updates={}),
)
