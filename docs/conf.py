"""Sphinx: built with every warning an error, without a network."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import torchflow
from torchflow import data, errors

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
import gallery_pages  # noqa: E402  (these lie beside this file)
import house_page  # noqa: E402

project = "torchflow"
author = "the torchflow authors"
copyright = "the torchflow authors, Apache-2.0"
version = release = torchflow.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
sphinx_gallery_conf = {
    "examples_dirs": gallery_pages.copied(DOCS.parent / "examples", DOCS / "_build" / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": "",  # every example is run, where `-D plot_gallery=0` does not say otherwise
    "image_scrapers": ("gallery_pages.pictures",),
    "reset_modules": (),  # examples draw without pyplot, and seed what they draw from
    "within_subsection_order": "FileNameSortKey",
    "thumbnail_size": (600, 420),
    "default_thumb_file": str(DOCS / "_static" / "no_picture.png"),
    "notebook_extensions": set(),  # a notebook has no command line, which the examples read
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "inspect_global_variables": False,
}
exclude_patterns = ["_build", "kinds"]  # the pages of kinds are parts of another
html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"torchflow {release}"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["pages.css"]
html_show_sourcelink = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True
napoleon_use_rtype = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88  # a longer one is shown with a line for each argument

sys.path.insert(0, str(Path(__file__).parent.parent))  # some of what the pages show is in tests/

# Code in these pages writes files: it runs in a folder of its own, in silence. Libraries that the how-to pages show and that are
# not there are stood in for; a page that has no such part is left out.
os.environ.setdefault("TORCHFLOW_DOCS_FOLDER", tempfile.mkdtemp(prefix="torchflow-docs-"))
doctest_global_setup = """
import os, sys, tempfile
os.chdir(tempfile.mkdtemp(dir=os.environ["TORCHFLOW_DOCS_FOLDER"]))
import torch
from torch import nn
import torchflow
from torchflow import *
from importlib.util import find_spec
from tests.fitting.libraries import stand_ins
sys.modules.update(stand_ins())
absent = lambda name: find_spec(name) is None
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
    ("py:.*", r"(torchflow\.)?(types\.)?(B|M|T|U|V|Tree|T_co|B_contra|M_contra)"),
    # Aliases and inner types that annotations show; the text beside them says what is meant.
    (
        "py:.*",
        r"(torchflow\.)?(\w+\.)*(Data|State|SchedulerRecipe|OptimizerRecipe|MetricFunction|Metric|Stateful|HasState|Supervised|LastBatch|SampleValues)",
    ),
    (
        "py:.*",
        r"(torchflow\.)?(\w+\.)*(Source|Frame|ArrowStream|Part|Amounts|Classes|FileSystem|Keys|Choices|Scheduling|Averages|Saver|Alarm|Hook)",
    ),
    ("py:.*", r"(torchflow\.)?(\w+\.)*(Labelling|Tokens|Bucketing|Numbers|Labels|Paths|FitOptions|FoldOptions|Prepare)"),
    ("py:.*", r"optional"),
]

PUBLIC = {
    **{name: f"torchflow.errors.{name}" for name, value in vars(errors).items() if isinstance(value, type)},
    **{name: f"torchflow.data.{name}" for name in data.__all__},
    **{name: f"torchflow.{name}" for name in torchflow.__all__ if name not in ("data", "errors", "events", "metrics", "plots")},
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


TASKS = {
    "line": (
        "A line",
        "Linear regression, 20 epochs. The loss of the last, shorter batch weighs less in all five; by hand, that is a line of its own.",
    ),
    "digits": (
        "Digits",
        "A small convolutional network that stops early and is measured on test data with its best weights. Lightning and Ignite keep those "
        "in a file, the others in memory.",
    ),
    "gan": (
        "A GAN",
        "Two networks, each with its own loss and optimizer. In torchflow each loss is a function of its own, with noise of its own, so the generator "
        "runs forward once more in an update, without gradients; the other programs judge and train the same points. With ``checkpoints=`` and "
        "``resume=True``, the run of torchflow can be stopped at any update and ends with the same bits, noise included.",
    ),
    "language": (
        "A language model",
        "Texts of several lengths, filled up with zeros that must not count. In torchflow every average is one over tokens, in training "
        "too: the loss says how many it counts. By hand, in Lightning and in Ignite the validation does so because it was written; Keras is told by weights. torch's GRU gives "
        "its last state beside its outputs: ``forward=`` says which are the predictions.",
    ),
    "table": (
        "A table, with early stopping",
        "Numbers are standardised by what the training part holds. torchflow refuses to learn them from another part; elsewhere it is up to "
        "the reader of the program to see that they were not.",
    ),
}
LIBRARIES = {"torchflow": "torchflow", "keras": "Keras", "ignite": "Ignite", "lightning": "Lightning", "torch": "plain PyTorch"}


def lines_of_code(program: Path) -> int:
    """Return how many lines of a program are neither empty nor a comment."""
    lines = [line.strip() for line in program.read_text(encoding="utf-8").splitlines()]
    return sum(bool(line) and not line.startswith("#") for line in lines)


def count_table(folder: Path) -> str:
    """Return the table of how many lines each program has."""
    table = [".. list-table::", "   :header-rows: 1", "", "   * - training"]
    table += [f"     - {name}" for name in LIBRARIES.values()]
    for task, (title, _) in TASKS.items():
        table += [f"   * - {title}", *(f"     - {lines_of_code(folder / f'{task}_{library}.py')}" for library in LIBRARIES)]
    return "\n".join(table) + "\n"


def programs() -> str:
    """Return every program, those of one task beside each other."""
    text = []
    for task, (title, remark) in TASKS.items():
        text += [title, "-" * len(title), "", remark, "", ".. container:: beside", ""]
        for library, name in LIBRARIES.items():
            text += [f"   .. literalinclude:: coming_from/{task}_{library}.py", f"      :caption: {name}", ""]
    return "\n".join(text)


def gathered(app: Any, page: str, source: list[str]) -> None:
    """Put the parts of pages together: kinds of data, common mistakes, programs that are compared; and give examples a title."""
    folder = Path(app.srcdir)
    if page == "data-kinds":
        found = sorted((path.stem for path in (folder / "kinds").glob("*.rst")), key=lambda name: (*KINDS, name).index(name))
        source[0] = source[0].replace(".. the kinds\n", "".join(f".. include:: kinds/{name}.rst\n\n" for name in found))
    if page == "mistakes":
        source[0] = source[0].replace(".. the mistakes\n", mistakes(folder))
    if page == "explanation/floors":
        root = folder.parent
        source[0] = source[0].replace(
            ".. the floors\n", house_page.house(root / "tests" / "test_house.py", root / "src" / "torchflow")
        )
    if page.startswith("gallery/"):
        source[0] = gallery_pages.titled(page, source[0])
    if page == "coming-from":
        source[0] = (
            source[0].replace(".. the counts\n", count_table(folder / "coming_from")).replace(".. the programs\n", programs())
        )


def mistakes(folder: Path) -> str:
    """Return the table of common mistakes: each is made, and what is said of it goes into the table."""
    from tests.mistakes import MISTAKES, said  # noqa: PLC0415  (a page of its own needs it)

    head = ".. list-table::\n   :header-rows: 1\n   :widths: 28 72\n\n   * - mistake\n     - what torchflow says\n"
    rows = [f"   * - {cell(mistake.title)}\n     - {cell(said(mistake))}\n" for mistake in MISTAKES]
    return head + "".join(rows)


def cell(text: str) -> str:
    """Return a text as plain words of a table, without the note of where it was."""
    lines = [line.removeprefix("torchflow: ") for line in text.splitlines() if not line.startswith("torchflow: in update")]
    return re.sub(r"([\\*`|_])", r"\\\1", " ".join(lines))


def setup(app: Any) -> None:
    """Connect the resolver, and what gathers pages."""
    app.connect("missing-reference", resolve)
    app.connect("source-read", gathered)
