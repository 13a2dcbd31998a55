from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchflow import Every, Progress
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.intervals import Alarm


class Clock:
    """A clock that stands still until somebody moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"epochs": 1}, "every epoch"),
        ({"epochs": 3}, "every 3 epochs"),
        ({"updates": 500}, "every 500 updates"),
        ({"samples": 1}, "every sample"),
        ({"seconds": 0.5}, "every 0.5 seconds"),
        ({"seconds": 1.0}, "every second"),
    ],
)
def test_an_interval_says_what_it_is(fields: dict[str, Any], text: str) -> None:
    assert str(Every(**fields)) == text


@pytest.mark.parametrize("count", [10_000_000, 1_234_567])
def test_a_long_interval_is_not_rounded_in_its_text(count: int) -> None:
    assert str(Every(updates=count)) == f"every {count} updates"


def test_an_interval_has_exactly_one_unit() -> None:
    with pytest.raises(ArgumentValueError, match=r"exactly one of epochs, updates, samples or seconds, got nothing\. Write Every"):
        Every()
    with pytest.raises(ArgumentValueError, match="got epochs=1, updates=5"):
        Every(epochs=1, updates=5)


@pytest.mark.parametrize("unit", ["epochs", "updates", "samples"])
def test_counts_of_an_interval_are_whole_numbers_from_one_on(unit: str) -> None:
    for wrong in (0, -1, 2**63):
        with pytest.raises(ArgumentValueError, match=rf"Every\({unit}=…\) must be an int of at least 1"):
            Every(**{unit: wrong})
    strange: Any
    for strange in (True, 1.0, "10"):
        with pytest.raises(ArgumentTypeError, match=rf"Every\({unit}=…\) must be an int of at least 1, got"):
            Every(**{unit: strange})


def test_seconds_are_finite_and_above_zero() -> None:
    for wrong in (0.0, -1, math.inf, math.nan):
        with pytest.raises(ArgumentValueError, match=r"Every\(seconds=…\) must be a finite number above 0, got"):
            Every(seconds=wrong)
    with pytest.raises(ArgumentTypeError, match=r"Every\(seconds=…\) must be a number above 0, got '5'"):
        Every(seconds="5")  # type: ignore[arg-type]


def test_intervals_are_frozen_values() -> None:
    assert Every(epochs=2) == Every(epochs=2)
    assert hash(Every(updates=2)) == hash(Every(updates=2))
    assert Every(epochs=2) != Every(updates=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Every(epochs=2).epochs = 3  # type: ignore[misc]


@given(st.integers(1, 7), st.lists(st.integers(1, 20), min_size=1, max_size=30))
def test_an_interval_of_samples_is_reached_once_for_every_update_that_passes_a_multiple(every: int, sizes: list[int]) -> None:
    now, rang, alarm = Progress(), 0, Alarm(Every(samples=every))
    for size in sizes:
        before, now = now, now._replace(samples=now.samples + size, updates=now.updates + 1)
        expected = any(count % every == 0 for count in range(before.samples + 1, now.samples + 1))
        assert alarm.rings(before, now) is expected
        rang += expected
    assert rang <= now.samples // every


@given(st.integers(1, 9), st.integers(1, 60))
def test_intervals_of_updates_and_epochs_are_reached_at_their_multiples(every: int, total: int) -> None:
    steps = [Progress(epoch=n // 4, updates=n) for n in range(total + 1)]
    reached = [now.updates for before, now in pairwise(steps) if Every(updates=every).reached(before, now)]
    assert reached == list(range(every, total + 1, every))
    ended = [now.epoch for before, now in pairwise(steps) if Every(epochs=every).reached(before, now)]
    assert ended == list(range(every, total // 4 + 1, every))


def test_no_progress_reaches_an_interval_in_seconds() -> None:
    assert not Every(seconds=1e-9).reached(Progress(), Progress(9, 9, 9, 9))


def test_an_alarm_in_seconds_rings_when_they_have_passed_since_it_last_rang() -> None:
    clock = Clock()
    alarm, here = Alarm(Every(seconds=10), clock), Progress()
    assert not alarm.rings(here, here)
    clock.now += 9.9
    assert not alarm.rings(here, here)
    clock.now += 0.1
    assert alarm.rings(here, here)
    assert not alarm.rings(here, here)
    clock.now += 35
    assert alarm.rings(here, here)
    clock.now += 9
    assert not alarm.rings(here, here)


def test_a_clock_that_goes_back_rings_nothing() -> None:
    clock = Clock()
    alarm, here = Alarm(Every(seconds=10), clock), Progress()
    clock.now -= 3600
    assert not alarm.rings(here, here)


def test_a_run_begins_at_nothing_and_was_never_validated() -> None:
    assert Progress() == (0, 0, 0, 0, -1)
