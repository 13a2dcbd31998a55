from __future__ import annotations

import threading

import pytest

from torchflow.checkpoint import BackgroundSave


def test_an_interrupt_before_the_thread_was_started_leaves_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: threading.Thread) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    save = BackgroundSave()
    with pytest.raises(KeyboardInterrupt):
        save.save({}, lambda copy: None)
    save.wait()
