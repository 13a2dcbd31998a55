"""The verifications find the faults that they are for, name them, and pass what is sound.

Most of these tests carry out every process in this one, with an exception for the kill; a few start real ones.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests import jobs
from tests.small import columns, sgd
from torchflow import Every, Schedule, Trainer, supervised, testing
from torchflow.errors import ArgumentTypeError, ArgumentValueError, TorchflowError
from torchflow.testing import ChildError, DifferenceError, Job, Kill, Report, verify_observers, verify_resume
from torchflow.testing import child as children_do
from torchflow.testing import children as processes
from torchflow.testing.child import INSIDE, Assignment, carry_out
from torchflow.testing.children import Children
from torchflow.testing.leaves import leaves, text_of
from torchflow.testing.places import Place, made_at, place_of
from torchflow.testing.recording import Recording, read


class Killed(BaseException):
    """Stands for the end of a process."""


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[Assignment]:
    """Carry out what processes are told in this one; gives what they were told."""
    told: list[Assignment] = []

    def run(self: Children, assignment: Assignment) -> Recording:
        told.append(assignment)
        with contextlib.suppress(Killed):
            carry_out(assignment)
        return read(Path(assignment.record))

    def die(process: int, number: int) -> None:
        raise Killed

    monkeypatch.setattr(Children, "run", run)
    monkeypatch.setattr(os, "kill", die)
    return told


# Real processes


def test_a_job_with_everything_in_it_and_worker_processes_ends_equal() -> None:
    report = verify_resume(jobs.pictures_read_by_workers, kills=[Kill(5, middle=True)], every=Every(updates=2))
    assert report.equal
    assert [line.partition(":")[0] for line in report.processes[1:]] == ["updates 1 to 4", f"updates 5 to {report.updates}"]
    assert "SIGKILL" in report.processes[1]


def test_a_fault_is_found_by_real_processes_that_are_asked_to_end() -> None:
    """Each saves where it is asked, so that the next one goes on there: with data that has a generator of its own."""
    with pytest.raises(DifferenceError) as caught:
        verify_resume(jobs.with_unkeyed_data, kills=(5,), signal="SIGTERM", every=Every(updates=100))
    report = caught.value.report
    assert report.processes[1:] == (
        "updates 1 to 5: killed after update 5 (SIGTERM)",
        "updates 6 to 12: all 3 epochs are done",
    )
    assert (report.differences[0].path, report.differences[0].update, report.differences[0].process) == ("batches/0/0", 6, 2)


def test_a_script_verifies_its_own_job(tmp_path: Path) -> None:
    source = Path(jobs.__file__).read_text(encoding="utf-8") + (
        "\n\nif __name__ == '__main__':\n"
        "    from torchflow.testing import verify_observers\n"
        "    print(verify_observers(with_a_disturbing_observer, observers=['sum']))\n"
    )
    (tmp_path / "script.py").write_text(source, encoding="utf-8")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.startswith("observers: equal; 12 updates"), done.stderr
    assert "left out in process 1: sum\n" in done.stdout


def test_a_job_that_fails_by_itself_is_told_with_its_traceback() -> None:
    with pytest.raises(
        ChildError, match=r"failed by itself \(exit status 1\) after update 0(.|\n)*RuntimeError: the step is broken"
    ):
        verify_resume(jobs.failing)


@pytest.fixture
def assignment(tmp_path: Path) -> Assignment:
    return Assignment(place_of(jobs.sound), str(tmp_path / "one.jsonl"), str(tmp_path / "run"))


def test_a_process_that_hangs_is_ended_and_says_where(
    assignment: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import faulthandler, time\nfaulthandler.enable()\ndef stuck(): time.sleep(60)\nstuck()\n"
    monkeypatch.setattr(processes, "_PROGRAM", program)
    children = Children(tmp_path, 1.5)
    with children.kept(), pytest.raises(ChildError, match=r"did not end within 1.5 s(.|\n)*in stuck"):
        children.run(assignment)


def test_a_process_that_does_not_even_hear_is_ended(
    assignment: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = "import signal, time\nsignal.signal(signal.SIGABRT, signal.SIG_IGN)\ntime.sleep(60)\n"
    monkeypatch.setattr(processes, "_PROGRAM", program)
    monkeypatch.setattr(processes, "_SECONDS_FOR_LAST_WORDS", 0.1)
    with pytest.raises(ChildError, match=r"after update 0(.|\n)*\(none\)"):
        Children(tmp_path, 1).run(assignment)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os\nos.kill(os.getpid(), 9)", r"ended by SIGKILL"),
        ("pass", r"exit status 0"),
    ],
    ids=["killed by somebody else", "ends without a run"],
)
def test_an_end_that_nobody_planned_is_no_result(
    assignment: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, message: str
) -> None:
    monkeypatch.setattr(processes, "_PROGRAM", program)
    with pytest.raises(ChildError, match=message):
        Children(tmp_path, 60).run(assignment)


def test_workers_that_a_process_leaves_behind_end_with_the_verification(
    assignment: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / "left"
    program = (
        "import json, os, subprocess, sys\nsleeper = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(left)!r}, 'w').write(str(sleeper.pid))\nos.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setattr(processes, "_PROGRAM", program)
    children = Children(tmp_path, 60)
    with children.kept(), pytest.raises(ChildError):
        children.run(assignment)
    deadline = time.monotonic() + 10
    while _runs(int(left.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# Faults


FAULTS = {
    "data with a generator of its own": (jobs.with_unkeyed_data, "batches/0/0", 3, "Draw in map_random"),
    "a callback that forgets": (jobs.with_a_forgetful_callback, "attributes/forgetful/seen", 3, "return it from state()"),
    "a step with state in its closure": (jobs.with_hidden_state_in_the_step, "loss", 3, "keeps state outside of the run"),
    "a step that depends on the clock": (jobs.unrepeatable, "loss", 1, "Nothing had been killed yet"),
    "first weights without a seed": (jobs.without_a_seed, "model/weight", 0, "seed before it is made"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found_and_named(in_process: list[Assignment], fault: str) -> None:
    job, path, update, advice = FAULTS[fault]
    with pytest.raises(DifferenceError) as caught:
        verify_resume(job)
    report = caught.value.report
    assert not report.equal
    assert (report.differences[0].path, report.differences[0].update) == (path, update)
    assert f"first difference after update {update}" in str(caught.value)
    assert advice in str(caught.value)


def test_what_a_forgetful_callback_does_to_the_run_is_found_too(in_process: list[Assignment]) -> None:
    report = verify_resume(jobs.with_a_forgetful_schedule, ignore=["*attributes/*"], check=False)
    first = report.differences[0]
    assert (first.path, first.update, first.process) == ("optimizers/main/groups/0/lr", 6, 2)
    assert (first.expected, first.found) == ("0.025", "0.05")
    assert "The loss was equal" in report.advice


def test_numbers_in_a_model_that_no_checkpoint_holds_are_named_where_they_matter(in_process: list[Assignment]) -> None:
    report = verify_resume(jobs.with_unsaved_numbers_in_the_model, check=False)
    assert (report.differences[0].path, report.differences[0].update) == ("loss", 3)
    assert "no checkpoint holds it: scale, calls." in report.advice
    assert verify_resume(jobs.with_a_count_for_curiosity).equal


def test_a_fault_may_be_ignored_by_its_path(in_process: list[Assignment]) -> None:
    report = verify_resume(jobs.with_a_forgetful_callback, ignore=["*attributes/forgetful/seen"])
    assert report.equal
    assert report.unrepeatable == ("attributes/forgetful/began",)
    assert "not compared, they differ without a kill: attributes/forgetful/began" in str(report)


def test_an_observer_that_changes_the_model_is_found(in_process: list[Assignment]) -> None:
    with pytest.raises(DifferenceError, match=r"One of these changes the run: recalibrating, sum, validation") as caught:
        verify_observers(jobs.with_a_disturbing_observer)
    assert caught.value.report.differences[0].path in ("loss", "model/0.running_mean")
    assert verify_observers(jobs.with_a_disturbing_observer, observers=["sum"]).equal
    assert not verify_observers(jobs.with_a_disturbing_observer, observers=["recalibrating"], check=False).equal
    with pytest.raises(DifferenceError, match="The first weights differ"):
        verify_observers(jobs.without_a_seed)


# Sound jobs


@pytest.mark.parametrize("job", [jobs.sound, jobs.of_the_example, jobs.pictures])
def test_a_sound_job_is_equal_however_it_is_killed_and_watched(in_process: list[Assignment], job: Callable[[], Job]) -> None:
    assert verify_resume(job, every=Every(updates=3), kills=[2, Kill(2, middle=True), 5, Kill(8, middle=True), 9]).equal
    assert len(in_process) == 7
    assert [told.resume for told in in_process] == [False, *[True] * 6]
    assert verify_observers(job).equal


def test_being_written_down_changes_nothing(assignment: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = jobs.pictures()
    expected = Trainer.fit(job.trainer, job.model, job.train, **{**job.fit})
    with pytest.MonkeyPatch.context() as patch:
        found: list[Any] = []
        end = children_do.Recorder.end

        def kept(self: children_do.Recorder, reason: str) -> None:
            found.append(self.run)
            end(self, reason)

        patch.setattr(children_do.Recorder, "end", kept)
        carry_out(replace(assignment, job=place_of(jobs.pictures)))
    assert all(
        torch.equal(a, b) for a, b in zip(expected.model.state_dict().values(), found[0].model.state_dict().values(), strict=True)
    )
    recording = read(Path(assignment.record))
    assert recording.ended == expected.reason
    assert not recording.stopped
    assert sorted(os.listdir(tmp_path)) == ["never-touched", "one.jsonl", "run"]


def test_the_loss_and_the_samples_of_every_update_are_written_down(assignment: Assignment) -> None:
    carry_out(assignment)
    recording = read(Path(assignment.record))
    assert list(recording.updates) == list(range(1, 13))
    assert all(recording.updates[12][name].startswith("float32") for name in ("loss", "model/weight", "batches/0/1"))
    seen = [int(index) for update in range(1, 5) for index in recording.updates[update]["batches/0/indices"].split(", ")]
    assert sorted(seen) == list(range(24))
    assert recording.end["reason"] == "all 3 epochs are done"
    assert any(path.startswith("history/") for path in recording.end)


@pytest.mark.filterwarnings("ignore:train is a DataLoader")
def test_batches_that_come_from_elsewhere_have_no_indices(in_process: list[Assignment]) -> None:
    report = verify_resume(stream)
    assert report.equal
    assert report.updates == 12


def test_early_stopping_may_end_the_watched_run_sooner(in_process: list[Assignment]) -> None:
    report = verify_observers(jobs.stopping)
    assert report.left_out == ("early_stopping", "validation")
    assert report.processes[0].startswith("updates 1 to 8: valid/loss has not improved")
    assert report.processes[1] == "updates 1 to 12: all 3 epochs are done"
    assert verify_resume(jobs.stopping).equal


# Lengths, and values that come and go


def recording(*losses: str, started: int = 0, ended: str | None = "done", killed: str | None = None) -> Recording:
    updates = {started + number: {"loss": loss} for number, loss in enumerate(losses, 1)}
    return Recording(started=started, updates=updates, ended=ended, killed=killed, end={"model/weight": losses[-1]})


COMPARED = {
    "equal": ([recording("a", "b"), recording("b", "c", started=1)], None),
    "an update made again differs": ([recording("a", "b"), recording("x", "c", started=1)], ("loss", 2, 2)),
    "one update is left out": ([recording("a"), recording("c", started=2)], ("progress/updates", 2, 2)),
    "one update too many": ([recording("a", "b", "c", "d")], ("progress/updates", 4, 1)),
    "one update too few": ([recording("a", "b")], ("progress/updates", 3, 1)),
}


@pytest.mark.parametrize("case", COMPARED)
def test_a_chain_of_processes_is_compared_in_the_order_of_time(case: str) -> None:
    chain, expected = COMPARED[case]
    found = testing.report.first_differences(recording("a", "b", "c"), chain, [])
    assert (None if not found else (found[0].path, found[0].update, found[0].process)) == expected


def test_the_end_is_compared_and_told() -> None:
    other = recording("a", "b")
    other.end = {"model/bias": "b"}
    found = testing.report.first_differences(recording("a", "b"), [other], [])
    assert [(d.path, d.update, d.expected, d.found) for d in found] == [
        ("model/weight", None, "b", "(not there)"),
        ("model/bias", None, "(not there)", "b"),
    ]
    text = str(Report("resume", tuple(found) * 6, 2, 1, ("updates 1 to 2: done",)))
    assert "first difference at the end, in process 1: model/weight" in text
    assert "and 3 more" in text


@pytest.mark.parametrize(
    ("path", "process", "words"),
    [
        ("batches/0/indices", 2, "please report this"),
        ("end/callbacks/sum/total", 2, "load_state() must take over"),
        ("epoch_started", 2, "in no checkpoint"),
    ],
)
def test_advice_goes_by_what_differs_first(path: str, process: int, words: str) -> None:
    difference = testing.Difference(path, 3, process, "a", "b")
    assert words in testing.advice.advice_on_resume([difference])


def test_a_record_that_was_cut_off_is_read_to_its_last_whole_line(tmp_path: Path) -> None:
    (tmp_path / "r").write_text('{"started": 2}\n{"paths": ["a"]}\n{"update": 3, "values": ["1"]}\n{"upd', encoding="utf-8")
    found = read(tmp_path / "r")
    assert found.updates == {3: {"a": "1"}}
    assert found.story == "updates 3 to 3: None"
    assert read(tmp_path / "nothing") == Recording()
    assert Recording(started=4, ended="done").story == "no update after 4: done"


# Leaves


def test_equal_texts_mean_equal_bits() -> None:
    negative = torch.tensor([0.0, -0.0])
    assert text_of(negative[0]) != text_of(negative[1])
    assert text_of(torch.zeros(2)) != text_of(torch.zeros(2, dtype=torch.int32))
    assert text_of(torch.zeros(2, 3)) != text_of(torch.zeros(3, 2))
    assert text_of(torch.arange(6).reshape(2, 3).T) == text_of(torch.tensor([[0, 3], [1, 4], [2, 5]]))
    assert text_of(torch.tensor([1j]).conj()) == text_of(torch.tensor([1j]).conj_physical())
    assert text_of(torch.eye(2).to_sparse()) == text_of(torch.eye(2))
    assert text_of(torch.zeros(2, device="meta")) == "float32[2] without values"
    assert text_of(torch.tensor(2.5)).startswith("float32[] 2.5 #")
    assert text_of(np.float64(2.5)).startswith("float64[] 2.5 #")
    assert text_of(np.array([1, 2])) != text_of(np.array([2, 1]))
    assert text_of(0.1) == "0.1"
    assert text_of("x" * 100) != text_of("x" * 99 + "y")
    assert text_of(object()) == "an object of type object"
    assert text_of(np.array([object()])) == "an object of type ndarray"


def test_trees_are_told_leaf_by_leaf() -> None:
    tree = {"a": [1, (2.0, None)], "b": {}, "c": {"z", "y"}, "d": Place("m", "f", "n")}
    assert dict(leaves(tree, "t")) == {
        "t/a/0": "1",
        "t/a/1/0": "2.0",
        "t/a/1/1": "None",
        "t/b": "an empty dict",
        "t/c/0": "'y'",
        "t/c/1": "'z'",
        "t/d/module": "'m'",
        "t/d/file": "'f'",
        "t/d/name": "'n'",
    }


def test_a_circle_ends() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert [text for _, text in leaves(circle, "c")] == ["an object of type list"]


# Places


def test_a_job_is_found_by_name_or_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(made_at(place_of(jobs.sound)), Job)
    path = tmp_path / "lonely_jobs.py"
    path.write_text("from tests.jobs import sound\n\ndef own():\n    return sound()\n", encoding="utf-8")
    by_file = Place("lonely_jobs", str(path), "own")
    assert isinstance(made_at(by_file), Job)
    assert isinstance(made_at(by_file), Job)
    monkeypatch.delitem(sys.modules, "lonely_jobs")
    with pytest.raises(ArgumentTypeError, match=r"no function other when it is imported again"):
        made_at(replace(by_file, name="other"))
    monkeypatch.delitem(sys.modules, "lonely_jobs")
    with pytest.raises(ModuleNotFoundError):
        made_at(Place("lonely_jobs", "", "own"))


def test_a_module_that_lacks_something_says_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wanting_jobs.py").write_text("import not_there_at_all\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        made_at(Place("wanting_jobs", str(tmp_path / "wanting_jobs.py"), "job"))


def test_a_script_is_loaded_without_its_main_part_and_stands_for_it(
    assignment: Assignment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "script.py"
    path.write_text(
        "from tests.jobs import sound\nassert __name__ != '__main__'\ndef own():\n    return sound()\n", encoding="utf-8"
    )
    monkeypatch.setattr(faulthandler, "enable", lambda: None)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setitem(sys.modules, "__mp_main__", ModuleType("__mp_main__"))
    children_do.main(replace(assignment, job=Place("", str(path), "own")).plain())
    assert sys.modules["__main__"].__file__ == str(path)
    assert read(Path(assignment.record)).ended == "all 3 epochs are done"


def test_a_job_by_name_leaves_the_main_module_alone(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faulthandler, "enable", lambda: None)
    main = sys.modules["__main__"]
    children_do.main(assignment.plain())
    assert sys.modules["__main__"] is main


def in_main(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> Callable[[], Job]:
    """A job function that stands in a ``__main__`` with these attributes."""

    def job() -> Job:
        raise AssertionError

    job.__module__, job.__qualname__ = "__main__", "job"
    main = ModuleType("__main__")
    vars(main).update({"job": job, **attributes})
    monkeypatch.setitem(sys.modules, "__main__", main)
    return job


def test_a_job_of_a_script_is_found_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.py").touch()
    job = in_main(monkeypatch, __file__=str(tmp_path / "script.py"))
    assert place_of(job) == Place("", str(tmp_path / "script.py"), "job")


def test_a_job_of_a_module_that_is_run_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    job = in_main(monkeypatch, __spec__=jobs.__spec__, __file__=jobs.__file__)
    assert place_of(job) == Place("tests.jobs", jobs.__file__, "job")


def test_a_notebook_is_told_to_write_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentValueError, match=r"defined in a notebook or an interactive session(.|\n)*job\.py"):
        place_of(in_main(monkeypatch))


def test_a_function_under_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    job = in_main(monkeypatch, __spec__=jobs.__spec__)
    sys.modules["__main__"].job = None  # type: ignore[attr-defined]
    with pytest.raises(ArgumentTypeError, match="not found under its own name"):
        place_of(job)


# Wrong arguments


def refusals() -> dict[str, tuple[Callable[[], object], type[TorchflowError], str]]:
    def inner() -> Job:
        raise AssertionError

    trainer, model = Trainer(supervised(nn.MSELoss()), optimizer=sgd(), progress=False), nn.Linear(2, 1)
    sound: Any = jobs.sound
    anything: Any = "x"
    return {
        "a lambda": (
            lambda: verify_resume(lambda: Job(trainer, model, columns(), {})),
            ArgumentTypeError,
            "must be found by its name",
        ),
        "a function in a function": (lambda: verify_observers(inner), ArgumentTypeError, "top of a module"),
        "no function": (lambda: verify_resume(anything), ArgumentTypeError, "got 'x'"),
        "a number of kills": (lambda: verify_resume(sound, kills=anything), ArgumentTypeError, "kills must be a list"),
        "no kills": (lambda: verify_resume(sound, kills=()), ArgumentTypeError, "kills must be a list"),
        "a kill before the first update": (lambda: verify_resume(sound, kills=(0,)), ArgumentValueError, "kills"),
        "kills that fall": (lambda: verify_resume(sound, kills=(5, 3)), ArgumentValueError, "kills must rise"),
        "an unknown signal": (lambda: verify_resume(sound, signal="SIGSTOP"), ArgumentValueError, "signal"),
        "no interval": (lambda: verify_resume(sound, every=anything), ArgumentTypeError, "Every"),
        "one pattern": (lambda: verify_resume(sound, ignore="x"), ArgumentTypeError, "ignore must be a list"),
        "one observer": (lambda: verify_observers(sound, observers="x"), ArgumentTypeError, "observers must be a list"),
        "no time": (lambda: verify_resume(sound, timeout=0.0), ArgumentValueError, "timeout"),
        "no trainer": (lambda: Job(anything, model, columns(), {}), ArgumentTypeError, "must be a torchflow.Trainer"),
        "no mapping": (lambda: Job(trainer, model, columns(), anything), ArgumentTypeError, "must be a mapping"),
        "resume": (lambda: Job(trainer, model, columns(), {"resume": True}), ArgumentValueError, "decides who resumes"),
        "a clock": (lambda: Job(trainer, model, columns(), {"max_seconds": 1}), ArgumentValueError, "give max_updates"),
        "a job function without a job": (lambda: made_at(place_of(jobs.no_job)), ArgumentTypeError, "must return"),
    }


@pytest.mark.parametrize("wrong", refusals())
def test_what_cannot_be_verified_is_refused_before_a_process_starts(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Children, "run")
    call, error, message = refusals()[wrong]
    with pytest.raises(error, match=message):
        call()


def test_a_verification_inside_of_its_own_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(INSIDE, "1")
    with pytest.raises(ArgumentValueError, match=r'verify_observers was called again(.|\n)*__name__ == "__main__"'):
        verify_observers(jobs.sound)


def one_update() -> Job:
    return replace(jobs.sound(), fit={"max_updates": 1})


def unwatched() -> Job:
    return replace(jobs.sound(), fit={"max_updates": 2})


def by_plateau() -> Job:
    def schedule(optimizer: Any, plan: Any) -> Any:
        return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)

    return jobs.plain(scheduler=Schedule(schedule, metric="valid/loss"), callbacks=[jobs.LossSum()], progress=True)


def stream() -> Job:
    dataset = torch.utils.data.TensorDataset(*columns(24))
    return replace(jobs.sound(), train=torch.utils.data.DataLoader(dataset, batch_size=6, shuffle=True), fit={"epochs": 3})


def unseen() -> Job:
    trainer: Trainer[Any, Any] = Trainer(supervised(nn.MSELoss()), optimizer=sgd(), checkpoints="never-touched")
    return Job(trainer, jobs.line, columns(), {"max_updates": 2})


def test_a_run_that_is_too_short_to_go_on_is_refused(in_process: list[Assignment]) -> None:
    with pytest.raises(ArgumentValueError, match="makes 1 update"):
        verify_resume(one_update)


def test_a_kill_after_the_end_is_refused(in_process: list[Assignment]) -> None:
    with pytest.raises(ArgumentValueError, match="kills names update 13, and the run ends after 12"):
        verify_resume(jobs.sound, kills=(3, 13))


def test_a_verification_in_which_nobody_went_on_does_not_pass(in_process: list[Assignment]) -> None:
    with pytest.raises(ArgumentValueError, match="nothing was verified"):
        verify_resume(jobs.sound, kills=(1,), every=Every(updates=5))


def test_a_job_that_nobody_watches_is_refused(in_process: list[Assignment]) -> None:
    with pytest.raises(ArgumentValueError, match="nothing watches this job"):
        verify_observers(unwatched)


def test_an_observer_that_is_not_there_is_named(in_process: list[Assignment]) -> None:
    with pytest.raises(ArgumentValueError, match=r"observers names 'ema'; this job has \['validation'\]"):
        verify_observers(jobs.sound, observers=["ema"])


def test_a_validation_that_a_schedule_wants_stays(in_process: list[Assignment]) -> None:
    assert verify_observers(by_plateau).left_out == ("loss_sum", "progress")


def test_checkpoints_and_progress_are_observers(
    in_process: list[Assignment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert verify_observers(unseen).left_out == ("checkpoints", "progress")
    assert os.listdir(tmp_path) == []
