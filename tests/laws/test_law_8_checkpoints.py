"""Law 8: a checkpoint that was reported is never lost, never half-written, never wrong in silence, and loading one executes nothing.

Each test says which break of the code makes it fail; each was seen to fail with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchflow.checkpoint import Store, load_model, read_checkpoint, save_model
from torchflow.checkpoint.files import FileSystem
from torchflow.errors import CheckpointError, CorruptCheckpointError
from torchflow.types import State

ENVIRONMENT: dict[str, State] = {"torch": "2.13.0", "threads": 2}
RUN: dict[str, State] = {"seed": 0}


def state_of(step: int, note: str = "") -> dict[str, State]:
    """A state whose every part tells which save it belongs to, so that a mixture of two is seen."""
    weights: dict[str, State] = {str(i): torch.full((5,), step * 10 + len(note), dtype=torch.float32) for i in range(3)}
    return {"model": weights, "progress": {"updates": step, "note": note}}


def which(state: Mapping[str, Any]) -> tuple[int, str]:
    """Say which save a loaded state is of, and fail if it is of more than one."""
    step, note = state["progress"]["updates"], state["progress"]["note"]
    assert all(torch.equal(tensor, torch.full((5,), float(step * 10 + len(note)))) for tensor in state["model"].values())
    assert list(state["model"]) == ["0", "1", "2"]
    return step, note


class Killed(BaseException):
    """The process ends here; no handler for exceptions may notice."""


class Disk(FileSystem):
    """A real disk that can stop at an operation, answer with an error, and lose in a power cut what was not synced.

    Args:
        dies_at: The operation during which the process is killed, counted from 0; a write gets half-way.
        fails_at: The operation that answers with ``error``.
        error: An errno; None for a write that takes one byte only.
        once: Whether only that operation fails, or all from there on.
    """

    def __init__(self, *, dies_at: int = -1, fails_at: int = -1, error: int | None = None, once: bool = True) -> None:
        self.operations: list[str] = []
        self.dead = False
        self._dies_at, self._fails_at, self._error, self._once = dies_at, fails_at, error, once
        self._open: dict[int, Path] = {}
        self._unsynced: set[Path] = set()
        self._renamed: list[tuple[Path, Path]] = []

    def _begin(self, name: str) -> bool:
        """Count an operation; True if it is to do half of its work and die."""
        if self.dead:
            raise Killed
        number = len(self.operations)
        self.operations.append(name)
        failing = number == self._fails_at or (not self._once and number > self._fails_at >= 0)
        if failing and self._error is not None and name != "close":
            raise OSError(self._error, os.strerror(self._error))
        if number == self._dies_at:
            self.dead = True
            if name != "write":
                raise Killed
        return self.dead

    def make_folder(self, path: Path) -> None:
        self._begin("make_folder")
        super().make_folder(path)

    def create(self, path: Path) -> int:
        self._begin("create")
        descriptor = super().create(path)
        self._open[descriptor] = path
        self._unsynced.add(path)
        return descriptor

    def write(self, descriptor: int, data: memoryview) -> int:
        if self._begin("write"):
            super().write(descriptor, data[: len(data) // 2])
            raise Killed
        short = self._error is None and self._fails_at >= 0
        return super().write(descriptor, data[:1] if short else data)

    def sync(self, descriptor: int) -> None:
        self._begin("sync")
        super().sync(descriptor)
        self._unsynced.discard(self._open[descriptor])

    def close(self, descriptor: int) -> None:
        self._open.pop(descriptor)
        super().close(descriptor)  # a killed process closes its files too
        self._begin("close")

    def rename(self, source: Path, target: Path) -> None:
        self._begin("rename")
        replaces = os.path.lexists(target)
        super().rename(source, target)
        self._unsynced = {target / path.relative_to(source) if path.is_relative_to(source) else path for path in self._unsynced}
        if not replaces:
            self._renamed.append((source, target))

    def sync_folder(self, path: Path) -> None:
        self._begin("sync_folder")
        super().sync_folder(path)
        self._renamed = [pair for pair in self._renamed if pair[1].parent != path]

    def remove(self, path: Path) -> None:
        self._begin("remove")
        super().remove(path)

    def remove_folder(self, path: Path) -> None:
        self._begin("remove_folder")
        super().remove_folder(path)

    def cut_power(self) -> None:
        """Lose the content of files that were not synced, and names that were not."""
        for path in self._unsynced:
            if path.is_file():
                path.write_bytes(bytes(path.stat().st_size // 2))
        for source, target in reversed(self._renamed):
            if target.exists() and not source.exists():
                target.rename(source)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the acknowledged steps 1 and 2."""
    folder = tmp_path_factory.mktemp("base") / "run"
    with Store(folder) as store:
        store.open(RUN)
        for step in (1, 2):
            store.publish(step, state_of(step), environment=ENVIRONMENT)
    return folder


