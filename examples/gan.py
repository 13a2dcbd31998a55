"""A GAN with two optimizers: a generator learns eight islands on a ring, of which it is only told how real its points look.

python examples/gan.py                  writes out/gan.png

Each network has a loss, which is a step like any other, and an optimizer of the same name; all the rest stays as it is.
"""

import argparse
import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import softplus

from torchflow import Trainer

ISLANDS, RADIUS, SPREAD, NOISE = 8, 2.0, 0.05, 16


# 1. Data: points on islands, made on the spot
def islands(samples: int) -> Tensor:
    """Return points (samples, 2), an eighth of them on each island."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.arange(samples) % ISLANDS * (2 * math.pi / ISLANDS)
    middles = RADIUS * torch.stack((angles.cos(), angles.sin()), 1)
    return middles + SPREAD * torch.randn(samples, 2, generator=generator)


# 2. A model of two networks
class Pair(nn.Module):
    """A generator of points, and a critic that says how real a point looks."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(NOISE, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
        self.critic = nn.Sequential(
            *(nn.Linear(2, 128), nn.LeakyReLU(0.2), nn.Linear(128, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
        )

    def made(self, count: int) -> Tensor:
        """Return points (count, 2) from noise."""
        points: Tensor = self.generator(torch.randn(count, NOISE))
        return points


# 3. Two steps: an update takes the critic's, then the generator's, each with its own optimizer
def critic(model: Pair, real: Tensor) -> Tensor:
    """Return the loss of Goodfellow et al. (2014) with the penalty R1 (Mescheder, Geiger and Nowozin 2018) for points (batch, 2)."""
    real = real.detach().requires_grad_()
    scores = model.critic(real)
    (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)  # a critic that is flat at real points lets it converge
    judged = softplus(-scores).mean() + softplus(model.critic(model.made(len(real)).detach())).mean()
    return judged + 0.05 * slope.square().sum(1).mean()


def generator(model: Pair, real: Tensor) -> Tensor:
    """Return the loss that makes the critic believe in as many points."""
    return softplus(-model.critic(model.made(len(real)))).mean()


trainer = Trainer(
    {"critic": critic, "generator": generator},
    optimizer={
        "critic": lambda model: torch.optim.Adam(model.critic.parameters(), lr=1e-3, betas=(0.0, 0.99)),
        "generator": lambda model: torch.optim.Adam(model.generator.parameters(), lr=1e-3, betas=(0.0, 0.99)),
    },
    progress=False,
)


# 4. What came out
def drawn_points(model: Pair, count: int) -> Tensor:
    """Return points (count, 2) of a generator."""
    noise = torch.randn(count, NOISE, generator=torch.Generator().manual_seed(1))
    return model.generator(noise).detach()  # type: ignore[no-any-return]


def main(out: Path, epochs: int) -> None:
    """Learn, count what lies on which island, and draw."""
    real = islands(4_096)
    result = trainer.fit(Pair, real, epochs=epochs, batch_size=256)
    points = drawn_points(result.model, 2_000)
    distances = torch.cdist(points, islands(ISLANDS * 100).reshape(100, ISLANDS, 2).mean(0))
    near, island = distances.min(1)
    close = near < 4 * SPREAD
    shares = torch.bincount(island[close], minlength=ISLANDS) / len(points)
    print(f"{result.progress.updates} updates\n{int((shares > 0.02).sum())} of {ISLANDS} islands found")
    print(f"{float(close.float().mean()):.1%} of the points lie within four standard deviations of one")
    print(f"islands      {' '.join(f'{share:.1%}' for share in shares.tolist())}")
    left, right = (figure := Figure(figsize=(10, 4.4), layout="constrained")).subplots(1, 2)
    left.plot(*real[:1_000].T, ".", color="0.6", markersize=4, label="real")
    left.plot(*points[:1_000].T, "x", color="#D55E00", markersize=3, label="made")
    left.set(aspect="equal", xlim=(-3, 3), ylim=(-3, 3))
    for curve, style, name in (("train/critic", "-", "critic"), ("train/generator", "--", "generator")):
        right.plot(result.history.epochs(curve), result.history[curve], style, label=name)
    right.axhline(2 * math.log(2), color="0.5", linestyle=":", label="a critic that guesses")
    right.set(xlabel="epochs finished", ylabel="loss")
    figure.legend(frameon=False, ncols=5, loc="outside upper center")
    figure.savefig(out / "gan.png", dpi=100)
    print(f"picture      {out / 'gan.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A GAN on a ring of islands.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture goes")
    parser.add_argument("--epochs", type=int, default=150, help="how often every point is seen")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    main(args.out, args.epochs)
