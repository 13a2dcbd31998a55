"""What both verifications begin and end with."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from torchflow import arguments
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.testing.child import INSIDE
from torchflow.testing.children import Children
from torchflow.testing.places import Place, place_of


@contextmanager
def started(timeout: float) -> Iterator[tuple[Children, Path]]:
    """Yield what starts processes and an empty folder, which is deleted at the end."""
    seconds = arguments.real("timeout", timeout, above=0.0)
    with TemporaryDirectory(prefix="torchflow-verify-", ignore_cleanup_errors=True) as folder:
        children = Children(Path(folder), seconds)
        with children.kept():
            yield children, Path(folder)


def checked_job(function: str, job: object) -> Place:
    """Return where a job is defined.

    Raises:
        ArgumentTypeError: It is no function at the top of a module.
        ArgumentValueError: No other process can find it, or this process is itself one that a verification started.
    """
    if INSIDE in os.environ:
        raise ArgumentValueError(
            f"{function} was called again in a process that it had started, because that process imports the module of the job. "
            'Put the call under if __name__ == "__main__":, or into another module.'
        )
    return place_of(job)


def checked_names(name: str, given: Collection[str]) -> list[str]:
    """Return a list of texts.

    Raises:
        ArgumentTypeError: It is something else.
    """
    if isinstance(given, str) or not all(isinstance(item, str) for item in given):
        raise ArgumentTypeError(f"{name} must be a list of texts, got {arguments.shown(given)}.")
    return list(given)
