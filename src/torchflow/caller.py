"""Warnings that point at the line of the user's program, however deep in the library their cause is found."""

from __future__ import annotations

import sys
import warnings


def warn_caller(text: str) -> None:
    """Issue a ``UserWarning`` at the line that called into torchflow."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)
