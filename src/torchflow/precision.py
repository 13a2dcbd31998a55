"""Numbers: dtypes, autocast, the scaling of losses, and clipping. The only file that decides them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Optimizer

from torchflow.arguments import one_of
from torchflow.errors import ArgumentValueError, DeviceError
from torchflow.tree import map_leaves

MIXED = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The precisions in which weights stay in float32, and operations that gain from it are computed in fewer bits."""
PRECISIONS = ("float32", *MIXED, "float64")
MATMUL_PRECISIONS = ("highest", "high", "medium")

_TF32 = "'high' is TF32, where the device has it."

# What the same is called in torch and elsewhere.
_OTHER_NAMES = {
    "bf16": ("bfloat16", "bf16-mixed", "mixed_bfloat16"),
    "fp16": ("float16", "half", "16", "16-mixed", "mixed_float16"),
    "float32": ("float", "fp32", "32", "32-true", "None"),
    "float64": ("double", "fp64", "64", "64-true"),
}


def check_precision(precision: str, device: torch.device) -> str:
    """Check a precision's name: ``"float32"`` computes in the dtypes of the model and the data, unchanged.

    Raises:
        ArgumentTypeError: It is no text.
        ArgumentValueError: It is none of the known names.
        DeviceError: The device does not compute in it.
    """
    meant = next((name for name, others in _OTHER_NAMES.items() if str(precision).removeprefix("torch.") in (name, *others)), None)
    hint = f"Write precision={meant!r}." if meant else "A float64 model and float64 data train in float64 under 'float32' too."
    one_of("precision", precision, PRECISIONS, hint=hint)
    if precision == "float64" and device.type == "mps":
        raise DeviceError(
            "precision 'float64' is not there on mps devices, which have no such numbers. Pass device='cpu', or 'float32'."
        )
    try:
        autocasting(precision, device)
    except RuntimeError as error:
        raise DeviceError(f"precision {precision!r} is not there on {device}: {error} Pass precision='float32'.") from error
    return precision


def check_matmul_precision(precision: str | None) -> str | None:
    """Check the name of a precision of float32 products.

    Raises:
        ArgumentTypeError: It is no text.
        ArgumentValueError: It is none of torch's names.
    """
    return None if precision is None else one_of("matmul_precision", precision, MATMUL_PRECISIONS, hint=_TF32)


@contextlib.contextmanager
def matmul_precision(precision: str | None) -> Iterator[None]:
    """Hold torch to a precision of float32 products, and put the earlier one back; None leaves it as it is."""
    if precision is None:
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def prepare_model(model: nn.Module, precision: str) -> None:
    """Convert a model's floating-point numbers to float64, in place, where that is the precision; refuse what does not suit it.

    Raises:
        ArgumentValueError: A parameter that is trained has a dtype that mixed precision would leave as it is, or cannot scale.
    """
    if precision == "float64":
        model.double()
    unfit = {"bf16": (torch.float64,), "fp16": (torch.float64, torch.float16)}.get(precision, ())
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype in unfit:
            raise ArgumentValueError(
                f"precision {precision!r} trains float32 weights, and model has {name!r} in {str(parameter.dtype).removeprefix('torch.')}. "
                "Convert it: model.float(); or pass precision='float32', which leaves all dtypes as they are."
            )


