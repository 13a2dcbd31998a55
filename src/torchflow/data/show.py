"""Samples as pictures: which are drawn, how each part of one is drawn, and where."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data import drawing
from torchflow.data.draw import first_draw
from torchflow.data.schema import Field, Schema
from torchflow.data.sources import Source
from torchflow.errors import ArgumentValueError
from torchflow.figures import new_figure
from torchflow.tree import leaves_with_paths

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Part = tuple[Field, Any]
MOST = 64
SHORT = 16  # a vector of up to as many numbers is a row of a table
LONG = 64  # a vector or a channel of at least as many steps is drawn as a line
WORD = 40  # a longer text is no cell of a table
SOUND = ("audio", "sound", "wave", "waveform", "signal")
SEQUENCE = ("sequence", "dna", "tokens", "text", "characters")
_DRAWN = {
    "image": drawing.image,
    "clip": drawing.clip,
    "spectrogram": drawing.spectrogram,
    "lines": drawing.lines,
    "text": drawing.text,
    "bases": drawing.bases,
}
_WIDTHS = {"image": 1.9, "clip": 9.0, "spectrogram": 4.0, "lines": 4.5, "text": 7.0, "bases": 9.0}
_HEIGHTS = {"image": 1.9, "clip": 1.5, "spectrogram": 2.0, "lines": 1.8, "text": 1.2, "bases": 1.3}
_WIDE = 10.0  # of a figure, in inches


def show(source: Source, n: int = 8, path: str | os.PathLike[str] | None = None) -> Figure:
    """Return a figure of samples; see :meth:`torchflow.data.Dataset.show`."""
    count = min(arguments.whole("n", n, hint=f"At most {MOST} samples fit into a figure."), source.length)
    target = None if path is None else arguments.path("path", path)
    if count > MOST or not count:
        why = "the dataset is empty" if not count else f"n must be at most {MOST}, got {n}"
        raise ArgumentValueError(f"there is nothing that fits into a figure: {why}.")
    places = torch.linspace(0, source.length - 1, count, dtype=torch.float64).round().type(torch.int64)
    samples = [parts_of(sample, source.schema) for sample in source.samples(places, first_draw())]
    kinds = [kind for kind in (kind_of(field, value) for field, value in samples[0]) if kind in _DRAWN]
    if set(kinds) <= {"text"} and all(_is_word(value) for parts in samples for _, value in parts) and len(samples[0]) > 1:
        kinds = []  # words and numbers side by side are a table's row
    figure = _panels(samples, places.tolist(), kinds) if kinds else _table(samples, places.tolist())
    if target is not None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # a letter that the font lacks is drawn as a box
            figure.savefig(target, dpi=110)
    return figure


def parts_of(sample: Any, schema: Schema | None) -> list[Part]:
    """Return the parts of a sample, each with its field: the schema's, or one made from its shape."""
    leaves = [(path, _value(leaf)) for path, leaf in leaves_with_paths(sample)]
    fields: Sequence[Field] = schema.fields if schema is not None else ()
    if len(fields) != len(leaves):
        names = [".".join(re.findall(r"\w+", path)) for path, _ in leaves]
        fields = [Field(name, tuple(np.shape(value))) for name, (_, value) in zip(names, leaves, strict=True)]
    return list(zip(fields, (value for _, value in leaves), strict=True))


def kind_of(field: Field, value: Any) -> str:
    """Return how a part is drawn: by its dimensions where the schema names them, by its name, and else by its shape.

    Returns:
        "image", "clip", "spectrogram", "lines", "text", "bases" (a one-hot sequence), or "value" for what is written out.
    """
    if isinstance(value, str):
        return "text" if not field.target else "value"
    if not isinstance(value, np.ndarray) or (field.target and value.ndim < 2 and value.size <= SHORT):
        return "value"
    if len(field.dims) == value.ndim:
        return _kind_by_dims(field, value)
    name = field.name.lower()
    if value.ndim == 1 and name.startswith(SEQUENCE) and value.dtype.kind in "iu":
        return "text"
    if value.ndim == 2 and (name.startswith(SOUND) or (field.unit is not None and "Hz" in field.unit)):
        return "lines"
    return _kind_by_shape(value.shape)