def copied(base: Path, folder: Path) -> Path:
    shutil.copytree(base, folder, symlinks=True)
    return folder


def save_the_next_step(store: Store) -> None:
    store.publish(3, state_of(3), environment=ENVIRONMENT)


def save_the_same_step_again(store: Store) -> None:
    store.publish(2, state_of(2, "end"), environment=ENVIRONMENT)


def save_and_prune(store: Store) -> None:
    store.publish(3, state_of(3), environment=ENVIRONMENT)
    store.prune(1)


def only_prune(store: Store) -> None:
    store.prune(1)


def point(store: Store) -> None:
    store.point("best", 1)


ACTIONS: list[tuple[Callable[[Store], None], tuple[int, str]]] = [
    (save_the_next_step, (3, "")),
    (save_the_same_step_again, (2, "end")),
    (save_and_prune, (3, "")),
    (only_prune, (2, "")),
    (point, (2, "")),
]


def attempt(folder: Path, disk: Disk, action: Callable[[Store], None]) -> bool:
    """Open a run and act; True if the action was acknowledged, False if the process was killed amid it."""
    store = Store(folder, files=disk)
    try:
        store.open(RUN)
        action(store)
    except Killed:
        return False
    finally:
        store.close()  # the kernel does that for a process that was killed
    return True


def kill_points(base: Path, tmp_path: Path, action: Callable[[Store], None]) -> Iterator[tuple[Path, Disk]]:
    """Yield a fresh copy for each operation of an action, with a disk that dies there; the last one survives."""
    counting = Disk()
    assert attempt(copied(base, tmp_path / "count"), counting, action)
    for number in range(len(counting.operations) + 1):
        yield copied(base, tmp_path / f"at-{number}"), Disk(dies_at=number)


def loaded_quietly(folder: Path) -> tuple[int, str]:
    """Load as a resume does: nothing was damaged, so nothing may be warned of."""
    with Store(folder) as store, warnings.catch_warnings():
        warnings.simplefilter("error")
        store.open(RUN)
        loaded = store.load()
    assert loaded is not None
    assert not list(folder.rglob(".tmp-*"))
    for published in (folder / "checkpoints").iterdir():
        read_checkpoint(published)  # no half of a checkpoint bears a valid name
    return which(loaded.state)


