"""What every figure has in common: matplotlib without pyplot and its global state, and colours for all eyes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torchflow.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
    figure: Figure = _part("figure", hint).Figure(figsize=(width, height), layout="constrained")
    return figure


def style_panel(axis: Axes) -> None:
    """Give a panel a faint grid behind what it shows, and no box around it."""
    axis.grid(visible=True, color="0.9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def shortened(text: object, letters: int) -> str:
    """Return a name as one line of so many letters at most; a longer one loses its middle, not its ends."""
    line = " ".join(str(text).split())
    half = (letters - 1) // 2
    return line if len(line) <= letters else f"{line[:half]}…{line[-half:]}"


def text_width(text: str, size: float) -> float:
    """Return how wide a text is at a font size, in points; letters outside ASCII are taken as wide ones."""
    path = _part("textpath").TextPath
    plain = text.encode("ascii", "replace").decode("ascii").replace("?", "M").replace("$", "S")  # "$" would begin a formula
    return 1.05 * float(path((0, 0), plain, size=size).get_extents().width) if plain.strip() else 0.0  # on the screen it is wider


def _part(name: str, hint: str = "") -> Any:
    """Return a module of matplotlib."""
    try:
        return importlib.import_module(f"matplotlib.{name}")
    except ImportError as error:
        raise MissingExtraError(
            f"plots need matplotlib, which is not installed: pip install 'torchflow-train[plot]'.{hint and ' ' + hint}"
        ) from error
