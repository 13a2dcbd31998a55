"""From samples to a batch and back."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow.errors import DataError, RaggedBatchError
from torchflow.tree import leaves_with_paths, map_leaves

_COLUMNS = " Inputs and targets as columns go in a tuple of tensors: (torch.as_tensor(inputs), torch.as_tensor(targets))."
_REMEDY = (
    "Make them equal in a map (pad or crop), or pass collate=: data.PadBatch() where lengths differ, or a function of your own."
)


# A batch has the structure of its samples, whatever that is.
def collate(samples: Sequence[Any], indices: Sequence[int] | None = None) -> Any:
    """Stack samples to one batch of the same structure.

    Tensors and NumPy arrays of shape (...) become tensors (batch, ...), dtypes kept; bools become bool, ints int64,
    floats torch's default dtype and complex numbers its complex partner, of shape (batch,). Tuples, lists, dicts,
    named tuples and dataclasses are kept, with batches in them. Texts stay a list.

    Args:
        samples: At least one sample.
        indices: Their indices, for the error messages; positions otherwise.

    Raises:
        RaggedBatchError: Two samples differ in structure, shape or dtype.
        DataError: A sample holds something that no tensor can hold.
    """
    if not samples:
        raise DataError("collate got no samples: a batch needs at least one.")
    numbers = list(range(len(samples))) if indices is None else list(indices)
    return _stack(samples, numbers, "")


def rows(batch: Any, count: int) -> list[Any]:
    """Return the samples of a batch, the inverse of :func:`collate`, each one's tensors copied.

    They are copies because a row of a batch is aligned by its place in the batch, and results depend on alignment.

    Args:
        batch: A tree of tensors (batch, ...) and lists of text.
        count: How many samples it has.
    """
    if isinstance(batch, Tensor):
        return [row.clone() for row in batch.unbind(0)]
    if isinstance(batch, list) and batch and isinstance(batch[0], (str, bytes)):
        return list(batch)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return [type(batch)(*parts) for parts in zip(*(rows(part, count) for part in batch), strict=True)]
    if isinstance(batch, (tuple, list)):
        kind = type(batch)
        return [kind(parts) for parts in zip(*(rows(part, count) for part in batch), strict=True)]
    if isinstance(batch, Mapping):
        columns = {name: rows(part, count) for name, part in batch.items()}
        make = _mapping(batch)
        return [make({name: column[i] for name, column in columns.items()}) for i in range(count)]
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        fields = {f.name: rows(getattr(batch, f.name), count) for f in dataclasses.fields(batch) if f.init}
        return [dataclasses.replace(batch, **{name: column[i] for name, column in fields.items()}) for i in range(count)]
    raise DataError(f"a batch holds a {type(batch).__name__}, which cannot be cut into samples. Return tensors from map_batch.")


def joined(batches: Sequence[Any], order: Tensor, place: str) -> Any:
    """Return several batches of tensors as one.

    Args:
        batches: Trees of tensors (some, ...), alike but for their first dimension.
        order: int64, shape (batch,): for each row of the result, its row in the batches one after the other.
        place: What the message calls them.

    Raises:
        RaggedBatchError: The batches differ in structure, shape or dtype.
    """
    first = batches[0]
    if isinstance(first, Mapping) and all(isinstance(batch, Mapping) and batch.keys() == first.keys() for batch in batches):
        return _mapping(first)({name: joined([batch[name] for batch in batches], order, place) for name in first})
    if all(isinstance(batch, list) and isinstance(batch[0], str) for batch in batches):  # a column of texts
        texts = [text for batch in batches for text in batch]
        return [texts[row] for row in order.tolist()]
    parts = [dict(leaves_with_paths(batch)) for batch in batches]
    expected = {path: (tuple(leaf.shape[1:]), leaf.dtype) for path, leaf in parts[0].items() if isinstance(leaf, Tensor)}
    for part in parts:
        found = {path: (tuple(leaf.shape[1:]), leaf.dtype) for path, leaf in part.items() if isinstance(leaf, Tensor)}
        if found != expected:
            raise RaggedBatchError(f"the samples of {place} cannot be stacked: some are {expected}, others {found}. {_REMEDY}")
    columns = iter([torch.cat([part[path] for part in parts]).index_select(0, order) for path in expected])
    return map_leaves(lambda _: next(columns), batches[0])


def copied(sample: Any) -> Any:
    """Return a sample whose tensors and arrays are copies."""
    return map_leaves(
        lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf.copy() if isinstance(leaf, np.ndarray) else leaf, sample
    )


def _stack(values: Sequence[Any], indices: list[int], path: str) -> Any:
    """Stack one part of every sample."""
    first = values[0]
    if len(set(map(type, values))) > 1:
        _same(values, indices, path, "type", _kind)
    if isinstance(first, Tensor):
        traits = {(value.shape, value.dtype, value.device, value.requires_grad) for value in values}
        if len(traits) > 1:  # which it is costs time, so it is asked only where something differs
            _same(values, indices, path, "shape", lambda value: tuple(value.shape))
            _same(values, indices, path, "dtype", lambda value: value.dtype)
            _same(values, indices, path, "device", lambda value: value.device)
        return torch.stack(list(values)).detach()
    if isinstance(first, (str, bytes)):  # before NumPy's scalars: numpy.str_ is both
        return list(values)
    if isinstance(first, (np.ndarray, np.generic)):
        _same(values, indices, path, "shape", np.shape)
        _same(values, indices, path, "dtype", lambda value: value.dtype)
        return _from_numpy(np.stack([np.asarray(value) for value in values]), path)
    if isinstance(first, (bool, int, float, complex)):
        return _from_numbers(values, indices, path)
    return _stack_branch(values, indices, path)


def _stack_branch(values: Sequence[Any], indices: list[int], path: str) -> Any:
    """Stack tuples, lists, mappings and dataclasses part by part."""
    first = values[0]
    if isinstance(first, Mapping):
        _same(values, indices, path, "keys", lambda value: sorted(map(repr, value)))
        make = _mapping(first)
        return make({name: _stack([value[name] for value in values], indices, f"{path}[{name!r}]") for name in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        names: tuple[str, ...] = first._fields
        return type(first)(*(_stack([getattr(value, name) for value in values], indices, f"{path}.{name}") for name in names))
    if isinstance(first, (tuple, list)):
        _same(values, indices, path, "length", len)
        kind = type(first)
        return kind([_stack(part, indices, f"{path}[{i}]") for i, part in enumerate(zip(*values, strict=True))])
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        fields = [f.name for f in dataclasses.fields(first) if f.init]
        parts = {name: _stack([getattr(value, name) for value in values], indices, f"{path}.{name}") for name in fields}
        return dataclasses.replace(first, **parts)
    raise DataError(
        f"{_place(path)} of sample {indices[0]} is {type(first).__name__}, which no tensor can hold. "
        "Turn it into a tensor or numbers in a map, or pass collate=."
    )


def _mapping(like: Mapping[Any, Any]) -> Any:
    """Return the class that a mapping is rebuilt with: dict for those whose constructor takes something else."""
    return OrderedDict if isinstance(like, OrderedDict) else dict


def _from_numbers(values: Sequence[Any], indices: list[int], path: str) -> Tensor:
    """Return a tensor (batch,) of Python numbers; the dtype depends on their type alone, never on their values."""
    first = values[0]
    if isinstance(first, bool):
        return torch.tensor(values, dtype=torch.bool)
    if isinstance(first, int):
        for value, index in zip(values, indices, strict=True):
            if not -(2**63) <= value < 2**63:
                raise DataError(f"{_place(path)} of sample {index} is {value}, which does not fit into int64. Use a float.")
        return torch.tensor(values, dtype=torch.int64)
    if isinstance(first, float):
        return torch.tensor(values, dtype=torch.get_default_dtype())
    return torch.tensor(values, dtype=torch.get_default_dtype().to_complex())


def _from_numpy(array: np.ndarray[Any, Any], path: str) -> Tensor:
    """Return the tensor of a fresh array, whatever its byte order."""
    try:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape))
    except TypeError as error:
        raise DataError(
            f"{_place(path)} is a NumPy array of dtype {array.dtype}, which torch does not have. Convert it in a map."
        ) from error


def _same(values: Sequence[Any], indices: list[int], path: str, what: str, trait: Any) -> None:
    """Check that a trait is the same for all, naming the first pair that differs."""
    expected = trait(values[0])
    found_traits = list(map(trait, values))
    if found_traits.count(expected) == len(found_traits):
        return
    for found, index in zip(found_traits, indices, strict=True):
        if found != expected:
            raise RaggedBatchError(
                f"samples {indices[0]} and {index} cannot be stacked: {_place(path)} has {what} {_said(expected)} in one "
                f"and {_said(found)} in the other. {_REMEDY}{_COLUMNS if len(values) == 2 else ''}"
            )


def _kind(value: Any) -> Any:
    """Return the class of a value; all tensors are of one kind, and all arrays and scalars of NumPy."""
    return Tensor if isinstance(value, Tensor) else np.ndarray if isinstance(value, np.ndarray) else type(value)


def _said(trait: Any) -> str:
    return trait.__name__ if isinstance(trait, type) else "[" + ", ".join(trait) + "]" if isinstance(trait, list) else str(trait)


def _place(path: str) -> str:
    return f"the part {path}" if path else "the sample"
