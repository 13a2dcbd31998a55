"""Read hostile and damaged files of DNA and text, one after the other, and say what became of each; a process of its own.

python -m tests.data.fuzz_sequences FOLDER COUNT SEED
"""

from __future__ import annotations

import gzip
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from tests.data.hostile_sequences import GENES, HOSTILE, PROSE, READS
from tests.data.peak import peak_of_this_process
from torchflow import data
from torchflow.errors import DataError

SECONDS = 10
BYTES = 2 * 2**30
REMEDY = (
    "leave",
    "Leave",
    "Copy",
    "copy it",
    "Read it",
    "raise ",
    "Pass ",
    "Take ",
    "Decompress",
    "Save it",
    "encoding=",
    "Name ",
    "Use ",
)
REMEDIES = (
    *REMEDY,
    "Qualities are",
    "The letters are",
    "Vocabulary reads",
    "Correct",
    "Check ",
    "Write it",
    "cannot be read:",
    "Its columns are",
    "Files in a list",
)
WHOLE = {
    "a.fa": GENES,
    "a.fa.gz": gzip.compress(GENES, mtime=0),
    "a.fq": READS,
    "a.fq.gz": gzip.compress(READS, mtime=0),
    "a.genome": b"".join(b">c%d\n" % c + b"ACGTACGTAC\n" * 20 + b"ACG\n" for c in range(5)),
    "a.txt": PROSE,
    "a.txt.gz": gzip.compress(PROSE, mtime=0),
    "a.lines": PROSE,
    "a.csv": b"text,kind\n" + b'"some, text",a\nmore,b\n' * 30,
}


def read(path: Path) -> None:
    """Read a file as its suffix says, to its end."""
    kind = path.name.partition(".")[2]
    if kind == "genome":
        dataset: data.Dataset[Any] = data.from_genome(path, length=4, stride=5)
    elif kind.startswith("fq"):
        dataset = data.from_fastq(path)
    elif kind.startswith("txt"):
        dataset = data.from_text(path)
    elif kind == "lines":
        dataset = data.from_text(path, lines=True)
    elif kind == "csv":
        dataset = data.from_text(path, column="text", labels="kind" if b"kind" in path.read_bytes() else None)
    else:
        dataset = data.from_fasta(path, encoding="one-hot")
    for sample in dataset.take(200):
        assert sample is not None


def damaged(whole: bytes, rng: random.Random) -> bytes:
    """The content of a file with one to three things wrong with it."""
    content = bytearray(whole)
    for _ in range(rng.randint(1, 3)):
        at, length = rng.randrange(len(content) or 1), rng.choice((1, 2, 7, 100))
        match rng.randrange(7):
            case 0:
                del content[at:]
            case 1:
                del content[at : at + length]
            case 2:
                content[at : at + length] = rng.randbytes(length)
            case 3:
                content[at:at] = rng.choice(
                    (b"\0", b"\n", b"\r", b">", b"@", b"+\n", b"\xff\xfe", b"\xed\xa0\x80", b'"', b"\n\n\n", b"\xc3")
                )
            case 4:
                content[at:at] = content[max(0, at - length) : at] * rng.choice((1, 50))
            case 5:
                content[at : at + length] = bytes(length)
            case _:
                other = rng.choice(sorted(WHOLE))
                content[at:] = WHOLE[other][rng.randrange(len(WHOLE[other])) :]
    return bytes(content)


def stopped(number: int, frame: object) -> None:
    raise TimeoutError(f"longer than {SECONDS} seconds")


def outcome_of(path: Path) -> str:
    """Read a file under the limits, and say what came of it."""
    signal.alarm(SECONDS)
    try:
        read(path)
    except DataError as error:
        said = " ".join(str(error).split())
        good = str(path) in said and any(word in said for word in REMEDIES)
        return f"refused {said}" if good else f"wrong names no file or no remedy: {said}"
    except BaseException:
        return f"wrong {traceback.format_exc()}"
    finally:
        signal.alarm(0)
    return "read"


def main() -> None:
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, stopped)
    for name in ("a.fa", "a.fq", "a.txt", "a.csv"):  # imports come before the limit
        (folder / name).write_bytes(WHOLE[name])
        read(folder / name)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + BYTES, mapped + BYTES))
    slowest = 0.0
    for name, (make, _) in HOSTILE.items():
        (own := folder / name.replace(" ", "_")).mkdir()
        path = make(own)
        start = time.perf_counter()
        print(f"hostile {name}: {outcome_of(path)}", flush=True)
        slowest = max(slowest, time.perf_counter() - start)
        if path.is_file():
            path.unlink()
    outcomes = {"read": 0, "refused": 0, "wrong": 0}
    for number in range(seed, seed + count):
        rng = random.Random(number)
        name = rng.choice(sorted(WHOLE))
        as_name = rng.choice(sorted(WHOLE)) if rng.random() < 0.05 else name  # sometimes of another name
        path = folder / f"{number}{as_name.removeprefix('a')}"
        path.write_bytes(damaged(WHOLE[name], rng))
        start = time.perf_counter()
        outcome = outcome_of(path)
        slowest = max(slowest, time.perf_counter() - start)
        outcomes[outcome.split()[0]] += 1
        if outcome.startswith("wrong"):
            print(number, outcome, flush=True)
        path.unlink()
    peak = peak_of_this_process()
    print("outcomes", outcomes, f"slowest {slowest:.2f} s, peak {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
