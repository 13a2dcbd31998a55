"""Transfer: a network learns the digits 0 to 4, and what it has learnt helps with 5 to 9, of which it gets one each to learn from.

python examples/transfer.py                writes out/transfer.png

Three ways from the same five digits: from first weights; a new head on a frozen body, which is better and much sooner good; and then all
layers, the lower the slower, which adds nothing here. With ten of each, first weights do no worse. The digits come with scikit-learn.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn

from torchflow import Every, History, Result, Trainer, data, metrics, supervised

Batch = tuple[Tensor, Tensor]  # of shapes (batch, 1, 8, 8) and (batch,)
Samples = data.Dataset[Batch]
CLASSES, SEEDS, EPOCHS = 5, 5, 60


class Network(nn.Module):
    """A body of three convolutions, which finds strokes, and a head, which names what they make."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten()),
        )
        self.head = nn.Linear(64 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (batch, 5) of pictures x (batch, 1, 8, 8)."""
        scores: Tensor = self.head(self.body(x))
        return scores


def learning(model: Network, *, body: bool) -> Network:
    """Let the body learn or not; the statistics of its normalisations stay, since five digits are too few for those."""
    model.train().body.eval()  # a model in training mode keeps the mode of each of its parts
    model.body.requires_grad_(body)
    return model


def adam(model: Network) -> torch.optim.Optimizer:
    """Return an optimizer of all parameters that learn, at one rate."""
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-3)


def layered(model: Network) -> torch.optim.Optimizer:
    """Return an optimizer of all parameters, each layer learning half as fast as the one above it."""
    layers = [model.head, *reversed(list(model.body))]
    return torch.optim.AdamW([{"params": list(layer.parameters()), "lr": 1e-3 * 0.5**depth} for depth, layer in enumerate(layers)])


def fitted(model: Any, optimizer: Any, train: Samples, test: Samples | None, seed: int) -> Result[Network]:
    """Train a model, or one that is made, and measure it after every third epoch."""
    step = supervised(nn.CrossEntropyLoss(), metrics={"accuracy": metrics.accuracy})
    trainer: Trainer[Network, Batch] = Trainer(step, optimizer=optimizer, progress=False, seed=seed)
    return trainer.fit(model, train, epochs=EPOCHS if test else 5, batch_size=64, validation=test, validate=Every(epochs=3))


def part(low: int) -> Samples:
    """Return the digits of five classes, from ``low`` on, called 0 to 4."""
    images, labels = load_digits(return_X_y=True)
    kept = (labels >= low) & (labels < low + CLASSES)
    return data.from_arrays((images[kept].reshape(-1, 1, 8, 8).astype("float32") / 16, labels[kept] - low))


def draw(curves: dict[str, list[History]], path: Path) -> None:
    """Draw the mean accuracies over the epochs, and each seed faintly."""
    axes = (figure := Figure(figsize=(7, 4.2), layout="constrained")).subplots()
    for (name, histories), (colour, style) in zip(curves.items(), (("0.4", ":"), ("#E69F00", "--"), ("#0072B2", "-")), strict=True):
        values = torch.tensor([history["valid/accuracy"] for history in histories])
        axes.plot(histories[0].epochs("valid/accuracy"), values.T, color=colour, linewidth=0.5, alpha=0.4)
        axes.plot(histories[0].epochs("valid/accuracy"), values.mean(0), style, color=colour, linewidth=2, label=name)
    axes.set(xlabel="epochs over five digits", ylabel="accuracy on the others", ylim=(0.2, 0.9))
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=100)


def main(out: Path) -> None:
    """Learn the first five classes once, and the last five in three ways from each of five draws."""
    first, samples = fitted(Network, adam, part(0), None, seed=0).model.state_dict(), part(5)
    curves: dict[str, list[History]] = {"from first weights": [], "a new head on a frozen body": [], "then all layers": []}
    for seed in range(SEEDS):
        train, test = samples.split(CLASSES, len(samples) - CLASSES, seed=seed, stratify=1)
        fresh = fitted(Network, adam, train, test, seed)
        model = Network()
        model.load_state_dict(first)
        model.head.reset_parameters()
        head = fitted(learning(model, body=False), adam, train, test, seed)
        whole = fitted(learning(model, body=True), layered, train, test, seed)
        for histories, result in zip(curves.values(), (fresh, head, whole), strict=True):
            histories.append(result.history)
    print(f"accuracy on {len(test)} digits from 5 to 9, after {EPOCHS} epochs over {len(train)}, mean and range of {SEEDS} draws")
    for name, histories in curves.items():
        last = [history.last["valid/accuracy"] for history in histories]
        print(f"  {name:<28} {sum(last) / SEEDS:.3f}  ({min(last):.3f} to {max(last):.3f})")
    draw(curves, out / "transfer.png")
    print(f"picture      {out / 'transfer.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="What the digits 0 to 4 teach about 5 to 9.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture goes")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    main(args.out)
