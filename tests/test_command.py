"""The command for people: what it says about a run's folder, with which status, and that it changes nothing."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import torchflow
from torchflow import Checkpoints, EarlyStopping, Every, Trainer, data, supervised
from torchflow.checkpoint import Store, read_checkpoint, survey
from torchflow.checkpoint.survey import examine, holder_of, leftovers
from torchflow.command import main
from torchflow.errors import CheckpointError, CorruptCheckpointError
from torchflow.inspection import history_of, position_of
from torchflow.report import age_text, escaped, plain, size_text, table

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stopped by itself, with a best checkpoint at update 8 and regular ones at 20 and 24."""
    folder = tmp_path_factory.mktemp("trained") / "line"
    train, valid = data.linear(samples=40, seed=0).split(0.8, 0.2, seed=0)
    trainer = Trainer(
        supervised(nn.MSELoss()),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.0),
        callbacks=[EarlyStopping("valid/loss", patience=2)],
        checkpoints=Checkpoints(folder, every=Every(updates=5), best="valid/loss"),
        progress=False,
    )
    result = trainer.fit(nn.Linear(1, 1), train, epochs=9, batch_size=8, validation=valid)
    assert "not improved" in result.reason
    return folder


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "line")


def look(folder: Path) -> dict[Path, Any]:
    """Everything about a folder that anybody could change."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        found[path] = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_ctime_ns, content)
    return found


class Ran:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out, parse_constant=pytest.fail)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run the command, which must change nothing, print only what prints as itself, and stay within 80 columns."""

    def run(*words: object) -> Ran:
        folder = Path(str(words[1]) or "nowhere")
        before = look(folder) if folder.is_dir() else {}
        status = main([str(word) for word in words])
        assert (look(folder) if folder.is_dir() else {}) == before
        out, err = capsys.readouterr()
        assert all(character.isprintable() for line in out.split("\n") for character in line)
        assert "--json" in words or all(len(line) <= 80 for line in out.splitlines())
        return Ran(status, out, err)

    return run


def newest(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("step-*"))


