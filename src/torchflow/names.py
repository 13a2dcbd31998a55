"""The names of parameters, as the user gave them, and the patterns that pick some out."""

from __future__ import annotations

from fnmatch import fnmatchcase


def plain_name(name: str) -> str:
    """Return the name of a parameter without what ``torch.compile(model)`` puts into it.

    >>> plain_name("head._orig_mod.weight")
    'head.weight'
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def matches(name: str, pattern: str) -> bool:
    """Say whether a pattern names a parameter, or a module that it is a part of.

    Args:
        name: The name of a parameter or module.
        pattern: A name in which ``*``, ``?`` and ``[...]`` stand for what they stand for in names of files; ``*`` passes dots.

    >>> matches("encoder.0.weight", "encoder"), matches("encoder.0.weight", "*.weight"), matches("encoder.0.weight", "enc")
    (True, True, False)
    """
    parts = plain_name(name).split(".")
    return any(fnmatchcase(".".join(parts[:end]), pattern) for end in range(1, len(parts) + 1))
