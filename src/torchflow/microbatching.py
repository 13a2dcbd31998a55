"""Gradients of batches that are cut into microbatches, with the same mathematics by counts, and what happens where memory does not suffice.

Cutting is accumulation (law 4): each piece's loss goes backward times its count, and the sum is divided by the total count once.
The pieces of a batch draw from the batch's own random stream, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from torchflow.caller import warn_caller
from torchflow.device import first_line, free, is_out_of_memory
from torchflow.errors import DataError, OutOfMemoryError
from torchflow.microbatches import check_cut, cut
from torchflow.precision import divide
from torchflow.run import Run
from torchflow.text_table import counted
from torchflow.tree import leaves, samples_in
from torchflow.types import B, M

if TYPE_CHECKING:
    from torchflow.updating import Counted

# The two ways to a gradient that updating.py knows; a model and a batch of any class go through them.
Whole: TypeAlias = "Callable[[Run[Any, Any], Sequence[Any]], list[Counted]]"
Forward: TypeAlias = "Callable[[Run[Any, Any], Any, int | None], tuple[Counted, Tensor]]"


def gradients_in_pieces(run: Run[M, B], batches: Sequence[B], whole: Whole, forward: Forward) -> list[Counted]:
    """Leave the gradient of the mean over all samples of the window in the parameters, from pieces of its batches.

    Where the memory decides and does not suffice, the pieces are halved and the window is gone through again, from the same
    parameters, buffers and random numbers. Until then nothing has been counted and no callback has been called.

    Args:
        run: The run.
        batches: The batches of the update, on the device.
        whole: Makes the gradient of whole batches.
        forward: Runs the step on one batch or piece; without a shard, on the random stream where it stands.

    Raises:
        DataError: A batch cannot be cut.
        OutOfMemoryError: The memory does not suffice for pieces of one sample, or the update cannot be made again.
    """
    microbatches = run.microbatches
    assert microbatches is not None
    if not microbatches.auto:
        return _gradients(run, batches, microbatches.size, whole, forward)
    buffers, versions = _Buffers(run.model), _versions(batches)
    tried: list[int] = []
    while True:
        try:
            parts = _gradients(run, batches, microbatches.size, whole, forward)
            break
        except Exception as error:
            if not is_out_of_memory(error):
                if tried:
                    at_once = counted(-(-tried[-1] // 2), "sample")
                    error.add_note(
                        f"torchflow: for want of memory, microbatch='auto' had cut the batches to at most {at_once} at once."
                    )
                raise
            tried.append(_largest(batches, microbatches.size))
            _refuse_another_attempt(run, batches, tried, error, written=_versions(batches) != versions)
        # Only here the error is gone, and with it the frames of the step and all that they hold.
        microbatches.size = -(-tried[-1] // 2)
        for parameter in run.parameters:
            parameter.grad = None
        buffers.put_back()
        free(run.choices.device)
    if tried:
        warn_caller(
            f"update {run.progress.updates} did not fit into the memory with {counted(tried[-1], 'sample')} at once. From here on, batches go through the step in pieces "
            f"of at most {microbatches.size}, with the same mathematics by counts. Pass microbatch={microbatches.size} for a run that does not depend on "
            "the memory."
        )
    return parts


def _gradients(run: Run[M, B], batches: Sequence[B], size: int | None, whole: Whole, forward: Forward) -> list[Counted]:
    """Leave the gradient of a window in the parameters; where nothing has to be cut, as without microbatches."""
    if size is None or _largest(batches, None) <= size:
        return whole(run, batches)
    parts: list[Counted] = []
    total: int | Tensor = 0
    for shard, piece in _pieces(batches, size):
        part, loss = forward(run, piece, shard)
        if part.weight:
            run.backward(loss * part.weight)
            total = total + part.weight
        parts.append(part)
    if not total:
        return parts  # the mean over nothing is what the step makes of it, as it would be for the whole
    divide((p.grad for p in run.parameters if p.grad is not None), total)
    return [part if part.weight else _nothing(part) for part in parts]


def _pieces(batches: Sequence[B], size: int) -> Iterator[tuple[int | None, B]]:
    """Yield the pieces of a window, made one at a time, and the random stream of each: that of its batch, or where that stands."""
    for shard, batch in enumerate(batches):
        first: int | None = shard
        for piece in cut(batch, size):
            yield first, piece
            first = None


def _nothing(part: Counted) -> Counted:
    """Return the part of a piece in which nothing is counted, such as one whose targets are all ignored: its means are NaN."""
    metrics = {name: value for name, value in part.metrics.items() if not isinstance(value, Tensor) or value.ndim}
    return part._replace(loss=torch.zeros_like(part.loss), metrics=metrics)


def _largest(batches: Sequence[object], size: int | None) -> int:
    """Return the samples of the largest batch, or of the largest piece of the window."""
    most = max(map(samples_in, batches))
    return most if size is None else min(most, size)


def _refuse_another_attempt(run: Run[Any, Any], batches: Sequence[B], tried: list[int], error: Exception, *, written: bool) -> None:
    """Raise where smaller pieces are no way out.

    Raises:
        OutOfMemoryError: Pieces had one sample already, the step has written to its batch, or a batch cannot be cut.
    """
    where = f"Out of memory in update {run.progress.updates}"
    said = f"torch said: {first_line(error)}"
    if tried[-1] == 1:
        steps = f"pieces of {', '.join(map(str, tried[:-1]))} and 1 samples" if len(tried) > 1 else "pieces of 1 sample"
        raise OutOfMemoryError(
            f"{where}: microbatch='auto' tried {steps}, and not even one sample fits. Try, in this order: activation_checkpointing, precision='bf16', a "
            f"smaller model, or another device. {said}"
        ) from error
    if written:
        raise OutOfMemoryError(
            f"{where}, and microbatch='auto' cannot make it again: the step has written to its batch. Write x = x * 2 instead of x.mul_(2), or pass a "
            f"number of samples, such as microbatch={-(-tried[-1] // 2)}. {said}"
        ) from error
    try:
        for batch in batches:
            check_cut(batch)
    except DataError as reason:
        raise OutOfMemoryError(f"{where}, and microbatch='auto' cannot help: {reason} {said}") from error


def _versions(batches: Sequence[object]) -> list[int]:
    """Return how often each tensor was written to in place."""
    return [leaf._version for leaf in leaves(list(batches)) if isinstance(leaf, Tensor) and not leaf.is_inference()]


class _Buffers:
    """The buffers of a model as they are, such as running statistics, to be put back where an attempt had written to them.

    All are copied: batch normalisation writes to its statistics without a trace.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._held = [
            (part, name, buffer, buffer.detach().clone())
            for part in model.modules()
            for name, buffer in part._buffers.items()
            if buffer is not None
        ]

    def put_back(self) -> None:
        """Give every module the buffers that it had, with the values that they had."""
        with torch.no_grad():
            for part, name, buffer, copied in self._held:
                part._buffers[name] = buffer.copy_(copied)
