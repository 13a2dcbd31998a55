"""TableEncoder: what it learns is learnt from the training split alone, and what it makes is what was said."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import Tensor, nn

from torchflow import data, save_model
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, LeakError

Rows = dict[str, list[Any]]


def table(columns: Rows) -> data.Dataset[Any]:
    return data.from_frame(pd.DataFrame({name: pd.Series(cells, dtype=_dtype(cells)) for name, cells in columns.items()}))


def _dtype(cells: list[Any]) -> Any:
    return "datetime64[us]" if any(isinstance(cell, datetime) for cell in cells) else None


ROWS: Rows = {
    "size": [1.0, 2.0, None, 5.0, 4.0, 9.0],
    "sex": ["f", "m", "m", None, "f", "m"],
    "year": [2007, 2008, 2007, 2009, 2008, 2008],
    "when": [datetime(2024, 1, 1) + timedelta(days=3 * i, hours=i) for i in range(5)] + [None],
    "note": ["good bird", "Bird, bird!", "", "bad", None, "a bird"],
    "price": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0],
    "kind": ["b", "a", "b", "c", "a", "b"],
}


def test_the_kinds_of_columns_follow_from_the_table() -> None:
    encoding = data.TableEncoder(target="price", missing="indicator", cycles=["day"]).fit(table(ROWS))
    assert encoding.columns == (
        *("size", "size missing", "sex=f", "sex=m", "sex=(missing)", "year"),
        *("when", "when sin(day)", "when cos(day)", "when missing"),
        *("note=Bird, bird!", "note=a bird", "note=bad", "note=good bird", "note=(missing)"),
        *("kind=a", "kind=b", "kind=c"),
    )
    x, y = table(ROWS).map_batch(encoding).take_batch(range(6))
    assert x.shape == (6, len(encoding.columns))
    assert x.dtype == y.dtype == torch.float32
    assert y.shape == (6, 1)
    column = {name: x[:, place].tolist() for place, name in enumerate(encoding.columns)}
    assert column["size missing"] == [0, 0, 1, 0, 0, 0]
    assert column["size"][2] == 0
    assert column["sex=(missing)"] == [0, 0, 0, 1, 0, 0]
    assert column["sex=m"] == [0, 1, 1, 0, 0, 1]
    assert column["when cos(day)"] == pytest.approx([math.cos(2 * math.pi * i / 24) for i in range(5)] + [0], abs=1e-6)
    assert column["when missing"] == [0, 0, 0, 0, 0, 1]


def test_an_encoding_says_in_one_line_what_it_makes() -> None:
    rows = table({"size": [1.0, 2.0], "sex": ["f", "m"], "kind": ["b", "a"], "price": [1.0, 2.0]})
    assert repr(data.TableEncoder(target="kind").fit(rows)) == (
        "TableEncoding(size (number), sex (levels), price (number); x: float32 4, y: int64 2 classes; target kind)"
    )
    assert repr(data.TableEncoder(target="price").fit(rows)).endswith("target price)")
    assert repr(data.TableEncoder(numeric=["size"], categorical=[]).fit(rows)) == "TableEncoding(size (number); x: float32 1)"


def test_a_role_holds_just_what_it_names() -> None:
    encoder = data.TableEncoder(
        target="kind", numeric=["size"], categorical=["year"], text=["note"], datetime=[], missing="fill", words=2
    )
    encoding = encoder.fit(table(ROWS))
    assert encoding.columns == ("size", "year=2007", "year=2008", "year=2009", "note:bird", "note:a")
    assert encoding.classes == ("a", "b", "c")
    x, y = table(ROWS).map_batch(encoding).take_batch(range(6))
    assert y.tolist() == [1, 0, 1, 2, 0, 1]
    assert y.dtype == torch.int64
    assert x[:, 4].tolist() == pytest.approx([math.log(2), math.log(3), 0, 0, 0, math.log(2)])
    assert encoding.inverse(torch.tensor([[0.1, 0.9, 0.0]])) == ["b"]
    assert encoding.inverse(torch.tensor([2, 0])) == ["c", "a"]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.sampled_from("abc")), min_size=2, max_size=30))
def test_numbers_and_levels_are_those_of_scikit_learn(rows: list[tuple[float, str]]) -> None:
    frame = pd.DataFrame(rows, columns=["n", "c"])
    dataset = data.from_frame(frame)
    encoding = data.TableEncoder(dtype=torch.float64).fit(dataset)
    x = dataset.map_batch(encoding).take_batch(range(len(rows)))
    hot = OneHotEncoder(sparse_output=False).fit_transform(frame[["c"]])
    assert x[:, 1:].tolist() == hot.tolist()
    spread = float(frame["n"].std(ddof=0))
    if spread > 1e-9 * max(1.0, abs(float(frame["n"].mean()))):
        np.testing.assert_allclose(x[:, :1].numpy(), StandardScaler().fit_transform(frame[["n"]]), atol=1e-6)


CELLS = {
    "n": st.one_of(st.none(), st.floats(-1e3, 1e3)),
    "i": st.integers(-5, 5),
    "c": st.one_of(st.none(), st.sampled_from(["u", "v", "w", "x"])),
    "d": st.one_of(st.none(), st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1))),
    "t": st.text(alphabet="ab ", max_size=6),
}


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(["fill", "indicator"]), st.booleans(), st.sampled_from([1, 2]))
def test_no_row_outside_the_training_split_changes_the_encoder(draw: st.DataObject, missing: str, codes: bool, rare: int) -> None:
    size = draw.draw(st.integers(4, 12))
    columns: Rows = {name: draw.draw(st.lists(cell, min_size=size, max_size=size)) for name, cell in CELLS.items()}
    columns["y"] = draw.draw(st.lists(st.floats(-10, 10), min_size=size, max_size=size))
    rows = torch.tensor(draw.draw(st.permutations(range(size))))
    train, rest = rows[: size // 2], rows[size // 2 :]
    encoder = data.TableEncoder(
        target="y", numeric=["n", "i"], categorical=["c"], datetime=["d"], text=["t"], missing=missing,
        categories="codes" if codes else "one-hot", unknown="other", min_count=rare, cycles=["year", "month", "week", "day"],
    )  # fmt: skip
    before, after = (learnt(encoder, dataset.select(train)) for dataset in (table(columns), changed(columns, rest)))
    assert before == after


WRITTEN = {
    "whole": st.integers(-99, 99).map(str),
    "number": st.floats(-99, 99).map(str),
    "truth": st.sampled_from(["true", "false"]),
    "date": st.dates().map(str),
    "text": st.sampled_from(["u", "v", "two words"]),
}


TARGETS = ["whole", "number", "truth", "text"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["fill", "indicator"]))
def test_no_cell_of_a_file_outside_the_training_split_changes_the_encoder(
    tmp_path: Path, draw: st.DataObject, missing: str
) -> None:
    """What a column of a CSV file is follows from all of its cells. Seen to fail where the encoder takes that as it is."""
    size = draw.draw(st.integers(2, 9))
    kinds = [*draw.draw(st.lists(st.sampled_from(list(WRITTEN)), min_size=2, max_size=2)), draw.draw(st.sampled_from(TARGETS))]
    columns = [draw.draw(st.lists(WRITTEN[kind], min_size=size, max_size=size)) for kind in kinds]
    encoder = data.TableEncoder(target="c", missing=missing, unknown="other")

    def fitted(name: str, rest: list[tuple[str, ...]]) -> Any:
        lines = [",".join(column[row] for column in columns) for row in range(size)] + [",".join(row) for row in rest]
        (tmp_path / name).write_text("\n".join(["a,b,c", *lines]) + "\n")
        return learnt(encoder, data.from_csv(tmp_path / name).take(size))

    target = st.one_of(*(WRITTEN[kind] for kind in TARGETS))  # without gaps, which no target may have
    cell = st.one_of(*WRITTEN.values(), st.just(""))
    rest: st.SearchStrategy[list[tuple[str, ...]]] = st.lists(st.tuples(cell, cell, target), min_size=1, max_size=3)
    assert fitted("one.csv", draw.draw(rest)) == fitted("other.csv", draw.draw(rest))


def test_a_strange_cell_of_a_test_row_is_named_when_it_is_encoded(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("age,kind\n1,u\n2,v\n3,u\nabout 40,v\n")
    rows = data.from_csv(tmp_path / "t.csv")
    encoding = data.TableEncoder(target="kind").fit(rows.take(3))
    assert encoding.columns == ("age",)
    with pytest.raises(DataError, match=r"column 'age' is taken for numbers and holds 'about 40'. Correct that cell"):
        rows.map_batch(encoding).take_batch([3])
    assert data.TableEncoder(target="kind").fit(rows).columns[0] == "age=1"


def learnt(encoder: data.TableEncoder, train: data.Dataset[Any]) -> Any:
    """What an encoder learns, or why it learns nothing."""
    try:
        return encoder.fit(train).state()
    except DataError as error:
        return str(error)


def changed(columns: Rows, rows: Tensor) -> data.Dataset[Any]:
    """The table with other cells in some rows: larger numbers, new levels, new words, gaps."""
    other: Rows = {name: list(cells) for name, cells in columns.items()}
    for row in rows.tolist():
        new = {"n": 1e9, "i": 99, "c": "new", "d": datetime(1800, 1, 1), "t": "new words", "y": 1e6}
        for name, cell in new.items():
            other[name][row] = cell
    return table(other)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.booleans())
def test_a_row_is_encoded_as_in_a_batch_and_as_in_the_whole(draw: st.DataObject, codes: bool) -> None:
    size = draw.draw(st.integers(2, 9))
    columns: Rows = {name: draw.draw(st.lists(cell, min_size=size, max_size=size)) for name, cell in CELLS.items()}
    columns["y"] = draw.draw(st.lists(st.sampled_from(["yes", "no"]), min_size=size, max_size=size))
    columns["n"][0], columns["c"][0], columns["d"][0], columns["t"][0] = 1.0, "u", datetime(2000, 1, 1), "a"
    dataset = table(columns)
    encoder = data.TableEncoder(
        target="y", text=["t"], missing="indicator", categories="codes" if codes else "one-hot", cycles=["year"]
    )
    encoding = encoder.fit(dataset)
    lazy, made = dataset.map_batch(encoding), encoding.encode(dataset)
    assert lazy.source.columnar
    assert lazy.schema == made.schema == encoding.schema
    for index in range(size):
        for sample in (encoding(dataset[index]), made[index], lazy.take_batch([index, index])):
            for one, other in zip(leaves(sample), leaves(lazy[index]), strict=True):
                assert torch.equal(one[0] if one.ndim > other.ndim else one, other)


def leaves(sample: Any) -> list[Tensor]:
    x, y = sample
    return [*(x.values() if isinstance(x, dict) else [x]), y]


def test_codes_are_for_embeddings() -> None:
    encoding = data.TableEncoder(target="price", text=[], missing="indicator", categories="codes", min_count=2, datetime=[]).fit(
        table(ROWS)
    )
    assert encoding.sizes == {"sex": 3, "note": 2, "kind": 3} or "note" not in encoding.sizes
    x, _ = table(ROWS).map_batch(encoding).take_batch(range(6))
    assert x["codes"].dtype == torch.int64
    for place, size in enumerate(encoding.sizes.values()):
        assert nn.Embedding(size, 2)(x["codes"][:, place]).shape == (6, 2)
    assert encoding.schema["codes"].columns == tuple(encoding.sizes)
    assert encoding.schema.nested
    assert encoding.schema["numbers"].columns == encoding.columns


def test_levels_that_are_unknown_or_rare() -> None:
    train = table({"c": ["u", "u", "v", "v", "w"], "y": [1.0, 2.0, 3.0, 4.0, 5.0]})
    strange = table({"c": ["u", "z", None], "y": [1.0, 2.0, 3.0]})
    plain = data.TableEncoder(target="y").fit(train)
    with pytest.raises(
        DataError, match=r"column 'c' holds 'z', which the training split did not have: it had 'u', 'v', 'w'.*unknown=\"other\""
    ):
        plain(strange.take_batch([0, 1]))
    with pytest.raises(DataError, match="column 'c' has a gap in row 1 of the batch"):
        plain(strange.take_batch([0, 2]))
    other = data.TableEncoder(target="y", unknown="other", missing="fill").fit(train)
    assert other.columns == ("c=u", "c=v", "c=w", "c=(other)")
    assert other(strange.take_batch([0, 1, 2]))[0].argmax(1).tolist() == [0, 3, 0]
    rare = data.TableEncoder(target="y", min_count=2).fit(train)
    assert rare.columns == ("c=u", "c=v", "c=(other)")
    assert rare(train.take_batch([4]))[0].argmax(1).tolist() == [2]
    with pytest.raises(DataError, match="column 'c' holds 'z'"):
        rare(strange.take_batch([1]))
    with pytest.raises(DataError, match="column 'c' has a gap in row 0 of the batch"):
        data.TableEncoder(target="y", unknown="other").fit(train)(strange.take_batch([2]))


@pytest.mark.parametrize("rule", ["fill", "indicator"])
def test_gaps_that_only_others_have_are_filled_from_the_training_split(rule: str) -> None:
    train = table({"n": [1.0, 3.0], "c": ["u", "u"], "y": [0.0, 1.0]})
    encoding = data.TableEncoder(target="y", missing=rule).fit(train)
    assert encoding.columns == ("n", "c=u")
    x, _ = encoding(table({"n": [None, 3.0], "c": [None, "u"], "y": [0.0, 1.0]}).take_batch([0, 1]))
    assert x.tolist() == [[0.0, 1.0], [1.0, 1.0]]


def test_each_column_may_have_its_rule_for_gaps() -> None:
    encoder = data.TableEncoder(target="price", numeric=["size"], categorical=["sex"], datetime=[], missing={"size": "fill"})
    with pytest.raises(DataError, match=r"column 'sex' has a gap at sample 3 of the training split. Fit with missing="):
        encoder.fit(table(ROWS))
    encoding = data.TableEncoder(
        target="price", numeric=["size"], categorical=["sex"], datetime=[], missing={"size": "fill", "sex": "indicator"}
    ).fit(table(ROWS))
    assert encoding.columns == ("size", "sex=f", "sex=m", "sex=(missing)")


def test_numbers_that_are_not_scaled_stay_as_they_are() -> None:
    encoding = data.TableEncoder(
        target="price", numeric=["size", "year"], categorical=[], datetime=[], missing="fill", standardize=False
    ).fit(table(ROWS))
    x, y = encoding(table(ROWS).take_batch(range(6)))
    assert x[:, 0].tolist() == pytest.approx([1, 2, 21 / 5, 5, 4, 9])
    assert y[:, 0].tolist() == ROWS["price"]


def test_places_in_cycles() -> None:
    days = [
        datetime(2024, 1, 1),
        datetime(2024, 12, 31),
        datetime(2023, 7, 2, 12),
        datetime(1969, 12, 31, 18),
        datetime(2024, 2, 29),
    ]
    encoding = data.TableEncoder(cycles=["year", "month", "week", "day"], dtype=torch.float64).fit(table({"d": list(days)}))
    assert encoding.columns[1:] == tuple(
        f"d {wave}({cycle})" for cycle in ("year", "month", "week", "day") for wave in ("sin", "cos")
    )
    x = encoding(table({"d": list(days)}).take_batch(range(5)))
    turns: list[list[float]] = [
        [0, 0, 0, 0],
        [365 / 366, 30 / 31, 1 / 7, 0],
        [0.5, 1.5 / 31, 6.5 / 7, 0.5],
        [364.75 / 365, 30.75 / 31, 2.75 / 7, 0.75],
        [59 / 366, 28 / 29, 3 / 7, 0],
    ]
    expected = [[wave(2 * math.pi * turn) for turn in row for wave in (math.sin, math.cos)] for row in turns]
    np.testing.assert_allclose(x[:, 1:].numpy(), expected, atol=1e-9)
    seconds = np.array([day.replace(tzinfo=UTC).timestamp() for day in days])
    np.testing.assert_allclose(x[:, 0].numpy(), (seconds - seconds.mean()) / seconds.std(), atol=1e-9)


def test_dates_in_texts_are_dates_where_that_is_said() -> None:
    train = data.from_frame(pd.DataFrame({"d": ["2024-01-01", "2024-01-03"]}))
    assert data.TableEncoder(datetime=["d"]).fit(train)(train.take_batch([0, 1])).tolist() == [[-1.0], [1.0]]
    with pytest.raises(DataError, match=r"column 'd' is taken for dates and holds 1.1.24. Write dates as 2024-05-31"):
        data.TableEncoder(datetime=["d"]).fit(data.from_frame(pd.DataFrame({"d": ["1.1.24"]})))


def test_predictions_go_back_to_the_units_of_the_table() -> None:
    encoding = data.TableEncoder(
        target=["price", "year"], numeric=["size"], categorical=[], datetime=[], missing="fill", dtype=torch.float64
    ).fit(table(ROWS))
    _, y = encoding(table(ROWS).take_batch(range(6)))
    back = encoding.inverse(y)
    assert isinstance(back, Tensor)
    np.testing.assert_allclose(back.numpy(), np.stack([ROWS["price"], ROWS["year"]], axis=1))
    assert encoding.schema.target == ("price", "year")


def test_without_its_target_a_table_gives_inputs_alone() -> None:
    encoding = data.TableEncoder(target="y").fit(table({"a": [1.0, 2.0], "y": ["p", "q"]}))
    unlabelled = table({"a": [1.0, 2.0, 3.0]}).map_batch(encoding)
    assert unlabelled.take_batch([2]).shape == (1, 1)
    assert unlabelled.schema is not None
    assert [field.name for field in unlabelled.schema.fields] == ["x"]
    assert data.TableEncoder().fit(table({"a": [1.0, 3.0]})).schema.target == ()


def test_a_truth_value_or_a_number_can_be_a_class() -> None:
    flags = table({"a": [1.0, 2.0], "y": [True, False]})
    assert data.TableEncoder(target="y").fit(flags).classes == ("False", "True")
    numbers = table({"a": [1.0, 2.0, 3.0], "y": [10, 2, 2]})
    encoding = data.TableEncoder(target="y", classes=True).fit(numbers)
    assert encoding.classes == ("2", "10")
    assert encoding(numbers.take_batch([0, 1, 2]))[1].tolist() == [1, 0, 0]
    assert data.TableEncoder(target="y", classes=False).fit(flags)(flags.take_batch([0]))[1].tolist() == [[1.0]]


@pytest.mark.parametrize(
    "options", [{}, {"categories": "codes"}, {"min_count": 2, "unknown": "other"}, {"text": ["note"], "cycles": ["week"]}]
)
def test_an_encoder_is_saved_with_the_model(tmp_path: Path, options: dict[str, Any]) -> None:
    for target in ("price", "kind", None):
        encoding = data.TableEncoder(target=target, missing="indicator", **options).fit(table(ROWS))
        save_model(nn.Linear(1, 1), tmp_path / "model.safetensors", encoders={"rows": encoding})
        loaded = data.load_encoders(tmp_path / "model.safetensors")["rows"]
        assert loaded == encoding
        assert isinstance(loaded, data.TableEncoding)
        assert loaded.columns == encoding.columns


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": 3}, ArgumentTypeError, "target must be a column's name"),
        ({"numeric": ["a", "a"]}, ArgumentValueError, "numeric names a column twice"),
        ({"numeric": [1]}, ArgumentTypeError, "numeric must be a column's name"),
        ({"target": "a", "numeric": ["a"]}, ArgumentValueError, "'a' is in target and in numeric at once"),
        ({"text": ["a"], "categorical": ["a"]}, ArgumentValueError, "'a' is in categorical and in text at once"),
        ({"missing": "drop"}, ArgumentValueError, "missing must be one of 'error', 'fill', 'indicator', got 'drop'"),
        ({"missing": {"a": "drop"}}, ArgumentValueError, r"missing\['a'\] must be one of"),
        ({"missing": {1: "fill"}}, ArgumentTypeError, "missing must be a rule or a dict"),
        ({"categories": "hash"}, ArgumentValueError, "categories must be one of 'one-hot', 'codes'"),
        ({"unknown": "zero"}, ArgumentValueError, "unknown must be one of 'error', 'other'"),
        ({"min_count": 0}, ArgumentValueError, "min_count must be an int of at least 1"),
        ({"max_levels": "many"}, ArgumentTypeError, "max_levels must be an int"),
        ({"cycles": "year"}, ArgumentTypeError, "cycles must be a list such as"),
        ({"cycles": ["moon"]}, ArgumentValueError, "cycles must be one of 'year', 'month', 'week', 'day'"),
        ({"target": ["a", "b"], "classes": True}, ArgumentValueError, "a target of classes is one column, got 2"),
        ({"dtype": torch.int64}, ArgumentTypeError, "dtype must be a floating torch dtype"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.TableEncoder(**options)


@pytest.mark.parametrize(
    ("options", "columns", "message"),
    [
        ({"target": "pric"}, ROWS, r"a row has no column 'pric'. Its columns are 'size'.*Did you mean 'price'\?"),
        ({"missing": {"siz": "fill"}}, ROWS, "a row has no column 'siz'"),
        (
            {"numeric": ["sex"]},
            ROWS,
            "column 'sex' is taken for numbers and holds 'f'. Correct that cell, or name the column in categorical= or text=",
        ),
        ({"target": "size"}, ROWS, "target 'size' has a gap at sample 2 of the training split. Leave out such rows"),
        ({"target": ["kind", "price"]}, ROWS, "a target of classes is one column, got 'kind', 'price'"),
        ({"numeric": [], "categorical": [], "datetime": []}, ROWS, "no column is left to learn from"),
        ({}, {"n": [math.inf]}, "column 'n' is infinite in row 0"),
        ({"missing": "fill"}, {"n": [math.nan]}, "column 'n' has nothing but gaps in the training split"),
        ({"missing": "fill", "categorical": ["n"]}, {"n": [math.nan]}, "column 'n' has nothing but gaps"),
        ({"max_levels": 2}, {"c": ["a", "b", "c"]}, "column 'c' has 3 different values, and at most 2 become levels.*min_count="),
        ({"missing": "fill", "min_count": 2}, {"c": ["a", "b"]}, "column 'c' has no level that stands 2 times"),
        ({"text": ["c"]}, {"c": ["", "?"]}, "column 'c' has no words in the training split"),
    ],
)
def test_what_cannot_be_learnt_from_is_named(options: dict[str, Any], columns: Rows, message: str) -> None:
    with pytest.raises(DataError, match=message):
        data.TableEncoder(**{"missing": "indicator", **options}).fit(table(columns))


def test_what_is_no_row_is_refused() -> None:
    pairs = data.from_tensors((torch.rand(3, 2), torch.rand(3)))
    with pytest.raises(
        DataError, match=r"TableEncoder needs rows, dicts of cells by column, got .*tuple.*Read the table without target="
    ):
        data.TableEncoder().fit(pairs)
    with pytest.raises(ArgumentTypeError, match=r"TableEncoder.fit takes the training Dataset"):
        data.TableEncoder().fit(pd.DataFrame({"a": [1]}))  # type: ignore[arg-type]
    encoding = data.TableEncoder(target="y").fit(table({"a": [1.0, 2.0], "y": [1.0, 2.0]}))
    with pytest.raises(DataError, match="TableEncoder needs rows"):
        encoding(pairs.take_batch([0]))
    with pytest.raises(DataError, match=r"a row has no column 'a', which the encoder was fitted with. It has 'b'"):
        encoding({"b": torch.ones(2)})
    with pytest.raises(DataError, match="target 'y' has a gap in row 1 of the batch"):
        encoding({"a": torch.ones(2), "y": torch.tensor([1.0, math.nan])})
    with pytest.raises(ArgumentTypeError, match="encode takes a Dataset of rows"):
        encoding.encode([1])  # type: ignore[arg-type]
    with pytest.raises(ArgumentValueError, match="encode makes every sample once, and this dataset has a random map"):
        encoding.encode(table({"a": [1.0], "y": [1.0]}).map_random(lambda row, generator: row))
    with pytest.raises(ArgumentTypeError, match="predictions of numbers must be a floating tensor"):
        encoding.inverse(torch.tensor([1]))
    with pytest.raises(ArgumentValueError, match=r"predictions must have the shape \(batch, 1\), got \(3,\)"):
        encoding.inverse(torch.rand(3))
    with pytest.raises(ArgumentValueError, match="fitted without a target"):
        data.TableEncoder().fit(table({"a": [1.0]})).inverse(torch.rand(1, 1))
    classes = data.TableEncoder(target="y").fit(table({"a": [1.0, 2.0], "y": ["p", "q"]}))
    with pytest.raises(DataError, match="target 'y' holds 'r', and the training split had the classes 'p', 'q'"):
        classes(table({"a": [1.0], "y": ["r"]}).take_batch([0]))
    with pytest.raises(ArgumentValueError, match="class indices must be from 0 to 1, got 2"):
        classes.inverse(torch.tensor([2]))
    with pytest.raises(ArgumentValueError, match=r"scores must have the shape \(batch, 2\), got \(1, 3\)"):
        classes.inverse(torch.rand(1, 3))
    with pytest.raises(ArgumentTypeError, match="predictions must be a tensor"):
        classes.inverse([1])  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_state_with_anything_else_in_it_is_refused_with_a_typed_error(draw: st.DataObject) -> None:
    target = draw.draw(st.sampled_from(["price", "kind", None]))
    state: Any = copy.deepcopy(FITTED[target].state())
    places = list(places_in(state))
    *path, last = draw.draw(st.sampled_from(places))
    owner = state
    for step in path:
        owner = owner[step]
    owner[last] = draw.draw(st.sampled_from([None, True, "text", -1, math.nan, math.inf, [], ["x"], {}, 10**400]))
    try:
        loaded = data.encoder_from_state(state)
    except (ArgumentValueError, ArgumentTypeError):
        return
    assert loaded.state()["encoder"] in ("table", "standardize", "categories")
    if isinstance(loaded, data.TableEncoding):
        with contextlib.suppress(DataError):
            loaded(table(ROWS).take_batch([0, 1, 5]))


def places_in(tree: Any) -> Iterator[tuple[Any, ...]]:
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield (key,)
        yield from ((key, *rest) for rest in places_in(value))


FITTED = {
    target: data.TableEncoder(target=target, missing="indicator", text=["note"], cycles=["week"]).fit(table(ROWS))
    for target in ("price", "kind", None)
}


def test_an_encoded_part_stays_the_part_of_a_split_that_it_was() -> None:
    train, test = table(ROWS).split(0.5, 0.5)
    encoding = data.TableEncoder(target="price", numeric=["year"], categorical=[], datetime=[]).fit(train)
    data.Standardize(0).fit(encoding.encode(train))
    with pytest.raises(LeakError):
        data.Standardize(0).fit(encoding.encode(test))
    with pytest.raises(LeakError, match=r"TableEncoder.fit was given part 1 of 2"):
        data.TableEncoder(target="price").fit(test)