@pytest.mark.parametrize("power", ["kept", "cut"])
@pytest.mark.parametrize(("action", "new"), ACTIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_kill_at_any_file_operation_leaves_the_old_or_the_new_checkpoint(
    base: Path, tmp_path: Path, action: Callable[[Store], None], new: tuple[int, str], power: str
) -> None:
    """Fails without the rename (writing into the final folder), without syncing (power cut), with removal before publishing or without a rename."""
    outcomes = []
    for folder, disk in kill_points(base, tmp_path, action):
        acknowledged = attempt(folder, disk, action)
        if power == "cut":
            disk.cut_power()
        found = loaded_quietly(folder)
        assert found == new or (found == (2, "") and not acknowledged)
        outcomes.append(found)
        with Store(folder) as store:  # and life goes on
            store.open(RUN)
            store.publish(4, state_of(4), environment=ENVIRONMENT)
        assert loaded_quietly(folder) == (4, "")
    assert outcomes[-1] == new
    assert set(outcomes) == {new, (2, "")}


def test_a_kill_at_any_operation_of_the_very_first_save_leaves_nothing_or_all(tmp_path: Path) -> None:
    """Fails without the rename, or when a half-made folder is taken for a used or for a broken run."""

    def first(store: Store) -> None:
        store.publish(0, state_of(0), environment=ENVIRONMENT)

    counting = Disk()
    assert attempt(tmp_path / "count", counting, first)
    outcomes = set()
    for number in range(len(counting.operations) + 1):
        folder = tmp_path / f"at-{number}"
        acknowledged = attempt(folder, Disk(dies_at=number), first)
        with Store(folder) as store:
            store.open(RUN)
            loaded = store.load()
            assert loaded is not None or not acknowledged
            assert loaded is None or which(loaded.state) == (0, "")
            first(store)
        assert loaded_quietly(folder) == (0, "")
        outcomes.add(loaded is None)
    assert outcomes == {True, False}


def test_a_kill_amid_the_recovery_from_a_kill_loses_nothing(base: Path, tmp_path: Path) -> None:
    """Fails when the sweep of temporary files takes more than these."""
    broken = copied(base, tmp_path / "broken")
    assert not attempt(broken, Disk(dies_at=12), save_the_next_step)
    assert list(broken.rglob(".tmp-*"))
    for folder, disk in kill_points(broken, tmp_path, lambda store: None):
        attempt(folder, disk, lambda store: None)
        assert loaded_quietly(folder) == (2, "")


def test_everything_is_synced_before_the_one_rename_and_the_rename_before_the_report(base: Path, tmp_path: Path) -> None:
    """Fails when any sync is left out or moved."""
    disk = Disk()
    with Store(copied(base, tmp_path / "run"), files=disk) as store:
        store.open(RUN)
        before = len(disk.operations)
        save_the_next_step(store)
    operations = [name for name in disk.operations[before:] if name not in ("write", "close")]
    assert operations == ["make_folder", *["create", "sync"] * 3, "sync_folder", "rename", "sync_folder"]


@pytest.mark.parametrize("once", [True, False], ids=["once", "persistently"])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.EMFILE, errno.EACCES, None])
def test_a_disk_error_at_any_operation_is_typed_and_older_checkpoints_stay(
    base: Path, tmp_path: Path, error: int | None, once: bool
) -> None:
    """Fails when an OSError leaves the store, or when a failed save leaves its folder under a valid name."""
    counting = Disk()
    attempt(copied(base, tmp_path / "count"), counting, save_and_prune)
    reports: list[CheckpointError] = []
    complete: list[bool] = []
    for number in range(len(counting.operations)):
        folder = copied(base, tmp_path / f"at-{number}")
        disk = Disk(fails_at=number, error=error, once=once)
        published = False
        try:
            published = attempt(folder, disk, save_and_prune)
        except CheckpointError as caught:  # not raised for each of them: some may fail without harm
            reports.append(caught)
            complete.append(isinstance(caught.__cause__, OSError) and str(folder) in str(caught))
        assert published or error is not None
        found = loaded_quietly(folder)
        assert found == (3, "") or (found == (2, "") and not published)
    assert all(complete), reports
    assert bool(reports) == (error is not None)


def damaged_copies(original: bytes, other: bytes) -> dict[str, bytes | None]:
    half = len(original) // 2
    return {
        "deleted": None,
        "empty": b"",
        "one byte": original[:1],
        "half": original[:half],
        "last byte missing": original[:-1],
        "one byte more": original + b"\0",
        "a line break more": original + b"\n",
        "zeros": bytes(len(original)),
        "middle turned": original[:half] + bytes([original[half] ^ 1]) + original[half + 1 :],
        "swapped with another": other,
    }


FILES = ("manifest.json", "state.json", "tensors-00000-of-00001.safetensors")


def refused(folder: Path) -> None:
    """The second of two checkpoints is bad: it is refused by name, and passed over by default, kept for a person to see."""
    bad = folder / "checkpoints" / "step-000000002"
    with pytest.raises(CorruptCheckpointError, match="step-000000002"):
        read_checkpoint(bad)
    with Store(folder) as store:
        store.open(RUN)
        with pytest.raises(CorruptCheckpointError):
            store.load(2)
        with pytest.warns(UserWarning, match="step-000000002 is not sound and step-000000001 is used instead"):
            loaded = store.load()
        assert loaded is not None
        assert which(loaded.state) == (1, "")
        assert store.steps() == [1]
    assert [name.startswith(".bad-step-000000002-") for name in sorted(os.listdir(folder / "checkpoints"))] == [True, False]


