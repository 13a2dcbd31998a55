"""The store of a run: its folder, its lease, and which checkpoint is chosen, kept or removed."""

from __future__ import annotations

import errno
import json
import math
import multiprocessing
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from torchflow.checkpoint import Loaded, Store, read_checkpoint, write_checkpoint
from torchflow.checkpoint import lease as lease_module
from torchflow.checkpoint.files import FileSystem
from torchflow.checkpoint.lease import Lease
from torchflow.checkpoint.run_file import read_history
from torchflow.errors import (
    ArgumentTypeError,
    ArgumentValueError,
    CheckpointError,
    CorruptCheckpointError,
    MismatchError,
    StateError,
)
from torchflow.types import State

RUN: dict[str, State] = {"seed": 3, "data": {"length": 10}}
ENVIRONMENT: dict[str, State] = {"threads": 2}


def state_of(step: int) -> dict[str, State]:
    return {"w": torch.full((2,), float(step)), "step": step}


def publish(store: Store, *steps: int) -> None:
    for step in steps:
        store.publish(step, state_of(step), environment=ENVIRONMENT)


def damage(store: Store, name: str) -> None:
    (store.folder / "checkpoints" / name / "state.json").write_text("{}")


def loaded(store: Store, step: int | None = None) -> Loaded:
    found = store.load(step)
    assert found is not None
    return found


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with Store(tmp_path / "run") as opened:
        opened.open(RUN)
        yield opened


def test_making_a_store_touches_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    assert not store.is_used()
    assert store.steps() == []
    assert store.load() is None
    assert store.pointed("best") is None
    store.close()
    assert os.listdir(tmp_path) == []


def test_what_is_published_is_loaded(store: Store) -> None:
    path = store.publish(5, state_of(5), environment=ENVIRONMENT)
    assert path == store.folder / "checkpoints" / "step-000000005"
    found = loaded(store)
    assert (found.step, found.environment, found.path, found.parent) == (5, ENVIRONMENT, path, None)
    assert found.state["w"].tolist() == [5.0, 5.0]
    assert read_checkpoint(path).state["step"] == 5


def test_each_checkpoint_names_the_step_before_it(store: Store) -> None:
    publish(store, 1, 4)
    assert loaded(store, 4).parent == 1


