"""What a loss was given, where it is not what the loss is made for: found after torch refused it, or in the first update."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

ELEMENTWISE = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss)
CLASSES = (nn.CrossEntropyLoss, nn.NLLLoss)

# What only changes the shape or the place of a tensor, by the names of autograd.
_SHAPE_ONLY = frozenset(
    f"{name}Backward{number}"
    for name in ("Alias", "Clone", "Permute", "ReshapeAlias", "Squeeze", "Transpose", "UnsafeView", "Unsqueeze", "View")
    for number in range(3)
)


def not_a_pair(batch: object) -> str:
    """Say that a batch is not the pair (inputs, targets), and how to make it one."""
    found, pairs = f"a {type(batch).__name__}", ""
    if isinstance(batch, Mapping):
        keys = [repr(key) for key in batch]
        found += f" with keys {', '.join(keys)}"
        pairs = f", data.map_batch(lambda b: (b[{keys[0]}], b[{keys[-1]}]))" if len(keys) > 1 else ""
    elif isinstance(batch, (tuple, list)):
        found += f" of {len(batch)}"
        unpacked = (
            ", data.map_batch(lambda b: (b[:-1], b[-1])), with supervised(loss, forward=lambda model, inputs: model(*inputs))"
        )
        pairs = unpacked if len(batch) > 2 else ""
        if isinstance(batch, list) and any(isinstance(part, list) for part in batch):
            pairs = ", or where lists are columns make tensors of them: (torch.as_tensor(inputs), torch.as_tensor(targets))"
    return (
        f"supervised() expects batches (inputs, targets), got {found}. Map the dataset to such pairs{pairs}, "
        "or write a step of your own: def step(model, batch): ..."
    )


def weights_refused(loss: object) -> str | None:
    """Return what is wrong with the weights of a loss of torch, or None: whole numbers are refused by torch, and late."""
    for name in ("weight", "pos_weight"):
        weights = getattr(loss, name, None)
        if isinstance(loss, (*CLASSES, *ELEMENTWISE)) and isinstance(weights, Tensor) and not weights.is_floating_point():
            return (
                f"{type(loss).__name__}({name}=...) must hold real numbers, got {_kind(weights)}. Write {name}={name}.float(), or "
                f"{name}=torch.tensor([1.0, 9.0])."
            )
    return None


def shapes_differ(loss: object, predictions: Tensor, targets: Tensor) -> str:
    """Say that a loss that compares element by element was given two shapes."""
    return (
        f"{type(loss).__name__} compares element by element, and the predictions have shape {tuple(predictions.shape)} but the targets "
        f"{tuple(targets.shape)}: torch would broadcast them to something else. Reshape the targets, for example with "
        "data.map_batch(lambda b: (b[0], b[1].reshape(-1, 1)))."
    )


def refused(loss: object, predictions: object, targets: object) -> str | None:
    """Return why a loss could not take what it was given, or None where nobody knows.

    Args:
        loss: The loss, which has raised an error.
        predictions: What the model gave.
        targets: What the data gave.
    """
    if not isinstance(predictions, Tensor) or not isinstance(targets, Tensor) or not predictions.is_floating_point():
        return None
    if isinstance(loss, CLASSES) and predictions.ndim:
        return _classes_refused(loss, predictions, targets)
    if isinstance(loss, ELEMENTWISE) and not targets.is_floating_point():
        return (
            f"{type(loss).__name__} compares with real numbers, and the targets are {_kind(targets)}. Write "
            "data.map_batch(lambda b: (b[0], b[1].float()))."
        )
    if isinstance(loss, nn.BCELoss) and _outside(predictions):
        return (
            "BCELoss wants probabilities, and the model gives numbers outside of 0 to 1. Use nn.BCEWithLogitsLoss(), which takes them as "
            "they are and is more exact than a sigmoid before BCELoss."
        )
    return None


def _classes_refused(loss: Any, predictions: Tensor, targets: Tensor) -> str | None:
    """Return what is wrong with classes: predictions are (batch, classes, ...), targets (batch, ...)."""
    name, wanted = type(loss).__name__, (*predictions.shape[:1], *predictions.shape[2:])
    number = predictions.shape[1] if predictions.ndim > 1 else predictions.shape[0]
    if targets.shape == predictions.shape and predictions.ndim > 1 and not targets.is_floating_point():
        return (
            f"{name} takes classes as whole numbers, shape {wanted}, and the targets have a number for every class, shape "
            f"{tuple(targets.shape)} {_kind(targets)}. Write b[1].argmax(1) for one-hot targets."
        )
    if targets.ndim == len(wanted) + 1 and targets.shape[1:2] == (1,):
        return f"{name} wants targets of shape {wanted}, got {tuple(targets.shape)}. Write data.map_batch(lambda b: (b[0], b[1].squeeze(1)))."
    if targets.dtype != torch.int64 and targets.shape == torch.Size(wanted):
        return f"{name} wants classes as int64, got {_kind(targets)}. Write data.map_batch(lambda b: (b[0], b[1].long()))."
    if targets.dtype == torch.int64 and predictions.device.type == "cpu" and targets.numel():
        kept = targets[targets != loss.ignore_index]
        if kept.numel() and (kept.min() < 0 or kept.max() >= number):
            low, high = int(kept.min()), int(kept.max())
            hint = (
                "Subtract 1: classes count from 0"
                if (low, high) == (1, number)
                else f"Give the model {high + 1} outputs, or count from 0"
            )
            return f"the targets have classes from {low} to {high}, and the model gives {number} outputs, for classes 0 to {number - 1}. {hint}."
    return None


def doubts(loss: object, predictions: object, targets: object) -> Iterator[str]:
    """Yield what is very likely a mistake, although the loss took it.

    Args:
        loss: The loss.
        predictions: What the model gave, with its graph.
        targets: What the data gave.
    """
    if not isinstance(predictions, Tensor):
        return
    last = last_operation(predictions)
    if isinstance(loss, nn.CrossEntropyLoss):
        if last == "Softmax":
            yield (
                "the model ends in a softmax, and CrossEntropyLoss makes one itself: of two, the gradients are weak and no prediction gets "
                "sure. Leave out the softmax, and take predictions.softmax(1) where probabilities are wanted."
            )
        if predictions.ndim > 1 and predictions.shape[1] == 1:
            yield (
                "the model gives one output, of which CrossEntropyLoss is always 0, so nothing is learnt. Give it an output for each class, or use "
                "nn.BCEWithLogitsLoss() for two classes."
            )
    if isinstance(loss, nn.NLLLoss) and bool((predictions > 1e-3).any()):
        found = "softmax" if last == "Softmax" else "numbers above 0"
        yield (
            f"NLLLoss wants the logarithms of probabilities, which are never above 0, and the model gives {found}. Use nn.CrossEntropyLoss() on "
            "plain outputs, or end the model in nn.LogSoftmax(1)."
        )
    if isinstance(loss, nn.BCEWithLogitsLoss) and last == "Sigmoid":
        yield (
            "the model ends in a sigmoid, and BCEWithLogitsLoss makes one itself: of two, every prediction lies between 0.5 and 0.73. Leave out the "
            "sigmoid, and take predictions.sigmoid() where probabilities are wanted."
        )
    if isinstance(loss, (nn.BCEWithLogitsLoss, nn.BCELoss)) and isinstance(targets, Tensor) and _outside(targets):
        yield (
            f"{type(loss).__name__} wants targets from 0 to 1, and these go from {targets.min().item():.4g} to {targets.max().item():.4g}, so the loss "
            "falls without bound. Map the two classes to 0 and 1; for more classes use nn.CrossEntropyLoss()."
        )


def last_operation(predictions: Tensor) -> str:
    """Return the name of the operation that made a tensor, such as ``"Softmax"``, what only changes shapes left out."""
    node = predictions.grad_fn
    while node is not None and node.name() in _SHAPE_ONLY and node.next_functions:
        node = node.next_functions[0][0]
    return "" if node is None else node.name().rpartition("Backward")[0]


def _outside(values: Tensor) -> bool:
    """Say whether any number lies outside of 0 to 1."""
    return bool(((values < 0) | (values > 1)).any()) and not values.is_complex()


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
