"""Pictures are the same whoever reads them: threads, forked and spawned processes; thousands of reads, none of them wrong.

TORCHFLOW_READS says how many reads each way; 10,000 take a minute.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor, nn

from tests.data.fuzzed_pictures import DICOM
from tests.data.pictures import noise, png, smooth, write
from torchflow import Trainer, data, supervised
from torchflow.data import batches_of
from torchflow.data.augment import ColorJitter, Compose, Crop, Flip, Rotate
from torchflow.randomness import Keys

READS = int(os.environ.get("TORCHFLOW_READS", "400"))
WORKERS = 2


def pictures(folder: Path) -> data.Dataset[Any]:
    """Files of every decoder, each with values of its own."""
    for number in range(6):
        image = Image.fromarray(np.roll(smooth(40, 50), 3 * number, 1))
        image.save(folder / f"{number}.jpg")
        image.quantize(16).save(folder / f"{number}.gif")
        image.save(folder / f"{number}.webp")
        tifffile.imwrite(folder / f"{number}.tif", np.asarray(image), photometric="rgb", compression="zlib")
        image.save(folder / f"{number}-lzw.tif", compression="tiff_lzw")
        write(folder / f"{number}.png", png(noise(20, 30, 3, dtype=np.uint16, seed=number), filters=1))
    return data.from_images(folder, mode="RGB", size=(24, 32))


def scans() -> data.Dataset[Any]:
    """DICOM, plain, RLE, JPEG 2000 and colours."""
    names = ["CT_small", "MR_small_RLE", "MR_small_jp2klossless", "SC_rgb_rle"]
    first, *others = [data.from_dicom([DICOM / f"{name}.dcm"], mode="RGB", size=(24, 32)) for name in names]
    return first.concat(*others)


def one_by_one(dataset: data.Dataset[Any], indices: list[int]) -> list[tuple[int, Tensor]]:
    return [(index, dataset[index]) for index in indices]


def in_threads(job: Callable[[list[int]], list[Any]], parts: list[list[int]]) -> list[Any]:
    with ThreadPoolExecutor(WORKERS) as pool:
        return [pair for made in pool.map(job, parts) for pair in made]


def in_processes(start: str, job: Callable[[list[int]], list[Any]], parts: list[list[int]]) -> list[Any]:
    with ProcessPoolExecutor(WORKERS, mp_context=multiprocessing.get_context(start)) as pool:
        return [(index, torch.from_numpy(image)) for made in pool.map(partial(_as_arrays, job), parts) for index, image in made]


def _as_arrays(job: Callable[[list[int]], list[Any]], part: list[int]) -> list[Any]:
    return [(index, image.numpy()) for index, image in job(part)]


WAYS: dict[str, Callable[[Callable[[list[int]], list[Any]], list[list[int]]], list[Any]]] = {
    "threads": in_threads,
    "forked": partial(in_processes, "fork"),
    "spawned": partial(in_processes, "spawn"),
}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("way", WAYS)
def test_nobody_gets_another_picture_s_values(tmp_path: Path, way: str) -> None:
    """Fails if a decoder, a handle or a buffer is shared between readers."""
    dataset = pictures(tmp_path).concat(scans())
    expected = dict(one_by_one(dataset, list(range(len(dataset)))))
    order = (torch.arange(READS) * 7919 % len(dataset)).tolist()
    step = max(1, READS // (4 * WORKERS))
    made = WAYS[way](partial(one_by_one, dataset), [order[at : at + step] for at in range(0, READS, step)])
    assert [index for index, _ in made] == order
    assert sum(not torch.equal(image, expected[index]) for index, image in made) == 0


def test_a_run_is_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    """Decoding, augmentation and training, to the last bit."""
    train = (
        pictures(tmp_path)
        .zip(data.from_tensors(torch.arange(36) % 2))
        .map_random(Compose(Flip(), Crop(20, padding=2), Rotate(10), ColorJitter(0.2, 0.2, 0.2, 0.05)))
    )

    def trained(workers: int) -> list[Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        trainer: Trainer[nn.Module, Any] = Trainer(
            supervised(nn.CrossEntropyLoss()), optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1), progress=False
        )
        trainer.fit(model, train, epochs=2, batch_size=8, workers=workers)
        return [parameter.detach() for parameter in model.parameters()]

    expected = trained(0)
    for workers in (1, 2):
        assert all(torch.equal(one, other) for one, other in zip(trained(workers), expected, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_picture_comes_once_an_epoch(tmp_path: Path, workers: int) -> None:
    dataset = pictures(tmp_path).zip(data.from_tensors(torch.arange(36)))
    batches = batches_of(dataset, keys=Keys(5), name="train", batch_size=7, workers=workers)
    seen = [int(number) for _, numbers in batches.epoch(4) for number in numbers]
    assert sorted(seen) == list(range(36))
    assert seen != list(range(36))
