"""Classes that were predicted, beside the true ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchflow.arguments import path as checked_path
from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.figures import new_figure, shortened, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 1_000
NUMBERED = 30  # classes up to which every cell has its number; more would be too small to read
NAMED = 60  # classes up to which every one has its name; of more, every second, third, …
WIDEST = 12.0  # inches
LETTERS_OF_A_CLASS = 24
POINTS_OF_A_DIGIT = 0.68  # its width, in font sizes

Labels: TypeAlias = "Tensor | np.ndarray[Any, Any] | Sequence[Any]"


def confusion(
    predictions: Labels, targets: Labels, path: str | os.PathLike[str] | None = None, classes: Sequence[str] | None = None
) -> Figure:
    """Draw how many samples of each true class (row) were taken for which class (column).

    A cell is as dark as its share of its row, so that rare classes are seen as well as common ones. The accuracy stands above.

    Args:
        predictions: Scores (samples, classes), of which the highest counts, or classes (samples,) as whole numbers from 0.
        targets: The true classes, shape (samples,), whole numbers from 0.
        path: Where to save the figure; the suffix says the format.
        classes: The classes' names; by default their numbers.

    Returns:
        The figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ArgumentTypeError: Targets, or predictions of one dimension, are no whole numbers.
        ArgumentValueError: Shapes do not fit, a class lies outside, or there is no sample.
    """
    counts = _counts(predictions, targets, classes)
    names = [str(number) for number in range(len(counts))] if classes is None else [str(name) for name in classes]
    target = None if path is None else checked_path("path", path)
    numbered = len(counts) <= NUMBERED
    digits = len(str(counts.max())) if numbered else 1
    cell = min(max(0.4, 0.09 * digits + 0.1), WIDEST / len(counts))
    figure, axis = _named_panel([shortened(name, LETTERS_OF_A_CLASS) for name in names], cell)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    drawn = axis.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    figure.colorbar(drawn, ax=axis, label="share of the true class", shrink=0.8)
    if numbered:
        _write_numbers(axis, counts, shares, min(9.0, 72 * cell / (POINTS_OF_A_DIGIT * (digits + 1))))
    right, total = int(np.trace(counts)), int(counts.sum())
    axis.set_title(f"accuracy {right / total:.3f}, {total - right:,} of {total:,} wrong", fontsize=10)
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure


def _counts(predictions: Labels, targets: Labels, classes: Sequence[str] | None) -> np.ndarray[Any, Any]:
    """Return how often each class (row) was taken for each (column)."""
    scores, truth = _tensor("predictions", predictions), _tensor("targets", targets)
    if scores.ndim not in (1, 2) or truth.ndim != 1 or len(scores) != len(truth):
        raise ArgumentValueError(
            "predictions must be scores (samples, classes) or classes (samples,), and targets classes (samples,), got "
            f"{tuple(scores.shape)} and {tuple(truth.shape)}."
        )
    if not len(truth):
        raise ArgumentValueError("there is nothing to draw: there are no samples.")
    guesses = scores.argmax(1) if scores.ndim == 2 else _whole("predictions", scores)
    truth = _whole("targets", truth)
    size = _number_of_classes(scores, int(max(guesses.max(), truth.max())) + 1, classes)
    for name, values in (("predictions", guesses), ("targets", truth)):
        outside = values[(values < 0) | (values >= size)]
        if len(outside):
            raise ArgumentValueError(
                f"{name} must be classes from 0 to {size - 1}, got {int(outside[0])} ({len(outside)} such). Leave these samples out."
            )
    counts: np.ndarray[Any, Any] = torch.bincount(truth * size + guesses, minlength=size * size).reshape(size, size).numpy()
    return counts


def _number_of_classes(scores: Tensor, seen: int, classes: Sequence[str] | None) -> int:
    size = scores.shape[1] if scores.ndim == 2 else seen if classes is None else len(classes)
    if classes is not None and (isinstance(classes, str) or len(classes) != size):
        raise ArgumentValueError(f"classes must be a list of {size} names, one for each class, got {shown(classes)}.")
    if size > MOST_CLASSES:
        raise ArgumentValueError(f"a figure has at most {MOST_CLASSES} classes, got {size}. Take the samples of some of them.")
    return max(size, 1)


def _tensor(name: str, values: Labels) -> Tensor:
    try:
        return torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArgumentTypeError(f"{name} must be a tensor, an array or a list of numbers, got {shown(values)}.") from error


def _whole(name: str, values: Tensor) -> Tensor:
    if values.is_floating_point() or values.is_complex():
        raise ArgumentTypeError(
            f"{name} of shape (samples,) must be whole numbers, got {values.dtype}. Of one score a sample, write (scores > 0).long()."
        )
    return values.long()


def _write_numbers(axis: Axes, counts: np.ndarray[Any, Any], shares: np.ndarray[Any, Any], size: float) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):  # an empty cell says zero
        colour = "white" if shares[row, column] > 0.55 else "black"
        axis.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=size)


def _named_panel(names: Sequence[str], cell: float) -> tuple[Figure, Axes]:
    """Return a panel for cells of a size, in inches, with the classes' names at its edges, in a figure with room for them."""
    step = -(-len(names) // NAMED)
    places = list(range(0, len(names), step))
    shown = [names[place] for place in places]
    size = min(9.0, 72 * cell * step / 1.25)
    longest = max(text_width(name, size) for name in shown) / 72
    upright = longest > 0.9 * cell * step
    inside = max(2.4, cell * len(names))
    figure = new_figure(inside + longest + 1.9, inside + (longest if upright else 0.1) + 1.0)
    axis = figure.subplots()
    axis.set_xticks(places, shown, rotation=90 if upright else 0, fontsize=size, parse_math=False)
    axis.set_yticks(places, shown, fontsize=size, parse_math=False)
    axis.set(xlabel="predicted", ylabel="true")
    axis.tick_params(length=0)
    return figure, axis
