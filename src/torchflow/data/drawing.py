"""How one part of a sample is drawn on an axis: arrays as pictures, lines and letters."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torchflow.data.schema import Field
from torchflow.figures import STYLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = npt.NDArray[Any]
CHANNELS = frozenset({1, 3, 4})  # grey, RGB, RGBA
COLUMNS = 12  # of a table
FRAMES = 8
LETTERS, LETTERS_A_LINE = 480, 80
POINTS = 2000  # of a line: above that the envelope is drawn
BASES = 120


def image(axis: Axes, field: Field, value: Array) -> None:
    """Draw an image, its channels first or last; a depth beyond 8 bits and numbers outside 0 to 1 are spread over the greys."""
    axis.imshow(_pixels(value, field), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")


def clip(axis: Axes, field: Field, value: Array) -> None:
    """Draw up to eight frames of a clip, evenly over its time, side by side."""
    first = value
    if value.ndim == 4 and "time" in field.dims:
        first = np.moveaxis(value, field.dims.index("time"), 0)
    elif value.ndim == 4 and value.shape[1] not in CHANNELS and value.shape[0] in CHANNELS:
        first = np.moveaxis(value, 1, 0)
    chosen = np.linspace(0, len(first) - 1, min(FRAMES, len(first))).round().astype(int)
    low, high = _range(first)
    frames = [_pixels(first[place], None, low, high) for place in chosen]
    gap = np.ones_like(frames[0][:, : max(1, frames[0].shape[1] // 40)])
    strip = [part for frame in frames for part in (gap, frame)][1:]
    axis.imshow(np.concatenate(strip, axis=1), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")


def spectrogram(axis: Axes, field: Field, value: Array) -> None:
    """Draw a spectrogram, frequencies upwards and time to the right; of several channels the first."""
    plane = value.reshape(-1, *value.shape[-2:])[0]
    if field.dims[-2:] == ("time", "frequency"):
        plane = plane.T
    end = plane.shape[1] / field.rate if field.rate else plane.shape[1]
    axis.set_axis_on()
    axis.imshow(plane, aspect="auto", origin="lower", extent=(0.0, float(end), 0.0, float(len(plane))), cmap="viridis")
    axis.set_xlabel("seconds" if field.rate else "frame", fontsize=8)
    axis.tick_params(labelsize=7)


def lines(axis: Axes, field: Field, value: Array) -> None:
    """Draw an array over time: one line for each channel or feature, up to six, over seconds where the rate is known."""
    curves = value.reshape(1, -1) if value.ndim == 1 else value.reshape(-1, value.shape[-1])
    by_time = field.dims[:1] == ("time",) or (not field.dims and value.ndim == 2 and value.shape[0] > value.shape[1])
    if value.ndim == 2 and by_time:
        curves = value.T
    rate = field.rate or _rate_said(field.unit)
    axis.set_axis_on()
    for style, curve, number in zip(STYLES, curves, range(len(curves)), strict=False):
        name = field.columns[number] if number < len(field.columns) and value.ndim == 2 else f"{number}"
        _curve(axis, curve.astype(np.float64), 1.0 / rate if rate else 1.0, style, name)
    if 1 < len(curves) <= len(STYLES) and field.columns:
        axis.legend(fontsize=7, frameon=False, loc="best")
    axis.set_xlabel("seconds" if rate else "step", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)


def text(axis: Axes, field: Field, value: Array | str) -> None:
    """Draw the beginning of a text, or of the letters that codes stand for, or of the codes themselves."""
    if isinstance(value, str):
        written = value
    elif field.classes is not None:
        known = dict(enumerate(field.classes))
        letters = [known.get(int(code), "?") for code in value[:LETTERS]]
        written = ("" if all(len(letter) == 1 for letter in letters) else " ").join(letters)
    else:
        written = " ".join(str(code) for code in value[:LETTERS].tolist())
    shown = "\n".join(textwrap.wrap(_plain(written[:LETTERS]), LETTERS_A_LINE)[:6]) + ("…" if len(written) > LETTERS else "")
    axis.text(0.0, 1.0, shown, family="monospace", fontsize=8, va="top", transform=axis.transAxes, parse_math=False)


def bases(axis: Axes, field: Field, value: Array) -> None:
    """Draw a one-hot sequence: a row for each letter, a column for each position."""
    plane = value.T if field.dims[-1:] == ("base",) else value
    letters = field.classes or field.columns or (tuple("ACGT") if len(plane) == 4 else tuple(map(str, range(len(plane)))))
    axis.set_axis_on()
    axis.imshow(plane[:, :BASES], aspect="auto", cmap="Greys", vmin=0.0, vmax=1.0, interpolation="nearest")
    axis.set_yticks(range(len(plane)), letters[: len(plane)], fontsize=7)
    axis.set_xlabel("position", fontsize=8)
    axis.tick_params(labelsize=7)


def table(axis: Axes, names: list[str], rows: list[list[str]], labels: list[str]) -> None:
    """Draw rows of texts under their names."""
    width = len(names)
    axis.set_axis_off()
    drawn = axis.table([[*row, *[""] * (width - len(row))] for row in rows], colLabels=names, rowLabels=labels, loc="center")
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    for (row, column), cell in drawn.get_celld().items():
        cell.set_edgecolor("0.85")
        cell.get_text().set_parse_math(False)
        if row == 0 or column < 0:
            cell.set_facecolor("0.94")


def cells(field: Field, value: Any) -> list[tuple[str, str]]:
    """Return the cells of a part in a table: pairs of a column's name and its text."""
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return [(shortened(field.name or "value", 17), shortened(named(field, value), 17))]
    flat = value.reshape(-1)
    names = field.columns if len(field.columns) == len(flat) else [f"{field.name}[{place}]" for place in range(len(flat))]
    return [(shortened(name, 17), number(one)) for name, one in zip(names, flat.tolist(), strict=True)]


