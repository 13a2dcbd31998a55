from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from torchflow.callbacks import Best, History
from torchflow.errors import ArgumentTypeError, ArgumentValueError, MissingExtraError
from torchflow.events import EpochEnded, Validated
from torchflow.intervals import Progress

RUN: Any = None  # a history never looks at the run
NAN = math.nan


def at(epoch: int, batch: int = 4) -> Progress:
    updates = 4 * epoch + batch
    return Progress(epoch, batch, updates, 8 * updates, updates)


def epoch(history: History, number: int, train: float, valid: float | None = None) -> None:
    """Report the end of an epoch, its validation before it."""
    metrics = {"train/loss": train}
    if valid is not None:
        metrics["valid/loss"] = valid
        history.on_validation_end(RUN, Validated(at(number), {"valid/loss": valid}))
    history.on_epoch_end(RUN, EpochEnded(at(number), metrics))


@pytest.fixture
def history() -> History:
    """Two epochs with a validation in the middle of the second."""
    history = History()
    epoch(history, 0, 1.0, 2.0)
    history.on_validation_end(RUN, Validated(at(1, batch=2), {"valid/loss": 1.5}))
    epoch(history, 1, 0.5, NAN)
    return history


ROWS = [
    {"epoch": 0, "updates": 4, "train/loss": 1.0, "valid/loss": 2.0},
    {"epoch": 1, "updates": 6, "valid/loss": 1.5},
    {"epoch": 1, "updates": 8, "train/loss": 0.5, "valid/loss": NAN},
]


def test_a_row_is_an_epoch_or_a_validation_in_the_middle_of_one(history: History) -> None:
    assert repr(history.rows) == repr(ROWS)  # NaN is not equal to itself, its text is
    assert repr(list(history)) == repr(ROWS)
    assert len(history) == 3
    assert history.names == ("train/loss", "valid/loss")
    assert repr(history) == "History(3 rows of train/loss, valid/loss)"


def test_a_validation_whose_values_the_epoch_does_not_repeat_is_in_its_row_too() -> None:
    history = History()
    history.on_validation_end(RUN, Validated(at(0), {"valid/loss": 2.0}))
    history.on_epoch_end(RUN, EpochEnded(at(0), {"train/loss": 1.0}))
    assert history.rows == [{"epoch": 0, "updates": 4, "train/loss": 1.0, "valid/loss": 2.0}]


@pytest.mark.parametrize("again", [False, True])
def test_a_resume_between_a_validation_and_its_epochs_end_gives_one_row(again: bool) -> None:
    before, after = History(), History()
    before.on_validation_end(RUN, Validated(at(0), {"valid/loss": 2.0}))
    after.load_state(before.state())
    if again:
        after.on_validation_end(RUN, Validated(at(0), {"valid/loss": 2.0}))
    after.on_epoch_end(RUN, EpochEnded(at(0), {"train/loss": 1.0, "valid/loss": 2.0}))
    assert after.rows == [{"epoch": 0, "updates": 4, "train/loss": 1.0, "valid/loss": 2.0}]


def test_a_validation_that_is_done_first_after_a_resume_belongs_to_its_epochs_row() -> None:
    history = History()
    history.on_epoch_end(RUN, EpochEnded(at(0), {"train/loss": 1.0}))
    history.on_validation_end(RUN, Validated(at(0)._replace(epoch=1, batch=0), {"valid/loss": 2.0}))
    assert history.rows == [{"epoch": 0, "updates": 4, "train/loss": 1.0, "valid/loss": 2.0}]


def test_the_columns_and_the_last_values_are_read_by_name(history: History) -> None:
    assert history["train/loss"] == [1.0, 0.5]
    assert repr(history["valid/loss"]) == repr([2.0, 1.5, NAN])
    assert history.last["train/loss"] == 0.5
    assert math.isnan(history.last["valid/loss"])
    assert "valid/accuracy" not in history.last


def test_an_unknown_name_is_refused_with_the_names_there_are(history: History) -> None:
    text = "no metric 'valid/acc' was measured; there are: 'train/loss', 'valid/loss'"
    for read in (lambda: history["valid/acc"], lambda: history.last["valid/acc"], lambda: history.best("valid/acc")):
        with pytest.raises(KeyError) as raised:
            read()
        assert raised.value.args == (text,)
    with pytest.raises(KeyError, match="no metric 'train/loss' was measured; there are: none yet"):
        History()["train/loss"]


