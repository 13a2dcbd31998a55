"""The files of typing_tests/: what they hold. Whether mypy agrees with them is said by mypy, which reads them with the rest.

A line under ``wrong_…`` carries ``# type: ignore[code]``; where mypy accepts such a line, ``warn_unused_ignores`` (which strict
switches on) makes the comment the error. So the files are right exactly where ``mypy`` has nothing to say about them.
"""

from __future__ import annotations

import ast
import inspect
import re
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import torchflow
from torchflow import callbacks, data, metrics, plots, testing
from torchflow.data import augment

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "typing_tests").glob("*.py"))
IGNORE = re.compile(r"# type: ignore\[([a-z, -]+)\]")


@cache
def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@cache
def comments(path: Path) -> dict[int, str]:
    """The comments of a file by line; one within a text is none."""
    with path.open("rb") as file:
        return {token.start[0]: token.string for token in tokenize.tokenize(file.readline) if token.type == tokenize.COMMENT}


def uses(path: Path, word: str) -> Iterator[tuple[int, bool]]:
    """The line of every use under a function or class whose name begins with ``word``, and whether it is ignored there."""
    for top in syntax_tree(path).body:
        if isinstance(top, (ast.FunctionDef, ast.ClassDef)) and top.name.lower().startswith(word):
            for node in ast.walk(top):
                hook = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and isinstance(top, ast.ClassDef)
                text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)  # a docstring, or "..."
                plain = isinstance(node, (ast.Expr, ast.Assign, ast.AnnAssign, ast.Return)) and not text
                if hook or plain:
                    assert isinstance(node, ast.stmt)
                    yield node.lineno, IGNORE.search(comments(path).get(node.lineno, "")) is not None


def test_mypy_reads_the_files_and_calls_an_ignore_that_nothing_needs_an_error() -> None:
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert "typing_tests" in mypy["files"]
    assert mypy["strict"] is True
    assert "warn_unused_ignores" not in mypy
    assert "disable_error_code" not in mypy


def test_there_are_many_right_and_many_wrong_uses() -> None:
    assert sum(1 for path in FILES for _ in uses(path, "right")) >= 60
    assert sum(ignored for path in FILES for _, ignored in uses(path, "wrong")) >= 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_right_uses_are_ignored_nowhere_and_wrong_ones_everywhere(path: Path) -> None:
    right, wrong = list(uses(path, "right")), list(uses(path, "wrong"))
    assert right != []
    assert wrong != []
    assert [f"{path.name}:{line}" for line, ignored in right if ignored] == []
    assert [f"{path.name}:{line}" for line, ignored in wrong if not ignored] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_use_is_ignored_without_a_code(path: Path) -> None:
    bare = [line for line, text in comments(path).items() if "type: ignore" in text and not IGNORE.search(text)]
    assert bare == []


# Types that come again and again in the public face, and why they leave something open. Every other Any has a comment.
REASONS = {
    "Run[Any, Any]": "callbacks and savers serve every model and batch",
    "Trainer[Any, Any]": "a job may be of every model and batch",
    "Result[Any]": "a picture of a result is the same for every model",
    "Dataset[Any]": "what learns takes all samples; and whether files have labels, which make samples pairs, is known once they are read",
    "Iterable[Any]": "as a dataset",
    "Sequence[Any]": "labels and samples are whatever the user has",
    "list[Any]": "samples, on their way to a batch, are whatever the user has",
    "np.ndarray[Any, Any]": "its shape and dtype are checked when it is read",
    "Mapping[str, Any]": "a state from a file, or keyword arguments: who takes them checks them",
}


def headers(module: object) -> Iterator[tuple[str, str, str]]:
    """Every public function, method and field: its name, its annotations, and its lines with the one above."""
    for name in getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]:
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)) or not value.__module__.startswith("torchflow"):
            continue
        path = Path(inspect.getsourcefile(value) or "")
        lines = path.read_text(encoding="utf-8").splitlines()
        for top in syntax_tree(path).body:
            if getattr(top, "name", None) != value.__name__:
                continue
            for node in [top, *top.body] if isinstance(top, ast.ClassDef) else [top]:
                end = (
                    max(node.lineno, node.body[0].lineno - 1)
                    if isinstance(node, ast.FunctionDef)
                    else getattr(node, "end_lineno", 0)
                )
                if isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name in ("__init__", "__call__")):
                    arguments = (node.args.posonlyargs, node.args.args, node.args.kwonlyargs, [node.args.vararg, node.args.kwarg])
                    annotated = [each.annotation for group in arguments for each in group if each is not None]
                    texts = [ast.unparse(each) for each in (*annotated, node.returns) if each is not None]
                    label = node.name
                elif isinstance(node, ast.AnnAssign):
                    texts, label = [ast.unparse(node.annotation)], ast.unparse(node.target)
                else:
                    continue
                yield f"{value.__module__}.{name}: {label}", "; ".join(texts), "\n".join(lines[node.lineno - 2 : end])


def test_an_any_in_a_public_signature_has_its_reason() -> None:
    without, known = [], re.compile("|".join(map(re.escape, REASONS)))
    for module in (torchflow, data, callbacks, plots, testing, metrics, augment):
        for place, annotated, lines in headers(module):
            if re.search(r"\bAny\b", known.sub("", annotated)) and "#" not in lines:
                without.append(f"{place}({annotated})")
    assert sorted(set(without)) == []