def said(field: Field, value: Any) -> str:
    """Return what a title says of a part: its value, and its name where that says more."""
    if isinstance(value, np.ndarray) and value.ndim:
        text = ", ".join(number(one) for one in value.reshape(-1)[:4].tolist()) + (", …" if value.size > 4 else "")
        return f"{field.name} {text}".strip()
    text = named(field, value)
    tells = field.classes or isinstance(value, str) or not field.name or field.name.isdigit()
    return text if tells else f"{field.name} {text}"


def named(field: Field, value: Any) -> str:
    """Return the class that a number stands for, or the number, or the text."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.item()
    if field.classes is not None and isinstance(value, int) and 0 <= value < len(field.classes):
        return shortened(field.classes[value], 24)
    return shortened(_plain(value), 24) if isinstance(value, str) else number(value)


def number(value: object) -> str:
    """Return a number in up to five digits."""
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def shortened(text: str, most: int) -> str:
    """Return a text of at most so many letters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _curve(axis: Axes, curve: Array, step: float, style: tuple[Any, ...], name: str) -> None:
    """Draw one line; a long one as its envelope, so that no peak is lost."""
    colour, line, marker = style
    if len(curve) <= POINTS:
        few = len(curve) <= 32
        axis.plot(
            np.arange(len(curve)) * step, curve, color=colour, ls=line, lw=1.0, marker=marker if few else "", ms=2.5, label=name
        )
        return
    size = -(-len(curve) // (POINTS // 2))
    blocks = np.pad(curve, (0, -len(curve) % size), mode="edge").reshape(-1, size)
    at = np.arange(len(blocks)) * size * step
    axis.fill_between(at, blocks.min(1), blocks.max(1), color=colour, lw=0.4, alpha=0.8, label=name)


def _pixels(value: Array, field: Field | None, low: float | None = None, high: float | None = None) -> Array:
    """Return an array as (height, width) or (height, width, 3 or 4) from 0 to 1; of other channels the first."""
    if field is not None and len(field.dims) == value.ndim and {"height", "width"} <= set(field.dims):
        others = [place for place, name in enumerate(field.dims) if name not in ("height", "width")]
        value = value.transpose([field.dims.index("height"), field.dims.index("width"), *others])
    elif value.ndim == 3 and (value.shape[0] in CHANNELS or value.shape[-1] not in CHANNELS):
        value = np.moveaxis(value, 0, -1)
    if value.ndim == 3 and value.shape[-1] not in (3, 4):
        value = value[..., 0]
    if low is None or high is None:
        low, high = _range(value)
    scaled = (value.astype(np.float64) - low) / (high - low or 1.0)
    return np.clip(np.nan_to_num(scaled), 0.0, 1.0)


def _range(value: Array) -> tuple[float, float]:
    """Return what is drawn black and what is drawn white."""
    if value.dtype == np.uint8:
        return 0.0, 255.0
    finite = value[np.isfinite(value)] if value.dtype.kind == "f" else value
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (0.0, 1.0) if value.dtype.kind in "fb" and low >= 0.0 and high <= 1.0 else (low, high)


def _rate_said(unit: str | None) -> float | None:
    """Return the rate that a unit such as "amplitude at 16000 Hz" says."""
    found = re.search(r"(\d+(?:\.\d+)?) Hz", unit or "")
    return float(found[1]) if found else None


def _plain(text: str) -> str:
    """Return a text without what no font has: control characters become spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