@pytest.mark.parametrize("name", FILES)
def test_damage_to_any_file_is_refused_and_the_checkpoint_before_is_used(base: Path, tmp_path: Path, name: str) -> None:
    """Fails without the digest of the manifest, or when a mismatch is not passed over."""
    file = base / "checkpoints" / "step-000000002" / name
    other = file.with_name(FILES[FILES.index(name) - 1]).read_bytes()
    for kind, content in damaged_copies(file.read_bytes(), other).items():
        folder = copied(base, tmp_path / kind)
        there = folder / "checkpoints" / "step-000000002" / name
        there.unlink() if content is None else there.write_bytes(content)
        refused(folder)


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_regular_file_is_refused_before_it_is_opened(
    base: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when files are not looked at before they are opened."""
    really_open = os.open

    def guarded(path: Path, flags: int, mode: int = 0o777) -> int:
        if os.path.lexists(path) and not flags & os.O_DIRECTORY:
            assert stat.S_ISREG(os.lstat(path).st_mode), path
        return really_open(path, flags, mode)

    monkeypatch.setattr("os.open", guarded)

    def listening(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as end, contextlib.chdir(path.parent):  # a socket's name must be short
            end.bind(path.name)

    true = base / "checkpoints" / "step-000000002" / name
    kinds: dict[str, Callable[[Path], object]] = {
        "folder": lambda path: path.mkdir(),
        "link": lambda path: path.symlink_to(true),
        "dangling": lambda path: path.symlink_to("nowhere"),
        "device": lambda path: path.symlink_to("/dev/zero"),
        "pipe": os.mkfifo,
        "socket": listening,
    }
    for kind, make in kinds.items():
        folder = copied(base, tmp_path / kind)
        there = folder / "checkpoints" / "step-000000002" / name
        there.unlink()
        make(there)
        refused(folder)


def test_a_checkpoint_that_is_no_folder_or_has_another_name_is_refused(base: Path, tmp_path: Path) -> None:
    """Fails when the name of the folder is not compared with the manifest: step 1 would be taken for step 2."""

    def renamed(there: Path) -> None:
        shutil.copytree(there.with_name("step-000000001"), there)

    kinds: dict[str, Callable[[Path], object]] = {
        "empty": lambda path: path.mkdir(),
        "file": lambda path: path.write_bytes(b"x"),
        "link": lambda path: path.symlink_to(base / "checkpoints" / "step-000000002"),
        "renamed": renamed,
    }
    for kind, make in kinds.items():
        folder = copied(base, tmp_path / kind)
        there = folder / "checkpoints" / "step-000000002"
        shutil.rmtree(there)
        make(there)
        refused(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_grew_to_a_terabyte_is_refused_without_reading_it(base: Path, name: str) -> None:
    """Fails for want of memory without the comparison of sizes."""
    with tempfile.TemporaryDirectory() as parent:  # removed at once: whoever copied this folder would copy a terabyte
        folder = copied(base, Path(parent) / "run")
        os.truncate(folder / "checkpoints" / "step-000000002" / name, 2**40)
        refused(folder)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_never_loaded(base: Path, data: st.DataObject) -> None:
    """Fails without the hash of a file, and for the manifest without its digest."""
    original = base / "checkpoints" / "step-000000002"
    name = data.draw(st.sampled_from(FILES))
    content = bytearray((original / name).read_bytes())
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    with tempfile.TemporaryDirectory() as parent:
        copy = copied(original, Path(parent) / original.name)
        (copy / name).write_bytes(content)
        with pytest.raises(CorruptCheckpointError, match=name):
            read_checkpoint(copy)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_one_flipped_bit_in_a_model_file_is_never_loaded(data: st.DataObject) -> None:
    """Fails without the digest in the header's metadata."""
    model = nn.Linear(3, 2)
    before = [tensor.clone() for tensor in model.parameters()]
    with tempfile.TemporaryDirectory() as parent:
        path = Path(parent) / "model.safetensors"
        save_model(nn.Linear(3, 2), path)
        content = bytearray(path.read_bytes())
        bit = data.draw(st.integers(0, 8 * len(content) - 1))
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            load_model(path, into=model)
    assert all(map(torch.equal, model.parameters(), before))
