"""Processes of a verification: started bare, watched by the clock, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal as signals
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from torchflow.errors import TorchflowError
from torchflow.testing.child import INSIDE, Assignment
from torchflow.testing.recording import Recording, read

# The caller's sys.path comes first of all, so that the child finds what the caller finds, torchflow included.
_PROGRAM = (
    "import json, sys\n"
    "told = json.load(open(sys.argv[1], encoding='utf-8'))\n"
    "sys.path[:] = told.pop('path')\n"
    "sys.argv[:] = ['-c']\n"
    "from torchflow.testing.child import main\n"
    "main(told)\n"
)
_LINES = 40
"""How many lines of a process's last words an error holds."""
_SECONDS_FOR_LAST_WORDS = 5


class ChildError(TorchflowError, RuntimeError):
    """A process of a verification failed by itself, or hung: this says nothing about resuming. Its last words are in the message."""


class Children:
    """Starts one process after the other, in a folder.

    Args:
        folder: Where assignments, records and outputs lie.
        timeout: Seconds that one process may take.
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        self._folder, self._timeout = folder, timeout
        self._groups: list[int] = []

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """End every process that is left when the block ends, workers of killed ones too."""
        try:
            yield
        finally:
            # Not before: what a killed process leaves behind is there when the next one starts, as it would be in earnest.
            for group in self._groups:
                _signal_group(group, "SIGKILL")

    def run(self, assignment: Assignment) -> Recording:
        """Run one process to its end.

        Raises:
            ChildError: It failed by itself, or did not end in time.
        """
        told = Path(assignment.record).with_suffix(".assignment.json")
        words = Path(assignment.record).with_suffix(".output.txt")
        told.write_text(json.dumps({**assignment.plain(), "path": sys.path}), encoding="utf-8")
        with words.open("wb") as output:  # a file, not a pipe: workers that outlive a killed process would hold the pipe open
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, str(told)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, INSIDE: "1"},
                start_new_session=True,
            )
        self._groups.append(process.pid)
        try:
            status = process.wait(self._timeout)
        except subprocess.TimeoutExpired:
            self._end_hung(process, read(Path(assignment.record)), words)
        recording = read(Path(assignment.record))
        as_planned = recording.killed is not None and status in _statuses(assignment.signal)
        if not as_planned and (status != 0 or recording.ended is None):
            raise ChildError(
                f"a process of the verification failed by itself ({_told(status)}) after update {recording.last}. "
                f"Its last words:\n{_tail(words)}"
            )
        return recording

    def _end_hung(self, process: subprocess.Popen[bytes], recording: Recording, words: Path) -> None:
        """Ask a process where it hangs, and end it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.send_signal(signals.SIGABRT)
            process.wait(_SECONDS_FOR_LAST_WORDS)
        _signal_group(process.pid, "SIGKILL")
        process.wait()
        raise ChildError(
            f"a process of the verification did not end within {self._timeout:g} s and was ended after update {recording.last}. "
            f"Give it more time with timeout=…, or a smaller job. Its last words:\n{_tail(words)}"
        )


def _signal_group(group: int, name: str) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signals.Signals[name])


def _statuses(signal: str) -> tuple[int, int]:
    """Return the exit statuses of a process that a signal ended: by itself, or in good order."""
    number = signals.Signals[signal].value
    return (-number, 128 + number)


def _told(status: int) -> str:
    if status < 0:
        return f"ended by {signals.Signals(-status).name}"
    return f"exit status {status}"


def _tail(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LINES:]) or "  (none)"