def test_the_best_ignores_what_is_not_finite_and_takes_the_first_among_equals() -> None:
    history = History()
    for number, value in enumerate([NAN, 0.5, 0.25, -math.inf, 0.25, 0.75, math.inf]):
        epoch(history, number, value)
    assert history.best("train/loss") == Best(0.25, 2, 12)
    assert history.best("train/loss", "max") == Best(value=0.75, epoch=5, updates=24)


def test_there_is_no_best_of_values_that_were_never_finite() -> None:
    history = History()
    epoch(history, 0, NAN)
    with pytest.raises(ArgumentValueError, match="'train/loss' never had a finite value in 1 rows, so none is the best"):
        history.best("train/loss")
    with pytest.raises(ArgumentValueError, match="mode must be one of 'min', 'max', got 'least'"):
        history.best("train/loss", "least")  # type: ignore[arg-type]


def test_what_is_returned_is_a_copy(history: History) -> None:
    history.rows[0]["train/loss"] = 9.0
    history["train/loss"].append(9.0)
    next(iter(history)).clear()
    history.last["train/loss"] = 9.0  # type: ignore[index]
    assert repr(history.rows) == repr(ROWS)


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf, 0.1, 5e-324, -0.0, 1.7976931348623157e308])
def test_a_state_comes_back_exactly(history: History, value: float) -> None:
    epoch(history, 2, value)
    copy = History()
    copy.load_state(history.state())
    assert repr(copy.rows) == repr(history.rows)
    assert copy.epochs("valid/loss") == history.epochs("valid/loss")


def test_an_empty_history_has_a_state_too(history: History) -> None:
    empty = History().state()
    assert History().rows == []
    history.load_state(empty)
    assert (len(history), history.names, dict(history.last), repr(history)) == (0, (), {}, "History(0 rows of nothing)")


def test_places_are_in_finished_epochs() -> None:
    history = History()
    history.on_validation_end(RUN, Validated(at(0, batch=1), {"valid/loss": 1.0}))
    epoch(history, 0, 1.0)
    history.on_validation_end(RUN, Validated(at(1, batch=2), {"valid/loss": 1.0}))
    epoch(history, 1, 1.0)
    history.on_validation_end(RUN, Validated(at(2, batch=3), {"valid/loss": 1.0}))
    assert history.epochs("train/loss") == [1.0, 2.0]
    assert history.epochs("valid/loss") == [0.25, 1.5, 2.75]


def test_places_are_unknown_before_an_epoch_has_ended() -> None:
    history = History()
    history.on_validation_end(RUN, Validated(at(0, batch=1), {"valid/loss": 1.0}))
    assert math.isnan(history.epochs("valid/loss")[0])


def test_pandas_gets_whole_numbers_and_nan_for_what_is_missing(history: History) -> None:
    table = history.to_pandas()
    assert list(table.columns) == ["epoch", "updates", "train/loss", "valid/loss"]
    assert [str(kind) for kind in table.dtypes] == ["int64", "int64", "float64", "float64"]
    assert table["train/loss"].isna().tolist() == [False, True, False]
    assert list(History().to_pandas().columns) == ["epoch", "updates"]


def test_without_pandas_the_extra_is_named(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError) as raised:
        history.to_pandas()
    assert str(raised.value) == (
        "History.to_pandas needs pandas, which is not installed: pip install 'torchflow-train[frame]'. "
        "history.rows and to_csv do without."
    )


def test_csv_has_full_precision_and_empty_fields(history: History, tmp_path: Path) -> None:
    epoch(history, 2, 0.1 + 0.2, -math.inf)
    history.to_csv(tmp_path / "history.csv")
    with (tmp_path / "history.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["epoch", "updates", "train/loss", "valid/loss"]
    assert rows[2] == ["1", "6", "", "1.5"]
    assert rows[3] == ["1", "8", "0.5", "nan"]
    assert rows[4] == ["2", "12", "0.30000000000000004", "-inf"]


def test_json_is_strict_and_has_null_for_what_is_not_finite(history: History, tmp_path: Path) -> None:
    epoch(history, 2, math.inf)
    text = history.to_json(tmp_path / "history.json")
    assert (tmp_path / "history.json").read_text(encoding="utf-8") == text == history.to_json()
    rows = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert rows[0] == ROWS[0]
    assert rows[2] == {"epoch": 1, "updates": 8, "train/loss": 0.5, "valid/loss": None}
    assert rows[3]["train/loss"] is None


def test_a_file_name_must_be_a_path(history: History) -> None:
    with pytest.raises(ArgumentTypeError, match=r"path must be a path as str or pathlib\.Path, got 3"):
        history.to_csv(3)  # type: ignore[arg-type]


def test_a_history_draws_itself(history: History, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    history.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
