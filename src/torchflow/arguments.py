"""What a valid argument is: the checks that every public function shares.

Each returns its value, narrowed, or raises an error that names the argument, what was expected, what was
found and what to write instead.
"""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from torchflow.errors import ArgumentTypeError, ArgumentValueError

LARGEST_COUNT = 2**63 - 1


def shown(value: object) -> str:
    """Return a short text of a value for an error message: its repr and its type."""
    try:
        text = repr(value)
    except Exception:  # the repr of a user's object may itself be broken
        text = "<object whose repr fails>"
    text = " ".join(text.split())  # a message is one line
    text = text if len(text) <= 80 else f"{text[:77]}..."
    return f"{text} ({type(value).__name__})"


def whole(name: str, value: object, *, minimum: int = 1, hint: str = "") -> int:
    """Check a count: an int of at least ``minimum``; bool, float and text are no counts."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ArgumentTypeError(f"{name} must be an int of at least {minimum}, got {shown(value)}.{_tail(hint)}")
    if not minimum <= int(value) <= LARGEST_COUNT:
        raise ArgumentValueError(f"{name} must be an int of at least {minimum} and below 2^63, got {shown(value)}.{_tail(hint)}")
    return int(value)


def whole_or_none(name: str, value: object, *, minimum: int = 1, hint: str = "") -> int | None:
    """Check a count that may be left out."""
    return None if value is None else whole(name, value, minimum=minimum, hint=hint)


def real(name: str, value: object, *, above: float | None = None, minimum: float | None = None, hint: str = "") -> float:
    """Check a finite number, optionally greater than ``above`` or at least ``minimum``."""
    bound = f" above {above:g}" if above is not None else f" of at least {minimum:g}" if minimum is not None else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ArgumentTypeError(f"{name} must be a number{bound}, got {shown(value)}.{_tail(hint)}")
    number = float(value)
    if not math.isfinite(number) or (above is not None and number <= above) or (minimum is not None and number < minimum):
        raise ArgumentValueError(f"{name} must be a finite number{bound}, got {shown(value)}.{_tail(hint)}")
    return number


def flag(name: str, value: object, *, hint: str = "") -> bool:
    """Check a bool."""
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be True or False, got {shown(value)}.{_tail(hint)}")
    return value


def one_of(name: str, value: object, choices: Collection[str], *, hint: str = "") -> str:
    """Check a word out of a few."""
    listed = ("one of " if len(choices) > 1 else "") + ", ".join(repr(choice) for choice in choices)
    if not isinstance(value, str):
        raise ArgumentTypeError(f"{name} must be {listed}, got {shown(value)}.{_tail(hint)}")
    if value not in choices:
        raise ArgumentValueError(f"{name} must be {listed}, got {shown(value)}.{_tail(hint)}")
    return value


def function(name: str, value: object, *, hint: str = "") -> Callable[..., Any]:
    """Check something that can be called."""
    if not callable(value):
        raise ArgumentTypeError(f"{name} must be a function, got {shown(value)}.{_tail(hint)}")
    return value


def path(name: str, value: object) -> Path:
    """Check a file path: text or a path object, not empty, without NUL or line breaks."""
    if not isinstance(value, (str, os.PathLike)) or isinstance(os.fspath(value), bytes):
        raise ArgumentTypeError(f"{name} must be a path as str or pathlib.Path, got {shown(value)}.")
    text = os.fspath(value)
    if not text or any(character in text for character in "\0\n\r"):
        raise ArgumentValueError(f"{name} must be a path that is not empty and has no NUL or line break, got {shown(value)}.")
    return Path(text)


def seed(name: str, value: object) -> int:
    """Check a seed: an int from 0 to 2^63 - 1."""
    return whole(name, value, minimum=0, hint="A seed is any whole number from 0 on, for example 0.")


def _tail(hint: str) -> str:
    return f" {hint}" if hint else ""
