"""What a dataset is made of, as a digest: its data, its choices, and the code of every function that was given."""

from __future__ import annotations

import copyreg
import functools
import hashlib
import os
import sys
import sysconfig
import types
from collections.abc import Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow.checkpoint.shards import raw
from torchflow.data.sources import Source
from torchflow.errors import CacheError

_MEMORIES = frozenset({"_lock", "_made", "_found", "_lineage", "divided", "learnt_by", "schema", "_shelf", "handles"})
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(Ellipsis), torch.dtype, torch.device, torch.Size, range, slice)
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OWN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def digest_of(source: Source) -> str:
    """Return a digest that changes when samples would: with the data, the files, the choices, or the code of a function.

    Data in memory is hashed whole; files count by name, size and time of change. Of a function its name, its bytecode, its constants and
    defaults, what it closes over, and the functions and plain values of its module that it uses count, and theirs; functions
    of libraries count by name.

    Returns:
        32 hexadecimal digits, the same in every process of one Python version.

    Raises:
        CacheError: Something has no description that holds, such as an open file; the message says where it is.
    """
    description = _Description()
    description.add(source, "the dataset")
    return description.digest.hexdigest()


class _Description:
    """A digest of whatever is added, part by part, each under a tag of its kind, so that no two of them read alike."""

    def __init__(self) -> None:
        self.digest = hashlib.blake2b(digest_size=16)
        self._inside: list[int] = []  # what is being added: an object may hold itself
        self._known: set[int] = set()  # functions and classes, which are added once

    def add(self, value: Any, place: str) -> None:
        """Add a value, and all that it is made of."""
        if isinstance(value, _PLAIN):
            self._tag(type(value).__name__, repr(value))
        elif isinstance(value, PurePath):
            self._tag("path", value.as_posix())
        elif isinstance(value, (Tensor, np.ndarray, np.generic)):
            self._array(value, place)
        elif id(value) in self._inside:
            self._tag("around", str(len(self._inside) - self._inside.index(id(value))))
        else:
            self._inside.append(id(value))
            self._branch(value, place)
            self._inside.pop()

    def _branch(self, value: Any, place: str) -> None:
        """Add what has parts."""
        if isinstance(value, Mapping):
            self._tag("mapping", f"{_name(type(value))} {len(value)}")
            for key, item in value.items():
                self.add(key, place)
                self.add(item, f"{place}[{key!r}]")
        elif isinstance(value, Set):
            self._tag("set", " ".join(sorted(map(repr, value))))
        elif isinstance(value, Sequence):
            self._tag("sequence", f"{_name(type(value))} {len(value)}")
            for position, item in enumerate(value):
                self.add(item, f"{place}[{position}]")
        elif isinstance(value, functools.partial):
            self._parts("partial", {"function": value.func, "args": value.args, "keywords": value.keywords}, place)
        elif isinstance(value, types.MethodType):
            self._parts("method", {"function": value.__func__, "self": value.__self__}, place)
        else:
            self._code_or_object(value, place)

    def _code_or_object(self, value: Any, place: str) -> None:
        """Add code, which counts by what it says, or an object, which counts by what it holds."""
        if isinstance(value, types.CodeType):
            self._code(value, place)
        elif isinstance(value, types.FunctionType):
            self._function(value, place)
        elif isinstance(value, type):
            self._class(value, place)
        elif isinstance(value, types.ModuleType):
            self._tag("module", value.__name__)
        elif isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, np.ufunc)):
            self._tag("builtin", f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}")
            owner = getattr(value, "__self__", None)  # of a method, and of a function its module
            if owner is not None:
                self.add(owner, f"{place}.__self__")
        else:
            self._instance(value, place)

    def _instance(self, value: Any, place: str) -> None:
        """Add an object: its class, and what it holds, as Python's protocol of copying says it."""
        if isinstance(value, Source):
            self._source(value, place)
            return
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced = value.__reduce_ex__(2) if reduce is None else reduce(value)
        except Exception as error:  # it cannot be copied, as an open file or a lock cannot: nobody can say what it is
            raise CacheError(
                f"cache(folder) must notice when samples change, and cannot see what {place}, a {_name(type(value))}, holds: {error}. "
                "Use a function of a module, or an object with plain attributes; or cache() in memory."
            ) from error
        if isinstance(reduced, str):
            self._tag("named", f"{_name(type(value))} {reduced}")
            return
        make, args, state, items, pairs = (*reduced, None, None, None)[:5]
        self._tag("object", f"{make.__module__}.{make.__qualname__}")
        held = {"args": args, "state": state, "items": list(items or ()), "pairs": dict(pairs or ())}
        for name, part in held.items():
            self.add(part, place if name != "state" or not isinstance(part, dict) else f"{place}.__dict__")

    def _source(self, source: Source, place: str) -> None:
        """Add a node: its class, its choices, its parents and its files; what it only remembers does not count."""
        self._tag("source", _name(type(source)))
        for name, part in sorted(vars(source).items()):
            if name not in _MEMORIES:
                self._tag("attribute", name)
                self.add(part, f"{place}.{name}")
        self._tag("files", source.stamp(times=True))

    def _function(self, function: types.FunctionType, place: str) -> None:
        """Add a function: of a library its name, else its code and all that it reaches."""
        self._tag("function", f"{function.__module__}.{function.__qualname__}")
        if id(function) in self._known or _of_library(function.__code__.co_filename):
            return
        self._known.add(id(function))
        place = f"{place} ({function.__qualname__})"
        self._code(function.__code__, place)
        self._parts("defaults", {"defaults": function.__defaults__, "keywords": function.__kwdefaults__}, place)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            self.add(cell.cell_contents, f"{place}: {name}")
        for name in _names(function.__code__):
            if name in function.__globals__:
                self._tag("global", name)
                self.add(function.__globals__[name], f"{place}: {name}")

    def _code(self, code: types.CodeType, place: str) -> None:
        self._tag("code", f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}")
        for constant in code.co_consts:
            self.add(constant, place)

    def _class(self, kind: type, place: str) -> None:
        """Add a class: of a library its name, else its functions and its bases too."""
        self._tag("class", _name(kind))
        module = sys.modules.get(kind.__module__)
        file = getattr(module, "__file__", None)
        if id(kind) in self._known or kind.__module__ == "builtins" or (file is not None and _of_library(file)):
            return
        self._known.add(id(kind))
        for base in kind.__bases__:
            self.add(base, place)
        for name, value in sorted(vars(kind).items()):
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(function, types.FunctionType) or (isinstance(value, _PLAIN) and not name.startswith("__")):
                self.add(function, f"{place}.{name}")

    def _array(self, value: Any, place: str) -> None:
        self._tag("array", f"{type(value).__name__} {value.dtype} {tuple(value.shape)}")
        if isinstance(value, Tensor):
            dense = value.detach().cpu() if value.layout == torch.strided else value.detach().to_dense().cpu()
            flat = dense.contiguous().reshape(-1)
            self.digest.update(raw(flat))
        elif value.dtype == object:
            self.add(value.tolist(), place)
        else:
            self.digest.update(np.ascontiguousarray(value).tobytes())

    def _parts(self, tag: str, parts: Mapping[str, Any], place: str) -> None:
        self._tag(tag, "")
        for name, part in parts.items():
            self.add(part, f"{place}.{name}")

    def _tag(self, kind: str, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self.digest.update(f"{kind} {len(data)} ".encode() + data)


def _names(code: types.CodeType) -> list[str]:
    """Return the names that a function and those inside it look up."""
    inner = [name for constant in code.co_consts if isinstance(constant, types.CodeType) for name in _names(constant)]
    return sorted({*code.co_names, *inner})


def _of_library(file: str) -> bool:
    """Return whether a file is torchflow's, Python's or an installed package's: those count by name."""
    return os.path.abspath(file).startswith((*_LIBRARIES, _OWN)) or file.startswith("<frozen")


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
