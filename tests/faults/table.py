"""The table of a campaign's results, and its place in the documentation."""

from __future__ import annotations

import datetime
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from tests.faults.campaign import Trials
from tests.faults.control import Control

BEGIN = ".. campaign: begin (written by `make faults`)"
END = ".. campaign: end"


@dataclass(frozen=True)
class Row:
    """What became of one fault."""

    fault: str
    what: str
    trials: Trials
    seed: int
    seconds: float
    controls: tuple[Control, ...]

    @property
    def survived(self) -> int:
        """How many trials survived; a failure that belongs to all trials together, such as an orphan, counts as one."""
        return max(0, self.trials.made - len(self.trials.failures))

    @property
    def good(self) -> bool:
        """Whether every trial survived and every broken build was caught."""
        return bool(self.trials.made) and not self.trials.failures and all(control.caught for control in self.controls)

    @property
    def control(self) -> str:
        """What became of the broken builds, in a few words."""
        if not self.controls:
            return "none"
        return "; ".join(f"{control.name}: {'caught' if control.caught else 'NOT CAUGHT'}" for control in self.controls)


def line(row: Row) -> str:
    """Return one line for the terminal."""
    notes = f" ({'; '.join(row.trials.notes)})" if row.trials.notes else ""
    return (
        f"{row.fault:>4}  {row.survived:>6} of {row.trials.made:<6} survived  seed {row.seed}  {row.seconds:6.1f} s  "
        f"control {row.control}  {row.what}{notes}"
    )


def table(rows: list[Row], command: str) -> str:
    """Return the results as reStructuredText."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    seeds = ", ".join(sorted({str(row.seed) for row in rows}))
    said = (
        f"Made on {today} by ``{command}`` with torchflow {version('torchflow-train')}, torch {torch.__version__} and Python "
        f"{platform.python_version()} on {platform.system()}, CPU, {torch.get_num_threads()} thread, seed {seeds}."
    )
    lines = [BEGIN, "", said, "", ".. list-table::", "   :header-rows: 1", "   :widths: 6 44 10 10 22 8", ""]
    lines += _cells("fault", "what was done", "trials", "survived", "control: builds broken on purpose", "seconds")
    for row in rows:
        notes = f" ({'; '.join(row.trials.notes)})" if row.trials.notes else ""
        control = row.control.replace("_", " ")
        lines += _cells(row.fault, row.what + notes, str(row.trials.made), str(row.survived), control, f"{row.seconds:.0f}")
    return "\n".join([*lines, "", END])


def _cells(*texts: str) -> list[str]:
    return [f"   {'* -' if number == 0 else '  -'} {text}" for number, text in enumerate(texts)]


def write(path: Path, rows: list[Row], command: str) -> None:
    """Put the table between the marks of a page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    path.write_text(f"{before}{table(rows, command)}{after}", encoding="utf-8")
