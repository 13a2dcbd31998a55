from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tests.small import columns, flat
from torchflow.checkpoint.format import check_state, decode, encode
from torchflow.errors import StateError
from torchflow.state import hyperparameters, load_model_state, load_optimizer_state, model_state, optimizer_state, parameter_names


class Tied(nn.Module):
    """An encoder and a decoder that share a weight, a frozen part, and buffers of both kinds."""

    kept: Tensor
    lost: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder, self.frozen = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1)
        self.decoder.weight = self.encoder.weight
        self.frozen.requires_grad_(False)
        self.register_buffer("kept", torch.zeros(3))
        self.register_buffer("lost", torch.zeros(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.frozen(torch.tanh(self.decoder(self.encoder(x))))
        return out


def trained(model: nn.Module, optimizer: Optimizer, steps: int = 3) -> None:
    x, y = columns(8)

    def closure() -> Any:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        torch.autograd.backward(loss)
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def test_a_models_state_is_its_live_tensors_by_name() -> None:
    model = Tied()
    state = model_state(model)
    assert list(state) == [
        "kept",
        "encoder.weight",
        "encoder.bias",
        "decoder.weight",
        "decoder.bias",
        "frozen.weight",
        "frozen.bias",
    ]
    weight = state["encoder.weight"]
    assert isinstance(weight, Tensor)
    assert weight.data_ptr() == model.encoder.weight.data_ptr()
    assert not weight.requires_grad


def test_loading_copies_into_the_live_tensors() -> None:
    first, second = Tied(), Tied()
    weight = second.encoder.weight
    load_model_state(second, first.state_dict())
    assert second.encoder.weight is second.decoder.weight is weight
    assert dict(flat(second.state_dict())) == dict(flat(first.state_dict()))
    with torch.no_grad():
        first.encoder.weight.zero_()
    assert weight.abs().sum() > 0


def test_extra_state_that_is_no_tensor_is_refused() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> Any:
            return {"a": 1}

        def set_extra_state(self, state: Any) -> None:
            """Take nothing."""

    with pytest.raises(
        StateError, match=r"model/0\._extra_state: a checkpoint holds tensors of a model, got dict from get_extra_state"
    ):
        model_state(nn.Sequential(Extra(2, 1)))


def test_a_tied_parameter_goes_by_its_first_name() -> None:
    model = Tied()
    names = parameter_names(model)
    assert names[model.decoder.weight] == "encoder.weight"
    assert len(names) == 5


RECIPES: dict[str, Callable[[nn.Module], Optimizer]] = {
    "SGD": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9),
    "plain SGD": lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
    "AdamW": lambda m: torch.optim.AdamW(m.parameters(), lr=0.01, amsgrad=True),
    "Adagrad": lambda m: torch.optim.Adagrad(m.parameters(), lr=0.1),
    "Rprop": lambda m: torch.optim.Rprop(m.parameters()),
    "Adafactor": lambda m: torch.optim.Adafactor(m.parameters()),
    "L-BFGS": lambda m: torch.optim.LBFGS(m.parameters(), lr=0.5, max_iter=3, history_size=4),
    "groups": lambda m: torch.optim.Adam([{"params": [p], "lr": 0.01 * (n + 1)} for n, p in enumerate(m.parameters())]),
    "named": lambda m: torch.optim.Adam(m.named_parameters()),
    "tensor rate": lambda m: torch.optim.Adam(m.parameters(), lr=torch.tensor(0.01), capturable=False, foreach=False),
    "only the decoder": lambda m: torch.optim.Adam(m.get_submodule("decoder").parameters()),
}


@pytest.mark.parametrize("name", RECIPES)
def test_an_optimizers_state_goes_round_through_the_state_language(name: str) -> None:
    torch.manual_seed(0)
    first = Tied()
    one = RECIPES[name](first)
    trained(first, one)
    second = copy.deepcopy(first)
    two = RECIPES[name](second)
    state = optimizer_state(one, first)
    check_state(state)
    encoded = encode({"o": state})
    load_optimizer_state(two, second, decode(encoded.text, encoded.tensors, "here")["o"])
    trained(first, one)
    trained(second, two)
    assert dict(flat(second.state_dict())) == dict(flat(first.state_dict()))
    assert dict(flat(optimizer_state(two, second))) == dict(flat(optimizer_state(one, first)))


@pytest.mark.parametrize("fused", [False, True])
def test_what_an_optimizer_keeps_for_a_parameter_lies_as_the_parameter_does(fused: bool) -> None:
    """Seen to fail for strides that a file has lost: a fused step takes the moments of other elements, and says nothing."""
    torch.manual_seed(0)
    first = nn.Conv2d(2, 3, 2)
    first.weight.data = first.weight.data.to(memory_format=torch.channels_last)
    one = torch.optim.Adam(first.parameters(), lr=0.1, fused=fused)
    second = copy.deepcopy(first)
    two = torch.optim.Adam(second.parameters(), lr=0.1, fused=fused)
    x = torch.randn(4, 2, 3, 3).to(memory_format=torch.channels_last)

    def step(model: nn.Module, optimizer: Optimizer) -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    step(first, one)
    encoded = encode({"o": optimizer_state(one, first)})
    second.load_state_dict(first.state_dict())
    load_optimizer_state(two, second, decode(encoded.text, encoded.tensors, "here")["o"])
    assert two.state[second.weight]["exp_avg"].stride() == second.weight.stride()
    step(first, one)
    step(second, two)
    assert torch.equal(first.weight, second.weight)


def test_an_optimizers_state_is_keyed_by_names_and_frozen_parameters_have_none() -> None:
    model = Tied()
    optimizer = torch.optim.Adam(model.parameters())
    trained(model, optimizer, 1)
    state: Any = optimizer_state(optimizer, model)
    assert state["groups"][0]["names"] == ["encoder.weight", "encoder.bias", "decoder.bias", "frozen.weight", "frozen.bias"]
    assert "params" not in state["groups"][0]
    assert list(state["state"]) == ["encoder.weight", "encoder.bias", "decoder.bias"]


def test_an_optimizers_state_does_not_depend_on_the_order_of_its_parameters() -> None:
    torch.manual_seed(1)
    first = Tied()
    one = torch.optim.Adam(first.parameters())
    trained(first, one)
    second = copy.deepcopy(first)
    two = torch.optim.Adam(reversed(list(second.parameters())))
    load_optimizer_state(two, second, copy.deepcopy(optimizer_state(one, first)))
    moments = two.state[second.encoder.weight]["exp_avg"]
    assert torch.equal(moments, one.state[first.encoder.weight]["exp_avg"])


@pytest.mark.parametrize("name", RECIPES)
def test_loading_leaves_the_loaded_state_as_it_is(name: str) -> None:
    torch.manual_seed(2)
    model = Tied()
    optimizer = RECIPES[name](model)
    trained(model, optimizer)
    state = copy.deepcopy(optimizer_state(optimizer, model))
    before = dict(flat(state))
    load_optimizer_state(optimizer, model, state)
    trained(model, optimizer)
    assert dict(flat(state)) == before


def test_hyperparameters_are_what_the_user_chose() -> None:
    model = Tied()
    optimizer = torch.optim.SGD(model.decoder.parameters(), lr=0.5, momentum=0.25, foreach=True)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    chosen: Any = hyperparameters(optimizer, model)
    assert chosen == [
        {
            "lr": 0.5,
            "momentum": 0.25,
            "dampening": 0,
            "weight_decay": 0,
            "nesterov": False,
            "maximize": False,
            "differentiable": False,
            "names": ["encoder.weight", "decoder.bias"],
        }
    ]


def test_a_rate_that_is_a_tensor_is_copied_as_created() -> None:
    model = Tied()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.5))
    chosen: Any = hyperparameters(optimizer, model)
    optimizer.param_groups[0]["lr"].fill_(9.0)
    assert float(chosen[0]["lr"]) == 0.5
