"""What a learning rate range test measured, over the rate."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from torchflow.arguments import path as checked_path
from torchflow.errors import ArgumentValueError
from torchflow.figures import STYLES, new_figure, style_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchflow.range_test import LearningRateTest


def learning_rates(found: LearningRateTest, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw the loss of a learning rate range test over the rate, the suggestion marked where there is one.

    Args:
        found: What :func:`torchflow.find_learning_rate` returned.
        path: Where to save the figure; the suffix says the format (``.png``, ``.pdf``, ``.svg``).

    Returns:
        The figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ArgumentValueError: No update was made, so there is nothing to draw.
    """
    if not found.rates:
        raise ArgumentValueError("there is nothing to draw: the trial made no update.")
    target = None if path is None else checked_path("path", path)
    figure = new_figure(7.0, 4.2)
    axis = figure.subplots()
    axis.plot(found.rates, found.losses, color="0.75", linewidth=1.0, label="loss")
    axis.plot(found.rates, found.smoothed, color=STYLES[0][0], linewidth=1.8, label="smoothed")
    if found.suggestion is not None:
        axis.axvline(found.suggestion, color=STYLES[1][0], linestyle="--", label=f"suggestion {found.suggestion:.2g}")
    axis.set_xscale("log")
    axis.set_xlabel("learning rate")
    axis.set_ylabel("loss")
    # The last losses of a trial that broke out would flatten all the others.
    least, first = min(found.smoothed), found.smoothed[0]
    if first > least:
        axis.set_ylim(least - 0.1 * (first - least), first + 1.5 * (first - least))
    style_panel(axis)
    axis.legend(frameon=False, fontsize=9)
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure
