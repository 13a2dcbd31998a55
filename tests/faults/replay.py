"""F8: what a power cut may leave on a disk, replayed from the recorded operations of a save.

A model of a file system that keeps what ``fsync`` promises and not a word more: entries of a folder are durable from the folder's
sync on, bytes from the file's sync on, and before that each of them may be there or not, in any combination, and bytes may be
lost, cut or zero. A rename is one change of one folder.
"""

from __future__ import annotations

import random
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import torch

from tests.faults.campaign import Campaign, Trials
from tests.laws.test_law_8_checkpoints import ENVIRONMENT, RUN
from torchflow.checkpoint import Store, read_checkpoint
from torchflow.checkpoint.files import FileSystem

MOST_COMBINATIONS = 256
"""Of the combinations at one point; where there are more, so many are drawn at random."""
LOSSES = ("kept", "lost", "cut", "zero")
SIZES = (5, 2_000, 60_000)


@dataclass
class Node:
    """A file or a folder of the model: what it holds, and how much of that is durable."""

    content: bytes = b""
    synced: bytes | None = None
    folder: bool = False


@dataclass
class Change:
    """One change of one folder's entries: what appears under which name, and which name goes."""

    folder: int
    durable: bool = False
    gone: str | None = None
    new: tuple[str, int] | None = None


@dataclass
class Disk(FileSystem):
    """The real disk, which also remembers every change as a power cut sees it.

    Args:
        root: The folder that is modelled; what is in it now is durable.
    """

    root: Path
    nodes: list[Node] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    paths: dict[Path, int] = field(default_factory=dict)
    open: dict[int, int] = field(default_factory=dict)
    at_point: Callable[[Disk], None] | None = None

    def __post_init__(self) -> None:
        self._adopt(self.root)

    def _adopt(self, path: Path) -> int:
        content = b"" if path.is_dir() else path.read_bytes()
        number = self._node(path, Node(content, content, path.is_dir()))
        for entry in sorted(path.iterdir()) if path.is_dir() else ():
            self.changes.append(Change(number, True, None, (entry.name, self._adopt(entry))))
        return number

    def _node(self, path: Path, node: Node) -> int:
        self.nodes.append(node)
        self.paths[path] = len(self.nodes) - 1
        return self.paths[path]

    def _changed(self, path: Path, gone: str | None, new: tuple[str, int] | None) -> None:
        self.changes.append(Change(self.paths[path.parent], False, gone, new))
        self._point()

    def _point(self) -> None:
        if self.at_point is not None:
            self.at_point(self)

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self._changed(path, None, (path.name, self._node(path, Node(folder=True))))

    def create(self, path: Path) -> int:
        descriptor = super().create(path)
        self.open[descriptor] = self._node(path, Node())
        self._changed(path, None, (path.name, self.open[descriptor]))
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        written = super().write(descriptor, data)
        self.nodes[self.open[descriptor]].content += bytes(data[:written])
        self._point()
        return written

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        node = self.nodes[self.open[descriptor]]
        node.synced = node.content
        self._point()

    def rename(self, source: Path, target: Path) -> None:
        super().rename(source, target)
        for path in [path for path in self.paths if path.is_relative_to(source)]:
            self.paths[target / path.relative_to(source)] = self.paths.pop(path)
        self._changed(target, source.name, (target.name, self.paths[target]))

    def sync_folder(self, path: Path) -> None:
        super().sync_folder(path)
        for change in self.changes:
            change.durable = change.durable or change.folder == self.paths[path]
        self._point()

    def remove(self, path: Path) -> None:
        super().remove(path)
        self._changed(path, path.name, None)

    def remove_folder(self, path: Path) -> None:
        super().remove_folder(path)
        self._changed(path, path.name, None)

    def after_cut(self, target: Path, kept: tuple[bool, ...], loss: str) -> None:
        """Write what a power cut at this moment may have left: of the open changes those that are kept, and lost bytes."""
        folders: dict[int, dict[str, int]] = {}
        choice = iter(kept)
        for change in self.changes:
            if change.durable or next(choice):
                entries = folders.setdefault(change.folder, {})
                entries.pop(change.gone or "", None)
                entries.update([change.new] if change.new else [])
        self._write(0, target, folders, loss)

    def _write(self, number: int, target: Path, folders: dict[int, dict[str, int]], loss: str) -> None:
        node = self.nodes[number]
        if not node.folder:
            target.write_bytes(_left_of(node, loss))
            return
        target.mkdir()
        for name, entry in folders.get(number, {}).items():
            self._write(entry, target / name, folders, loss)


