"""A gate in front of every epoch: how a training in a process of its own takes turns with others.

The training calls :meth:`Gate.begin` from its library's own hook for the start of an epoch, and waits there until the
parent says "go". What lies between two calls is a round: the epoch with all that belongs to it, validation and checkpoints
too. So neither the start of a library nor compilation is in it: the first epoch warms up.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import NoReturn

from torch import Tensor

from benchmarks.workloads import Workload

Predict = Callable[[Tensor], Tensor]


class Gate:
    """The child's end of the pipes.

    Args:
        workload: What is trained: it judges the model.
        commands: The file descriptor that says "go" or "end", a line each.
        answers: The file descriptor for what was measured, a line of JSON each.
        rounds: How many epochs the training must be prepared for.
    """

    def __init__(self, workload: Workload, commands: int, answers: int, rounds: int) -> None:
        self._workload = workload
        self._commands = os.fdopen(commands, "r", encoding="utf-8")
        self._answers = os.fdopen(answers, "w", encoding="utf-8")
        self._library = ""
        self._began: float | None = None
        self._in_a_round = False
        self.rounds = rounds

    def leave_out(self, why: str) -> NoReturn:
        """Say why this contestant does not take part, and end the process."""
        self._say({"missing": why})
        os._exit(0)

    def start(self, library: str) -> None:
        """Note the moment before the library is called."""
        self._library, self._began = library, time.perf_counter()

    def begin(self, predict: Predict) -> None:
        """End the round that is under way, tell of it, and wait for the next; never returns after the last.

        Args:
            predict: The model as it is now, called for the loss of some rows; no part of any round.
        """
        now = time.perf_counter()
        assert self._began is not None
        if self._in_a_round:
            self._say({"seconds": now - self._began, "loss": self._workload.error(predict)})
        else:
            self._say({"ready": now - self._began, "library": self._library})
        if self._commands.readline().strip() != "go":
            os._exit(0)  # whatever the library would do at its end is no part of this
        self._in_a_round, self._began = True, time.perf_counter()

    def close(self) -> NoReturn:
        """Say that the training came to its end too early, and end the process."""
        self._say({"missing": f"the training ended before {self.rounds} rounds"})
        os._exit(1)

    def _say(self, answer: dict[str, object]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()
