"""Parts of a model that stay as they are."""

from __future__ import annotations

from torchflow.callbacks.freezing import Freezing, patterns_of
from torchflow.intervals import Progress


class Freeze(Freezing):
    """Keeps parts of a model as they are for the whole run: their parameters get no gradient and no weight decay.

    The optimizer may well hold them: torch's optimizers pass over a parameter without a gradient. When the run ends every
    parameter has its own ``requires_grad`` again. A resume does not compare what is frozen: the rest of a run may freeze otherwise.

    Args:
        *patterns: Names of modules or parameters, as in ``model.named_parameters()``; ``*``, ``?`` and ``[...]`` match as in
            names of files. ``"encoder"`` is everything in the module of that name, ``"*.bias"`` every bias.
        statistics: Whether batch and instance normalisation in a frozen module stays in evaluation mode, so that its running
            statistics are frozen too.

    Raises:
        ArgumentTypeError: A pattern is no text, or ``statistics`` no bool.
        ArgumentValueError: There is no pattern, or an empty one.
    """

    def __init__(self, *patterns: str, statistics: bool = True) -> None:
        hint = "Write the names one after the other: Freeze('encoder', 'head')."
        super().__init__([patterns_of("Freeze's patterns", patterns, hint=hint)], statistics=statistics)

    def released(self, progress: Progress) -> int:
        """Return 0: nothing is ever released."""
        return 0
