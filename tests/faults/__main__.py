"""The fault campaign: ``python -m tests.faults [--quick] [--only F1,F2] [--trials-scale X] [--write]``.

One line a fault: trials, survivors, seed, seconds, and whether builds that are broken on purpose were caught. The exit status is 1
if any trial was lost, wrong in silence or hung, or if a broken build was not caught.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from tests.faults.campaign import Campaign
from tests.faults.control import controls
from tests.faults.faults import FAULTS
from tests.faults.table import Row, line, write

PAGE = Path(__file__).parents[2] / "docs" / "reliability.rst"
# What a killed process has written stays in the kernel's memory, whatever lies under it: a disk would only make the trials slow.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
QUICK = 0.02
"""The scale of a quick run."""


def main(words: list[str]) -> int:
    """Run the campaign; return the exit status."""
    given = _parsed(words)
    # Children are forked from this process, so it must have no thread: torch is told before anything else happens.
    torch.set_num_threads(1)
    chosen = [name for name in FAULTS if not given.only or name in given.only.split(",")]
    scale = QUICK if given.quick else given.trials_scale
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="torchflow-faults-", dir=given.folder or MEMORY) as parent:
        campaign = Campaign(Path(parent), given.seed, scale)
        for name in chosen:
            began = time.monotonic()
            trials = FAULTS[name].make(campaign)
            broken = () if given.no_control else tuple(controls(campaign, name, FAULTS[name].make))
            rows.append(Row(name, FAULTS[name].what, trials, given.seed, time.monotonic() - began, broken))
            print(line(rows[-1]), flush=True)
            for failure in trials.failures[:5]:
                print(f"      {failure}", flush=True)
            for control in broken:
                if not control.caught or given.verbose:
                    print(f"      control {control.name}: {control.first}", flush=True)
    if given.write:
        write(PAGE, rows, f"python -m tests.faults {' '.join(words)}".strip())
    return 0 if all(row.good for row in rows) else 1


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="The fault campaign.")
    parser.add_argument("--quick", action="store_true", help=f"a scale of {QUICK}")
    parser.add_argument("--only", default="", help="names of faults, with commas")
    parser.add_argument("--trials-scale", type=float, default=1.0, help="what all numbers of trials are multiplied with")
    parser.add_argument("--seed", type=int, default=0, help="what every trial's randomness follows from")
    parser.add_argument("--no-control", action="store_true", help="leave out the builds that are broken on purpose")
    parser.add_argument("--verbose", action="store_true", help="say how each broken build was caught")
    parser.add_argument("--folder", default=None, help="where the trials' folders lie; in memory by default")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
