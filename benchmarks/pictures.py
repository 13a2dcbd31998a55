"""Pictures that are decoded while a small CNN is trained on them: by torchflow's threads, and by a DataLoader's processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from benchmarks.workloads import SEED
from torchflow import Callback, EpochStarted, Run, Stepped, Trainer, data, supervised
from torchflow.data.draw import Draw
from torchflow.data.order import order_of
from torchflow.data.sources import Source
from torchflow.randomness import Keys

BATCH, WORKERS, SIZE = 32, 2, 256


class Lap(NamedTuple):
    """Seconds to the first update, of the first epoch and of a second one, and the last loss."""

    first_update: float
    first_epoch: float
    later_epoch: float
    loss: float


def draw_pictures(folder: Path, count: int) -> list[tuple[Path, int]]:
    """Write JPEGs of clouds in two classes, one folder each, and return them in the order of their paths."""
    generator, files = np.random.default_rng(SEED), []
    for name in ("a", "b"):
        (folder / name).mkdir()
    for number in range(count):
        coarse = generator.integers(0, 256, (24, 24, 3), np.uint8)
        path = folder / "ab"[number % 2] / f"{number:05}.jpg"
        Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(path, quality=90)
        files.append((path, number % 2))
    return sorted(files)


def network() -> nn.Module:
    """Return a small CNN, with the same first weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return nn.Sequential(
            *(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 2)),
        )


def by_torchflow(folder: Path, files: list[tuple[Path, int]]) -> Lap:
    """Train two epochs with a Trainer that reads ahead on two threads."""
    watch = _Watch()
    trainer = Trainer(supervised(nn.CrossEntropyLoss()), optimizer=_optimizer, callbacks=[watch], progress=False, seed=SEED)
    read: Any = getattr(data, "from_images", None)
    pictures = data.Dataset(_Pictures(files)) if read is None else read(folder, labels="folder")
    trainer.fit(network(), pictures, epochs=2, batch_size=BATCH, workers=WORKERS)
    first, second = watch.epochs[:2]
    return Lap(watch.first - first, second - first, time.perf_counter() - second, watch.loss)


def by_dataloader(files: list[tuple[Path, int]], method: str) -> Lap:
    """Train two epochs by hand, with a DataLoader of two processes that stay, sending bytes that are scaled here.

    Args:
        files: The pictures and their labels.
        method: How the processes start: "fork", torch's default on Linux before Python 3.14, or "spawn" as on macOS and Windows.
    """
    model, loss_function = network(), nn.CrossEntropyLoss()
    optimizer = _optimizer(model)
    moments, first, loss = [time.perf_counter()], 0.0, torch.zeros(())
    order, context = _Order(len(files)), torch.multiprocessing.get_context(method)
    loader = DataLoader(
        _Files(files), BATCH, sampler=order, num_workers=WORKERS, persistent_workers=True, multiprocessing_context=context
    )
    for _ in range(2):
        for pixels, labels in loader:
            loss = loss_function(model(pixels.float().div_(255)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            first = first or time.perf_counter()
        moments.append(time.perf_counter())
    zero, one, two = moments
    return Lap(first - zero, one - zero, two - one, loss.item())


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01)


def _decoded(path: Path) -> Tensor:
    """Return the bytes of a picture, (3, height, width)."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


class _Watch(Callback):
    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.first = self.loss = 0.0

    def on_epoch_start(self, run: Run[Any, Any], event: EpochStarted) -> None:
        self.epochs.append(time.perf_counter())

    def on_step_end(self, run: Run[Any, Any], event: Stepped) -> None:
        self.first = self.first or time.perf_counter()
        self.loss = event.loss.item()


class _Files(Dataset[tuple[Tensor, int]]):
    def __init__(self, files: list[tuple[Path, int]]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self._files[index]
        return _decoded(path), label


class _Order(Sampler[int]):
    def __init__(self, count: int) -> None:
        self._count, self._epoch = count, -1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        self._epoch += 1
        yield from order_of(self._count, Keys(SEED)("order", self._epoch))[: self._count].tolist()


class _Pictures(Source):
    """Pictures read when they are needed, on whichever thread asks."""

    foreign = random = columnar = False
    lineage = "pictures"

    def __init__(self, files: list[tuple[Path, int]]) -> None:
        self._files = files

    @property
    def length(self) -> int:
        """How many pictures there are."""
        return len(self._files)

    def samples(self, indices: Tensor, draw: Draw) -> list[Any]:
        """Decode them."""
        chosen = [self._files[index] for index in indices.tolist()]
        return [(_decoded(path).float().div_(255), torch.tensor(label)) for path, label in chosen]
