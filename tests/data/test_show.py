"""Samples as pictures: every kind is drawn as what it is."""

from __future__ import annotations

import builtins
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from torchflow import data
from torchflow.data import Dataset, Field, Schema
from torchflow.data.show import kind_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError, MissingExtraError

IMAGES = torch.linspace(0, 1, 6 * 3 * 8 * 10).reshape(6, 3, 8, 10)


def described(*parts: tuple[torch.Tensor, Field]) -> Dataset[Any]:
    tensors = tuple(tensor for tensor, _ in parts)
    dataset: Dataset[Any] = data.from_tensors(tensors if len(tensors) > 1 else tensors[0])
    dataset.source.schema = Schema(tuple(field for _, field in parts))
    return dataset


def titles(figure: Figure) -> list[str]:
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for axis in figure.axes for text in axis.texts)


def table_of(figure: Figure) -> dict[tuple[int, int], str]:
    (table,) = figure.axes[0].tables
    return {place: cell.get_text().get_text() for place, cell in table.get_celld().items()}


KINDS: dict[str, tuple[Field, Any, str]] = {
    "by dims": (Field("x", dims=("channel", "height", "width")), np.zeros((5, 8, 8)), "image"),
    "a grey plane": (Field("x", dims=("height", "width")), np.zeros((8, 8)), "image"),
    "a volume over time": (Field("x", dims=("time", "height", "width")), np.zeros((5, 8, 8)), "clip"),
    "frames": (Field("x", dims=("frame", "height", "width", "channel")), np.zeros((5, 8, 8, 3)), "clip"),
    "mel": (Field("x", dims=("channel", "frequency", "time")), np.zeros((1, 64, 99)), "spectrogram"),
    "stereo": (Field("x", dims=("channel", "time")), np.zeros((2, 99)), "lines"),
    "one-hot": (Field("x", dims=("base", "position")), np.zeros((4, 99)), "bases"),
    "codes": (Field("x", dims=("position",)), np.zeros(99, dtype=np.int64), "text"),
    "qualities": (Field("x", dims=("position",)), np.zeros(99), "lines"),
    "rgb": (Field("x"), np.zeros((3, 32, 32)), "image"),
    "rgb last": (Field("x"), np.zeros((32, 32, 3)), "image"),
    "a stack": (Field("x"), np.zeros((16, 32, 32)), "clip"),
    "a clip": (Field("x"), np.zeros((16, 3, 32, 32)), "clip"),
    "a plane": (Field("x"), np.zeros((28, 28)), "image"),
    "a sound by name": (Field("audio"), np.zeros((1, 16)), "lines"),
    "a sound by unit": (Field("x", unit="amplitude at 8000 Hz"), np.zeros((30, 40)), "lines"),
    "a series": (Field("x"), np.zeros((100, 3)), "lines"),
    "a long vector": (Field("x"), np.zeros(100), "lines"),
    "letters": (Field("sequence"), np.zeros(100, dtype=np.int64), "text"),
    "a row": (Field("x"), np.zeros(8), "value"),
    "a number": (Field("x"), np.zeros(()), "value"),
    "a text": (Field("x"), "word", "text"),
    "a text as target": (Field("x", target=True), "word", "value"),
    "targets": (Field("y", target=True), np.zeros(9), "value"),
    "a mask": (Field("y", target=True), np.zeros((32, 32)), "image"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_a_part_follows_from_its_field_and_else_from_its_shape(kind: str) -> None:
    field, value, expected = KINDS[kind]
    assert kind_of(field, value) == expected


def test_images_stand_under_the_names_of_their_classes(tmp_path: Path) -> None:
    label = Field("label", (), torch.int64, classes=("cat", "dog $1$"), target=True)
    image = Field("image", (3, 8, 10), torch.float32, dims=("channel", "height", "width"))
    dataset = described((IMAGES, image), (torch.tensor([0, 1, 0, 1, 0, 1]), label))
    figure = dataset.show(3, tmp_path / "images.png")
    assert titles(figure) == ["cat", "cat", "dog $1$"]  # samples 0, 2 and 5: evenly, from the first to the last
    (drawn,) = figure.axes[0].images
    assert np.allclose(np.asarray(drawn.get_array()), IMAGES[0].permute(1, 2, 0).numpy())
    assert (tmp_path / "images.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.float64, torch.bfloat16, torch.bool])
def test_pictures_of_any_depth_are_drawn_from_black_to_white(dtype: torch.dtype) -> None:
    image = torch.zeros(1, 8, 8, dtype=dtype)
    image[0, 0, 0] = 255 if dtype != torch.bool else 1
    (drawn,) = data.from_tensors(image[None]).show(1).axes[0].images
    assert (float(drawn.get_array().min()), float(drawn.get_array().max())) == (0.0, 1.0)  # type: ignore[union-attr]


def test_values_that_are_not_finite_do_not_spoil_a_picture() -> None:
    image = torch.rand(1, 8, 8) * 5
    image[0, 0, 0], image[0, 1, 1] = float("nan"), float("inf")
    (drawn,) = data.from_tensors(image[None]).show(1).axes[0].images
    assert np.isfinite(np.asarray(drawn.get_array())).all()
    data.from_tensors(torch.full((1, 1, 8, 8), float("nan"))).show(1)


def test_sound_is_drawn_over_seconds_and_a_long_one_by_its_envelope() -> None:
    wave = torch.zeros(2, 1, 16_000)
    wave[0, 0, 12_345] = 0.9
    figure = described((wave, Field("audio", (1, 16_000), torch.float32, "amplitude at 8000 Hz"))).show()
    axis = figure.axes[0]
    assert axis.get_xlabel() == "seconds"
    assert axis.get_xlim()[1] == pytest.approx(2.0, rel=0.1)
    assert axis.get_ylim()[1] >= 0.9  # one sample among so many is not lost


def test_a_clip_is_a_row_of_frames_and_its_sound_stands_below() -> None:
    frames = torch.rand(1, 20, 3, 12, 16)
    clip = Field("frames", (20, 3, 12, 16), torch.float32, dims=("time", "channel", "height", "width"), rate=10.0)
    sound = Field("audio", (2, 100), torch.float32, dims=("channel", "time"), rate=50.0)
    figure = described((frames, clip), (torch.rand(1, 2, 100), sound)).show()
    (strip,) = figure.axes[0].images
    assert np.asarray(strip.get_array()).shape == (12, 8 * 16 + 7, 3)
    assert len(figure.axes[1].lines) == 2
    assert figure.axes[1].get_ylabel() == "audio"


def test_series_are_lines_with_the_names_of_their_columns() -> None:
    wind: Dataset[Any] = described((torch.rand(30, 2), Field("wind", (2,), torch.float32, "m/s", columns=("u", "v"))))
    figure = wind.windows(20, 4, horizon=4).show(1)
    past, ahead = figure.axes
    assert [len(line.get_xdata()) for line in past.lines] == [20, 20]  # type: ignore[arg-type]
    assert [len(line.get_xdata()) for line in ahead.lines] == [4, 4]  # type: ignore[arg-type]
    assert past.get_ylabel() == "wind\nm/s"
    legend = past.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["u", "v"]


def test_a_spectrogram_has_time_to_the_right() -> None:
    mel = Field("mel", (1, 40, 100), torch.float32, dims=("channel", "frequency", "time"), rate=50.0)
    axis = described((torch.rand(1, 1, 40, 100), mel)).show().axes[0]
    assert axis.get_xlim() == (0.0, 2.0)
    turned = Field("mel", (100, 40), torch.float32, dims=("time", "frequency"))
    (plane,) = described((torch.rand(1, 100, 40), turned)).show().axes[0].images
    assert np.asarray(plane.get_array()).shape == (40, 100)


def test_texts_and_codes_are_letters() -> None:
    assert "costs $5" in texts(data.from_iterable(["a text that costs $5\x00 and has a tab\t in it, 漢字"]).show())
    codes = torch.tensor([[0, 1, 2, 3, 4, 9]])
    dna = Field("sequence", (6,), torch.int64, classes=tuple("ACGTN"), dims=("position",))
    assert texts(described((codes, dna)).show()) == "ACGTN?"
    words = Field("tokens", (6,), torch.int64, classes=("to", "be", "or", "not", "."), dims=("position",))
    assert texts(described((codes, words)).show()) == "to be or not . ?"
    assert texts(described((codes, Field("tokens", (6,), torch.int64))).show()) == "0 1 2 3 4 9"


def test_rows_are_a_table_under_the_names_of_their_columns() -> None:
    table: Dataset[Any] = described(
        (torch.tensor([[1.5, 2.0], [3.25, 4.0]]), Field("x", (2,), torch.float32, columns=("width", "height"))),
        (torch.tensor([1, 0]), Field("kind", (), torch.int64, classes=("a", "b"), target=True)),
    )
    cells = table_of(table.show())
    assert [cells[row, column] for row in range(3) for column in range(3)] == [
        "width",
        "height",
        "kind",
        "1.5",
        "2",
        "b",
        "3.25",
        "4",
        "a",
    ]
    rows = data.from_iterable([{"name": "Adelie", "mass": 3750.0}, {"name": "Gentoo", "mass": float("nan")}])
    assert table_of(rows.show())[2, 1] == "nan"
    wide = data.from_tensors({f"c{place}": torch.zeros(2) for place in range(30)})
    assert table_of(wide.show())[0, 12] == "18 more"


def test_samples_of_which_nothing_is_known_are_drawn_all_the_same() -> None:
    for samples in ([1, 2], [None, None], [(1, "a"), (2, "b")], [{"x": torch.rand(3, 9, 9), "y": 1}], [torch.rand(2, 2, 2, 2, 2)]):
        assert isinstance(data.from_iterable(samples).show(), Figure)


@pytest.mark.parametrize(
    ("n", "error", "message"),
    [
        (0, ArgumentValueError, "n must be an int of at least 1"),
        (65, ArgumentValueError, "n must be at most 64, got 65"),
        ("8", ArgumentTypeError, "n must be an int"),
    ],
)
def test_a_wrong_number_of_samples_is_refused(n: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.from_tensors(torch.zeros(100, 2)).show(n)


def test_an_empty_dataset_has_nothing_to_show() -> None:
    with pytest.raises(ArgumentValueError, match="the dataset is empty"):
        data.from_tensors(torch.zeros(3, 2)).take(0).show()


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"plots need matplotlib.*torchflow-train\[plot\]"):
        data.from_tensors(torch.zeros(3, 2)).show()
