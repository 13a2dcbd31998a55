"""What a callback is."""

from torchflow.hooks import Callback, Stop

__all__ = ["Callback", "Stop"]
