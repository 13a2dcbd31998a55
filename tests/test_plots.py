from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.small import columns, line, trainer
from torchflow import Callback, Checkpoints, EarlyStopping, Result, plots
from torchflow.callbacks import History
from torchflow.errors import ArgumentTypeError, ArgumentValueError, MissingExtraError
from torchflow.events import EpochEnded, Validated
from torchflow.intervals import Progress

if TYPE_CHECKING:
    from matplotlib.axes import Axes

pytest.importorskip("matplotlib")
RUN: Any = None


def measured(train: list[float], valid: list[float], **others: list[float]) -> History:
    history = History()
    for epoch, (fit, check) in enumerate(zip(train, valid, strict=True)):
        progress = Progress(epoch, 4, 4 * epoch + 4, 32 * epoch + 32)
        found = {"valid/loss": check, **{name.replace("_", "/"): values[epoch] for name, values in others.items()}}
        history.on_validation_end(RUN, Validated(progress, found))
        history.on_epoch_end(RUN, EpochEnded(progress, {"train/loss": fit, **found}))
    return history


def labels(axis: Axes) -> list[str]:
    legend = axis.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_the_losses_are_drawn_with_the_best_validation_marked() -> None:
    figure = plots.history(measured([1.0, 0.8, 0.6], [1.1, 0.9, 1.0], valid_accuracy=[0.1, 0.2, 0.3]))
    (axis,) = figure.axes
    assert labels(axis) == ["train/loss", "valid/loss", "best valid/loss: 0.9 at epoch 2"]
    assert list(axis.lines[0].get_xdata()) == [1.0, 2.0, 3.0]  # type: ignore[arg-type]
    assert (axis.get_xlabel(), axis.get_ylabel(), axis.get_yscale()) == ("epochs finished", "loss", "linear")


def test_curves_differ_without_colour() -> None:
    others = {f"{number}_loss": [1.2, 1.0] for number in range(10)}
    (axis,) = plots.history(measured([1.0, 0.8], [1.1, 0.9], **others)).axes
    curves = [line for line in axis.lines if str(line.get_label()).endswith("/loss")]
    # matplotlib has one word for all dash patterns, so the pattern itself is compared.
    assert len({(str(line._dash_pattern), line.get_marker()) for line in curves}) == len(curves) == 12  # type: ignore[attr-defined]


def test_every_kind_of_value_has_its_panel() -> None:
    history = measured([1.0, 0.8], [1.1, 0.9], train_accuracy=[0.2, 0.4], valid_accuracy=[0.1, 0.3])
    figure = plots.history(history, names=history.names)
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "accuracy"]
    assert labels(figure.axes[1]) == ["train/accuracy", "valid/accuracy"]


def test_everything_is_drawn_where_there_is_no_loss() -> None:
    history = History()
    history.on_epoch_end(RUN, EpochEnded(Progress(0, 4, 4, 32), {"train/reward": 1.0}))
    assert plots.history(history).axes[0].get_ylabel() == "reward"


@pytest.mark.parametrize(
    ("values", "scale"),
    [([10.0, 1.0, 0.1], "log"), ([1.0, 0.9, 0.8], "linear"), ([10.0, 0.1, 0.0], "linear"), ([10.0, 0.1, -1.0], "linear")],
)
def test_the_scale_is_logarithmic_where_that_helps(values: list[float], scale: str) -> None:
    assert plots.history(measured(values, values)).axes[0].get_yscale() == scale


def test_values_that_are_not_finite_leave_a_gap() -> None:
    (axis,) = plots.history(measured([math.inf, 0.8, math.nan], [math.nan, 0.9, math.inf])).axes
    drawn: Any = axis.lines[0].get_ydata()
    assert [math.isnan(value) for value in drawn] == [True, False, True]
    assert labels(axis)[-1] == "best valid/loss: 0.9 at epoch 2"


def test_a_loss_that_was_never_finite_has_no_best(tmp_path: Path) -> None:
    figure = plots.history(measured([math.nan], [math.nan]), tmp_path / "nan.png")
    assert labels(figure.axes[0]) == ["train/loss", "valid/loss"]


def test_updates_are_the_axis_where_no_epoch_has_ended() -> None:
    history = History()
    for updates, value in ((10, 0.5), (20, 0.25)):
        history.on_validation_end(RUN, Validated(Progress(0, updates, updates, updates), {"valid/loss": value}))
    (axis,) = plots.history(history).axes
    assert axis.get_xlabel() == "updates"
    assert labels(axis) == ["valid/loss", "best valid/loss: 0.25 at update 20"]


def test_the_train_loss_is_marked_where_there_is_no_validation() -> None:
    history = History()
    history.on_epoch_end(RUN, EpochEnded(Progress(0, 4, 4, 32), {"train/loss": 0.5}))
    assert labels(plots.history(history).axes[0]) == ["train/loss", "best train/loss: 0.5 at epoch 1"]


