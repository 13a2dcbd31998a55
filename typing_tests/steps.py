"""Steps: functions of a model and a batch, what they return, and what supervised() builds."""

from __future__ import annotations

from typing import Any, assert_type

import torch
from torch import Tensor, nn

from torchflow import Outputs, Run, Step, Stepped, Trainer, metrics, supervised, update
from torchflow.step import Supervised

Pair = tuple[Tensor, Tensor]


def bare(model: nn.Linear, batch: Pair) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def full(model: nn.Module, batch: Pair) -> Outputs:
    return Outputs(nn.functional.mse_loss(model(batch[0]), batch[1]), count=len(batch[0]), metrics={"error": torch.zeros(3)})


def number(model: nn.Module, batch: Pair) -> float:
    return 0.5


def alone(model: nn.Module) -> Tensor:
    return torch.ones(())


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


class Own:
    """A step with choices of its own is an object that can be called."""

    def __call__(self, model: nn.Linear, batch: Pair, /) -> Tensor:
        return bare(model, batch)


def right_steps(loss: Tensor) -> None:
    steps: list[Step[nn.Linear, Pair]] = [bare, Own()]
    steps.append(full)  # a step for every module is one for this
    steps.append(supervised(nn.MSELoss()))
    assert_type(Trainer(steps[0], optimizer=sgd), Trainer[nn.Linear, Pair])
    assert_type(Trainer(bare, optimizer=sgd), Trainer[nn.Linear, Pair])
    assert_type(Trainer(full, optimizer=sgd), Trainer[nn.Module, Pair])
    assert_type(Trainer(Own(), optimizer=sgd), Trainer[nn.Linear, Pair])
    assert_type(Outputs(loss).loss, Tensor)
    Outputs(loss, count=torch.tensor(3), metrics={"error": loss, "r2": (loss, loss)}, predictions={"any": [loss]})


def right_several_steps() -> None:
    optimizers = {"one": sgd, "two": sgd, "three": sgd}
    assert_type(Trainer({"one": bare, "two": bare}, optimizer=optimizers), Trainer[nn.Linear, Pair])
    mixed: dict[str, Step[nn.Linear, Pair]] = {"one": bare, "two": Own(), "three": supervised(nn.MSELoss())}  # of several kinds
    assert_type(Trainer(mixed, optimizer=optimizers), Trainer[nn.Linear, Pair])
    Trainer({"one": bare, "two": bare}, optimizer={"one": lambda model: torch.optim.SGD([model.bias]), "two": sgd})


def right_supervised() -> None:
    assert_type(supervised(nn.MSELoss()), Supervised[nn.Module])
    supervised(nn.CrossEntropyLoss(), metrics={"accuracy": metrics.accuracy, "best": metrics.top_k(5), "r2": metrics.R2()})
    supervised(lambda predictions, targets: torch.mean(predictions - targets))
    supervised(nn.functional.l1_loss)
    supervised(nn.MSELoss(), forward=lambda model, inputs: model(inputs)[0])


def right_updates(run: Run[nn.Linear, Pair], batch: Pair) -> None:
    assert_type(update(run, [batch]), Stepped)
    assert_type(run.model, nn.Linear)
    assert_type(run.step(run.model, batch), Tensor | Outputs)


def wrong_steps(loss: Tensor) -> None:
    one: Step[nn.Linear, Pair] = number  # type: ignore[assignment]  # not loss.item()
    two: Step[nn.Linear, Pair] = alone  # type: ignore[assignment]  # without the batch
    three: Step[nn.Conv1d, Pair] = bare  # type: ignore[assignment]  # another model
    four: Step[nn.Linear, Tensor] = bare  # type: ignore[assignment]  # another batch
    Trainer(number, optimizer=sgd)  # type: ignore[arg-type]
    Outputs(0.5)  # type: ignore[arg-type]
    Outputs()  # type: ignore[call-arg]
    Outputs(loss, count="3")  # type: ignore[arg-type]
    Outputs(loss, metrics={"error": 0.5})  # type: ignore[dict-item]  # a tensor, which nothing waits for
    Outputs(loss, metrics=[loss])  # type: ignore[arg-type]
    Outputs(loss, prediction=loss)  # type: ignore[call-arg]


def wrong_several_steps() -> None:
    Trainer({"one": bare, "two": number}, optimizer={"one": sgd, "two": sgd})  # type: ignore[arg-type]
    Trainer([bare, bare], optimizer={"one": sgd, "two": sgd})  # type: ignore[arg-type]
    Trainer({0: bare, 1: bare}, optimizer={"one": sgd, "two": sgd})  # type: ignore[dict-item]


def wrong_supervised() -> None:
    supervised(nn.MSELoss)  # type: ignore[arg-type]  # the class
    supervised("mse")  # type: ignore[arg-type]
    supervised(lambda predictions: predictions)  # type: ignore[arg-type, misc]
    supervised(nn.MSELoss(), {"a": metrics.accuracy})  # type: ignore[call-arg]
    supervised(nn.MSELoss(), metrics=[metrics.accuracy])  # type: ignore[arg-type]
    supervised(nn.MSELoss(), metrics={"k": metrics.top_k})  # type: ignore[dict-item]  # of how many?
    supervised(nn.MSELoss(), forward="model")  # type: ignore[arg-type]
    supervised(nn.MSELoss(), forward=lambda inputs: inputs)  # type: ignore[arg-type, misc]  # without the model
    supervised(nn.MSELoss(), metrics={"r2": metrics.R2})  # type: ignore[dict-item]  # the class


def wrong_updates(run: Run[nn.Linear, Pair], batch: Pair, anything: Any) -> None:
    update(run, batch)  # type: ignore[arg-type]  # a list of batches
    update(run, [torch.ones(3)])  # type: ignore[misc]  # batches of another run
    update(run)  # type: ignore[call-arg]
    run.step(run.model)  # type: ignore[call-arg]
    update(anything, batches=3)  # type: ignore[arg-type]
