"""summary(): right numbers, and nothing of the model, its hooks or the random state changes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.small import Noisy, weights
from torchflow import Summary, summary
from torchflow.errors import ArgumentTypeError, ArgumentValueError, StepError


class Counting(nn.Module):
    """Writes to itself whenever it is called, in evaluation mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Tensor = nn.Buffer(torch.zeros(()))
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        self.seen += 1
        return x + torch.rand(()) + float(np.random.rand()) + random.random()


def part(kind: str, width: int) -> nn.Module:
    parts: dict[str, Callable[[], nn.Module]] = {
        "linear": lambda: nn.Linear(width, width),
        "bare": lambda: nn.Linear(width, width, bias=False),
        "norm": lambda: nn.BatchNorm1d(width),
        "dropout": lambda: nn.Dropout(0.5),
        "counting": Counting,
        "tanh": nn.Tanh,
        "nested": lambda: nn.Sequential(nn.Linear(width, width), nn.ReLU()),
        "frozen": lambda: nn.Linear(width, width).requires_grad_(False),
    }
    return parts[kind]()


KINDS = ["linear", "bare", "norm", "dropout", "counting", "tanh", "nested", "frozen"]


def surroundings(model: nn.Module) -> tuple[Any, ...]:
    """All that a summary could disturb."""
    hooks = [
        {name: dict(value) for name, value in vars(module).items() if "hook" in name and isinstance(value, dict)}
        for module in model.modules()
    ]
    return (
        weights(model),
        hooks,
        [module.training for module in model.modules()],
        [(p.requires_grad, p.grad, p.data_ptr()) for p in model.parameters()],
        [module.seen for module in model.modules() if isinstance(module, Counting)],
        torch.get_rng_state().tolist(),
        str(np.random.get_state(legacy=False)),
        random.getstate(),
        torch.backends.mha.get_fastpath_enabled(),
        torch.is_grad_enabled(),
    )


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    width=st.integers(1, 6),
    batch=st.integers(1, 4),
    grad=st.booleans(),
)
def test_a_summary_leaves_everything_as_it_was(kinds: list[str], width: int, batch: int, grad: bool) -> None:
    """Seen to fail when the forward pass runs on the model itself, and when the random state is not put back."""
    model = nn.Sequential(*(part(kind, width) for kind in kinds))
    model[0].eval()
    heard: list[str] = []
    model.register_forward_hook(lambda module, given, output: heard.append("hook"))
    inputs = torch.ones(batch, width)
    before = surroundings(model)
    with torch.set_grad_enabled(grad):
        first = summary(model, inputs)
        assert torch.is_grad_enabled() == grad
    assert surroundings(model) == before
    assert torch.equal(inputs, torch.ones(batch, width))
    assert summary(model, inputs) == first


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    width=st.integers(1, 6),
    batch=st.integers(1, 4),
    twice=st.booleans(),
)
def test_the_numbers_are_those_of_the_model(kinds: list[str], width: int, batch: int, twice: bool) -> None:
    """Seen to fail when a shared parameter counts at both of its places, and when a layer's multiply-adds are those of its last call alone."""
    parts = [part(kind, width) for kind in kinds]
    model = nn.Sequential(*parts, *(parts[:1] if twice else []))
    found = summary(model, torch.zeros(batch, width))
    parameters = list(model.parameters())
    assert found.trained == sum(p.numel() for p in parameters if p.requires_grad)
    assert found.frozen == sum(p.numel() for p in parameters if not p.requires_grad)
    assert sum(layer.trained + layer.frozen for layer in found.layers) == found.trained + found.frozen
    assert found.parameter_bytes == sum(p.numel() * p.element_size() for p in parameters)
    assert found.buffer_bytes == sum(b.numel() * b.element_size() for b in model.buffers())
    linears = [module for part in model for module in part.modules() if isinstance(module, nn.Linear)]
    assert found.multiply_adds == batch * width * width * len(linears)
    assert found.layers[0].multiply_adds == found.multiply_adds
    assert all(layer.output == str((batch, width)) for layer in found.layers)
    assert found.layers[1].calls == 1 + twice
    own = sum(isinstance(module, nn.Linear) for module in parts[0].modules())
    assert found.layers[1].multiply_adds == (1 + twice) * batch * width * width * own


def test_a_parameter_under_two_names_is_counted_once_and_said() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    found = summary(model, torch.zeros(2, 3))
    assert (found.trained, found.shared) == (15, 9)
    assert [layer.trained for layer in found.layers] == [0, 12, 3]
    assert "9 parameters are shared, and counted once" in repr(found)


