"""F11, F12 and F13: files that were damaged after they were written, and files that were written to do harm."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from functools import partial
from pathlib import Path

from tests.checkpoint.test_hostile_checkpoints import (
    HOSTILE_FILES,
    HOSTILE_MANIFESTS,
    ONE,
    WORDS,
    Memory,
    forged,
    is_state,
    too_much,
)
from tests.faults.campaign import Campaign, Trials
from tests.faults.children import ended, start
from tests.faults.job import Job, leaves, train_to_end
from tests.laws.test_law_8_checkpoints import FILES, damaged_copies
from tests.watching import WATCH, watched
from torchflow.checkpoint import read_checkpoint
from torchflow.checkpoint.run_file import RUN, read_run
from torchflow.errors import CorruptCheckpointError, TorchflowError

STEP = 21
"""The newest checkpoint of a run that was killed after update 25; the one before is that of update 14."""
NEWEST = Path("checkpoints") / f"step-{STEP:09}"
TENSORS = "tensors-00000-of-00001.safetensors"


def damaged(campaign: Campaign) -> Trials:
    """F11: every file cut, lengthened, deleted, swapped or replaced by what is no file."""
    trials, base = Trials(), campaign.killed(25)
    for name, change in campaign.some(_damages(base.runs), least=12):
        job = campaign.copied(base)
        change(job.runs)
        in_run_file = name.startswith(RUN)
        refused = None if in_run_file else _refused(job.runs / NEWEST)
        gone = not os.path.lexists(job.runs / NEWEST)
        problem = campaign.finished(job)
        kept = in_run_file or gone or list((job.runs / "checkpoints").glob(".bad-*"))
        campaign.done(job.folder, trials.count(name, refused, problem, None if kept else "what was rejected is not kept"))
    _none_is_left(campaign, trials, base)
    return trials


def _damages(runs: Path) -> list[tuple[str, Callable[[Path], object]]]:
    found: list[tuple[str, Callable[[Path], object]]] = []
    names = [*FILES, RUN]
    for number, name in enumerate(names):
        where = Path(RUN) if name == RUN else NEWEST / name
        other = runs / (NEWEST / names[number - 1] if number else RUN)
        whole = (runs / where).read_bytes()
        copies = damaged_copies(whole, other.read_bytes()) | {"last byte turned": whole[:-1] + bytes([whole[-1] ^ 1])}
        for kind, content in copies.items():
            found.append((f"{name}: {kind}", partial(_overwrite, where, content)))
        for kind, make in _kinds(runs / where).items():
            found.append((f"{name}: {kind}", partial(_replace, where, make)))
    for kind, make in _kinds(runs / "checkpoints" / "step-000000014").items():
        found.append((f"the checkpoint: {kind}", partial(_replace, NEWEST, make)))
    return found


def _kinds(true: Path) -> dict[str, Callable[[Path], object]]:
    def listening(path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as end, chdir(path.parent):  # a socket's name must be short
            end.bind("s")
            os.rename("s", path.name)

    return {
        "a folder": lambda path: path.mkdir(),
        "a link to the true one": lambda path: path.symlink_to(true),
        "a link to nowhere": lambda path: path.symlink_to("nowhere"),
        "a device": lambda path: path.symlink_to("/dev/zero"),
        "a pipe": os.mkfifo,
        "a socket": listening,
    }


def _overwrite(where: Path, content: bytes | None, runs: Path) -> None:
    path = runs / where
    path.unlink()
    if content is not None:
        path.write_bytes(content)


def _replace(where: Path, make: Callable[[Path], object], runs: Path) -> None:
    path = runs / where
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    make(path)


def _refused(path: Path) -> str | None:
    try:
        read_checkpoint(path)
    except CorruptCheckpointError:
        return None
    return "read_checkpoint accepted it"


def _none_is_left(campaign: Campaign, trials: Trials, base: Job) -> None:
    """Where no checkpoint is sound, the run says so and changes nothing."""
    job = campaign.copied(base)
    for path in (job.runs / "checkpoints").glob("step-*"):
        (path / "manifest.json").write_bytes(b"{}")
    before = sorted(os.listdir(job.runs / "checkpoints"))
    status = ended(start(lambda: train_to_end(job), job.folder))
    words = (job.folder / "words").read_text()
    refused = None if status and "CorruptCheckpointError: None of the" in words else f"status {status}: {words[-300:]}"
    same = None if sorted(os.listdir(job.runs / "checkpoints")) == before else "the folder was changed"
    campaign.done(job.folder, trials.count("all checkpoints damaged", refused, same))


def flipped(campaign: Campaign) -> Trials:
    """F12: one random bit anywhere in a run folder; it is rejected, or what is loaded is the same to the bit."""
    trials, source, base = Trials(), campaign.random("F12"), campaign.killed(25)
    wanted = dict(leaves(read_checkpoint(base.runs / NEWEST).state))
    run = read_run(base.runs)
    places = [NEWEST / name for name in FILES] + [Path(RUN)]
    sizes = [(base.runs / place).stat().st_size for place in places]
    job = campaign.copied(base)
    for number in range(campaign.trials(1000, least=50)):
        # Half of them by the size of the files, half with each file as likely, so that small ones are hit too.
        place = source.choices(places, sizes if number % 2 else None)[0]
        content = (base.runs / place).read_bytes()
        bit = source.randrange(8 * len(content))
        (job.runs / place).write_bytes(_with_bit_flipped(content, bit))
        try:
            found = read_run(job.runs) if place.name == RUN else dict(leaves(read_checkpoint(job.runs / NEWEST).state))
            silent = None if found == (run if place.name == RUN else wanted) else "it was loaded, and is another"
        except CorruptCheckpointError:
            silent = None
        if number % 50 == 0 and silent is None:  # and some of them by a whole restart
            whole = campaign.copied(job)
            silent = campaign.finished(whole)
            campaign.done(whole.folder, silent is None)
        trials.count(f"bit {bit} of {place}", silent)
        (job.runs / place).write_bytes(content)
    return trials


def _with_bit_flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def hostile(campaign: Campaign) -> Trials:
    """F13: malicious files whose hashes are right, class names in every field of a state, and mutations of a checkpoint.

    Each is refused with a typed error, or is nothing but a state; nothing is executed, and the memory that it takes is bounded.
    """
    base = campaign.killed(25)

    def make(trials: Trials) -> None:
        there = base.runs / NEWEST
        read_checkpoint(there)  # whatever is imported at the first reading is imported now
        for kind, (state, tensors) in HOSTILE_FILES.items():
            _read(campaign.fresh(), trials, kind, {TENSORS: tensors, "state.json": state}, must_fail=True)
        for kind, changes in HOSTILE_MANIFESTS.items():
            _read(campaign.fresh(), trials, kind, {"state.json": b"{}"}, changes, must_fail=True)
        malicious = trials.made
        for number, state in enumerate(_with_class_names((there / "state.json").read_bytes())):
            contents = {TENSORS: (there / TENSORS).read_bytes(), "state.json": state}
            _read(campaign.fresh(), trials, f"a class name in field {number}", contents, must_fail=False)
        trials.notes.append(f"{malicious} malicious files, {trials.made - malicious} states with the name of a class in a field")
        source = campaign.random("F13")
        state, tensors = (there / "state.json").read_bytes(), (there / TENSORS).read_bytes()
        for number in range(campaign.trials(10_000, least=100)):
            small = number % 2 == 0
            text = _mutated(
                b'{"w":{"$tensor":"w"},"x":[1,-2.5e9,{"$float":"nan"},{"$tuple":[null,true]}]}' if small else state, source
            )
            content = _mutated(ONE if small else tensors[: source.randrange(600)] + tensors, source)
            _read(campaign.fresh(), trials, f"mutation {number}", {TENSORS: content, "state.json": text}, must_fail=False)

    return campaign.serving(make)


def _read(
    parent: Path,
    trials: Trials,
    kind: str,
    contents: dict[str, bytes],
    changes: Mapping[str, object] | None = None,
    *,
    must_fail: bool,
) -> None:
    there = forged(parent, contents, **(changes or {}))
    problem = None
    memory = Memory()
    try:
        with memory, watched(parent), warnings.catch_warnings():
            found = read_checkpoint(there).state
        problem = "it was accepted" if must_fail else None if is_state(found) else "it gave no state"
    except TorchflowError:
        problem = None if WATCH.seen == [] else f"it did {WATCH.seen}"
    except BaseException as error:
        problem = f"{type(error).__name__}: {error} {WATCH.seen}"
    trials.count(kind, problem, too_much(memory, sum(map(len, contents.values()))))
    shutil.rmtree(parent)


def _with_class_names(state: bytes) -> Iterator[bytes]:
    """Yield a state's text with one string after the other replaced by the name of a function that must not be called."""
    for found in re.finditer(rb'(?<=[:,\[])"[^"$]*"(?=[,\]}])', state):
        yield state[: found.start()] + b'"os.system"' + state[found.end() :]


def _mutated(content: bytes, source: random.Random) -> bytes:
    """Change a few bytes, or a few words of the format."""
    changed = bytearray(content)
    for _ in range(source.randint(0, 3)):
        at = source.randrange(len(changed) + 1)
        match source.randrange(5):
            case 0:
                changed[at : at + 1] = bytes([source.randrange(256)])
            case 1:
                changed[at:at] = source.choice(WORDS)
            case 2:
                del changed[at : at + source.randint(1, 4)]
            case 3:
                changed[at:at] = changed[at : at + source.randint(1, 20)]
            case _:
                numbers = [found.span() for found in re.finditer(rb"\d+", changed)]
                if numbers:
                    begin, end = source.choice(numbers)
                    changed[begin:end] = source.choice([b"0", b"-1", b"1e400", b"9" * 30, str(2**63).encode(), b"1.5", b'"a"'])
    return bytes(changed)
