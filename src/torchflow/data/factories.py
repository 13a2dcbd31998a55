"""Datasets from what lies in memory, and from functions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.schema import Schema
from torchflow.data.sources import Calls, Columns, Items
from torchflow.errors import ArgumentTypeError, DataError
from torchflow.tree import leaves_with_paths, map_leaves
from torchflow.types import T, Tree


@overload
def from_tensors(tree: Tree, /) -> Dataset[Tree]: ...


@overload
def from_tensors(tree: Mapping[str, Any] | list[Any], /) -> Dataset[Any]: ...  # of several types, or of an unknown length


@overload
def from_tensors(first: Tensor, second: Tensor, /) -> Dataset[tuple[Tensor, Tensor]]: ...


@overload
def from_tensors(first: Tensor, second: Tensor, third: Tensor, /) -> Dataset[tuple[Tensor, Tensor, Tensor]]: ...


@overload
def from_tensors(*tensors: Tensor) -> Dataset[tuple[Tensor, ...]]: ...


# A row has the structure of its columns, which may be any tree of tensors.
def from_tensors(*tensors: Any) -> Dataset[Any]:
    """Return the dataset whose samples are the rows of tensors, which are not copied.

    Args:
        tensors: One tensor (samples, ...): samples are tensors. Several: samples are tuples. One tuple, dict, named tuple or
            dataclass of tensors: samples are the same with a row in place of each.

    Raises:
        ArgumentTypeError: Something is not a tensor.
        DataError: The tensors differ in length, or have no first dimension.
    """
    tree = tensors[0] if len(tensors) == 1 else tensors
    return _from_columns(tree, "from_tensors", _tensor_column)


@overload
def from_arrays(array: np.ndarray[Any, Any], /) -> Dataset[Tensor]: ...


@overload
def from_arrays(
    first: np.ndarray[Any, Any] | Tensor, second: np.ndarray[Any, Any] | Tensor, /
) -> Dataset[tuple[Tensor, Tensor]]: ...


@overload
def from_arrays(*arrays: Any) -> Dataset[Any]: ...  # trees of arrays, whose rows hold tensors in their place


# A row has the structure of its columns, which may be any tree of arrays, with tensors in their place.
def from_arrays(*arrays: Any) -> Dataset[Any]:
    """Return the dataset whose samples are the rows of NumPy arrays, dtypes kept, float64 too.

    A memory-mapped array, as of ``numpy.load(path, mmap_mode="r")``, is never read as a whole: a batch reads its own rows from
    the disk, and ``workers=1`` reads them while the batch before is trained on. One in the other byte order is copied into memory.

    Args:
        arrays: As for :func:`from_tensors`, arrays in place of tensors; both may be mixed.

    Raises:
        ArgumentTypeError: Something is no array, or has a dtype that torch does not have, such as object or text.
        DataError: The arrays differ in length, or have no first dimension.
    """
    tree = arrays[0] if len(arrays) == 1 else arrays
    return _from_columns(tree, "from_arrays", _array_column)


def from_function(function: Callable[[int], T], length: int) -> Dataset[T]:
    """Return the dataset of ``function(0)`` to ``function(length - 1)``, called whenever a sample is needed.

    Args:
        function: From an index to a sample. It should depend on the index alone.
        length: How many samples.
    """
    arguments.function("function", function)
    name = getattr(function, "__qualname__", type(function).__name__)
    return Dataset(Calls(function, arguments.whole("length", length), f"from_function({name})"))


def from_iterable(iterable: Iterable[T]) -> Dataset[T]:
    """Return the dataset of an iterable's items, which is read to its end once, now, into memory.

    Args:
        iterable: Finite: an endless one never returns. Each item is one sample.

    Raises:
        ArgumentTypeError: It cannot be iterated, or is text.
        DataError: It is empty.
    """
    if isinstance(iterable, (str, bytes)) or not isinstance(iterable, Iterable):
        raise ArgumentTypeError(f"iterable must be an iterable of samples, got {arguments.shown(iterable)}.")
    items = list(iterable)
    if not items:
        raise DataError("the iterable gave no samples. An iterator that was read before is exhausted: make a new one.")
    return Dataset(Items(items, "from_iterable"))


def _from_columns(tree: Any, factory: str, column: Callable[[str, Any], Tensor]) -> Dataset[Any]:
    """Return the dataset of a tree of columns, after checking that they are columns of one length."""
    lengths: dict[str, int] = {}
    made: list[Tensor] = []
    for path, leaf in leaves_with_paths(tree):
        tensor = column(f"{factory}'s argument{' ' + path if path else ''}", leaf)
        if not tensor.ndim:
            raise DataError(f"{factory} needs a first dimension of samples, got a tensor of shape () at {path or 'its argument'}.")
        made.append(tensor.detach())
        lengths[path or "it"] = tensor.shape[0]
    if not made:
        raise ArgumentTypeError(f"{factory} needs at least one tensor or array, got {arguments.shown(tree)}.")
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{path} has {length}" for path, length in lengths.items())
        raise DataError(f"{factory} needs columns of one length: {said}. The first dimension counts samples.")
    remaining = iter(made)
    columns = map_leaves(lambda _: next(remaining), tree)
    return Dataset(Columns(columns, factory, Schema.of_batch(columns)))


def _tensor_column(place: str, value: object) -> Tensor:
    if isinstance(value, np.ndarray):
        return _array_column(place, value)
    if not isinstance(value, Tensor):
        raise ArgumentTypeError(f"{place} must be a tensor, got {arguments.shown(value)}. Make one with torch.as_tensor.")
    if value.layout != torch.strided or value.is_meta:
        raise ArgumentTypeError(f"{place} must be a dense tensor with values, got {value.layout} on {value.device}.")
    return value


def _array_column(place: str, value: object) -> Tensor:
    if isinstance(value, Tensor):
        return _tensor_column(place, value)
    if not isinstance(value, np.ndarray):
        raise ArgumentTypeError(f"{place} must be a NumPy array, got {arguments.shown(value)}. Make one with numpy.asarray.")
    native = value.astype(value.dtype.newbyteorder("="), copy=False)
    mapped = isinstance(native, np.memmap)
    if (not native.flags.writeable and not mapped) or any(stride < 0 for stride in native.strides):
        native = native.copy()  # torch has no read-only tensors and no negative strides
    try:
        with warnings.catch_warnings():
            if mapped:  # a file that may be larger than the memory; nobody writes to a column, batches are copies of its rows
                warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(native)
    except TypeError:
        remedy = "Turn text and categories into numbers first, for example with torchflow.data.Categories."
        raise ArgumentTypeError(f"{place} has dtype {value.dtype}, which torch does not have. {remedy}") from None