def autocasting(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Return the context in which a forward pass is made; it does nothing where the precision is not a mixed one.

    torch's cache of cast weights stays off. It lives as long as the context does, so after weights were changed in the same
    context, by an optimizer or in place, the next pass would be made with the old ones.
    """
    return torch.autocast(device.type, MIXED[precision], cache_enabled=False) if precision in MIXED else nullcontext()


class Converted:
    """A function ``(model, batch)``, such as a step, under a precision; its metrics are the function's.

    Args:
        function: The function.
        precision: Any but ``"float32"``.
        device: Where it computes.
    """

    __slots__ = ("_context", "_doubled", "function", "metrics", "used")

    def __init__(self, function: Callable[[Any, Any], Any], precision: str, device: torch.device) -> None:
        self.function = function
        self.metrics = getattr(function, "metrics", {})
        self.used = False
        self._context = autocasting(precision, device)  # made once: making it asks the device
        self._doubled = precision == "float64"

    def __call__(self, model: Any, batch: Any, /) -> Any:
        """Call the function; in float64 with a batch whose floating-point tensors are float64."""
        self.used = True
        with self._context:
            return self.function(model, doubled(batch) if self._doubled else batch)


def under(function: Callable[[Any, Any], Any], precision: str, device: torch.device) -> Callable[[Any, Any], Any]:
    """Return a function ``(model, batch)`` under a precision: itself under ``"float32"``, which costs nothing."""
    return function if precision == "float32" else Converted(function, precision, device)


def as_written(function: Any) -> Any:
    """Return what :func:`under` was given."""
    return function.function if isinstance(function, Converted) else function


def doubled(batch: Any) -> Any:
    """Return a batch with its floating-point tensors in float64; whole and complex numbers stay."""
    return map_leaves(lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, batch)


def widened(tree: Any) -> Any:
    """Return a tree with bfloat16 and float16 in float32, which holds each of their values; NumPy has no bfloat16."""
    return map_leaves(lambda leaf: leaf.float() if isinstance(leaf, Tensor) and leaf.dtype in MIXED.values() else leaf, tree)


class Scaling:
    """Scales losses for float16, so that small gradients do not vanish, by torch's ``GradScaler`` (Micikevicius et al., 2018).

    The factor is halved where a gradient overflows, and doubled after 2,000 updates without.

    Args:
        device: Where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._scaler = GradScaler(device.type)
        self._open = False

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a scalar loss, times the factor, to its leaves."""
        if self._open:  # an earlier update was left in its middle, and the scaler still waits for its end
            self.load_state(self.state())
        backward(self._scaler.scale(loss))

    def unscale(self, optimizers: Iterable[Optimizer]) -> None:
        """Divide all gradients by the factor; what is not finite stays so."""
        for optimizer in optimizers:
            if any(p.grad is not None for group in optimizer.param_groups for p in group["params"]):
                self._scaler.unscale_(optimizer)
                self._open = True

    def adjust(self) -> None:
        """End an update: lower the factor where a gradient was not finite, or count the update."""
        if self._open:  # otherwise there was no gradient to look at
            self._scaler.update()
        self._open = False

    @property
    def excessive(self) -> bool:
        """Whether the factor itself may be why a gradient overflows: at 1 and below, it is not."""
        return self._scaler.get_scale() > 1.0

    def state(self) -> dict[str, Any]:
        """Return the factor, and how it moves."""
        return self._scaler.state_dict()

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state` returned."""
        self._scaler, self._open = GradScaler(self._device.type), False
        self._scaler.load_state_dict(dict(state))


def scaling_of(precision: str, device: torch.device) -> Scaling | None:
    """Return what scales losses, which float16 alone needs."""
    return Scaling(device) if precision == "fp16" else None


def backward(loss: Tensor, inputs: Sequence[Tensor] = ()) -> None:
    """Add the gradients of a scalar loss to its leaves, as ``loss.backward()`` does; to ``inputs`` alone where some are given.

    On the CPU, a plain tensor goes straight to the autograd engine: the public function spends a seventh of the smallest
    models' updates on choices that are already made here. Everything else takes the public way.
    """
    if type(loss) is Tensor and loss.is_cpu and _engine is not None and not torch._C._are_functorch_transforms_active():
        one = _ones.get(loss.dtype)
        if one is None:
            one = _ones[loss.dtype] = torch.ones((), dtype=loss.dtype)
        _engine.run_backward((loss,), (one,), False, False, tuple(inputs), allow_unreachable=True, accumulate_grad=True)
    else:
        torch.autograd.backward(loss, inputs=inputs or None)


# No annotation of torch's covers its engine; where a release moves it, backward() takes the public way.
_engine: Any = getattr(torch.autograd.Variable, "_execution_engine", None)
_ones: dict[torch.dtype, Tensor] = {}


def divide(gradients: Iterable[Tensor], total: float | Tensor) -> None:
    """Divide gradients by the count of a whole update, in place, once."""
    for gradient in gradients:
        gradient.div_(total)


def clip(parameters: Sequence[Tensor], norm: float | None, value: float | None) -> Tensor | None:
    """Clip gradients in place, by their common 2-norm first and then element by element.

    Args:
        parameters: The parameters whose ``.grad`` is clipped.
        norm: The largest 2-norm of all gradients together, or None.
        value: The largest magnitude of one element, or None.

    Returns:
        The 2-norm before clipping, shape (); None without ``norm``.
    """
    before = None if norm is None else clip_grad_norm_(parameters, norm)
    if value is not None and parameters:  # torch refuses to clip nothing by value
        clip_grad_value_(parameters, value)
    return before
