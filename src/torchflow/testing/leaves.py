"""Whatever a run holds as texts that compare to the last bit: short enough to write down at every update."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

DEPTH = 32
"""How deep values may nest; what lies deeper is told by its type alone, so that a circle ends."""
_LETTERS = 80
"""How long a text may be before its hash stands for it."""


def leaves(tree: object, path: str, depth: int = DEPTH) -> Iterator[tuple[str, str]]:
    """Yield ``(path, text)`` for every leaf of a tree, in its order.

    Mappings, sequences, sets and dataclasses are branches. Tensors, arrays and plain values are told exactly; any other
    object is told by its type, because nothing says what in it belongs to the run.

    Args:
        tree: Any value.
        path: Where it stands, such as ``"optimizers/main"``.
        depth: How much deeper to go.
    """
    if depth and (branches := _branches(tree)) is not None:
        # An empty branch is a leaf too: that nothing is there can be a difference.
        if not branches:
            yield path, f"an empty {type(tree).__name__}"
        for name, value in branches.items():
            yield from leaves(value, f"{path}/{name}", depth - 1)
    else:
        yield path, text_of(tree)


def _branches(tree: Any) -> dict[str, Any] | None:
    if isinstance(tree, Mapping):
        return {str(name): value for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return {str(position): value for position, value in enumerate(tree)}
    if isinstance(tree, (set, frozenset)):
        # Sets have no order of their own, and that of text changes from process to process.
        return {str(position): value for position, value in enumerate(sorted(tree, key=repr))}
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {field.name: getattr(tree, field.name, None) for field in dataclasses.fields(tree)}
    return None


def text_of(leaf: object) -> str:
    """Return a leaf as a text: equal texts mean equal bits, but for a collision of 64 bits of SHA-256."""
    if isinstance(leaf, Tensor):
        return _tensor(leaf)
    if isinstance(leaf, (np.ndarray, np.generic)) and not leaf.dtype.hasobject:
        array = np.asarray(leaf)
        return _numbers(f"{array.dtype}{list(array.shape)}", np.ascontiguousarray(array).tobytes(), array)
    if leaf is None or isinstance(leaf, (bool, int, float, complex, str, bytes)):
        text = repr(leaf)
        return text if len(text) <= _LETTERS else f"{text[: _LETTERS // 2]}... #{_hash(text.encode('utf-8', 'surrogatepass'))}"
    return f"an object of type {type(leaf).__qualname__}"


@torch.no_grad()
def _tensor(tensor: Tensor) -> str:
    kind = f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
    if tensor.is_meta:
        return f"{kind} without values"
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return _numbers(kind, plain.reshape(-1).view(torch.uint8).numpy().tobytes(), plain)


def _numbers(kind: str, content: bytes, values: Any) -> str:
    """A single number can be read in a report; the hash makes it exact."""
    shown = f" {values.item()!r}" if values.shape == () else ""
    return f"{kind}{shown} #{_hash(kind.encode() + content)}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
