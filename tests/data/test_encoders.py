from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import Categories, Standardize, encoder_from_state
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Record:
    x: Any
    y: Any


@given(rows=st.integers(1, 40), columns=st.integers(1, 4), offset=st.sampled_from([0.0, 1e6]), chunk=st.integers(1, 13))
@settings(deadline=None, max_examples=40)
def test_the_moments_are_those_of_all_samples_at_once(rows: int, columns: int, offset: float, chunk: int) -> None:
    x = np.random.default_rng(rows * 100 + columns).normal(offset, 2.0, (rows, columns))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchflow.data.fields._AT_ONCE", chunk)
        fitted = Standardize(None).fit(data.from_arrays(x))
    assert np.allclose(fitted.mean.numpy(), x.mean(0), rtol=1e-12)
    expected = np.where(x.std(0) < 1e-9, 1.0, x.std(0))
    assert np.allclose(fitted.std.numpy(), expected, rtol=1e-7)


@pytest.mark.parametrize(
    ("wrap", "field"),
    [
        (lambda x: (x, x), 0),
        (lambda x: (x, x), -1),
        (lambda x: {"x": x, "y": x}, "y"),
        (lambda x: Pair(x, x), "x"),
        (lambda x: Pair(x, x), 1),
        (lambda x: Record(x, x), "y"),
        (lambda x: x, None),
    ],
)
def test_one_field_is_scaled_and_the_rest_is_kept(wrap: Any, field: Any) -> None:
    x = torch.randn(50, 3) * 5 + 2
    dataset = data.from_tensors(wrap(x))
    fitted = Standardize(field).fit(dataset)
    scaled = dataset.map_batch(fitted).take_batch(range(50))
    assert type(scaled) is type(wrap(x))
    parts = list(scaled) if isinstance(scaled, tuple) else list(vars(scaled).values()) if isinstance(scaled, Record) else scaled
    parts = list(parts.values()) if isinstance(parts, dict) else parts if isinstance(parts, list) else [parts]
    changed = [part for part in parts if not torch.equal(part, x)]
    assert len(changed) == 1
    assert changed[0].dtype == torch.float32
    assert torch.allclose(changed[0].mean(0), torch.zeros(3), atol=1e-6)
    assert torch.allclose(changed[0].std(0, unbiased=False), torch.ones(3), atol=1e-5)
    assert torch.allclose(fitted.inverse(changed[0]), x, atol=1e-5)
    one = fitted(dataset[7])
    assert type(one) is type(dataset[7])


def test_a_constant_column_becomes_zero() -> None:
    fitted = Standardize(None).fit(data.from_tensors(torch.tensor([[0.1, 1.0], [0.1, 3.0], [0.1, 5.0]])))
    assert fitted.std[0] == 1
    assert fitted(torch.tensor([[0.1, 3.0]])).tolist() == [[0, 0]]


def test_whole_numbers_are_scaled_in_the_default_dtype() -> None:
    fitted = Standardize(None).fit(data.from_tensors(torch.arange(4)))
    assert fitted(torch.arange(4)).dtype == torch.float32
    assert fitted(torch.arange(4.0).double()).dtype == torch.float64


@given(values=st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=20))
@settings(deadline=None, max_examples=40)
def test_categories_are_codes_in_sorted_order_and_back(values: list[str]) -> None:
    dataset = data.from_iterable([(value, 1.0) for value in values])
    fitted = Categories(0).fit(dataset)
    codes, _ = dataset.map_batch(fitted).take_batch(range(len(values)))
    assert codes.tolist() == [sorted(set(values)).index(value) for value in values]
    assert codes.dtype == torch.int64
    assert fitted.inverse(codes) == values
    assert fitted.size == len(set(values))
    assert [int(sample[0]) for sample in dataset.map(fitted)] == codes.tolist()


def test_categories_of_numbers_keep_their_shape() -> None:
    dataset = data.from_tensors(torch.tensor([[10, 30], [20, 10]]))
    fitted = Categories(None).fit(dataset)
    assert fitted(torch.tensor([[30, 10], [20, 20]])).tolist() == [[2, 0], [1, 1]]
    assert fitted(torch.tensor(20)).tolist() == 1
    assert fitted(np.int64(30)).tolist() == 2
    assert fitted(np.array([10])).tolist() == [0]


def test_bare_texts_are_encoded_too() -> None:
    dataset = data.from_iterable(["b", "a", "b"])
    assert dataset.map_batch(Categories(None).fit(dataset)).take_batch([0, 1, 2]).tolist() == [1, 0, 1]


