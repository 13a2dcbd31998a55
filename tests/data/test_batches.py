from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import batches_of
from torchflow.data.dataset_batches import DatasetBatches
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError
from torchflow.randomness import Keys
from torchflow.types import LastBatch


def numbers(length: int) -> data.Dataset[Any]:
    return data.from_tensors(torch.arange(length))


def flat(batches: Any) -> list[int]:
    return [int(value) for batch in batches for value in batch]


def test_the_defaults_are_32_and_shuffled_for_training_alone() -> None:
    train = batches_of(numbers(100), keys=Keys(0), name="train")
    valid = batches_of(numbers(100), keys=Keys(0), name="validation")
    assert [len(batch) for batch in train.epoch(0)] == [32, 32, 32, 4]
    assert flat(valid.epoch(0)) == list(range(100))
    assert flat(train.epoch(0)) != list(range(100))
    assert (train.length, train.samples) == (4, 100)


@given(
    length=st.integers(1, 60),
    size=st.integers(1, 25),
    last=st.sampled_from(["keep", "drop", "pad"]),
    shuffle=st.booleans(),
    epoch=st.integers(0, 5),
)
@settings(deadline=None, max_examples=120)
def test_batches_are_the_cuts_of_the_order(length: int, size: int, last: LastBatch, shuffle: bool, epoch: int) -> None:
    if last == "drop" and size > length:
        return
    batches = batches_of(numbers(length), keys=Keys(1), name="train", batch_size=size, shuffle=shuffle, last_batch=last)
    made = [batch.tolist() for batch in batches.epoch(epoch)]
    assert batches.length == len(made)
    assert batches.samples == sum(map(len, made))
    order = flat(batches_of(numbers(length), keys=Keys(1), name="train", batch_size=length, shuffle=shuffle).epoch(epoch))
    expected = [order[i : i + size] for i in range(0, length, size)]
    if last == "drop" and len(expected[-1]) < size:
        expected.pop()
    if last == "pad":
        expected[-1] = (expected[-1] + order * (size // length + 1))[:size]
    assert made == expected
    for start in range(len(made) + 2):
        assert [batch.tolist() for batch in batches.epoch(epoch, start)] == expected[start:]
    for number, batch in enumerate(expected):
        assert batches.indices(epoch, number) == batch
    assert batches.indices(epoch, len(expected)) is None


def test_a_padded_sample_draws_anew() -> None:
    dataset = numbers(3).map_random(lambda value, g: torch.rand((), generator=g))
    (batch,) = batches_of(dataset, keys=Keys(0), name="train", batch_size=8, last_batch="pad").epoch(0)
    assert len(set(batch.tolist())) == 8


def test_large_epochs_are_cut_in_blocks_without_a_seam() -> None:
    batches = batches_of(numbers(200_000), keys=Keys(0), name="train", batch_size=30_000)
    made = list(batches.epoch(2))
    assert [len(batch) for batch in made] == [30_000] * 6 + [20_000]
    assert sorted(torch.cat(made).tolist()) == list(range(200_000))
    assert torch.equal(torch.cat(made[3:]), torch.cat(list(batches.epoch(2, 3))))


def test_a_shuffled_split_is_looked_up_in_blocks_and_equals_the_plain_way() -> None:
    part = numbers(300).split(0.5, 0.5)[0]
    fast = batches_of(part, keys=Keys(4), name="train", batch_size=7)
    slow = batches_of(part.map_batch(lambda batch: batch), keys=Keys(4), name="train", batch_size=7)
    assert flat(fast.epoch(3)) == flat(slow.epoch(3))


def test_dropping_the_only_batch_is_refused_with_the_remedy() -> None:
    with pytest.raises(
        ArgumentValueError, match=r'last_batch="drop" leaves none of train: 5 samples, batch_size 8. Use a batch_size of at most 5'
    ):
        batches_of(numbers(5), keys=Keys(0), name="train", batch_size=8, last_batch="drop")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 0}, ArgumentValueError, "batch_size must be an int of at least 1 and below 2.63, got 0"),
        ({"batch_size": 2.0}, ArgumentTypeError, "batch_size must be an int"),
        ({"batch_size": True}, ArgumentTypeError, "batch_size must be an int"),
        ({"batch_size": "32"}, ArgumentTypeError, "batch_size must be an int"),
        ({"batch_size": 2**63}, ArgumentValueError, "below 2\\^63"),
        ({"shuffle": 1}, ArgumentTypeError, "shuffle must be True or False, got 1"),
        ({"last_batch": "skip"}, ArgumentValueError, "last_batch must be one of 'keep', 'drop', 'pad', got 'skip'"),
        ({"last_batch": None}, ArgumentTypeError, "last_batch must be one of"),
        ({"workers": -1}, ArgumentValueError, "workers must be an int of at least 0"),
        ({"workers": 1.5}, ArgumentTypeError, "workers must be an int"),
        ({"collate": 3}, ArgumentTypeError, "collate must be a function"),
        ({"pin_memory": None}, ArgumentTypeError, "pin_memory must be True or False"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        batches_of(numbers(5), keys=Keys(0), name="train", **options)


def test_a_collate_of_the_user_gets_the_samples_and_gives_the_batch() -> None:
    def pad(samples: list[Any]) -> Any:
        return torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)

    ragged = data.from_iterable([torch.ones(n) for n in (1, 3, 2)])
    (batch,) = batches_of(ragged, keys=Keys(0), name="valid", collate=pad).epoch(0)
    assert batch.tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]


