"""Reading what may bring a process down: in a child process with bounded memory and time."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from torchflow.errors import FileError

MEMORY = 2 * 2**30
SECONDS = 60.0
LINE = 64 * 2**20
"""The longest row, in bytes of JSON."""
_MAIN = Path(__file__).with_name("child_main.py")


def rows_of_child(
    module: str,
    function: str,
    arguments: Sequence[Any],
    *,
    path: str,
    memory: int = MEMORY,
    seconds: float = SECONDS,
    hint: str = "",
) -> Iterator[Any]:
    """Yield what a function of a module yields in a child interpreter that is bounded in memory and time.

    A library in C or Rust that asks for too much memory aborts its process, which no ``except`` catches. In the child that
    ends the child alone. The module is loaded from its file: neither torchflow nor torch is imported there, and it must not
    import them. Where the operating system has no limits for a process (Windows), only the time is bounded.

    Args:
        module: The module's full name, such as ``torchflow.data.readers.workbook_cells``.
        function: The name of a generator function in it.
        arguments: What it is called with: whatever JSON can say. It yields such values too, for example one row after another.
        path: The file that is read, for the errors.
        memory: The address space that the child may use, in bytes.
        seconds: How long it may take, by the clock and by its processor time.
        hint: What to add to the error about a limit, such as the argument that raises it.

    Raises:
        FileError: The function raised, the child died, or a limit was reached; the message says which.
    """
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"there is no module {module}")
    request = {
        "path": [entry for entry in sys.path if entry],
        "file": found.origin,
        "function": function,
        "arguments": list(arguments),
        "memory": memory,
        "seconds": seconds,
    }
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-P", str(_MAIN)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, env=_environment()
        )
        late = threading.Event()
        alarm = threading.Timer(seconds, _end, (child, late))
        alarm.daemon = True
        alarm.start()
        try:
            ended = yield from _answers(child, request, path)
            child.wait()
            if child.returncode or not ended:
                raise FileError(f"{path} cannot be read: {_why(child.returncode, late, memory, seconds, said)}{_tail(hint)}", path)
        finally:
            alarm.cancel()
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()


def _answers(child: subprocess.Popen[bytes], request: dict[str, Any], path: str) -> Generator[Any, None, bool]:
    """Yield the rows that a child writes, each a line ``["row", value]``; return whether ``["end"]`` came after the last."""
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(request).encode() + b"\n")
        child.stdin.close()
    except OSError:  # it died before it read what it was to do; its exit code says why
        return False
    while True:
        line = child.stdout.readline(LINE)
        if not line:
            return False
        if not line.endswith(b"\n"):
            if len(line) >= LINE:
                raise FileError(f"{path} cannot be read: one of its rows takes more than {LINE // 2**20} MiB.", path)
            return False  # it died while it wrote
        kind, *value = json.loads(line)
        if kind == "row":
            yield value[0]
        elif kind == "error":
            raise FileError(f"{path} cannot be read: {value[0]}", path)
        else:
            return True


def _why(code: int, late: threading.Event, memory: int, seconds: float, said: IO[bytes]) -> str:
    """Return why a child ended without an end."""
    said.seek(0)
    text = said.read(100_000).decode("utf-8", "replace")
    if late.is_set() or code in (-24, -9):  # SIGXCPU; SIGKILL comes from the limit of processor time, or for want of memory
        return f"it took longer than {seconds:g} seconds."
    if "memory allocation" in text or "MemoryError" in text or "bad_alloc" in text:
        return f"it needs more than the {memory / 2**30:.3g} GiB of memory that it may use. It may be made to do harm."
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
    return f"the process that read it ended with code {code}{': ' + last[:200] if last else ''}. It may be damaged."


def _end(child: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    child.kill()


def _environment() -> dict[str, str]:
    """Return the environment of a child: one thread, for a stack of each thread counts as memory."""
    return {
        **os.environ,
        "PYTHONIOENCODING": "utf-8",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
    }


def _tail(hint: str) -> str:
    return f" {hint}" if hint else ""
