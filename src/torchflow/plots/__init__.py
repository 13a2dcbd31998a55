"""Figures of what was measured and predicted: matplotlib Figure objects, made without pyplot and its global state.

Every figure is read in grey as well: curves differ in line and marker, shades rise evenly in lightness. Each function returns
the figure, and saves it where a ``path`` is given, in the format that its suffix says (``.png``, ``.pdf``, ``.svg``).
"""

from __future__ import annotations

from torchflow.plots.curves import compare, history
from torchflow.plots.labels import confusion
from torchflow.plots.predictions import regression, residuals
from torchflow.plots.rates import learning_rates

__all__ = ["compare", "confusion", "history", "learning_rates", "regression", "residuals"]
