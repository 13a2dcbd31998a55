"""Series: which of six kinds of tree a leaf is from, told by its outline alone (OSULeaf of the UCR archive, shipped with aeon).

python examples/time_series.py

A fully convolutional network (Wang, Yan and Oates, "Time series classification from scratch with deep neural networks", 2017) is trained
on the archive's 200 leaves and tested on its 242. The paper trains for 2,000 epochs; here a learning rate that rises and
falls once has to do with 40, and the test part is used once, at the end.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from torchflow import Plan, Schedule, Trainer, data, metrics, supervised

Samples = data.Dataset[tuple[Tensor, Tensor]]  # of shapes (1, steps) and ()
TREES = ("Acer circinatum", "Acer glabrum", "Acer macrophyllum", "Acer negundo", "Quercus garryana", "Quercus kelloggii")
PUBLISHED = "97.7 ± 0.9"  # Ismail Fawaz et al., "Deep learning for time series classification: a review", 2019: five runs


def read_series(part: str) -> Samples:
    """Return the outlines of a part of OSULeaf and their classes, out of a text file of the package, which is not imported."""
    package = find_spec("aeon")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("error: OSULeaf is shipped with aeon. Use: pip install --no-deps aeon")
    path = Path(package.submodule_search_locations[0], "datasets", "data", "OSULeaf", f"OSULeaf_{part}.ts")
    lines = path.read_text(encoding="utf-8").partition("@data\n")[2].split()
    values, labels = zip(*(line.rsplit(":", 1) for line in lines), strict=True)
    x = torch.tensor([[float(value) for value in line.split(",")] for line in values])
    return data.from_tensors(x.unsqueeze(1), torch.tensor([int(label) - 1 for label in labels]))


class FullyConvolutional(nn.Sequential):
    """Three convolutions with batch normalisation, the mean over time, and a linear layer: (batch, 1, steps) to (batch, classes)."""

    def __init__(self, classes: int) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs, width in ((1, 128, 8), (128, 256, 5), (256, 128, 3)):
            layers += [
                nn.ZeroPad1d(((width - 1) // 2, width // 2)),
                nn.Conv1d(inputs, outputs, width),
                nn.BatchNorm1d(outputs),
                nn.ReLU(),
            ]
        super().__init__(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(128, classes))


def one_cycle(optimizer: torch.optim.Optimizer, plan: Plan) -> LRScheduler:
    """Return a learning rate that rises and falls once over the whole run."""
    assert plan.updates is not None
    return OneCycleLR(optimizer, max_lr=0.005, total_steps=plan.updates)


trainer: Trainer[nn.Module, tuple[Tensor, Tensor]] = Trainer(
    supervised(nn.CrossEntropyLoss(), metrics={"accuracy": metrics.accuracy}),
    optimizer=lambda model: torch.optim.Adam(model.parameters()),
    scheduler=Schedule(one_cycle),
)


def draw(samples: Samples, predicted: Tensor, path: Path) -> None:
    """Draw an outline of each kind of tree, and which kinds are taken for which."""
    left, right = (figure := Figure(figsize=(11, 4.5), layout="constrained")).subplots(1, 2)
    x, y = samples.take_batch(range(len(samples)))
    for kind, name in enumerate(TREES):
        left.plot(x[y == kind][0, 0] - 5 * kind, color=f"C{kind}", linewidth=1.2)
        left.text(430, -5.0 * kind, name, color=f"C{kind}", va="center", fontsize=9)
    left.set(xlabel="step along the outline", title="outlines of six leaves, standardised", yticks=[], xlim=(0, 600))
    table = torch.zeros(6, 6).index_put_((y, predicted), torch.ones(len(y)), accumulate=True)
    right.imshow(table, cmap="Blues")
    for row, column in table.nonzero().tolist():
        colour = "white" if table[row, column] > table.max() / 2 else "black"
        right.text(column, row, f"{table[row, column]:.0f}", ha="center", va="center", color=colour)
    right.set(title=f"{len(y)} leaves of the test part", xticks=range(6), yticks=range(6))
    right.set_xticklabels([name.replace(" ", "\n") for name in TREES], fontsize=7)
    right.set_yticklabels(TREES, fontsize=8)
    right.set(xlabel="taken for", ylabel="is")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Train, test, and draw."""
    parser = argparse.ArgumentParser(description="Which kind of tree a leaf is from.")
    parser.add_argument("--epochs", type=int, default=40, help="how long to train; about a second each on two cores")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture goes")
    args = parser.parse_args()
    train, test = read_series("TRAIN"), read_series("TEST")
    print(data.check_splits(train, test))
    torch.manual_seed(0)  # for the first weights
    model = FullyConvolutional(len(TREES))
    result = trainer.fit(model, train, epochs=args.epochs, batch_size=16)
    scores = trainer.evaluate(model, test)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(test, trainer.predict(model, test).argmax(1), args.out / "time_series.png")
    print(f"\ntraining     {args.epochs} epochs, loss {result.history.last['train/loss']:.3f}")
    print(f"accuracy     {100 * scores['accuracy']:.1f} % of {len(test)} leaves that the network has not seen")
    print(f"published    {PUBLISHED} % after 2,000 epochs\npicture      {args.out / 'time_series.png'}")


if __name__ == "__main__":
    main()