def test_no_two_labels_overlap_and_none_leaves_the_figure() -> None:
    names = {f"validation-on-hospital-{number}_loss": [1.0, 0.5] for number in range(7)}
    history = measured([1.0, 0.5], [1.1, 0.6], **names, valid_accuracy=[0.1, 0.2])
    figure = plots.history(history, names=history.names)
    figure.draw_without_rendering()
    boxes = []
    for axis in figure.axes:
        legend = axis.get_legend()
        assert legend is not None
        assert not legend.get_window_extent().overlaps(axis.get_window_extent().padded(-1.0))
        boxes += [text.get_window_extent() for text in legend.get_texts()]
    assert not [1 for i, box in enumerate(boxes) for other in boxes[i + 1 :] if box.overlaps(other)]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_suffix_says_the_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curves.{suffix}"
    plots.history(measured([1.0, 0.8], [1.1, 0.9], **{"$x_loss": [1.0, 1.0]}), str(path))
    assert path.read_bytes()[:5] in (b"\x89PNG\r", b"%PDF-", b"<?xml")


def test_pyplot_and_its_global_state_stay_out() -> None:
    loaded = "matplotlib.pyplot" in sys.modules
    plots.history(measured([1.0], [1.0]))
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_what_cannot_be_drawn_is_refused() -> None:
    history = measured([1.0], [1.0])
    with pytest.raises(ArgumentValueError, match="there is nothing to draw: the history holds no values yet, or names is empty"):
        plots.history(History())
    with pytest.raises(ArgumentValueError, match="there is nothing to draw"):
        plots.history(history, names=[])
    with pytest.raises(KeyError, match="no metric 'valid/f1' was measured; there are: 'train/loss', 'valid/loss'"):
        plots.history(history, names=["valid/f1"])
    with pytest.raises(ArgumentTypeError, match=r"names must be a list of metric names such as \['valid/loss'\], got 'valid/loss'"):
        plots.history(history, names="valid/loss")
    with pytest.raises(ArgumentValueError, match="path must be a path that is not empty"):
        plots.history(history, "")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError) as raised:
        plots.history(measured([1.0], [1.0]))
    assert str(raised.value) == (
        "plots need matplotlib, which is not installed: pip install 'torchflow-train[plot]'. history.to_csv does without."
    )


def result(history: History, reason: str) -> Result[nn.Module]:
    return Result(nn.Identity(), reason, history, Progress(len(history), 0, 4 * len(history), 0, 0))


def test_the_end_of_a_result_is_marked_and_explained() -> None:
    history = measured([1.0, 0.8, 0.6], [1.1, 0.9, 1.0], valid_accuracy=[0.1, 0.2, 0.3])
    figure = plots.history(
        result(history, "valid/loss has not\nimproved, which costs $5 and $6"), names=["valid/loss", "valid/accuracy"]
    )
    assert figure.get_supxlabel() == "ended after epoch 3: valid/loss has not improved, which costs $5 and $6"
    for axis in figure.axes:
        assert labels(axis)[-1] == "end"
        assert list(axis.lines[-1].get_xdata()) == [3.0, 3.0]  # type: ignore[arg-type]
    assert plots.history(history).get_supxlabel() == ""


def test_of_a_result_what_was_judged_is_marked_and_drawn() -> None:
    """Seen to fail when the best loss has the star whatever was judged, and when the least accuracy has it."""

    class Judging(Callback):
        """Says of made-up validations what they found."""

        found: ClassVar[list[float]] = [0.5, 0.9, 0.7, 0.6, 0.6]

        changes_run = True  # first in the order, so that the values are there for those that judge

        def on_validation_end(self, run: Any, event: Any) -> None:
            event.metrics["valid/score"] = self.found[event.progress.updates - 1]

    x, y = columns(8)
    stopping = EarlyStopping("valid/score", mode="max", patience=2)
    judged = trainer(callbacks=[Judging(), stopping]).fit(line(), (x, y), epochs=5, validation=(x, y))
    assert judged.judged == {"valid/score": 2}
    figure = judged.plot()
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "score"]
    assert labels(figure.axes[0]) == ["train/loss", "valid/loss", "end"]
    assert labels(figure.axes[1]) == ["valid/score", "best valid/score: 0.9 at epoch 2", "end"]
    assert labels(judged.plot(names=["valid/loss"]).axes[0]) == ["valid/loss", "end"]
    assert labels(judged.history.plot().axes[0])[-1].startswith("best valid/loss")
    plain = trainer().fit(line(), (x, y), epochs=2, validation=(x, y))
    assert plain.judged == {}
    assert labels(plain.plot().axes[0])[-2].startswith("best valid/loss")


def test_what_is_marked_is_what_the_rule_took_for_the_best(tmp_path: Path) -> None:
    """With min_delta a later, slightly better value is none. Of two that judge one metric, early stopping is asked."""
    x, y = columns(8)
    saver = Checkpoints(tmp_path / "run", best="valid/loss")
    made = trainer(callbacks=[EarlyStopping("valid/loss", min_delta=0.5, relative=True)], checkpoints=saver)
    judged = made.fit(line(seed=3), (x, y), epochs=80, validation=(x, y))
    values, place = judged.history["valid/loss"], judged.judged["valid/loss"]
    assert f"best {values[place - 1]:.4g} at epoch {place}" in judged.reason
    assert f"best valid/loss: {values[place - 1]:.4g} at epoch {place}" in labels(judged.plot().axes[0])
    assert min(values) < values[place - 1]
    alone = trainer(checkpoints=Checkpoints(tmp_path / "other", best="valid/loss")).fit(
        line(seed=3), (x, y), epochs=3, validation=(x, y)
    )
    assert alone.judged == {"valid/loss": alone.history.best("valid/loss").updates}


