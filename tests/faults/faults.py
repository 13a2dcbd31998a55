"""The list of faults: a name, what is done, and the function that makes its trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.faults import damage, data_faults, errors, hooks, kills, refusals, replay, saves, sharing, signals
from tests.faults.campaign import Campaign, Trials
from tests.faults.children import ended, said, start


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        what: What is done, and what must hold, in a sentence.
        make: Makes the trials.
    """

    what: str
    make: Callable[[Campaign], Trials]


WRONG_INPUT = Path(__file__).parents[1] / "test_wrong_input.py"


def wrong_input(campaign: Campaign) -> Trials:
    """F23: the suite of wrong arguments, as it is: every test is a trial, whatever the scale."""
    trials, folder = Trials(), campaign.fresh()
    report = folder / "report.xml"
    # What the tests import is imported already, so their assertions are told of without their values.
    known = "ignore::pytest.PytestAssertRewriteWarning"
    words = [
        "-q",
        "-W",
        known,
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        f"--rootdir={WRONG_INPUT.parents[1]}",
        str(WRONG_INPUT),
    ]
    ended(start(lambda: pytest.main(words), folder), within=300)
    if not report.exists():
        return Trials(1, [f"the tests did not end: {said(folder)}"])
    for case in ElementTree.parse(report).iter("testcase"):
        failed = next((part for part in case if part.tag in ("failure", "error")), None)
        trials.count(str(case.get("name")), None if failed is None else str(failed.get("message")))
    return trials


FAULTS: dict[str, Fault] = {
    "F1": Fault("SIGKILL at random times, one to five times a run", kills.killed_at_random),
    "F2": Fault("SIGKILL after every file operation of every save, and amid every write", saves.killed_in_saves),
    "F3": Fault("SIGKILL in a save, then at every file operation of the restart", saves.killed_in_recovery),
    "F4": Fault(
        "SIGKILL, and other workers at each restart: their number, fork or spawn, kept or not, how far ahead", kills.workers_changed
    ),
    "F7": Fault("SIGTERM, SIGINT, SIGUSR1: at random, twice, in a save, in a validation", signals.signalled),
    "F8": Fault("power cut at every operation of a save: what was not synced is kept, lost, cut or zero", replay.replayed),
    "F9": Fault(
        "a file operation fails: no space, I/O error, read-only, no descriptors, interrupted, short write", errors.disk_errors
    ),
    "F10": Fault("RLIMIT_FSIZE at ten sizes, and a disk with room for ten parts of a run", errors.files_limited),
    "F11": Fault("every file cut, lengthened, deleted, swapped, or replaced by a folder, link, pipe, device", damage.damaged),
    "F12": Fault("one random bit flipped anywhere in the newest checkpoint or in run.json", damage.flipped),
    "F13": Fault("malicious files with right hashes, and mutations of a checkpoint with right hashes", damage.hostile),
    "F14": Fault("another model, optimizer, schedule, data, seed or callbacks: refused, nothing touched", refusals.changed),
    "F15": Fault(
        "NaN and infinity in the loss or a gradient, at the first and the last update and after a resume", refusals.not_finite
    ),
    "F16": Fault("an exception or an interrupt in each hook of a callback, in state() and in load_state()", hooks.raised),
    "F17": Fault("the dataset raises, exits, dies, hangs, or returns what is no sample", data_faults.data_faults),
    "F18": Fault("no memory in the step, while the state is copied, or while a checkpoint is read", errors.out_of_memory),
    "F19": Fault("two processes on one folder: together, later, holder killed, stopped, moved away from", sharing.shared),
    "F22": Fault("clocks jump, stand still, are NaN; the files' times are equal or reversed", sharing.clocks),
}
if WRONG_INPUT.exists():
    FAULTS["F23"] = Fault("wrong arguments: a TypeError or ValueError that names them, before anything happens", wrong_input)
