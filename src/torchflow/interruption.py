"""Signals that ask a run to end or to save: heard at once, obeyed at the next safe point.

SIGTERM and SIGINT let the update finish; the run then saves once and leaves, with status 143 and 130. SIGUSR1 asks for a
save and goes on. A second SIGINT leaves at once, in the middle of whatever it finds; the older checkpoints stay valid.

An evaluation or a prediction outside a run has nothing to save: SIGTERM lets the batch finish and leaves, SIGUSR1 passes, and
SIGINT is left to the program, as are the others where it hears them itself.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

_LOG = logging.getLogger("torchflow")


class _Asked:
    """What signals have asked for and nobody has done yet."""

    def __init__(self, *, saves: bool = True) -> None:
        self.saves = saves
        self.end: int | None = None
        self.leaving = False
        self.save = False


_asked: _Asked | None = None


@contextlib.contextmanager
def leaving_cleanly() -> Iterator[None]:
    """Hear SIGTERM and SIGUSR1 where nothing is saved, so that they do not end the process in the middle of a batch.

    Nothing changes outside the main thread, inside a block that listens already, and for a signal that has a handler.
    """
    global _asked  # noqa: PLW0603
    if _asked is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _asked = _Asked(saves=False)
    heard = [number for number in _heard() if number != signal.SIGINT and signal.getsignal(number) is signal.SIG_DFL]
    with _handled(heard):
        yield


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Hear SIGTERM, SIGINT and SIGUSR1 for the duration of the block, and put the earlier handlers back.

    Python hears signals in the main thread alone. Elsewhere, and inside a block that listens already, nothing changes;
    outside the main thread one line says so.
    """
    global _asked  # noqa: PLW0603  (signals are the process's, so what they ask for is too)
    if _asked is not None:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        _LOG.warning(
            "torchflow: fit runs outside the main thread, where Python hears no signals: SIGTERM and SIGINT will not save before they "
            "end the run. Its regular checkpoints are not affected."
        )
        yield
        return
    _asked = _Asked()
    with _handled(_heard()):
        yield


@contextlib.contextmanager
def _handled(numbers: Sequence[signal.Signals]) -> Iterator[None]:
    global _asked  # noqa: PLW0603
    earlier = {number: signal.signal(number, _hear) for number in numbers}
    try:
        yield
        check()  # a signal that came after the last safe point is obeyed all the same
    finally:
        for number, handler in earlier.items():
            # None stands for a handler that C code installed, which Python cannot put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        _asked = None


def _heard() -> list[signal.Signals]:
    names = ("SIGTERM", "SIGINT", "SIGUSR1")  # Windows has no SIGUSR1
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _hear(number: int, frame: FrameType | None) -> None:
    if _asked is None:
        return
    if number == signal.SIGINT and _asked.end == signal.SIGINT:
        raise KeyboardInterrupt("a second SIGINT: left at once, without saving")
    if number in (signal.SIGTERM, signal.SIGINT):
        _asked.end = number
        what = "the update, then saving" if _asked.saves else "the batch"
        _LOG.warning("torchflow: %s: finishing %s and leaving.", signal.Signals(number).name, what)
    else:
        _asked.save = True


def check() -> None:
    """Leave where a signal has asked for it: call this at safe points only.

    Raises:
        KeyboardInterrupt: SIGINT was heard; Python leaves with status 130.
        SystemExit: SIGTERM was heard; the status is 143.
    """
    if _asked is None or _asked.end is None or _asked.leaving:
        return
    _asked.leaving = True  # what is called on the way out, such as a callback that evaluates, goes through
    if _asked.end == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + signal.SIGTERM)


def save_asked() -> bool:
    """Say once whether SIGUSR1 has asked for a save."""
    if _asked is None or not _asked.save:
        return False
    _asked.save = False
    return True
