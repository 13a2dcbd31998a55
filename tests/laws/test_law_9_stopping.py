"""Law 9. Early stopping equals a ten-line reference rule on any sequence of values (NaN, inf, ties).

To see it fail: let a tie count as better (``<=`` in ``Rule.better``), take a relative ``min_delta`` of the best itself
and not of its absolute value, or leave ``stale`` out of ``EarlyStopping.state``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from torchflow.callbacks import EarlyStopping, History, Judged, Rule, Stop, judge
from torchflow.events import Validated
from torchflow.intervals import Every, Progress

PER_EPOCH = 3


def reference(options: dict[str, Any], values: list[float]) -> int | None:
    """Return the position of the value at which a run stops, or None where it goes on."""
    sign = 1.0 if options["mode"] == "min" else -1.0
    best, place = math.inf, options["start_after"] - 1
    for i, value in list(enumerate(sign * value for value in values))[options["start_after"] :]:
        least = options["min_delta"] * abs(best) if options["relative"] else options["min_delta"]
        if value < best and (math.inf in (best, -value) or best - value > least):
            best, place = value, i
        if math.isnan(value) and options["nan"] == "stop":
            return i
        reached = options["target"] is not None and value <= sign * options["target"]
        diverged = options["divergence"] is not None and value > sign * options["divergence"]
        if reached or diverged or i - place >= options["patience"]:
            return i
    return None


# Few distinct values, so that ties, equal differences and returns to the best are common, and many lists that only patience ends.
FINITE = [-2.0, -1.0, -0.5, -0.25, -0.0, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0]
tame = st.lists(st.sampled_from(FINITE), min_size=6, max_size=20)
wild = st.lists(st.sampled_from([*FINITE, -math.inf, math.inf, math.nan]), min_size=2, max_size=20)
values = tame | wild | st.lists(st.floats(), max_size=20)
many = settings(max_examples=400, deadline=None)


@st.composite
def rules(draw: st.DrawFn) -> dict[str, Any]:
    mode: Literal["min", "max"] = draw(st.sampled_from(["min", "max"]))
    target, divergence = draw(st.sampled_from([None, None, None, -2.0, -0.5])), draw(st.sampled_from([None, None, None, 1.5]))
    if mode == "max":
        target, divergence = (None if bound is None else -bound for bound in (target, divergence))
    return {
        "mode": mode,
        "patience": draw(st.integers(1, 5)),
        "min_delta": draw(st.sampled_from([0.0, 0.25, 0.5, 1.0]) | st.floats(0.0, 3.0)),
        "relative": draw(st.booleans()),
        "target": target,
        "divergence": divergence,
        "nan": draw(st.sampled_from(["stop", "ignore"])),
        "start_after": draw(st.integers(0, 4)),
    }


def at(position: int) -> Progress:
    """Return the progress of a run with three validations an epoch, an epoch's end among them."""
    epoch, batch = divmod(position, PER_EPOCH)
    return Progress(epoch, batch + 1, position + 1, 8 * (position + 1), position + 1)


@dataclass
class Watched:
    """As much of a run as early stopping looks at."""

    model: nn.Module = field(default_factory=nn.Identity)
    streams: tuple[str, ...] = ("train", "valid")


def stopped_at(stopping: EarlyStopping, values: list[float], first: int = 0) -> tuple[int, str] | None:
    run: Any = Watched()
    for position, value in enumerate(values[first:], first):
        if stop := stopping.on_validation_end(run, Validated(at(position), {"valid/loss": value})):
            assert stopping.reason == stop.reason
            return position, stop.reason
    return None


@many
@given(options=rules(), values=values)
def test_it_stops_where_the_reference_stops(options: dict[str, Any], values: list[float]) -> None:
    stop = stopped_at(EarlyStopping("valid/loss", **options), values)
    assert (None if stop is None else stop[0]) == reference(options, values)


@many
@given(options=rules(), values=values)
def test_the_least_of_x_is_the_most_of_minus_x(options: dict[str, Any], values: list[float]) -> None:
    mirrored = {
        **options,
        "mode": {"min": "max", "max": "min"}[options["mode"]],
        "target": None if options["target"] is None else -options["target"],
        "divergence": None if options["divergence"] is None else -options["divergence"],
    }
    rule, mirror = Rule("valid/loss", **options), Rule("valid/loss", **mirrored)
    judged, reflected = Judged(), Judged()
    for position, value in enumerate(values):
        judged, stop = judge(rule, judged, value, at(position))
        reflected, also = judge(mirror, reflected, -value, at(position))
        assert (stop is None) == (also is None)
        assert (judged.since, judged.stale) == (reflected.since, reflected.stale)
        assert judged.best == (None if reflected.best is None else -reflected.best)


@many
@given(options=rules(), values=values, scale=st.sampled_from([0.25, 2.0, 1024.0]))
def test_a_relative_rule_does_not_see_the_unit_of_the_metric(options: dict[str, Any], values: list[float], scale: float) -> None:
    tame = [value for value in values if not 0 < abs(value) < 1e-100 and not 1e100 < abs(value) < math.inf]
    options |= {"relative": True, "target": None, "divergence": None}
    assert reference(options, tame) == reference(options, [scale * value for value in tame])
    plain, scaled = (stopped_at(EarlyStopping("valid/loss", **options), [by * value for value in tame]) for by in (1.0, scale))
    assert (plain and plain[0]) == (scaled and scaled[0])


@many
@given(options=rules(), values=values, cut=st.integers(0, 20))
def test_a_sequence_cut_anywhere_goes_on_as_the_whole(options: dict[str, Any], values: list[float], cut: int) -> None:
    whole = stopped_at(EarlyStopping("valid/loss", **options), values)
    first = EarlyStopping("valid/loss", **options)
    before = stopped_at(first, values[:cut])
    second = EarlyStopping("valid/loss", **options)
    second.load_state(first.state())
    assert repr(second.judged) == repr(first.judged)  # NaN is not equal to itself, its text is
    if before is None:
        assert stopped_at(second, values, first=cut) == whole
    else:
        assert before == whole
        assert second.reason == before[1]
        assert second.confirms(Stop(before[1]))


@many
@given(options=rules(), values=values, larger=st.integers(1, 10))
def test_a_rule_with_more_patience_goes_on_as_if_it_had_always_had_it(
    options: dict[str, Any], values: list[float], larger: int
) -> None:
    first = EarlyStopping("valid/loss", **options)
    before = stopped_at(first, values)
    if before is None:
        return
    options |= {"patience": options["patience"] + larger}
    second = EarlyStopping("valid/loss", **options)
    second.load_state(first.state())
    whole = stopped_at(EarlyStopping("valid/loss", **options), values)
    assert second.confirms(Stop(before[1])) == (whole is not None and whole[0] == before[0])
    if not second.confirms(Stop(before[1])):
        assert stopped_at(second, values, first=before[0] + 1) == whole


@many
@given(options=rules(), values=values)
def test_counting_values_is_counting_the_updates_between_them(options: dict[str, Any], values: list[float]) -> None:
    # A first value that is no improvement counts as one value, and lies no update after itself: so begin with a good one.
    values = [*[0.0] * options["start_after"], 3.0 if options["mode"] == "min" else -3.0, *values]
    by_updates = {**options, "patience": Every(updates=options["patience"])}
    if options["start_after"]:
        by_updates["start_after"] = Every(updates=options["start_after"])
    counted, measured = (stopped_at(EarlyStopping("valid/loss", **each), values) for each in (options, by_updates))
    assert (counted and counted[0]) == (measured and measured[0])


@many
@given(options=rules(), values=values)
def test_observers_beside_it_make_no_difference(options: dict[str, Any], values: list[float]) -> None:
    run: Any = Watched()
    alone = stopped_at(EarlyStopping("valid/loss", **options), values)
    callbacks = [History(), EarlyStopping("valid/loss", **options), EarlyStopping("valid/loss", patience=1), History()]
    found = None
    for position, value in enumerate(values):
        event = Validated(at(position), {"valid/loss": value, "valid/accuracy": -value})
        stops = [callback.on_validation_end(run, event) for callback in callbacks]
        if found is None and stops[1] is not None:
            found = position, stops[1].reason
    assert found == alone
