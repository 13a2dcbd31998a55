"""A cache on disk: the same samples, made once; whoever is killed, changed, short of space or in company."""

from __future__ import annotations

import errno
import functools
import json
import math
import multiprocessing
import os
import re
import signal
import threading
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from torchflow import data
from torchflow.checkpoint.files import FileSystem
from torchflow.data import Dataset, batches_of, disk_cache
from torchflow.data.describing import digest_of
from torchflow.data.packing import pack, unpack
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CacheError
from torchflow.randomness import Keys

MADE: list[int] = []


def make(index: int) -> dict[str, Any]:
    MADE.append(index)
    return {"x": torch.full((3,), index), "length": index % 4, "tail": torch.arange(index % 4), "name": f"é{index}", "gap": None}


def numbers(length: int = 20) -> Dataset[Any]:
    MADE.clear()
    return data.from_function(make, length)


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/samples-*.safetensors"))


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.builds(
        lambda shape, dtype: torch.arange(int(np.prod(shape))).reshape(shape).type(dtype),
        st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from(
            [torch.uint8, torch.uint16, torch.int64, torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.complex64]
        ),
    ),
    st.builds(
        lambda n, dtype: np.arange(n).astype(dtype), st.integers(0, 4), st.sampled_from(["u1", "i8", "f4", "f8", "?", ">i4"])
    ),
    st.builds(np.float32, st.floats(width=32)),
)
SAMPLES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return (
            one.dtype == other.dtype
            and one.shape == other.shape
            and torch.equal(*(part.double().nan_to_num(7.0) if part.is_floating_point() else part for part in (one, other)))
        )
    if isinstance(one, (np.ndarray, np.generic)):
        native = one.dtype.newbyteorder("=") == other.dtype
        return type(one) is type(other) and native and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[name], other[name]) for name in one)
    return type(one) is type(other) and (one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other)))


@settings(deadline=None, max_examples=150)
@given(samples=st.lists(SAMPLES, min_size=1, max_size=5))
def test_samples_of_any_plain_kind_come_back_as_they_were(samples: list[Any]) -> None:
    """Fails if kinds are mixed up: bool for int, tuple for list, a scalar for an array of no dimension."""
    tensors, layout = pack(samples, 0)
    text = json.loads(layout)
    for at, sample in enumerate(samples):
        assert same(sample, unpack(tensors, {**text, "whole": frozenset(text["whole"])}, at))


def test_every_sample_is_made_once_and_comes_back_from_another_dataset(tmp_path: Path) -> None:
    cached = numbers().cache(tmp_path)
    expected = [make(index) for index in range(20)]
    MADE.clear()
    for _ in range(2):
        assert all(map(same, cached, expected))
    assert sorted(MADE) == [0, *range(20)]  # the first once more, to see how large a sample is
    MADE.clear()
    again = data.from_function(make, 20).cache(tmp_path)
    assert all(map(same, [again[index] for index in reversed(range(20))], reversed(expected)))
    assert MADE == []
    assert again.schema == cached.schema
    assert repr(again) == f"Dataset(20 samples, from_function({make.__qualname__}).cache(folder))"


def test_a_sample_is_the_reader_s_own(tmp_path: Path) -> None:
    cached = data.from_tensors(torch.zeros(4, 3)).cache(tmp_path)
    cached[0].add_(1)
    assert torch.equal(cached[0], torch.zeros(3))
    batch = cached.take_batch([0, 1])
    assert batch.data_ptr() % 64 == 0 or batch.is_contiguous()


def test_files_hold_a_bounded_number_of_bytes_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "SHARD_BYTES", 1000)
    cached = data.from_tensors(torch.arange(1000.0).reshape(100, 10)).cache(tmp_path)
    assert torch.equal(cached.take_batch([3, 99]), torch.arange(1000.0).reshape(100, 10)[[3, 99]])
    assert [path.name for path in shards(tmp_path)] == ["samples-000000.safetensors", "samples-000003.safetensors"]
    manifest = json.loads(next(tmp_path.glob("*/manifest.json")).read_text())
    assert manifest["samples_a_file"] == 25
    assert manifest["made_of"] == "from_tensors"
    assert manifest["schema"] == ["x: float32 10"]
    with safe_open(shards(tmp_path)[0], framework="pt") as file:  # any program can read it
        assert file.get_tensor("all").shape == (25, 10)


