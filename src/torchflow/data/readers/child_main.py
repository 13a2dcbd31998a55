"""What a bounded child process runs: it knows nothing of torchflow, so that it starts at once and in little memory."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from typing import Any


def main() -> None:
    """Read a request from standard input, and write rows to standard output, one a line."""
    request = json.loads(sys.stdin.buffer.readline())
    bound(request["memory"], request["seconds"])
    sys.path[:] = request["path"]
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no row
    try:
        spec = importlib.util.spec_from_file_location("read_in_child", request["file"])
        if spec is None or spec.loader is None:
            raise ImportError(f"{request['file']} is no module")
        module = importlib.util.module_from_spec(spec)
        sys.modules["read_in_child"] = module
        spec.loader.exec_module(module)
        for row in getattr(module, request["function"])(*request["arguments"]):
            out.write(line("row", row))
    except MemoryError:
        raise  # which the parent takes from the exit code and the last line
    except Exception as error:
        out.write(line("error", f"{type(error).__name__}: {error}" if type(error) is not ValueError else str(error)))
    else:
        out.write(line("end"))
    out.flush()


def line(*values: Any) -> bytes:
    """Return one line of JSON; newlines in it are escaped."""
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def bound(memory: int, seconds: float) -> None:
    """Bound the memory and the processor time of this process, where the operating system can."""
    try:
        import resource  # noqa: PLC0415  (Windows has none)
    except ImportError:
        return
    for kind, most in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CPU, math.ceil(seconds)), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, limit))


if __name__ == "__main__":
    main()
