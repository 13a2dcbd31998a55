from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from torchflow.data import batches_of
from torchflow.errors import ArgumentTypeError, DataError
from torchflow.randomness import Keys


class Stream:
    """Batches drawn from the global generators."""

    def __init__(self, count: int = 5) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        for _ in range(self.count):
            yield torch.stack((torch.rand(()), torch.tensor(random.random()), torch.tensor(np.random.rand())))


class Sized(Stream):
    def __init__(self, count: int, said: Any) -> None:
        super().__init__(count)
        self.said = said

    def __len__(self) -> int:
        if isinstance(self.said, Exception):
            raise self.said
        return int(self.said)


def loader(shuffle: bool = True) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.arange(20)), batch_size=4, shuffle=shuffle)


def of(data: Any, **options: Any) -> Any:
    return batches_of(data, keys=Keys(0), name="train", **options)


def values(made: Any) -> list[Any]:
    return [batch.tolist() if isinstance(batch, torch.Tensor) else batch[0].tolist() for batch in made]


@pytest.mark.parametrize("make", [Stream, loader])
def test_the_batches_of_an_epoch_are_a_function_of_seed_and_epoch(make: Any) -> None:
    first = [values(of(make()).epoch(epoch)) for epoch in range(3)]
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    again = of(make())
    assert [values(again.epoch(epoch)) for epoch in range(3)] == first
    assert first[0] != first[1]
    assert values(batches_of(make(), keys=Keys(1), name="train").epoch(0)) != first[0]


@pytest.mark.parametrize("make", [Stream, loader])
def test_the_globals_of_the_loop_are_left_alone(make: Any) -> None:
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    expected = [(float(torch.rand(())), random.random(), np.random.rand()) for _ in range(5)]
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    assert [(float(torch.rand(())), random.random(), np.random.rand()) for _ in of(make()).epoch(0)] == expected


@pytest.mark.parametrize("make", [Stream, loader])
def test_a_late_start_skips_with_one_warning(make: Any) -> None:
    batches = of(make())
    whole = values(batches.epoch(1))
    with pytest.warns(UserWarning, match="first 3 batches are made again and skipped.*Pass the dataset itself for an exact resume"):
        late = batches.epoch(1, 3)
    assert values(late) == whole[3:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert values(batches.epoch(1, 2)) == whole[2:]


def test_lengths_are_taken_where_they_are_known() -> None:
    assert (of(loader()).length, of(loader()).samples) == (5, None)
    assert of(Stream()).length is None
    assert of(Stream()).indices(0, 0) is None
    assert of(loader()).describe() == {"kind": "stream", "type": "torch.utils.data.dataloader.DataLoader", "batches": 5}
    of(Stream()).close()


def test_an_iterator_serves_for_one_epoch() -> None:
    batches = of(torch.ones(2) for _ in range(3))
    assert len(list(batches.epoch(0))) == 3
    with pytest.raises(
        DataError, match=r"train is a generator, which gives one epoch and is exhausted. Pass a list, a Dataset, a DataLoader"
    ):
        batches.epoch(1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Stream(0), "train gave no batch in epoch 0. Pass data with at least one"),
        (Sized(3, 5), "says that it has 5 batches and gave 3 in epoch 0. Correct its __len__"),
        (Sized(5, 3), "says that it has 3 batches and gave more"),
    ],
)
def test_an_epoch_is_never_short_in_silence(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(of(data).epoch(0))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (0, "train has no batches: its length is 0"),
        (-1, r"len\(train\) failed: ValueError"),
        (RuntimeError("lost"), r"len\(train\) failed: RuntimeError: lost"),
    ],
)
def test_a_length_that_is_none_is_named_at_the_start(said: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        of(Sized(3, said))


@pytest.mark.parametrize("error", [OSError("disk"), StopIteration(), SystemExit()])
def test_what_an_iterable_raises_names_the_batch(error: BaseException) -> None:
    class Broken:
        def __iter__(self) -> Iterator[Any]:
            yield 1
            raise error

    made = of(Broken()).epoch(2)
    next(made)
    with pytest.raises(DataError, match="train failed at batch 1 of epoch 2: it raised"):
        next(made)


def test_errors_of_torchflow_pass_through() -> None:
    def broken() -> Iterator[Any]:
        raise DataError("mine")
        yield

    with pytest.raises(DataError, match=r"^mine$"):
        list(of(broken()).epoch(0))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 4}, "batch_size"),
        ({"shuffle": False}, "shuffle"),
        ({"last_batch": "drop"}, "last_batch"),
        ({"workers": 2}, "workers"),
        ({"collate": list}, "collate"),
        ({"batch_size": 4, "shuffle": True}, "batch_size and shuffle"),
    ],
)
def test_options_for_batches_that_are_made_are_refused(options: dict[str, Any], named: str) -> None:
    with pytest.raises(
        ArgumentTypeError, match=f"^{named} cannot be given beside train: a DataLoader yields batches that are already made"
    ):
        of(loader(), **options)


def test_a_sampler_is_told_the_epoch() -> None:
    told: list[int] = []
    batches = loader(shuffle=False)
    batches.sampler.set_epoch = told.append  # type: ignore[attr-defined]
    list(of(batches).epoch(3))
    assert told == [3]
