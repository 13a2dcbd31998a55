"""The names of parameters, as the user gave them."""

from __future__ import annotations


def plain_name(name: str) -> str:
    """Return the name of a parameter without what ``torch.compile(model)`` puts into it.

    >>> plain_name("head._orig_mod.weight")
    'head.weight'
    """
    return ".".join(part for part in name.split(".") if part != "_orig_mod")
