"""Small models, data and callbacks that many tests share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from torchflow import Callback, Run, Stop, Trainer, supervised
from torchflow.randomness import generator

HOOKS = (
    "on_fit_start",
    "on_epoch_start",
    "on_gradients",
    "on_step_end",
    "on_validation_end",
    "on_epoch_end",
    "on_exception",
    "on_fit_end",
)


def columns(samples: int = 20, seed: int = 0, features: int = 2) -> tuple[Tensor, Tensor]:
    """Inputs (samples, features) and targets (samples, 1) of a noisy line."""
    source = generator(seed)
    x = torch.randn(samples, features, generator=source)
    return x, x.sum(1, keepdim=True) + 0.1 * torch.randn(samples, 1, generator=source)


def line(seed: int = 0, features: int = 2) -> nn.Linear:
    """A linear model whose weights depend on the seed alone."""
    model = nn.Linear(features, 1)
    source = generator(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=source))
    return model


class Noisy(nn.Module):
    """A network with dropout and a part that its owner keeps in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.last, self.frozen = nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 1), nn.Dropout(0.9)
        self.frozen.eval()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.frozen(self.last(self.drop(torch.tanh(self.first(x)))))
        return out


def sgd(lr: float = 0.05, **options: Any) -> Callable[[nn.Module], Optimizer]:
    """A recipe of gradient descent."""
    return lambda model: torch.optim.SGD(model.parameters(), lr=lr, **options)


def trainer(**options: Any) -> Trainer[Any, Any]:
    """A silent trainer of the mean squared error by gradient descent, with whatever is given changed."""
    step = options.pop("step", None) or supervised(nn.MSELoss())
    return Trainer(step, **{"optimizer": sgd(), "progress": False, "device": "cpu", **options})


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every leaf of a state tree with its path; tensors as their dtype and bytes."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from flat(value, f"{path}/{name}")
    elif isinstance(tree, (list, tuple)):
        for number, value in enumerate(tree):
            yield from flat(value, f"{path}/{number}")
    elif isinstance(tree, Tensor):
        yield (
            path,
            (str(tree.dtype), tuple(tree.shape), tree.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()),
        )
    else:
        yield path, repr(tree)


def state_of(run: Run[Any, Any]) -> dict[str, Any]:
    """The whole state of a run as values that compare to the last bit and do not change any more."""
    return dict(flat(run.state()))


def weights(model: nn.Module) -> dict[str, Any]:
    """A model's state as values that compare to the last bit and do not change any more."""
    return dict(flat(model.state_dict()))


class Recorder(Callback):
    """Writes down every hook and what it was given."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    @property
    def hooks(self) -> list[str]:
        return [hook for hook, _ in self.seen]

    def on_fit_start(self, run: Any, event: Any) -> None:
        self.seen.append(("on_fit_start", event))

    def on_epoch_start(self, run: Any, event: Any) -> None:
        self.seen.append(("on_epoch_start", event))

    def on_gradients(self, run: Any, event: Any) -> None:
        self.seen.append(("on_gradients", event))

    def on_step_end(self, run: Any, event: Any) -> None:
        self.seen.append(("on_step_end", event))

    def on_validation_end(self, run: Any, event: Any) -> None:
        self.seen.append(("on_validation_end", event))

    def on_epoch_end(self, run: Any, event: Any) -> None:
        self.seen.append(("on_epoch_end", event))

    def on_exception(self, run: Any, event: Any) -> None:
        self.seen.append(("on_exception", event))

    def on_fit_end(self, run: Any, event: Any) -> None:
        self.seen.append(("on_fit_end", event))


def reacting(hook: str, react: Callable[[Any, Any], Stop | None]) -> Callback:
    """A callback that overrides one hook."""
    made = type("Reacting", (Callback,), {hook: lambda self, run, event: react(run, event)})()
    assert isinstance(made, Callback)
    return made


def raising(hook: str, error: BaseException) -> Callback:
    """A callback that raises in one hook."""

    def react(run: Any, event: Any) -> Stop | None:
        raise error

    return reacting(hook, react)


class Untouched:
    """Holds that a folder is not made and that no thread or process is started while something is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Untouched:
        self._threads = threading.active_count()
        return self

    def __exit__(self, *_: object) -> None:
        assert not self.folder.exists(), f"{self.folder} was made"
        assert threading.active_count() == self._threads, "a thread was started"
