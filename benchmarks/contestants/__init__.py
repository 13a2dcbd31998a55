"""Who takes part: loops by hand, torchflow, and other libraries, each training the same workload.

There are two kinds. A *timed* contestant is a function that trains one epoch afresh, in this process, and returns the seconds
and the model. A *gated* one trains on and on in a process of its own and waits at the start of every epoch for its turn.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


_SHORT = {"W1": 500, "W2": 200}
_OWN = "benchmarks.contestants.flow"


def _peer(name: str, module: str, needs: str, workloads: tuple[str, ...] = ALL, **rest: object) -> Contestant:
    place = module if ":" in module else f"benchmarks.contestants.{module}:train"
    return Contestant(name, place, workloads, gated=True, needs=needs, peer=True, updates=_SHORT, **rest)  # type: ignore[arg-type]


CONTESTANTS: tuple[Contestant, ...] = (
    Contestant("hand", "benchmarks.contestants.loops:hand"),
    Contestant("hand-again", "benchmarks.contestants.loops:hand"),
    Contestant("hand-best", "benchmarks.contestants.loops:hand_best"),
    Contestant("torchflow", f"{_OWN}:watched"),
    Contestant("torchflow-bare", f"{_OWN}:bare", ("W1", "W2", "W3")),
    Contestant("hand-channels-last", "benchmarks.contestants.loops:hand_channels_last", ("W3",)),
    Contestant("torchflow-channels-last", f"{_OWN}:watched", ("W3",), choices={"memory_format": "channels_last"}),
    Contestant("tutorial", "benchmarks.contestants.loops:tutorial", updates=_SHORT),
    Contestant("torchflow-compile", f"{_OWN}:compiled", gated=True, choices={"updates": 1}),
    Contestant("torchflow-compile-32", f"{_OWN}:compiled", ("W1", "W2", "W4"), gated=True, choices={"updates": 32}),
    Contestant("torchflow-compile-epoch", f"{_OWN}:compiled", ("W1", "W2", "W4"), gated=True, choices={"updates": "epoch"}),
)
