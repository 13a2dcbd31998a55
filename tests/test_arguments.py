from __future__ import annotations

import math
import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torchflow import arguments
from torchflow.errors import ArgumentTypeError, ArgumentValueError


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def test_a_shown_value_has_its_text_and_its_type() -> None:
    assert arguments.shown(3) == "3 (int)"
    assert arguments.shown("10") == "'10' (str)"
    assert arguments.shown(None) == "None (NoneType)"


def test_a_long_value_is_cut_to_eighty_characters() -> None:
    shown = arguments.shown("x" * 500)
    assert shown == f"{('x' * 500)!r:.77}... (str)"
    assert len(shown.removesuffix(" (str)")) == 80


def test_a_value_whose_repr_fails_is_shown_all_the_same() -> None:
    assert arguments.shown(Unprintable()) == "<object whose repr fails> (Unprintable)"


@pytest.mark.parametrize("value", [1, 7, 2**63 - 1, np.int64(5), np.uint8(5)])
def test_whole_numbers_pass_and_become_plain_ints(value: Any) -> None:
    found = arguments.whole("epochs", value)
    assert found == int(value)
    assert type(found) is int


@pytest.mark.parametrize("value", [True, False, 1.0, 1.5, "10", None, b"1", [1], torch.tensor(3), np.float64(3.0), Fraction(3)])
def test_what_is_no_int_is_refused_by_type(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"^epochs must be an int of at least 1, got .* Write epochs=10\.$"):
        arguments.whole("epochs", value, hint="Write epochs=10.")


@pytest.mark.parametrize("value", [0, -1, 2**63, -(2**63), np.int64(0)])
def test_an_int_out_of_range_is_refused_by_value(value: Any) -> None:
    with pytest.raises(ArgumentValueError, match=r"epochs must be an int of at least 1 and below 2\^63, got"):
        arguments.whole("epochs", value)


def test_a_value_is_shown_in_one_line() -> None:
    assert arguments.shown(torch.tensor([[1], [2]])) == "tensor([[1], [2]]) (Tensor)"


def test_a_count_may_be_left_out_where_that_is_said() -> None:
    assert arguments.whole_or_none("n", None) is None
    assert arguments.whole_or_none("n", 4) == 4
    assert arguments.whole_or_none("n", 0, minimum=0) == 0
    with pytest.raises(ArgumentTypeError, match="n must be an int of at least 1"):
        arguments.whole_or_none("n", "4")


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.25), Fraction(1, 2)])
def test_real_numbers_pass_and_become_plain_floats(value: Any) -> None:
    found = arguments.real("clip_norm", value, above=0.0)
    assert found == float(value)
    assert type(found) is float


@pytest.mark.parametrize("value", [True, "0.5", None, 1j, torch.tensor(0.5), Decimal(1)])
def test_what_is_no_real_number_is_refused_by_type(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match="clip_norm must be a number above 0, got"):
        arguments.real("clip_norm", value, above=0.0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_real_number_out_of_range_is_refused_by_value(value: float) -> None:
    with pytest.raises(ArgumentValueError, match="clip_norm must be a finite number above 0, got"):
        arguments.real("clip_norm", value, above=0.0)


def test_a_minimum_is_allowed_and_what_lies_below_it_is_not() -> None:
    assert arguments.real("min_delta", 0, minimum=0.0) == 0.0
    with pytest.raises(ArgumentValueError, match=r"min_delta must be a finite number of at least 0, got -0\.5"):
        arguments.real("min_delta", -0.5, minimum=0.0)
    assert arguments.real("x", -3) == -3.0
    with pytest.raises(ArgumentValueError, match=r"x must be a finite number, got nan \(float\)\. Try 1\."):
        arguments.real("x", math.nan, hint="Try 1.")


def test_only_a_bool_is_a_flag() -> None:
    assert arguments.flag("shuffle", True) is True
    assert arguments.flag("shuffle", False) is False
    for value in (1, 0, "yes", None, np.bool_(True)):
        with pytest.raises(ArgumentTypeError, match="shuffle must be True or False, got"):
            arguments.flag("shuffle", value)


def test_a_word_must_be_one_of_the_few() -> None:
    assert arguments.one_of("mode", "min", ("min", "max")) == "min"
    with pytest.raises(ArgumentValueError, match=r"mode must be one of 'min', 'max', got 'mini' \(str\)\. Losses are min\."):
        arguments.one_of("mode", "mini", ("min", "max"), hint="Losses are min.")
    with pytest.raises(ArgumentTypeError, match=r"mode must be one of 'min', 'max', got 1 \(int\)\."):
        arguments.one_of("mode", 1, ("min", "max"))


def test_a_function_is_what_can_be_called() -> None:
    assert arguments.function("step", len) is len
    with pytest.raises(ArgumentTypeError, match=r"step must be a function, got 3 \(int\)\. Write step=f\."):
        arguments.function("step", 3, hint="Write step=f.")


class Elsewhere(os.PathLike[str]):
    def __fspath__(self) -> str:
        return "runs/line"


class InBytes(os.PathLike[bytes]):
    def __fspath__(self) -> bytes:
        return b"runs/line"


@pytest.mark.parametrize("value", ["runs/line", Path("runs/line"), Elsewhere()])
def test_paths_are_text_or_path_objects(value: Any) -> None:
    assert arguments.path("folder", value) == Path("runs/line")


@pytest.mark.parametrize("value", [b"runs/line", InBytes(), None, 3, ["runs"]])
def test_other_types_are_no_paths(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"folder must be a path as str or pathlib\.Path, got"):
        arguments.path("folder", value)


@pytest.mark.parametrize("value", ["", "a\0b", "a\nb", "a\rb"])
def test_an_empty_or_unprintable_path_is_refused(value: str) -> None:
    with pytest.raises(ArgumentValueError, match="folder must be a path that is not empty and has no NUL or line break, got"):
        arguments.path("folder", value)


def test_a_seed_is_a_whole_number_from_zero_on() -> None:
    assert arguments.seed("seed", 0) == 0
    assert arguments.seed("seed", 2**63 - 1) == 2**63 - 1
    for wrong in (-1, 2**63):
        with pytest.raises(ArgumentValueError, match=r"seed must be an int of at least 0 .*A seed is any whole number from 0 on"):
            arguments.seed("seed", wrong)
    for strange in ("0", 1.5, None, True):
        with pytest.raises(ArgumentTypeError, match="seed must be an int of at least 0"):
            arguments.seed("seed", strange)
