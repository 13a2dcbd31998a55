"""The commonest mistakes in training a model, each as the code that makes it and what torchflow says.

The tests make every one of them, and the documentation makes its table from them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.small import columns, line, sgd, trainer
from torchflow import EarlyStopping, Every, Trainer, supervised
from torchflow.randomness import generator, preserved

CROSS, NLL, BCE, LOGITS, MSE = nn.CrossEntropyLoss(), nn.NLLLoss(), nn.BCELoss(), nn.BCEWithLogitsLoss(), nn.MSELoss()


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        title: What was done wrong.
        make: Code that does it.
        words: A pattern that the message holds: what it is.
        remedy: Words of the message: what to write instead.
        warns: Whether it is a warning, after which training goes on.
    """

    title: str
    make: Callable[[], object]
    words: str
    remedy: str
    warns: bool = False


def features(samples: int = 24, width: int = 2) -> Tensor:
    """Normal numbers (samples, width)."""
    return torch.randn(samples, width, generator=generator(1))


def labels(samples: int = 24, classes: int = 3) -> Tensor:
    """Classes from 0 on, int64 (samples,)."""
    return torch.arange(samples) % classes


def fitted(loss: Any, model: Any, data: Any, **options: Any) -> object:
    """Train for one epoch in silence."""
    return fitted_by(supervised(loss), model, data, **options)


def fitted_by(step: Any, model: Any, data: Any, *, optimizer: Any = None, epochs: int | None = 1, **options: Any) -> object:
    """Train by a step of one's own."""
    fit = {name: options.pop(name) for name in ("batch_size", "validation", "max_updates") if name in options}
    made: Trainer[Any, Any] = Trainer(step, optimizer=optimizer or sgd(0.01), progress=False, device="cpu", **options)
    return made.fit(model, data, epochs=epochs, **{"batch_size": 8, **fit})


def network(*layers: nn.Module, outputs: int = 3) -> nn.Module:
    """Two features in, and so many numbers out, through what follows."""
    return nn.Sequential(nn.Linear(2, outputs), *layers)


class Listed(nn.Module):
    """Keeps a layer in a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.rest = nn.Linear(2, 2), [nn.Linear(2, 1)]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.rest[0](self.first(x))
        return out


class Headless(nn.Module):
    """Has no method forward."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 1)


