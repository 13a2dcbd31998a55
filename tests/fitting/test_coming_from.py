"""The programs that the documentation puts beside each other do the same work, and torchflow's do it as well as the others'."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import subprocess
import sys
import tomllib
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parent.parent.parent / "docs" / "coming_from"
TASKS = ("line", "digits", "gan", "language", "table")
PEERS = ("keras", "ignite", "lightning")  # in an environment of their own
LIBRARIES = ("torchflow", "torch", *PEERS)
# What a program prints last, and between what it must lie.
RESULTS = {
    "line": (r"valid loss (\S+)$", 0.0, 0.001),
    "digits": (r"test accuracy (\S+)$", 0.95, 1.0),
    "gan": (r"distance from the middle (\S+)$", 0.7, 1.3),
    "language": (r"valid loss a token (\S+)$", 0.0, 0.6),
    "table": (r"test error (\S+)$", 30.0, 55.0),
}


@cache
def result(task: str, library: str) -> float:
    """Run a program in a process that has torch already; return the number that it ends with."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        patch.syspath_prepend(str(FOLDER))
        patch.setenv("KERAS_BACKEND", "torch")
        torch.manual_seed(0)
        with warnings.catch_warnings():
            if library in PEERS:  # what other libraries warn of is theirs
                warnings.simplefilter("ignore")
            runpy.run_path(str(FOLDER / f"{task}_{library}.py"))
    found = re.search(RESULTS[task][0], said.getvalue().strip().splitlines()[-1])
    assert found, said.getvalue()[-500:]
    return float(found[1])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("task", TASKS)
def test_a_program_reaches_what_all_reach(task: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="it brings the data")
    if library in PEERS:
        pytest.importorskip(library, reason="its programs run where it is installed")
    monkeypatch.chdir(tmp_path)  # some leave files behind
    _, least, most = RESULTS[task]
    assert least <= result(task, library) <= most


def test_every_program_is_there_and_none_is_left_over() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.py")) == sorted(
        ["samples.py", *(f"{task}_{library}.py" for task in TASKS for library in LIBRARIES)]
    )


@pytest.mark.parametrize("task", TASKS)
def test_the_programs_of_a_task_say_the_same_numbers(task: str) -> None:
    """Also those of libraries that are not installed. Seen to fail when one learns at another rate, or from other data."""
    said = r"(?:samples import |\b(?:lr|learning_rate|batch_size)=|optimizers\.\w+\()([\d.]+|(?!lambda)[a-z]+)"
    texts = {library: (FOLDER / f"{task}_{library}.py").read_text(encoding="utf-8") for library in LIBRARIES}
    numbers = {library: sorted(set(re.findall(said, text))) for library, text in texts.items()}
    assert [library for library in LIBRARIES if numbers[library] != numbers["torch"]] == [], numbers


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("task", ["digits", "table"])
def test_a_program_that_stops_by_its_validation_is_judged_by_other_data(task: str, library: str) -> None:
    """Seen to fail when the last lines look at the data of the training."""
    *_, before, last = (FOLDER / f"{task}_{library}.py").read_text(encoding="utf-8").strip().splitlines()
    assert "test" in re.sub(r"test (accuracy|error)", "", before + last)


def lines(task: str, library: str) -> int:
    """Lines of code, as the page counts them."""
    said = [line.strip() for line in (FOLDER / f"{task}_{library}.py").read_text(encoding="utf-8").splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in said)


@pytest.mark.parametrize("task", TASKS)
def test_no_program_is_shorter_than_that_of_torchflow(task: str) -> None:
    assert lines(task, "torchflow") == min(lines(task, library) for library in LIBRARIES)


def test_all_programs_are_laid_out_by_one_rule() -> None:
    """Otherwise a comma at the end of a list would make a program longer."""
    command = [sys.executable, "-m", "ruff", "format", "--check", "--no-cache", str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with (FOLDER / "ruff.toml").open("rb") as file:
        rules = tomllib.load(file)
    assert rules["format"] == {"skip-magic-trailing-comma": True}
    assert rules["extend"] == "../../pyproject.toml"  # the columns are those of the project
    assert not [path.name for path in FOLDER.glob("*.py") if re.search(r"fmt: *(off|skip)|;\n", path.read_text(encoding="utf-8"))]
