"""What runs measured while they trained, over their epochs."""

from __future__ import annotations

import importlib
import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from torchflow.arguments import one_of, shown
from torchflow.arguments import path as checked_path
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.figures import STYLES, new_figure, shortened, style_panel, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from torchflow.callbacks.history import History
    from torchflow.trainer import Result

LOG_FROM_RATIO = 30.0  # curves that span more than this are read on a log scale
MARKERS_ON_A_CURVE = 12
WIDTH = 7.0  # inches
LEGEND_WIDTH = 72 * WIDTH - 80  # points, beside the numbers at the panel's left
SAMPLE_WIDTH = 46  # points of a legend's line and of the space around it
SMALL = 9.0  # points of a letter's height
LETTERS_OF_A_NAME, LETTERS_OF_A_LINE = 42, 90


def history(
    history: History | Result[Any], path: str | os.PathLike[str] | None = None, names: Sequence[str] | None = None
) -> Figure:
    """Draw a run's curves over its epochs: one panel for each kind of value, the best one marked.

    A panel holds all streams of one value (``train/loss`` and ``valid/loss``). Its scale is logarithmic where the values are
    positive and span more than a factor of 30. Values that are not finite leave a gap.

    Args:
        history: What the run measured; a star marks the best validation loss. Of a ``Result``, it marks the best value of what
            ``EarlyStopping`` or ``Checkpoints(best=...)`` judged by, where one did; the end of the run is marked too, with its reason below.
        path: Where to save the figure; the suffix says the format (``.png``, ``.pdf``, ``.svg``).
        names: The metrics to draw; by default every loss and what was judged, or everything where there is neither.

    Returns:
        The figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
        KeyError: A name is not in the history.
        ArgumentTypeError: ``history`` is neither a History nor a Result.
        ArgumentValueError: There is nothing to draw.
    """
    table = _table("history", history)
    judged: Mapping[str, int] = getattr(history, "judged", {})
    panels = _panels(table, names, judged)
    target = None if path is None else checked_path("path", path)
    figure = new_figure(WIDTH, 1.0 + 3.2 * len(panels), "history.to_csv does without.")
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (kind, members) in zip(axes, panels.items(), strict=True):
        _draw_panel(axis, table, kind, members, judged)
    _label_places(axes[-1], epochs=_has_epochs(table))
    if (reason := getattr(history, "reason", None)) is not None:
        _mark_end(figure, table, str(reason))
    for axis in axes:
        _add_legend(axis)
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure


def compare(
    runs: Mapping[str, History | Result[Any]],
    path: str | os.PathLike[str] | None = None,
    metric: str = "valid/loss",
    *,
    mode: Literal["min", "max"] = "min",
) -> Figure:
    """Draw one metric of several runs in one panel, the best value of each marked and written into the legend.

    The runs lie over epochs, or over updates where one of them has ended no epoch.

    Args:
        runs: What the runs measured, by the names that the legend gives them, in its order.
        path: Where to save the figure; the suffix says the format.
        metric: The metric's full name, which every run has.
        mode: ``"min"`` where smaller is better, ``"max"`` where larger is.

    Returns:
        The figure.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ArgumentTypeError: ``runs`` is no mapping of Histories and Results.
        ArgumentValueError: There are no runs, or one of them has no such metric.
    """
    one_of("mode", mode, ("min", "max"))
    if not isinstance(runs, Mapping):
        raise ArgumentTypeError(f"runs must be a mapping such as {{'small': result, 'large': other}}, got {shown(runs)}.")
    tables = {name: _table(f"runs[{name!r}]", run) for name, run in runs.items()}
    if not tables:
        raise ArgumentValueError("there is nothing to draw: runs is empty.")
    for name, table in tables.items():
        if metric not in table.names:
            known = ", ".join(map(repr, table.names)) or "none yet"
            raise ArgumentValueError(f"run {name!r} has no metric {metric!r}; there are: {known}. Pass metric=, or leave it out.")
    target = None if path is None else checked_path("path", path)
    figure = new_figure(WIDTH, 4.2, "history.to_csv does without.")
    axis = figure.subplots()
    epochs = all(map(_has_epochs, tables.values()))
    for number, (name, table) in enumerate(tables.items()):
        places, sign = _places(table, metric, epochs=epochs), 1 if mode == "min" else -1
        _draw_run(axis, number, shortened(name, LETTERS_OF_A_NAME), places, table[metric], sign=sign, epochs=epochs)
    _finish_panel(axis, metric, [value for table in tables.values() for value in table[metric]])
    _label_places(axis, epochs=epochs)
    _add_legend(axis)
    if target is not None:
        figure.savefig(target, dpi=150)
    return figure


def _table(name: str, source: object) -> History:
    """Return the history of a run: of its Result, or itself."""
    table: Any = getattr(source, "history", source)
    if not (hasattr(table, "names") and hasattr(table, "epochs")):
        raise ArgumentTypeError(f"{name} must be a History or a Result of fit, got {shown(source)}.")
    found: History = table
    return found


