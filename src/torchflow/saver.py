"""Who writes checkpoints, seen from the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torchflow.run import Run


class Saver(Protocol):
    """Who writes checkpoints, seen from the loop: always called after every callback."""

    def start(self, run: Run[Any, Any]) -> None:
        """Publish the state before the first update."""
        ...

    def boundary(self, run: Run[Any, Any]) -> None:
        """Publish what is due between two updates."""
        ...

    def finish(self, run: Run[Any, Any]) -> None:
        """Publish the state at the end of the run."""
        ...

    def rescue(self, run: Run[Any, Any], error: BaseException) -> None:
        """Publish what can be saved after an exception."""
        ...


class NoSaver:
    """Writes nothing: nothing is written unless asked for."""

    def start(self, run: Run[Any, Any]) -> None:
        """Write nothing."""

    def boundary(self, run: Run[Any, Any]) -> None:
        """Write nothing."""

    def finish(self, run: Run[Any, Any]) -> None:
        """Write nothing."""

    def rescue(self, run: Run[Any, Any], error: BaseException) -> None:
        """Write nothing."""