def _kind_by_dims(field: Field, value: Any) -> str:
    dims = set(field.dims)
    if {"height", "width"} <= dims:
        return "clip" if "time" in dims or "frame" in dims else "image"
    if "frequency" in dims:
        return "spectrogram"
    if "base" in dims:
        return "bases"
    if "position" in dims or "token" in dims:
        return "text" if value.ndim == 1 and value.dtype.kind in "iu" else "lines"
    return "lines" if "time" in dims else _kind_by_shape(value.shape)


def _kind_by_shape(shape: tuple[int, ...]) -> str:
    """Return the kind of an array of which nothing is known but its shape."""
    if len(shape) == 4:
        return "clip"
    if len(shape) == 3:
        return "image" if drawing.CHANNELS & {shape[0], shape[-1]} else "clip"
    if len(shape) == 2:
        if max(shape) >= LONG > 4 * min(shape):
            return "lines"
        return "image" if min(shape) >= 8 else "lines" if max(shape) > 1 else "value"
    return "lines" if len(shape) == 1 and shape[0] > SHORT else "value"


def _panels(samples: list[list[Part]], places: list[int], kinds: list[str]) -> Figure:
    """Draw every sample as a panel with an axis for each part that is a picture, and the rest in its title."""
    width = max(_WIDTHS[kind] for kind in kinds)
    columns = max(1, min(len(samples), int(_WIDE / width)))
    rows = math.ceil(len(samples) / columns)
    heights = [_HEIGHTS[kind] for kind in kinds]
    figure = new_figure(max(4.0, columns * width), rows * (sum(heights) + 0.45))
    axes = figure.subplots(rows * len(kinds), columns, squeeze=False, gridspec_kw={"height_ratios": heights * rows})
    for axis in axes.flat:
        axis.set_axis_off()
    for number, (parts, place) in enumerate(zip(samples, places, strict=True)):
        row, column = divmod(number, columns)
        drawn = [(field, value) for field, value in parts if kind_of(field, value) in _DRAWN][: len(kinds)]
        for offset, (field, value) in enumerate(drawn):
            axis = axes[row * len(kinds) + offset, column]
            _DRAWN[kind_of(field, value)](axis, field, value)
            said = [*([field.name] if len(drawn) > 1 else []), *([field.unit] if field.unit else [])]
            axis.set_ylabel("\n".join(said), fontsize=8, parse_math=False)
        rest = [drawing.said(field, value) for field, value in parts if kind_of(field, value) not in _DRAWN]
        title = drawing.shortened(", ".join(rest), int(14 * width)) if rest else f"sample {place}"
        axes[row * len(kinds), column].set_title(title, fontsize=9, parse_math=False)
    return figure


def _table(samples: list[list[Part]], places: list[int]) -> Figure:
    """Draw samples of numbers and words as the rows of a table."""
    rows = [[cell for field, value in parts for cell in drawing.cells(field, value)] for parts in samples]
    names = [name for name, _ in rows[0]][: drawing.COLUMNS]
    texts = [[text for _, text in row][: len(names)] for row in rows]
    hidden = len(rows[0]) - len(names)
    figure = new_figure(max(4.0, 1.15 * len(names)), 0.6 + 0.3 * len(rows))
    axis = figure.subplots()
    drawing.table(axis, [*names, *([f"{hidden} more"] if hidden else [])], texts, [str(place) for place in places])
    return figure


def _is_word(value: Any) -> bool:
    return len(value) <= WORD if isinstance(value, str) else np.ndim(value) == 0


def _value(leaf: Any) -> Any:
    """Return a tensor as an array, and everything else as it is."""
    if isinstance(leaf, Tensor):
        leaf = leaf.detach().cpu()
        return (leaf.float() if leaf.dtype == torch.bfloat16 else leaf).numpy()
    return leaf.decode("utf-8", "replace") if isinstance(leaf, bytes) else leaf
