"""Linear regression in six parts: data, a model, fitting, predictions, saving, and all of it together.

python examples/linear_regression.py                                  recovers y = 0.7 x + 0.3
python examples/linear_regression.py --csv table.csv --target price   the same for a table of numbers of your own
"""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from torchflow import EarlyStopping, History, Trainer, data, load_model, save_model, supervised
from torchflow.errors import TableError, TorchflowError

Samples = data.Dataset[tuple[Tensor, Tensor]]  # of shapes (features,) and (1,)


# 1. Data: prepare and load
def read_table(path: str, target: str) -> Samples:
    """Return the samples of a table of numbers, where there are enough of them."""
    table = data.from_csv(path, target=target)
    features = len(table[0][0])
    if len(table) < (needed := max(10, 2 * features + 4)):
        raise TableError(f"{path} has too few rows: {len(table)} for {features} feature(s). It needs at least {needed}.")
    return table


# 2. Build a model
class Line(nn.Module):
    """A weight for each feature and a bias, written out; ``nn.Linear(features, 1)`` is the shorter way."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features, 1))  # a squared error has one valley, so any start will do
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return predictions (batch, 1) of x (batch, features)."""
        return x @ self.weight + self.bias


# 3. Fit: a loss function, and an optimizer with parameters and learning rate; the Trainer is the training and the testing loop
trainer: Trainer[nn.Module, tuple[Tensor, Tensor]] = Trainer(
    supervised(nn.MSELoss()),
    optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
    callbacks=[EarlyStopping("valid/loss", patience=20, restore_best=True)],
    progress=False,
)


# 4. Predict and evaluate: the closed form to compare with, and a picture
def least_squares(x: Tensor, y: Tensor, unseen: Tensor) -> Tensor:
    """Return what the line of the smallest squared error on x and y predicts for unseen inputs."""
    x, unseen = (nn.functional.pad(part, (0, 1), value=1.0) for part in (x, unseen))  # a column of ones for the bias
    solution: Tensor = torch.linalg.lstsq(x, y, driver="gelsd").solution
    return unseen @ solution


def draw(history: History, x: Tensor, y: Tensor, prediction: Tensor, path: Path) -> None:
    """Draw predictions beside the data, over x where it is one feature and else over y, and the loss curves."""
    left, right = (figure := Figure(figsize=(10, 4), layout="constrained")).subplots(1, 2)
    across, name, line = (x, "x", "-") if x.shape[1] == 1 else (y, "true y", ".")
    left.plot(across, y, ".", color="0.6", label="test data")
    left.plot(across, prediction, line, color="#009E73", label="prediction")
    left.set(xlabel=name, ylabel="y")
    for curve, style in (("train/loss", "-"), ("valid/loss", "--")):
        right.plot(history.epochs(curve), history[curve], style, label=curve)
    right.set(xlabel="epochs finished", ylabel="mean squared error, standardised", yscale="log")
    figure.legend(frameon=False, ncols=4, loc="outside upper center")
    figure.savefig(path, dpi=100)


# 6. All together, with part 5 inside
def learn(samples: Samples, out: Path, *, built_in: bool) -> None:
    """Fit a line to samples, and print and draw how well it does."""
    parts = samples.split(0.7, 0.15, 0.15, seed=0)
    scale, unit = (data.Standardize(field).fit(parts[0]) for field in (0, 1))  # learnt from the training part alone
    train, valid, test = (part.map_batch(scale).map_batch(unit) for part in parts)
    model = Line(len(train[0][0]))
    result = trainer.fit(model, train, epochs=500, batch_size=32, validation=valid)
    (x, y), (unseen, _), (inputs, targets) = (part.take_batch(range(len(part))) for part in (train, test, parts[2]))
    prediction = unit.inverse(trainer.predict(model, test))  # in the units of the data
    draw(result.history, inputs, targets, prediction, out / "linear_regression.png")
    # 5. Save and load: the weights, and beside them what a prediction needs
    save_model(model, out / "linear_regression.safetensors", encoders={"inputs": scale, "targets": unit})
    loaded = load_model(out / "linear_regression.safetensors", into=Line(len(model.weight)))
    assert torch.equal(unit.inverse(trainer.predict(loaded, test)), prediction)
    if len(model.weight) == 1:  # back from standardised units
        weight = model.weight.item() * (unit.std / scale.std).item()
        bias = unit.inverse(model.bias.detach()).item() - weight * scale.mean.item()
        print(f"learnt       y = {weight:.4f} x + {bias:.4f}" + "\ntrue         y = 0.7000 x + 0.3000" * built_in)
    print("\nin the test part   mean squared error   R²")
    for name, values in (("torchflow", prediction), ("closed form", unit.inverse(least_squares(x, y, unseen)))):
        error = (values - targets).square().mean()
        print(f"  {name:<16} {error:<20.5g} {1 - error / targets.var(correction=0):.4f}")
    print(f"\nepochs       {result.progress.epoch}\nstopped      {result.reason}")
    print(f"picture      {out / 'linear_regression.png'}\nmodel        {out / 'linear_regression.safetensors'}")


def main() -> None:
    """Read the command line; say in one line what is wrong with a table."""
    parser = argparse.ArgumentParser(description="Linear regression in six parts.")
    parser.add_argument("--csv", metavar="PATH", help="a table of numbers with a header line; without it, y = 0.7 x + 0.3")
    parser.add_argument("--target", metavar="COLUMN", help="the column to learn from all others")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture and the model go")
    args = parser.parse_args()
    if (not args.csv) != (not args.target):
        parser.error("--csv and --target belong together")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        learn(read_table(args.csv, args.target) if args.csv else data.linear(0.7, 0.3), args.out, built_in=not args.csv)
    except (TorchflowError, OSError) as error:
        parser.exit(2, f"error: {' '.join(str(error).split())}\n")


if __name__ == "__main__":
    main()
