"""DNA and text from threads, forked and spawned processes: everybody gets the same samples, and every order holds.

``TORCHFLOW_READS`` says how many reads each of them makes; the promise is held with 10,000.
"""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from torchflow import data
from torchflow.data import Bucketed, PadBatch, RandomReverseComplement, Vocabulary
from torchflow.data.draw import first_draw
from torchflow.data.sources import Source
from torchflow.randomness import Keys
from torchflow.tree import leaves

READS = int(os.environ.get("TORCHFLOW_READS", "400"))
Job = tuple[Source, list[int]]


def letters(rng: random.Random, count: int) -> str:
    return "".join(rng.choices("ACGTNacgtRY", k=count))


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, data.Dataset[Any]]:
    folder, rng = tmp_path_factory.mktemp("sequences"), random.Random(0)
    genes = "".join(f">g{number} class={number % 3}\n{letters(rng, rng.randint(5, 90))}\n" for number in range(200))
    (folder / "a.fa.gz").write_bytes(gzip.compress(genes.encode()))
    reads = "".join(f"@r{n}\n{letters(rng, 40)}\n+\n{''.join(rng.choices('!5IJ~', k=40))}\n" for n in range(200))
    (folder / "a.fq").write_text(reads, encoding="utf-8")
    genome = "".join(f">c{n}\n" + "".join(f"{letters(rng, 50)}\n" for _ in range(20)) for n in range(3))
    (folder / "g.fa").write_text(genome, encoding="utf-8")
    for number in range(40):
        (folder / f"{number}.txt").write_text(f"text {number} " + "".join(rng.choices("aé世🎉\n", k=30)), encoding="utf-8")
    texts = [folder / f"{number}.txt" for number in range(40)]
    lines = data.from_text(texts, lines=True, labels=[number % 2 for number in range(40)])
    return {
        "fasta": data.from_fasta(folder / "a.fa.gz", label_from=r"class=(\d)", encoding="one-hot"),
        "mapped": data.from_fasta(folder / "a.fa.gz", label_from=r"class=(\d)", cache=folder / "cache"),
        "fastq": data.from_fastq(folder / "a.fq"),
        "genome": data.from_genome(folder / "g.fa", length=60, stride=7, strand="both"),
        "text": data.from_text(texts),
        "lines": lines,
        "encoded": lines.map(Vocabulary("bpe", size=280, end=True).fit(lines)),
        "windows": Vocabulary("byte").fit(lines).windows(lines, 16, 5),
    }


def digests(job: Job) -> list[str]:
    """A digest of each sample, read one by one."""
    source, indices = job
    found = []
    for index in indices:
        (sample,) = source.samples(torch.tensor([index]), first_draw())
        parts = [leaf.numpy().tobytes() if isinstance(leaf, Tensor) else str(leaf).encode() for leaf in leaves(sample)]
        found.append(hashlib.blake2b(b"|".join(parts)).hexdigest())
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
    names = list(datasets)
    expected = {name: digests((datasets[name].source, list(range(len(datasets[name]))))) for name in names}
    assert all(len(set(made)) > len(made) // 2 for name, made in expected.items() if name != "lines"), "samples can be told apart"
    owners = [*names, *names]
    jobs = [(datasets[name].source, [rng.randrange(len(datasets[name])) for _ in range(READS // 2)]) for name in owners]
    many: Callable[[list[Job]], list[list[str]]] = in_threads if where == "threads" else partial(in_processes, method=where)
    for name, (_, indices), made in zip(owners, jobs, many(jobs), strict=True):
        wrong = sum(digest != expected[name][index] for index, digest in zip(indices, made, strict=True))
        assert wrong == 0, f"{wrong} of {len(indices)} reads of {name} are wrong"


@pytest.mark.parametrize("name", ["fasta", "mapped", "fastq", "genome", "encoded", "windows"])
def test_batches_are_the_same_for_any_workers_and_from_any_batch_on(datasets: dict[str, data.Dataset[Any]], name: str) -> None:
    """Law 5, and the purity of random maps, with every reader."""
    dataset = datasets[name].take(26)
    if name == "mapped":
        dataset = dataset.map_random(RandomReverseComplement())
    ragged = name in ("fasta", "mapped", "encoded")
    options: dict[str, Any] = {"collate": PadBatch()} if ragged else {}
    if name == "encoded":
        options["shuffle"] = Bucketed(pool=2)
    runs = []
    for workers, start in ((0, 0), (2, 0), (2, 2)):
        batches = data.batches_of(dataset, keys=Keys(3), name="train", batch_size=6, workers=workers, **options)
        runs.append([list(leaves(batch)) for batch in batches.epoch(1, start)])
        batches.close()
    assert len(runs[0]) == 5
    for run, start in ((runs[1], 0), (runs[2], 2)):
        for batch, expected in zip(run, runs[0][start:], strict=True):
            assert all(torch.equal(*pair) for pair in zip(batch, expected, strict=True))
    indices = [index for batch in range(5) for index in batches.indices(1, batch) or []]
    assert sorted(indices) == list(range(26))


@pytest.mark.parametrize("name", ["fasta", "fastq", "genome", "text", "lines", "windows"])
def test_a_start_says_what_it_reads_and_says_the_same_again(datasets: dict[str, data.Dataset[Any]], name: str) -> None:
    one, other = (data.batches_of(datasets[name], keys=Keys(0), name="train").describe() for _ in range(2))
    assert one == other
    assert one["content"]


def test_datasets_of_sequences_are_drawn(datasets: dict[str, data.Dataset[Any]], tmp_path: Path) -> None:
    for name in ("fastq", "genome", "text", "windows"):
        datasets[name].show(2, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
