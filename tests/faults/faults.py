"""The list of faults: a name, what is done, and the function that makes its trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults import damage, data_faults, errors, hooks, kills, refusals, replay, saves, sharing, signals
from tests.faults.campaign import Campaign, Trials


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        what: What is done, and what must hold, in a sentence.
        make: Makes the trials.
    """

    what: str
    make: Callable[[Campaign], Trials]


FAULTS: dict[str, Fault] = {
    "F1": Fault("SIGKILL at random times, one to five times a run", kills.killed_at_random),
    "F2": Fault("SIGKILL after every file operation of every save, and amid every write", saves.killed_in_saves),
    "F3": Fault("SIGKILL in a save, then at every file operation of the restart", saves.killed_in_recovery),
    "F4": Fault("SIGKILL, and another number of workers at each restart", kills.workers_changed),
    "F7": Fault("SIGTERM, SIGINT, SIGUSR1: at random, twice, in a save, in a validation", signals.signalled),
    "F8": Fault("power cut at every operation of a save: what was not synced is kept, lost, cut or zero", replay.replayed),
    "F11": Fault("every file cut, lengthened, deleted, swapped, or replaced by a folder, link, pipe, device", damage.damaged),
    "F12": Fault("one random bit flipped anywhere in the run's folder", damage.flipped),
    "F13": Fault("malicious files with right hashes, and mutations of a checkpoint with right hashes", damage.hostile),
    "F14": Fault("another model, optimizer, schedule, data, seed or callbacks: refused, nothing touched", refusals.changed),
    "F15": Fault(
        "NaN and infinity in the loss or a gradient, at the first and the last update and after a resume", refusals.not_finite
    ),
    "F9": Fault(
        "a file operation fails: no space, I/O error, read-only, no descriptors, interrupted, short write", errors.disk_errors
    ),
    "F10": Fault("RLIMIT_FSIZE at ten sizes", errors.files_limited),
    "F16": Fault("an exception or an interrupt in each hook of a callback", hooks.raised),
    "F18": Fault("no memory in the step, while the state is copied, or while a checkpoint is read", errors.out_of_memory),
    "F17": Fault("the dataset raises, exits, dies, hangs, or returns what is no sample", data_faults.data_faults),
    "F19": Fault("two processes on one folder: together, later, holder killed, stopped, moved away from", sharing.shared),
    "F22": Fault("clocks jump, stand still, are NaN; the files' times are equal or reversed", sharing.clocks),
}