def _panels(history: History, names: Sequence[str] | None, judged: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the metrics to draw by kind: what follows the stream in their names."""
    if names is not None and (isinstance(names, str) or not all(isinstance(name, str) for name in names)):
        raise ArgumentTypeError(f"names must be a list of metric names such as ['valid/loss'], got {shown(names)}.")
    if names is None:
        names = [name for name in history.names if name.endswith("/loss") or name in judged] or history.names
    if not names:
        raise ArgumentValueError("there is nothing to draw: the history holds no values yet, or names is empty.")
    panels: dict[str, list[str]] = {}
    for name in sorted(dict.fromkeys(names), key=lambda name: not name.startswith("train/")):
        history[name]  # a KeyError that lists the names
        panels.setdefault(name.rpartition("/")[2], []).append(name)
    return panels


def _draw_panel(axis: Axes, history: History, kind: str, members: Sequence[str], judged: Mapping[str, int]) -> None:
    epochs = _has_epochs(history)
    for number, name in enumerate(members):
        _draw_curve(axis, number, name, _places(history, name, epochs=epochs), history[name])
    if not judged and kind == "loss":
        name = next((name for name in members if not name.startswith("train/")), members[0])
        if any(map(math.isfinite, history[name])):
            _mark_best(axis, history, name, history.best(name).updates)
    for name in (name for name in judged if name in members):
        _mark_best(axis, history, name, judged[name])
    _finish_panel(axis, kind, [value for name in members for value in history[name]])


def _draw_curve(axis: Axes, number: int, label: str, places: Sequence[float], values: Sequence[float]) -> None:
    again = number // len(STYLES)  # from the seventh curve on, colours meet other lines and markers
    colour, line, marker = (STYLES[(number + again * part) % len(STYLES)][part] for part in range(3))
    axis.plot(
        places,
        [value if math.isfinite(value) else math.nan for value in values],
        color=colour,
        linestyle=line,
        marker=marker,
        markevery=max(1, math.ceil(len(values) / MARKERS_ON_A_CURVE)),
        markersize=4.5,
        linewidth=1.6,
        label=label,
    )


def _draw_run(
    axis: Axes, number: int, name: str, places: Sequence[float], values: Sequence[float], *, sign: int, epochs: bool
) -> None:
    """Draw the curve of one run, with a star at its best value."""
    best = min(((sign * v, x) for v, x in zip(values, places, strict=True) if math.isfinite(v)), default=None)
    label = f"{name}: never finite" if best is None else f"{name}: {sign * best[0]:.4g} at {_where(best[1], epochs=epochs)}"
    _draw_curve(axis, number, label, places, values)
    if best is not None:
        _draw_star(axis, best[1], sign * best[0])


def _finish_panel(axis: Axes, kind: str, values: Sequence[float]) -> None:
    seen = [value for value in values if math.isfinite(value)]
    if seen and min(seen) > 0 and max(seen) / min(seen) > LOG_FROM_RATIO:
        axis.set_yscale("log")
    axis.set_ylabel(kind, parse_math=False)
    style_panel(axis)


def _label_places(axis: Axes, *, epochs: bool) -> None:
    axis.set_xlabel("epochs finished" if epochs else "updates")
    axis.set_xlim(left=0)
    axis.xaxis.set_major_locator(importlib.import_module("matplotlib.ticker").MaxNLocator(nbins="auto", integer=True))


def _add_legend(axis: Axes) -> None:
    widths = [text_width(label, SMALL) + SAMPLE_WIDTH for label in axis.get_legend_handles_labels()[1]]
    columns = len(widths) if sum(widths) <= LEGEND_WIDTH else max(1, int(LEGEND_WIDTH // max(widths)))
    # Above the panel no curve can run through it.
    legend = axis.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=columns, frameon=False, fontsize=SMALL)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a "$" in a name is a dollar


def _mark_best(axis: Axes, history: History, name: str, updates: int) -> None:
    """Mark the value of a metric that was measured after so many updates."""
    epochs = _has_epochs(history)
    measured = zip([row for row in history if name in row], _places(history, name, epochs=epochs), strict=True)
    for value, place in ((row[name], place) for row, place in measured if row["updates"] == updates):
        axis.axvline(place, color="0.5", linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
        _draw_star(axis, place, value, f"best {name}: {value:.4g} at {_where(place, epochs=epochs)}")


def _draw_star(axis: Axes, place: float, value: float, label: str = "_unlisted") -> None:
    shape: dict[str, Any] = {"marker": "*", "markersize": 13, "markerfacecolor": "white", "markeredgecolor": "black"}
    axis.plot([place], [value], linestyle="none", zorder=5, label=label, **shape)


def _mark_end(figure: Figure, history: History, reason: str) -> None:
    """Draw a line where the run ended, and write its reason below the panels."""
    epochs = _has_epochs(history)
    place = max(place for name in history.names for place in _places(history, name, epochs=epochs))
    for axis in figure.axes:
        axis.axvline(place, color="0.35", linewidth=1.2, zorder=1, label="end")
    text = f"ended after {_where(place, epochs=epochs)}: {' '.join(reason.split())}"
    figure.supxlabel("\n".join(textwrap.wrap(text, LETTERS_OF_A_LINE)), fontsize=SMALL, parse_math=False)


def _where(place: float, *, epochs: bool) -> str:
    return f"epoch {place:.4g}" if epochs else f"update {place:.0f}"


def _has_epochs(history: History) -> bool:
    return not math.isnan(history.epochs(history.names[0])[0])  # NaN in every row or in none


def _places(history: History, name: str, *, epochs: bool) -> list[float]:
    return history.epochs(name) if epochs else [row["updates"] for row in history if name in row]
