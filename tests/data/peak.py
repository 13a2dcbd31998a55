"""How much memory a process has taken at most."""

from __future__ import annotations

import re
import resource
from pathlib import Path


def peak_of_this_process() -> int:
    """Return the peak of resident memory in bytes.

    ``ru_maxrss`` is also that of whoever started the process: tests, which may be large themselves. What the kernel says of the memory
    of this program is its own.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="ascii"))):
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
