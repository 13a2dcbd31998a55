"""A process that trains one gated contestant: started by benchmarks.speed, one for each.

    python -m benchmarks.child NAME WORKLOAD THREADS EPOCHS COMMANDS ANSWERS

The last two are file descriptors. The answers are lines of JSON: ``{"missing": why}``, or ``{"ready": …}`` and then one for each round.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.contestants import CONTESTANTS, Contestant
from benchmarks.gate import Gate
from benchmarks.workloads import workload


def main() -> None:
    """Train until the gate says that it is enough."""
    name, what, threads, epochs, commands, answers = sys.argv[1:]
    torch.set_num_threads(int(threads))
    contestant = next(contestant for contestant in CONTESTANTS if contestant.name == name)
    trained = workload(what)
    if what in contestant.updates:
        trained = trained.shortened(contestant.updates[what])
    gate = Gate(trained, int(commands), int(answers), int(epochs))
    if why := contestant.missing():
        gate.leave_out(why)
    try:
        function = contestant.function()
    except Exception as error:  # whatever a library's import raises, its contestant is left out and said so
        gate.leave_out(f"import failed: {type(error).__name__}: {error}")
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (open as long as the process is)
    gate.start(version_of(contestant))
    function(trained, gate, **contestant.choices)
    gate.close()


def version_of(contestant: Contestant) -> str:
    """Return the library and its version, as in "lightning 2.6.6"."""
    library = {"ignite": "pytorch-ignite", "torchflow": "torchflow-train"}.get(contestant.needs, contestant.needs)
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return library


if __name__ == "__main__":
    main()
