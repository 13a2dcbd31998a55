"""Figures of what a run measured. They are matplotlib Figure objects, made without pyplot and its global state."""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from torchflow.arguments import path as checked_path
from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.figures import STYLES, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from torchflow.callbacks.history import History
    from torchflow.range_test import LearningRates

LOG_FROM_RATIO = 30.0  # curves that span more than this are read on a log scale
MARKERS_ON_A_CURVE = 12
LETTERS_ACROSS = 110  # of a legend, at its font size and the figure's width


def history(history: History, path: str | os.PathLike[str] | None = None, names: Sequence[str] | None = None) -> Figure:
    """Draw a run's curves over its epochs: one panel for each kind of value, the best validation loss marked.

    A panel holds all streams of one value (``train/loss`` and ``valid/loss``). Its scale is logarithmic where the values are
    positive and span more than a factor of 30. Values that are not finite leave a gap.

    Args:
        history: What the run measured.
        path: Where to save the figure; the suffix says the format (``.png``, ``.pdf``, ``.svg``).
        names: The metrics to draw; by default every loss, or everything where there is no loss.

    Returns:
        The figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
        KeyError: A name is not in the history.
        ArgumentValueError: There is nothing to draw.
    """
    panels = _panels(history, names)
    target = None if path is None else checked_path("path", path)
    figure = new_figure(7.0, 1.0 + 3.2 * len(panels), "history.to_csv does without.")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (kind, members) in zip(axes, panels.items(), strict=True):
        _draw_panel(axis, history, kind, members)
    axes[-1].set_xlabel("epochs finished" if _has_epochs(history) else "updates")
    axes[-1].set_xlim(left=0)
    axes[-1].xaxis.set_major_locator(importlib.import_module("matplotlib.ticker").MaxNLocator(nbins="auto", integer=True))
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure


def learning_rates(found: LearningRates, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draw the loss of a learning rate range test over the rate, the suggestion marked.

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
    axis.grid(visible=True, color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    _add_legend(axis)
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure


def _panels(history: History, names: Sequence[str] | None) -> dict[str, list[str]]:
    """Return the metrics to draw by kind: what follows the stream in their names."""
    if names is not None and (isinstance(names, str) or not all(isinstance(name, str) for name in names)):
        raise ArgumentTypeError(f"names must be a list of metric names such as ['valid/loss'], got {shown(names)}.")
    if names is None:
        names = [name for name in history.names if name.endswith("/loss")] or history.names
    if not names:
        raise ArgumentValueError("there is nothing to draw: the history holds no values yet, or names is empty.")
    panels: dict[str, list[str]] = {}
    for name in sorted(dict.fromkeys(names), key=lambda name: not name.startswith("train/")):
        history[name]  # a KeyError that lists the names
        panels.setdefault(name.rpartition("/")[2], []).append(name)
    return panels


def _draw_panel(axis: Axes, history: History, kind: str, members: Sequence[str]) -> None:
    seen: list[float] = []
    for number, name in enumerate(members):
        again = number // len(STYLES)  # from the seventh curve on, colours meet other lines and markers
        colour, line, marker = (STYLES[(number + again * part) % len(STYLES)][part] for part in range(3))
        values = [value if math.isfinite(value) else math.nan for value in history[name]]
        seen += [value for value in values if math.isfinite(value)]
        axis.plot(
            _places(history, name),
            values,
            color=colour,
            linestyle=line,
            marker=marker,
            markevery=max(1, math.ceil(len(values) / MARKERS_ON_A_CURVE)),
            markersize=4.5,
            linewidth=1.6,
            label=name,
        )
    if kind == "loss":
        _mark_best(axis, history, members)
    if seen and min(seen) > 0 and max(seen) / min(seen) > LOG_FROM_RATIO:
        axis.set_yscale("log")
    axis.set_ylabel(kind, parse_math=False)
    axis.grid(visible=True, color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    _add_legend(axis)


def _add_legend(axis: Axes) -> None:
    widths = [len(label) + 6 for label in axis.get_legend_handles_labels()[1]]  # 6 for the line's sample
    columns = len(widths) if sum(widths) <= LETTERS_ACROSS else max(1, LETTERS_ACROSS // max(widths))
    # Above the panel no curve can run through it.
    legend = axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, frameon=False, fontsize=9)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a "$" in a name is a dollar


def _mark_best(axis: Axes, history: History, members: Sequence[str]) -> None:
    name = next((name for name in members if not name.startswith("train/")), members[0])
    finite = [(v, x) for v, x in zip(history[name], _places(history, name), strict=True) if math.isfinite(v)]
    if not finite:
        return
    value, place = min(finite)
    where = f"epoch {place:.4g}" if _has_epochs(history) else f"update {place:.0f}"
    axis.axvline(place, color="0.5", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    axis.plot(
        [place],
        [value],
        linestyle="none",
        marker="*",
        markersize=13,
        markerfacecolor="white",
        markeredgecolor="black",
        zorder=5,
        label=f"best {name}: {value:.4g} at {where}",
    )


def _has_epochs(history: History) -> bool:
    return not math.isnan(history.epochs(history.names[0])[0])  # NaN in every row or in none


def _places(history: History, name: str) -> list[Any]:
    if _has_epochs(history):
        return history.epochs(name)
    return [row["updates"] for row in history if name in row]
