"""Five figures: a run's curves, several runs, a regression with its residuals, and which digits are taken for which.

python examples/plots.py        writes out/plots_history.png, plots_compare, plots_regression, plots_residuals and plots_confusion

The progression of diabetes (Efron, Hastie, Johnstone and Tibshirani 2004) and the digits are shipped with scikit-learn.
"""

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn

from torchflow import EarlyStopping, Result, Trainer, data, plots, supervised
from torchflow.metrics import accuracy

Batch = tuple[Tensor, Tensor]


def network() -> nn.Sequential:
    """Return a small network from ten measurements to one."""
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))


def learner(rate: float) -> Trainer[nn.Module, Batch]:
    """Return a trainer with a learning rate."""
    return Trainer(
        supervised(nn.MSELoss()),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=rate),
        callbacks=[EarlyStopping("valid/loss", patience=8, restore_best=True)],
        progress=False,
    )


def patients(out: Path) -> None:
    """Learn how the disease goes on within a year, at three learning rates, and draw four figures."""
    x, y = load_diabetes(return_X_y=True)
    samples = data.from_arrays((x.astype("float32"), y.astype("float32")[:, None]))
    parts = samples.split(0.6, 0.2, 0.2, seed=0)
    scale, unit = (data.Standardize(field).fit(parts[0]) for field in (0, 1))
    train, valid, test = (part.map_batch(scale).map_batch(unit) for part in parts)
    rates = (0.0003, 0.003, 0.03)
    runs: dict[str, Result[nn.Module]] = {
        f"rate {rate}": learner(rate).fit(network, train, epochs=60, validation=valid) for rate in rates
    }
    best = min(runs.values(), key=lambda run: run.history.best("valid/loss").value)
    plots.history(best, out / "plots_history.png")
    plots.compare(runs, out / "plots_compare.png")
    predicted = unit.inverse(learner(rates[0]).predict(best.model, test))
    measured = parts[2].take_batch(range(len(parts[2])))[1]
    plots.regression(predicted, measured, out / "plots_regression.png", names=["progression within a year"])
    plots.residuals(predicted, measured, out / "plots_residuals.png", names=["progression within a year"])
    print(f"patients     mean error {float((predicted - measured).abs().mean()):.1f} of a range from 25 to 346; {best.reason}")


def digits(out: Path) -> None:
    """Tell digits apart by a linear model, and draw which it takes for which."""
    pixels, labels = load_digits(return_X_y=True)
    train, test = data.from_arrays((pixels.astype("float32") / 16, labels)).split(0.5, 0.5, seed=0)
    trainer: Trainer[nn.Module, Batch] = Trainer(
        supervised(nn.CrossEntropyLoss(), metrics={"accuracy": accuracy}),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=0.02),
        progress=False,
    )
    model = trainer.fit(lambda: nn.Linear(64, 10), train, epochs=10).model
    plots.confusion(trainer.predict(model, test), test.take_batch(range(len(test)))[1], out / "plots_confusion.png")
    print(f"digits       accuracy {trainer.evaluate(model, test)['accuracy']:.3f} of a linear model")


def main() -> None:
    """Draw all five."""
    parser = argparse.ArgumentParser(description="Five figures.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the pictures go")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    patients(args.out)
    digits(args.out)
    print(f"pictures     {args.out / 'plots_*.png'}")


if __name__ == "__main__":
    main()