def damage(checkpoint: Path) -> None:
    path = next(checkpoint.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def published(folder: Path, state: dict[str, Any], environment: dict[str, Any] | None = None, step: int = 0) -> Path:
    with Store(folder) as store:
        store.open({"seed": 0, "data": {}})
        store.publish(step, state, environment=environment or {})
    return folder


# inspect


def test_inspect_shows_checkpoints_seed_data_environment_and_history(folder: Path, run: Callable[..., Ran]) -> None:
    shown = run("inspect", folder)
    assert shown.status == 0
    assert re.search(r"^seed +0$", shown.out, re.MULTILINE)
    assert "length 32" in " ".join(shown.out.split())
    names = [path.name for path in sorted((folder / "checkpoints").iterdir())]
    lines = [line for line in shown.out.splitlines() if line.startswith("  step-")]
    assert [line.split()[0] for line in lines] == names
    assert all(re.search(r"\d+ (s|min) old +[\d.]+ K?i?B  verified", line) for line in lines)
    assert [line.split()[0] for line in lines if line.endswith(", best")] == ["step-000000004"]
    assert f"ENVIRONMENT of {names[-1]}, beside this one" in shown.out
    assert re.search(rf"^  torch +{re.escape(torch.__version__)} +{re.escape(torch.__version__)}$", shown.out, re.MULTILINE)
    assert re.search(r"^  dtype +float32 +the program's choice$", shown.out, re.MULTILINE)
    assert "HISTORY, 3 rows\nepoch  updates  train/loss  valid/loss\n    0        4" in shown.out


def test_inspect_shows_the_last_rows_when_asked(folder: Path, run: Callable[..., Ran]) -> None:
    shown = run("inspect", folder, "--rows", 1)
    assert "HISTORY, 3 rows, the last 1\n" in shown.out
    assert len(shown.out.partition("HISTORY")[2].splitlines()) == 3
    assert run("inspect", folder, "--rows", 0, "--json").json["history"] == []
    assert len(run("inspect", folder, "--rows", 99, "--json").json["history"]) == 3


def test_inspect_as_json_holds_the_same_facts(folder: Path, run: Callable[..., Ran]) -> None:
    facts = run("inspect", folder, "--json").json
    assert (facts["seed"], facts["data"]["length"], facts["newest"]) == (0, 32, newest(folder).name)
    assert facts["folder"]["best"] == 4
    assert [entry["best"] for entry in facts["checkpoints"]] == [True, *[False] * (len(facts["checkpoints"]) - 1)]
    assert facts["history_rows"] == len(facts["history"]) == 3
    assert facts["history"][0]["updates"] == 4
    assert facts["stored_environment"]["dtype"] == "float32"
    assert "dtype" not in facts["present_environment"]


def test_inspect_names_what_is_different_about_this_machine(tmp_path: Path, run: Callable[..., Ran]) -> None:
    environment = {"torch": "1.0", "device": "abacus", "threads": torch.get_num_threads(), "dtype": "float64", "bells": 3}
    folder = published(tmp_path / "line", {}, environment)
    facts = run("inspect", folder, "--json").json
    assert f"the torch version was 1.0 and is {torch.__version__} now" in facts["differences"]
    assert any(line.startswith("the device type was abacus and is ") for line in facts["differences"])
    assert not any("dtype" in line or "threads" in line for line in facts["differences"])
    text = run("inspect", folder).out
    assert "  ! the torch version was 1.0 and is" in text
    assert re.search(r"^  bells +3 +not recorded$", text, re.MULTILINE)


def test_inspect_says_why_a_checkpoint_is_not_sound_and_takes_the_history_from_the_one_before(
    folder: Path, run: Callable[..., Ran]
) -> None:
    bad = newest(folder)
    damage(bad)
    shown = run("inspect", folder)
    assert shown.status == 1
    assert re.search(rf"^  {bad.name} .* NOT SOUND$", shown.out, re.MULTILINE)
    assert "is not what was written: its SHA-256 differs" in " ".join(shown.out.split())
    assert f"      {bad.name}/tensors-00000-of-00001.safetensors is not what" in shown.out
    assert f"ENVIRONMENT of {bad.name}" not in shown.out


def test_inspect_of_a_run_without_a_checkpoint_says_so(tmp_path: Path, run: Callable[..., Ran]) -> None:
    folder = tmp_path / "line"
    with Store(folder) as store:
        store.open({"seed": 7})
    shown = run("inspect", folder)
    assert shown.status == 0
    assert "CHECKPOINTS\n  none\n" in shown.out
    assert "ENVIRONMENT of no checkpoint" in shown.out
    assert re.search(r"^seed +7\ndata +not known$", shown.out, re.MULTILINE)
    assert shown.out.endswith("HISTORY, 0 rows\n")
    facts = run("inspect", folder, "--json").json
    assert (facts["newest"], facts["stored_environment"], facts["differences"]) == (None, None, [])


def test_a_damaged_run_file_is_a_note_and_a_checkpoint_says_the_same(folder: Path, run: Callable[..., Ran]) -> None:
    (folder / "run.json").write_bytes(b"{}")
    shown = run("inspect", folder)
    assert shown.status == 0
    assert re.search(r"^note +\S*run\.json|^note +", shown.out, re.MULTILINE)
    assert "keeps it aside and writes it anew" in " ".join(shown.out.split())
    assert re.search(r"^seed +0$", shown.out, re.MULTILINE)
    shutil.rmtree(folder / "checkpoints")
    (folder / "checkpoints").mkdir()
    assert re.search(r"^seed +not known$", run("inspect", folder).out, re.MULTILINE)


def test_a_damaged_pointer_is_a_note(folder: Path, run: Callable[..., Ran]) -> None:
    (folder / "best.json").write_bytes(b"{")
    shown = run("inspect", folder)
    assert "It is only a hint and is left out." in " ".join(shown.out.split())
    assert ", best" not in shown.out


def test_revisions_of_a_step_stand_in_their_order_and_the_last_one_counts(tmp_path: Path, run: Callable[..., Ran]) -> None:
    for number in range(12):
        published(tmp_path / "line", {"number": number}, {"torch": str(number)}, step=3)
    facts = run("inspect", tmp_path / "line", "--json").json
    assert [entry["name"] for entry in facts["checkpoints"]] == ["step-000000003", *(f"step-000000003-r{i}" for i in range(1, 12))]
    assert (facts["newest"], facts["stored_environment"]["torch"]) == ("step-000000003-r11", "11")


# verify


def test_verify_reads_every_checkpoint_and_is_content(folder: Path, run: Callable[..., Ran]) -> None:
    shown = run("verify", folder)
    count = len(list((folder / "checkpoints").iterdir()))
    assert shown.status == 0
    assert shown.out.count("verified") == count
    assert shown.out.endswith(f"{count} checkpoints read, all of them sound.\n")


def test_verify_reads_every_byte_of_every_file(trained: Path, tmp_path: Path, run: Callable[..., Ran]) -> None:
    for number, file in enumerate(sorted(path.relative_to(trained) for path in trained.glob("checkpoints/*/*"))):
        copy = shutil.copytree(trained, tmp_path / str(number))
        content = bytearray((copy / file).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / file).write_bytes(content)
        shown = run("verify", copy, "--json")
        assert shown.status == 1
        assert [entry["name"] for entry in shown.json["checkpoints"] if not entry["sound"]] == [file.parts[1]]


def test_verify_of_a_damaged_checkpoint_has_status_one_and_the_reason(folder: Path, run: Callable[..., Ran]) -> None:
    damage(newest(folder))
    (newest(folder).parent / "step-000000004" / "state.json").unlink()
    shown = run("verify", folder)
    assert shown.status == 1
    assert shown.out.count("NOT SOUND") == 2
    assert "step-000000004/state.json cannot be read: No such file" in " ".join(shown.out.split())
    assert shown.out.endswith("2 of them not sound.\n")


def test_verify_mentions_what_was_rejected_earlier_and_is_content(folder: Path, run: Callable[..., Ran]) -> None:
    newest(folder).rename(folder / "checkpoints" / ".bad-step-000000099-abcd")
    (folder / "checkpoints" / ".aside-step-000000100-abcd").mkdir()
    shown = run("verify", folder)
    assert shown.status == 0
    assert "found damaged earlier: .bad-step-000000099-abcd" in " ".join(shown.out.split())
    assert "of a future that was not taken: .aside-step-000000100-abcd" in " ".join(shown.out.split())


def test_verify_without_a_checkpoint_says_so(tmp_path: Path, run: Callable[..., Ran]) -> None:
    (tmp_path / "line" / "checkpoints").mkdir(parents=True)
    shown = run("verify", tmp_path / "line")
    assert (shown.status, shown.out.endswith("CHECKPOINTS\n  none\n")) == (0, True)
    assert "run.json cannot be read" in " ".join(shown.out.split())


# resume-plan


def test_resume_plan_names_the_newest_where_it_goes_on_and_why_it_had_stopped(folder: Path, run: Callable[..., Ran]) -> None:
    shown = run("resume-plan", folder)
    assert shown.status == 0
    text = " ".join(shown.out.split())
    assert f"loads {newest(folder).name}, the newest, and it is sound" in text
    assert "goes on in epoch 3 at batch 0, both from 0, with 12 updates and 96 samples done" in text
    assert "had stopped yes, by early_stopping: valid/loss has not improved" in text
    facts = run("resume-plan", folder, "--json").json
    assert (facts["position"]["updates"], facts["stopped_by"], facts["passed_over"]) == (12, "early_stopping", [])


def test_resume_plan_passes_over_what_is_not_sound_and_says_why(folder: Path, run: Callable[..., Ran]) -> None:
    names = [path.name for path in sorted((folder / "checkpoints").iterdir())]
    damage(newest(folder))
    shown = run("resume-plan", folder)
    assert shown.status == 0
    text = " ".join(shown.out.split())
    assert f"passed over {names[-1]}: {names[-1]}/tensors-00000-of-00001.safetensors is not what was written" in text
    assert f"loads {names[-2]}, the newest that is sound" in text
    assert "had stopped no; it goes on until the limits" in text


def test_resume_plan_says_what_a_resume_then_does(folder: Path, run: Callable[..., Ran]) -> None:
    damage(newest(folder))
    plan = run("resume-plan", folder, "--json").json
    with pytest.warns(UserWarning, match=plan["passed_over"][0]["name"]):
        loaded = Store(folder).load()
    assert loaded is not None
    assert loaded.path.name == plan["chosen"]["name"]
    assert loaded.state["progress"] == plan["position"]


def test_resume_plan_has_status_one_where_nothing_is_sound(folder: Path, run: Callable[..., Ran]) -> None:
    for checkpoint in (folder / "checkpoints").iterdir():
        damage(checkpoint)
    shown = run("resume-plan", folder)
    assert shown.status == 1
    assert shown.out.count("passed over") == len(list((folder / "checkpoints").iterdir()))
    assert "loads nothing: none of the checkpoints is sound. fit(resume=True) refuses" in " ".join(shown.out.split())


def test_resume_plan_has_status_one_where_there_is_no_checkpoint(tmp_path: Path, run: Callable[..., Ran]) -> None:
    (tmp_path / "line" / "checkpoints").mkdir(parents=True)
    shown = run("resume-plan", tmp_path / "line")
    assert shown.status == 1
    assert "loads nothing: there is no checkpoint. fit(resume=True) starts at the beginning." in " ".join(shown.out.split())


@pytest.mark.parametrize("state", [{}, {"progress": {"epoch": 1}}, {"progress": dict.fromkeys(torchflow.Progress._fields, 1.5)}])
def test_resume_plan_has_status_one_where_the_state_is_not_that_of_a_run(
    tmp_path: Path, run: Callable[..., Ran], state: dict[str, Any]
) -> None:
    shown = run("resume-plan", published(tmp_path / "line", state))
    assert shown.status == 1
    assert "goes on nowhere: the checkpoint holds no position" in " ".join(shown.out.split())


# a run that is writing


@pytest.mark.skipif(not survey.LOCKS.exists(), reason="this system does not list its locks")
@pytest.mark.parametrize("command", ["inspect", "verify", "resume-plan"])
def test_a_run_in_use_is_looked_at_and_its_process_is_named(folder: Path, run: Callable[..., Ran], command: str) -> None:
    with Store(folder) as store:
        store.open({"seed": 0, "data": json.loads((folder / "run.json").read_text())["run"]["data"]})
        shown = run(command, folder)
        assert shown.status == 0
        assert re.search(rf"^in use +yes, by pid {os.getpid()} on {re.escape(socket.gethostname())}$", shown.out, re.MULTILINE)
        assert ("but          the run is in use now" in shown.out) == (command == "resume-plan")
    assert re.search(rf"^in use +no; the last to write was pid {os.getpid()} on", run(command, folder).out, re.MULTILINE)


def test_what_a_run_removes_meanwhile_is_no_damage(tmp_path: Path) -> None:
    """A run publishes and prunes without a pause; nobody who looks ever sees a checkpoint that is not sound."""
    stop, folder = threading.Event(), tmp_path / "line"
    published(folder, {"w": torch.zeros(100)})

    def write() -> None:
        with Store(folder) as store:
            store.open({"seed": 0, "data": {}})
            step = 0
            while not stop.is_set():
                step += 1
                store.publish(step, {"w": torch.full((100,), float(step))}, environment={})
                store.prune(2)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            found = list(examine(folder))
            assert [entry.reason for entry in found if entry.reason is not None] == []
            assert found
    finally:
        stop.set()
        writer.join()


def test_a_checkpoint_that_vanishes_is_followed_by_a_new_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "line"
    for step in (1, 2):
        published(folder, {}, step=step)

    def read_late(path: Path) -> Any:
        if path.name == "step-000000002" and path.exists():
            published(folder, {}, step=3)
            shutil.rmtree(path)
        return read_checkpoint(path)

    monkeypatch.setattr(survey, "read_checkpoint", read_late)
    assert [found.name.step for found in examine(folder)] == [3, 1]


def test_a_folder_whose_checkpoints_always_vanish_is_not_chased_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, looked = tmp_path / "line", [0]
    published(folder, {})

    def read_too_late(path: Path) -> Any:
        looked[0] += 1
        path.rename(path.with_name(f"step-{looked[0]:09d}"))
        raise CorruptCheckpointError("gone")

    monkeypatch.setattr(survey, "read_checkpoint", read_too_late)
    monkeypatch.setattr(survey, "_LOOKS", 5)
    assert list(examine(folder)) == []
    assert looked == [5]


HERE = f"pid 12 on {socket.gethostname()}"


@pytest.mark.parametrize(
    ("writer", "line", "expected"),
    [
        (HERE, "", False),
        (HERE, "1: FLOCK  ADVISORY  WRITE 12 {device}:{inode} 0 EOF", True),
        (HERE, "1: FLOCK  ADVISORY  WRITE 99 {device}:{inode} 0 EOF", True),
        (HERE, "1: FLOCK  ADVISORY  WRITE 12 ff:ff:{inode} 0 EOF", True),
        (HERE, "1: FLOCK  ADVISORY  WRITE 99 ff:ff:{inode} 0 EOF", False),
        (HERE, "1: POSIX  ADVISORY  WRITE 12 {device}:{inode} 0 EOF", False),
        (HERE, "1: FLOCK  ADVISORY  WRITE 12 {device}:1{inode} 0 EOF", False),
        (HERE, "what is this", False),
        (HERE, "1: ÿ", None),
        ("pid 12 on elsewhere", "", None),
        ("pid 12 on elsewhere", "1: FLOCK  ADVISORY  WRITE 12 {device}:{inode} 0 EOF", True),
        ("", "", False),
    ],
)
def test_who_holds_the_lease_is_read_from_the_list_of_locks(tmp_path: Path, writer: str, line: str, expected: bool | None) -> None:
    (tmp_path / "lock").write_text(f"{writer}\n" if writer else "")
    found = (tmp_path / "lock").stat()
    device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    (tmp_path / "locks").write_text(line.format(device=device, inode=found.st_ino), encoding="latin-1")
    assert holder_of(tmp_path, tmp_path / "locks") == survey.Holder(writer or None, expected)


def test_without_a_list_of_locks_nobody_knows_who_holds_the_lease(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(HERE)
    assert holder_of(tmp_path, tmp_path / "no list") == survey.Holder(HERE, None)


def test_a_lock_that_cannot_be_read_says_nothing(folder: Path, run: Callable[..., Ran]) -> None:
    (folder / "lock").unlink()
    assert holder_of(folder) == survey.Holder(None, False)
    assert re.search(r"^in use +no$", run("verify", folder).out, re.MULTILINE)
    (folder / "lock").mkdir()
    assert holder_of(folder) == survey.Holder(None, None)
    assert "cannot be seen from here; the last to write was an unknown process" in " ".join(run("verify", folder).out.split())


# wrong input


def wrong_folders(tmp_path: Path, folder: Path) -> dict[str, tuple[Path | str, str]]:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    return {
        "missing": (tmp_path / "no\x1b[31m", r"no\\x1b\[31m does not exist\."),
        "empty": (tmp_path / "empty", r"empty holds no run\."),
        "a file": (tmp_path / "file", r"file is no folder; give the folder of a run\."),
        "a folder within a run": (folder / "checkpoints", r"checkpoints holds no run; the run is \S+line\."),
        "a checkpoint": (newest(folder), r"step-000000012 holds no run; the run is \S+line\."),
        "no path": ("", r"FOLDER must be a path that is not empty"),
    }


@pytest.mark.parametrize("kind", ["missing", "empty", "a file", "a folder within a run", "a checkpoint", "no path"])
@pytest.mark.parametrize("command", ["inspect", "verify", "resume-plan"])
def test_where_there_is_no_run_one_line_says_so_and_the_status_is_two(
    tmp_path: Path, folder: Path, run: Callable[..., Ran], command: str, kind: str
) -> None:
    path, message = wrong_folders(tmp_path, folder)[kind]
    shown = run(command, path, "--json")
    assert (shown.status, shown.out) == (2, "")
    assert re.fullmatch(rf"torchflow {command}: .*{message}.*\n", shown.err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["look", "f"], "invalid choice: 'look'"),
        (["verify"], "required: FOLDER"),
        (["inspect", "f", "--rows", "-1"], "N must be a whole number from 0 on, got '-1'"),
        (["inspect", "f", "--rows", "1.5"], "N must be a whole number from 0 on, got '1.5'"),
        (["inspect", "f", "--rows", "٣"], "N must be a whole number"),
        (["verify", "f", "--rows", "1"], "unrecognized arguments: --rows 1"),
        (["verify", "f", "--js"], "unrecognized arguments: --js"),
    ],
)
def test_wrong_words_are_explained_with_status_two(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_listed_is_a_message(
    folder: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    shown = run("verify", folder)
    assert shown.status == 2
    assert re.fullmatch(r"torchflow verify: \S+line cannot be listed: Permission denied\.\n", shown.err)
    with pytest.raises(CheckpointError, match="cannot be listed"):
        leftovers(folder, "bad")


def test_an_interruption_is_no_traceback(folder: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(path: Path) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(survey, "read_checkpoint", interrupt)
    assert run("verify", folder).status == 130


# what files say


def hostile_state() -> dict[str, Any]:
    history = torchflow.History()
    history.load_state(
        {
            "names": ["\x1b[2Jred/" + "x" * 60, "loss\r", "nan"],
            "epoch": torch.tensor([0]),
            "updates": torch.tensor([1]),
            "ended": torch.tensor([True]),
            "values": torch.tensor([[1.0, math.inf, math.nan]]),
            "given": torch.tensor([[True, True, True]]),
        }
    )
    return {
        "progress": dict.fromkeys(torchflow.Progress._fields, 1),
        "stop": {"by": "\x1b[31mme", "reason": "a\nb\u202e" + "w" * 200},
        "callbacks": {"history": dict(history.state())},
    }


@pytest.mark.parametrize("command", ["inspect", "verify", "resume-plan"])
def test_control_characters_of_files_are_spelled_out_and_lines_stay_short(
    tmp_path: Path, run: Callable[..., Ran], command: str
) -> None:
    folder = tmp_path / ("li\x07ne" + "-long" * 30)
    published(folder, hostile_state(), {"torch": "\x1b]0;title\x07" + "t" * 90, "device": "a\tb", "\x9b": [1, {"b": "\x00"}]})
    (folder / "lock").write_bytes(b"pid 1 on \x1b[5m\xff")
    (folder / "checkpoints" / ".bad-\x1b[1m").mkdir()
    shown = run(command, folder)  # which looks at every character and the length of every line
    assert shown.status == 0
    assert "\\x07" in "".join(shown.out.split())
    facts = run(command, folder, "--json")
    assert facts.out.isascii()
    if command == "inspect":
        assert facts.json["history"][0]["loss\r"] is None


@pytest.mark.parametrize(
    "history",
    [
        None,
        {},
        {"names": ["a"], "epoch": [0]},
        {name: torch.zeros(1) for name in ("names", "epoch", "updates", "ended", "values", "given")},
        {
            "names": ["a"],
            "epoch": torch.zeros(1, 1),
            "updates": torch.zeros(1),
            "ended": torch.zeros(1),
            "values": torch.zeros(1, 1),
            "given": torch.ones(1, 1),
        },
    ],
)
def test_a_history_of_another_kind_is_left_out(history: Any) -> None:
    assert history_of({"callbacks": {"history": history}}) == []
    assert history_of({}) == []


def test_a_position_is_believed_only_whole() -> None:
    whole = dict.fromkeys(torchflow.Progress._fields, 1)
    assert position_of({"progress": whole}) == whole
    assert position_of({"progress": {**whole, "more": 1}}) is None
    assert position_of({"progress": None}) is None


# the text itself


def test_a_table_that_is_too_wide_goes_on_below_with_its_keys() -> None:
    header = ["epoch", *(f"metric/{i:02d}" for i in range(12))]
    lines = list(table(header, [[str(i) for i in range(13)]], keys=1))
    assert all(len(line) <= 80 for line in lines)
    assert lines.count("") == 1
    assert [line.split()[0] for line in lines if line] == ["epoch", "0", "epoch", "0"]
    assert [name for line in lines if "metric" in line for name in line.split()[1:]] == header[1:]


def test_texts_of_sizes_and_ages_are_short() -> None:
    assert [size_text(n) for n in (0, 999, 1000, 2**20, 3 * 2**30, 2**60)] == [
        "0 B",
        "999 B",
        "1.0 KiB",
        "1.0 MiB",
        "3.0 GiB",
        "1048576.0 TiB",
    ]
    assert [age_text(s) for s in (None, 0.0, 59.9, 60.0, 7200.0, 2e5)] == ["?", "0 s", "59 s", "1 min", "2 h", "2 d"]


def test_only_characters_that_print_as_themselves_are_left_as_they_are() -> None:
    assert escaped("añ 字\\") == "añ 字\\"
    assert escaped("\x1b\x7f\x9b\u202e\udcff\n") == r"\x1b\x7f\x9b\u202e\udcff\n"


def test_what_json_cannot_say_is_null() -> None:
    assert plain({"a": [1, math.nan, (math.inf, "x")], "b": {"c": -math.inf}, "d": None}) == {
        "a": [1, None, [None, "x"]],
        "b": {"c": None},
        "d": None,
    }


def test_a_stream_that_cannot_spell_a_character_gets_it_spelled_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = folder.rename(folder.with_name("línea字"))
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["verify", str(target)]) == 0
    assert b"l\xednea\\u5b57" in b"".join(written.getvalue().split())


# as a process


def python(*words: str, **choices: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "torchflow", *words], capture_output=True, text=True, check=False, **choices)


def test_python_m_torchflow_is_the_command(folder: Path) -> None:
    damage(newest(folder))
    done = python("verify", str(folder))
    assert (done.returncode, done.stderr) == (1, "")
    assert "NOT SOUND" in done.stdout


def test_a_reader_that_has_seen_enough_is_no_error(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "torchflow", "inspect", str(folder)],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_installed_command_is_this_one() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, name = scripts["torchflow"].partition(":")
    assert getattr(import_module(module), name) is main


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert (exit_.value.code, capsys.readouterr().out) == (0, f"torchflow {torchflow.__version__}\n")
