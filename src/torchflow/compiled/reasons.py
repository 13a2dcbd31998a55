"""Why an update cannot be compiled: signals between the files of this package."""

from __future__ import annotations


class Uncapturable(Exception):  # noqa: N818  (a signal between two functions; a user reads its text in a warning)
    """An update that cannot be written down as a graph; the text says why."""


class Unprimed(Exception):  # noqa: N818  (as above)
    """An optimizer makes its state in this update, which has to be made uncompiled."""
