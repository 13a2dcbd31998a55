"""DNA: where does the protein CRP bind? A convolution learns it from real binding sites, and its filters show what it has learnt.

358 sites of E. coli from RegulonDB, which come with logomaker, stand in random sequences; the other half holds shuffled ones.
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from torchflow import Trainer, data, supervised

SITE, LENGTH, WIDTH, FILTERS = 26, 100, 22, 4


# 1. Data: sites (4, 26) become sequences (4, 100), drawn anew for every sample and epoch
def planted(site: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return random bases with a site at a random place and strand, and 1; or with its bases in a random order, and 0."""
    whole, turned = (torch.rand(2, generator=generator) < 0.5).tolist()
    inside = site if whole else site[:, torch.rand(SITE, generator=generator).argsort()]
    sequence = data.dna_one_hot(torch.randint(4, (LENGTH,), generator=generator))
    start = int(torch.randint(LENGTH - SITE + 1, (), generator=generator))
    sequence[:, start : start + SITE] = data.reverse_complement(inside) if turned else inside
    return sequence, torch.tensor(float(whole))


# 2. A model that sees both strands
class Scanner(nn.Module):
    """The best match of every filter on either strand, and a weight for each."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv1d(4, FILTERS, WIDTH)
        self.weights = nn.Linear(FILTERS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a score for each sequence x (batch, 4, length), above 0 where there is a site: (batch,)."""
        matches = torch.maximum(self.filters(x), self.filters(data.reverse_complement(x)).flip(-1))
        scores: Tensor = self.weights(torch.relu(matches).amax(-1)).squeeze(-1)
        return scores


# 3. What was learnt: the sequences under a filter's best matches, beside the true sites
def found_motif(model: Scanner, x: Tensor) -> Tensor:
    """Return how often each base stands at each place of the best matches of the weightiest filter, shape (4, 22)."""
    strongest = int((model.weights.weight[0] * model.filters.weight.norm(dim=(1, 2))).argmax())
    both = torch.cat((x, data.reverse_complement(x)))
    with torch.no_grad():
        best, places = model.filters(both)[:, strongest].max(-1)
    stretches = [row[:, place : place + WIDTH] for row, place in zip(both, places.tolist(), strict=True)]
    return torch.stack(stretches)[best > best.quantile(0.85)].mean(0)


def best_match(motif: Tensor, sites: Tensor) -> tuple[float, Tensor]:
    """Return the stretch of the true sites, with random bases around, that correlates best with a motif, and how well."""
    around = nn.functional.pad(sites, (WIDTH // 2, WIDTH // 2), value=0.25)
    stretches = around.unfold(1, WIDTH, 1).movedim(1, 0)
    r = [float(torch.corrcoef(torch.stack((motif.ravel(), stretch.ravel())))[0, 1]) for stretch in stretches]
    return max(r), stretches[r.index(max(r))]


def bits(motif: Tensor) -> Tensor:
    """Return how many bits each place of a motif (4, width) says about its base, up to 2: (width,)."""
    return 2 + (motif * motif.clamp(min=1e-9).log2()).sum(0)


def consensus(motif: Tensor) -> str:
    """Return the base of every place that says at least 0.3 bits, and dots elsewhere."""
    return "".join("ACGT"[int(base)] if bit > 0.3 else "." for base, bit in zip(motif.argmax(0), bits(motif), strict=True))


def draw(axes: Axes, motif: Tensor, title: str) -> None:
    """Draw the bases of a motif, as high as the bits that they carry, the largest on top."""
    heights, ranks = motif * bits(motif), motif.argsort(0).argsort(0)
    for base, color in enumerate(("#009E73", "#0072B2", "#E69F00", "#D55E00")):
        under = (heights * (ranks < ranks[base])).sum(0)
        axes.bar(range(WIDTH), heights[base], bottom=under, color=color, label="ACGT"[base], width=0.9)
    axes.legend(ncols=4, frameon=False)
    axes.set(title=title, ylabel="bits", xticks=range(WIDTH), xticklabels=list(consensus(motif)))


# 4. All together
def main(out: Path, sites: data.Dataset[Tensor]) -> None:
    """Learn, and say and draw what was found."""
    train, test = sites.split(0.8, 0.2, seed=0)
    trainer: Trainer[nn.Module, tuple[Tensor, Tensor]] = Trainer(
        supervised(nn.BCEWithLogitsLoss(), metrics={"accuracy": lambda scores, y: ((scores > 0) == (y > 0.5)).float()}),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=0.005, weight_decay=1e-3),
        progress=False,
    )
    learnt, unseen = (sites.repeat(times).map_random(planted) for sites, times in ((train, 32), (test, 8)))
    trainer.fit(model := Scanner(), learnt, epochs=5, batch_size=64)
    motif = found_motif(model, unseen.take_batch(range(len(unseen)))[0])
    mean = test.take_batch(range(len(test))).mean(0)
    r, true = max((best_match(motif, strand) for strand in (mean, data.reverse_complement(mean))), key=lambda match: match[0])
    accuracy = trainer.evaluate(model, unseen)["accuracy"]
    print(f"accuracy     {accuracy:.3f} with {len(test)} sites that were not trained on; chance is 0.5")
    print(f"found        {consensus(motif)}   by the filter of the largest weight\ntrue         {consensus(true)}   in the sites")
    print(f"correlation  {r:.3f}\npicture      {out / 'motifs.png'}")
    upper, lower = (figure := Figure(figsize=(8, 6), layout="constrained")).subplots(2)
    draw(upper, true, "the true sites")
    draw(lower, motif, "what the filter matches")
    figure.savefig(out / "motifs.png", dpi=100)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Find the binding motif of CRP in the filters of a convolution.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture goes")
    folder, package = parser.parse_args().out, find_spec("logomaker")
    if package is None or package.origin is None:
        parser.exit(2, "error: the sites come with logomaker. Use: pip install 'torchflow-train[examples]'\n")
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    main(folder, data.from_fasta(Path(package.origin).parent / "tutorials" / "crp_sites.fasta", encoding="one-hot"))
