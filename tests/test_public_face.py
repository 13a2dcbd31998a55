"""The names that users import: pinned, sorted, documented, and cheap to import."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import torchflow
from torchflow import callbacks, data, errors, metrics

# A name that is added or taken away is a decision about the library's face: it is made here as well.
FACE = [
    "EMA",
    "SWA",
    "BatchSizes",
    "CSVLog",
    "Callback",
    "Checkpoints",
    "CrossValidation",
    "EarlyStopping",
    "EpochEnded",
    "EpochStarted",
    "Event",
    "Every",
    "Failed",
    "Finished",
    "Fold",
    "Freeze",
    "GradientNorm",
    "Gradients",
    "History",
    "JSONLines",
    "Layer",
    "LearningRate",
    "LearningRateTest",
    "Notify",
    "Outputs",
    "Plan",
    "Profile",
    "Progress",
    "ProgressBar",
    "Rehearsal",
    "Result",
    "Resume",
    "Run",
    "RunPlan",
    "Sample",
    "Schedule",
    "Started",
    "Step",
    "Stepped",
    "Stop",
    "Summary",
    "TensorBoard",
    "Throughput",
    "Timer",
    "Trainer",
    "Unfreeze",
    "Updates",
    "Validated",
    "cross_validate",
    "data",
    "errors",
    "events",
    "find_batch_size",
    "find_learning_rate",
    "import_torch",
    "layer_wise",
    "load",
    "load_model",
    "metrics",
    "one_cycle",
    "plots",
    "save",
    "save_model",
    "summary",
    "supervised",
    "update",
    "warm_up_cosine",
]
DATA_FACE = [
    "Batches",
    "Bucketed",
    "Categories",
    "Categorized",
    "Dataset",
    "Draw",
    "Field",
    "FittedEncoder",
    "FittedVocabulary",
    "KMers",
    "LogMel",
    "MaskedLoss",
    "Overlap",
    "PadBatch",
    "Padded",
    "RandomReverseComplement",
    "Schema",
    "SplitReport",
    "Standardize",
    "Standardized",
    "TableEncoder",
    "TableEncoding",
    "Vocabulary",
    "Workers",
    "as_dataset",
    "augment",
    "batches_of",
    "check_splits",
    "collate",
    "dna_codes",
    "dna_one_hot",
    "dna_text",
    "encoder_from_state",
    "from_arrays",
    "from_audio",
    "from_csv",
    "from_dicom",
    "from_excel",
    "from_fasta",
    "from_fastq",
    "from_frame",
    "from_function",
    "from_genome",
    "from_images",
    "from_iterable",
    "from_parquet",
    "from_tensors",
    "from_text",
    "from_video",
    "linear",
    "load_encoders",
    "read_labels",
    "reverse_complement",
]
CALLBACKS_FACE = [
    "EMA",
    "SWA",
    "Best",
    "CSVLog",
    "Callback",
    "Checkpoints",
    "EarlyStopping",
    "Freeze",
    "GradientNorm",
    "History",
    "JSONLines",
    "Judged",
    "LearningRate",
    "Notify",
    "Profile",
    "ProgressBar",
    "Rule",
    "Sample",
    "Speed",
    "Stop",
    "TensorBoard",
    "Throughput",
    "Timer",
    "Times",
    "Unfreeze",
    "judge",
]
DOCS = Path(__file__).parent.parent / "docs" / "api"
ERRORS = sorted(name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, errors.TorchflowError))
PUBLIC = [
    *((torchflow, name) for name in torchflow.__all__),
    *((data, name) for name in data.__all__),
    *((callbacks, name) for name in callbacks.__all__),
    *((errors, name) for name in ERRORS),
]
IDS = [f"{module.__name__}.{name}" for module, name in PUBLIC]


@pytest.mark.parametrize(("module", "face"), [(torchflow, FACE), (data, DATA_FACE), (callbacks, CALLBACKS_FACE)])
def test_the_public_names_are_pinned_and_sorted(module: ModuleType, face: list[str]) -> None:
    assert list(module.__all__) == face
    # Abbreviations, classes, functions, as the linter wants __all__.
    assert face == sorted(face, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=IDS)
def test_every_public_name_is_there_and_says_what_it_is(module: ModuleType, name: str) -> None:
    value = getattr(module, name)
    if name == "Event":  # a union of types, which has no docstring of its own
        return
    assert (inspect.getdoc(value) or "").strip(), f"{module.__name__}.{name} has no docstring"


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=IDS)
def test_every_public_name_has_its_place_in_the_documentation(module: ModuleType, name: str) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.rst"))
    whole_modules = {"augment", "errors", "data", "metrics", "plots"}
    by_module = module is errors and ".. automodule:: torchflow.errors" in pages
    assert by_module or name in whole_modules or re.search(rf"^\.\. auto\w+:: {name}$", pages, re.MULTILINE)


def public_functions() -> list[tuple[str, Callable[..., object], str]]:
    """Every public function and method of the package's face, with the docstring that describes its parameters."""
    found: dict[str, tuple[Callable[..., object], str]] = {}
    for module, name in PUBLIC:
        value = getattr(module, name)
        if inspect.isfunction(value):
            found[f"{module.__name__}.{name}"] = (value, inspect.getdoc(value) or "")
        elif (
            inspect.isclass(value)
            and "arguments are those of" not in (value.__doc__ or "")
            and not getattr(value, "_is_protocol", False)
        ):
            constructor = vars(value).get("__init__")
            if inspect.isfunction(constructor) and "Attributes:" not in (value.__doc__ or ""):
                found[f"{module.__name__}.{name}"] = (constructor, inspect.getdoc(value) or "")
    for method in (torchflow.Trainer.fit, torchflow.Trainer.evaluate, torchflow.Trainer.predict):
        found[f"torchflow.{method.__qualname__}"] = (method, inspect.getdoc(method) or "")
    return [(name, function, doc) for name, (function, doc) in sorted(found.items())]


