"""Figures of predictions show every sample once, say the numbers that they show, and no label lies over another."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import metrics, plots
from torchflow.errors import ArgumentTypeError, ArgumentValueError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

pytest.importorskip("matplotlib")

PAIRS = st.lists(st.tuples(*[st.floats(-1e6, 1e6, allow_subnormal=False)] * 2), min_size=1, max_size=60)
Draw = Callable[..., "Figure"]


def overlapping(texts: Sequence[Text]) -> list[tuple[str, str]]:
    """The pairs of texts whose boxes share an area."""
    shown = [(text.get_text(), text.get_window_extent().padded(-0.5)) for text in texts if text.get_text() and text.get_visible()]
    return [(one, other) for (one, box), (other, second) in itertools.combinations(shown, 2) if box.overlaps(second)]


def texts_of(axis: Axes) -> list[Text]:
    """Every text of a panel that is drawn: of the ticks, those inside the limits."""
    if not axis.axison:
        return []
    ticks: list[Text] = []
    for line, limits in ((axis.xaxis, axis.get_xlim()), (axis.yaxis, axis.get_ylim())):
        inside = [tick for tick in line.get_major_ticks() if min(limits) <= float(tick.get_loc()) <= max(limits)]
        ticks += [text for tick in inside for text in (tick.label1, tick.label2)]
    legend = axis.get_legend()
    titles = [axis.title, axis._left_title]  # type: ignore[attr-defined]  # a title that begins at the left is kept there
    own = [axis.xaxis.label, axis.yaxis.label, axis.xaxis.get_offset_text(), axis.yaxis.get_offset_text(), *axis.texts]
    found = [*ticks, *own, *titles, *(legend.get_texts() if legend else [])]
    return [text for text in found if text.get_text() and text.get_visible()]


def check_layout(figure: Figure) -> None:
    """No text lies over another, and none leaves the figure."""
    figure.draw_without_rendering()
    texts = [text for axis in figure.axes for text in texts_of(axis)]
    assert texts
    assert overlapping(texts) == []
    for text in texts:
        box = text.get_window_extent()
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= figure.bbox.x1 + 1, text
        assert box.y1 <= figure.bbox.y1 + 1, text


def title(axis: Axes) -> str:
    return axis.get_title("left") or axis.get_title()


@given(PAIRS)
@settings(max_examples=15, deadline=None)
def test_every_sample_is_a_point_inside_its_panel(pairs: list[tuple[float, float]]) -> None:
    predicted, measured = np.array(pairs).T
    axis = plots.regression(predicted, measured).axes[0]
    points = np.asarray(axis.collections[0].get_offsets())
    assert np.array_equal(points, np.stack((measured, predicted), 1))
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    assert left < points[:, 0].min()
    assert points[:, 0].max() < right
    assert bottom < points[:, 1].min()
    assert points[:, 1].max() < top


@given(PAIRS)
@settings(max_examples=15, deadline=None)
def test_every_residual_is_in_one_bar(pairs: list[tuple[float, float]]) -> None:
    predicted, measured = np.array(pairs).T
    left, right = plots.residuals(predicted, measured).axes
    assert np.array_equal(np.asarray(left.collections[0].get_offsets())[:, 1], measured - predicted)
    bars: list[Any] = list(right.patches)
    assert sum(bar.get_width() for bar in bars) == len(pairs)


def test_r_squared_is_that_of_the_metric() -> None:
    measured = torch.linspace(0, 1, 50)
    predicted = measured + 0.1 * torch.sin(40 * measured)
    metric = metrics.R2()
    metric.update(predicted[:, None], measured[:, None])
    rmse = math.sqrt(float((predicted - measured).square().mean()))
    assert title(plots.regression(predicted, measured).axes[0]) == f"R² {float(metric.compute()):.3f}   RMSE {rmse:.3g}   n 50"


def test_what_is_left_out_is_counted() -> None:
    predicted, measured = torch.arange(6.0), torch.tensor([0.0, torch.nan, 2.0, 3.0, torch.inf, 5.0])
    figure = plots.regression(predicted, measured)
    assert title(figure.axes[0]).endswith("n 4\n2 more not finite")
    assert len(np.asarray(figure.axes[0].collections[0].get_offsets())) == 4


def test_constant_targets_have_no_r_squared() -> None:
    assert "R² undefined" in title(plots.regression([1.0, 2.0], [3.0, 3.0]).axes[0])


def test_many_samples_become_hexagons_that_hold_them_all() -> None:
    values = np.random.default_rng(0).normal(size=(2, 6_000))
    for draw in (plots.regression, plots.residuals):
        figure = draw(values[0], values[1])
        held: Any = figure.axes[0].collections[0].get_array()
        assert held.sum() == 6_000
        check_layout(figure)


@pytest.mark.parametrize("draw", [plots.regression, plots.residuals])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 3e5])
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_no_label_of_predictions_overlaps_another(draw: Draw, outputs: int, scale: float) -> None:
    generator = np.random.default_rng(1)
    measured = generator.normal(size=(200, outputs)) * scale
    predicted = measured + generator.normal(size=measured.shape) * scale / 3
    predicted[3] = math.nan
    check_layout(draw(predicted, measured, names=[f"output of a $long name$ {number}, m/s" for number in range(outputs)]))


@pytest.mark.parametrize("draw", [plots.regression, plots.residuals])
def test_tensors_arrays_and_lists_are_the_same(draw: Draw, tmp_path: Path) -> None:
    values = [[1.0, 2.5], [2.0, 2.0], [4.0, 0.0]]
    pictures = []
    kinds: list[Any] = [values, np.array(values), torch.tensor(values, requires_grad=True), torch.tensor(values).bfloat16()]
    for number, kind in enumerate(kinds):
        path = tmp_path / f"{number}.png"
        draw(kind, kind, path)
        pictures.append(path.read_bytes())
    assert pictures[0].startswith(b"\x89PNG")
    assert pictures == pictures[:1] * 4


WRONG_PAIRS: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "shapes": (([1.0, 2.0], [1.0]), {}, ArgumentValueError, r"got \(2, 1\) and \(1, 1\)\. Reshape one of them"),
    "broadcast": ((torch.ones(3, 3), torch.ones(3)), {}, ArgumentValueError, r"got \(3, 3\) and \(3, 1\)"),
    "three dimensions": (
        (torch.ones(2, 2, 2), torch.ones(2)),
        {},
        ArgumentValueError,
        r"predictions must have shape \(samples,\) or",
    ),
    "no number": ((["a"], [1.0]), {}, ArgumentTypeError, "predictions must be a tensor, an array or a list of numbers"),
    "truth values": (([1.0], [True]), {}, ArgumentTypeError, r"targets must be real numbers, got torch\.bool"),
    "nothing": (([], []), {}, ArgumentValueError, "none of the 0 pairs is finite"),
    "nothing finite": (([1.0], [math.nan]), {}, ArgumentValueError, "none of the 1 pairs is finite"),
    "no outputs": ((torch.ones(2, 0), torch.ones(2, 0)), {}, ArgumentValueError, "1 to 9 outputs, got 0"),
    "many outputs": ((torch.ones(2, 10), torch.ones(2, 10)), {}, ArgumentValueError, r"got 10\. Take some: predictions\[:, :9\]"),
    "names": (([1.0], [1.0]), {"names": ["a", "b"]}, ArgumentValueError, r"names must be a list of 1 text\(s\)"),
    "a name": (([1.0], [1.0]), {"names": "a"}, ArgumentValueError, r"names must be a list of 1 text\(s\)"),
    "a path": (([1.0], [1.0], ""), {}, ArgumentValueError, "path must be a path that is not empty"),
}


@pytest.mark.parametrize("draw", [plots.regression, plots.residuals])
@pytest.mark.parametrize("wrong", WRONG_PAIRS)
def test_what_are_no_pairs_is_refused(draw: Draw, wrong: str) -> None:
    arguments, words, error, message = WRONG_PAIRS[wrong]
    with pytest.raises(error, match=message):
        draw(*arguments, **words)


@given(st.integers(2, 14), st.data())
@settings(max_examples=15, deadline=None)
def test_the_cells_of_a_confusion_hold_every_sample_once(size: int, drawn: st.DataObject) -> None:
    labels = st.lists(st.integers(0, size - 1), min_size=30, max_size=30)
    truth, guesses = drawn.draw(labels), drawn.draw(labels)
    axis = plots.confusion(guesses, truth, classes=[str(number) for number in range(size)]).axes[0]
    found: list[tuple[int, int]] = []
    for text in axis.texts:
        column, row = (round(float(value)) for value in text.get_position())
        found += [(row, column)] * int(text.get_text())
    assert sorted(found) == sorted(zip(truth, guesses, strict=True))
    wrong = sum(one != other for one, other in zip(truth, guesses, strict=True))
    assert title(axis) == f"accuracy {1 - wrong / 30:.3f}, {wrong} of 30 wrong"


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


@given(st.lists(NAMES, min_size=2, max_size=34), st.integers(1, 200_000))
@settings(max_examples=12, deadline=None)
def test_no_label_of_a_confusion_overlaps_another(names: list[str], most: int) -> None:
    truth = torch.arange(len(names)).repeat_interleave(2)
    guesses = torch.cat((truth[1:], truth[:1]))
    rare = torch.zeros(most, dtype=torch.int64)
    check_layout(plots.confusion(torch.cat((guesses, rare)), torch.cat((truth, rare)), classes=names))


def test_hundreds_of_classes_have_some_names_and_no_numbers() -> None:
    labels = torch.arange(300)
    figure = plots.confusion(labels, labels)
    axis = figure.axes[0]
    assert len(axis.texts) == 0
    assert [text.get_text() for text in axis.get_xticklabels()][:3] == ["0", "5", "10"]
    check_layout(figure)


def test_scores_and_their_highest_classes_give_one_figure(tmp_path: Path) -> None:
    scores, truth = torch.eye(3)[[0, 1, 2, 2]], torch.tensor([0, 1, 1, 2])
    plots.confusion(scores, truth, tmp_path / "scores.png")
    plots.confusion(scores.argmax(1).tolist(), truth.numpy(), str(tmp_path / "classes.png"))
    assert (tmp_path / "scores.png").read_bytes() == (tmp_path / "classes.png").read_bytes()


def test_a_class_that_never_comes_has_an_empty_row() -> None:
    figure = plots.confusion(torch.tensor([[0.0, 1.0, 0.0]]), torch.tensor([1]))
    shares: Any = figure.axes[0].images[0].get_array()
    assert shares.tolist() == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_a_shade_rises_in_lightness_without_a_turn() -> None:
    colours = pytest.importorskip("matplotlib").colormaps["Blues"](np.linspace(0, 1, 50))[:, :3]
    lightness = colours @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(lightness) < 0).all()


WRONG_CLASSES: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "lengths": (([0, 1], [0]), {}, ArgumentValueError, r"got \(2,\) and \(1,\)"),
    "one-hot targets": (
        (torch.eye(2), torch.eye(2)),
        {},
        ArgumentValueError,
        r"targets classes \(samples,\), got \(2, 2\) and \(2, 2\)",
    ),
    "logits": (([0.3, -0.2], [0, 1]), {}, ArgumentTypeError, r"write \(scores > 0\)\.long\(\)"),
    "fractions": ((torch.eye(2), [0.0, 1.0]), {}, ArgumentTypeError, "targets of shape .* must be whole numbers"),
    "ignored": ((torch.eye(2), [0, -100]), {}, ArgumentValueError, r"targets must be classes from 0 to 1, got -100 \(1 such\)"),
    "outside": (([0, 3], [0, 1]), {"classes": ["a", "b"]}, ArgumentValueError, r"predictions must be classes from 0 to 1, got 3"),
    "names": ((torch.eye(2), [0, 1]), {"classes": ["a"]}, ArgumentValueError, "classes must be a list of 2 names"),
    "nothing": (([], []), {}, ArgumentValueError, "there are no samples"),
    "text": (("cat", [0]), {}, ArgumentTypeError, "predictions must be a tensor, an array or a list of numbers, got 'cat'"),
    "many": (([5_000], [0]), {}, ArgumentValueError, "at most 1000 classes, got 5001"),
}


@pytest.mark.parametrize("wrong", WRONG_CLASSES)
def test_what_are_no_classes_is_refused(wrong: str) -> None:
    arguments, words, error, message = WRONG_CLASSES[wrong]
    with pytest.raises(error, match=message):
        plots.confusion(*arguments, **words)


def test_the_numbers_of_a_cell_are_readable_on_its_shade() -> None:
    truth = torch.tensor([0] * 10 + [1] * 10)
    guesses = torch.tensor([0] * 9 + [1] + [1] * 6 + [0] * 4)
    colours = {text.get_text(): str(text.get_color()) for text in plots.confusion(guesses, truth).axes[0].texts}
    assert colours == {"9": "white", "1": "black", "6": "white", "4": "black"}


def test_names_and_numbers_are_taken_as_they_are() -> None:
    figure = plots.confusion([0, 1], [0, 1], classes=["$a_b", "a name that is much too long to stand at a row"])
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names[0] == "$a_b"
    assert re.fullmatch(r"a name that.*….*at a row", names[1])
    assert len(names[1]) <= 24
    check_layout(figure)
