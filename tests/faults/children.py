"""Children: forked from a warm parent, in a group of their own, watched by the clock."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

FAILED = 70
"""The status of a child that ended with an exception."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""What a child may be sent before it has begun."""
PATIENCE = 60.0
"""Seconds after which a child hangs."""


def start(function: Callable[[], object], folder: Path) -> int:
    """Fork a child with a process group of its own that calls a function; its words go to a file.

    The parent has imported everything and trained nothing, so a child costs milliseconds and finds no thread half copied.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        return pid
    status = FAILED
    try:
        status = _lived(function, folder, before)
    finally:  # whatever signal comes when: a child never returns to what the parent was about, which would remove its folder
        os._exit(status)


def _lived(function: Callable[[], object], folder: Path, mask: set[int | signal.Signals]) -> int:
    """Return the status of a child, after all that it does."""
    status = FAILED
    try:
        os.setpgid(0, 0)
        words = os.open(folder / "words", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(words, 1)
        os.dup2(words, 2)
        faulthandler.enable()  # a child that hangs is asked with SIGABRT where
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # After a fork torch makes its pool of threads anew at the first call, and two threads that call at once find none.
        torch.set_num_threads(1)
        status = _called(function)
    except KeyboardInterrupt:  # a second one, on the way out
        status = 128 + signal.SIGINT
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
    return status


def _called(function: Callable[[], object]) -> int:
    """Return the status with which Python would leave."""
    try:
        function()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # what a shell calls it
    except BaseException:
        traceback.print_exc()
        return FAILED
    return 0


def ended(pid: int, within: float | None = None, *, patience: float = PATIENCE) -> int | None:
    """Wait for a child, and return its status, or minus the signal that ended it.

    Without ``within``, one that does not end in ``patience`` seconds is killed, and its status is that of SIGABRT. With it, one that has not ended by
    then goes on, and None is returned.
    """
    deadline = time.monotonic() + (patience if within is None else within)
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        left = deadline - time.monotonic()
        if left <= 0:
            break
        time.sleep(min(left, 0.002))
    if within is not None:
        return None
    os.kill(pid, signal.SIGABRT)
    time.sleep(0.5)
    kill_group(pid)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_group(group: int) -> None:
    """Kill a child and its workers."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def group_lives(group: int) -> bool:
    """Say whether any process of a child's group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def said(folder: Path) -> str:
    """Return the last words of the children of a folder."""
    words = folder / "words"
    return words.read_text(errors="replace").strip()[-600:] if words.exists() else "(nothing)"
