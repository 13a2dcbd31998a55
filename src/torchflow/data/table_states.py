"""The states of fitted table encoders, which come out of files: everything is checked before it is believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from torchflow import arguments
from torchflow.data.table_cells import CYCLES
from torchflow.data.table_parts import Levels, Moment, Number, Part, Words
from torchflow.data.table_targets import Amounts, Classes
from torchflow.errors import ArgumentValueError

_LARGEST = 1e300


def part_from_state(state: Mapping[str, Any]) -> Part:
    """Return the fitted column of a state.

    Raises:
        KeyError: The state lacks something.
        ArgumentValueError: It holds what no fitted column does.
    """
    kind = next((part for part in (Number, Moment, Levels, Words) if part.kind == state["kind"]), None)
    if kind is None:
        raise _odd("kind", state["kind"])
    values = {}
    for field in fields(kind):
        value = state[field.name]
        if not (_ONE_OF[field.name](value) if field.name in _ONE_OF else _HOLDS[str(field.type)](value)):
            raise _odd(field.name, value)
        values[field.name] = value if isinstance(value, str) or not isinstance(value, Sequence) else tuple(value)
    made: Part = kind(**values)
    if isinstance(made, Levels) and made.missing != "error" and not made.gap and made.fill not in made.levels:
        raise _odd("fill", made.fill)
    return made


def target_from_state(state: Mapping[str, Any]) -> Amounts | Classes:
    """Return the target of a state.

    Raises:
        KeyError: The state lacks something.
        ArgumentValueError: It holds what no target does.
    """
    columns = state["columns"]
    if not are_texts(columns) or not columns:
        raise _odd("columns", columns)
    if state["kind"] == "classes":
        if not are_texts(state["classes"]) or not state["classes"]:
            raise _odd("classes", state["classes"])
        return Classes(columns[0], tuple(state["classes"]))
    if state["kind"] != "amounts":
        raise _odd("kind", state["kind"])
    for name, holds in (("means", is_number), ("stds", is_spread)):
        numbers = state[name]
        if not isinstance(numbers, Sequence) or len(numbers) != len(columns) or not all(map(holds, numbers)):
            raise _odd(name, numbers)
    return Amounts(tuple(columns), tuple(state["means"]), tuple(state["stds"]))


def is_number(value: object) -> bool:
    """Return whether a value of a state is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def is_spread(value: object) -> bool:
    """Return whether a value of a state can be divided by."""
    return is_number(value) and value != 0


def are_texts(value: object) -> bool:
    """Return whether a value of a state is a list of texts."""
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)


def _odd(name: str, value: object) -> ArgumentValueError:
    said = f"the state of encoder 'table' has {name}={arguments.shown(value)}, which no fitted encoder has"
    return ArgumentValueError(f"{said}. It is damaged: fit the encoder again.")


_HOLDS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "bool": lambda value: isinstance(value, bool),
    "float": is_number,
    "tuple[str, ...]": are_texts,
}
"""By annotation, what a value must be."""
_ONE_OF: dict[str, Callable[[Any], bool]] = {
    "missing": lambda value: value in ("error", "fill", "indicator"),
    "unknown": lambda value: value in ("error", "other"),
    "cycles": lambda value: are_texts(value) and all(cycle in CYCLES for cycle in value),
    "std": is_spread,
}
"""By name, where the annotation does not say enough."""
