from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from torchflow import data
from torchflow.data.draw import first_draw
from torchflow.data.sources import MANY
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError


@dataclass(frozen=True)
class Example:
    image: Any
    label: Any


def test_tensors_are_not_copied_and_never_carry_gradients() -> None:
    x = torch.zeros(3, requires_grad=True)
    dataset = data.from_tensors(x)
    with torch.no_grad():
        x.add_(1)
    batch = dataset.take_batch([0, 1, 2])
    assert batch.tolist() == [1, 1, 1]
    assert not batch.requires_grad


@pytest.mark.parametrize("chosen", [0, 5, MANY, 3 * MANY])
def test_rows_are_the_same_however_many_are_chosen_and_however_they_lie(chosen: int) -> None:
    """Fails where rows of one number come back without their other dimensions, or as views."""
    rows = 2 * MANY
    numbers = torch.arange(4.0 * rows)
    columns = (
        numbers[:rows].reshape(rows, 1),
        numbers[:rows],
        numbers[: 2 * rows].reshape(rows, 2),
        numbers.reshape(rows, 4)[:, 1:2],
        numbers[:rows].reshape(rows, 1, 1).to(torch.int32),
        numbers[:0].reshape(0, 3).new_empty((rows, 0)),
    )
    picked = torch.arange(chosen) * 7 % rows
    made = data.from_tensors(columns).take_batch(picked.tolist()) if chosen else None
    source = data.from_tensors(columns).source.batch(picked, first_draw())
    for found in (source, made or source):
        for column, batch in zip(columns, found, strict=True):
            assert torch.equal(batch, torch.stack([column[row] for row in picked]) if chosen else column[:0])
            assert batch.stride() == torch.empty(batch.shape).stride()
            assert batch.untyped_storage().data_ptr() != column.untyped_storage().data_ptr() or not batch.numel()


def test_dataclasses_of_columns_give_dataclasses_of_rows() -> None:
    dataset = data.from_tensors(Example(torch.arange(6).reshape(3, 2), torch.arange(3)))
    assert dataset[1].image.tolist() == [2, 3]
    assert dataset.take_batch([2, 0]).label.tolist() == [2, 0]


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_memory_mapped_array_is_not_copied_and_its_batches_are(mode: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(12.0).reshape(6, 2))
    dataset = data.from_arrays(np.load(tmp_path / "x.npy", mmap_mode=mode)[1:], np.arange(5))
    early = dataset.take_batch([0])[0]
    file = np.load(tmp_path / "x.npy", mmap_mode="r+")
    file[1] = -1
    file.flush()
    assert dataset.take_batch([0])[0].tolist() == [[-1, -1]], "the file was copied"
    assert early.tolist() == [[2, 3]]
    dataset.take_batch([0])[0].zero_()
    assert file[1].tolist() == [-1, -1]


def test_a_memory_mapped_array_in_the_other_byte_order_is_read_right(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(6).astype(np.dtype(np.float32).newbyteorder()))
    assert data.from_arrays(np.load(tmp_path / "x.npy", mmap_mode="r")).take_batch([4, 1]).tolist() == [4, 1]


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "int8", "uint8", "bool", "complex64", ">f8", ">i4"])
def test_arrays_keep_their_dtype(dtype: str) -> None:
    array = np.array([0, 1, 1, 0]).astype(dtype)
    batch = data.from_arrays(array).take_batch([1, 0])
    assert batch.tolist() == [1, 0]
    assert batch.numpy().dtype == np.dtype(dtype).newbyteorder("=")