def test_only_some_files_stay_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "SHARD_BYTES", 1)
    monkeypatch.setattr(disk_cache, "OPEN", 3)
    cached = data.from_tensors(torch.arange(30)).cache(tmp_path)
    assert [int(value) for value in cached] == list(range(30))
    assert len(cached.source._opened) == 3  # type: ignore[attr-defined]


# Changes are noticed


def plain(sample: Any) -> Any:
    return sample * SCALE


SCALE = 2


def helped(sample: Any) -> Any:
    return _help(sample)


def _help(sample: Any) -> Any:
    return sample + 1


@dataclass(frozen=True)
class Scaled:
    by: float
    names: tuple[str, ...] = ()

    def __call__(self, sample: Any) -> Any:
        return sample * self.by


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by: float) -> None:
        self.by = by

    def __call__(self, sample: Any) -> Any:
        return sample * self.by


def closing(by: Any) -> Callable[[Any], Any]:
    return lambda sample: sample * by


def with_default(sample: Any, by: float = 2.0) -> Any:
    return sample * by


def digest(function: Callable[[Any], Any], rows: int = 3) -> str:
    return digest_of(data.from_tensors(torch.arange(rows)).map(function).source)


def recompiled(function: types.FunctionType, old: str, new: str) -> None:
    """Replace a function's code by that of another text."""
    constants = tuple(int(new) if constant == int(old) else constant for constant in function.__code__.co_consts)
    function.__code__ = function.__code__.replace(co_consts=constants)


