"""What a release says of itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import torchflow

ROOT = Path(__file__).parent.parent


def test_the_version_stands_in_one_place_and_is_repeated_without_a_slip() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "torchflow.__version__"}
    assert f"\nversion: {torchflow.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(
        rf"^## \[{re.escape(torchflow.__version__)}\] - ", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_every_extra_but_those_of_the_project_itself_is_in_all() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = set(re.findall(r"\w+", extras["all"][0].partition("[")[2]))
    assert named == set(extras) - {"all", "examples", "test", "docs"}
