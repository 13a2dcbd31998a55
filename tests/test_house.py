"""The structure of the package: which way imports point, who may call what, and how long things are."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "torchflow"

# From the ground up. A unit is a file or a package; it imports only from the floors below its own, so that neighbours on one
# floor do not know each other.
FLOORS = (
    ("caller", "errors", "lazy", "names", "text_table", "types", "tree"),
    ("arguments", "copies", "figures", "loss_counts", "loss_mistakes", "weighted_mean"),
    ("keywords",),
    ("intervals",),
    ("device", "finite", "optimizer_steps", "precision", "randomness", "distributed", "checkpoint", "interruption"),
    ("data", "microbatches", "recomputing", "update_randomness"),
    ("choices", "events", "step", "state"),
    ("steps",),
    ("averages", "hooks", "limits", "metrics", "mistakes", "moments", "saver", "schedule", "updates"),
    ("recipes",),
    ("run",),
    ("evaluation", "microbatching", "saving"),
    ("updating",),
    ("alternating",),
    ("loop", "compiled"),
    ("plots",),
    ("range_test",),
    ("callbacks",),
    ("building", "cached_folders", "inspection", "options", "run_plan", "summarizing"),
    ("blueprint",),
    ("trials",),
    ("planning", "rehearsal"),
    ("trainer", "report"),
    ("cross_validation", "finding_batch", "finding_rate"),
    ("testing",),
    ("__init__",),
    ("command",),
    ("__main__",),
)
FLOOR_OF = {unit: floor for floor, units in enumerate(FLOORS) for unit in units}

# Longer than the limit for a reason that a reader would accept.
LONG_FILES: dict[str, str] = {
    "data/dataset.py": "one class: two thirds of it are the docstrings of the algebra's methods, which are the library's face",
    "trainer.py": "one class: most of it is the signatures and docstrings of six methods with many arguments, which are the library's face",
}
LONG_FUNCTIONS: dict[str, str] = {}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 250, 40

FILES = sorted(str(path.relative_to(SOURCE)) for path in SOURCE.rglob("*.py"))


@cache
def syntax_tree(file: str) -> ast.Module:
    return ast.parse((SOURCE / file).read_text(encoding="utf-8"), filename=file)


def module_of(file: str) -> str:
    """The dotted name inside the package: data/order.py is data.order, and data/__init__.py is data."""
    parts = Path(file).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def unit_of(module: str) -> str:
    return module.partition(".")[0]


def walk_without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from walk_without_type_checking(child)


def imported_modules(file: str) -> set[str]:
    """The modules of the package that a file imports when it runs, at its top or inside a function."""
    modules = {module_of(other) for other in FILES}
    found = set()
    for node in walk_without_type_checking(syntax_tree(file)):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relatively; the house writes full names"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            head, _, rest = name.partition(".")
            if head == "torchflow":
                while rest and rest not in modules:
                    rest = rest.rpartition(".")[0]
                found.add(rest or "__init__")
    return found - {module_of(file)}


def test_every_file_has_its_floor() -> None:
    units = {unit_of(module_of(file)) for file in FILES}
    assert units - set(FLOOR_OF) == set(), "put the new file on a floor of the table in this test"


def test_the_table_of_floors_names_each_unit_once() -> None:
    units = [unit for floor in FLOORS for unit in floor]
    assert len(units) == len(set(units))


@pytest.mark.parametrize("file", FILES)
def test_imports_point_downwards_only(file: str) -> None:
    here = unit_of(module_of(file))
    upwards = [
        f"{file} (floor {FLOOR_OF[here]}) imports {other} (floor {FLOOR_OF[unit_of(other)]})"
        for other in sorted(imported_modules(file))
        if unit_of(other) != here and FLOOR_OF[unit_of(other)] >= FLOOR_OF[here]
    ]
    assert upwards == []


def test_no_two_files_import_each_other_even_around_corners() -> None:
    graph = {module_of(file): imported_modules(file) for file in FILES}
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, "a circle of imports: " + " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in sorted(graph[module]):
                visit(other, (*path, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def names_used(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every dotted name that a file uses or imports, with its line, and ``.to()`` for the call of a method."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Attribute, ast.Name)):
            yield node.lineno, ast.unparse(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield node.lineno, f".{node.func.attr}()"
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def last_name(name: str) -> str:
    return name.rpartition(".")[2]


RIGHTS: dict[str, tuple[Callable[[str], bool], set[str]]] = {
    ".to(": (lambda name: name == ".to()", {"device.py"}),
    "autocast": (lambda name: last_name(name) == "autocast", {"precision.py"}),
    "gradient clipping": (lambda name: last_name(name).startswith("clip_grad"), {"precision.py"}),
    "gradient scaling": (lambda name: last_name(name) == "GradScaler", {"precision.py"}),
    "seeding": (lambda name: last_name(name) in ("manual_seed", "manual_seed_all"), {"randomness.py"}),
    "shuffling": (lambda name: last_name(name) in ("randperm", "shuffle()", "permutation"), {"data/order.py"}),
    "torch.save": (lambda name: name in ("torch.save", "torch.serialization.save"), set()),
    # Weights of other programs come as pickles: one file reads them, with weights_only=True, and no resume goes through it.
    "torch.load": (lambda name: name in ("torch.load", "torch.serialization.load"), {"checkpoint/foreign.py"}),
    "pickle": (lambda name: name.partition(".")[0] in ("pickle", "cloudpickle", "dill", "marshal", "shelve"), set()),
    "torch.distributed": (lambda name: name.startswith("torch.distributed"), {"distributed.py"}),
    "running text": (lambda name: name in ("eval", "exec", "__import__"), set()),
}


@pytest.mark.parametrize("right", RIGHTS)
def test_only_its_owner_may_use(right: str) -> None:
    wants, owners = RIGHTS[right]
    trespassers = [
        f"{file}:{line} uses {name}"
        for file in FILES
        if file not in owners
        for line, name in names_used(syntax_tree(file))
        if wants(name)
    ]
    assert trespassers == []


@pytest.mark.parametrize(
    ("right", "code"),
    [
        (".to(", "x.to('cuda')"),
        ("autocast", "with torch.autocast('cuda'): ..."),
        ("gradient clipping", "from torch.nn.utils import clip_grad_norm_"),
        ("seeding", "torch.cuda.manual_seed_all(1)"),
        ("shuffling", "random.shuffle(x)"),
        ("torch.save", "torch.save(x, 'f')"),
        ("torch.load", "from torch import load"),
        ("pickle", "import pickle"),
        ("torch.distributed", "import torch.distributed as dist"),
        ("torch.distributed", "from torch import distributed"),
    ],
)
def test_the_rules_see_what_they_are_for(right: str, code: str) -> None:
    wants, _ = RIGHTS[right]
    assert any(wants(name) for _, name in names_used(ast.parse(code)))


def functions(file: str) -> Iterator[tuple[str, int]]:
    """Every function with the lines of its body, the docstring left out."""

    def visit(node: ast.AST, path: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            name = f"{path}.{child.name}" if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) else path
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                body = child.body[1:] if ast.get_docstring(child) is not None else child.body
                yield name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            yield from visit(child, name)

    yield from visit(syntax_tree(file), file)


def test_functions_stay_under_forty_lines() -> None:
    long = {name: lines for file in FILES for name, lines in functions(file) if lines >= LINES_OF_A_FUNCTION}
    assert {name: lines for name, lines in long.items() if name not in LONG_FUNCTIONS} == {}
    assert set(LONG_FUNCTIONS) <= set(long), "an exception that is no longer needed"


def test_files_stay_under_two_hundred_and_fifty_lines() -> None:
    lengths = {file: len((SOURCE / file).read_text(encoding="utf-8").splitlines()) for file in FILES}
    long = {file: lines for file, lines in lengths.items() if lines >= LINES_OF_A_FILE}
    assert {file: lines for file, lines in long.items() if file not in LONG_FILES} == {}
    assert set(LONG_FILES) <= set(long), "an exception that is no longer needed"


FORBIDDEN_NAMES = ("Manager", "Handler", "Helper", "Utils", "Mixin")


def test_no_class_is_called_by_a_word_that_says_nothing() -> None:
    empty = [
        f"{file}: {node.name}"
        for file in FILES
        for node in ast.walk(syntax_tree(file))
        if isinstance(node, ast.ClassDef) and node.name.endswith(FORBIDDEN_NAMES)
    ]
    assert empty == []
