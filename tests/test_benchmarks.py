"""Each benchmark once, with tiny sizes: that it runs, and that what it compares is the same training. Nothing here looks at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import data, profiling, report, results, scaling, speed
from benchmarks.contestants import CONTESTANTS
from benchmarks.contestants.flow import bare, watched
from benchmarks.contestants.loops import hand, hand_best, losses, tutorial
from benchmarks.workloads import workload


@pytest.fixture(autouse=True)
def results_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")


@pytest.mark.parametrize("what", ["W1", "W2", "W3", "W4"])
def test_the_loops_by_hand_and_torchflow_train_the_same(what: str) -> None:
    small = workload(what).of_rows(workload(what).batch * 3 + 7)
    expected = losses(small, 1)[-1]
    assert expected < small.error(small.model()), "nothing was learnt, so that equal losses say nothing"
    for contestant in (hand, hand_best, tutorial, bare, watched):
        assert small.error(contestant(small).model) == pytest.approx(expected, rel=1e-6), contestant.__name__


def test_contestants_take_turns_here_and_in_processes_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["--workloads", "W1", "--rounds", "1", "--only", "hand-apart,torchflow,keras", "--peers", "/nowhere"]) == 0
    rows = {row["contestant"]: row for row in results.load("speed-W1-1")}
    assert rows["keras"]["left_out"] == "/nowhere/bin/python is not there (make bench-peers)"
    assert [rows[name]["agrees"] for name in ("hand", "hand-apart", "torchflow")] == [True] * 3
    assert rows["hand-apart"]["loss"] < rows["hand"]["loss"], "a process of its own goes on from epoch to epoch"
    assert "keras is left out" in capsys.readouterr().out


def test_a_contestant_that_trains_something_else_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.contestants.loops.hand_best", lambda small: hand(small.shortened(900)))
    assert speed.main(["--workloads", "W1", "--rounds", "1", "--only", "hand-best"]) == 1


def test_names_of_contestants_are_unique_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    names = [one.name for one in CONTESTANTS]
    assert len(set(names)) == len(names)
    with pytest.raises(SystemExit):
        speed.main(["--only", "hnad"])
    assert "unknown: hnad. There are hand, " in capsys.readouterr().err


def test_growth_data_and_profile_are_measured_and_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    for module, parts in ((scaling, scaling.PARTS), (data, data.PARTS)):
        kind = module.__name__.rpartition(".")[2]
        for part, measure in parts.items():
            rows = measure(1, True)
            assert rows
            results.store(f"{kind}-{part}", rows)
    small = workload("W1").of_rows(320)
    rows = profiling.ladder(small, 1)
    results.store("profiling-ladder", [*rows, *({**row, "workload": "W2"} for row in rows)])
    rows = profiling.sampled(small, 0.3)
    results.store("profiling-samples", [*rows, *({**row, "workload": "W2"} for row in rows)])
    page = tmp_path / "performance.rst"
    page.write_text((report.DOCS / "performance.rst").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(report, "DOCS", tmp_path)
    report.main()
    text = page.read_text(encoding="utf-8")
    assert all(word in text for word in ("*Model size.*", "*Import.*", "2,000 JPEGs", "backward, gradients to None", "os.preadv"))
    assert torch.get_num_threads() == threads


def test_results_of_one_contestant_leave_those_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    results.store("part", [{"contestant": "a", "ratio": 1.0}, {"contestant": "b", "ratio": 2.0}], merge="contestant")
    results.store("part", [{"contestant": "b", "ratio": 3.0}], merge="contestant")
    assert [(row["contestant"], row["ratio"]) for row in results.load("part")] == [("a", 1.0), ("b", 3.0)]
    assert results.load("part")[0]["torch"] == torch.__version__
    elsewhere = {**results.machine(), "instructions": "another"}
    with monkeypatch.context() as patch:
        patch.setattr(results, "machine", lambda: elsewhere)
        results.store("part", [{"contestant": "b", "ratio": 4.0}], merge="contestant")
    assert [(row["contestant"], row["ratio"]) for row in results.load("part")] == [("a", 1.0), ("b", 3.0), ("b", 4.0)]
    json.loads((results.FOLDER / "part.json").read_text(encoding="utf-8"))


def test_a_page_without_the_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no block 'speed'"):
        report.put("no marks", "speed", ["text"])
    page = ".. speed: begin (written by `make bench`)\n\nold\n\n.. speed: end\nafter\n"
    assert report.put(page, "speed", ["new"]) == page.replace("old", "new")