def test_convolutions_and_attention_are_counted_as_on_paper() -> None:
    convolution = summary(nn.Conv2d(3, 8, 3, padding=1, groups=1), torch.zeros(2, 3, 5, 7))
    assert convolution.multiply_adds == 2 * 8 * 5 * 7 * 3 * 9
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    projections, products, feedforward = 4 * 8 * 8 * 6, 2 * 6 * 6 * 8, 2 * 8 * 16 * 6
    assert summary(layer, torch.zeros(3, 6, 8)).multiply_adds == 3 * (projections + products + feedforward)
    assert summary(layer.requires_grad_(False), torch.zeros(3, 6, 8)).multiply_adds == 3 * (projections + products + feedforward)


def test_what_the_backward_pass_needs_grows_with_the_batch_and_holds_no_parameter() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    small, large = (summary(model, torch.zeros(size, 4)).kept_bytes for size in (32, 64))
    assert (small, large) == (32 * (4 + 8) * 4, 64 * (4 + 8) * 4)
    assert summary(model.requires_grad_(False), torch.zeros(32, 4)).kept_bytes == 0


def test_a_layer_that_was_not_called_says_so_and_trees_of_outputs_are_shown() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(2, 3), nn.Linear(2, 3)

        def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"out": self.used(inputs["x"])}

    found = summary(Pair(), {"x": torch.zeros(4, 2)})
    assert [layer.output for layer in found.layers] == ["['out'] float32 (4, 3)", "(4, 3)", ""]
    assert "not called" in repr(found)


def test_another_way_of_calling_goes_through_forward() -> None:
    model = nn.Bilinear(2, 3, 4)
    found = summary(model, (torch.zeros(5, 2), torch.zeros(5, 3)), forward=lambda model, inputs: model(*inputs))
    assert found.layers[0].output == "(5, 4)"


def test_a_batch_of_one_passes_through_normalisation() -> None:
    assert summary(nn.BatchNorm1d(3), torch.zeros(1, 3)).layers[0].output == "(1, 3)"
    assert isinstance(summary(Noisy(), torch.zeros(1, 2)), Summary)


def test_the_table_is_aligned_and_short() -> None:
    lines = repr(summary(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), torch.zeros(2, 4))).splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["layer", "output", "trained", "frozen", "multiply-adds"],
        ["-" * len(lines[1])],
        ["Sequential", "(2,", "8)", "64"],
        ["0", "Linear", "(2,", "8)", "40", "64"],
    ]
    assert all(len(line) <= len(lines[1]) for line in lines[:-1])


MODEL: Any = nn.Linear(2, 1)
EMBEDDING = nn.Embedding(3, 2)
CLASS: Any = nn.Linear
NUMBER: Any = 3

WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "class": (lambda: summary(CLASS, torch.zeros(1)), ArgumentTypeError, r"model must be an nn\.Module, got <class"),
    "forward": (
        lambda: summary(MODEL, torch.zeros(1), forward=NUMBER),
        ArgumentTypeError,
        r"forward must be a function, got 3",
    ),
    "lazy": (lambda: summary(nn.LazyLinear(1), torch.zeros(1, 1)), ArgumentValueError, r"lazy parameter 'weight' without a shape"),
    "shape": (
        lambda: summary(MODEL, torch.zeros(4, 3)),
        StepError,
        r"forward pass of Linear failed on inputs .*float32 \(4, 3\): RuntimeError.*forward=",
    ),
    "size": (lambda: summary(MODEL, (4, 2)), StepError, r"on inputs \[0\] int, .*Give one batch of tensors, such as torch\.zeros"),
    "words": (lambda: summary(EMBEDDING, torch.zeros(4)), StepError, r"inputs float32 \(4,\): .*Write x\.long\(\)"),
    "pair": (lambda: summary(MODEL, (torch.zeros(4, 2),) * 2), StepError, r"Give what the model is called with"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_summarised_is_named_and_left_as_it_was(name: str) -> None:
    act, error, message = WRONG[name]
    before = torch.get_rng_state()
    with pytest.raises(error, match=message):
        act()
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    model = nn.Linear(2, 1)
    model.result = model(torch.zeros(1, 2))
    with pytest.raises(ArgumentTypeError, match=r"model cannot be copied, .*__deepcopy__"):
        summary(model, torch.zeros(1, 2))
