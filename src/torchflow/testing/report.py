"""What two recordings do not have in common, and where it began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torchflow.errors import TorchflowError
from torchflow.testing.recording import Recording, Snapshot

_MISSING = "(not there)"
_SHOWN = 8


@dataclass(frozen=True)
class Difference:
    """A value that is not what it is in the undisturbed run.

    Attributes:
        path: What differs, such as ``"optimizers/main/state/0.weight/exp_avg"``.
        update: After which update, counted from 1; 0 before the first, None at the end of the run.
        process: Which process it was, counted from 1.
        expected: The undisturbed run's value, as a text.
        found: The value that was found, as a text.
    """

    path: str
    update: int | None
    process: int
    expected: str
    found: str


@dataclass(frozen=True)
class Report:
    """What a verification found.

    Attributes:
        what: What was verified: ``"resume"`` or ``"observers"``.
        differences: All values that differ where the runs first differ, causes before effects; empty where they are equal.
        updates: The updates of the undisturbed run.
        values: How many values were compared after each of them.
        processes: One line for each process: where it began and how it ended. The first is the undisturbed one.
        left_out: The observers that were taken away, for ``"observers"``.
        unrepeatable: Attributes of callbacks that differ without a kill, such as times, and were not compared.
        advice: Where to look first; empty where all is equal.
    """

    what: str
    differences: tuple[Difference, ...]
    updates: int
    values: int
    processes: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    unrepeatable: tuple[str, ...] = ()
    advice: str = ""

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    def raise_for_difference(self) -> None:
        """Raise where anything differs.

        Raises:
            DifferenceError: It is so; the message is the report.
        """
        if self.differences:
            raise DifferenceError(self)

    def __str__(self) -> str:
        lines = [f"{self.what}: {'equal' if self.equal else 'DIFFERENT'}; {self.updates} updates of {self.values} values each"]
        lines += [f"  process {number}  {line}" for number, line in enumerate(self.processes)]
        if self.left_out:
            lines.append(f"  left out in process 1: {', '.join(self.left_out)}")
        if self.unrepeatable:
            lines.append(f"  not compared, they differ without a kill: {', '.join(self.unrepeatable)}")
        if self.differences:
            first = self.differences[0]
            where = "at the end" if first.update is None else f"after update {first.update}"
            lines += [f"first difference {where}, in process {first.process}: {first.path}"]
            lines += [f"  expected  {first.expected}", f"  found     {first.found}"]
            if others := [difference.path for difference in self.differences[1:]]:
                more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
                lines.append(f"  so do     {', '.join(others[:_SHOWN])}{more}")
            lines.append(self.advice)
        return "\n".join(lines)


class DifferenceError(TorchflowError, AssertionError):
    """A run that should be equal to another one is not.

    Attributes:
        report: The report, which is the message too.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def first_differences(
    reference: Recording, chain: Sequence[Recording], ignore: Sequence[str], *, stopped: bool | None = None
) -> list[Difference]:
    """Return what differs where a chain of processes first differs from the undisturbed run.

    Args:
        reference: The undisturbed run.
        chain: The processes in the order of time; an update that is made again is compared again.
        ignore: Patterns of paths that are not compared.
        stopped: Whether a callback of the reference's own ended it, so that the chain may go on; None where the chain has
            that callback too.
    """
    reached = 0
    for number, recording in enumerate(chain, 1):
        if recording.started > reached:
            return [Difference("progress/updates", reached + 1, number, "made", "never made")]
        if not recording.started and (different := _compared(reference.first, recording.first, ignore, 0, number)):
            return different
        for update, found in recording.updates.items():
            reached = max(reached, update)
            expected = reference.updates.get(update)
            if expected is not None:
                different = _compared(expected, found, ignore, update, number)
            elif stopped:
                return []
            else:
                different = [Difference("progress/updates", update, number, "the end of the run", "made")]
            if different:
                return different
    if reached < len(reference.updates):
        return [Difference("progress/updates", reached + 1, len(chain), "made", f"never made: {chain[-1].ended}")]
    return _compared(reference.end, chain[-1].end, ignore, None, len(chain))


def _compared(expected: Snapshot, found: Snapshot, ignore: Sequence[str], update: int | None, process: int) -> list[Difference]:
    if expected == found:
        return []
    different = [
        Difference(path, update, process, expected.get(path, _MISSING), found.get(path, _MISSING))
        for path in {**expected, **found}
        if expected.get(path) != found.get(path) and not any(fnmatchcase(path, pattern) for pattern in ignore)
    ]
    return different if any(not difference.path.startswith("unsaved/") for difference in different) else []
