"""Modules that forget their activations: less memory, the same bits, and a model that is as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tests.laws.problems import difference, with_weights
from tests.small import columns, sgd, trainer
from torchflow import Callback, Run, Trainer, events, supervised
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.recomputing import Recomputed, check_rule, modules_of, recomputed

pytestmark = pytest.mark.filterwarnings("ignore:the loss grows")  # a drawn run may diverge


class Counting(nn.Module):
    """A layer that draws from every generator, keeps running statistics, and counts its passes."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.linear, self.norm, self.drop = nn.Linear(features, features), nn.BatchNorm1d(features), nn.Dropout(0.4)
        self.register_buffer("gain", torch.ones(()))
        self.gain: Tensor
        self.passes = 0

    def forward(self, x: Tensor, *, shift: float = 0.0) -> Tensor:
        self.passes += 1
        out: Tensor = self.drop(torch.tanh(self.norm(self.linear(x)))) * self.gain.item() + shift
        if self.training:
            self.gain.mul_(0.9)  # read before it is written: a second pass has to find what the first one did
            out = out * float(np.random.uniform(0.5, 1.5)) * random.uniform(0.5, 1.5)
        return out


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Counting(2) for _ in range(3))
        self.head = spectral_norm(nn.Linear(2, 1))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, shift=0.1)
        out: Tensor = self.head(x)
        return out


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return with_weights(Network(), seed)


RULES: list[Any] = ["blocks", ["blocks.*", "head"], ["blocks.1"], lambda module: isinstance(module, Counting), lambda module: True]


