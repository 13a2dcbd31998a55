"""Weights of other programs: what is read, what is refused, and that nothing is ever executed."""

from __future__ import annotations

import ast
import os
import pickle
import re
import warnings
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchflow
from tests.watching import Watch, watched
from torchflow import import_torch
from torchflow.checkpoint import foreign
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CheckpointError, CorruptCheckpointError


def saved(folder: Path, content: object, **choices: Any) -> Path:
    path = folder / "theirs.pt"
    torch.save(content, path, **choices)
    return path


@pytest.mark.parametrize("new_format", [True, False])
def test_a_state_dict_comes_back_as_it_is(tmp_path: Path, new_format: bool) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    path = saved(tmp_path, model.state_dict(), _use_new_zipfile_serialization=new_format)
    weights = import_torch(path)
    assert type(weights) is dict
    assert list(weights) == list(model.state_dict())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_parameters_come_back_as_tensors_without_gradients(tmp_path: Path) -> None:
    weights = import_torch(str(saved(tmp_path, {"w": nn.Parameter(torch.ones(2))})))
    assert type(weights["w"]) is Tensor
    assert not weights["w"].requires_grad


def test_the_names_of_dicts_in_dicts_are_joined_by_dots(tmp_path: Path) -> None:
    content = {"encoder": OrderedDict({"0": {"weight": torch.zeros(1)}}), "head": torch.ones(1)}
    assert list(import_torch(saved(tmp_path, content))) == ["encoder.0.weight", "head"]


def test_tied_weights_stay_tied(tmp_path: Path) -> None:
    one = torch.zeros(3)
    weights = import_torch(saved(tmp_path, {"a": one, "b": one}))
    assert weights["a"].data_ptr() == weights["b"].data_ptr()


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "ema"])
def test_the_weights_in_a_training_checkpoint_are_chosen_by_their_key(tmp_path: Path, key: str) -> None:
    path = saved(tmp_path, {"epoch": 3, key: nn.Linear(2, 1).state_dict(), "optimizer": {"lr": 0.1}})
    assert list(import_torch(path, key=key)) == ["weight", "bias"]
    with pytest.raises(CheckpointError, match=f"key='{key}'"):
        import_torch(path)


def test_the_imported_weights_fit_a_model_and_a_file_of_ones_own(tmp_path: Path) -> None:
    theirs, ours = nn.Linear(2, 1), nn.Linear(2, 1)
    ours.load_state_dict(import_torch(saved(tmp_path, theirs.state_dict())))
    assert torch.equal(theirs.weight, ours.weight)


T = torch.zeros(2)
SELF: dict[str, Any] = {}
SELF["again"] = SELF
TWICE = {"w": torch.zeros(1)}
DEEP: dict[str, Any] = {"w": torch.zeros(1)}
for _ in range(40):
    DEEP = {"d": DEEP}

