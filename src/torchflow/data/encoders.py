"""Numbers that are learnt from the training split: encoders are fitted first, and only the fitted one is a function."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.checkpoint import read_encoder_states
from torchflow.data.categories import Categorized
from torchflow.data.dataset import Dataset
from torchflow.data.fields import checked_axes, checked_field, part_of, pooled, training_parts, with_field, with_part
from torchflow.data.schema import Schema
from torchflow.data.spectrograms import LogMel
from torchflow.data.table_encoding import TableEncoding
from torchflow.errors import ArgumentValueError, DataError
from torchflow.types import State

_CONSTANT = 1e-12  # of its mean: below that a spread is rounding


class FittedEncoder(Protocol):
    """A fitted, frozen transform: a function from a sample or batch to the same with one part encoded."""

    # A sample or batch of any structure, in which one part becomes something else.
    def __call__(self, tree: Any, /) -> Any:
        """Return the sample or batch with its field encoded."""
        ...

    def state(self) -> dict[str, State]:
        """Return what :func:`encoder_from_state` makes the encoder from."""
        ...


class Standardize:
    """Shift and scale one part to mean 0 and standard deviation 1, each element for itself or each channel.

    Fit it on the training split alone, then map it over every split:
    ``scale = Standardize().fit(train)``, ``train.map_batch(scale)``.

    Args:
        field: The part: a tuple position, a dict key, an attribute, or None for the sample itself.
        axes: The dimensions of one sample that share a mean and a standard deviation: ``(-2, -1)`` of pictures
            (channels, height, width) gives one for each channel, whatever the sizes of the pictures.
    """

    def __init__(self, field: int | str | None = 0, *, axes: int | Sequence[int] = ()) -> None:
        self._field = checked_field(field)
        self._axes = checked_axes(axes)

    def fit(self, train: Dataset[Any]) -> Standardized:
        """Return the fitted transform, after one pass over the samples in float64.

        The standard deviation is that of the population (divided by n); where a column is constant it is set to 1, so
        that the column becomes 0. The batches' moments are merged as in Chan, Golub and LeVeque (1979).

        Raises:
            ArgumentTypeError: ``train`` is no Dataset.
            DataError: The part is no tensor of numbers, or a value is not finite; the message names the column.
        """
        count, mean, squares = 0, torch.zeros(()), torch.zeros(())
        for first, part in training_parts(train, self._field, "Standardize", ragged=bool(self._axes)):
            if not isinstance(part, Tensor) or part.is_complex():
                raise DataError(f"Standardize needs a tensor of real numbers at field {self._field!r}, got {type(part).__name__}.")
            _refuse_not_finite(part, first)
            values = pooled(part.type(torch.float64), self._axes)
            size, centre = len(values), values.mean(0)
            shift = centre - mean
            squares = squares + ((values - centre) ** 2).sum(0) + shift**2 * (count * size / (count + size))
            mean = mean + shift * (size / (count + size))
            count += size
        std = (squares / count).sqrt()
        return Standardized(self._field, mean, torch.where(std <= _CONSTANT * mean.abs(), torch.ones_like(std), std))


@dataclass(frozen=True, eq=False)
class Standardized:
    """A fitted :class:`Standardize`: ``(value - mean) / std``.

    Args:
        field: The part that is scaled.
        mean: float64, the shape of one sample's part, with 1 for the dimensions that share a mean.
        std: float64, the same shape, never 0.
    """

    field: int | str | None
    mean: Tensor
    std: Tensor

    # A sample or batch of any structure, in which one part becomes something else.
    def __call__(self, tree: Any) -> Any:
        """Return the sample or batch with its part scaled; floating dtypes are kept, others become the default one."""
        part = part_of(tree, self.field)
        if not isinstance(part, Tensor):
            raise DataError(f"Standardize needs a tensor at field {self.field!r}, got {arguments.shown(part)}.")
        mean, std, values = self._like(part)
        return with_part(tree, self.field, (values - mean) / std)

    def schema_after(self, before: Schema | None) -> Schema | None:
        """Return the schema with the part in floating numbers and without its unit."""
        return with_field(before, self.field, lambda field: replace(field, dtype=_floating(field.dtype), unit=None))

    def inverse(self, values: Tensor) -> Tensor:
        """Return scaled values, such as predictions, in the units of the data."""
        mean, std, scaled = self._like(values)
        return scaled * std + mean

    def state(self) -> dict[str, State]:
        """Return the name, field, mean and std."""
        return {"encoder": "standardize", "field": self.field, "mean": self.mean, "std": self.std}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Standardized:
        """Return the transform of a state."""
        return cls(checked_field(state["field"]), state["mean"], state["std"])

    def _like(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean, std and values in one floating dtype, on the values' device."""
        kind = _floating(values.dtype)
        mean = torch.as_tensor(self.mean, dtype=kind, device=values.device)
        return mean, torch.as_tensor(self.std, dtype=kind, device=values.device), values.type(kind)


def _vocabulary(state: Mapping[str, Any]) -> FittedEncoder:
    from torchflow.data.fitted_vocabulary import FittedVocabulary  # noqa: PLC0415  (most models have none)

    return FittedVocabulary.from_state(state)


ENCODERS: dict[str, Callable[[Mapping[str, Any]], FittedEncoder]] = {
    "categories": Categorized.from_state,
    "log_mel": LogMel.from_state,
    "standardize": Standardized.from_state,
    "table": TableEncoding.from_state,
    "vocabulary": _vocabulary,
}
"""The encoders that a saved state may name; nothing else is ever looked up."""


def encoder_from_state(state: Mapping[str, Any]) -> FittedEncoder:
    """Return the fitted encoder of a state.

    Args:
        state: What the encoder's ``state()`` returned, for example read from a model file.

    Raises:
        ArgumentValueError: The state names no encoder of the registry, or lacks something.
    """
    name = state.get("encoder") if isinstance(state, Mapping) else None
    if not isinstance(name, str) or name not in ENCODERS:
        raise ArgumentValueError(f"state must name an encoder out of {', '.join(ENCODERS)}, got {arguments.shown(name)}.")
    try:
        return ENCODERS[name](state)
    except KeyError as error:
        raise ArgumentValueError(f"the state of encoder {name!r} lacks {error}. It has {', '.join(map(repr, state))}.") from error


def _floating(dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and dtype.is_floating_point else torch.get_default_dtype()


def _refuse_not_finite(values: Tensor, first: int) -> None:
    wrong = (~values.isfinite()).nonzero()
    if len(wrong):
        row, *column = wrong[0].tolist()
        place = f"column {column[0] if len(column) == 1 else tuple(column)} of " if column else ""
        found = values[tuple(wrong[0].tolist())].item()
        remedy = "Fill or leave out such samples before fitting."
        raise DataError(f"Standardize cannot learn from {found}: {place}sample {first + row}. {remedy}")


def load_encoders(path: str | os.PathLike[str]) -> dict[str, FittedEncoder]:
    """Return the fitted encoders that :func:`torchflow.save_model` stored beside a model, by name.

    Args:
        path: The model file.

    Raises:
        ArgumentValueError: A stored state names no encoder of the registry.
        CorruptCheckpointError: The file is not what was written.
    """
    return {name: encoder_from_state(state) for name, state in read_encoder_states(path).items()}
