"""Tones of four timbres, written to sound files: a small network hears which is which. Run python examples/tones.py [--out DIR].

A tone is a sine, triangle, square or sawtooth wave of any pitch from 110 to 880 Hz, in noise, in a wav, flac or ogg file with a rate of
its own. The network sees log-mel spectrograms.
"""

import argparse
import math
from pathlib import Path

import soundfile
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from torchflow import EarlyStopping, Trainer, data, metrics, supervised
from torchflow.errors import TorchflowError

Tones = data.Dataset[tuple[Tensor, Tensor]]  # sound or spectrogram, and timbre
TIMBRES = ("sawtooth", "sine", "square", "triangle")
FILES_OF_EACH, RATE = 120, 16_000
FORMATS = ((".wav", "WAV", 44_100), (".flac", "FLAC", 22_050), (".ogg", "OGG", 32_000))


# 1. Data: write it, and read it
def wave(timbre: str, hertz: float, rate: int) -> Tensor:
    """Return 0.6 seconds of a tone from -1 to 1, shape (samples,), as the sum of its overtones below 7 kHz (Fourier series)."""
    phase = 2 * math.pi * hertz * torch.arange(round(0.6 * rate)) / rate
    numbers = torch.arange(1.0, 7000 // hertz + 1)
    odd = (numbers % 2 == 1).float()
    strength = {"sine": (numbers == 1).float(), "sawtooth": 1 / numbers, "square": odd / numbers, "triangle": odd / numbers**2}[
        timbre
    ]
    tone = (strength[:, None] * torch.sin(numbers[:, None] * phase)).sum(0)
    return tone / tone.abs().max()


def write(folder: Path) -> None:
    """Write a folder of sound files for each timbre."""
    generator = torch.Generator().manual_seed(0)
    for timbre in TIMBRES:
        (folder / timbre).mkdir(parents=True, exist_ok=True)
        for number in range(FILES_OF_EACH):
            suffix, kind, rate = FORMATS[number % 3]
            draws = torch.rand(2, generator=generator)
            tone = wave(timbre, 110 * 8 ** draws[0].item(), rate) * (0.1 + 0.5 * draws[1])
            noise = torch.randn(len(tone), generator=generator) * 0.03
            soundfile.write(folder / timbre / f"{number:03}{suffix}", (tone + noise).clamp(-1, 1).numpy(), rate, format=kind)


def read(folder: Path) -> Tones:
    """Return half a second from the middle of every file, at one rate."""
    return data.from_audio(folder, labels="folder", start=0.05, seconds=0.5, last="drop", rate=RATE, channels=1)


# 2. Build a model
def ear(classes: int) -> nn.Module:
    """Return convolutions over pitch and time, and the mean over both."""
    layers: list[nn.Module] = []
    for before, channels in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


# 3. Fit
trainer: Trainer[nn.Module, tuple[Tensor, Tensor]] = Trainer(
    supervised(nn.CrossEntropyLoss(), metrics={"accuracy": metrics.accuracy}),
    optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=3e-3),
    callbacks=[EarlyStopping("valid/loss", patience=6, restore_best=True)],
    progress=False,
)


# 4. A picture
def draw(spectrograms: Tones, path: Path) -> None:
    """Draw the spectrogram of one tone of each timbre."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    axes = figure.subplots(1, len(TIMBRES), sharey=True)
    for label, axis in enumerate(axes):
        first = next(x for x, y in spectrograms if y == label)
        image = axis.imshow(first[0], origin="lower", aspect="auto", extent=(0, 0.5, 0, len(first[0])), vmin=-12, vmax=4)
        axis.set(title=TIMBRES[label], xlabel="seconds")
    axes[0].set_ylabel("mel band")
    figure.colorbar(image, ax=axes, label="log energy")
    figure.savefig(path, dpi=100)


# 5. All together
def learn(out: Path) -> None:
    """Write the tones, read them, and learn their timbres."""
    write(out / "tones")
    spectrograms = read(out / "tones").map_batch(data.LogMel(RATE, mels=48)).cache()
    parts = spectrograms.split(0.6, 0.2, 0.2, seed=0)
    scale = data.Standardize(0).fit(parts[0])  # learnt from the training part alone
    train, valid, test = (part.map_batch(scale) for part in parts)
    torch.manual_seed(0)
    model = ear(len(TIMBRES))
    result = trainer.fit(model, train, epochs=30, batch_size=32, validation=valid)
    found = trainer.evaluate(model, test)
    draw(parts[2], out / "tones.png")
    print(f"files        {len(spectrograms)} in wav, flac and ogg\nsamples      {spectrograms.schema}")
    print(f"accuracy     {found['accuracy']:.1%} of {len(test)} tones that were not learnt (by chance 25%)")
    print(f"epochs       {result.progress.epoch}\nstopped      {result.reason}\npicture      {out / 'tones.png'}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("out"), help="where the sounds and the picture go")
    args = parser.parse_args()
    try:
        learn(args.out)
    except (TorchflowError, OSError) as error:
        parser.exit(2, f"error: {' '.join(str(error).split())}\n")


if __name__ == "__main__":
    main()
