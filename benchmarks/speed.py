"""What an update costs: torchflow beside loops by hand and other libraries, in turns.

    python -m benchmarks.speed [--workloads W1,W2] [--only torchflow,tutorial] [--rounds 20] [--threads 1,2] [--quick]

In every round each contestant trains some hundred updates, in an order that is turned round from round to round, and its time is divided by
that of the loop by hand in the same round: printed are medians of these ratios with their quartiles. ``hand-again`` is the control: what
lies within it is noise. All train on the same batches, and the loss of all of them must agree after each round. The results go to
benchmarks/results, from where ``python -m benchmarks.report`` writes docs/performance.rst.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks import results
from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.contestants.loops import hand, losses
from benchmarks.turns import Gated, Lap, LeftOut, Player, player
from benchmarks.workloads import workload

PEERS = Path(__file__).parent.parent / ".venv-peers"
WORKLOADS = ("W1", "W2", "W3", "W4")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and store."""
    chosen = _parsed(arguments)
    wrong = 0
    for threads in chosen.threads:
        torch.set_num_threads(threads)
        for what in chosen.workloads:
            print(f"{what}: {workload(what).what}; {threads} thread{'s' if threads > 1 else ''}", flush=True)
            rows = measure(what, _contestants(what, chosen.only), threads=threads, rounds=chosen.rounds, peers=chosen.peers)
            wrong += sum(not row.get("agrees", True) for row in rows)
            if chosen.store:
                results.store(f"speed-{what}-{threads}", rows, merge="contestant")
    return int(wrong > 0)


def measure(what: str, contestants: Sequence[Contestant], *, threads: int, rounds: int, peers: Path = PEERS) -> list[results.Row]:
    """Let the contestants take turns on one workload, and return a row for each; who cannot take part has the reason in its row."""
    left_out: dict[str, str] = {}
    players = _started(what, contestants, left_out, threads=threads, rounds=rounds, peers=peers)
    try:
        laps = _laps(players, what, rounds, left_out)
    finally:
        for one in players:
            one.close()
    by_name = {one.contestant.name: own for one, own in laps.items()}
    rows = [_row(one, own, by_name) for one, own in laps.items()]
    for row in rows:
        print(_line(row), flush=True)
    return [*rows, *({"contestant": name, "left_out": reason} for name, reason in left_out.items())]


def _started(
    what: str, contestants: Sequence[Contestant], left_out: dict[str, str], *, threads: int, rounds: int, peers: Path
) -> list[Player]:
    """Start every contestant that can take part: the peers together, then torchflow's own, one after the other."""

    def start(contestant: Contestant) -> Player:
        return player(contestant, what, peers=peers, threads=threads, rounds=rounds + 2)

    others, own = ([one for one in contestants if one.peer is peer] for peer in (True, False))
    players = _able(others, [partial(start, one) for one in others], left_out)
    players = _able([one.contestant for one in players], [one.ready for one in players], left_out)
    players += _able(own, [lambda one=one: start(one).ready() for one in own], left_out)  # type: ignore[misc]
    return sorted(players, key=lambda one: contestants.index(one.contestant))


def _able(contestants: Sequence[Contestant], calls: Sequence[Callable[[], Player]], left_out: dict[str, str]) -> list[Player]:
    """Call each; who cannot take part is named and left out."""
    players = []
    for contestant, call in zip(contestants, calls, strict=True):
        try:
            players.append(call())
        except LeftOut as reason:
            _leave_out(contestant, reason, left_out)
    return players


def _leave_out(contestant: Contestant, reason: LeftOut, left_out: dict[str, str]) -> None:
    print(f"  {contestant.name} is left out: {reason}", flush=True)
    left_out[contestant.name] = str(reason)


