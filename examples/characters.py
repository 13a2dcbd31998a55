"""Text: a character language model of the reference manual that comes with Python, beside what counting characters gives.

It reads 79 chapters of pydoc's topics, is told how well it does on chapters that it has not seen, in bits a character, and writes some.
"""

import argparse
import math
from pathlib import Path
from pydoc_data.topics import topics

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from torchflow import History, Trainer, data, supervised

LENGTH, HIDDEN = 128, 192
Windows = tuple[Tensor, Tensor]  # inputs and targets, (batch, 128) each


# 1. A model: the next character from all before it
class Writer(nn.Module):
    """A recurrent network with gates."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(size, 64)
        self.memory = nn.GRU(64, HIDDEN, batch_first=True)
        self.scores = nn.Linear(HIDDEN, size)

    def forward(self, x: Tensor) -> Tensor:
        """Return scores (batch, size, length) of the character after each of x (batch, length)."""
        scores: Tensor = self.scores(self.memory(self.characters(x))[0])
        return scores.transpose(1, 2)


# 2. To compare with: how often characters, and pairs of them, came in the training chapters
def counted(train: Tensor, test: Tensor, size: int) -> tuple[float, float]:
    """Return the bits a character that counts of characters and of pairs need on other text, each count begun at one."""
    single = torch.bincount(train, minlength=size) + 1.0
    pairs = torch.bincount(train[:-1] * size + train[1:], minlength=size**2).reshape(size, size) + 1.0
    by_single = (single / single.sum()).log2()[test[1:]]
    by_pairs = (pairs / pairs.sum(1, keepdim=True)).log2()[test[:-1], test[1:]]
    return -float(by_single.mean()), -float(by_pairs.mean())


# 3. Writing: one character after the other, each drawn from what the model holds likely
def written(model: Writer, vocabulary: data.FittedVocabulary, begin: str, count: int) -> str:
    """Return a text of a model, somewhat more careful than it is (temperature 0.7)."""
    generator, ids = torch.Generator().manual_seed(0), vocabulary.encode(begin)
    with torch.no_grad():
        for _ in range(count):
            likely = torch.softmax(model(ids[None, -LENGTH:])[0, :, -1] / 0.7, 0)
            ids = torch.cat((ids, torch.multinomial(likely, 1, generator=generator)))
    return vocabulary.decode(ids)


def draw(history: History, pair: float, path: Path) -> None:
    """Draw the bits a character over the epochs, and where counting pairs stands."""
    axes = (figure := Figure(figsize=(7, 4), layout="constrained")).subplots()
    for curve, style in (("train/loss", "-"), ("valid/loss", "--")):
        axes.plot(history.epochs(curve), [loss / math.log(2) for loss in history[curve]], style, marker="o", label=curve)
    axes.axhline(pair, color="0.6", label="counted pairs")
    axes.set(xlabel="epochs finished", ylabel="bits a character")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=100)


# 4. All together
def main(out: Path, epochs: int) -> None:
    """Learn, measure, write and draw."""
    chapters = data.from_iterable([topics[name] for name in sorted(topics)])
    parts = chapters.split(0.8, 0.1, 0.1, seed=1)  # whole chapters, so that no sentence is in two parts
    vocabulary = data.Vocabulary("character", unknown="token").fit(parts[0])
    train, valid, test = (vocabulary.windows(part, LENGTH) for part in parts)
    trainer: Trainer[Writer, Windows] = Trainer(
        supervised(nn.CrossEntropyLoss()),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.004),
        clip_norm=1.0,
        progress=False,
    )
    result = trainer.fit(model := Writer(vocabulary.size), train, epochs=epochs, batch_size=32, validation=valid)
    learnt = trainer.evaluate(model, test)["loss"] / math.log(2)
    single, pair = counted(vocabulary.numbers(parts[0]), vocabulary.numbers(parts[2]), vocabulary.size)
    print(f"{len(vocabulary.numbers(parts[2])):,} characters of {len(parts[2])} unseen chapters, in bits a character\n")
    print(f"  network            {learnt:.2f}\n  counted pairs      {pair:.2f}\n  counted characters {single:.2f}")
    print(f"\nThe network goes on from 'The ':\n\n{written(model, vocabulary, 'The ', 300)}\n")
    draw(result.history, pair, out / "characters.png")
    print(f"picture      {out / 'characters.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A character language model of Python's reference manual.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture goes")
    parser.add_argument("--epochs", type=int, default=6, help="how often every character is read")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    main(args.out, args.epochs)
