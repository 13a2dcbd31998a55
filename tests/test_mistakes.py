"""The commonest mistakes end in a message that says what to write instead; sound programs are told nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchflow
from tests.compiled.interpreter import interpreting
from tests.laws.problems import dropout_network
from tests.mistakes import (
    BCE,
    CROSS,
    LOGITS,
    MISTAKES,
    MSE,
    NLL,
    Listed,
    Mistake,
    features,
    fitted,
    fitted_by,
    labels,
    network,
    said,
)
from tests.small import Noisy, columns, line, sgd, trainer, weights
from torchflow import Outputs, Updates, data, supervised
from torchflow.errors import StepError
from torchflow.loss_mistakes import last_operation


@pytest.mark.parametrize("mistake", MISTAKES, ids=[mistake.title for mistake in MISTAKES])
def test_a_mistake_is_told_with_what_to_write_instead(mistake: Mistake) -> None:
    text = said(mistake)
    assert re.search(mistake.words, text), text
    assert mistake.remedy in text, text


def test_there_are_thirty_of_them_and_each_has_a_name_of_its_own() -> None:
    assert len({mistake.title for mistake in MISTAKES}) == len(MISTAKES) >= 30


class Tied(nn.Module):
    """Reads words with the weights that it writes them with, and keeps layers in a ModuleList and a plain list that share parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.layers = nn.Embedding(7, 4), nn.ModuleList([nn.Linear(4, 4)])
        self.order = [self.layers[0]]
        self.names = {"a": "b"}

    def forward(self, x: Tensor) -> Tensor:
        return self.order[0](self.words(x)).mean(1) @ self.words.weight.T  # type: ignore[no-any-return]


class Gate(nn.Module):
    """A gate in (0, 1) times a value: a sigmoid that is not the last operation."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.value = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.gate(x)) * self.value(x)  # type: ignore[no-any-return]


class Taught(nn.Module):
    """Keeps a frozen teacher out of its own parameters, by a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.pupil, self.teachers = nn.Linear(2, 1), [nn.Linear(2, 1).requires_grad_(False)]

    def forward(self, x: Tensor) -> Tensor:
        return self.pupil(x) + 0 * self.teachers[0](x)  # type: ignore[no-any-return]


def autoencoder(model: nn.Module, batch: Any) -> Any:
    return nn.functional.mse_loss(model(batch), batch)


def alternating(run: Any, batches: Any) -> Any:
    """An update of one's own, whose loss means nothing."""
    for batch in batches:
        (model_loss := nn.functional.mse_loss(run.model(batch[0]), batch[1])).backward()
        run.optimizer.step()
        run.optimizer.zero_grad()
    return Outputs(model_loss.detach() * 1e9 ** (run.progress.updates > 0))


BINARY = labels(24, 2)[:, None].float()
PICTURES = torch.randn(8, 3, 6, 6)
CONVOLUTION = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))

SOUND: dict[str, Callable[[], object]] = {
    "regression": lambda: fitted(MSE, line(), columns()),
    "regression of vectors": lambda: fitted(MSE, nn.Linear(2, 5), (features(), features(24, 5))),
    "regression of scalars": lambda: fitted(MSE, nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), (features(), features()[:, 0])),
    "regression of whole numbers": lambda: fitted(MSE, line(), (features(), labels()[:, None])),
    "absolute error": lambda: fitted(nn.L1Loss(), line(), columns()),
    "Huber": lambda: fitted(nn.HuberLoss(), line(), columns()),
    "a sigmoid for targets from 0 to 1": lambda: fitted(MSE, network(nn.Sigmoid(), outputs=1), (features(), BINARY)),
    "a softmax for shares": lambda: fitted(MSE, network(nn.Softmax(1)), (features(), features(24, 3).softmax(1))),
    "classes": lambda: fitted(CROSS, network(), (features(), labels())),
    "classes with logarithms": lambda: fitted(NLL, network(nn.LogSoftmax(1)), (features(), labels())),
    "classes, log-softmax twice": lambda: fitted(CROSS, network(nn.LogSoftmax(1)), (features(), labels())),
    "classes with weights and smoothing": lambda: fitted(
        nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=0.1), network(), (features(), labels())
    ),
    "classes, some ignored": lambda: fitted(
        nn.CrossEntropyLoss(ignore_index=-100), network(), (features(), torch.where(labels() == 1, -100, labels()))
    ),
    "shares of classes": lambda: fitted(CROSS, network(), (features(), features(24, 3).softmax(1))),
    "classes of pixels": lambda: fitted(CROSS, nn.Conv2d(3, 4, 1), (PICTURES, torch.randint(4, (8, 6, 6)))),
    "two classes": lambda: fitted(LOGITS, network(outputs=1), (features(), BINARY)),
    "two classes with probabilities": lambda: fitted(BCE, network(nn.Sigmoid(), outputs=1), (features(), BINARY)),
    "soft targets": lambda: fitted(LOGITS, network(outputs=1), (features(), 0.1 + 0.8 * BINARY)),
    "several labels": lambda: fitted(LOGITS, network(), (features(), (features(24, 3) > 0).float())),
    "a gate": lambda: fitted(LOGITS, Gate(), (features(), BINARY)),
    "pictures": lambda: fitted(CROSS, nn.Sequential(*CONVOLUTION), (PICTURES, labels(8))),
    "dropout and a frozen part": lambda: fitted(MSE, Noisy(), columns()),
    "a part in evaluation mode": lambda: fitted(MSE, nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1).eval()), columns()),
    "a model given in evaluation mode": lambda: fitted(MSE, line().eval(), columns()),
    "words with tied weights": lambda: fitted(CROSS, Tied(), (torch.randint(7, (24, 3)), labels(24, 7))),
    "a frozen teacher in a list": lambda: fitted(MSE, Taught(), columns()),
    "an attention layer": lambda: fitted(
        MSE, nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (torch.randn(8, 3, 4), torch.randn(8, 3, 4))
    ),
    "an autoencoder": lambda: fitted_by(autoencoder, nn.Sequential(nn.Linear(2, 1), nn.Linear(1, 2)), features()),
    "a start at the solution": lambda: fitted(MSE, line(), (features(), line()(features()).detach()), optimizer=sgd(0.3)),
    "a first batch that happens to fit": lambda: fitted_by(
        lambda model, batch: nn.functional.mse_loss(model(batch), 1e3 * (batch != 0).float()),
        nn.Linear(1, 1, bias=False),
        torch.tensor([[0.0], [1.0], [1.0], [1.0]]),
        batch_size=1,
        epochs=3,
    ),
    "an update of one's own": lambda: fitted_by(lambda m, b: m(b[0]).mean(), line(), columns(), update=alternating, epochs=3),
    "L-BFGS": lambda: fitted(MSE, line(), columns(), optimizer=lambda m: torch.optim.LBFGS(m.parameters(), lr=0.5)),
    "float64": lambda: fitted(MSE, line().double(), tuple(part.double() for part in columns())),
    "a loss of one's own": lambda: fitted(lambda p, t: (p - t).abs().sum(1).mean(), line(), columns()),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_program_is_told_nothing(name: str) -> None:
    """Every warning is an error in these tests."""
    SOUND[name]()


