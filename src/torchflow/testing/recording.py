"""What a process of a verification writes down, line by line, and how it is read again.

::

    {"paths": ["model/0.weight", ...]}               the names of the values to come, where they have changed
    {"started": 15, "values": [...]}                 the updates that it went on from, and the weights that it began with
    {"update": 16, "values": [...]}                  one text for every path
    {"killed": "after update 17 (SIGKILL)"}          it is about to be killed, as planned
    {"ended": "all 4 epochs are done", "stopped": false, "values": [...]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from torchflow.data.batches import Batches
from torchflow.events import Stepped
from torchflow.intervals import Progress
from torchflow.run import Run
from torchflow.testing.leaves import leaves

Snapshot = dict[str, str]
"""The exact text of every value by its path, in the order in which a difference would come about."""


@dataclass
class Recording:
    """What one process has written.

    Attributes:
        started: The updates that it went on from.
        first: The weights that it began with.
        updates: The values after every update that it made.
        killed: How it was killed as planned; None where it was not.
        ended: Why the run ended; None where it did not.
        stopped: Whether a callback ended it.
        end: The values at the end.
        left_out: The observers that were taken away.
    """

    started: int = 0
    first: Snapshot = field(default_factory=dict)
    updates: dict[int, Snapshot] = field(default_factory=dict)
    killed: str | None = None
    ended: str | None = None
    stopped: bool = False
    end: Snapshot = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def last(self) -> int:
        """The last update that it made, or went on from where it made none."""
        return max(self.updates, default=self.started)

    @property
    def values(self) -> int:
        """How many values it wrote down after an update."""
        return max(map(len, self.updates.values()), default=0)

    @property
    def story(self) -> str:
        """What it did, in one line."""
        made = f"updates {self.started + 1} to {self.last}" if self.updates else f"no update after {self.started}"
        return f"{made}: {self.killed or self.ended}"


class Pen:
    """Writes lines that outlive the process: each is handed to the kernel before the next thing happens.

    Args:
        path: The file; it is made anew.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")
        self._paths: list[str] = []

    def write(self, **line: Any) -> None:
        """Write one line."""
        print(json.dumps(line), file=self._file, flush=True)

    def write_values(self, values: Iterable[tuple[str, str]], **line: Any) -> None:
        """Write one line with values, and before it their paths where they have changed."""
        snapshot = dict(values)
        if self._paths != list(snapshot):
            self._paths = list(snapshot)
            self.write(paths=self._paths)
        self.write(**line, values=list(snapshot.values()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> Recording:
    """Read what a process has written; a process that wrote nothing made nothing."""
    recording = Recording()
    paths: list[str] = []
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):  # its writer was killed in the middle of it
            break
        found = json.loads(line)
        paths = found.get("paths", paths)
        snapshot = dict(zip(paths, found["values"], strict=True)) if "values" in found else {}
        if "started" in found:
            recording.started, recording.first = found["started"], snapshot
        elif "update" in found:
            recording.updates[found["update"]] = snapshot
        elif "ended" in found:
            recording.ended, recording.stopped, recording.end = found["ended"], found["stopped"], snapshot
        recording.killed = found.get("killed", recording.killed)
        recording.left_out = tuple(found.get("left_out", recording.left_out))
    return recording


class WatchedBatches:
    """The batches of a run, each written down as it is handed to the loop.

    Args:
        batches: The run's own.
    """

    def __init__(self, batches: Batches[Any]) -> None:
        self._batches = batches
        self.length, self.samples = batches.length, batches.samples
        self.indices, self.describe, self.close = batches.indices, batches.describe, batches.close
        self._seen: dict[tuple[int, int], list[tuple[str, str]]] = {}

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """Return the batches of an epoch from batch ``start`` on."""
        for number, batch in enumerate(self._batches.epoch(epoch, start), start):
            self._seen[epoch, number] = list(leaves(batch, ""))
            yield batch

    def consumed(self, before: Progress, now: Progress) -> Iterator[tuple[str, str]]:
        """Yield the indices and the content of every batch of an update, and forget them."""
        for position, number in enumerate(range(before.batch, now.batch)):
            indices = self.indices(before.epoch, number)
            if indices is not None:
                yield f"batches/{position}/indices", ", ".join(map(str, indices))
            for path, text in self._seen.pop((before.epoch, number), []):
                yield f"batches/{position}{path}", text


def values_after(run: Run[Any, Any], event: Stepped, roots: Iterable[str] | None = None) -> Iterator[tuple[str, str]]:
    """Yield everything that an update read, gave and changed: causes before their effects.

    Args:
        run: The run, whose batches are watched; it is read and nothing else.
        event: The update.
        roots: Where the paths begin; None means everywhere.
    """
    state = {**run.state(), "attributes": attributes(run)}
    seen = {"loss": event.loss, "metrics": dict(event.metrics), "unsaved": unsaved(run.model)}
    wanted = {**seen, **{root: state[root] for root in STATE}}
    assert isinstance(run.batches, WatchedBatches)
    yield from run.batches.consumed(run.previous, run.progress)
    for root, tree in wanted.items():
        if roots is None or root in roots:
            yield from leaves(tree, root)


STATE = (
    "model",
    "optimizers",
    "schedulers",
    "averages",
    "validated",
    "callbacks",
    "attributes",
    "progress",
    "previous",
    "epoch_started",
    "stop",
)
"""The branches of a run's state, without what it was made of."""


def values_at_end(run: Run[Any, Any], reason: str) -> Iterator[tuple[str, str]]:
    """Yield the whole state of a run that has ended, its reason and its history."""
    yield "reason", reason
    yield from leaves(getattr(run.callbacks["history"], "rows", None), "history")
    yield from leaves({**run.state(), "attributes": attributes(run)}, "end")


def attributes(run: Run[Any, Any]) -> dict[str, Any]:
    """Return what the user's callbacks keep in attributes: what changes there and is not in ``state()`` is lost by a kill."""
    return {
        name: dict(vars(callback))
        for name, callback in run.callbacks.items()
        if type(callback).__module__.partition(".")[0] != "torchflow" and vars(callback)
    }


def unsaved(model: nn.Module) -> dict[str, Any]:
    """Return what a model keeps and no checkpoint holds: buffers that are not persistent, and numbers of the user's modules.

    A difference in these alone is none, for a cache may be lost; beside another one they say where to look.
    """
    saved = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    found: dict[str, Any] = {name: buffer for name, buffer in model.named_buffers() if id(buffer) not in saved}
    for name, module in model.named_modules():
        if type(module).__module__.partition(".")[0] != "torch":
            values = {key: value for key, value in vars(module).items() if isinstance(value, (bool, int, float))}
            found.update({f"{name}.{key}".lstrip("."): value for key, value in values.items()})
    return found
