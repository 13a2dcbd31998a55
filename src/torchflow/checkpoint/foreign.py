"""Weights from other programs: the one place where a pickle is read, and never on the way of a resume."""

from __future__ import annotations

import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from torchflow import arguments
from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError, CheckpointError, CorruptCheckpointError

OLDEST_TORCH = "2.10"
"""Before it, ``torch.load(weights_only=True)`` has holes that are known and published."""
DEPTH = 32
"""How many dicts may lie in each other."""
HOLDERS = ("state_dict", "model_state_dict", "model")
"""Under these names training programs keep the weights of a model beside other things."""

_REFUSED = re.compile(r"GLOBAL (\S+)")


def import_torch(path: str | os.PathLike[str], *, key: str | None = None) -> dict[str, Tensor]:
    """Read the weights in a ``.pt`` or ``.pth`` file that another program wrote with ``torch.save``.

    Such a file is a pickle: a program, which is run by a reader that allows tensors and plain containers and refuses all else.
    **That reader is the whole protection.** Twice a hole was found in it through which a file could take over the process
    (CVE-2025-32434 up to torch 2.5.1, CVE-2026-24747 up to 2.9.1). Nobody's checksum is in the file either, so damaged bytes
    come back as wrong numbers. Import files of people you trust, once, and keep what :func:`save_model` makes of them. torchflow's
    own files are no pickles: nothing of a resume goes through here.

    >>> import os, tempfile
    >>> import torch
    >>> from torchflow import import_torch
    >>> path = os.path.join(tempfile.mkdtemp(), "theirs.pt")
    >>> torch.save({"epoch": 3, "model": torch.nn.Linear(2, 1).state_dict()}, path)
    >>> weights = import_torch(path, key="model")
    >>> {name: tuple(tensor.shape) for name, tensor in weights.items()}
    {'weight': (1, 2), 'bias': (1,)}

    Args:
        path: The file.
        key: Under which name of the file's dict the weights lie, such as ``"state_dict"``. None: the file holds weights alone.

    Returns:
        The tensors by name, on the CPU and without gradients; the names of dicts in dicts are joined by dots. Tied weights share
        their memory as they did in the file.

    Raises:
        ArgumentTypeError: No path, or ``key`` is no text.
        CheckpointError: There is no such file; it holds anything but weights, and the message says what is there; or torch
            is older than 2.10.
        CorruptCheckpointError: It cannot be read as weights.
    """
    source = arguments.path("path", path)
    if key is not None and not isinstance(key, str):
        raise ArgumentTypeError(f"key must be the name of an entry of the file such as 'state_dict', got {shown(key)}.")
    _check_torch()
    chosen = _chosen(_read(source), key, source)
    where = f"{source}" if key is None else f"{source}: {key!r}"
    walk = _Walk(where)
    walk.visit(chosen)
    if walk.surplus:
        raise CheckpointError(f"{where} holds more than weights: {_listed(walk.surplus)}. {_remedy(chosen)}")
    if not walk.found:
        raise CheckpointError(f"{where} holds no tensor at all.")
    return walk.found


def _check_torch() -> None:
    if TorchVersion(torch.__version__) < OLDEST_TORCH:
        raise CheckpointError(
            f"import_torch needs torch {OLDEST_TORCH} or newer, this is {torch.__version__}: older ones can be made to execute "
            "what is in the file. Upgrade torch, or ask for the weights as safetensors."
        )


def _read(source: Path) -> Any:
    """Run the file's pickle through torch's restricted reader."""
    if os.path.isdir(source):
        raise CheckpointError(f"{source} is a folder; give the file of weights in it.")
    if not os.path.isfile(source):
        raise CheckpointError(f"{source} is not there." if not os.path.exists(source) else f"{source} is no regular file.")
    try:
        with open(source, "rb") as file, _nothing_else_allowed():
            return torch.load(file, map_location="cpu", weights_only=True, mmap=False)
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a made-up file can raise anything at all out of torch's reader
        if refused := _REFUSED.search(str(error)):
            raise CheckpointError(
                f"{source} was refused and nothing in it was executed: beside tensors it asks for {ascii(refused[1])[:80]}. Only weights are "
                "imported; save model.state_dict() alone where it was written, best as safetensors."
            ) from error
        reason = ascii(str(error).partition("\n")[0] or type(error).__name__)[1:-1]
        raise CorruptCheckpointError(f"{source} cannot be read as weights: {reason[:200]}") from error


