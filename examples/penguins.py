"""A table with categories and gaps: which of three species a penguin is, from its measurements, its island and its sex.

python examples/penguins.py                writes out/penguins.png and out/penguins.safetensors

The table is that of palmerpenguins (Horst, Hill and Gorman 2020): 344 birds, eight columns, some cells empty. A column is
numbers, categories or gaps until a TableEncoder, fitted on the training part alone, makes tensors of it.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from torchflow import EarlyStopping, History, Trainer, data, load_model, metrics, save_model, supervised

COLOURS = {"Adelie": "#E69F00", "Chinstrap": "#CC79A7", "Gentoo": "#009E73"}
Batch = tuple[Tensor, Tensor]


def penguins() -> data.Dataset[Any]:
    """Return the rows of the table: dicts of cells by column."""
    package = find_spec("palmerpenguins")  # the table lies inside the package, which need not be imported
    if package is None or package.origin is None:
        raise SystemExit("this example reads the table of palmerpenguins: pip install palmerpenguins")
    return data.from_csv(Path(package.origin).parent / "data" / "penguins.csv")


def classifier(inputs: int, classes: int) -> nn.Module:
    """Return a small network from x (batch, inputs) to scores (batch, classes)."""
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, classes))


trainer: Trainer[nn.Module, Batch] = Trainer(
    supervised(nn.CrossEntropyLoss(), metrics={"accuracy": metrics.accuracy}),
    optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01),
    callbacks=[EarlyStopping("valid/loss", patience=20, restore_best=True)],
    progress=False,
)


def draw(history: History, birds: dict[str, Any], predicted: list[str], path: Path) -> None:
    """Draw the test part by two of its measurements, wrong predictions ringed, beside the loss curves."""
    left, right = (figure := Figure(figsize=(10, 4), layout="constrained")).subplots(1, 2)
    length, depth = birds["bill_length_mm"], birds["bill_depth_mm"]
    for species, colour in COLOURS.items():
        own = torch.tensor([name == species for name in birds["species"]])
        left.plot(length[own], depth[own], "o", color=colour, markersize=4, label=species)
    wrong = torch.tensor([name != guess for name, guess in zip(birds["species"], predicted, strict=True)])
    left.plot(length[wrong], depth[wrong], "o", color="black", markersize=11, fillstyle="none", label="predicted wrongly")
    left.set(xlabel="bill length, mm", ylabel="bill depth, mm")
    for curve, style in (("train/loss", "-"), ("valid/loss", "--")):
        right.plot(history.epochs(curve), history[curve], style, label=curve)
    right.set(xlabel="epochs finished", ylabel="cross entropy", yscale="log")
    figure.legend(frameon=False, ncols=6, loc="outside upper center")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Split, encode, fit, and look at birds that the model has not seen."""
    parser = argparse.ArgumentParser(description="Classify penguins from a table with categories and gaps.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture and the model go")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)

    birds = penguins()
    parts = birds.split(0.6, 0.2, 0.2, seed=0, stratify="species")
    encoding = data.TableEncoder(target="species", categorical=["island", "sex", "year"], missing="indicator").fit(parts[0])
    train, valid, test = (encoding.encode(part) for part in parts)
    print(f"{len(birds)} birds: {birds.schema}")
    print(f"encoded as {len(encoding.columns)} numbers: {', '.join(encoding.columns)}")

    torch.manual_seed(0)  # for the first weights
    result = trainer.fit(classifier(len(encoding.columns), len(encoding.classes)), train, epochs=300, validation=valid)
    scores = trainer.evaluate(result.model, test)
    predicted = encoding.inverse(trainer.predict(result.model, test))
    unseen = parts[2].take_batch(range(len(parts[2])))
    wrong = [f"{truth} as {guess}" for truth, guess in zip(unseen["species"], predicted, strict=True) if truth != guess]
    (x, y), (x_test, y_test) = (part.take_batch(range(len(part))) for part in (train, test))
    logistic = LogisticRegression(max_iter=1000).fit(x.numpy(), y.numpy()).score(x_test.numpy(), y_test.numpy())
    draw(result.history, unseen, list(predicted), out / "penguins.png")

    save_model(result.model, out / "penguins.safetensors", encoders={"rows": encoding})
    model = load_model(out / "penguins.safetensors", into=classifier(len(encoding.columns), len(encoding.classes))).eval()
    again = data.load_encoders(out / "penguins.safetensors")["rows"]
    bird = {**birds[0], "sex": "", "body_mass_g": torch.tensor(torch.nan)}  # one that nobody weighed
    guess = encoding.inverse(model(again(bird)[0][None]))

    print(f"\naccuracy on {len(test)} birds that no model has seen\n  network             {scores['accuracy']:.3f}")
    print(f"  logistic regression {logistic:.3f}\nwrong         {', '.join(wrong) or 'none'}")
    print(f"{birds[0]['species']} without its sex and mass is taken for {guess[0]}")
    print(f"stopped       {result.reason}\npicture       {out / 'penguins.png'}\nmodel         {out / 'penguins.safetensors'}")


if __name__ == "__main__":
    main()
