from __future__ import annotations

import math
from typing import Any

import pytest

from torchflow import Progress
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.limits import Limits


def test_without_limits_a_run_is_never_over() -> None:
    assert Limits().reached(Progress(10**9, 0, 10**9, 10**9)) is None


def test_epochs_and_updates_count_from_the_first_of_the_run() -> None:
    limits = Limits(epochs=3, max_updates=50)
    assert limits.reached(Progress(2, 9, 49)) is None
    assert limits.reached(Progress(3, 0, 30)) == "all 3 epochs are done"
    assert limits.reached(Progress(2, 0, 50)) == "max_updates=50 is reached"
    assert limits.reached(Progress(4, 0, 60)) == "all 3 epochs are done"
    assert Limits(epochs=1).reached(Progress(1)) == "the epoch is done"


def test_seconds_count_from_this_call() -> None:
    now = [1000.0]
    limits = Limits(max_seconds=2.5, clock=lambda: now[0])
    assert limits.reached(Progress()) is None
    now[0] += 2.4
    assert limits.reached(Progress()) is None
    now[0] += 0.1
    assert limits.reached(Progress()) == "max_seconds=2.5 are over"
    now[0] -= 100
    assert limits.reached(Progress()) is None


@pytest.mark.parametrize("name", ["epochs", "max_updates"])
@pytest.mark.parametrize("value", [True, 1.0, "10", b"1"])
def test_a_count_of_another_type_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=f"{name} must be an int of at least 1, got"):
        Limits(**{name: value})


@pytest.mark.parametrize("name", ["epochs", "max_updates"])
@pytest.mark.parametrize("value", [0, -1, 2**63])
def test_a_count_out_of_range_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ArgumentValueError, match=f"{name} must be an int of at least 1"):
        Limits(**{name: value})


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf])
def test_seconds_must_be_finite_and_above_zero(value: float) -> None:
    with pytest.raises(ArgumentValueError, match="max_seconds must be a finite number above 0, got"):
        Limits(max_seconds=value)
