"""Names that are imported when they are first used, so that ``import torchflow`` costs next to nothing over torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def importing(package: str, modules: Mapping[str, tuple[str, ...]]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__`` (PEP 562).

    Args:
        package: The package's ``__name__``.
        modules: The names that each module holds; without names it is the module that is imported.
    """
    homes = {name: module for module, names in modules.items() for name in names or (module.rpartition(".")[2],)}

    def find(name: str) -> Any:  # whatever the module holds under this name
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = importlib.import_module(homes[name])
        value = getattr(home, name) if modules[homes[name]] else home
        setattr(importlib.import_module(package), name, value)  # the next look finds it without this function
        return value

    return find