class Recurrent(nn.Module):
    """Carries its state from batch to batch without detaching it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.last = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x) + self.last
        self.last = out.mean()
        return out


def backward_itself(model: nn.Module, batch: Any) -> Any:
    loss = nn.functional.mse_loss(model(batch[0]), batch[1])
    loss.backward()
    return loss


def to_number(model: nn.Module, batch: Any) -> Any:
    return nn.functional.mse_loss(model(batch[0]), batch[1]).item()


def evaluated(model: nn.Module, batch: Any) -> Any:
    model.eval()
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def elsewhere(model: nn.Module, batch: Any) -> Any:
    return nn.functional.mse_loss(model(batch[0]) + torch.zeros(1, device="meta"), batch[1])


def holed() -> tuple[Tensor, Tensor]:
    x, y = columns(24)
    x[5, 0] = math.nan
    return x, y


def trained_by_another(model: nn.Module) -> Any:
    return torch.optim.SGD(line().parameters(), lr=0.1)


def of_words(width: int = 5) -> nn.Module:
    return nn.Sequential(nn.Embedding(width, 4), nn.Flatten(), nn.Linear(8, 1))


MISTAKES = (
    Mistake(
        "targets (N,) against predictions (N, 1)",
        lambda: fitted(MSE, line(), (features(), features()[:, 0])),
        r"would broadcast",
        "reshape(-1, 1)",
    ),
    Mistake(
        "classes as float",
        lambda: fitted(CROSS, network(), (features(), labels().float())),
        r"wants classes as int64, got float32",
        ".long()",
    ),
    Mistake(
        "classes as int32",
        lambda: fitted(CROSS, network(), (features(), labels().int())),
        r"wants classes as int64, got int32",
        ".long()",
    ),
    Mistake(
        "classes as a column (N, 1)",
        lambda: fitted(CROSS, network(), (features(), labels()[:, None])),
        r"wants targets of shape \(8,\), got \(8, 1\)",
        "squeeze(1)",
    ),
    Mistake(
        "classes counted from 1",
        lambda: fitted(CROSS, network(), (features(), labels() + 1)),
        r"classes from 1 to 3, and the model gives 3",
        "Subtract 1",
    ),
    Mistake(
        "fewer outputs than classes",
        lambda: fitted(CROSS, network(), (features(), labels(24, 5))),
        r"classes from 0 to 4, and the model gives 3",
        "5 outputs",
    ),
    Mistake(
        "one-hot classes as whole numbers",
        lambda: fitted(CROSS, network(), (features(), nn.functional.one_hot(labels()))),
        r"a number for every class",
        "argmax(1)",
    ),
    Mistake(
        "a softmax before CrossEntropyLoss",
        lambda: fitted(CROSS, network(nn.Softmax(1)), (features(), labels())),
        r"ends in a softmax",
        "Leave out the softmax",
        True,
    ),
    Mistake(
        "one output for CrossEntropyLoss",
        lambda: fitted(CROSS, network(outputs=1), (features(), 0 * labels())),
        r"always 0, so nothing is learnt",
        "BCEWithLogitsLoss",
        True,
    ),
    Mistake(
        "plain outputs into NLLLoss",
        lambda: fitted(NLL, network(), (features(), labels())),
        r"wants the logarithms",
        "CrossEntropyLoss()",
        True,
    ),
    Mistake(
        "probabilities into NLLLoss",
        lambda: fitted(NLL, network(nn.Softmax(1)), (features(), labels())),
        r"the model gives softmax",
        "LogSoftmax",
        True,
    ),
    Mistake(
        "a sigmoid before BCEWithLogitsLoss",
        lambda: fitted(LOGITS, network(nn.Sigmoid(), outputs=1), (features(), labels(24, 2)[:, None].float())),
        r"ends in a sigmoid",
        "Leave out the sigmoid",
        True,
    ),
    Mistake(
        "plain outputs into BCELoss",
        lambda: fitted(BCE, network(outputs=1), (features(), labels(24, 2)[:, None].float())),
        r"wants probabilities",
        "BCEWithLogitsLoss()",
    ),
    Mistake(
        "two classes as -1 and 1",
        lambda: fitted(LOGITS, network(outputs=1), (features(), 2.0 * labels(24, 2)[:, None] - 1)),
        r"wants targets from 0 to 1, and these go from -1 to 1",
        "to 0 and 1",
        True,
    ),
    Mistake(
        "whole numbers as targets of BCEWithLogitsLoss",
        lambda: fitted(LOGITS, network(outputs=1), (features(), labels(24, 2)[:, None])),
        r"the targets are (int64|whole numbers)",
        ".float()",
    ),
    Mistake(
        "float64 data for a float32 model",
        lambda: fitted(MSE, line(), (features().double(), features()[:, :1].double())),
        r"another dtype than the model",
        ".float()",
    ),
    Mistake(
        "pictures in whole numbers",
        lambda: fitted(
            MSE, nn.Sequential(nn.Conv2d(1, 1, 4), nn.Flatten()), (torch.zeros(8, 1, 4, 4, dtype=torch.uint8), torch.zeros(8, 1))
        ),
        r"another dtype than the model",
        "/ 255",
    ),
    Mistake(
        "pictures with the channels last",
        lambda: fitted(MSE, nn.Sequential(nn.Conv2d(3, 1, 4), nn.Flatten()), (torch.zeros(8, 4, 4, 3), torch.zeros(8, 1))),
        r"convolution for 3 channels was given 4",
        "permute(0, 3, 1, 2)",
    ),
    Mistake(
        "grey pictures without a dimension of channels",
        lambda: fitted(MSE, nn.Sequential(nn.Conv2d(1, 1, 4), nn.Flatten()), (torch.zeros(8, 4, 4, 1), torch.zeros(8, 1))),
        r"a convolution",
        "channels",
    ),
    Mistake(
        "a layer for another number of features",
        lambda: fitted(MSE, line(features=3), (features(), features()[:, :1])),
        r"for 3 features was given 2",
        "nn.Linear(2, 1)",
    ),
    Mistake(
        "an index outside of an embedding",
        lambda: fitted(MSE, of_words(), (torch.full((8, 2), 5), torch.zeros(8, 1))),
        r"an embedding was given an index",
        "num_embeddings",
    ),
    Mistake(
        "real numbers for an embedding",
        lambda: fitted(MSE, of_words(), (torch.zeros(8, 2), torch.zeros(8, 1))),
        r"an embedding wants whole numbers",
        ".long()",
    ),
    Mistake(
        "a forgotten target",
        lambda: fitted(MSE, line(), features()),
        r"expects batches \(inputs, targets\), got a Tensor",
        "Map the dataset to such pairs",
    ),
    Mistake("no data", lambda: fitted(MSE, line(), columns(0)), r"train has no samples", "at least one"),
    Mistake(
        "NaN in the data", lambda: fitted(MSE, line(), holed()), r"not finite at epoch 0, batch \d, samples .*5", "Look for NaN"
    ),
    Mistake(
        "a learning rate that is too high",
        lambda: fitted(MSE, line(), columns(8), optimizer=sgd(2.0), epochs=5),
        r"the loss grows",
        "find_learning_rate",
        True,
    ),
    Mistake("forgotten epochs", lambda: fitted(MSE, line(), columns(), epochs=None), r"needs to know when to end", "epochs=10"),
    Mistake(
        "Lightning's max_epochs",
        lambda: fitted(MSE, line(), columns(), max_epochs=3),
        r"Trainer has no argument 'max_epochs'",
        "epochs=10 in fit",
    ),
    Mistake(
        "Keras' fit(x, y)",
        lambda: trainer().fit(line(), features(), features(), epochs=1),  # type: ignore[arg-type, misc]
        r"fit takes 2 arguments without a name, got 3",
        "(inputs, targets)",
    ),
    Mistake(
        "an interval of nothing",
        lambda: Every(5),  # type: ignore[call-arg]
        r"Every takes no argument without a name",
        "Every(updates=5)",
    ),
    Mistake(
        "lists as columns",
        lambda: fitted(MSE, line(), (features().tolist(), features()[:, :1].tolist())),
        r"samples 0 and 1 cannot be stacked",
        "(torch.as_tensor(inputs), torch.as_tensor(targets))",
    ),
    Mistake(
        "samples that are lists of numbers",
        lambda: fitted(MSE, line(), list(zip(features().tolist(), features()[:, :1].tolist(), strict=True))),
        r"samples that are lists of numbers",
        "torch.tensor(inputs)",
    ),
    Mistake(
        "an optimizer of another model",
        lambda: fitted(MSE, line(), columns(), optimizer=trained_by_another),
        r"parameters that are not the model's",
        "lambda model",
    ),
    Mistake(
        "the class of an optimizer",
        lambda: fitted(MSE, line(), columns(), optimizer=torch.optim.Adam),
        r"got the class Adam",
        "lambda model",
    ),
    Mistake("the class of a loss", lambda: fitted(nn.MSELoss, line(), columns()), r"got the class MSELoss", "MSELoss()"),
    Mistake("a loss for a step", lambda: fitted_by(MSE, line(), columns()), r"step must be a function", "supervised(loss)"),
    Mistake(
        "everything frozen", lambda: fitted(MSE, line().requires_grad_(False), columns()), r"are frozen", "requires_grad_(True)"
    ),
    Mistake(
        "the metric's stream does not exist",
        lambda: fitted(MSE, line(), columns(), callbacks=[EarlyStopping("valid/loss")]),
        r"needs a stream named 'valid'",
        "validation=",
    ),
    Mistake(
        "a typing error in a metric's name",
        lambda: fitted(MSE, line(), columns(), callbacks=[EarlyStopping("valid/los")], validation=columns()),
        r"'valid/los'",
        "'valid/loss'",
    ),
    Mistake(
        "loss.item() instead of the loss",
        lambda: fitted_by(to_number, line(), columns()),
        r"must return the loss as a Tensor",
        "not loss.item()",
    ),
    Mistake(
        "backward in the step",
        lambda: fitted_by(backward_itself, line(), columns()),
        r"the trainer makes loss\.backward\(\) itself",
        "Return the loss",
    ),
    Mistake(
        "a state that is carried on with its graph",
        lambda: fitted(MSE, Recurrent(), columns()),
        r"carried from batch to batch",
        "detach()",
    ),
    Mistake(
        "model.eval() in the step",
        lambda: fitted_by(evaluated, line(), columns()),
        r"put the model into evaluation mode",
        "Leave model.eval()",
        True,
    ),
    Mistake(
        "tensors on another device",
        lambda: fitted_by(elsewhere, line(), columns()),
        r"moves the model and the batch to its device",
        "device=x.device",
    ),
    Mistake(
        "texts that are still texts",
        lambda: fitted(MSE, line(), [(f"text {n}", torch.zeros(1)) for n in range(8)]),
        r"a layer was given a list",
        "data.Vocabulary",
    ),
    Mistake(
        "layers in a plain list",
        lambda: fitted(MSE, Listed(), columns()),
        r"model\.rest holds layers that the model does not know",
        "nn.ModuleList",
        True,
    ),
    Mistake(
        "a model without forward", lambda: fitted(MSE, Headless(), columns()), r"has no method forward", "def forward(self, x)"
    ),
    Mistake(
        "one sample for batch normalisation",
        lambda: fitted(MSE, nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)), columns(17)),
        r"the last batch of every epoch has one sample",
        "last_batch='drop'",
        True,
    ),
)


def said(mistake: Mistake) -> str:
    """Make a mistake; return all that torchflow says: the message of the error with its notes, or the warnings.

    Raises:
        AssertionError: It says nothing.
    """
    with preserved(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.manual_seed(0)
        try:
            mistake.make()
        except Exception as error:
            if not mistake.warns:
                return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    assert caught, f"{mistake.title}: nothing was said"
    return "\n".join(str(warning.message) for warning in caught)
