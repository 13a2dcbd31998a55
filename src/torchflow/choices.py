"""What a Trainer decides for its runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from torchflow.device import deterministic_algorithms
from torchflow.errors import ArgumentValueError
from torchflow.microbatches import AUTO
from torchflow.precision import matmul_precision
from torchflow.recomputing import Rule


@dataclass(frozen=True, slots=True)
class Choices:
    """What a Trainer decides for its runs and what no update changes."""

    accumulate: int
    clip_norm: float | None
    clip_value: float | None
    nonfinite: str
    precision: str
    deterministic: bool | None
    device: torch.device
    seed: int
    memory_format: torch.memory_format | None = None
    group: int | None = None
    """Updates of one call of compiled code; None where updates are not compiled."""
    matmul_precision: str | None = None
    """How float32 products are computed; None leaves it to the process."""
    recomputed: Rule | None = None
    """Which modules forget their activations; None where none does."""

    microbatch: int | str | None = None
    """The most samples of a batch that go through the step at once; "auto" where the memory decides, None for whole batches."""

    @property
    def pieces(self) -> int | None:
        """The most samples that go through the step at once where that is decided beforehand, else None."""
        return self.microbatch if isinstance(self.microbatch, int) else None

    @property
    def clips(self) -> bool:
        """Whether gradients are clipped, in either way."""
        return self.clip_norm is not None or self.clip_value is not None

    @contextlib.contextmanager
    def kernels(self) -> Iterator[None]:
        """Hold torch to the kernels that were chosen, and put its switches back."""
        with deterministic_algorithms(self.deterministic, self.device), matmul_precision(self.matmul_precision):
            yield


def refuse_together(choices: Choices, update: object, *, several: bool) -> None:
    """Refuse what needs the standard update, of one loss, or updates that are not compiled, beside others.

    Args:
        choices: The choices.
        update: The update of the user's own, or None.
        several: Whether there are several steps, each with its own optimizer.

    Raises:
        ArgumentValueError: Two choices do not go together.
    """
    if choices.recomputed is not None and choices.group is not None:
        raise ArgumentValueError(
            "activation_checkpointing has no effect in compiled updates, whose compiler decides what is kept and what is computed again. "
            "Leave out activation_checkpointing or compile."
        )
    if several and update is not None:
        raise ArgumentValueError(
            "step is a mapping, whose steps the standard update takes in turn, and update= replaces that update. Leave out update=, or pass one step, "
            "which then serves evaluate and validation alone."
        )
    if several and choices.group is not None:
        raise ArgumentValueError("compile= captures an update of one loss, and step is a mapping of several. Leave out compile=.")
    if several and choices.precision == "fp16":
        raise ArgumentValueError(
            "precision 'fp16' drops an update whose gradients overflow, and of several steps the first ones would have been taken by then. Pass "
            "precision='bf16', which needs no scaling."
        )
    if several and choices.microbatch is not None:
        raise ArgumentValueError(
            "microbatch cuts the batches of an update of one loss, and step is a mapping of several. Leave out microbatch, and raise accumulate with a "
            "smaller batch_size."
        )
    for name, there in (("update=", update is not None), ("compile=", choices.group is not None)):
        if there and choices.precision == "fp16":
            raise ArgumentValueError(
                f"precision 'fp16' scales every loss before its backward pass, which it cannot in {name}. Pass precision='bf16', which needs "
                f"no scaling, or leave {name} out."
            )
        if there and choices.microbatch is not None:
            raise ArgumentValueError(
                f"microbatch cuts batches into pieces, whose gradients it puts together, which it cannot in {name}. Leave out microbatch or {name}"
            )


def refuse_closure(choices: Choices) -> None:
    """Refuse what an optimizer that evaluates the loss itself, several times an update, does not go together with.

    Raises:
        ArgumentValueError: Losses would be scaled, or updates begun again.
    """
    if choices.precision == "fp16":
        raise ArgumentValueError(
            "precision 'fp16' scales losses, and L-BFGS compares them with each other. Pass precision='bf16' or 'float32', or another optimizer."
        )
    if choices.microbatch == AUTO:
        raise ArgumentValueError(
            "microbatch='auto' makes an update again where memory did not suffice, and L-BFGS may have moved the parameters by then. Pass a number of "
            "samples, such as microbatch=32, or another optimizer."
        )
