"""Numbers that were predicted, beside those that were measured."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchflow.arguments import path as checked_path
from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.figures import STYLES, new_figure, shortened, style_panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_OUTPUTS = 9
DENSE = 4_000  # samples from which points would hide each other, and their number is drawn instead
GROUPS, SMALLEST_GROUP = 12, 20  # of samples, in whose middle the residuals' median is drawn
LETTERS_OF_A_NAME = 40
BLUE, LIGHT, BLACK = STYLES[0][0], STYLES[5][0], "#000000"

Numbers: TypeAlias = "Tensor | np.ndarray[Any, Any] | Sequence[Any]"


class Pairs(NamedTuple):
    """The finite pairs of one output."""

    name: str
    predicted: np.ndarray[Any, Any]
    measured: np.ndarray[Any, Any]
    left_out: int
    """How many pairs are not drawn because one of the two is not finite."""


def regression(
    predictions: Numbers, targets: Numbers, path: str | os.PathLike[str] | None = None, names: Sequence[str] | None = None
) -> Figure:
    """Draw predicted over measured values, a panel for each output, with the line on which a perfect model lies.

    Above a panel stand R² (1 - Σ(y - ŷ)² / Σ(y - ȳ)²) and the root of the mean squared error. Many samples are drawn as their
    number in each hexagon. Pairs with a value that is not finite are left out, and counted above the panel.

    Args:
        predictions: Shape (samples,) or (samples, outputs).
        targets: The measured values, as many.
        path: Where to save the figure; the suffix says the format.
        names: The outputs' names, with their units.

    Returns:
        The figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ArgumentTypeError: Predictions or targets are no real numbers.
        ArgumentValueError: Their shapes differ, there are more than nine outputs, or no finite pair.
    """
    outputs = _pairs(predictions, targets, names)
    target = None if path is None else checked_path("path", path)
    columns = min(3, len(outputs))
    rows = math.ceil(len(outputs) / columns)
    figure = new_figure(4.3 * columns, 4.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(outputs) :]:
        axis.set_axis_off()
    for axis, output in zip(axes.flat, outputs, strict=False):
        _draw_agreement(figure, axis, output)
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure


def residuals(
    predictions: Numbers, targets: Numbers, path: str | os.PathLike[str] | None = None, names: Sequence[str] | None = None
) -> Figure:
    """Draw residuals, measured minus predicted: over the predictions, and how often each comes.

    On the left a good model shows a band without a shape around zero; the median of groups of equal size shows what shape there
    is. On the right stands the normal distribution of the same mean and spread.

    Args:
        predictions: Shape (samples,) or (samples, outputs); a row of panels for each output.
        targets: The measured values, as many.
        path: Where to save the figure; the suffix says the format.
        names: The outputs' names, with their units.

    Returns:
        The figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ArgumentTypeError: Predictions or targets are no real numbers.
        ArgumentValueError: Their shapes differ, there are more than nine outputs, or no finite pair.
    """
    outputs = _pairs(predictions, targets, names)
    target = None if path is None else checked_path("path", path)
    figure = new_figure(9.0, 3.9 * len(outputs))
    axes = figure.subplots(len(outputs), 2, squeeze=False, sharey="row", width_ratios=(2, 1))
    for (left, right), output in zip(axes, outputs, strict=True):
        _draw_residuals(figure, left, output)
        _draw_distribution(right, output)
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure


def _pairs(predictions: Numbers, targets: Numbers, names: Sequence[str] | None) -> list[Pairs]:
    predicted, measured = _columns("predictions", predictions), _columns("targets", targets)
    if predicted.shape != measured.shape:
        raise ArgumentValueError(
            f"predictions and targets must be as many, (samples,) or (samples, outputs), got {tuple(predicted.shape)} and "
            f"{tuple(measured.shape)}. Reshape one of them."
        )
    outputs = predicted.shape[1]
    if not 1 <= outputs <= MOST_OUTPUTS:
        raise ArgumentValueError(
            f"a figure has 1 to {MOST_OUTPUTS} outputs, got {outputs}. Take some: predictions[:, :{MOST_OUTPUTS}]."
        )
    if names is None:
        names = [""] if outputs == 1 else [f"output {number}" for number in range(outputs)]
    if isinstance(names, str) or len(names) != outputs or not all(isinstance(name, str) for name in names):
        raise ArgumentValueError(f"names must be a list of {outputs} text(s), one for each output, got {shown(names)}.")
    finite = np.isfinite(predicted) & np.isfinite(measured)
    for name, kept in zip(names, finite.T, strict=True):
        if not kept.any():
            place = f" of {name!r}" if name else ""
            raise ArgumentValueError(f"there is nothing to draw: none of the {len(kept)} pairs{place} is finite.")
    return [
        Pairs(shortened(name, LETTERS_OF_A_NAME), predicted[kept, number], measured[kept, number], int((~kept).sum()))
        for number, (name, kept) in enumerate(zip(names, finite.T, strict=True))
    ]


def _columns(name: str, values: Numbers) -> np.ndarray[Any, Any]:
    """Return numbers as float64, shape (samples, outputs)."""
    try:
        tensor = torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(f"{name} must be a tensor, an array or a list of numbers, got {shown(values)}.") from error
    if tensor.is_complex() or tensor.dtype is torch.bool:
        raise ArgumentTypeError(f"{name} must be real numbers, got {tensor.dtype}.")
    if tensor.ndim not in (1, 2):
        raise ArgumentValueError(f"{name} must have shape (samples,) or (samples, outputs), got {tuple(tensor.shape)}.")
    column = tensor.cpu().double().numpy()
    return column.reshape(len(column), -1) if len(column) else column.reshape(0, 1 if column.ndim == 1 else column.shape[1])


def _draw_agreement(figure: Figure, axis: Axes, output: Pairs) -> None:
    error = output.measured - output.predicted
    spread = float(np.square(output.measured - output.measured.mean()).sum())
    explained = f"{1 - float(np.square(error).sum()) / spread:.3f}" if spread > 0 else "undefined"
    _draw_samples(figure, axis, output.measured, output.predicted)
    low, high = _range(np.concatenate((output.measured, output.predicted)))
    axis.plot([low, high], [low, high], color=BLACK, linestyle="--", linewidth=1.3, label="predicted = measured")
    axis.set(xlim=(low, high), ylim=(low, high), xlabel="measured", ylabel="predicted")
    _write_title(axis, output, f"R² {explained}   RMSE {math.sqrt(float(np.square(error).mean())):.3g}")
    axis.legend(loc="upper left", edgecolor="none", fontsize=8)
    _finish(axis)


def _draw_residuals(figure: Figure, axis: Axes, output: Pairs) -> None:
    error = output.measured - output.predicted
    _draw_samples(figure, axis, output.predicted, error)
    axis.axhline(0.0, color=BLACK, linewidth=1.2)
    groups = min(GROUPS, len(error) // SMALLEST_GROUP)
    if groups >= 2:
        order = np.array_split(np.argsort(output.predicted, kind="stable"), groups)
        middles, medians = ([float(np.median(values[part])) for part in order] for values in (output.predicted, error))
        axis.plot(middles, medians, color=BLACK, linestyle="--", marker="s", markersize=4.5, label="median of a group")
        axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    axis.set(xlabel="predicted", ylabel="measured - predicted")
    _write_title(axis, output, f"mean {float(error.mean()):.3g}   spread {float(error.std()):.3g}")
    _finish(axis)


def _draw_distribution(axis: Axes, output: Pairs) -> None:
    error = output.measured - output.predicted
    bins = int(min(60, max(5, round(2 * len(error) ** (1 / 3)))))  # Rice's rule
    low, high = _range(error)
    edges = np.linspace(low, high, bins + 1)
    axis.hist(error, bins=list(edges), orientation="horizontal", color=LIGHT, edgecolor=BLUE, linewidth=0.6)
    spread = float(error.std())
    if spread > 0:
        places = np.linspace(low, high, 200)
        density = np.exp(-0.5 * np.square((places - error.mean()) / spread)) / (spread * math.sqrt(2 * math.pi))
        axis.plot(density * len(error) * (edges[1] - edges[0]), places, color=BLACK, linestyle="--", label="normal")
        axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    axis.set_xlabel("samples")
    _finish(axis)


def _draw_samples(figure: Figure, axis: Axes, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> None:
    """Draw points, or where they are many their number in each hexagon."""
    if len(x) <= DENSE:
        axis.scatter(x, y, s=14, facecolor=LIGHT, edgecolor=BLUE, linewidth=0.5, alpha=0.7)
        return
    drawn = axis.hexbin(x, y, gridsize=50, bins="log", mincnt=1, cmap="Blues", linewidths=0.1)
    figure.colorbar(drawn, ax=axis, label="samples", shrink=0.8)


def _finish(axis: Axes) -> None:
    """Write few numbers at the axes, each whole: a common factor would stand where the title does."""
    ticker = importlib.import_module("matplotlib.ticker")
    for line in (axis.xaxis, axis.yaxis):
        line.set_major_locator(ticker.MaxNLocator(5))
        line.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.4g}"))
    style_panel(axis)


def _write_title(axis: Axes, output: Pairs, facts: str) -> None:
    left_out = f"\n{output.left_out:,} more not finite" if output.left_out else ""
    name = f"{output.name}\n" if output.name else ""
    axis.set_title(f"{name}{facts}   n {len(output.measured):,}{left_out}", fontsize=9, loc="left", parse_math=False)


def _range(values: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return a range that holds all values with a margin, and is never empty."""
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin
