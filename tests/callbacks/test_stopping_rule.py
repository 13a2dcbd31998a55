from __future__ import annotations

import math
from typing import Any

import pytest

from torchflow.callbacks import Judged, Rule, judge
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.intervals import Every, Progress


def end_of(epoch: int, batches: int = 4) -> Progress:
    """Return the progress at the end of an epoch (from 0)."""
    updates = (epoch + 1) * batches
    return Progress(epoch, batches, updates, 8 * updates, updates)


def middle_of(epoch: int, batch: int) -> Progress:
    updates = 4 * epoch + batch
    return Progress(epoch, batch, updates, 8 * updates, updates)


def reason(rule: Rule, values: list[float], places: list[Progress] | None = None) -> tuple[int, str] | None:
    judged = Judged()
    for number, value in enumerate(values):
        judged, stop = judge(rule, judged, value, places[number] if places else end_of(number))
        if stop:
            return number, stop.reason
    return None


def test_the_reason_counts_epochs_where_each_value_was_one_epoch_after_the_one_before() -> None:
    found = reason(Rule("valid/loss", patience=2), [0.5, 0.25, 0.3, 0.25])
    assert found == (3, "valid/loss has not improved for 2 epochs (best 0.25 at epoch 2)")


def test_the_reason_counts_one_epoch_in_the_singular() -> None:
    assert reason(Rule("valid/loss", patience=1), [0.5, 0.5]) == (
        1,
        "valid/loss has not improved for 1 epoch (best 0.5 at epoch 1)",
    )


def test_the_reason_counts_validations_where_they_were_no_epochs() -> None:
    places = [middle_of(0, 2), middle_of(0, 4), middle_of(1, 2)]
    found = reason(Rule("valid/loss", patience=2), [0.5, 0.6, 0.7], places)
    assert found == (2, "valid/loss has not improved for 2 validations (best 0.5 at epoch 1)")


def test_half_an_epoch_over_an_epochs_end_is_a_validation_and_no_epoch() -> None:
    found = reason(Rule("valid/loss", patience=1), [0.5, 0.6], [middle_of(0, 4), middle_of(1, 2)])
    assert found == (1, "valid/loss has not improved for 1 validation (best 0.5 at epoch 1)")


def test_a_train_metric_counts_epochs_however_long_they_are() -> None:
    found = reason(Rule("train/loss", patience=1), [0.5, 0.6], [end_of(0, batches=4), end_of(1, batches=5)])
    assert found == (1, "train/loss has not improved for 1 epoch (best 0.5 at epoch 1)")


@pytest.mark.parametrize(
    ("patience", "expected"),
    [
        (Every(updates=10), "valid/loss has not improved for 12 updates (best 0.5 at epoch 1)"),
        (Every(samples=90), "valid/loss has not improved for 96 samples (best 0.5 at epoch 1)"),
        (Every(epochs=3), "valid/loss has not improved for 3 epochs (best 0.5 at epoch 1)"),
    ],
)
def test_patience_as_an_interval_counts_progress_since_the_best(patience: Every, expected: str) -> None:
    assert reason(Rule("valid/loss", patience=patience), [0.5, 0.6, 0.6, 0.6, 0.6]) == (3, expected)


def test_patience_in_epochs_waits_for_whole_epochs() -> None:
    places = [middle_of(0, 3), middle_of(1, 2), middle_of(1, 3), middle_of(2, 1)]
    found = reason(Rule("valid/loss", patience=Every(epochs=1)), [0.5, 0.6, 0.6, 0.6], places)
    assert found == (2, "valid/loss has not improved for 2 validations (best 0.5 at epoch 1)")


def test_values_that_were_never_finite_end_a_run_by_patience() -> None:
    found = reason(Rule("valid/loss", patience=3, nan="ignore"), [math.nan, math.inf, math.nan, 0.0])
    assert found == (2, "valid/loss has not improved for 3 validations (no value was finite)")


def test_nan_ends_a_run_at_once() -> None:
    assert reason(Rule("valid/loss"), [0.5, 0.4, math.nan]) == (2, "valid/loss is NaN at epoch 3")


def test_nan_that_is_ignored_counts_as_no_improvement() -> None:
    found = reason(Rule("valid/loss", patience=2, nan="ignore"), [0.5, math.nan, math.nan])
    assert found == (2, "valid/loss has not improved for 2 epochs (best 0.5 at epoch 1)")


@pytest.mark.parametrize(("mode", "values"), [("min", [0.5, 0.1]), ("max", [0.05, 0.1])])
def test_a_target_is_reached_by_equality(mode: Any, values: list[float]) -> None:
    assert reason(Rule("valid/x", mode=mode, target=0.1), values) == (1, "valid/x reached the target 0.1 (0.1 at epoch 2)")


