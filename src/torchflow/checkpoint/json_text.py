"""Strict JSON: one spelling when written, nothing doubtful when read.

Python's reader accepts duplicate keys, ``NaN`` and numbers that overflow to infinity, and its recursion follows
whatever depth a file asks for. None of that can be allowed in a file that may have been damaged or made to harm.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from torchflow.errors import CorruptCheckpointError

JSON_DEPTH = 80
"""How deep brackets may nest in a file: twice the depth of a state tree (tuples take two), and some room."""

JSON_VALUES = 2**21
"""How many values a text may hold: an empty list is two bytes in a file and some hundred in memory."""

# Strings are skipped whole, so that brackets within them do not count; the lone quote is a string without an end.
_TOKENS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{}]', re.DOTALL)


def canonical(value: object) -> bytes:
    """Return the one JSON text of a plain value: sorted keys, no spaces, ASCII only, finite numbers only."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def parse(data: bytes, where: str) -> Any:
    """Parse JSON strictly.

    Args:
        data: UTF-8 text.
        where: The name of the file, for the error.

    Returns:
        Dicts, lists and plain values as they stand in the file, which is why they are ``Any``.

    Raises:
        CorruptCheckpointError: The text is no JSON, nests deeper than ``JSON_DEPTH``, has more than ``JSON_VALUES`` values,
            repeats a key, or holds a number that is not finite.
    """
    if values_in(data) > JSON_VALUES:
        raise CorruptCheckpointError(f"{where} holds more than {JSON_VALUES} values, which no checkpoint does.")
    _check_depth(data, where)
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpointError(f"{where} is not valid JSON: {error}.") from error


def values_in(data: bytes) -> int:
    """Return how many values a text holds at most, without parsing it; marks within strings count too."""
    return data.count(b",") + data.count(b"[") + data.count(b"{")


def _check_depth(data: bytes, where: str) -> None:
    """Count brackets before the recursive parser sees them: its depth must never be the file's choice."""
    depth = 0
    for token in _TOKENS.finditer(data):
        first = data[token.start()]
        if first == ord('"') and token.end() == token.start() + 1:
            raise CorruptCheckpointError(f"{where} is not valid JSON: a string has no end.")
        depth += (first in b"[{") - (first in b"]}")
        if depth > JSON_DEPTH:
            raise CorruptCheckpointError(f"{where} nests deeper than {JSON_DEPTH} levels, which no checkpoint does.")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} appears twice")
        found[key] = value
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:40]} is out of range")
    return number
