"""The commonest mistakes: what torch says of them is translated, and what it does not see is looked for in the first update."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from torchflow.caller import warn_caller
from torchflow.loss_mistakes import doubts
from torchflow.precision import MIXED, as_written
from torchflow.step import Outputs, Supervised, checked_loss

if TYPE_CHECKING:
    from torchflow.run import Run

GROWN = 1000.0
"""How many times the first epoch's loss a later one must be for a warning that it grows."""

_DTYPE = (
    "the data has another dtype than the model. Convert it: data.map_batch(lambda b: (b[0].float(), b[1])), with b[0].float() / 255 for pictures "
    "in whole numbers; or convert the model: model.double()."
)
_GRAPH = (
    "the trainer makes loss.backward() itself. Return the loss, without a backward in the step; and where a state is carried from batch to batch, "
    "detach it: state = state.detach()."
)
_DEVICE = (
    "the trainer moves the model and the batch to its device. Make other tensors there: torch.zeros(..., device=x.device), or keep them in the model "
    "with self.register_buffer('name', tensor)."
)

_LISTS = (
    "samples that are lists of numbers become one column for each number. Make tensors of them: (torch.tensor(inputs), torch.tensor(targets)), or "
    "data.as_dataset(samples).map(torch.tensor) where there are no targets."
)

# What torch says, and what was meant; a function makes the text of what was matched.
_SAID: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"must have the same dtype|expected scalar type|Input type \(.*\) and (?:weight|bias) type \(.*\) should be the same", _DTYPE),
    (
        r"shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)",
        lambda m: (
            f"a linear layer for {m[3]} features was given {m[2]}. Write nn.Linear({m[2]}, {m[4]}), or put nn.Flatten() before it where an input has "
            "several dimensions."
        ),
    ),
    (
        r"to have (\d+) channels, but got (\d+) channels instead",
        lambda m: (
            f"a convolution for {m[1]} channels was given {m[2]}. Pictures are (batch, channels, height, width): write x.permute(0, 3, 1, 2) where the "
            "channels come last, or make the layer for as many channels as there are."
        ),
    ),
    (
        r"Expected .*input to conv(\d)d",
        "a convolution wants (batch, channels, height, width). Write x.unsqueeze(1) where pictures in grey have no dimension of channels.",
    ),
    (
        r"index out of range in self",
        "an embedding was given an index that it does not have: they go from 0 to num_embeddings - 1. Make it as large as the vocabulary.",
    ),
    (r"for argument #1 'indices' to have one of the following scalar types", "an embedding wants whole numbers. Write x.long()."),
    (
        r"must be Tensor, not (list|tuple|dict|str)\b",
        lambda m: (
            f"a layer was given a {m[1]}. Texts become numbers by a data.Vocabulary, samples of several lengths a batch by collate=data.PadBatch(), and a model "
            "of several inputs is called by supervised(loss, forward=lambda model, inputs: model(*inputs))."
        ),
    ),
    (r"backward through the graph a second time", _GRAPH),
    (r"on the same device|is not on the expected device|Input type \(torch\.cuda", _DEVICE),
    (
        r"missing the required \"forward\" function",
        "the model has no method forward. Write def forward(self, x): ... in its class, indented as a method.",
    ),
    (
        r"Expected more than 1 value per channel when training",
        "batch normalisation learns nothing from one sample. Choose another batch_size, or last_batch='drop'.",
    ),
    (
        r"positional arguments?\b",
        "a step is called with (model, batch), and supervised() calls model(inputs) and loss(predictions, targets). A model that takes several is called by "
        "supervised(loss, forward=lambda model, inputs: model(*inputs)). Write a step of your own for anything else: def step(model, batch): ...",
    ),
)


def meaning_of(error: BaseException, batch: object = None) -> str | None:
    """Return what an error in a step that was given a batch means, or None where nobody knows."""
    text = str(error)
    if _lists_of_numbers(batch) and re.search(
        r"shapes cannot be multiplied|must be Tensor, not list|'list' object has no attribute", text
    ):
        return _LISTS
    for pattern, meaning in _SAID:
        if (match := re.search(pattern, text)) is not None:
            return meaning if isinstance(meaning, str) else meaning(match)
    return None


def _lists_of_numbers(batch: object) -> bool:
    """Say whether a batch, or a part of it, is what becomes of samples that are lists of numbers: a list of tensors (batch,)."""
    parts = (batch, *batch) if isinstance(batch, (tuple, list)) else ()
    return any(
        type(part) is list and bool(part) and all(isinstance(column, Tensor) and column.ndim == 1 for column in part)
        for part in parts
    )


def looked_at(run: Run[Any, Any], batch: Any, of: Any = None) -> Outputs:
    """Make the first forward pass of a run, of one of its steps where it has several; warn of what is very likely a mistake."""
    was, first = run.model.training, not run.looked
    made_by = run.step if of is None else of
    outputs = checked_loss(made_by(run.model, batch), training=True)
    if first and was and not run.model.training:
        warn_caller(
            "the step has put the model into evaluation mode: dropout and batch normalisation do not train. Leave model.eval() to evaluate and predict."
        )
    tell_doubts(run, made_by, outputs, batch)
    return outputs


def tell_doubts(run: Run[Any, Any], made_by: Any, outputs: Outputs, batch: Any) -> None:
    """Warn of what is doubtful in the outputs of a step and, of a run that was not looked at before, in its model."""
    first, run.looked = not run.looked, True
    step = as_written(made_by)
    if isinstance(step, Supervised):
        for doubt in doubts(step.loss, outputs.predictions, batch[1]):
            warn_caller(doubt)
    for name in forgotten_modules(run.model) if first else ():
        warn_caller(
            f"{name} holds layers that the model does not know, so they are neither trained nor saved nor moved. Wrap them: nn.ModuleList([...]) or "
            "nn.ModuleDict({...})."
        )


def warn_of_full_precision(run: Run[Any, Any]) -> None:
    """Warn where the first update of a user's own knew nothing of the mixed precision that was asked for."""
    run.looked = True
    if run.choices.precision in MIXED and not (run.computed or getattr(run.step, "used", False)):
        warn_caller(
            f"precision={run.choices.precision!r} has no effect in this update=: its forward passes were in the model's own dtypes. Call run.step(run.model, "
            "batch) in it, or make them in a block: with run.computing(): ..."
        )


def warn_of_growth(run: Run[Any, Any], loss: float) -> None:
    """Warn once where the loss of an epoch is far above that of the first one; one lucky batch would be no measure."""
    first = run.first_loss
    if first is None:
        run.first_loss = loss
    elif run.custom_update is None and not run.losses and loss > GROWN * max(abs(first), 1e-3):
        run.first_loss = math.inf  # once is enough
        warn_caller(
            f"the loss grows: {first:.4g} over the first epoch, {loss:.4g} over epoch {run.progress.epoch}. The learning rate is too high: try a tenth of "
            "it, or torchflow.find_learning_rate; clip_norm=1.0 holds single large gradients down."
        )


def forgotten_modules(model: nn.Module) -> Iterator[str]:
    """Yield where a model keeps layers in plain lists or dicts, with parameters that it does not have itself."""
    known = set(model.parameters())
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            items = list(value.values()) if type(value) is dict else value if type(value) in (list, tuple) else ()
            layers = [item for item in items if isinstance(item, nn.Module)] if not name.startswith("_") else []
            # A frozen teacher is kept in a list on purpose: it is not to be trained.
            if any(parameter.requires_grad and parameter not in known for layer in layers for parameter in layer.parameters()):
                yield f"model.{path}.{name}" if path else f"model.{name}"
