"""Real data: how far diabetes goes on within a year, from ten measurements of 442 patients.

python examples/real_table.py

The table is shipped with scikit-learn. A linear model and a small network are compared with ordinary least squares on the
same split by R², the part of the variance that is explained: 1 is all of it, 0 is no better than the mean.
"""

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from torch import Tensor, nn

from torchflow import EarlyStopping, Trainer, data, supervised

Batch = tuple[Tensor, Tensor]


def r_squared(predictions: Tensor, truth: Tensor) -> float:
    """Return which part of the variance of the truth is explained."""
    return 1 - ((truth - predictions).square().sum() / (truth - truth.mean()).square().sum()).item()


def fitted(model: nn.Module, train: data.Dataset[Batch], valid: data.Dataset[Batch]) -> nn.Module:
    """Train a model until the validation loss no longer improves, and return the best one."""
    trainer: Trainer[nn.Module, Batch] = Trainer(
        supervised(nn.MSELoss()),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-3),
        callbacks=[EarlyStopping("valid/loss", patience=20, restore_best=True)],
        progress=False,
    )
    result = trainer.fit(model, train, epochs=300, batch_size=32, validation=valid)
    print(f"{type(model).__name__}: {result.reason}")
    return result.model


def network(features: int) -> nn.Module:
    """Return a network with one hidden layer and dropout; its first weights come from torch's global generator."""
    return nn.Sequential(nn.Linear(features, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1))


def main() -> None:
    """Compare three models on one split."""
    inputs, targets = load_diabetes(return_X_y=True, scaled=False)
    samples = data.from_arrays((inputs.astype(np.float32), targets.astype(np.float32).reshape(-1, 1)))
    parts = samples.split(0.6, 0.2, 0.2, seed=0)
    scale, unit = (data.Standardize(field).fit(parts[0]) for field in (0, 1))  # learnt from the training part alone
    train, valid, test = (part.map_batch(scale).map_batch(unit) for part in parts)
    x_test, y_test = test.take_batch(range(len(test)))

    torch.manual_seed(0)  # for the first weights
    models = {"linear model": nn.Linear(inputs.shape[1], 1), "network": network(inputs.shape[1])}
    scores = {}
    for name, model in models.items():
        best = fitted(model, train, valid).eval()
        with torch.no_grad():
            scores[name] = r_squared(best(x_test), y_test)

    x, y = train.take_batch(range(len(train)))
    least_squares = LinearRegression().fit(x.numpy(), y.numpy())
    scores["least squares"] = r_squared(torch.from_numpy(least_squares.predict(x_test.numpy())), y_test)

    print(f"\nR² on {len(test)} patients that no model has seen")
    for name, score in scores.items():
        print(f"  {name:<14} {score:.3f}")


if __name__ == "__main__":
    main()
