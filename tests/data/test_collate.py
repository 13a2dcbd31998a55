from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from torchflow.data import collate
from torchflow.data.collate import rows
from torchflow.errors import DataError, RaggedBatchError
from torchflow.tree import leaves_with_paths, map_leaves


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass(frozen=True)
class Scan:
    image: Any
    name: Any


@pytest.mark.parametrize(
    ("samples", "dtype", "values"),
    [
        ([1, 2], torch.int64, [1, 2]),
        ([1.5, 2.0], torch.float32, [1.5, 2.0]),
        ([True, False], torch.bool, [True, False]),
        ([1j, 2.0 + 0j], torch.complex64, [1j, 2.0 + 0j]),
        ([np.float64(1), np.float64(2)], torch.float64, [1.0, 2.0]),
        ([np.int8(1), np.int8(2)], torch.int8, [1, 2]),
        ([np.arange(2), np.arange(2)], torch.int64, [[0, 1], [0, 1]]),
        ([np.arange(2, dtype=">f4"), np.arange(2, dtype=">f4")], torch.float32, [[0, 1], [0, 1]]),
        ([torch.zeros(1, dtype=torch.float16)] * 2, torch.float16, [[0], [0]]),
        ([np.bool_(True), np.bool_(False)], torch.bool, [True, False]),
    ],
)
def test_the_dtype_of_a_batch_is_that_of_its_samples(samples: list[Any], dtype: torch.dtype, values: list[Any]) -> None:
    batch = collate(samples)
    assert batch.dtype == dtype
    assert batch.tolist() == values


def test_numbers_of_python_get_the_default_dtype_and_its_complex_partner() -> None:
    """Seen to fail when complex numbers are always of 64 bits."""
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert collate([1.0, 2.0]).dtype == torch.float64
        assert collate([1j, 2j]).dtype == torch.complex128
    finally:
        torch.set_default_dtype(before)


def test_structures_are_kept() -> None:
    sample = {"a": (1, [2.0, "text"]), "b": Point(torch.ones(2), Scan(np.zeros(3), "z"))}
    batch = collate([sample, sample, sample])
    assert batch["a"][0].tolist() == [1, 1, 1]
    assert batch["a"][1][1] == ["text"] * 3
    assert isinstance(batch["b"], Point)
    assert isinstance(batch["b"].y, Scan)
    assert batch["b"].y.image.shape == (3, 3)
    assert batch["b"].y.name == ["z", "z", "z"]


def test_mappings_become_dicts_whatever_their_constructor_takes() -> None:
    assert type(collate([OrderedDict(a=1)])) is OrderedDict
    assert type(collate([defaultdict(int, a=1)])) is dict


def test_a_batch_needs_no_gradient_of_its_samples() -> None:
    batch = collate([torch.ones(1, requires_grad=True), torch.ones(1)])
    assert not batch.requires_grad


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (
            [torch.zeros(2), torch.zeros(3)],
            r"samples 7 and 9 .* the sample has shape \(2,\) in one and \(3,\) in the other. Make them equal in a map \(pad",
        ),
        ([torch.zeros(2), torch.zeros(2).double()], r"dtype torch.float32 in one and torch.float64"),
        ([(0, torch.zeros(2)), (0, torch.zeros(4))], r"the part \[1\] has shape"),
        ([{"a": np.zeros(2)}, {"a": np.zeros((2, 1))}], r"the part \['a'\] has shape"),
        ([{"a": 1}, {"b": 1}], r"keys \['a'\] in one and \['b'\]"),
        ([[1], [1, 2]], "length 1 in one and 2 in the other"),
        ([1, 2.5], "type int in one and float"),
        ([torch.zeros(1), np.zeros(1)], "type Tensor in one and ndarray"),
        ([Point(1, 2), Point(1, "x")], r"the part \.y has type int in one and str"),
        ([Scan(torch.zeros(1), "a"), Scan(torch.zeros(2), "b")], r"the part \.image has shape"),
        ([torch.zeros(1), None], "type Tensor in one and NoneType"),
        ([np.zeros(1, dtype=np.int32), np.zeros(1)], "dtype int32 in one and float64"),
    ],
)
def test_samples_that_do_not_stack_are_named_with_the_place(samples: list[Any], message: str) -> None:
    with pytest.raises(RaggedBatchError, match=message):
        collate(samples, [7, 9])


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "collate got no samples"),
        ([None], "the sample of sample 0 is NoneType, which no tensor can hold"),
        ([(1, object())], r"the part \[1\] of sample 0 is object.*pass collate="),
        ([np.array(["a", "b"])], "dtype <U1, which torch does not have"),
        ([2**63], "is 9223372036854775808, which does not fit into int64"),
    ],
)
def test_what_no_tensor_can_hold_is_named(samples: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        collate(samples)


def test_rows_refuse_what_cannot_be_cut() -> None:
    with pytest.raises(DataError, match="a batch holds a int, which cannot be cut into samples"):
        rows({"a": 3}, 2)


leaf = st.one_of(
    st.integers(-5, 5),
    st.text(max_size=3),
    st.floats(-1, 1, width=32),
    st.booleans(),
    st.just(torch.arange(3.0)),
)
shape = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.tuples(inner, inner),
        st.builds(Point, inner, inner),
        st.dictionaries(st.sampled_from("ab"), inner, min_size=1),
        st.builds(Scan, inner, st.text()),
    ),
    max_leaves=5,
)


def tensors(tree: Any) -> Any:
    """The tree as a batch of one gives it back: numbers as tensors."""
    return map_leaves(lambda value: value if isinstance(value, (str, Tensor)) else torch.tensor(value), tree)


@given(sample=shape, count=st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_rows_are_the_inverse_of_collate(sample: Any, count: int) -> None:
    expected = list(leaves_with_paths(tensors(sample)))
    for row in rows(collate([sample] * count), count):
        assert type(row) is type(tensors(sample))
        for (path, found), (place, value) in zip(leaves_with_paths(row), expected, strict=True):
            assert path == place
            assert torch.equal(found, value) if isinstance(value, Tensor) else found == value