def test_a_result_draws_itself(tmp_path: Path) -> None:
    one = result(measured([1.0, 0.8], [1.1, 0.9]), "it was enough")
    figure = one.plot(tmp_path / "result.png", names=["valid/loss"])
    assert figure.get_supxlabel() == "ended after epoch 2: it was enough"
    assert len(figure.axes) == 1
    assert (tmp_path / "result.png").read_bytes().startswith(b"\x89PNG")


def test_a_long_reason_stays_below_the_panel_and_inside_the_figure() -> None:
    figure = plots.history(result(measured([1.0, 0.8], [1.1, 0.9]), "it went on and on until it ended " * 9))
    figure.draw_without_rendering()
    (axis,), (reason,) = figure.axes, figure.texts  # the only text that is the figure's own
    box = reason.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert not box.overlaps(axis.xaxis.label.get_window_extent())


CURVES = st.lists(st.floats(-5, 5), min_size=1, max_size=8)


@given(st.lists(CURVES, min_size=1, max_size=9), st.sampled_from(["min", "max"]))
@settings(max_examples=15, deadline=None)
def test_the_best_of_each_run_is_that_of_its_history(curves: list[list[float]], mode: Any) -> None:
    runs = {f"run {number}": measured(curve, curve) for number, curve in enumerate(curves)}
    (axis,) = plots.compare(runs, mode=mode).axes
    best = {name: history.best("valid/loss", mode) for name, history in runs.items()}
    assert labels(axis) == [f"{name}: {found.value:.4g} at epoch {found.epoch + 1}" for name, found in best.items()]
    stars = [line for line in axis.lines if line.get_marker() == "*"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in stars] == [  # type: ignore[index]
        (found.epoch + 1, found.value) for found in best.values()
    ]
    curves_drawn = [line for line in axis.lines if line.get_marker() != "*"]
    assert len({(str(line._dash_pattern), line.get_marker()) for line in curves_drawn}) == len(runs)  # type: ignore[attr-defined]


def test_runs_and_results_are_compared_by_updates_where_one_has_no_epoch() -> None:
    short = History()
    short.on_validation_end(RUN, Validated(Progress(0, 10, 10, 10), {"valid/loss": 0.5}))
    (axis,) = plots.compare({"whole": result(measured([1.0, 1.0], [0.9, 0.7]), "done"), "part": short}).axes
    assert axis.get_xlabel() == "updates"
    assert labels(axis) == ["whole: 0.7 at update 8", "part: 0.5 at update 10"]


def test_a_run_that_was_never_finite_has_no_star() -> None:
    (axis,) = plots.compare({"lost": measured([1.0], [math.nan])}).axes
    assert labels(axis) == ["lost: never finite"]
    assert [line for line in axis.lines if line.get_marker() == "*"] == []


def test_no_two_labels_of_a_comparison_overlap(tmp_path: Path) -> None:
    runs = {
        f"a run with a name of some length, number {number}, " + "x" * 20 * number: measured([1.0], [0.5]) for number in range(8)
    }
    figure = plots.compare(runs, tmp_path / "compare.png")
    figure.draw_without_rendering()
    (axis,) = figure.axes
    legend = axis.get_legend()
    assert legend is not None
    boxes = [text.get_window_extent() for text in legend.get_texts()]
    assert not [1 for i, box in enumerate(boxes) for other in boxes[i + 1 :] if box.overlaps(other)]
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert not legend.get_window_extent().overlaps(axis.get_window_extent().padded(-1.0))
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_compared_is_refused() -> None:
    history: Any = measured([1.0], [1.0])
    with pytest.raises(ArgumentTypeError, match=r"runs must be a mapping such as \{'small': result, 'large': other\}, got History"):
        plots.compare(history)
    with pytest.raises(ArgumentValueError, match="runs is empty"):
        plots.compare({})
    with pytest.raises(ArgumentTypeError, match=r"runs\['a'\] must be a History or a Result of fit, got 3"):
        plots.compare({"a": 3})  # type: ignore[dict-item]
    with pytest.raises(ArgumentValueError, match="run 'b' has no metric 'valid/loss'; there are: none yet"):
        plots.compare({"a": history, "b": History()})
    with pytest.raises(ArgumentValueError, match="mode must be one of 'min', 'max', got 'least'"):
        plots.compare({"a": history}, mode="least")  # type: ignore[arg-type]
    with pytest.raises(ArgumentTypeError, match=r"history must be a History or a Result of fit, got \[1\.0\]"):
        plots.history([1.0])  # type: ignore[arg-type]