@pytest.mark.parametrize("number", range(len(RULES)))
@settings(max_examples=6, deadline=None)
@given(
    batch_size=st.integers(2, 7),
    accumulate=st.integers(1, 3),
    optimizer=st.sampled_from(["Adam", "L-BFGS"]),
    precision=st.sampled_from(["float32", "bf16", "float64"]),
    seed=st.integers(0, 99),
)
def test_a_run_that_computes_again_is_equal_to_the_bit(
    number: int, batch_size: int, accumulate: int, optimizer: str, precision: str, seed: int
) -> None:
    """With dropout, draws from NumPy and Python, BatchNorm, spectral norm, and a buffer that is read and then written.

    Seen to fail without the repetition's buffers, and without its draws.
    """

    def adam(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=0.01)

    def lbfgs(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.LBFGS(model.parameters(), max_iter=2)

    def end(rule: Any) -> Any:
        made = trainer(
            optimizer=adam if optimizer == "Adam" else lbfgs,
            accumulate=accumulate,
            precision=precision,
            activation_checkpointing=rule,
            nonfinite="skip",
            seed=seed,
        )
        run = made.start(network(seed), columns(15, seed), batch_size=batch_size, last_batch="drop", validation=columns(4))
        for _ in events(run, epochs=2):
            pass
        return run.state()

    assert difference(end(RULES[number]), end(None)) is None


def passes(model: nn.Module) -> list[int]:
    return [module.passes for module in model.modules() if isinstance(module, Counting)]


def test_chosen_modules_compute_twice_in_training_and_once_in_evaluation() -> None:
    model = network()
    made = trainer(activation_checkpointing="blocks.1")
    made.fit(model, columns(12), epochs=1, batch_size=4, validation=columns(4))
    assert passes(model) == [3 + 1, 3 * 2 + 1, 3 + 1]
    made.evaluate(model, columns(4))
    assert passes(model) == [5, 8, 5]


def saved_numbers(model: nn.Module, rule: Any) -> int:
    """How many numbers a forward pass keeps for the backward pass."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor
        return tensor

    with recomputed(model, rule), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(torch.ones(64, 2))
    return sum(tensor.numel() for tensor in kept.values())


def test_less_is_kept_between_the_passes() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Linear(2, 50), nn.Tanh(), nn.Linear(50, 2)) for _ in range(4)))
    assert saved_numbers(model, ("0", "1", "2", "3")) < 0.2 * saved_numbers(model, None)


def test_the_model_is_as_it_was_after_the_call_and_after_an_error() -> None:
    model = network()
    before = [dict(vars(module)).keys() for module in model.modules()]
    trainer(activation_checkpointing="blocks").fit(model, columns(12), epochs=1, batch_size=4)
    assert [dict(vars(module)).keys() for module in model.modules()] == before
    with pytest.raises(ZeroDivisionError):
        trainer(step=lambda model, batch: 1 // 0, activation_checkpointing="blocks").fit(model, columns(12), epochs=1)
    assert [dict(vars(module)).keys() for module in model.modules()] == before


def test_a_forward_of_the_modules_own_is_called_and_put_back() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    inner = model[0].forward
    calls: list[int] = []

    def own(x: Tensor) -> Tensor:
        calls.append(1)
        out: Tensor = inner(x)
        return out

    model[0].forward = own
    trainer(activation_checkpointing=["0"]).fit(model, columns(8), epochs=1, batch_size=8)
    assert calls == [1, 1]
    assert vars(model[0])["forward"] is own


def test_a_copy_that_is_made_while_a_run_lasts_computes_once() -> None:
    copies: list[nn.Module] = []

    class Copying(Callback):
        def on_epoch_end(self, run: Run[Any, Any], event: Any) -> None:
            copies.append(copy.deepcopy(run.model))

    model = network()
    trainer(activation_checkpointing="blocks", callbacks=[Copying()]).fit(model, columns(8), epochs=1, batch_size=8)
    found = copies[0]
    assert not any(isinstance(vars(module).get("forward"), Recomputed) for module in found.modules())
    before = passes(found)
    found(torch.ones(4, 2)).sum().backward()
    assert passes(found) == [number + 1 for number in before]
    assert passes(model) == before


def test_an_update_may_go_backward_twice_over_one_pass() -> None:
    def twice(run: Run[Any, Any], batches: Sequence[Any]) -> Tensor:
        x, y = batches[0]
        loss: Tensor = (run.model(x) - y).square().mean()
        loss.backward(retain_graph=True)
        loss.backward()
        run.optimizer.step()
        return loss

    def end(rule: Any) -> Any:
        made: Trainer[Any, Any] = trainer(update=twice, activation_checkpointing=rule)
        return made.fit(network(), columns(12), epochs=1, batch_size=4).model.state_dict()

    assert difference(end("blocks"), end(None)) is None


def test_of_modules_within_each_other_the_outermost_is_chosen() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), nn.Linear(2, 1))
    assert list(modules_of(model, ("*",))) == ["0", "1"]
    assert list(modules_of(model, ("0.*",))) == ["0.0", "0.1"]
    assert list(modules_of(model, lambda module: isinstance(module, nn.Linear))) == ["0.0", "1"]
    assert list(modules_of(model, lambda module: True)) == [""]


@pytest.mark.parametrize(
    ("rule", "kind", "said"),
    [
        (3, ArgumentTypeError, "must be names or patterns of modules such as 'blocks.*', or a function of a module, got 3"),
        (nn.Linear, ArgumentTypeError, "or a function of a module, got"),
        (["a", 1], ArgumentTypeError, "must be names or patterns"),
        ([], ArgumentValueError, "must not be empty"),
        ("", ArgumentValueError, "must not be empty"),
    ],
)
def test_what_is_no_rule_is_refused(rule: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        trainer(activation_checkpointing=rule)
    with pytest.raises(kind, match=said):
        check_rule(rule)


@pytest.mark.parametrize(
    ("rule", "kind", "said"),
    [
        ("encoder", ArgumentValueError, r"\['encoder'\] picks no module of the model, whose modules are '0', '1'"),
        (lambda module: False, ArgumentValueError, "picks no module of the model"),
        (lambda module: None, ArgumentTypeError, "a function that returns True or False, got None"),
    ],
)
def test_a_rule_that_picks_nothing_is_refused_before_anything_is_written(
    rule: Callable[[nn.Module], bool], kind: type[Exception], said: str, tmp_path: Any
) -> None:
    made = trainer(activation_checkpointing=rule, checkpoints=tmp_path / "run")
    with pytest.raises(kind, match=said):
        made.fit(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), columns(), epochs=1)
    assert not (tmp_path / "run").exists()


def test_compiled_updates_and_checkpointing_are_refused_together() -> None:
    with pytest.raises(ArgumentValueError, match=r"no effect in compiled updates.*Leave out"):
        Trainer(supervised(nn.MSELoss()), optimizer=sgd(), activation_checkpointing="blocks", compile=True)