def test_a_folder_is_used_once_it_holds_anything_but_a_lock(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    (folder / "checkpoints" / ".tmp-step").mkdir(parents=True)
    (folder / "lock").touch()
    (folder / ".tmp-run.json").touch()
    assert not Store(folder).is_used()
    (folder / "notes.txt").touch()
    assert Store(folder).is_used()
    (folder / "notes.txt").unlink()
    (folder / "checkpoints" / "step-000000001").mkdir()
    assert Store(folder).is_used()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    store = Store(tmp_path / "run")
    with pytest.raises(CheckpointError, match="is no readable folder: Not a directory; choose another path"):
        store.is_used()
    with pytest.raises(CheckpointError, match="cannot be opened"):
        store.open(RUN)
    with pytest.raises(CheckpointError, match="cannot be opened"):
        store.set_aside()
    assert store.load() is None


def test_a_used_folder_is_set_aside_under_the_first_free_number(tmp_path: Path) -> None:
    (tmp_path / "run.1").touch()
    store = Store(tmp_path / "run")
    store.open(RUN)
    publish(store, 1)
    assert store.set_aside() == tmp_path / "run.2"
    assert not store.is_used()
    store.open(RUN)
    assert store.load() is None
    store.close()
    assert loaded(Store(tmp_path / "run.2")).step == 1


def test_a_run_in_use_is_not_set_aside(store: Store) -> None:
    with pytest.raises(CheckpointError, match="in use"):
        Store(store.folder).set_aside()
    publish(store, 1)


def test_a_folder_that_cannot_be_renamed_is_said_to_be_so(tmp_path: Path) -> None:
    class Stuck(FileSystem):
        def rename(self, source: Path, target: Path) -> None:
            raise OSError(errno.EBUSY, "Device or resource busy")

    (tmp_path / "run").mkdir()
    with pytest.raises(CheckpointError, match="cannot be set aside: Device or resource busy; choose another folder"):
        Store(tmp_path / "run", files=Stuck()).set_aside()


def test_a_second_holder_is_refused_at_once_and_told_who_the_first_is(store: Store) -> None:
    with pytest.raises(CheckpointError, match=rf"the run is in use by pid {os.getpid()} on .+; wait until it has ended"):
        Store(store.folder).open(RUN)
    with pytest.raises(CheckpointError, match="already open"):
        store.open(RUN)
    store.close()
    store.close()
    with Store(store.folder) as second:
        second.open(RUN)


def test_the_lease_of_a_killed_process_is_free_again(tmp_path: Path) -> None:
    text = (
        "import os, sys, time; from pathlib import Path; from torchflow.checkpoint import Store\n"
        "Store(Path(sys.argv[1])).open({}); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", text, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(CheckpointError, match=f"in use by pid {process.pid}"):
            Store(tmp_path / "run").open({})
        process.kill()
    with Store(tmp_path / "run") as store:
        store.open({})


def wait(ready: Any, end: Any) -> None:
    ready.set()
    end.wait(30)


def test_a_forked_worker_that_outlives_the_run_does_not_hold_its_lease(store: Store) -> None:
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python warns of forking beside threads, which is what data loaders do
        worker = context.Process(target=wait, args=(ready, end))
        worker.start()
    try:
        assert ready.wait(30)
        store.close()
        with Store(store.folder) as second:
            second.open(RUN)
    finally:
        end.set()
        worker.join()


def test_a_folder_that_was_moved_away_is_noticed_before_anything_is_written(store: Store) -> None:
    store.folder.rename(store.folder.with_name("elsewhere"))
    with pytest.raises(CheckpointError, match="no longer held by this process"):
        publish(store, 1)
    with Store(store.folder) as second:
        second.open(RUN)
        with pytest.raises(CheckpointError, match="no longer held"):
            store.prune(1)


def test_a_file_system_without_locks_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(number: int) -> Any:
        def flock(descriptor: int, operation: int) -> None:
            raise OSError(number, os.strerror(number))

        return flock

    monkeypatch.setattr("fcntl.flock", answer(errno.ENOLCK))
    with pytest.warns(UserWarning, match="this file system has no locks"):
        Lease(tmp_path / "lock").release()
    monkeypatch.setattr("fcntl.flock", answer(errno.EIO))
    with pytest.raises(CheckpointError, match="cannot be written: Input/output error"):
        Lease(tmp_path / "lock")
    monkeypatch.setattr(lease_module, "fcntl", None)  # as on Windows
    Lease(tmp_path / "lock").release()


def test_writing_needs_the_lease(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    actions: list[Callable[[], None]] = [lambda: publish(store, 1), lambda: store.prune(2), lambda: store.point("best", 1)]
    for action in actions:
        with pytest.raises(CheckpointError, match=r"is not open for writing; call open\(\.\.\.\) first"):
            action()
    assert os.listdir(tmp_path) == []


def test_what_a_run_was_started_with_is_written_once_and_compared(store: Store) -> None:
    before = (store.folder / "run.json").read_bytes()
    assert json.loads(before)["run"] == RUN
    store.close()
    with pytest.raises(MismatchError, match="was started with something else") as caught:
        store.open({"seed": 4, "data": {"length": 10}, "order": "x"})
    assert caught.value.differences == (
        "seed: stored as 3 (int), live as 4 (int)",
        "order: not stored, live as 'x' (str)",
    )
    assert (store.folder / "run.json").read_bytes() == before
    store.open(RUN)  # the refusal gave the lease back


@pytest.mark.parametrize(
    "text", ["{}", "", '{"format":"torchflow-run/2","run":{},"digest":"x"}', '{"format":"torchflow-run/1","run":{},"digest":"x"}']
)
def test_a_damaged_run_file_is_kept_aside_and_written_anew(store: Store, text: str) -> None:
    store.close()
    (store.folder / "run.json").write_text(text)
    with pytest.warns(UserWarning, match=r"It is kept as \.bad-run\.json-\w+ and written anew"):
        store.open(RUN)
    assert json.loads((store.folder / "run.json").read_bytes())["run"] == RUN


def test_tensors_are_for_checkpoints_alone(tmp_path: Path, store: Store) -> None:
    with pytest.raises(StateError, match="run must hold no tensors"):
        Store(tmp_path / "other").open({"x": torch.ones(1)})
    with pytest.raises(StateError, match="environment must hold no tensors"):
        store.publish(1, {}, environment={"x": torch.ones(1)})
    assert store.steps() == []


def test_a_state_that_cannot_be_stored_leaves_nothing_behind(store: Store) -> None:
    with pytest.raises(StateError, match="callbacks/mine: got"):
        store.publish(1, {"callbacks": {"mine": object()}}, environment=ENVIRONMENT)  # type: ignore[dict-item]
    assert os.listdir(store.folder / "checkpoints") == []


def test_what_a_killed_run_left_is_swept_and_nothing_else(store: Store) -> None:
    publish(store, 1)
    store.close()
    (store.folder / "checkpoints" / ".tmp-step-000000002-x").mkdir()
    (store.folder / "checkpoints" / ".tmp-step-000000002-x" / "state.json").touch()
    (store.folder / ".tmp-run.json-x").touch()
    (store.folder / "checkpoints" / ".bad-step").mkdir()
    (store.folder / "checkpoints" / "notes").touch()
    store.open(RUN)
    assert sorted(os.listdir(store.folder)) == ["checkpoints", "lock", "run.json"]
    assert sorted(os.listdir(store.folder / "checkpoints")) == [".bad-step", "notes", "step-000000001"]
    assert store.steps() == [1]


def test_the_same_content_for_the_same_step_is_left_as_it_is(store: Store) -> None:
    first = store.publish(1, state_of(1), environment=ENVIRONMENT)
    inode = first.stat().st_ino
    assert store.publish(1, state_of(1), environment=ENVIRONMENT) == first
    assert first.stat().st_ino == inode


def test_other_content_for_the_same_step_becomes_a_revision_that_wins(store: Store) -> None:
    publish(store, 1, 2)
    path = store.publish(2, {"end": True}, environment=ENVIRONMENT)
    assert path.name == "step-000000002-r1"
    assert store.publish(2, {"end": True}, environment={"threads": 3}).name == "step-000000002-r2"
    assert store.steps() == [1, 2]
    assert loaded(store).state == {"end": True}
    assert loaded(store, 2).path.name == "step-000000002-r2"
    damage(store, "step-000000002-r2")
    with pytest.warns(UserWarning, match="step-000000002-r2 is not sound and step-000000002-r1 is used instead"):
        assert loaded(store).path.name == "step-000000002-r1"


def test_the_same_content_over_a_damaged_checkpoint_is_written_again(store: Store) -> None:
    publish(store, 1)
    damage(store, "step-000000001")
    publish(store, 1)
    assert loaded(store).path.name == "step-000000001-r1"


def test_a_missing_step_is_an_error_with_the_steps_that_are_there(store: Store) -> None:
    publish(store, 1, 2)
    with pytest.raises(CheckpointError, match=r"has no step 7; it has \[1, 2\]"):
        store.load(7)
    with pytest.raises(ArgumentTypeError, match="step must be an int"):
        store.load("7")  # type: ignore[arg-type]


def test_without_the_lease_a_bad_checkpoint_is_reported_and_not_renamed(store: Store) -> None:
    publish(store, 1, 2)
    store.close()
    damage(store, "step-000000002")
    with pytest.warns(UserWarning, match="step-000000002 is not sound") as caught:
        assert loaded(store).step == 1
    assert len(caught) == 1
    assert store.steps() == [1, 2]


def test_where_no_checkpoint_is_sound_all_are_named_and_none_is_renamed(store: Store) -> None:
    publish(store, 1, 2)
    damage(store, "step-000000001")
    damage(store, "step-000000002")
    with pytest.raises(CorruptCheckpointError, match=r"None of the 2 checkpoints .* is sound; restore a copy") as caught:
        store.load()
    assert "step-000000001/state.json" in str(caught.value)
    assert "step-000000002/state.json" in str(caught.value)
    assert store.steps() == [1, 2]


def test_an_explicitly_chosen_earlier_step_sets_the_later_ones_aside(store: Store) -> None:
    publish(store, 1, 2, 3)
    loaded(store, 1)
    with pytest.warns(UserWarning, match="Later steps belong to a future that this run did not take"):
        store.publish(2, {"other": True}, environment=ENVIRONMENT)
    assert store.steps() == [1, 2]
    assert any(name.startswith(".aside-step-000000003-") for name in os.listdir(store.folder / "checkpoints"))
    assert loaded(store).state == {"other": True}


def test_pruning_keeps_the_newest_and_the_protected(store: Store) -> None:
    publish(store, 0, 1, 2, 3, 4)
    store.prune(2, protect=[1])
    assert store.steps() == [1, 3, 4]
    store.prune(2)
    assert store.steps() == [3, 4]
    store.prune(5)
    assert store.steps() == [3, 4]


def test_pruning_leaves_two_verified_checkpoints_whatever_is_asked_for(store: Store) -> None:
    publish(store, 1, 2, 3, 4)
    store.close()
    damage(store, "step-000000004")
    damage(store, "step-000000002")
    fresh = Store(store.folder)  # it has verified nothing yet
    fresh.open(RUN)
    fresh.prune(1)
    assert fresh.steps() == [1, 3, 4]
    fresh.close()


def test_pruning_removes_revisions_that_another_one_has_followed(store: Store) -> None:
    publish(store, 1, 2)
    store.publish(2, {"end": True}, environment=ENVIRONMENT)
    store.prune(2)
    assert sorted(os.listdir(store.folder / "checkpoints")) == ["step-000000001", "step-000000002-r1"]


def test_a_first_checkpoint_saved_twice_keeps_both_until_there_is_a_second(store: Store) -> None:
    publish(store, 0)
    store.publish(0, {"end": True}, environment=ENVIRONMENT)
    store.prune(2)
    assert sorted(os.listdir(store.folder / "checkpoints")) == ["step-000000000", "step-000000000-r1"]


@pytest.mark.parametrize("keep", [0, -1])
def test_nothing_can_be_pruned_to_nothing(store: Store, keep: int) -> None:
    with pytest.raises(ArgumentValueError, match="keep must be an int of at least 1"):
        store.prune(keep)


@pytest.mark.parametrize("step", [-1, 2**63])
def test_a_step_is_a_count(store: Store, step: int) -> None:
    with pytest.raises(ArgumentValueError, match="step must be an int of at least 0"):
        publish(store, step)


def test_the_largest_step_has_a_name_that_is_read_again(store: Store) -> None:
    publish(store, 9, 2**63 - 1)
    assert store.steps() == [9, 2**63 - 1]
    assert loaded(store).step == 2**63 - 1


@pytest.mark.parametrize(
    "name", ["step-1", "step-0000000001", "step-000000001-r0", "step-000000001-r01", "step-00000000\u0661", "step-000000001 "]
)
def test_names_in_another_spelling_are_no_checkpoints(store: Store, name: str) -> None:
    publish(store, 1)
    (store.folder / "checkpoints" / name).mkdir()
    assert store.steps() == [1]
    assert loaded(store).step == 1


def test_a_pointer_points_and_is_only_a_hint(store: Store) -> None:
    assert store.pointed("best") is None
    store.point("best", 4)
    store.point("best", 5)
    assert store.pointed("best") == 5
    assert (store.folder / "best.json").read_bytes() == b'{"step":5}\n'
    for text in ('{"step": true}', '{"step": -1}', "[]", "{}"):
        (store.folder / "best.json").write_text(text)
        assert store.pointed("best") is None
    (store.folder / "best.json").write_text("{")
    with pytest.warns(UserWarning, match="It is only a hint and is left out"):
        assert store.pointed("best") is None


@pytest.mark.parametrize("name", ["", "run", "../best", "a/b", "Best", "\u00e9", "x" * 65, 3])
def test_a_pointer_has_a_harmless_name(store: Store, name: Any) -> None:
    with pytest.raises(ArgumentValueError, match="name must be a short word in lower case"):
        store.point(name, 1)


def test_a_checkpoint_on_its_own_is_written_and_read(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 3, state_of(3), 2, ENVIRONMENT)
    assert read_checkpoint(path).parent == 2
    with pytest.raises(CheckpointError, match=r"step-000000003 was not saved \(step 3\): .* Older checkpoints are untouched"):
        write_checkpoint(tmp_path, 3, state_of(4), 2, ENVIRONMENT)
    assert os.listdir(tmp_path) == ["step-000000003"]
    assert read_checkpoint(path).state["step"] == 3


def test_a_relative_path_to_a_checkpoint_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_checkpoint(tmp_path, 3, state_of(3), None, {})
    monkeypatch.chdir(path)
    assert read_checkpoint(Path()).step == 3


def test_an_interrupted_save_leaves_nothing_behind(tmp_path: Path) -> None:
    class Interrupted(FileSystem):
        def sync_folder(self, path: Path) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, 3, state_of(3), None, {}, files=Interrupted())
    assert os.listdir(tmp_path) == []


def test_a_process_without_file_descriptors_does_not_take_a_checkpoint_for_bad(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(store, 1, 2)

    def exhausted(*arguments: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("os.open", exhausted)
        with pytest.raises(CheckpointError, match="cannot be read now: Too many open files; close files") as caught:
            store.load()
    assert not isinstance(caught.value, CorruptCheckpointError)
    assert loaded(store).step == 2


def test_a_file_that_shrinks_while_it_is_read_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(store, 1)
    look = os.fstat

    def larger(descriptor: int) -> os.stat_result:
        found = list(look(descriptor))
        found[6] += 1
        return os.stat_result(found)

    monkeypatch.setattr("os.fstat", larger)
    with pytest.raises(CorruptCheckpointError, match="became shorter while it was read"):
        store.load(1)


def test_a_folder_that_cannot_be_listed_is_said_to_be_so(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("os.listdir", refuse)
    for action in (store.steps, store.load, store.is_used):
        with pytest.raises(CheckpointError, match="Permission denied"):
            action()


def test_a_pointer_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    class Full(FileSystem):
        full = False

        def write(self, descriptor: int, data: memoryview) -> int:
            if self.full:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(descriptor, data)

    disk = Full()
    with Store(tmp_path / "run", files=disk) as store:
        store.open(RUN)
        store.point("best", 1)
        disk.full = True
        with pytest.raises(CheckpointError, match="cannot point best at step 2: No space left on device"):
            store.point("best", 2)
        assert store.pointed("best") == 1
        assert sorted(os.listdir(store.folder)) == ["best.json", "checkpoints", "lock", "run.json"]


def test_tensors_spread_over_several_files_come_back(tmp_path: Path) -> None:
    state: dict[str, State] = {str(i): torch.full((4,), float(i)) for i in range(5)}
    path = write_checkpoint(tmp_path, 1, state, None, {}, shard_bytes=40)
    assert sorted(entry.name for entry in path.iterdir()) == [
        "manifest.json",
        "state.json",
        *(f"tensors-{i:05d}-of-00003.safetensors" for i in range(3)),
    ]
    found = read_checkpoint(path).state
    assert [found[str(i)].tolist() for i in range(5)] == [[float(i)] * 4 for i in range(5)]


def test_a_default_device_of_the_user_changes_nothing(tmp_path: Path) -> None:
    with torch.device("meta"):
        path = write_checkpoint(tmp_path, 1, {"w": torch.ones(2, device="cpu"), "e": torch.empty(0, device="cpu")}, None, {})
        assert read_checkpoint(path).state["w"].tolist() == [1.0, 1.0]


def test_the_history_is_written_in_one_piece_and_every_line_is_checked(tmp_path: Path) -> None:
    rows = [{"epoch": 0, "updates": 5, "train/loss": 0.1}, {"epoch": 1, "updates": 10, "train/loss": math.inf}]
    with Store(tmp_path / "run") as store:
        store.open({})
        store.write_history(rows)
        assert read_history(tmp_path / "run") == rows
        store.write_history(rows[:1])  # a resumed run that stands earlier
        assert read_history(tmp_path / "run") == rows[:1]
    path = tmp_path / "run" / "history.jsonl"
    assert json.loads(path.read_text())["row"] == rows[0]
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(CorruptCheckpointError, match=r"history\.jsonl:1 is not what was written: its checksum differs"):
        read_history(tmp_path / "run")
    assert read_history(tmp_path / "elsewhere") == []
    with pytest.raises(CheckpointError, match="is not open for writing"):
        store.write_history(rows)
