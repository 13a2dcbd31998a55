"""Read damaged files of sound and film, one after the other, and say what became of each; a process of its own.

python -m tests.data.fuzz_media FOLDER COUNT SEED
"""

from __future__ import annotations

import random
import resource
import signal
import sys
import time
import traceback
import warnings
from fractions import Fraction
from pathlib import Path

import torch

from tests.data.media import damaged, sine, write_aac, write_film, write_sound
from torchflow import data
from torchflow.errors import DataError, FileError

SECONDS = 10
BYTES = 2 * 2**30
REMEDY = ("Replace", "Convert", "eave it out", "Use ", "Read ", "Choose", "aise ", "Bring", "Ask ", "Give")


def originals(folder: Path) -> dict[str, bytes]:
    """Whole files, one of each kind."""
    noise = sine(1.0, 16_000, channels=1)
    made = [
        write_sound(folder / "a.wav"),
        write_sound(folder / "a.flac", sine(1.0)),
        write_sound(folder / "a.ogg", sine(1.0)),
        write_sound(folder / "a.mp3", sine(1.0)),
        write_aac(folder / "a.m4a", noise),
        write_film(folder / "a.mp4", sound=noise),
        write_film(folder / "a.mkv", sound=noise),
        write_film(folder / "a.webm", codec="libvpx"),
        write_film(folder / "a.avi", base=Fraction(1, 25), times=range(25), codec="mpeg4"),
    ]
    return {path.suffix: path.read_bytes() for path in made}


def read(path: Path, rng: random.Random) -> None:
    """Read a file as its suffix says, whole or in windows."""
    if path.suffix in (".mp4", ".mkv", ".webm", ".avi"):
        choices = rng.choice(({}, {"frames": 4, "fps": 10.0}, {"seconds": 0.3}, {"frames": 3}))
        sound = path.suffix in (".mp4", ".mkv") and "frames" not in choices
        dataset = data.from_video(path, size=32, sound=sound, **choices)
    else:
        dataset = data.from_audio(path, rate=rng.choice((None, 16_000)), seconds=rng.choice((None, 0.2)))
    for index in range(min(len(dataset), 20)):
        sample = dataset[index]
        for tensor in sample.values() if isinstance(sample, dict) else (sample,):
            assert tensor.dtype == torch.uint8 or tensor.isfinite().all()
            assert tensor.numel()


def stopped(number: int, frame: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} seconds")


def main() -> None:
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    whole = originals(folder)
    signal.signal(signal.SIGALRM, stopped)
    read(folder / "a.mp4", random.Random(0))  # imports come before the limit
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + BYTES, mapped + BYTES))
    outcomes = {"read": 0, "refused": 0, "wrong": 0}
    slowest = 0.0
    for number in range(seed, seed + count):
        rng = random.Random(number)
        suffix = rng.choice(sorted(whole))
        content = damaged(whole[suffix], rng)
        path = folder / f"{number}{rng.choice(sorted(whole)) if rng.random() < 0.05 else suffix}"  # sometimes of another name
        path.write_bytes(content)
        print("at", path, flush=True)
        start = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            read(path, rng)
            outcome = "read"
        except (FileError, DataError) as error:
            outcome = "refused"
            if str(path) not in str(error) or not any(word in str(error) for word in REMEDY):
                outcome = "wrong"
                print("wrong", number, "names no file or no remedy:", error)
        except BaseException:
            outcome = "wrong"
            print("wrong", number, traceback.format_exc())
        signal.alarm(0)
        slowest = max(slowest, time.perf_counter() - start)
        outcomes[outcome] += 1
        path.unlink()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print("outcomes", outcomes, f"slowest {slowest:.2f} s, peak {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
