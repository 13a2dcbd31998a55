"""Whatever data a user has, as a Dataset."""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from torchflow import arguments
from torchflow.data.dataset import Dataset
from torchflow.data.factories import from_arrays, from_tensors
from torchflow.data.sources import Calls, Items
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError

_TAKEN = "a Dataset, a tuple or dict of tensors or arrays, anything with __len__ and __getitem__, or an iterable of batches such as a DataLoader"


def as_dataset(data: object, *, name: str = "data") -> Dataset[Any]:
    """Return data as a Dataset.

    A Dataset is itself. Tensors, arrays, and tuples or dicts of them are columns, whose rows are the samples; so is a
    ``TensorDataset``. Lists are samples in memory. Anything else with ``__len__`` and ``__getitem__`` is a foreign dataset, read by Python.

    Args:
        data: The data.
        name: The argument's name for error messages.

    Raises:
        ArgumentTypeError: It is no dataset; the message says what to do.
        DataError: It is empty, or its length is no length.
    """
    dataset = _converted(data, name)
    if not len(dataset):
        raise DataError(f"{name} has no samples. Pass at least one.")
    return dataset


def yields_batches(data: object, name: str) -> bool:
    """Return whether data is an iterable of batches, and not a dataset.

    Raises:
        ArgumentTypeError: It is a torch IterableDataset, which yields single samples.
    """
    if isinstance(data, IterableDataset):
        raise ArgumentTypeError(
            f"{name} is a torch IterableDataset, which yields samples one by one. Wrap it: DataLoader(data, batch_size=32), "
            "or batch_size=None if it yields batches already."
        )
    if isinstance(data, (str, bytes, Mapping, Dataset, Tensor)) or hasattr(data, "__getitem__"):
        return False
    return isinstance(data, Iterable)


def named_data(data: Any, what: str, taken: str | None = None) -> dict[str, Any]:
    """Return datasets by name, or nothing where it is one dataset.

    A mapping that holds a tensor or an array beside nothing but columns is one dataset; any other mapping holds named ones.

    Args:
        data: The data.
        what: What the message calls one of them.
        taken: A name that is not free.

    Raises:
        ArgumentValueError: A name is no text, holds a slash, or is taken.
    """
    if not isinstance(data, Mapping) or not data or (any(map(_is_column, data.values())) and _all_columns(data)):
        return {}
    for name in data:
        if not isinstance(name, str) or not name or "/" in name or name == taken:
            other = "" if taken is None else f" and other than {taken!r}"
            raise ArgumentValueError(f"{what}'s name must be text without '/'{other}, got {arguments.shown(name)}.")
    return dict(data)


def _converted(data: Any, name: str) -> Dataset[Any]:
    if isinstance(data, Dataset):
        return data
    if type(data) is TensorDataset:  # what torch keeps in columns stays in columns
        return from_tensors(*data.tensors) if len(data.tensors) > 1 else from_tensors((data.tensors[0],))
    if type(data) is Subset and type(data.dataset) is TensorDataset:
        return _converted(data.dataset, name).select(list(data.indices))
    if _is_column(data) or (isinstance(data, (tuple, Mapping)) and _all_columns(data)):
        return from_tensors(data) if _has_tensors(data) else from_arrays(data)
    if type(data) is tuple:
        _refuse_lazy_columns(dict(enumerate(data)), name)
    if type(data) in (list, tuple, range):  # reading those runs no code of the user
        return Dataset(Items(tuple(data), type(data).__name__))
    _refuse(data, name)
    return Dataset(Calls(data.__getitem__, _length(data, name), _type_name(data)))


def _refuse_lazy_columns(parts: Mapping[Any, object], name: str) -> None:
    """Refuse sequences of a library's own, which read when they are asked: the columns of Hugging Face's datasets, for example."""
    for key, part in parts.items():
        if isinstance(part, Sequence) and not isinstance(part, (str, bytes, list, tuple, range)):
            raise ArgumentTypeError(
                f"{name}[{key!r}] is {arguments.shown(part)}, which is a column that is neither a tensor nor an array. "
                "Take its values: torch.as_tensor(column[:])."
            )


def _refuse(data: object, name: str) -> None:
    """Raise for everything that has no samples."""
    found = arguments.shown(data)
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        raise ArgumentTypeError(f"{name} is a table. Use torchflow.data.from_frame(frame, target=...), which says what is learnt.")
    if isinstance(data, (str, bytes)):
        raise ArgumentTypeError(f"{name} must be {_TAKEN}, got {found}. Read a file with torchflow.data.from_csv.")
    if isinstance(data, Mapping):
        _refuse_lazy_columns(data, name)
        wrong = next(
            (f"[{key!r}] is {arguments.shown(value)}" for key, value in data.items() if not _is_column(value)), "it is empty"
        )
        remedy = " Write torch.as_tensor(values)." if any(isinstance(value, list) for value in data.values()) else ""
        raise ArgumentTypeError(f"{name} is a dict, whose values must be tensors or arrays: {wrong}.{remedy}")
    if isinstance(data, type):
        raise ArgumentTypeError(f"{name} must be an object, got the class {data.__name__}. Call it: {data.__name__}(...).")
    if isinstance(data, (DataLoader, IterableDataset)) or (isinstance(data, Iterable) and not hasattr(data, "__getitem__")):
        remedy = "Pass its dataset, or make one with torchflow.data.from_iterable."
        raise ArgumentTypeError(f"{name} must have samples by index, and a {type(data).__name__} only yields. {remedy}")
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise ArgumentTypeError(f"{name} must be {_TAKEN}, got {found}.")


def _length(data: Sized, name: str) -> int:
    """Return the length that a foreign dataset says that it has."""
    try:
        length: object = type(data).__len__(data)
    except Exception as error:
        raise DataError(f"len({name}) failed: it raised {type(error).__name__}: {error}. Correct its __len__.") from error
    if isinstance(length, bool) or not isinstance(length, numbers.Integral) or int(length) < 0:
        raise DataError(f"len({name}) must be a whole number from 0 on, got {arguments.shown(length)}. Correct its __len__.")
    return int(length)


def _is_column(value: object) -> bool:
    return isinstance(value, (Tensor, np.ndarray))


def _all_columns(data: Any) -> bool:
    values = list(data.values() if isinstance(data, Mapping) else data)
    return bool(values) and all(_is_column(value) or (isinstance(value, (tuple, dict)) and _all_columns(value)) for value in values)


def _has_tensors(data: Any) -> bool:
    values = data.values() if isinstance(data, Mapping) else data if isinstance(data, tuple) else [data]
    return all(isinstance(value, torch.Tensor) for value in values)


def _type_name(data: object) -> str:
    return type(data).__name__