@pytest.mark.parametrize(("name", "function", "doc"), public_functions(), ids=[name for name, _, _ in public_functions()])
def test_every_parameter_of_a_public_function_is_described(name: str, function: Callable[..., object], doc: str) -> None:
    parameters = [p for p in inspect.signature(function).parameters if p != "self"]
    section = re.search(r"^Args:\n((?:[ ]{4}.*\n?|\n)+)", doc, re.MULTILINE)
    described = set(re.findall(r"^ {4}\*{0,2}(\w+):", section.group(1), re.MULTILINE)) if section else set()
    assert [p for p in parameters if p not in described] == [], f"{name} does not describe them in Args"


def test_every_error_is_a_torchflow_error_and_a_builtin_one() -> None:
    for name in ERRORS:
        error = getattr(errors, name)
        if error is not errors.TorchflowError:
            builtin = (TypeError, ValueError, RuntimeError, ArithmeticError, ImportError)
            assert issubclass(error, builtin), f"{name} cannot be caught by a user who knows only Python"


def test_the_tree_in_the_docstring_of_errors_is_the_tree() -> None:
    drawn = re.findall(r"[├└]── (\w+)", errors.__doc__ or "")
    assert sorted([*drawn, "TorchflowError"]) == ERRORS


def test_metrics_has_a_docstring() -> None:
    assert (metrics.__doc__ or "").strip()


def test_importing_torchflow_does_not_import_what_a_run_may_not_need() -> None:
    expensive = (
        "matplotlib",
        "pandas",
        "sklearn",
        "scipy",
        "torchmetrics",
        "tqdm",
        "PIL",
        "soundfile",
        "soxr",
        "av",
        "torch._dynamo",
        "torch._inductor",
    )
    program = (
        "import sys, torch\nbefore = set(sys.modules)\nimport torchflow\nprint(*sorted(set(sys.modules) - before), sep='\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    assert "torchflow" in imported
    assert [name for name in expensive if name in imported] == []


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version  # noqa: PLC0415, used here alone

    assert torchflow.__version__ == version("torchflow-train")