REFUSED: dict[str, tuple[object, str | None, str]] = {
    "a tensor alone": (T, None, r"must hold a dict of tensors, found a tensor of shape \(2,\)\."),
    "a list": ([T, T], None, r"must hold a dict of tensors, found list of 2\."),
    "a number": (3, None, r"must hold a dict of tensors, found int\."),
    "a counter": (Counter("aab"), None, r"must hold a dict of tensors, found Counter of 2\."),
    "an empty dict": ({}, None, r"theirs.pt holds no tensor at all\."),
    "an empty entry": ({"model": {}}, "model", r"theirs.pt: 'model' holds no tensor at all\."),
    "a number beside the weights": (
        {"w": T, "epoch": 3},
        None,
        r"holds more than weights: 'epoch' \(int\)\. Save model\.state_dict\(\) alone",
    ),
    "a dict without a usual name": (
        {"net": {"w": T}, "epoch": 3},
        None,
        r"holds more than weights: 'epoch' \(int\)\. .* such as key='net'\.",
    ),
    "a usual name": (
        {"state_dict": {"w": T}, "model": {"w": T}, "epoch": 1},
        None,
        r"holds 'state_dict' \(dict of 1\), 'model' \(dict of 1\), 'epoch' \(int\)\. Say which .* key='state_dict' or key='model'\.",
    ),
    "another key": ({"model": {"w": T}}, "ema", r"has no entry 'ema'; it holds 'model' \(dict of 1\)\."),
    "a key of nothing": ({}, "ema", r"has no entry 'ema'; it holds nothing\."),
    "a key of a list": ({"model": [T]}, "model", r"'model' must be a dict of tensors, found list of 1\."),
    "many names": ({f"n{i}": i for i in range(10)}, None, r"'n7' \(int\) and 2 more\."),
    "a name that is a number": ({1: T}, None, r"a name that is no text but int; weights go by names\."),
    "a name that is a number, and a wrong key": ({1: T}, "model", r"no entry 'model'; it holds int\."),
    "one name in two spellings": ({"a.b": T, "a": {"b": T}}, None, r"has the name 'a\.b' twice"),
    "a dict that holds itself": (SELF, None, r"'again' is a dict in two places, or deeper than 32 levels\."),
    "a dict in two places": ({"a": TWICE, "b": TWICE}, None, r"'b' is a dict in two places"),
    "a deep dict": (DEEP, None, r"deeper than 32 levels"),
    "a tensor on the meta device": ({"w": torch.zeros(1, device="meta")}, None, r"'w' is a tensor without values"),
    "a sparse tensor": ({"w": torch.eye(2).to_sparse()}, None, r"'w' is a tensor that is not dense"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_anything_but_weights_is_refused_by_saying_what_is_there(tmp_path: Path, kind: str) -> None:
    content, key, message = REFUSED[kind]
    with pytest.raises(CheckpointError, match=message):
        import_torch(saved(tmp_path, content), key=key)


class Payload:
    def __init__(self, *what: Any) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what


HOSTILE = {
    "a command": Payload(os.system, ("touch /tmp/executed",)),
    "a call of a builtin": Payload(eval, ("1",)),
    "an attribute": Payload(getattr, (T, "numpy")),
    "an allowed function with wrong arguments": Payload(torch._utils._rebuild_tensor_v2, (1, 2, 3)),
    "a class of ours": Watch(),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_a_malicious_file_is_refused_and_nothing_in_it_is_executed(tmp_path: Path, kind: str, form: str) -> None:
    path, content = tmp_path / "theirs.pt", {"weight": T, "x": HOSTILE[kind]}
    if form == "bare pickle":
        path.write_bytes(pickle.dumps({"x": HOSTILE[kind]}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    import_torch(saved_beside(tmp_path))  # what torch imports at its first load is imported now
    with watched(), pytest.raises(CheckpointError):
        import_torch(path)


def saved_beside(folder: Path) -> Path:
    torch.save({"w": T}, folder / "good.pt")
    return folder / "good.pt"


def test_a_refused_name_is_named(tmp_path: Path) -> None:
    message = (
        r"was refused and nothing in it was executed: beside tensors it asks for '(posix|nt)\.system'\. Only weights are imported"
    )
    with pytest.raises(CheckpointError, match=message):
        import_torch(saved(tmp_path, {"x": HOSTILE["a command"]}))


def test_what_the_program_allowed_torch_to_load_is_not_allowed_here_and_allowed_again_afterwards(tmp_path: Path) -> None:
    path = saved(tmp_path, {"x": Watch()})
    with torch.serialization.safe_globals([Watch]):
        assert isinstance(torch.load(path, weights_only=True)["x"], Watch)
        allowed = set(torch.serialization.get_safe_globals())
        with pytest.raises(CheckpointError, match=r"asks for '\S*Watch'"):
            import_torch(path)
        assert set(torch.serialization.get_safe_globals()) == allowed >= {Watch}


def test_no_environment_variable_opens_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, {"x": HOSTILE["a call of a builtin"]})
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    with watched(), pytest.raises(CheckpointError, match="was refused"):
        import_torch(path)


def test_methods_that_a_file_hides_are_not_called(tmp_path: Path) -> None:
    """An OrderedDict in a file can bring attributes of its own, which come before the methods of its class."""
    hidden = dict.fromkeys(("items", "get", "keys"), OrderedDict)
    content = Payload(OrderedDict, ([("model", Payload(OrderedDict, ([("w", T)],), hidden))],), hidden)
    assert list(import_torch(saved(tmp_path, content), key="model")) == ["w"]


UNREADABLE = {
    "nothing": b"",
    "text": b"no weights",
    "a pickle that ends too early": b"\x80\x02}q\x00",
    "half a zip": b"PK\x03\x04" + bytes(40),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_is_no_file_of_weights_is_a_typed_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "theirs.pth"
    path.write_bytes(UNREADABLE[kind])
    with pytest.raises(CorruptCheckpointError, match=r"theirs\.pth cannot be read as weights: \S+"):
        import_torch(path)


def test_torchscript_is_refused_without_a_warning_that_says_otherwise(tmp_path: Path) -> None:
    path = saved_beside(tmp_path)
    with zipfile.ZipFile(path, "a") as file:
        (inside,) = {name.partition("/")[0] for name in file.namelist()}
        file.writestr(f"{inside}/constants.pkl", b"")
    with warnings.catch_warnings(action="error"), pytest.raises(CorruptCheckpointError, match="TorchScript"):
        import_torch(path)


def test_a_path_that_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.pt is not there\."):
        import_torch(tmp_path / "no.pt")
    with pytest.raises(CheckpointError, match="is a folder; give the file"):
        import_torch(tmp_path)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(CheckpointError, match="is no regular file"):
            import_torch(tmp_path / "pipe")


def test_a_file_that_may_not_be_read_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, {"w": T})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", refuse)
    with pytest.raises(CheckpointError, match=r"theirs\.pt cannot be read: Permission denied\."):
        import_torch(path)


def test_an_older_torch_is_refused_before_the_file_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(CheckpointError, match=re.escape("import_torch needs torch 2.10 or newer, this is 2.9.1+cpu")):
        import_torch(tmp_path / "no.pt")


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ArgumentTypeError, match="path must be a path"):
        import_torch(3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentValueError, match="path must be a path that is not empty"):
        import_torch("")
    with pytest.raises(ArgumentTypeError, match=r"key must be the name of an entry .* got 3 \(int\)"):
        import_torch("theirs.pt", key=3)  # type: ignore[arg-type]


def test_nothing_in_the_package_reads_weights_of_other_programs() -> None:
    """A resume must never come here, so nobody but the face, which hands it to users, knows the name; lazy imports are strings."""
    source = Path(torchflow.__file__).parent
    texts = {str(path.relative_to(source)): path.read_text(encoding="utf-8") for path in source.rglob("*.py")}
    knowing = {file for file, text in texts.items() if "import_torch" in text or "checkpoint.foreign" in text}
    assert knowing == {"__init__.py", str(Path("checkpoint", "foreign.py"))}


def test_torch_load_is_told_to_read_weights_only_and_nothing_may_change_that() -> None:
    """The one call of torch.load gives weights_only=True as it stands, no value that something else decides."""
    calls = [node for node in ast.walk(ast.parse(Path(foreign.__file__).read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    (load,) = [call for call in calls if ast.unparse(call.func) == "torch.load"]
    given = {argument.arg: ast.unparse(argument.value) for argument in load.keywords}
    assert given == {"map_location": "'cpu'", "weights_only": "True", "mmap": "False"}