def test_what_changes_samples_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if any of these is left out: defaults, closures, globals, helpers, attributes, arguments of partial, weights."""
    pairs: list[tuple[Callable[[Any], Any], Callable[[Any], Any]]] = [
        (closing(2), closing(3)),
        (closing(torch.tensor([1.0])), closing(torch.tensor([2.0]))),
        (closing({"a": [1, {2}]}), closing({"a": [1, {3}]})),
        (Scaled(2), Scaled(3)),
        (Scaled(2), Scaled(2, ("a",))),
        (Slotted(2), Slotted(3)),
        (Scaled(2).__call__, Scaled(3).__call__),
        (functools.partial(with_default, by=2.0), functools.partial(with_default, by=3.0)),
        (torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)),
        (functools.partial(re.sub, re.compile("a")), functools.partial(re.sub, re.compile("b"))),
        ([1].__contains__, [2].__contains__),
        (abs, float),
        (lambda sample: sample + 1, lambda sample: sample + 2),
        (lambda sample: sample + 1, lambda sample: sample - 1),
        (lambda sample: [part + 1 for part in sample], lambda sample: [part + 2 for part in sample]),
    ]
    for one, other in pairs:
        assert digest(one) == digest(one)
        assert digest(one) != digest(other), one
    before = digest(plain), digest(with_default), digest(helped)
    monkeypatch.setitem(globals(), "SCALE", 3)
    assert digest(plain) != before[0]
    monkeypatch.setattr(with_default, "__defaults__", (3.0,))
    assert digest(with_default) != before[1]
    code = _help.__code__
    recompiled(_help, "1", "2")  # type: ignore[arg-type]
    assert digest(helped) != before[2]
    _help.__code__ = code
    assert digest(helped) == before[2]


def test_data_in_memory_and_the_algebra_count() -> None:
    base = data.from_tensors(torch.arange(10))
    others: list[Dataset[Any]] = [
        base,
        data.from_tensors(torch.arange(10).float()),
        data.from_tensors(torch.arange(10).roll(1)),
        data.from_tensors(torch.arange(5), torch.arange(5)),
        data.from_iterable(list(range(10))),
        base.take(5),
        base.skip(5),
        base.select([1, 2]),
        base.repeat(2),
        base.zip(base),
        base.concat(base),
        base.windows(3),
        base.windows(3, 2),
        base.filter(lambda n: n > 3),
        base.split(0.5, 0.5, seed=1)[0],
        base.split(0.5, 0.5, seed=2)[0],
        base.map_batch(data.Standardize(None).fit(base.as_training())),
    ]
    assert len({digest_of(dataset.source) for dataset in others}) == len(others)
    assert digest_of(base.cache().source.parents[0]) == digest_of(base.source)


def test_a_digest_is_the_same_in_another_process(tmp_path: Path) -> None:
    dataset = numbers().map(Scaled(2, ("a", "b"))).filter(closing({"x", "y", "z"})).source
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    worker = context.Process(target=_tell_digest, args=(queue,))
    worker.start()
    assert queue.get(timeout=60) == digest_of(dataset)
    worker.join()


def _tell_digest(queue: Any) -> None:
    queue.put(digest_of(numbers().map(Scaled(2, ("a", "b"))).filter(closing({"x", "y", "z"})).source))


def test_a_changed_transform_makes_a_cache_of_its_own(tmp_path: Path) -> None:
    base = data.from_tensors(torch.arange(5))
    assert [int(value) for value in base.map(closing(2)).cache(tmp_path)] == [0, 2, 4, 6, 8]
    assert [int(value) for value in base.map(closing(3)).cache(tmp_path)] == [0, 3, 6, 9, 12]
    assert [int(value) for value in base.map(closing(2)).cache(tmp_path)] == [0, 2, 4, 6, 8]
    assert len(list(tmp_path.iterdir())) == 2


def test_what_cannot_be_hashed_or_kept_is_refused(tmp_path: Path) -> None:
    class Locked:
        def __init__(self) -> None:
            self.lock = threading.Lock()

        def __call__(self, sample: Any) -> Any:
            return sample

    class Pair(NamedTuple):
        x: int

    base = data.from_tensors(torch.arange(5))
    with pytest.raises(
        CacheError,
        match=r"cache\(folder\) must notice when samples change.*_function.*lock'\], a _thread\.lock, holds.*cache\(\) in memory",
    ):
        base.map(Locked()).cache(tmp_path)
    wrong: list[tuple[Any, str]] = [
        ([Pair(1)], r"cannot keep sample 0: it holds a Pair\. Return tuples, lists and dicts"),
        ([{"a": [1, object()]}], r"cannot keep sample 0 at \['a'\]\[1\]: it holds a object"),
        ([{1: 2}], r"it holds a dict"),
        ([np.array(["a"])], r"an array of <U1 is no tensor"),
        ([torch.zeros(2, dtype=torch.complex128)], r"torch.complex128 is no dtype of safetensors"),
        ([torch.eye(2).to_sparse()], r"no dtype of safetensors|sparse"),
    ]
    for samples, message in wrong:
        with pytest.raises(CacheError, match=message):
            data.from_function(samples.__getitem__, 1).cache(tmp_path)[0]
    with pytest.raises(ArgumentValueError, match="cache cannot stand above a random map"):
        base.map_random(lambda sample, generator: sample).cache(tmp_path)
    with pytest.raises(ArgumentTypeError, match="folder must be a path"):
        base.cache(3)  # type: ignore[arg-type]


# Disks, damage and company


def test_a_full_disk_is_an_error_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(FileSystem):
        def write(self, descriptor: int, data: memoryview) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    cached = numbers().cache(tmp_path)
    cached[0]
    for path in shards(tmp_path):
        path.unlink()
    MADE.clear()  # a list of this module, which counts: the function uses it
    monkeypatch.setattr(disk_cache, "FILES", Full())
    fresh = data.from_function(make, 20).cache(tmp_path)
    with pytest.raises(CacheError, match=r"cannot be written: No space left on device\. Free some space"):
        fresh[0]
    assert [path.name for path in next(tmp_path.iterdir()).iterdir()] == ["manifest.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"cannot be written: (Not a directory|File exists)"):
        numbers().cache(tmp_path / "file")


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "manifest", "text"])
def test_what_is_damaged_is_made_anew(tmp_path: Path, damage: str) -> None:
    expected = list(numbers().cache(tmp_path))
    (path,) = shards(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-1])
    elif damage == "bit":
        content[-1] ^= 1
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_bytes(content.replace(b"tail", b"TAIL"))
    else:
        path.with_name("manifest.json").write_text("{")
    again = numbers().cache(tmp_path)
    if damage == "manifest":
        assert all(map(same, again, expected))
        return
    with pytest.warns(UserWarning, match=r"safetensors is not what was written; it is made anew"):
        assert all(map(same, again, expected))
    assert len(MADE) == 20


def slow(index: int) -> torch.Tensor:
    time.sleep(0.01)
    return torch.full((1000,), index)


def _fill(folder: Path) -> None:
    disk_cache.SHARD_BYTES = 40_000
    list(data.from_function(slow, 60).cache(folder))


def test_whoever_is_killed_while_filling_leaves_what_can_be_read(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for moment in (0.05, 0.15, 0.3):
        worker = context.Process(target=_fill, args=(tmp_path,))
        worker.start()
        time.sleep(moment)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join()
    found = len(shards(tmp_path))
    assert found < 12
    assert [int(value[0]) for value in data.from_function(slow, 60).cache(tmp_path)] == list(range(60))


def test_processes_that_fill_together_make_each_file_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill_counted, args=(tmp_path / "cache", tmp_path / f"log{number}")) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    made = [int(line) for log in tmp_path.glob("log*") for line in log.read_text().split()]
    assert sorted(set(made)) == list(range(40))
    assert len(made) <= 40 + 3  # each looks at the first sample to see how large it is
    assert not list((tmp_path / "cache").glob("*/*.lock"))


def _counted(index: int) -> torch.Tensor:
    with open(LOG, "a", encoding="utf-8") as log:
        log.write(f"{index} ")
    return torch.full((1000,), index)


LOG = ""


def _fill_counted(folder: Path, log: Path) -> None:
    global LOG  # noqa: PLW0603  (in a process of its own)
    disk_cache.SHARD_BYTES = 40_000
    dataset = data.from_function(_counted, 40).cache(folder)
    LOG = str(log)
    assert [int(value[0]) for value in dataset] == list(range(40))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_read_and_fill_it_and_change_nothing(tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "SHARD_BYTES", 40_000)
    images = data.from_function(_noisy, 50)
    expected = [
        batch for epoch in range(2) for batch in batches_of(images.cache(), keys=Keys(1), name="train", batch_size=7).epoch(epoch)
    ]
    batches = batches_of(images.cache(tmp_path), keys=Keys(1), name="train", batch_size=7, workers=workers)
    described = batches.describe()
    read = [batch for epoch in range(2) for batch in batches.epoch(epoch)]
    batches.close()
    assert all(map(torch.equal, read, expected))
    assert batches.describe() == described  # a resume finds the same data, whether it was filled or not


def _noisy(index: int) -> torch.Tensor:
    return torch.cat((torch.tensor([float(index)]), torch.rand(1000)))  # under the sample's key


def test_a_cache_in_memory_is_filled_before_workers_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if threads run the user's Python, which shares the global generators with the training step."""
    threads: set[int] = set()

    def make_here(index: int) -> torch.Tensor:
        threads.add(threading.get_ident())
        return torch.rand(3)

    batches = batches_of(data.from_function(make_here, 20).cache(), keys=Keys(0), name="train", workers=2)
    list(batches.epoch(0))
    list(batches.epoch(1))
    batches.close()
    assert threads == {threading.get_ident()}
