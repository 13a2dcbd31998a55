"""The live tensors of a run that an update reads and changes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from torchflow.run import Run


class Values:
    """The live tensors that an update reads and changes: parameters, buffers and the state of the optimizers.

    Args:
        run: The run.
    """

    def __init__(self, run: Run[Any, Any]) -> None:
        model = run.model
        self.names = [name for name, _ in model.named_parameters()] + [name for name, _ in model.named_buffers()]
        self._tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
        self.trained = [t.requires_grad for t in self._tensors]
        place = {tensor: number for number, tensor in enumerate(self._tensors)}
        self.groups = {
            name: [[place[p] for p in group["params"]] for group in optimizer.param_groups]
            for name, optimizer in run.optimizers.items()
        }
        self._states = [
            (optimizer.state[p], name, place[p], key)
            for name, optimizer in run.optimizers.items()
            for group in optimizer.param_groups
            for p in group["params"]
            for key, value in optimizer.state.get(p, {}).items()
            if isinstance(value, Tensor)
        ]

    def live(self) -> list[Tensor]:
        """Return the tensors as they are now, detached."""
        return [t.detach() for t in self._tensors] + [state[key] for state, _, _, key in self._states]

    @property
    def keys(self) -> list[tuple[str, int, str]]:
        """Say of each tensor of an optimizer's state: the optimizer, the place of its parameter, and its key."""
        return [(name, place, key) for _, name, place, key in self._states]