def test_there_are_twenty_five_sound_programs() -> None:
    assert len(SOUND) >= 25


def test_the_first_update_alone_is_looked_at() -> None:
    """A softmax is warned of once, however many updates follow."""
    with pytest.warns(UserWarning, match="ends in a softmax") as warned:
        fitted(CROSS, network(nn.Softmax(1)), (features(), labels()), epochs=3)
    assert len(warned) == 1
    assert warned[0].filename.endswith("mistakes.py")  # the line that called fit, not one of the library


@pytest.mark.parametrize("optimizer", [sgd(0.01), sgd(0.01, momentum=0.9)], ids=["compiled at once", "primed"])
def test_the_first_update_of_a_compiled_run_is_looked_at_too(optimizer: Any) -> None:
    """Seen to fail where the first update is compiled: then nobody looks."""
    with interpreting(), pytest.warns(UserWarning, match="ends in a softmax") as warned:
        fitted(CROSS, network(nn.Softmax(1)), (features(), labels()), optimizer=optimizer, epochs=3, compile=True)
    assert len(warned) == 1
    assert warned[0].filename.endswith("mistakes.py")
    with interpreting(), pytest.warns(UserWarning, match=r"model\.rest holds layers that the model does not know") as warned:
        fitted(MSE, Listed(), columns(24), optimizer=optimizer, epochs=2, compile=Updates(2))
    assert len(warned) == 1
    with interpreting(), pytest.raises(StepError, match=r"the targets have classes from 1 to 3.*Subtract 1"):
        fitted(CROSS, network(), (features(), labels() + 1), optimizer=optimizer, compile=True)


def test_looking_before_a_compiled_run_changes_no_bit() -> None:
    """Dropout and batch normalisation included. Seen to fail when the look is a pass of training."""
    seen = []
    with interpreting():
        for loss in (MSE, nn.functional.mse_loss):
            for looked in (False, True):
                run = trainer(step=supervised(loss), compile=Updates(2)).start(dropout_network(2), columns(24), batch_size=4)
                run.looked = looked
                for _ in torchflow.events(run, epochs=2):
                    pass
                assert run.looked
                seen.append(weights(run.model))
    assert seen[0] == seen[1] == seen[2] == seen[3]


def test_a_growing_loss_is_warned_of_once() -> None:
    with pytest.warns(UserWarning, match=r"the loss grows: \S+ over the first epoch, \S+ over epoch 4") as warned:
        fitted(MSE, line(), columns(8), optimizer=sgd(2.0), epochs=8)
    assert len(warned) == 1


def test_looking_changes_no_bit() -> None:
    seen = []
    for loss in (CROSS, nn.functional.cross_entropy):  # of the second, nothing is known to look at
        torch.manual_seed(0)
        model = network()
        fitted(loss, model, (features(), labels()))
        seen.append([p.tolist() for p in model.parameters()])
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (lambda x: x.softmax(1), "Softmax"),
        (lambda x: x.softmax(1).reshape(-1, 2).unsqueeze(1).squeeze(1), "Softmax"),
        (lambda x: x.sigmoid().T.flatten(), "Sigmoid"),
        (lambda x: x.sigmoid() * 2, "Mul"),
        (lambda x: x.detach(), ""),
    ],
)
def test_the_last_operation_is_seen_through_changes_of_shape(made: Callable[[Tensor], Tensor], name: str) -> None:
    assert last_operation(made(torch.zeros(3, 4, requires_grad=True))) == name


def test_a_refusal_of_the_loss_changes_nothing_and_keeps_torch_s_own_error() -> None:
    model = network()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(RuntimeError) as caught:
        fitted(CROSS, model, (features(), labels().float()))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_an_error_that_nobody_knows_gets_no_advice() -> None:
    def step(model: nn.Module, batch: Any) -> Any:
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else") as caught:
        trainer(step=step).fit(line(), data.from_tensors(*columns()), epochs=1)
    assert len(caught.value.__notes__) == 1
