"""The README's code runs, in a folder of its own, and gives what its comments say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)


def without_numbers(text: str) -> str:
    return re.sub(r"best \S+ at epoch \d+", "best", text)


def test_the_readme_s_code_runs_and_gives_what_its_comments_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    start, loop = blocks("python")
    exec(compile(start, "README.md", "exec"), names)
    said = re.search(r'result\.reason +# "(.*)"', start)
    assert said
    assert without_numbers(names["result"].reason) == without_numbers(said[1])  # their last digits depend on the machine
    score = re.search(r'evaluate\(model, test\) +# \{"loss": (\S+)\}', start)
    assert score
    assert names["trainer"].evaluate(names["model"], names["test"])["loss"] == pytest.approx(float(score[1]), rel=0.05)
    assert names["trainer"].predict(names["model"], names["test"]).shape == (150, 1)
    loaded = names["load_model"]("line.safetensors", into=torch.nn.Linear(1, 1))
    assert torch.equal(loaded.weight, names["model"].weight)
    exec(compile(loop, "README.md", "exec"), names)
    assert (tmp_path / "runs" / "own").is_dir()
    assert names["run"].progress.epoch == 20


def test_the_readme_names_only_commands_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z]+(?:-[a-z]+)*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in ("README.md", "CONTRIBUTING.md"):
        assert set(re.findall(r"make ([a-z]+(?:-[a-z]+)*)", (ROOT / page).read_text(encoding="utf-8"))) <= targets | {"itself"}


def test_the_readme_s_picture_is_there() -> None:
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")


def test_every_pinned_version_lies_in_the_range_that_is_accepted() -> None:
    tomllib = pytest.importorskip("tomllib")
    requirements = pytest.importorskip("packaging.requirements")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    accepted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {name.lower(): version for name, version in (line.split("==") for line in lines if "==" in line)}
    for text in accepted:
        requirement = requirements.Requirement(text)
        if requirement.name != "torchflow-train":
            assert requirement.name.lower() in pinned, f"{requirement.name} is not in constraints.txt"
            assert pinned[requirement.name.lower()] in requirement.specifier
