"""Sound and films from threads, forked and spawned processes: everybody gets the same samples.

``TORCHFLOW_READS`` says how many reads each of them makes; the promise is held with 10,000.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.media import write_aac, write_film, write_sound
from torchflow import data
from torchflow.data import LogMel
from torchflow.data.draw import first_draw
from torchflow.data.sources import Source
from torchflow.randomness import Keys
from torchflow.tree import leaves

READS = int(os.environ.get("TORCHFLOW_READS", "60"))
Job = tuple[Source, list[int]]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, data.Dataset[Any]]:
    folder = tmp_path_factory.mktemp("media")
    sound = np.random.default_rng(0).uniform(-0.9, 0.9, (32_000, 1)).astype(np.float32)
    files = [write_sound(folder / f"a{suffix}", sound, 16_000) for suffix in (".wav", ".flac", ".ogg", ".mp3")]
    films = [write_film(folder / f"a{suffix}", sound=sound) for suffix in (".mp4", ".mkv")]
    return {
        "audio": data.from_audio([*files, write_aac(folder / "a.m4a", sound)], seconds=0.1, stride=0.07, rate=8000),
        "video": data.from_video(films, frames=3, fps=20, stride=0.1, size=24, sound=True, rate=8000),
    }


def digests(job: Job) -> list[str]:
    """A digest of each sample, read one by one."""
    source, indices = job
    found = []
    for index in indices:
        (sample,) = source.samples(torch.tensor([index]), first_draw())
        digest = hashlib.blake2b()
        for leaf in leaves(sample):
            digest.update(leaf.numpy().tobytes())
        found.append(digest.hexdigest())
    return found


def in_threads(jobs: list[Job]) -> list[list[str]]:
    with ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(digests, jobs))


def in_processes(jobs: list[Job], *, method: str) -> list[list[str]]:
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(digests, jobs, chunksize=1)


@pytest.mark.parametrize("where", ["threads", "fork", "spawn"])
def test_everybody_reads_the_same_samples(datasets: dict[str, data.Dataset[Any]], where: str) -> None:
    rng = random.Random(0)
    sources = [dataset.source for dataset in datasets.values()]
    expected = [digests((source, list(range(source.length)))) for source in sources]
    assert all(len(set(made)) > len(made) // 2 for made in expected), "samples can be told apart"
    kinds = [0, 0, 1, 1]
    jobs = [(sources[kind], [rng.randrange(sources[kind].length) for _ in range(READS // 2)]) for kind in kinds]
    many: Callable[[list[Job]], list[list[str]]] = in_threads if where == "threads" else partial(in_processes, method=where)
    for kind, (_, indices), made in zip(kinds, jobs, many(jobs), strict=True):
        wrong = sum(digest != expected[kind][index] for index, digest in zip(indices, made, strict=True))
        assert wrong == 0, f"{wrong} of {len(indices)} reads are wrong"


def scaled(sample: Any) -> Any:
    return sample * 2


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_batches_are_the_same_for_any_workers_and_from_any_batch_on(datasets: dict[str, data.Dataset[Any]], kind: str) -> None:
    dataset = datasets[kind].take(20)
    if kind == "audio":
        dataset = dataset.map_batch(LogMel(8000, mels=10, n_fft=256, field=None))
    for threaded in (True, False):
        own = dataset if threaded else dataset.map(dict if kind == "video" else scaled)  # Python of the user runs in processes
        runs = []
        for workers, start in ((0, 0), (2, 0), (2, 2)):
            batches = data.batches_of(own, keys=Keys(3), name="train", batch_size=6, workers=workers)
            runs.append([list(leaves(batch)) for batch in batches.epoch(1, start)])
            batches.close()
        assert len(runs[0]) == 4
        for run, start in ((runs[1], 0), (runs[2], 2)):
            for batch, expected in zip(run, runs[0][start:], strict=True):
                assert all(torch.equal(*pair) for pair in zip(batch, expected, strict=True))


def test_the_order_of_an_epoch_holds_every_window_once(datasets: dict[str, data.Dataset[Any]]) -> None:
    dataset = datasets["audio"]
    batches = data.batches_of(dataset, keys=Keys(0), name="train", batch_size=7)
    count = batches.length or 0
    seen = [index for batch in range(count) for index in batches.indices(0, batch) or []]
    assert sorted(seen) == list(range(len(dataset)))
    for place, batch in enumerate(batches.epoch(0)):
        indices = batches.indices(0, place) or []
        assert torch.equal(batch[0], dataset[indices[0]])
        if place == 2:
            break


def test_a_changed_file_is_noticed_at_a_resume(tmp_path: Path) -> None:
    sound = np.zeros((8000, 1), np.float32)
    path = write_sound(tmp_path / "a.wav", sound)

    def described() -> Any:
        return data.batches_of(data.from_audio(path, seconds=0.25), keys=Keys(0), name="train").describe()["content"]

    before = described()
    assert described() == before
    sound[7999] = 0.5
    write_sound(path, sound)
    assert described() != before
