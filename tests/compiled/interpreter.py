"""The captured graph run operation by operation: the same mathematics as the machine code, and no compiler to wait for.

The compiler can be wrong where the graph is right, so ``make machine-code`` runs the same tests on what it makes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from torchflow.compiled.capture import Captured


def interpreted(captured: Captured, values: Sequence[Tensor], stacked: Sequence[Tensor]) -> Callable[..., list[Tensor]]:
    """Take the place of ``compile_updates``: a loop in Python over the captured graph."""
    changed, total = captured.changed, len(values)
    unchanged = [i for i in range(total) if i not in changed]
    fixed = len(unchanged) + len(captured.constants)

    def machine(flat: Sequence[Tensor]) -> list[Tensor]:
        carried, known, differs = list(flat[: len(changed)]), flat[len(changed) :][:fixed], flat[len(changed) + fixed :]
        reports: list[Any] = []
        for update in range(len(differs[0])):
            now = dict(zip((*changed, *unchanged), (*carried, *known), strict=False))
            made = captured.graph(*(now[i] for i in range(total)), *(x[update] for x in differs), *known[len(unchanged) :])
            carried = [made[i] for i in changed]
            reports.append(made[total:])
        return [*carried, *(torch.stack(column) for column in zip(*reports, strict=True))]

    return machine


COMPILED = os.environ.get("TORCHFLOW_COMPILE_ALL", "")
"""Whether nothing is interpreted; "scan" where nothing is replayed either, so that torch's own loop makes every update."""


@contextmanager
def interpreting() -> Iterator[None]:
    """Run captured graphs without compiling them, unless all are to be compiled."""
    with pytest.MonkeyPatch.context() as patch:
        if not COMPILED:
            patch.setattr("torchflow.compiled.engine.compile_updates", interpreted)
        elif COMPILED == "scan":
            patch.setattr("torchflow.compiled.machine.replayed", lambda *update: None)
        yield