def test_a_collate_that_fails_is_named() -> None:
    def broken(samples: list[Any]) -> Any:
        raise KeyError("x")

    with pytest.raises(DataError, match="collate failed at sample 0: it raised KeyError"):
        next(batches_of(numbers(3), keys=Keys(0), name="valid", collate=broken).epoch(0))


def test_bare_texts_are_no_batch_unless_a_collate_makes_one() -> None:
    texts = data.from_iterable(["one", "two"])
    with pytest.raises(
        DataError, match=r"sample 0 is str: 'one'. A batch to train on needs tensors: encode the text in a map, or pass collate="
    ):
        next(batches_of(texts, keys=Keys(0), name="valid").epoch(0))
    (batch,) = batches_of(
        texts, keys=Keys(0), name="valid", collate=lambda batch: torch.tensor([len(text) for text in batch])
    ).epoch(0)
    assert batch.tolist() == [3, 3]


def test_a_description_has_what_a_resume_compares() -> None:
    batches = batches_of(numbers(10).split(0.5, 0.5)[0], keys=Keys(0), name="train", batch_size=2, workers=1, last_batch="drop")
    described = dict(batches.describe())
    assert len(str(described.pop("content"))) == 32
    assert described == {
        "kind": "dataset",
        "type": "from_tensors.split",
        "length": 5,
        "batches": 2,
        "batch_size": 2,
        "last_batch": "drop",
        "order": "sort-mix64/1",
    }


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "build",
    [
        lambda dataset: dataset,
        lambda dataset: dataset.map_random(lambda value, g: value + torch.rand((), generator=g)),
        lambda dataset: dataset.cache(),
        lambda dataset: dataset.map_batch(lambda batch: batch * 2),
    ],
)
def test_threads_that_read_ahead_change_nothing(build: Callable[[Any], Any], workers: int) -> None:
    dataset = build(numbers(50))
    inline = batches_of(dataset, keys=Keys(0), name="train", batch_size=4)
    ahead = batches_of(dataset, keys=Keys(0), name="train", batch_size=4, workers=workers)
    for epoch, start in ((0, 0), (1, 5)):
        for one, other in zip(inline.epoch(epoch, start), ahead.epoch(epoch, start), strict=True):
            assert torch.equal(one, other)


def test_pinning_asks_for_cuda_and_otherwise_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[int] = []

    def pin(tensor: Any) -> Any:
        pinned.append(1)
        return tensor

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    batches = batches_of(numbers(5), keys=Keys(0), name="valid", batch_size=2, pin_memory=True)
    assert flat(batches.epoch(0)) == list(range(5))
    assert len(pinned) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    list(batches_of(numbers(5), keys=Keys(0), name="valid", pin_memory=True).epoch(0))
    assert len(pinned) == 3


def test_the_order_of_an_epoch_is_made_once() -> None:
    batches = batches_of(numbers(50), keys=Keys(0), name="train")
    assert isinstance(batches, DatasetBatches)
    assert batches._order(3) is batches._order(3)
    assert batches._order(3) is not batches._order(4)


def test_closing_twice_does_nothing() -> None:
    batches = batches_of(numbers(5), keys=Keys(0), name="train", workers=1)
    list(batches.epoch(0))
    batches.close()
    batches.close()
    assert len(list(batches.epoch(1))) == 1
