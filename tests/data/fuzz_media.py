"""Read damaged files of sound and film, one after the other, and say what became of each; a process of its own.

python -m tests.data.fuzz_media FOLDER COUNT SEED
"""

from __future__ import annotations

import multiprocessing
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from tests.data.hostile_media import HOSTILE
from tests.data.media import damaged, sine, write_aac, write_film, write_sound
from tests.data.peak import peak_of_this_process
from torchflow import data
from torchflow.errors import DataError, FileError

SECONDS = 10
BYTES = 2 * 2**30
REMEDY = ("Replace", "Convert", "eave it out", "Use ", "Read ", "Choose", "aise ", "Bring", "Ask ", "Give", "Correct", "are read")


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


def prepared(folder: Path) -> tuple[dict[str, bytes], dict[str, Path]]:
    """Whole files, and hostile ones by what is wrong with them."""
    hostile = {}
    for name, make in HOSTILE.items():
        (own := folder / name.replace(" ", "_")).mkdir()
        hostile[name] = make(own)
    return originals(folder), hostile


def read(path: Path, rng: random.Random | None) -> None:
    """Read a file as its suffix says, whole or in windows that chance chooses."""
    seconds: float | None = None if rng is None else rng.choice((None, 0.2))
    if path.suffix in (".mp4", ".mkv", ".webm", ".avi"):
        choices: Any = {} if rng is None else rng.choice(({}, {"frames": 4, "fps": 10.0}, {"seconds": 0.3}, {"frames": 3}))
        sound = path.suffix in (".mp4", ".mkv") and rng is not None and "frames" not in choices
        dataset = data.from_video(path, size=32, sound=sound, **choices)
    else:
        dataset = data.from_audio(path, rate=16_000 if seconds else None, seconds=seconds)
    for index in range(min(len(dataset), 20)):
        sample = dataset[index]
        for tensor in sample.values() if isinstance(sample, dict) else (sample,):
            assert tensor.dtype == torch.uint8 or tensor.isfinite().all()
            assert tensor.numel()


def stopped(number: int, frame: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} seconds")


def outcome_of(path: Path, rng: random.Random | None) -> str:
    """Read a file under the limits, and say what came of it."""
    signal.alarm(SECONDS)
    try:
        read(path, rng)
    except (FileError, DataError) as error:
        said = " ".join(str(error).split())
        good = str(path) in said and any(word in said for word in REMEDY)
        return f"refused {said}" if good else f"wrong names no file or no remedy: {said}"
    except BaseException:
        return f"wrong {traceback.format_exc()}"
    finally:
        signal.alarm(0)
    return "read"


def main() -> None:
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # to make them may cost more than reading is allowed
        whole, hostile = pool.apply(prepared, (folder,))
    signal.signal(signal.SIGALRM, stopped)
    read(folder / "a.mp4", None)  # imports come before the limit
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + BYTES, mapped + BYTES))
    for name, path in hostile.items():
        print(f"hostile {name}: {outcome_of(path, None)}", flush=True)
    outcomes = {"read": 0, "refused": 0, "wrong": 0}
    slowest = 0.0
    for number in range(seed, seed + count):
        rng = random.Random(number)
        suffix = rng.choice(sorted(whole))
        path = folder / f"{number}{rng.choice(sorted(whole)) if rng.random() < 0.05 else suffix}"  # sometimes of another name
        path.write_bytes(damaged(whole[suffix], rng))
        print("at", path, flush=True)
        start = time.perf_counter()
        outcome = outcome_of(path, rng)
        slowest = max(slowest, time.perf_counter() - start)
        outcomes[outcome.split()[0]] += 1
        if outcome.startswith("wrong"):
            print(number, outcome, flush=True)
        path.unlink()
    peak = peak_of_this_process()
    print("outcomes", outcomes, f"slowest {slowest:.2f} s, peak {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
