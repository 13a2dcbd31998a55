"""A small transformer reads Python's reference manual in byte pairs, paragraph by paragraph, and every token counts once.

python examples/language_model.py          writes out/language_model.png

Paragraphs differ in length, so one batch holds many tokens and the next one few. The step says how many (``Outputs.count``), and every
average is the mean over tokens, however paragraphs fell into batches. Counted pairs of tokens are to compare with.
"""

import argparse
import math
from pathlib import Path
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR

from torchflow import Every, Outputs, Schedule, Trainer, data, plots

LENGTH, WIDTH, LEARNING_RATE = 96, 128, 3e-3  # tokens of a piece, numbers of a token


# 1. Data: pieces of paragraphs
def pieces(texts: list[str], vocabulary: data.FittedVocabulary) -> data.Dataset[Tensor]:
    """Return the tokens of paragraphs, cut where they are long; each piece begins with the last token of the one before."""
    numbers = map(vocabulary.encode, texts)  # with tokens for the start and for the end
    return data.from_iterable([ids[at : at + LENGTH + 1] for ids in numbers for at in range(0, len(ids) - 1, LENGTH)])


# 2. A model: the next token from all before it
class Writer(nn.Module):
    """A transformer whose tokens look at those before them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size, WIDTH)
        nn.init.normal_(self.tokens.weight, std=0.1)
        self.places = nn.Parameter(torch.zeros(LENGTH, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, 0.1, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.scores = nn.Linear(WIDTH, size)

    def forward(self, ids: Tensor) -> Tensor:
        """Return scores (batch, length, size) of the token after each of ids (batch, length)."""
        future = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).triu(1)
        seen = self.layers(self.tokens(ids) + self.places[: ids.shape[1]], mask=future, is_causal=True)

        return self.scores(seen)  # type: ignore[no-any-return]


# 3. The mathematics of one batch: a mean over its real tokens, and how many there were
def step(model: Writer, batch: data.Padded) -> Outputs:
    """Return the mean loss of the tokens that are no padding, and their number."""
    real = batch.mask[:, 1:]
    losses = cross_entropy(model(batch.values[:, :-1]).transpose(1, 2), batch.values[:, 1:], reduction="none")
    return Outputs((losses * real).sum() / real.sum(), count=real.sum())


trainer: Trainer[Writer, data.Padded] = Trainer(
    step,
    optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.1),
    scheduler=Schedule(lambda optimizer, plan: OneCycleLR(optimizer, LEARNING_RATE, plan.updates), every=Every(updates=1)),
    clip_norm=1.0,
    progress=False,
)


# 4. To compare with: how often a token followed another, leaning on how often it came at all
def counted(train: data.Dataset[Tensor], test: data.Dataset[Tensor], size: int) -> float:
    """Return the loss a token, in nats, of counted pairs with a Dirichlet prior (MacKay and Peto 1995) of weight 20."""
    before, after = (torch.cat([piece[part] for piece in train]) for part in (slice(-1), slice(1, None)))
    single = (torch.bincount(after, minlength=size) + 1.0) / (len(after) + size)
    pairs = torch.bincount(before * size + after, minlength=size**2).reshape(size, size)
    likely = (pairs + 20 * single) / (pairs.sum(1, keepdim=True) + 20)
    return -float(torch.cat([likely[piece[:-1], piece[1:]] for piece in test]).log().mean())


# 5. Writing: one token after the other, somewhat more careful than the model is (temperature 0.7)
def written(model: Writer, vocabulary: data.FittedVocabulary, begin: str, count: int) -> str:
    """Return a text of so many tokens that begins as given; where the model ends one, it begins another."""
    generator, ids = torch.Generator().manual_seed(0), vocabulary.encode(begin)[:-1]
    with torch.no_grad():
        while len(ids) < count:
            likely = torch.softmax(model.eval()(ids[None, -LENGTH:])[0, -1] / 0.7, 0)
            ids = torch.cat((ids, likely.multinomial(1, generator=generator)))
    return vocabulary.decode(ids)


# 6. All together
def main(out: Path, epochs: int) -> None:
    """Learn, measure, write and draw."""
    chapters = data.from_iterable([topics[name] for name in sorted(topics)]).split(0.8, 0.1, 0.1, seed=1)
    vocabulary = data.Vocabulary("bpe", size=1024, start=True, end=True).fit(chapters[0])
    texts = [[text for chapter in part for text in chapter.split("\n\n") if text.strip()] for part in chapters]
    train, valid, test = (pieces(part, vocabulary) for part in texts)
    pad = data.PadBatch({None: 0})
    model = Writer(vocabulary.size)
    result = trainer.fit(model, train, epochs=epochs, batch_size=16, shuffle=data.Bucketed(), collate=pad, validation=valid)
    losses = [trainer.evaluate(model, test, batch_size=size, collate=pad)["loss"] for size in (7, 64)]
    letters, pair = sum(map(len, texts[2])) / sum(len(piece) - 1 for piece in test), counted(train, test, vocabulary.size)
    bits = 1 / math.log(2) / letters
    print(f"{len(test)} pieces of {len(chapters[2])} unseen chapters, {letters:.2f} characters a token")
    print(f"loss a token in batches of 7 and of 64: {losses[0]:.5f} {losses[1]:.5f}\n\nbits a character")
    print(f"  transformer    {bits * losses[1]:.2f}\n  counted pairs  {bits * pair:.2f}")
    print(f"\nThe transformer goes on from 'The ':\n\n{written(model, vocabulary, 'The ', 80)}\n")
    plots.history(result, out / "language_model.png")
    print(f"picture      {out / 'language_model.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A small transformer of Python's reference manual.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture goes")
    parser.add_argument("--epochs", type=int, default=6, help="how often every token is read")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)  # for the first weights
    main(args.out, args.epochs)
