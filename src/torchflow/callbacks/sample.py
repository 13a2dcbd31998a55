"""What the model makes of a few fixed samples, again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torchflow.arguments import function, whole
from torchflow.callbacks.recurring import Recurring, interval
from torchflow.data.batches import Batches
from torchflow.data.reading import Reading
from torchflow.evaluation import evaluation_key, predict_batches
from torchflow.events import Started
from torchflow.intervals import Every, Progress
from torchflow.randomness import Keys

if TYPE_CHECKING:
    from torchflow.run import Run


class Sample(Recurring):
    """Hands the predictions of a few fixed samples to a function of yours, at every interval.

    They are made in evaluation mode, without gradients and on a random stream of their own: the run does not notice.

    Args:
        data: The samples, as in :meth:`torchflow.Trainer.predict`: a dataset, or columns of tensors.
        show: ``(predictions, progress)``: the predictions of all samples in their order, on the CPU, and where the run is.
        every: When; at the end of every epoch by default.
        forward: ``(model, batch) -> predictions``; without it they are made as :meth:`torchflow.Trainer.predict` makes them.
        batch_size: Samples of a batch.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: ``batch_size`` is below 1.
        DataError: ``data`` is not what it was taken for.
    """

    def __init__(
        self,
        data: Any,  # data without targets too, of any kind that predict takes
        show: Callable[[Any, Progress], object],
        *,
        every: Every | None = None,
        forward: Callable[[Any, Any], Any] | None = None,
        batch_size: int = 32,
    ) -> None:
        super().__init__(interval("Sample(every=…)", every, Every(epochs=1)))
        self._show = function("show", show, hint="Write a function (predictions, progress).")
        hint = "Write forward=lambda model, batch: model(batch)."
        self._forward = None if forward is None else function("forward", forward, hint=hint)
        self._data, self._size = data, whole("batch_size", batch_size)
        self._read(Keys(0), pin_memory=False)  # what cannot be read is said here, not after an hour

    def on_fit_start(self, run: Run[Any, Any], event: Started) -> None:
        """Make the batches, by the keys of this run."""
        super().on_fit_start(run, event)
        self._batches = self._read(run.keys, pin_memory=run.choices.device.type == "cuda")

    def act(self, run: Run[Any, Any], progress: Progress) -> None:
        """Predict and show."""
        key = evaluation_key(run.keys, "callback/sample", progress.updates)
        made = predict_batches(
            run.step, run.model, self._batches, where=run.choices, key=key, forward=self._forward, microbatch=run.microbatch
        )
        self._show(made, progress)

    def _read(self, keys: Keys, *, pin_memory: bool) -> Batches[Any]:
        return Reading(self._size).evaluation(self._data, keys, "Sample's data", pin_memory=pin_memory)
