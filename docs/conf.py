"""Sphinx: built with every warning an error, without a network."""

from __future__ import annotations

import ast
import os
import tempfile
from pathlib import Path
from typing import Any

import torchflow
from torchflow import data, errors

project = "torchflow"
author = "the torchflow authors"
copyright = "the torchflow authors, Apache-2.0"
version = release = torchflow.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "kinds"]  # the pages of kinds are parts of another
html_theme = "furo"
html_title = f"torchflow {release}"
html_static_path = ["_static"]
html_show_sourcelink = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True

# Code in these pages writes files: it runs in a folder of its own, in silence.
os.environ.setdefault("TORCHFLOW_DOCS_FOLDER", tempfile.mkdtemp(prefix="torchflow-docs-"))
doctest_global_setup = """
import os, tempfile
os.chdir(tempfile.mkdtemp(dir=os.environ["TORCHFLOW_DOCS_FOLDER"]))
import torch
from torch import nn
import torchflow
from torchflow import *
torch.manual_seed(0)
"""

# Names of other projects, whose pages are not at hand while building, and type variables.
nitpick_ignore_regex = [
    ("py:.*", r"(torch|nn|np|numpy|pd|pandas|os|pathlib|abc|collections|typing|matplotlib|contextlib)\..*"),
    (
        "py:.*",
        r"(Any|AbstractContextManager|Callable|Collection|Generator|Iterable|Iterator|Mapping|Sequence|Literal|Path|TextIO|NamedTuple|Protocol)",
    ),
    ("py:.*", r"(Tensor|LRScheduler|Optimizer|DataLoader|Generic|Figure|random|PathLike\[str\])"),
    ("py:.*", r"(torchflow\.)?(types\.)?(B|M|T|U|T_co|B_contra|M_contra)"),
    # Aliases and inner types that annotations show; the text beside them says what is meant.
    ("py:.*", r"(torchflow\.)?(\w+\.)*(Data|State|SchedulerRecipe|OptimizerRecipe|MetricFunction|Metric|Stateful|Supervised)"),
    (
        "py:.*",
        r"(torchflow\.)?(\w+\.)*(Source|Frame|ArrowStream|Part|Amounts|Classes|FileSystem|Keys|Choices|Scheduling|Averages|Saver|Alarm|Hook)",
    ),
    ("py:.*", r"(torchflow\.)?(\w+\.)*(Labelling|Tokens|Bucketing)"),
    ("py:.*", r"optional"),
]

PUBLIC = {
    **{name: f"torchflow.errors.{name}" for name, value in vars(errors).items() if isinstance(value, type)},
    **{name: f"torchflow.data.{name}" for name in data.__all__},
    **{name: f"torchflow.{name}" for name in torchflow.__all__ if name not in ("data", "errors", "events", "metrics")},
}


def resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Lead a reference to the place where a name is defined to the place where users import it from."""
    target = PUBLIC.get(node.get("reftarget", "").rpartition(".")[2])
    if target is None or node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    found = domain.objects.get(target)
    if found is None:
        return None
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, content)


KINDS = ("tables", "excel", "images", "dicom", "audio", "video", "dna", "text", "series", "caches")


def gathered(app: Any, page: str, source: list[str]) -> None:
    """Put the parts of two pages together: a page of each kind of data, and the examples with their pictures."""
    folder = Path(app.srcdir)
    if page == "data-kinds":
        found = sorted((path.stem for path in (folder / "kinds").glob("*.rst")), key=lambda name: (*KINDS, name).index(name))
        source[0] = source[0].replace(".. the kinds\n", "".join(f".. include:: kinds/{name}.rst\n\n" for name in found))
    if page == "gallery":
        entries = [entry(folder, path) for path in sorted((folder.parent / "examples").glob("*.py"))]
        source[0] = source[0].replace(".. the examples\n", "\n".join(entries))


def entry(folder: Path, example: Path) -> str:
    """Return what the gallery says of an example: the first line of its docstring, its picture, and the code."""
    docstring = ast.get_docstring(ast.parse(example.read_text(encoding="utf-8"))) or ""
    sentence = docstring.partition("\n")[0].partition(" Run python ")[0]
    title = example.stem.replace("_", " ").capitalize()
    picture = f"_static/{example.stem}.png"
    shown = f".. image:: {picture}\n   :alt: What the example draws.\n\n" if (folder / picture).is_file() else ""
    code = f":download:`{example.name} <../examples/{example.name}>`"
    return f"{title}\n{'-' * len(title)}\n\n{sentence}\n\n{shown}{code}\n"


def setup(app: Any) -> None:
    """Connect the resolver, and what gathers pages."""
    app.connect("missing-reference", resolve)
    app.connect("source-read", gathered)
