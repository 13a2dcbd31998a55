"""What every figure has in common: matplotlib without pyplot and its global state, and colours for all eyes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from torchflow.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Colours that people with any colour vision tell apart (Okabe and Ito, 2008), ordered so that neighbours differ in grey as
# well; line and marker differ too.
STYLES = (
    ("#0072B2", "-", "o"),
    ("#E69F00", "--", "s"),
    ("#000000", ":", "^"),
    ("#CC79A7", "-.", "D"),
    ("#009E73", (0, (5, 1, 1, 1, 1, 1)), "v"),
    ("#56B4E9", (0, (8, 3)), "P"),
)


def new_figure(width: float, height: float, hint: str = "") -> Figure:
    """Return an empty figure.

    Args:
        width: In inches.
        height: In inches.
        hint: What to add where matplotlib is not installed.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        module = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError(
            f"plots need matplotlib, which is not installed: pip install 'torchflow-train[plot]'.{hint and ' ' + hint}"
        ) from error
    figure: Figure = module.Figure(figsize=(width, height), layout="constrained")
    return figure