def test_arrays_that_torch_cannot_share_are_copied() -> None:
    frozen = np.arange(3)
    frozen.flags.writeable = False
    assert data.from_arrays(frozen).take_batch([2]).tolist() == [2]
    assert data.from_arrays(np.arange(3)[::-1]).take_batch([0]).tolist() == [2]
    assert data.from_arrays(np.arange(3), torch.arange(3))[1] == (torch.tensor(1), torch.tensor(1))
    assert data.from_tensors(np.arange(3))[1] == torch.tensor(1)  # type: ignore[call-overload]  # from_arrays says what it gives


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (data.from_tensors, ArgumentTypeError, "needs at least one tensor"),
        (lambda: data.from_tensors([]), ArgumentTypeError, "needs at least one tensor"),
        (
            lambda: data.from_tensors(torch.zeros(3), 4),  # type: ignore[call-overload]
            ArgumentTypeError,
            r"from_tensors's argument \[1\] must be a tensor, got 4",
        ),
        (
            lambda: data.from_tensors(torch.zeros(3).to_sparse()),
            ArgumentTypeError,
            "a dense tensor with values, got torch.sparse_coo",
        ),
        (
            lambda: data.from_tensors(torch.zeros(3, device="meta")),
            ArgumentTypeError,
            "dense tensor with values, got torch.strided on meta",
        ),
        (lambda: data.from_tensors({"a": torch.tensor(1)}), DataError, r"shape \(\) at \['a'\]"),
        (lambda: data.from_arrays(None), ArgumentTypeError, "must be a NumPy array, got None"),
        (lambda: data.from_arrays(np.array(["a"])), ArgumentTypeError, "dtype <U1, which torch does not have"),
        (lambda: data.from_arrays(np.array(["2020-01-01"], dtype="datetime64[D]")), ArgumentTypeError, "datetime64"),
        (lambda: data.from_arrays(np.zeros(2), np.zeros(3)), DataError, r"\[0\] has 2, \[1\] has 3"),
        (lambda: data.from_function(3, 2), ArgumentTypeError, "function must be a function"),  # type: ignore[arg-type]
        (lambda: data.from_function(abs, 0), ArgumentValueError, "length must be an int of at least 1"),
        (lambda: data.from_iterable(3), ArgumentTypeError, "must be an iterable of samples, got 3"),  # type: ignore[arg-type]
        (lambda: data.from_iterable("abc"), ArgumentTypeError, r"got 'abc' \(str\)"),
        (lambda: data.from_iterable(iter([])), DataError, "gave no samples. An iterator that was read before is exhausted"),
        (lambda: data.linear(samples=0), ArgumentValueError, "samples must be an int of at least 1"),
        (lambda: data.linear(weight="a"), ArgumentTypeError, "weight must be a number"),  # type: ignore[arg-type]
        (lambda: data.linear(weight=[1.0, float("nan")]), ArgumentValueError, r"weight\[1\] must be a finite number"),
        (lambda: data.linear(weight=[]), ArgumentTypeError, "at least one number"),
        (lambda: data.linear(noise=-1.0), ArgumentValueError, "noise must be a finite number of at least 0"),
        (lambda: data.linear(seed=-1), ArgumentValueError, "seed must be"),
    ],
)
def test_wrong_arguments_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_an_iterable_is_read_once() -> None:
    dataset = data.from_iterable({"x": torch.tensor(float(i)), "name": str(i)} for i in range(3))
    assert len(dataset) == 3
    assert [sample["name"] for sample in dataset] == ["0", "1", "2"] == [sample["name"] for sample in dataset]
    assert dataset.take_batch([2, 0])["x"].tolist() == [2, 0]


def test_points_around_a_line_are_where_the_arguments_say() -> None:
    x, y = data.linear(weight=[2.0, -1.0], bias=0.5, samples=4000, noise=0.1, seed=3).take_batch(range(4000))
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((4000, 2), (4000, 1), torch.float32, torch.float32)
    assert 0 <= float(x.min()) < 0.01
    assert 0.99 < float(x.max()) < 1
    residual = y[:, 0] - (x @ torch.tensor([2.0, -1.0]) + 0.5)
    assert float(residual.mean().abs()) < 0.01
    assert float(residual.std()) == pytest.approx(0.1, rel=0.05)


def test_equal_seeds_give_equal_points_and_nothing_else_is_drawn() -> None:
    state = torch.get_rng_state()
    first, again, other = (data.linear(samples=5, seed=seed).take_batch(range(5))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(data.linear(weight=torch.tensor(0.7)).take_batch([0])[1], data.linear().take_batch([0])[1])
