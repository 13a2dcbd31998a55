"""State trees to files and back: checkpoints that are never lost, never half-written and never wrong in silence."""

from __future__ import annotations

from torchflow.checkpoint.compare import differences
from torchflow.checkpoint.environment import environment_differences, fingerprint
from torchflow.checkpoint.format import check_state
from torchflow.checkpoint.model_file import load_model, read_encoder_states, save_model
from torchflow.checkpoint.reading import Loaded, read_checkpoint
from torchflow.checkpoint.store import Store
from torchflow.checkpoint.writing import write_checkpoint

__all__ = [
    "Loaded",
    "Store",
    "check_state",
    "differences",
    "environment_differences",
    "fingerprint",
    "load_model",
    "read_checkpoint",
    "read_encoder_states",
    "save_model",
    "write_checkpoint",
]
