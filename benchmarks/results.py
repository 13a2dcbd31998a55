"""Where measurements lie until the report is written: a JSON file a part, with the moment, the versions and the machine."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch

FOLDER = Path(__file__).parent / "results"
Row: TypeAlias = dict[str, Any]


def store(part: str, rows: Sequence[Row], *, merge: str | None = None) -> None:
    """Write the rows of one part.

    Args:
        part: The file's name without its ending.
        rows: What was measured.
        merge: The column that names a row: rows of an earlier call with other names stay, and those of another processor.
    """
    about = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "command": _command(), **machine()}
    named = set() if merge is None else {(new[merge], kind(about)) for new in rows}
    kept = [row for row in load(part) if (row[merge], kind(row)) not in named] if merge else []
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps({"rows": [*kept, *({**row, **about} for row in rows)]}, indent=1, sort_keys=True)
    (FOLDER / f"{part}.json").write_text(text + "\n", encoding="utf-8")


def load(part: str) -> list[Row]:
    """Return the rows of one part; none where it was never measured."""
    path = FOLDER / f"{part}.json"
    if not path.exists():
        return []
    rows: list[Row] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def kind(row: Row) -> str:
    """Return the kind of processor on which a row was measured; numbers of two kinds are not for one table."""
    return f"{row['processor']} ({row['instructions']})"


def shown(row: Row) -> str:
    """Return a row as one line for the terminal."""

    def text(value: object) -> str:
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    return "  ".join(f"{name} {text(value)}" for name, value in row.items())


def machine() -> Row:
    """Return what a number depends on."""
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "system": platform.system(),
    }


def _processor() -> str:
    """Return the name of the processor, and its family: virtual machines give several generations one name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name, family = said.get("model name", platform.machine()), said.get("cpu family")
    return name if family is None else f"{name}, family {family}"


def _command() -> str:
    module = Path(sys.argv[0]).stem
    return " ".join(["python -m", f"benchmarks.{module}", *sys.argv[1:]])
