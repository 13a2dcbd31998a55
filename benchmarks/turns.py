"""Those who take turns: a function in this process, or a training in another one that waits at its gate."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.contestants import Contestant
from benchmarks.workloads import Workload, workload

ROOT = Path(__file__).parent.parent
SECONDS_OF_PATIENCE = 300


class Lap(NamedTuple):
    """What one round gave: seconds, and the loss of some rows after it."""

    seconds: float
    loss: float


class LeftOut(Exception):  # noqa: N818  (no error: a library that is not installed)
    """A contestant cannot take part; the text says why."""


class Player(ABC):
    """A contestant on one workload.

    Attributes:
        contestant: Who.
        workload: What it trains in a round.
        library: Its library with the version.
    """

    library = ""

    def __init__(self, contestant: Contestant, what: str) -> None:
        self.contestant = contestant
        whole = workload(what)
        self.workload: Workload = whole.shortened(contestant.updates[what]) if what in contestant.updates else whole

    @abstractmethod
    def lap(self) -> Lap:
        """Train one round."""

    def ready(self) -> Player:
        """Return it, able to train at once.

        Raises:
            LeftOut: It cannot take part.
        """
        return self

    def close(self) -> None:  # noqa: B027  (most have nothing to end)
        """End what was started."""


class Timed(Player):
    """A function that trains one epoch afresh, in this process."""

    def __init__(self, contestant: Contestant, what: str) -> None:
        super().__init__(contestant, what)
        if why := contestant.missing():
            raise LeftOut(why)
        self._function = contestant.function()

    def lap(self) -> Lap:
        """Train one epoch from the first weights."""
        timed = self._function(self.workload, **self.contestant.choices)
        assert timed is not None
        return Lap(timed.seconds, self.workload.error(timed.model))


class Gated(Player):
    """A training in a process of its own: one epoch further at each turn."""

    def __init__(self, contestant: Contestant, what: str, *, python: Path, threads: int, rounds: int) -> None:
        super().__init__(contestant, what)
        if not python.exists():
            raise LeftOut(
                f"{os.path.relpath(python, ROOT) if python.is_relative_to(ROOT) else python} is not there (make bench-peers)"
            )
        (commands, self._say), (self._hear, answers) = os.pipe(), os.pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process is)
        self._caches = tempfile.TemporaryDirectory()
        call = [
            str(python),
            "-m",
            "benchmarks.child",
            contestant.name,
            what,
            str(threads),
            str(rounds),
            str(commands),
            str(answers),
        ]
        self._process = subprocess.Popen(
            call, cwd=ROOT, env=environment(threads, self._caches.name), pass_fds=(commands, answers), stdin=subprocess.DEVNULL,
            stdout=self._errors, stderr=self._errors,
        )  # fmt: skip
        os.close(commands)
        os.close(answers)
        self._text = b""

    def ready(self) -> Player:
        """Wait until it stands at its gate."""
        started = self._answer()
        self.library, self.starting = str(started["library"]), float(started["ready"])
        return self

    def lap(self) -> Lap:
        """Let it through its gate, and wait for its answer."""
        os.write(self._say, b"go\n")
        answer = self._answer()
        return Lap(float(answer["seconds"]), float(answer["loss"]))

    def close(self) -> None:
        """End the process; calling it again does nothing."""
        if self._errors.closed:
            return
        os.close(self._say)  # at its gate it reads the end of the file, and leaves
        os.close(self._hear)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
        self._caches.cleanup()

    def _answer(self) -> dict[str, Any]:
        while b"\n" not in self._text:
            if not select.select([self._hear], [], [], SECONDS_OF_PATIENCE)[0]:
                self._fail(f"no answer in {SECONDS_OF_PATIENCE} s")
            if not (part := os.read(self._hear, 65_536)):
                self._errors.seek(0)
                lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
                self._fail(f"its process ended: {lines[-1] if lines else 'without a word'}")
            self._text += part
        line, _, self._text = self._text.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "missing" in answer:
            self._fail(answer["missing"])
        return answer

    def _fail(self, why: str) -> None:
        self._process.kill()
        self.close()
        raise LeftOut(why)


def player(contestant: Contestant, what: str, *, peers: Path, threads: int, rounds: int) -> Player:
    """Start a contestant.

    Raises:
        LeftOut: It cannot take part.
    """
    if not contestant.gated:
        return Timed(contestant, what)
    python = peers / "bin" / "python" if contestant.peer else Path(sys.executable)
    return Gated(contestant, what, python=python, threads=threads, rounds=rounds)


def environment(threads: int, caches: str | None = None) -> dict[str, str]:
    """Return an environment with this torchflow, this number of threads, no old compiled code, and nobody who phones home."""
    count = str(threads)
    fresh = {} if caches is None else {"TORCHINDUCTOR_CACHE_DIR": caches, "TMPDIR": caches}
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        **fresh,
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "disabled",
        "KERAS_BACKEND": "torch",
        "JAX_PLATFORMS": "cpu",
        "TOKENIZERS_PARALLELISM": "false",
    }
