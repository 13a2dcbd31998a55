"""Every type variable, Protocol and alias of the package; nobody else invents one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer

M = TypeVar("M", bound=nn.Module)
"""A model."""
M_contra = TypeVar("M_contra", bound=nn.Module, contravariant=True)
B = TypeVar("B")
"""A batch."""
B_contra = TypeVar("B_contra", contravariant=True)
T = TypeVar("T")
"""A sample."""
F = TypeVar("F", bound=Callable[..., Any])
"""A function, or a class."""
U = TypeVar("U")
V = TypeVar("V")
Tree = TypeVar("Tree", bound="Tensor | tuple[Any, ...] | dict[str, Tensor] | AnyDataclass")
"""A tensor, or a structure of some that annotations can follow."""
T_co = TypeVar("T_co", covariant=True)

State: TypeAlias = "bool | int | float | str | Tensor | Sequence[State] | Mapping[str, State] | None"
"""All that a checkpoint can hold: plain values, tensors, and lists, tuples and dicts of them."""

Data: TypeAlias = "Iterable[B] | SizedSource[Any] | tuple[Any, ...] | Mapping[str, Any]"
"""What training and evaluation read: a dataset, columns of tensors or arrays, or an iterable of batches."""

OptimizerRecipe: TypeAlias = Callable[[M], Optimizer]
"""A function from the model to its optimizer."""

LastBatch: TypeAlias = Literal["keep", "drop", "pad"]
"""What becomes of a last, short batch."""

SampleValues: TypeAlias = "str | int | Sequence[Any] | Listable | None"
"""One value of every sample: the name or the position of a part of it, or as many values as there are samples."""


class SizedSource(Protocol[T_co]):
    """Anything with a length and items: torch's map-style datasets, HF datasets, lists."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> T_co: ...


class AnyDataclass(Protocol):
    """An instance of some dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class Listable(Protocol):
    """Anything that becomes a list: tensors, arrays, columns of frames."""

    def tolist(self) -> Any:
        """Return the values; a number where there is one alone, so that the type stays open."""
        ...


@runtime_checkable
class Metric(Protocol):
    """An object that gathers and computes; torchmetrics' classes fit as they are."""

    # Metrics take whatever their mathematics needs, so the arguments stay open; this form is the one that every checker takes so.
    def update(self, *args: Any, **kwargs: Any) -> object:
        """Gather one batch, usually ``(predictions, targets)``."""
        ...

    def compute(self) -> Any:
        """Return the value over all that was gathered: a number, or a tensor with one element."""
        ...

    def reset(self) -> object:
        """Forget all that was gathered."""
        ...


class HasState(Protocol):
    """An object that says what it is made from again, such as a fitted encoder."""

    def state(self) -> Mapping[str, State]:
        """Return plain values and tensors."""
        ...


@runtime_checkable
class Stateful(Protocol):
    """An object whose state goes into a checkpoint."""

    def state(self) -> Mapping[str, State]:
        """Return everything that changes while training."""
        ...

    def load_state(self, state: Mapping[str, Any], /) -> None:
        """Take over what :meth:`state` returned."""
        ...
