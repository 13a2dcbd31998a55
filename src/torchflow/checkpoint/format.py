"""The state language: what a checkpoint can hold, and how it is spelled as JSON and tensors.

``None``, bools, ints of 64 bits, floats, strings and tensors, in lists, tuples and dicts with string keys, at most 32
levels deep; nothing else, checked when it is saved, with the path in the error. In JSON a tensor is
``{"$tensor": "model/net.0.weight"}``, a tuple ``{"$tuple": [...]}``, and a float that JSON has no word for
``{"$float": "nan"}``. No value names a class or a function, so reading can execute nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchflow.arguments import shown
from torchflow.checkpoint.json_text import JSON_VALUES, parse, values_in
from torchflow.checkpoint.tensors import check_tensor, snapshot, view_of
from torchflow.errors import CorruptCheckpointError, StateError
from torchflow.types import State

STATE_DEPTH = 32
"""How many containers may lie in each other, the root included."""
STATE_BYTES = 2**28
"""The largest JSON text of a state; numbers by the million belong into tensors."""

_UNUSUAL = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True)
class Encoded:
    """A state as it will be written.

    Attributes:
        text: The JSON, ASCII only.
        tensors: Contiguous tensors on the CPU by their name in the JSON, copied: nobody else can write to them.
    """

    text: bytes
    tensors: dict[str, Tensor]


def check_state(state: object) -> None:
    """Check that a value is in the state language, without copying a tensor.

    Raises:
        StateError: It is not; the message names the path, what was found and what to do.
    """
    _Encoder(copy=False).encode(state, (), 0)


def encode(state: Mapping[str, State] | Encoded, into: Mapping[str, Tensor] | None = None) -> Encoded:
    """Turn a state tree into JSON and tensors; the state is only read, and the result shares no memory with it.

    Tensors that are the same view of the same memory (tied weights) are copied once and referenced twice.

    Args:
        state: The state tree; what was encoded before is returned as it is.
        into: The tensors of an earlier result that nobody reads any more. Those that fit are written over: memory that a
            process has already touched is copied to several times faster than new memory.

    Raises:
        StateError: The tree holds a value that is not in the state language, or its JSON is above 256 MiB or two million values.
    """
    if isinstance(state, Encoded):
        return state
    if not isinstance(state, Mapping):
        raise StateError(f"state must be a dict with string keys, got {shown(state)}.")
    encoder = _Encoder(copy=True, into=into)
    tree = encoder.encode(state, (), 0)
    text = json.dumps(tree, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
    if len(text) > STATE_BYTES or values_in(text) > JSON_VALUES:
        raise StateError(
            f"state: {len(text)} bytes of JSON with {values_in(text)} values are above the limit of {STATE_BYTES} or {JSON_VALUES}; "
            "keep long lists of numbers as tensors."
        )
    return Encoded(text, encoder.tensors)


def decode(text: bytes, tensors: Mapping[str, Tensor], where: str) -> dict[str, Any]:
    """Turn JSON and tensors back into a state tree.

    Args:
        text: What :func:`encode` wrote.
        tensors: The stored tensors by name. One that is referenced twice comes back as one tensor, twice.
        where: The name of the file, for the error.

    Raises:
        CorruptCheckpointError: The text is not strict JSON, leaves the state language, or references and stored
            tensors do not match one to one.
    """
    if len(text) > STATE_BYTES:
        raise CorruptCheckpointError(f"{where} holds {len(text)} bytes, above the limit of {STATE_BYTES}.")
    tree = parse(text, where)
    decoder = _Decoder(tensors, where)
    state = decoder.decode(tree, 0)
    if not isinstance(state, dict):
        raise CorruptCheckpointError(f"{where} must hold an object, found {shown(tree)}.")
    if unused := sorted(tensors.keys() - decoder.used):
        raise CorruptCheckpointError(f"{where} does not refer to the stored tensors {_few(unused)}.")
    return state


class _Encoder:
    """One walk over one state."""

    def __init__(self, *, copy: bool, into: Mapping[str, Tensor] | None = None) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._copy = copy
        self._into = into or {}
        # The tensor itself is kept beside its name: while it lives, nothing else can get its address.
        self._seen: dict[tuple[object, ...], tuple[Tensor, str]] = {}

    def encode(self, value: object, path: tuple[str, ...], depth: int) -> object:
        if value is None or type(value) in (bool, str):
            return value
        if type(value) is int:
            return _checked_int(value, path)
        if type(value) is float:
            return value if math.isfinite(value) else {"$float": str(value)}
        if isinstance(value, Tensor):
            return {"$tensor": self._tensor(value, path)}
        if not isinstance(value, Mapping) and type(value) not in (list, tuple):
            raise StateError(f"{_at(path)}: got {shown(value)}, {_remedy(value)}")
        if depth >= STATE_DEPTH:
            raise StateError(f"{_at(path)} lies deeper than {STATE_DEPTH} levels, or a container holds itself; flatten the state.")
        return self._branch(value, path, depth)

    def _branch(self, value: Any, path: tuple[str, ...], depth: int) -> object:
        if not isinstance(value, Mapping):
            items = [self.encode(item, (*path, str(i)), depth + 1) for i, item in enumerate(value)]
            return items if type(value) is list else {"$tuple": items}
        branch: dict[str, object] = {}
        for key, item in value.items():
            _check_key(key, path)
            branch[key] = self.encode(item, (*path, key), depth + 1)
        return branch

    def _tensor(self, tensor: Tensor, path: tuple[str, ...]) -> str:
        check_tensor(tensor, _at(path))
        view = view_of(tensor)
        if view in self._seen:
            return self._seen[view][1]
        name = self._free_name("/".join(path))
        self._seen[view] = (tensor, name)
        self.tensors[name] = snapshot(tensor, self._into.get(name)) if self._copy else tensor
        return name

    def _free_name(self, wanted: str) -> str:
        """Return a name that no other tensor has: keys may hold slashes, and one word is safetensors' own."""
        wanted = wanted.encode("utf-8", "backslashreplace").decode("utf-8")
        name, number = wanted, 1
        while name in self.tensors or name == "__metadata__":
            number += 1
            name = f"{wanted}~{number}"
        return name


