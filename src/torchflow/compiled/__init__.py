"""Whole updates as one compiled graph: capturing one, and running many."""

from __future__ import annotations

from torchflow.compiled.engine import CompiledUpdates

__all__ = ["CompiledUpdates"]
