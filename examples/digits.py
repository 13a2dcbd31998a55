"""Handwritten digits by a small convolutional network, from arrays to a test accuracy above 98 % in seconds.

python examples/digits.py                  writes out/digits.png and out/digits.safetensors

The 1,797 digits of 8 x 8 pixels are shipped with scikit-learn (a part of Alpaydin and Kaynak 1998).
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from torchflow import EarlyStopping, History, Trainer, data, load_model, metrics, save_model, supervised
from torchflow.data import augment

Batch = tuple[Tensor, Tensor]  # of shapes (batch, 1, 8, 8) and (batch,)


# 1. A model
class Network(nn.Sequential):
    """Three convolutions, two of them before the resolution is halved, and a linear layer."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 4 * 4, 10)),
        )


# 2. Training: it ends with the weights of the epoch that was best on the validation part
trainer: Trainer[nn.Module, Batch] = Trainer(
    supervised(nn.CrossEntropyLoss(label_smoothing=0.05), metrics={"accuracy": metrics.accuracy}),
    optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=2e-3),
    callbacks=[EarlyStopping("valid/loss", patience=10, restore_best=True)],
    progress=False,
)


# 3. What is left to learn: the digits that it is least sure of, and the curves
def draw(history: History, pictures: Tensor, truth: Tensor, scores: Tensor, path: Path) -> None:
    """Draw the twelve digits of the test part with the least certain predictions, beside the accuracies over the epochs."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    halves: Any = figure.subfigures(1, 2)
    left, right = halves
    sure, predicted = scores.softmax(1).max(1)
    left.suptitle("the least certain of the test part", fontsize=10)
    for axes, index in zip(left.subplots(3, 4).flat, sure.argsort()[:12].tolist(), strict=True):
        axes.imshow(pictures[index, 0], cmap="gray_r")
        mistake = "" if predicted[index] == truth[index] else f", not {int(truth[index])}"
        axes.set_title(f"{int(predicted[index])}{mistake} ({float(sure[index]):.0%})", fontsize=9)
        axes.axis("off")
    axes = right.subplots()
    for curve, style in (("train/accuracy", "o-"), ("valid/accuracy", "s--")):
        axes.plot(history.epochs(curve), history[curve], style, markersize=4, label=curve)
    axes.set(xlabel="epochs finished", ylabel="accuracy", ylim=(0.9, 1.002))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=100)


# 4. All together
def main(out: Path, epochs: int) -> None:
    """Learn, measure, save and draw."""
    images, labels = load_digits(return_X_y=True)
    digits = data.from_arrays((images.reshape(-1, 1, 8, 8).astype("float32") / 16, labels))
    train, valid, test = digits.split(0.6, 0.2, 0.2, seed=0, stratify=1)
    shaken = train.map_random(augment.Affine(8, translate=0.06, scale=0.08))  # drawn anew in every epoch
    result = trainer.fit(Network, shaken, epochs=epochs, batch_size=64, validation=valid)
    accuracy = trainer.evaluate(result.model, test)["accuracy"]
    (x, y), (pictures, truth) = (part.take_batch(range(len(part))) for part in (train, test))
    linear = LogisticRegression(max_iter=2_000).fit(x.flatten(1), y).score(pictures.flatten(1), truth)
    print(f"{result.progress.epoch} epochs: {result.reason}\n\naccuracy on {len(test)} digits that were not trained on")
    print(f"  network              {accuracy:.4f}\n  logistic regression  {linear:.4f}\n")
    scores = trainer.predict(result.model, test)
    draw(result.history, pictures, truth, scores, out / "digits.png")
    save_model(result.model, out / "digits.safetensors")
    loaded = load_model(out / "digits.safetensors", into=Network())
    assert torch.equal(trainer.predict(loaded, test), scores)
    print(f"picture      {out / 'digits.png'}\nmodel        {out / 'digits.safetensors'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Handwritten digits by a small convolutional network.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture and the model go")
    parser.add_argument("--epochs", type=int, default=20, help="at most so many")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    main(args.out, args.epochs)
