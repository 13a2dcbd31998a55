"""Warnings of the library point at the line of the program that called it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small import columns, line, trainer
from torchflow import caller


def test_a_warning_deep_in_the_library_points_at_the_callers_line(tmp_path: Path) -> None:
    trainer(checkpoints=tmp_path / "run").fit(line(), columns(8), batch_size=4, epochs=1)
    (tmp_path / "run" / "checkpoints" / "step-000000002" / "state.json").write_bytes(b"{}")
    with pytest.warns(UserWarning, match="step-000000002 is not sound and step-000000000 is used instead") as seen:
        trainer(checkpoints=tmp_path / "run").fit(line(), columns(8), batch_size=4, epochs=1, resume=True)
    assert [found.filename for found in seen] == [__file__]


def test_a_program_of_one_line_has_its_warning_too() -> None:
    with pytest.warns(UserWarning, match="as it is") as seen:
        caller.warn_caller("as it is")
    assert seen[0].filename == __file__
