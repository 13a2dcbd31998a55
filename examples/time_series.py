"""Series: which of six kinds of tree a leaf is from, told by its outline (OSULeaf of the UCR archive, shipped with aeon).

python examples/time_series.py

A fully convolutional network (Wang, Yan and Oates, "Time series classification from scratch with deep neural networks", 2017) is
trained on the archive's 200 leaves and tested on its 242. The paper trains for 2,000 epochs, which takes the better part of an hour here.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from torchflow import Schedule, Trainer, data, metrics, supervised

Samples = data.Dataset[tuple[Tensor, Tensor]]  # of shapes (1, steps) and ()
TREES = ("Acer circinatum", "Acer glabrum", "Acer macrophyllum", "Acer negundo", "Quercus garryana", "Quercus kelloggii")
PUBLISHED = "97.7 ± 0.9"  # Ismail Fawaz et al., "Deep learning for time series classification: a review", 2019


def read_series(part: str) -> Samples:
    """Return the outlines of a part of OSULeaf and their classes, from the text file in the package, which is not imported."""
    package = find_spec("aeon")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("OSULeaf is shipped with aeon, which is not installed: pip install --no-deps aeon")
    path = Path(package.submodule_search_locations[0], "datasets", "data", "OSULeaf", f"OSULeaf_{part}.ts")
    lines = path.read_text(encoding="utf-8").partition("@data\n")[2].split()
    values, labels = zip(*(line.rsplit(":", 1) for line in lines), strict=True)
    x = torch.tensor([[float(value) for value in line.split(",")] for line in values])
    return data.from_tensors(x.unsqueeze(1), torch.tensor([int(label) - 1 for label in labels]))


class FullyConvolutional(nn.Sequential):
    """Three convolutions with batch normalisation, the mean over time, and a linear layer."""

    def __init__(self, classes: int) -> None:
        sizes = ((1, 128, 8), (128, 256, 5), (256, 128, 3))
        blocks = [layer for a, b, k in sizes for layer in (nn.Conv1d(a, b, k, padding="same"), nn.BatchNorm1d(b), nn.ReLU())]
        super().__init__(*blocks, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, classes))


def trainer(epochs: int) -> Trainer[nn.Module, tuple[Tensor, Tensor]]:
    """Return the training: Adam with a learning rate that rises and falls once."""

    def one_cycle(optimizer: torch.optim.Optimizer, plan: object) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=plan.updates)

    return Trainer(
        supervised(nn.CrossEntropyLoss(), metrics={"accuracy": metrics.accuracy}),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3),
        scheduler=Schedule(one_cycle),
        seed=SEED,
    )