def test_unknown_values_are_errors_or_have_a_code() -> None:
    train = data.from_iterable([("a", 1), ("b", 2)])
    with pytest.raises(
        DataError, match=r"'c' at field 0 was not in the training split, which had 'a', 'b'. Use Categories\(unknown=\"code\"\)"
    ):
        Categories().fit(train)(("c", 1))
    fitted = Categories(unknown="code").fit(train)
    assert fitted((["c", "a"], 1))[0].tolist() == [2, 0]
    assert fitted((7, 1))[0].tolist() == 2
    assert fitted.inverse(torch.tensor([2, 1])) == [None, "b"]
    assert fitted.size == 3
    with pytest.raises(ArgumentValueError, match="codes must be from 0 to 2, got 3"):
        fitted.inverse(torch.tensor([3]))


def test_a_long_vocabulary_is_cut_short_in_the_message() -> None:
    with pytest.raises(DataError, match=r"7, \.\.\.\."):
        Categories(None).fit(data.from_tensors(torch.arange(20)))(torch.tensor(99))


def test_a_state_makes_the_same_encoder() -> None:
    train = data.from_tensors(torch.randn(9, 2), torch.arange(9))
    scale, encode = Standardize().fit(train), Categories(1, unknown="code").fit(train)
    again, encoded = encoder_from_state(scale.state()), encoder_from_state(encode.state())
    batch = train.take_batch(range(9))
    assert torch.equal(again(batch)[0], scale(batch)[0])
    assert encoded == encode


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "state must name an encoder out of categories, log_mel, standardize, table, vocabulary, got None"),
        ({"encoder": "os.system"}, r"got 'os.system' \(str\)"),
        ({"encoder": ["standardize"]}, r"\(list\)"),
        (None, "got None"),
        ({"encoder": "standardize", "field": 0}, "the state of encoder 'standardize' lacks 'mean'. It has 'encoder', 'field'"),
    ],
)
def test_states_name_encoders_of_the_registry_only(state: Any, message: str) -> None:
    with pytest.raises(ArgumentValueError, match=message):
        encoder_from_state(state)


@pytest.mark.parametrize(
    ("fit", "error", "message"),
    [
        (lambda: Standardize().fit([1, 2]), ArgumentTypeError, r"Standardize.fit takes the training Dataset, got \[1, 2\]"),  # type: ignore[arg-type]
        (lambda: Categories().fit(torch.zeros(3)), ArgumentTypeError, "Categories.fit takes the training Dataset"),  # type: ignore[arg-type]
        (lambda: Standardize(1.5), ArgumentTypeError, "field must be a position"),  # type: ignore[arg-type]
        (lambda: Standardize(True), ArgumentTypeError, "field must be a position"),
        (lambda: Categories(unknown="drop"), ArgumentValueError, "unknown must be one of 'error', 'code'"),
        (lambda: Standardize(2).fit(data.linear()), DataError, "a sample has no field 2: it is a tuple of 2"),
        (lambda: Standardize("z").fit(data.from_tensors({"x": torch.zeros(2)})), DataError, "it is a dict with the keys 'x'"),
        (
            lambda: Standardize("z").fit(data.from_tensors(Pair(torch.zeros(2), torch.zeros(2)))),
            DataError,
            "a Pair with the attributes x, y",
        ),
        (lambda: Standardize(0).fit(data.from_tensors(torch.zeros(2))), DataError, "it is a Tensor. Name one of those, or None"),
        (
            lambda: Standardize().fit(data.from_iterable([("a", 1)])),
            DataError,
            "needs a tensor of real numbers at field 0, got list",
        ),
        (lambda: Standardize().fit(data.linear().take(0)), DataError, "at least one sample"),
        (
            lambda: Standardize(None).fit(data.from_tensors(torch.tensor([[0.0, 1.0], [0.0, float("nan")]]))),
            DataError,
            "learn from nan: column 1 of sample 1",
        ),
        (
            lambda: Standardize(None).fit(data.from_tensors(torch.tensor([0.0, float("inf")]))),
            DataError,
            "learn from inf: sample 1",
        ),
        (
            lambda: Standardize(None).fit(data.from_tensors(torch.full((1, 2, 2), float("nan")))),
            DataError,
            r"column \(0, 0\) of sample 0",
        ),
        (lambda: Categories(1).fit(data.linear()), DataError, "needs whole numbers or texts at field 1"),
        (lambda: Categories(None).fit(data.from_tensors(torch.tensor([True]))), DataError, r"got True \(bool\)"),
        (lambda: Standardize().fit(data.linear())(("a", 1)), DataError, "needs a tensor at field 0, got 'a'"),
    ],
)
def test_what_cannot_be_fitted_is_named(fit: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit()


def test_texts_and_numbers_at_once_are_refused() -> None:
    mixed: data.Dataset[Any] = data.from_iterable([{"a": 1}]).concat(data.as_dataset([{"a": "x"}]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchflow.data.fields._AT_ONCE", 1)
        with pytest.raises(DataError, match="field 'a' holds texts and numbers at once"):
            Categories("a").fit(mixed)
