"""Which device a run uses, and moving nested batches to it. The only file that moves anything."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from torchflow.arguments import one_of, shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DeviceError, OutOfMemoryError
from torchflow.tree import map_leaves

N = TypeVar("N")
ACCELERATORS = ("cuda", "xpu", "mps")
MEMORY_FORMATS = {"channels_last": torch.channels_last}


def available() -> list[torch.device]:
    """Return every device of this machine, the preferred one first; the CPU is always the last."""
    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    return [torch.device(kind, index) for kind in ACCELERATORS for index in range(counts[kind])] + [torch.device("cpu")]


def resolve(device: str | torch.device) -> torch.device:
    """Return the device that a name means.

    Args:
        device: ``"auto"`` (the first of cuda, xpu, mps and cpu that is there), a name such as ``"cuda:1"``, or a device.

    Raises:
        ArgumentTypeError: ``device`` is neither text nor a device.
        ArgumentValueError: torch knows no device of that name.
        DeviceError: This machine does not have the device; the message lists those that are there.
    """
    if not isinstance(device, (str, torch.device)):
        raise ArgumentTypeError(f"device must be a name such as 'auto', 'cpu' or 'cuda:0', or a torch.device, got {shown(device)}.")
    present = available()
    if device == "auto":
        return present[0]
    names = ", ".join(repr(str(d)) for d in present)
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise ArgumentValueError(
            f"device {device!r} is no device that torch knows. Here there are {names}; 'auto' picks one."
        ) from error
    if wanted.index is None and wanted.type != "cpu":
        wanted = torch.device(wanted.type, 0)
    if wanted not in present and wanted != torch.device("cpu", 0):
        raise DeviceError(f"device {str(device)!r} is not on this machine. Here there are {names}; 'auto' picks the first.")
    return wanted


def move(tree: N, device: torch.device, memory_format: torch.memory_format | None = None) -> N:
    """Return the tree with every tensor on ``device``; all types are kept, and on the CPU nothing is copied.

    With a memory format, tensors (batch, channels, height, width) are laid out in it. Pinned tensors travel without blocking. Leaves with a ``to`` of their own (graphs, packed sequences) move too.
    """
    if device.type == "cpu" and memory_format is None and _is_on_cpu(tree):
        return tree
    return map_leaves(lambda leaf: _moved(leaf, device, memory_format), tree)


def _is_on_cpu(tree: object) -> bool:
    """Say at the cost of a glance that a plain tuple of CPU tensors has nowhere to go."""
    if type(tree) is not tuple:
        return False
    for leaf in tree:  # noqa: SIM110  (a generator would cost as much as the rest of the glance)
        if type(leaf) is not Tensor or not leaf.is_cpu:
            return False
    return True


def _moved(leaf: Any, device: torch.device, memory_format: torch.memory_format | None) -> Any:
    if isinstance(leaf, Tensor):
        moved = leaf.to(device, non_blocking=leaf.device.type == "cpu" and device.type != "cpu" and leaf.is_pinned())
        return moved.contiguous(memory_format=memory_format) if memory_format is not None and moved.ndim == 4 else moved
    return leaf.to(device) if callable(getattr(leaf, "to", None)) else leaf


def move_model(model: nn.Module, device: torch.device, memory_format: torch.memory_format | None = None) -> None:
    """Move a model in place, and lay its convolutions' weights out in a memory format.

    Raises:
        ArgumentValueError: The model has parameters on the meta device, which hold no values to move.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.device.type == "meta":
            raise ArgumentValueError(
                f"model has {name!r} on the meta device, which holds no values. Call model.to_empty(device='cpu') and initialise it first."
            )
    model.to(device)
    if memory_format is not None:
        model.to(memory_format=memory_format)  # type: ignore[call-overload]  # torch documents it and does not annotate it


def check_memory_format(name: str | None) -> torch.memory_format | None:
    """Return the memory format of a name: ``"channels_last"``, or None for tensors as they are.

    Raises:
        ArgumentTypeError: The name is no text.
        ArgumentValueError: It is another name.
    """
    return (
        None
        if name is None
        else MEMORY_FORMATS[
            one_of("memory_format", name, tuple(MEMORY_FORMATS), hint="Write memory_format='channels_last', or leave it out.")
        ]
    )


@contextlib.contextmanager
def deterministic_algorithms(deterministic: bool | None, device: torch.device) -> Iterator[None]:
    """Hold torch to deterministic kernels for the duration of the block, and put its switches back.

    Args:
        deterministic: True holds it and refuses what has no such kernel; None does so on the CPU, where a kernel
            without a deterministic form only warns; False leaves torch as it is.
        device: The device of the run.
    """
    if deterministic is False or (deterministic is None and device.type != "cpu"):
        yield
        return
    was, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    # torch makes this attribute at run time, which no type checker sees.
    memory: Any = torch.utils.deterministic
    filled, benchmark = memory.fill_uninitialized_memory, torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=deterministic is None)
    memory.fill_uninitialized_memory = False  # it costs a write of every new tensor and changes no result
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was, warn_only=warned)
        memory.fill_uninitialized_memory = filled
        torch.backends.cudnn.benchmark = benchmark


_OF_MEMORY = (
    "can't allocate memory",  # the CPU
    "not enough memory: you tried to allocate",  # the CPU, on Windows
    "MPS backend out of memory",
    "CUDA error: out of memory",  # below the allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""What errors say that are about memory and not of torch's class for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory did not suffice; one of torchflow's own, which has said so already, does not."""
    if isinstance(error, OutOfMemoryError):
        return False
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _OF_MEMORY)


def out_of_memory(error: Exception, where: str) -> OutOfMemoryError | None:
    """Return the error to raise instead where ``error`` says that memory did not suffice, else None."""
    if not is_out_of_memory(error):
        return None
    return OutOfMemoryError(
        f"Out of memory in {where}. Try, in this order: smaller pieces of each batch (microbatch='auto', or a number of samples) or a smaller "
        f"batch_size with accumulate raised by the same factor (the same mathematics), a smaller model, or another device. torch said: {first_line(error)}"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its class where it says nothing."""
    return str(error).partition("\n")[0] or type(error).__name__


def free(device: torch.device) -> None:
    """Give back what nothing refers to any more: cycles of objects on the host, and on an accelerator the blocks that torch keeps."""
    gc.collect()
    if device.type != "cpu":
        module: Any = getattr(torch, device.type)  # torch.cuda, torch.xpu and torch.mps have the same function
        module.empty_cache()