@pytest.mark.parametrize(
    ("mode", "values", "side"), [("min", [1.0, 10.0, 10.5], "10.5 is above 10"), ("max", [-1.0, -10.0, -12.0], "-12 is below -10")]
)
def test_a_value_worse_than_divergence_ends_a_run(mode: Any, values: list[float], side: str) -> None:
    bound = 10.0 if mode == "min" else -10.0
    assert reason(Rule("valid/x", mode=mode, divergence=bound), values) == (2, f"valid/x diverged: {side} at epoch 3")


@pytest.mark.parametrize(
    ("best", "value", "improves"),
    [(1.0, 0.9, False), (1.0, 0.8, True), (-1.0, -1.05, False), (-1.0, -1.2, True), (-1.0, -0.95, False), (0.0, -0.01, True)],
)
def test_a_relative_min_delta_is_right_for_negative_scores(best: float, value: float, improves: bool) -> None:
    rule = Rule("valid/loss", min_delta=0.1, relative=True)
    assert rule.improves(value, best) is improves
    assert Rule("valid/loss", mode="max", min_delta=0.1, relative=True).improves(-value, -best) is improves


@pytest.mark.parametrize(("value", "improves"), [(1.0, False), (0.75, False), (0.5, True), (math.nan, False), (-math.inf, True)])
def test_an_improvement_must_exceed_min_delta(value: float, improves: bool) -> None:
    assert Rule("valid/loss", min_delta=0.25).improves(value, 1.0) is improves


def test_the_worst_infinity_is_no_improvement_on_nothing() -> None:
    assert not Rule("valid/loss").improves(math.inf, None)
    assert not Rule("valid/loss", mode="max").improves(-math.inf, None)
    assert Rule("valid/loss", min_delta=5.0, relative=True).improves(1e300, None)


@pytest.mark.parametrize("start_after", [2, Every(epochs=2), Every(updates=8), Every(samples=64)])
def test_values_of_the_warm_up_are_ignored(start_after: int | Every) -> None:
    rule = Rule("valid/loss", patience=1, target=0.0, start_after=start_after)
    assert reason(rule, [math.nan, -1.0, 5.0, 5.0]) == (3, "valid/loss has not improved for 1 epoch (best 5 at epoch 3)")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"metric": 3}, ArgumentTypeError, "metric must be a str such as 'valid/loss', got 3 (int)."),
        (
            {"metric": "loss"},
            ArgumentValueError,
            "metric must be a stream, a slash and a name, such as 'valid/loss' or 'train/loss', got 'loss' (str).",
        ),
        ({"metric": "/loss"}, ArgumentValueError, "metric must be a stream, a slash and a name"),
        ({"metric": "valid/"}, ArgumentValueError, "metric must be a stream, a slash and a name"),
        (
            {"patience": 0},
            ArgumentValueError,
            "patience must be an int of at least 1 and below 2^63, got 0 (int). "
            "Write patience=5 for judged values, or patience=Every(epochs=5).",
        ),
        ({"patience": 2.5}, ArgumentTypeError, "patience must be an int of at least 1, got 2.5 (float)."),
        (
            {"patience": Every(seconds=60)},
            ArgumentValueError,
            "patience can't be in seconds, which differ from run to run, got every 60 seconds. Write patience=5",
        ),
        ({"start_after": -1}, ArgumentValueError, "start_after must be an int of at least 0"),
        ({"mode": "least"}, ArgumentValueError, "mode must be one of 'min', 'max', got 'least' (str). 'min' is for losses"),
        ({"nan": "raise"}, ArgumentValueError, "nan must be one of 'stop', 'ignore', got 'raise' (str)."),
        ({"min_delta": -0.1}, ArgumentValueError, "min_delta must be a finite number of at least 0, got -0.1 (float)."),
        ({"min_delta": math.nan}, ArgumentValueError, "min_delta must be a finite number of at least 0, got nan (float)."),
        ({"relative": 1}, ArgumentTypeError, "relative must be True or False, got 1 (int)."),
        ({"target": math.inf}, ArgumentValueError, "target must be a finite number, got inf (float)."),
        ({"divergence": "10"}, ArgumentTypeError, "divergence must be a number, got '10' (str)."),
        (
            {"target": 1.0, "divergence": 0.5},
            ArgumentValueError,
            "divergence must be worse than target in mode 'min', got target=1.0 and divergence=0.5.",
        ),
    ],
)
def test_a_rule_that_cannot_be_is_refused(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as raised:
        Rule(**{"metric": "valid/loss", **arguments})
    assert str(raised.value).startswith(text)
