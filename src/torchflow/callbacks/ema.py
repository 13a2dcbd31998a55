"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from torchflow.arguments import flag, one_of, real
from torchflow.callbacks.averaging import Averaging
from torchflow.errors import ArgumentValueError
from torchflow.intervals import Every


class EMA(Averaging):
    """Keeps an exponential moving average of the weights: ``average = decay * average + (1 - decay) * weights``.

    The first average is the weights at the first interval (Polyak and Juditsky, 1992, in the exponential form that
    ``torch.optim.swa_utils`` computes). Training itself does not see it: it goes on with its own weights.

    Args:
        decay: How much of the average stays at every interval, from 0 up to below 1.
        every: When the weights of the moment are taken in: after every update by default. Not in seconds.
        start_after: An interval up to whose end nothing is averaged, such as ``Every(epochs=2)``.
        warm_up: Whether the decay rises as ``min(decay, (1 + n) / (10 + n))`` with the number n of averages before, as in
            TensorFlow's ``ExponentialMovingAverage``, so that the first weights are soon forgotten.
        buffers: ``"copy"``: buffers such as running statistics are the model's own at the last interval. ``"average"``: they
            are averaged as well.
        validate: Whether validation looks at the average. The model has its weights during the passes and every
            ``on_validation_end``, and its own again afterwards, to the last bit.
        apply: Whether the average is copied into the model when the run ends complete, after the last checkpoint. Beside
            ``EarlyStopping(restore_best=True)`` the model ends with the best weights that validation looked at, in whatever order the
            two are given; with ``validate`` these are averaged ones.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: An argument has an impossible value.
    """

    def __init__(
        self,
        decay: float = 0.999,
        *,
        every: Every | None = None,
        start_after: Every | None = None,
        warm_up: bool = False,
        buffers: Literal["copy", "average"] = "copy",
        validate: bool = True,
        apply: bool = True,
    ) -> None:
        self.decay = real("decay", decay, minimum=0.0, hint="Usual values are 0.99 to 0.9999.")
        if self.decay >= 1.0:
            raise ArgumentValueError(f"decay must be below 1, or the average never moves, got {decay}. Write EMA(0.999).")
        self.warm_up = flag("warm_up", warm_up)
        one_of("buffers", buffers, ("copy", "average"))
        after = Every(updates=1) if every is None else every
        super().__init__(after, start_after, validate=validate, apply=apply, average_buffers=buffers == "average")

    def rule(self, averages: Sequence[Tensor], weights: Sequence[Tensor], count: int) -> None:
        """Move every average towards its weights."""
        decay = min(self.decay, (1 + count) / (10 + count)) if self.warm_up else self.decay
        get_ema_multi_avg_fn(decay)(list(averages), list(weights), count)  # type: ignore[no-untyped-call]  # torch's, unannotated
