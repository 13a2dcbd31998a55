from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from torchflow import data
from torchflow.data import Dataset, Draw
from torchflow.errors import ArgumentValueError, DataError
from torchflow.randomness import Keys


def numbers(length: int) -> Dataset[Any]:
    return data.from_tensors(torch.arange(float(length)))


def noise(value: Any, generator: torch.Generator) -> Any:
    return value * 0 + torch.rand((), generator=generator)


def from_globals(value: Any) -> Any:
    return torch.stack((torch.rand(()), torch.tensor(np.random.rand()), torch.tensor(random.random())))


def draws(dataset: Dataset[Any], epoch: int = 0, seed: int = 0) -> list[Any]:
    found: list[Any] = dataset.take_batch(range(len(dataset)), Draw(Keys(seed), epoch)).tolist()
    return found


def test_random_maps_draw_anew_each_epoch_and_under_each_seed() -> None:
    dataset = numbers(20).map_random(noise)
    assert draws(dataset) == draws(dataset)
    streams = [draws(dataset, epoch, seed) for epoch in range(3) for seed in range(3)]
    assert len({value for stream in streams for value in stream}) == 9 * 20


def test_an_index_shows_epoch_0_of_seed_0() -> None:
    dataset = numbers(5).map_random(noise)
    assert [float(dataset[i]) for i in range(5)] == [float(value) for value in dataset] == pytest.approx(draws(dataset))


def test_two_random_maps_draw_apart() -> None:
    pair = (
        numbers(10)
        .map_random(lambda _, g: torch.rand((), generator=g))
        .map_random(lambda value, g: torch.stack((value, torch.rand((), generator=g))))
    )
    assert all(first != second for first, second in draws(pair))


def test_two_sides_of_a_zip_draw_apart_unless_they_share_a_name() -> None:
    def sides(name: str | None) -> list[tuple[float, float]]:
        left, right = numbers(10).map_random(noise, name=name), numbers(10).map_random(noise, name=name)
        first, second = left.zip(right).take_batch(range(10))
        return list(zip(first.tolist(), second.tolist(), strict=True))

    assert all(left != right for left, right in sides(None))
    assert all(left == right for left, right in sides("flip"))
    assert sides("flip") != sides("crop")


@pytest.mark.parametrize(
    "arrange",
    [
        lambda dataset: dataset.select([3, 1, 1, 0]),
        lambda dataset: dataset.skip(1),
        lambda dataset: dataset.repeat(2),
        lambda dataset: dataset.concat(dataset),
        lambda dataset: dataset.split(4, 2)[0],
        lambda dataset: dataset.windows(2),
    ],
)
def test_a_sample_draws_by_its_place_in_the_dataset_that_was_asked(arrange: Callable[[Dataset[Any]], Dataset[Any]]) -> None:
    dataset = arrange(numbers(6).map_random(noise))
    whole = dataset.take_batch(range(len(dataset)))
    assert len(set(whole.flatten().tolist())) == whole.numel()  # even where a sample comes twice
    for order in ([2, 0], [1], [3, 2, 1, 0]):
        assert torch.equal(dataset.take_batch(order), whole[order])
        assert [sample.tolist() for sample in dataset.take_samples(order)] == whole[order].tolist()


@pytest.mark.parametrize("verb", ["filter", "cache"])
def test_filter_and_cache_above_a_random_map_are_refused(verb: str) -> None:
    dataset = numbers(4).map_random(noise).take(2)
    arguments = (bool,) if verb == "filter" else ()
    with pytest.raises(
        ArgumentValueError, match=rf"{verb} cannot stand above a random map.*from_tensors.map_random.take.*Put {verb} before"
    ):
        getattr(dataset, verb)(*arguments)


def test_globals_are_keyed_for_a_plain_map_and_untouched_outside() -> None:
    dataset = numbers(8).map(from_globals)
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    expected = (torch.rand(2).tolist(), np.random.rand(), random.random())
    torch.manual_seed(1), np.random.seed(2), random.seed(3)
    first = draws(dataset)
    assert (torch.rand(2).tolist(), np.random.rand(), random.random()) == expected
    torch.manual_seed(99), np.random.seed(99), random.seed(99)
    assert draws(dataset) == first
    assert draws(dataset, epoch=1) != first
    assert len({value for row in first for value in row}) == 24
    assert dataset.take_batch([5, 2]).tolist() == [first[5], first[2]]