def _laps(players: list[Player], what: str, rounds: int, left_out: dict[str, str]) -> dict[Player, list[Lap]]:
    """Return what each player did in each round; the first lap of each warms up."""
    laps: dict[Player, list[Lap]] = {one: [] for one in players}
    for turn in range(rounds + 1):
        # The processes of others stay together, and those of this one: who comes first after another process has
        # worked finds cold caches, so this process runs a little before it is measured.
        warm = False
        for one in [*players][:: -1 if turn % 2 else 1]:
            if one not in laps:
                continue
            if isinstance(one, Gated):
                warm = False
            elif not warm:
                hand(workload(what).shortened(50))
                warm = True
            try:
                laps[one].append(one.lap())
            except LeftOut as reason:
                _leave_out(one.contestant, reason, left_out)
                del laps[one]
        print(f"  round {turn} of {rounds}", end="\r", file=sys.stderr, flush=True)
    return laps


def _row(one: Player, laps: list[Lap], others: Mapping[str, list[Lap]]) -> results.Row:
    """Return the medians and what they rest on."""
    updates = one.workload.updates
    warm_up, *counted = [lap.seconds / updates for lap in laps]
    low, middle, high = _quartiles(_ratios(one, laps, others["hand"]))
    expected = losses(one.workload, len(laps) if isinstance(one, Gated) else 1)[-1]
    off = abs(laps[-1].loss - expected) / expected
    row: results.Row = {
        "contestant": one.contestant.name,
        "library": one.library,
        "microseconds": statistics.median(counted) * 1e6,
        "ratio": middle,
        "quartiles": [low, high],
        "rounds": len(counted),
        "updates": updates,
        "loss": laps[-1].loss,
        "off": off,
        "tolerance": one.contestant.tolerance,
        "agrees": off <= one.contestant.tolerance,
    }
    if isinstance(one, Gated) and one.contestant.compiles:  # what its start and first epoch took beyond an epoch; no import
        row["compiling"] = one.starting + (warm_up - statistics.median(counted)) * updates
    if "hand-best" in others:
        row["over_best"] = _quartiles(_ratios(one, laps, others["hand-best"]))[1]
    return row


def _ratios(one: Player, laps: list[Lap], others: list[Lap]) -> list[float]:
    """Return the time of an update over that of another contestant, which trains whole epochs, in the same rounds."""
    share = one.workload.updates / workload(one.workload.name).updates
    return [own.seconds / share / other.seconds for own, other in zip(laps[1:], others[1:], strict=True)]


def _quartiles(values: list[float]) -> tuple[float, float, float]:
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def _line(row: results.Row) -> str:
    low, high = row["quartiles"]
    compiled = f"  compiled in {row['compiling']:.1f} s" if "compiling" in row else ""
    wrong = "" if row["agrees"] else "  TRAINED SOMETHING ELSE"
    return (
        f"  {row['contestant']:28} {row['microseconds']:10.1f} us  {row['ratio']:7.3f} of hand [{low:.3f}, {high:.3f}]  "
        f"loss {row['loss']:.6g}, off by {row['off']:.0e}{compiled}{wrong}"
    )


def _contestants(what: str, only: Sequence[str]) -> list[Contestant]:
    """Return who takes part: ``hand`` always does, first."""
    wanted = [one for one in CONTESTANTS if what in one.workloads and (not only or one.name in only)]
    first = CONTESTANTS[0]
    return [first, *(one for one in wanted if one is not first)]


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", type=_names(WORKLOADS), default=WORKLOADS, help="such as W1,W2")
    parser.add_argument("--only", type=_names([one.name for one in CONTESTANTS]), default=(), help="contestants, beside hand")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1])
    parser.add_argument("--peers", type=Path, default=PEERS, help="the environment of the other libraries")
    parser.add_argument("--quick", action="store_true", help="3 rounds, nothing stored")
    parser.add_argument("--no-store", dest="store", action="store_false", help="only print")
    chosen = parser.parse_args(arguments)
    if chosen.quick:
        chosen.rounds, chosen.store = 3, False
    return chosen


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        found = text.split(",")
        if unknown := [name for name in found if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}. There are {', '.join(known)}.")
        return found

    return names


if __name__ == "__main__":
    sys.exit(main())