@contextmanager
def _nothing_else_allowed() -> Iterator[None]:
    """Take back, for the moment, what the program allowed torch.load to build, and be silent about what is then refused."""
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        torch.serialization.add_safe_globals(allowed)


def _chosen(content: Any, key: str | None, source: Path) -> dict[Any, Any]:
    """Return the dict that is meant."""
    if not _is_dict(content):
        raise CheckpointError(f"{source} must hold a dict of tensors, found {_described(content)}.")
    if key is None:
        if within := [name for name in HOLDERS if _is_dict(dict.get(content, name))]:
            listed = " or ".join(f"key={name!r}" for name in within)
            raise CheckpointError(f"{source} holds {_listed(content)}. Say which weights are meant: {listed}.")
        return content
    if key not in dict.keys(content):
        raise CheckpointError(f"{source} has no entry {key!r}; it holds {_listed(content)}.")
    value = dict.get(content, key)
    if not _is_dict(value):
        raise CheckpointError(f"{source}: {key!r} must be a dict of tensors, found {_described(value)}.")
    return value


class _Walk:
    """One walk over one tree of dicts, which is trusted in nothing."""

    def __init__(self, where: str) -> None:
        self.found: dict[str, Tensor] = {}
        self.surplus: dict[str, object] = {}
        self._where = where
        self._seen: set[int] = set()

    def visit(self, tree: dict[Any, Any], prefix: str = "", depth: int = 1) -> None:
        """Add the tensors of a dict and of the dicts in it to ``found``, all else to ``surplus``."""
        # Dicts that hold each other, or one dict in many places, would never end.
        if id(tree) in self._seen or depth > DEPTH:
            raise CheckpointError(f"{self._where}: {prefix[:-1]!r} is a dict in two places, or deeper than {DEPTH} levels.")
        self._seen.add(id(tree))
        # A file can give its objects attributes that hide their methods, so methods are taken from the classes.
        for name, value in dict.items(tree):
            if type(name) is not str:
                raise CheckpointError(f"{self._where} has a name that is no text but {_described(name)}; weights go by names.")
            if _is_dict(value):
                self.visit(value, f"{prefix}{name}.", depth + 1)
            else:
                self._add(f"{prefix}{name}", value)

    def _add(self, path: str, value: object) -> None:
        if not isinstance(value, Tensor) or type(value) not in (Tensor, nn.Parameter):
            self.surplus[path] = value
            return
        if value.is_meta or value.layout is not torch.strided or value.is_quantized or value.is_nested:
            kind = "without values" if value.is_meta else "that is not dense"
            raise CheckpointError(f"{self._where}: {path!r} is a tensor {kind}; save plain tensors where it was written.")
        if path in self.found:
            raise CheckpointError(f"{self._where} has the name {path!r} twice, once with dots and once as dicts in dicts.")
        self.found[path] = Tensor.detach(value)


def _is_dict(value: object) -> TypeGuard[dict[Any, Any]]:
    return type(value) in (dict, OrderedDict)


def _remedy(chosen: dict[Any, Any]) -> str:
    dicts = [name for name, value in dict.items(chosen) if type(name) is str and _is_dict(value)]
    if dicts:
        return f"Say which entry has the weights, such as key={dicts[0]!r}."
    return "Save model.state_dict() alone where it was written."


def _listed(entries: dict[Any, Any]) -> str:
    listed = [f"{name!r} ({_described(value)})" if type(name) is str else _described(name) for name, value in dict.items(entries)]
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "") or "nothing"


def _described(value: Any) -> str:
    """Return what a value is, never its repr: a small file can hold one that takes for ever."""
    kind = type(value)
    if kind in (Tensor, nn.Parameter):
        return f"a tensor of shape {tuple(Tensor.size(value))}"
    return f"{kind.__name__} of {kind.__len__(value)}" if isinstance(value, (dict, list, tuple, set)) else kind.__name__