class _Decoder:
    """One walk over one parsed text, which is trusted in nothing."""

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self.used: set[str] = set()
        self._tensors = tensors
        self._where = where

    def decode(self, node: object, depth: int) -> object:
        if isinstance(node, dict):
            if any(key.startswith("$") for key in node):
                return self._tagged(node, depth)
            self._check_depth(depth)
            return {key: self.decode(value, depth + 1) for key, value in node.items()}
        if isinstance(node, list):
            self._check_depth(depth)
            return [self.decode(value, depth + 1) for value in node]
        if type(node) is int and not -(2**63) <= node < 2**64:
            raise CorruptCheckpointError(f"{self._where} holds an int beyond 64 bits.")
        return node

    def _tagged(self, node: dict[str, object], depth: int) -> object:
        match node:
            case {"$tensor": str(name)} if len(node) == 1:
                if name not in self._tensors:
                    raise CorruptCheckpointError(f"{self._where} refers to the tensor {shown(name)}, which is not stored.")
                self.used.add(name)
                return self._tensors[name]
            case {"$float": str(word)} if len(node) == 1 and word in _UNUSUAL:
                return _UNUSUAL[word]
            case {"$tuple": list(items)} if len(node) == 1:
                self._check_depth(depth)
                return tuple(self.decode(item, depth + 1) for item in items)
        raise CorruptCheckpointError(f"{self._where} holds {shown(node)}, which is no value that this version writes.")

    def _check_depth(self, depth: int) -> None:
        if depth >= STATE_DEPTH:
            raise CorruptCheckpointError(f"{self._where} nests deeper than {STATE_DEPTH} levels.")


def _checked_int(value: int, path: tuple[str, ...]) -> int:
    if not -(2**63) <= value < 2**64:
        raise StateError(f"{_at(path)}: got an int beyond 64 bits; store it as str.")
    return value


def _check_key(key: object, path: tuple[str, ...]) -> None:
    if type(key) is not str:
        raise StateError(f"{_at(path)}: every key must be a str, got {shown(key)}; write str(key).")
    if key.startswith("$"):
        raise StateError(f"{_at((*path, key))}: a key must not start with '$', which marks tensors and tuples in the file.")


def _remedy(value: object) -> str:
    kind = type(value)
    if issubclass(kind, (bool, int, float, str)) or kind.__module__ == "numpy":
        return "which would come back as another type; convert it to a plain int, float, str, list or tensor."
    if issubclass(kind, (list, tuple, set, frozenset)):
        return "which would come back as another type; store a plain list, tuple or dict."
    return "but a state holds only None, bool, int, float, str, tensors, and lists, tuples and dicts of them."


def _at(path: tuple[str, ...]) -> str:
    text = "/".join(path)
    return ascii(text)[1:-1] if path else "state"


def _few(names: list[str]) -> str:
    return ", ".join(shown(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