def _left_of(node: Node, loss: str) -> bytes:
    if node.synced == node.content or loss == "kept":
        return node.content
    return {"lost": b"", "cut": node.content[: len(node.content) // 2], "zero": bytes(len(node.content))}[loss]


def _combinations(opened: int, source: random.Random) -> Iterator[tuple[bool, ...]]:
    if 2**opened <= MOST_COMBINATIONS:
        yield from product((False, True), repeat=opened)
        return
    for _ in range(MOST_COMBINATIONS):
        yield tuple(source.random() < 0.5 for _ in range(opened))


def _sized_state(step: int, note: str, size: int) -> dict[str, Any]:
    """A state whose every part tells which save it belongs to."""
    weights = {str(i): torch.full((size,), float(step * 10 + len(note))) for i in range(3)}
    return {"model": weights, "progress": {"updates": step, "note": note}}


def replayed(campaign: Campaign) -> Trials:
    """F8: every state that a power cut may leave at every operation gives the old or the new checkpoint, whole."""
    trials, source = Trials(), campaign.random("F8")
    chance = min(1.0, campaign.scale)
    for size in SIZES:
        for action in ((3, "", False), (2, "end", False), (3, "", True)):
            _replay(campaign.fresh(), size, action, trials, source, chance)
    return trials


def _replay(parent: Path, size: int, action: tuple[int, str, bool], trials: Trials, source: random.Random, chance: float) -> None:
    """Make one save, and at each of its operations every state that a cut may leave; chance takes a part of them."""
    folder, (step, note, pruned) = parent / "run", action
    with Store(folder) as store:
        store.open(RUN)
        for earlier in (1, 2):
            store.publish(earlier, _sized_state(earlier, "", size), environment=ENVIRONMENT)
    acknowledged = False

    def cut(disk: Disk) -> None:
        opened = sum(not change.durable for change in disk.changes)
        unsynced = any(node.synced != node.content for node in disk.nodes if not node.folder)
        for kept in _combinations(opened, source):
            for loss in LOSSES if unsynced else LOSSES[:1]:
                if source.random() < chance:
                    _judge(disk, parent / "cut", kept, loss, trials, f"save {action} of size {size}", acknowledged=acknowledged)

    disk = Disk(folder)
    with Store(folder, files=disk) as store:
        store.open(RUN)
        disk.at_point = cut
        store.publish(step, _sized_state(step, note, size), environment=ENVIRONMENT)
        acknowledged = True
        if pruned:
            store.prune(1)
        cut(disk)


def _judge(disk: Disk, target: Path, kept: tuple[bool, ...], loss: str, trials: Trials, name: str, *, acknowledged: bool) -> None:
    disk.after_cut(target, kept, loss)
    problem = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            loaded = Store(target).load()
        for path in (target / "checkpoints").glob("step-*"):
            read_checkpoint(path)
        problem = "nothing is left" if loaded is None else _mixed(loaded.state, acknowledged)
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}"
    trials.count(f"{name}, {len(disk.changes)} changes, {kept}, {loss}", problem)
    shutil.rmtree(target)


def _mixed(state: dict[str, Any], acknowledged: bool) -> str | None:
    step, note = state["progress"]["updates"], state["progress"]["note"]
    value = float(step * 10 + len(note))
    if not all(bool((tensor == value).all()) for tensor in state["model"].values()):
        return "it is of two saves"
    if (step, note) == (2, ""):
        return "the new one had been reported" if acknowledged else None
    return None if (step, note) in ((3, ""), (2, "end")) else f"it is {step} {note!r}"
