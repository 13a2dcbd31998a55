"""State trees to files and back: checkpoints that are never lost, never half-written and never wrong in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchflow.lazy import importing

if TYPE_CHECKING:
    from torchflow.checkpoint.background import BackgroundSave
    from torchflow.checkpoint.compare import differences, equal
    from torchflow.checkpoint.environment import environment_differences, fingerprint
    from torchflow.checkpoint.format import Encoded, check_state
    from torchflow.checkpoint.model_file import load_model, read_encoder_states, save_model
    from torchflow.checkpoint.reading import Loaded, read_checkpoint
    from torchflow.checkpoint.store import Store
    from torchflow.checkpoint.writing import write_checkpoint

__getattr__ = importing(
    __name__,
    {
        "torchflow.checkpoint.background": ("BackgroundSave",),
        "torchflow.checkpoint.compare": ("differences", "equal"),
        "torchflow.checkpoint.environment": ("environment_differences", "fingerprint"),
        "torchflow.checkpoint.format": ("Encoded", "check_state"),
        "torchflow.checkpoint.model_file": ("load_model", "read_encoder_states", "save_model"),
        "torchflow.checkpoint.reading": ("Loaded", "read_checkpoint"),
        "torchflow.checkpoint.store": ("Store",),
        "torchflow.checkpoint.writing": ("write_checkpoint",),
    },
)

__all__ = [
    "BackgroundSave",
    "Encoded",
    "Loaded",
    "Store",
    "check_state",
    "differences",
    "environment_differences",
    "equal",
    "fingerprint",
    "load_model",
    "read_checkpoint",
    "read_encoder_states",
    "save_model",
    "write_checkpoint",
]
