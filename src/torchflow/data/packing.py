"""Samples as safetensors and JSON, and back, without a pickle."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow.checkpoint.shards import DTYPE_NAMES
from torchflow.errors import CacheError

Take = Callable[[str], Tensor]
_REMEDY = "Return tuples, lists and dicts of tensors, arrays, numbers and texts; or use cache() in memory."


def pack(samples: Sequence[Any], first: int) -> tuple[dict[str, Tensor], str]:
    """Return samples as named tensors and a JSON text of all else.

    A part that has one shape and dtype in all samples becomes one tensor (samples, ...), otherwise one a sample.

    Args:
        samples: Trees of tensors, arrays, numbers, texts and None.
        first: The index of the first, for messages.

    Raises:
        CacheError: A sample holds something else.
    """
    parts: dict[str, list[tuple[int, Tensor]]] = {}
    plans = []
    for at, sample in enumerate(samples):
        plan, found = _planned(sample, first + at)
        plans.append(plan)
        for path, leaf in found:
            parts.setdefault(path, []).append((at, leaf))
    tensors: dict[str, Tensor] = {}
    whole = []
    for path, placed in parts.items():
        alike = len({(leaf.shape, leaf.dtype) for _, leaf in placed}) == 1
        if alike and len(placed) == len(samples):
            tensors[f"all{path}"] = torch.stack([leaf for _, leaf in placed])
            whole.append(path)
        else:
            tensors.update({f"{at}{path}": leaf.contiguous() for at, leaf in placed})
    shared = plans[0] if all(plan == plans[0] for plan in plans) else None
    layout = {"count": len(samples), "whole": whole, "shared": shared, "plans": None if shared is not None else plans}
    return tensors, json.dumps(layout, separators=(",", ":"))


def unpack(tensors: Mapping[str, Tensor], layout: Mapping[str, Any], at: int) -> Any:
    """Return one of the samples that :func:`pack` packed, its tensors copied."""
    plan = layout["shared"] if layout["shared"] is not None else layout["plans"][at]
    whole = layout["whole"]
    return _made(plan, lambda path: (tensors[f"all{path}"][at] if path in whole else tensors[f"{at}{path}"]).clone())


def _planned(sample: Any, index: int) -> tuple[Any, list[tuple[str, Tensor]]]:
    """Return the plan of a sample, and its tensors by their paths."""
    found: list[tuple[str, Tensor]] = []
    return _plan(sample, "", lambda path, leaf: found.append((path, leaf)), index), found


def _plan(value: Any, path: str, put: Callable[[str, Tensor], object], index: int) -> Any:
    """Return how a sample is put together again, as JSON, and hand over its tensors."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        is_tensor = isinstance(value, Tensor)
        tensor = value.detach().cpu() if isinstance(value, Tensor) else _tensor(value, path, index)
        if tensor.dtype not in DTYPE_NAMES or tensor.layout != torch.strided:
            raise CacheError(
                f"cache(folder) cannot keep sample {index}{path and f' at {path}'}: {tensor.dtype} is no dtype of safetensors."
            )
        put(path, tensor)
        return {"t" if is_tensor else "s" if isinstance(value, np.generic) else "a": path}
    if value is None or type(value) in (bool, int, float, str):
        return {"v": value}
    if type(value) is bytes:
        return {"b": value.hex()}
    if type(value) in (tuple, list):
        plans = [_plan(item, f"{path}[{place}]", put, index) for place, item in enumerate(value)]
        return {"p" if type(value) is tuple else "l": plans}
    if type(value) is dict and all(type(name) is str for name in value):
        return {"d": {name: _plan(item, f"{path}[{name!r}]", put, index) for name, item in value.items()}}
    raise CacheError(
        f"cache(folder) cannot keep sample {index}{path and f' at {path}'}: it holds a {type(value).__name__}. {_REMEDY}"
    )


def _tensor(value: Any, path: str, index: int) -> Tensor:
    try:
        return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("="), order="C"))
    except TypeError:
        where = f" at {path}" if path else ""
        raise CacheError(
            f"cache(folder) cannot keep sample {index}{where}: an array of {value.dtype} is no tensor. {_REMEDY}"
        ) from None


def _made(plan: Mapping[str, Any], take: Take) -> Any:
    """Return the sample of a plan."""
    ((kind, value),) = plan.items()
    if kind == "t":
        return take(value)
    if kind in "as":
        array = take(value).numpy()
        return array if kind == "a" else array[()]
    if kind == "b":
        return bytes.fromhex(value)
    if kind in "pl":
        items = [_made(item, take) for item in value]
        return tuple(items) if kind == "p" else items
    if kind == "d":
        return {name: _made(item, take) for name, item in value.items()}
    return value
