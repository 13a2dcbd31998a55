"""The picture of the page on performance: how many times an update of each contestant takes that of the loop by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import CONTESTANTS
from benchmarks.results import Row

# Told apart by form and filling, so that no colour is needed.
STYLES = {
    "torchflow": {"marker": "D", "color": "black", "markersize": 7},
    "by hand": {"marker": "|", "color": "0.35", "markersize": 11, "markeredgewidth": 2.5},
    "others": {"marker": "o", "color": "0.35", "markerfacecolor": "white", "markersize": 7},
}
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}


def draw(measured: Mapping[str, Sequence[Row]], path: Path) -> None:
    """Draw one panel a workload, two beside each other, with the contestants below each other, and write a PNG."""
    import matplotlib as mpl  # noqa: PLC0415  (the report can be written where it is not wanted)

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    names = [
        one.name
        for one in CONTESTANTS
        if one.name != "hand" and any(one.name == row["contestant"] for rows in measured.values() for row in rows)
    ]
    across = min(2, len(measured))
    down = -(-len(measured) // across)
    figure, axes = plt.subplots(
        down, across, figsize=(3.3 * across + 1.2, (0.3 * len(names) + 0.8) * down + 0.7), sharey=True, squeeze=False
    )
    for axis, (what, rows) in zip(axes.flat, measured.items(), strict=False):
        _panel(axis, what, rows, names)
    for axis in axes.flat[len(measured) :]:
        axis.axis("off")
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    figure.supxlabel("time of an update, in units of the loop by hand (logarithmic)", fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(axis: Any, what: str, rows: Sequence[Row], names: Sequence[str]) -> None:
    """Draw one workload: a mark at the median, a line from quartile to quartile, and the number beside it."""
    axis.axvline(1, color="0.6", linewidth=1, zorder=0)
    by_name = {row["contestant"]: row for row in rows}
    ratios = [by_name[name]["ratio"] for name in names if name in by_name]
    for place, name in enumerate(names):
        if name in by_name:
            ratio, (low, high) = by_name[name]["ratio"], by_name[name]["quartiles"]
            axis.plot([low, high], [place, place], color="0.35", linewidth=1)
            axis.plot([ratio], [place], linestyle="", **STYLES[_kind(name)])
            text = f"{ratio:.3f}" if ratio < 0.1 else f"{ratio:.2f}"
            axis.annotate(text, (max(ratio, high), place), (8, 0), textcoords="offset points", va="center", fontsize=8, bbox=BEHIND)
    axis.set_xscale("log")
    axis.set_xlim(min([0.5, *ratios]) / 1.4, max([2.0, *ratios]) * 3.6)
    ticks = [tick for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10) if min([0.5, *ratios]) / 1.4 <= tick <= max([2.0, *ratios]) * 1.5]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.grid(axis="y", color="0.9", zorder=0)
    axis.set_title(what, fontsize=11)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _kind(name: str) -> str:
    if name.startswith("torchflow"):
        return "torchflow"
    return "by hand" if name.startswith("hand") else "others"