def test_a_filter_reads_its_parent_once_and_not_before_it_must() -> None:
    asked: list[int] = []

    def make(index: int) -> int:
        asked.append(index)
        return index

    dataset = data.from_function(make, 10).filter(lambda value: value >= 7)
    assert asked == []
    assert len(dataset) == 3
    assert [dataset[0], dataset[1], dataset[2]] == [7, 8, 9]
    assert asked == [*range(10), 7, 8, 9]


def test_a_cache_makes_each_sample_once_even_for_several_threads() -> None:
    asked: list[int] = []

    def make(index: int) -> torch.Tensor:
        asked.append(index)
        return torch.tensor([float(index), random.random()])

    dataset = data.from_function(make, 20).cache()
    assert asked == []
    threads = [threading.Thread(target=lambda: dataset.take_batch(range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == list(range(20))
    assert torch.equal(dataset.take_batch([3], Draw(Keys(5), 7)), dataset.take_batch([3]))


def test_a_cached_value_does_not_depend_on_who_asked_first() -> None:
    one, two = (data.from_function(lambda index: random.random(), 5).cache() for _ in range(2))
    one.take_batch([4, 0], Draw(Keys(9), 3))
    assert one.take_batch(range(5)).tolist() == two.take_batch(range(5)).tolist()


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda batch: batch[:-1],
            r"map_batch\(.*lambda.*\) got a batch of 3 samples and returned shape \(2,\).*one row a sample; use filter",
        ),
        (lambda batch: batch.sum(), r"returned shape \(\)"),
        (lambda batch: {"x": batch, "y": 3}, r"returned a int at \['y'\]"),
        (lambda batch: None, "returned a NoneType"),
        (lambda batch: batch.nonsense, "AttributeError.*nonsense"),
    ],
)
def test_a_batch_map_that_changes_the_length_is_named(function: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        numbers(5).map_batch(function).take_batch([0, 1, 2])


def test_batch_maps_may_keep_texts_and_structures() -> None:
    dataset = data.from_iterable([{"name": "a", "size": 1}, {"name": "b", "size": 2}])
    mapped = dataset.map_batch(lambda batch: (batch["name"], batch["size"] * 10))
    assert mapped.take_batch([1, 0])[0] == ["b", "a"]
    assert mapped[1] == ("b", torch.tensor(20))


def fail(error: BaseException) -> Callable[..., Any]:
    def function(value: Any, *_: Any) -> Any:
        if int(value) == 3:
            raise error
        return value

    return function


@pytest.mark.parametrize("error", [KeyError("nothing"), StopIteration(), SystemExit(3), IndexError("far"), RuntimeError()])
@pytest.mark.parametrize("verb", ["map", "map_random", "filter", "from_function"])
def test_whatever_a_function_raises_is_a_data_error_that_names_the_sample(verb: str, error: BaseException) -> None:
    called = data.from_function(fail(error), 5) if verb == "from_function" else getattr(numbers(5), verb)(fail(error))
    with pytest.raises(DataError, match=rf"{verb}\(fail.*\) failed at sample 3: it raised {type(error).__name__}") as caught:
        list(called)
    assert caught.value.__cause__ is error


def test_the_interrupt_of_a_user_and_lack_of_memory_pass_as_they_are() -> None:
    for error in (KeyboardInterrupt(), MemoryError()):
        with pytest.raises(type(error)):
            list(numbers(5).map(fail(error)))


def test_the_name_of_a_sample_is_its_index_in_the_dataset_that_was_asked() -> None:
    with pytest.raises(DataError, match="failed at sample 1: "):
        numbers(5).map(fail(KeyError())).skip(2).take_batch([0, 1])


def test_a_cache_and_a_filter_travel_to_other_processes_with_what_they_know() -> None:
    asked: list[int] = []

    def make(index: int) -> int:
        asked.append(index)
        return index

    dataset = data.from_function(make, 6).filter(lambda value: value > 3).cache()
    list(dataset)
    asked.clear()
    travelled = copy.deepcopy(dataset)  # by the same protocol as pickling
    assert list(travelled) == [4, 5]
    assert repr(travelled) == "Dataset(2 samples, from_function(" + make.__qualname__ + ").filter.cache)"
    assert asked == []


def test_an_empty_batch_of_a_batch_map_is_an_empty_batch() -> None:
    assert numbers(5).map_batch(lambda batch: batch * 2).take_batch([]).shape == (0,)
