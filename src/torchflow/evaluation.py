"""The only evaluation loop: a step over batches without gradients, leaving nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from torchflow import interruption
from torchflow.averages import Averages, kept_metrics
from torchflow.data.batches import Batches
from torchflow.device import move, out_of_memory
from torchflow.errors import StepError, TorchflowError
from torchflow.microbatches import cut
from torchflow.mistakes import meaning_of
from torchflow.precision import MIXED, as_written, under, widened
from torchflow.randomness import Keys, preserved, seed_globals
from torchflow.step import Outputs, Step, Supervised, checked_loss
from torchflow.steps import losses_of
from torchflow.tree import leaves_with_paths, map_leaves, samples_in, shapes
from torchflow.types import B, M


class Placement(Protocol):
    """Where batches go, and in which layout: the choices of a Trainer."""

    @property
    def device(self) -> torch.device:
        """The device."""
        ...

    @property
    def memory_format(self) -> torch.memory_format | None:
        """The layout of images, or None."""
        ...

    @property
    def precision(self) -> str:
        """The precision that the step is under."""
        ...


@contextlib.contextmanager
def evaluating(model: nn.Module, device: torch.device, key: int) -> Iterator[None]:
    """Put a model into evaluation mode without gradients and on a random stream of its own.

    At the end every module gets its own training flag back, and every generator the state that it had.
    """
    flags = [(module, module.training) for module in model.modules()]
    with preserved(device), torch.no_grad():
        seed_globals(key, device)
        model.eval()
        try:
            yield
        except RuntimeError as error:
            if explained := out_of_memory(error, "an evaluation pass"):
                raise explained from error
            raise
        finally:
            for module, flag in flags:
                module.training = flag


def evaluation_key(keys: Keys, name: str, update: int) -> int:
    """Return the key of one evaluation pass: evaluating more often changes no other stream."""
    return keys(f"evaluation/{name}", update)


def evaluate_batches(
    step: Step[M, B], model: M, batches: Batches[B], *, where: Placement, key: int, microbatch: int | None = None
) -> dict[str, float]:
    """Return the exact averages of a step's loss and metrics over every sample of the data, at most ``microbatch`` at once."""
    averages = Averages(getattr(step, "metrics", {}), where.device, losses_of(step))
    with evaluating(model, where.device, key), contextlib.closing(_epoch(batches, where, microbatch)) as moved:
        for number, on_device in moved:
            interruption.check()
            with _placed(number, on_device):
                outputs = checked_loss(step(model, on_device), training=False)
            count = samples_in(on_device) if outputs.count is None else outputs.count
            averages.add(outputs.loss.detach(), count, kept_metrics(outputs.metrics))
        return averages.compute()


def predict_batches(
    step: Step[M, B],
    model: M,
    batches: Batches[B],
    *,
    where: Placement,
    key: int,
    forward: Callable[[M, B], Any] | None,
    microbatch: int | None = None,
) -> Any:  # a tensor, or whatever tree of tensors the step predicts
    """Return the predictions of every sample, concatenated along the first dimension, on the CPU.

    The step comes under the precision of ``where``, as that of a run does; ``forward`` is put under it here. A step of :func:`supervised` knows how to call
    the model without targets, and its loss is not asked.

    Raises:
        StepError: The step fills in no predictions and no ``forward`` is given.
    """
    parts: list[Any] = []
    if forward is None and isinstance(written := as_written(step), Supervised):
        forward = written.predictions
    if forward is not None:
        forward = under(forward, where.precision, where.device)
    with evaluating(model, where.device, key), contextlib.closing(_epoch(batches, where, microbatch)) as moved:
        for number, on_device in moved:
            interruption.check()
            with _placed(number, on_device):
                predictions = _by_step(step, model, on_device) if forward is None else forward(model, on_device)
            parts.append(move(map_leaves(_detached, predictions), torch.device("cpu")))
    joined = concatenate(parts)
    return widened(joined) if where.precision in MIXED else joined


def _epoch(batches: Batches[B], where: Placement, microbatch: int | None) -> Generator[tuple[int, B], None, None]:
    """Yield the batches of the one epoch that evaluation knows, number 0, or their pieces, on the device; and the number of each."""
    for number, batch in enumerate(batches.epoch(0)):
        on_device = move(batch, where.device, where.memory_format)
        for piece in (on_device,) if microbatch is None else cut(on_device, microbatch):
            yield number, piece


@contextlib.contextmanager
def _placed(number: int, batch: object) -> Iterator[None]:
    """Say of what a user's own code raises where it was, on what, and what it may mean."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, TorchflowError):
            error.add_note(f"torchflow: in batch {number} of an evaluation, on {shapes(batch)}")
            if (meaning := meaning_of(error, batch)) is not None:
                error.add_note(f"torchflow: {meaning}")
        raise


def _detached(leaf: Any) -> Any:
    return leaf.detach() if isinstance(leaf, Tensor) else leaf


def _by_step(step: Step[M, B], model: M, batch: B) -> Any:
    """Return what a step predicts."""
    try:
        outputs = step(model, batch)
    except StepError as error:
        error.add_note("torchflow: data without targets is predicted with forward=lambda model, batch: model(batch).")
        raise
    if isinstance(outputs, Outputs) and outputs.predictions is not None:
        return outputs.predictions
    raise StepError(
        "predict needs to know what the model predicts, and the step returned none. Return Outputs(loss, predictions=...) "
        "from the step, or call predict(model, data, forward=lambda model, batch: model(batch))."
    )


def concatenate(parts: list[Any]) -> Any:
    """Join trees of tensors leaf by leaf along the first dimension; leaves that are no tensors become lists.

    Raises:
        StepError: The trees differ, or the shapes of a leaf in more than their first dimension.
    """
    trees = [list(leaves_with_paths(part)) for part in parts]
    paths = [path for path, _ in trees[0]]
    if any([path for path, _ in tree] != paths for tree in trees):
        raise StepError("predictions of some batch have another structure than those of the first. Return the same tree from each.")
    joined = iter([_joined(path, [tree[number][1] for tree in trees]) for number, path in enumerate(paths)])
    return map_leaves(lambda _: next(joined), parts[0])


def _joined(path: str, column: list[Any]) -> Any:
    if not all(isinstance(part, Tensor) for part in column):
        return column
    rows = [part if part.ndim else part.reshape(1) for part in column]
    if len(shapes := dict.fromkeys(row.shape[1:] for row in rows)) > 1:
        first, other = (next(tuple(row.shape) for row in rows if row.shape[1:] == shape) for shape in list(shapes)[:2])
        raise StepError(
            f"predictions{path} do not join along the batch: one batch gives {first} and another {other}. Pad them to one shape in the "
            "step, or in forward=."
        )
    return torch.cat(rows)
