"""What a stored tensor is: which ones can be stored, when two are the same, and how one is copied."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from torchflow.checkpoint.shards import DTYPE_NAMES
from torchflow.errors import StateError


def check_tensor(tensor: Tensor, where: str) -> None:
    """Check that a tensor can be stored bit for bit.

    Raises:
        StateError: It is lazy, on the meta device, of a subclass, not dense, or of a dtype without a name in
            safetensors; the message begins with ``where`` and says what to do.
    """
    if isinstance(tensor, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)):
        raise StateError(f"{where}: the tensor is lazy and has no values yet; run one batch through the model first.")
    if type(tensor) not in (Tensor, nn.Parameter):
        kind = type(tensor).__name__
        raise StateError(f"{where}: got a tensor of class {kind}; only plain tensors are stored: convert it first.")
    if tensor.is_meta:
        raise StateError(
            f"{where}: the tensor is on the meta device and has no values; use model.to_empty(...) and set them first."
        )
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        raise StateError(f"{where}: got a tensor that is not dense ({tensor.layout}); store its parts, or .to_dense() it.")
    if tensor.dtype not in DTYPE_NAMES:
        hint = "store torch.view_as_real(...) of it" if tensor.is_complex() else "convert it first"
        raise StateError(f"{where}: got a tensor of {tensor.dtype}, which safetensors cannot hold; {hint}.")


def view_of(tensor: Tensor) -> tuple[object, ...]:
    """Return what two living, non-empty tensors have in common exactly if they are one view of one memory: tied."""
    memory = (tensor.device, tensor.data_ptr()) if tensor.numel() else (id(tensor),)
    return (*memory, tensor.shape, tensor.stride(), tensor.dtype, tensor.is_conj(), tensor.is_neg())


def snapshot(tensor: Tensor, into: Tensor | None = None) -> Tensor:
    """Return a contiguous copy on the CPU that shares no memory with the tensor; ``into`` is written over where it fits."""
    with torch.no_grad():
        if into is None or into.shape != tensor.shape or into.dtype != tensor.dtype:
            into = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
        return into.copy_(tensor.detach())
