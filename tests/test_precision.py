from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from torchflow import precision
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.finite import FiniteCheck
from torchflow.optimizer_steps import needs_closure, optimizer_step
from torchflow.precision import backward, check_precision, clip, divide

CPU = torch.device("cpu")


def test_only_known_precisions_pass() -> None:
    for name in ("float32", "bf16", "fp16", "float64"):
        assert check_precision(name, CPU) == name
    listed = "'float32', 'bf16', 'fp16', 'float64'"
    with pytest.raises(ArgumentValueError, match=rf"precision must be one of {listed}, got 'fp8' \(str\)\. A float64 model"):
        check_precision("fp8", CPU)
    with pytest.raises(ArgumentTypeError, match=rf"precision must be one of {listed}, got torch\.float32"):
        check_precision(torch.float32, CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (torch.bfloat16, "bf16"),
        ("bf16-mixed", "bf16"),
        (16, "fp16"),
        ("half", "fp16"),
        (None, "float32"),
        (torch.double, "float64"),
    ],
)
def test_the_names_of_others_are_translated(given: object, meant: str) -> None:
    with pytest.raises((ArgumentTypeError, ArgumentValueError), match=rf"Write precision='{meant}'\.$"):
        check_precision(given, CPU)  # type: ignore[arg-type]


def network() -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    x, y = torch.randn(11, 5), torch.randn(11, 3)
    return model, lambda model: nn.functional.mse_loss(model(x), y)


def public_backward(loss: Any) -> None:  # Any: whether torch annotates these methods depends on what else is imported
    loss.backward()


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def same(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = list(zip(gradients(ours), gradients(theirs), strict=True))
    return len(pairs) == len(list(ours.parameters())) and all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_backward_equals_the_public_one_bit_for_bit(dtype: torch.dtype) -> None:
    ours, _ = network()
    ours = ours.type(dtype)
    theirs = copy.deepcopy(ours)
    x = torch.randn(4, 5, dtype=dtype)
    for _ in range(2):  # gradients add up
        backward(ours(x).square().mean())
        public_backward(theirs(x).square().mean())
        assert same(ours, theirs)


def note(seen: list[str], what: str, *_: object) -> None:
    seen.append(what)


def test_backward_calls_hooks_of_tensors_and_modules() -> None:
    ours, loss = network()
    theirs = copy.deepcopy(ours)
    calls: dict[int, list[str]] = {id(ours): [], id(theirs): []}
    for model in (ours, theirs):
        seen = calls[id(model)]
        first: Any = next(model.parameters())
        first.register_hook(lambda grad: grad * 3)
        first.register_post_accumulate_grad_hook(partial(note, seen, "parameter"))
        list(model.children())[2].register_full_backward_pre_hook(partial(note, seen, "module"))
    backward(loss(ours))
    public_backward(loss(theirs))
    assert same(ours, theirs)
    assert calls[id(ours)] == calls[id(theirs)] == ["module", "parameter"]


def test_backward_frees_the_graph_like_the_public_one() -> None:
    model, loss = network()
    value = loss(model)
    backward(value)
    with pytest.raises(RuntimeError, match="a second time"):
        backward(value)


class Loss(Tensor):
    """A subclass goes the public way."""


def test_a_tensor_subclass_goes_the_public_way(monkeypatch: pytest.MonkeyPatch) -> None:
    went: list[Tensor] = []
    public = torch.autograd.backward

    def watched(loss: Tensor, *args: Any, **options: Any) -> None:
        went.append(loss)
        public(loss, *args, **options)

    monkeypatch.setattr(torch.autograd, "backward", watched)
    ours, loss = network()
    theirs = copy.deepcopy(ours)
    backward(loss(ours).as_subclass(Loss))
    public(loss(theirs))
    assert went
    went.clear()
    assert same(ours, theirs)
    backward(loss(ours))
    assert not went


def test_without_the_engine_backward_goes_the_public_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_engine", None)
    ours, loss = network()
    theirs = copy.deepcopy(ours)
    backward(loss(ours))
    public_backward(loss(theirs))
    assert same(ours, theirs)


def test_divide_changes_in_place_by_numbers_and_tensors() -> None:
    gradients = [torch.tensor([2.0, 4.0]), torch.tensor(6.0)]
    divide(gradients, 2)
    divide(gradients, torch.tensor(2))
    assert torch.equal(gradients[0], torch.tensor([0.5, 1.0]))
    assert gradients[1].item() == 1.5


DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_element_that_is_not_finite_is_found_in_every_dtype(dtype: torch.dtype, bad: float) -> None:
    check = FiniteCheck(CPU)
    gradients = [torch.ones(3, dtype=dtype), torch.ones(2, 2, dtype=dtype)]
    assert check(gradients)
    gradients[1][1, 0] = bad
    assert not check(gradients)
    gradients[1][1, 0] = 1
    assert check(gradients)  # nothing is remembered


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_largest_finite_numbers_are_finite_and_stay_as_they_are(dtype: torch.dtype) -> None:
    largest = torch.full((5,), torch.finfo(dtype).max, dtype=dtype)
    smallest = torch.full((5,), torch.finfo(dtype).smallest_normal / 2, dtype=dtype)
    before = largest.clone(), smallest.clone()
    assert FiniteCheck(CPU)([largest, smallest])
    assert torch.equal(largest, before[0])
    assert torch.equal(smallest, before[1])


def test_mixed_dtypes_no_gradients_and_empty_ones() -> None:
    check = FiniteCheck(CPU)
    assert check([])
    assert check([torch.zeros(0), torch.ones(1)])
    assert check([torch.ones(1), torch.ones(1, dtype=torch.float64), torch.ones(2, dtype=torch.bfloat16)])
    assert not check([torch.ones(1), torch.tensor([math.nan], dtype=torch.float64)])
    assert not check([torch.tensor([math.inf]), torch.ones(1, dtype=torch.complex64)])


def sparse(value: float) -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor([[0, 2]]), torch.tensor([1.0, value]), (4,), check_invariants=False)


def test_sparse_gradients_are_looked_at() -> None:
    check = FiniteCheck(CPU)
    assert check([torch.ones(2), sparse(3.0)])
    assert not check([torch.ones(2), sparse(math.nan)])
    assert not check([sparse(math.inf)])
    uncoalesced = torch.sparse_coo_tensor(torch.tensor([[1, 1]]), torch.tensor([math.inf, -1.0]), (4,), check_invariants=False)
    assert not check([uncoalesced])


def test_a_check_that_went_the_long_way_leaves_nothing_behind() -> None:
    check = FiniteCheck(CPU)
    assert not check([torch.tensor([math.nan]), sparse(1.0)])
    assert not check([torch.tensor([math.nan]), torch.ones(2, dtype=torch.complex64)])
    assert check([torch.ones(2)])


def parameters_with_gradients() -> list[nn.Parameter]:
    torch.manual_seed(1)
    made = [nn.Parameter(torch.zeros(4, 3)), nn.Parameter(torch.zeros(2))]
    for parameter in made:
        parameter.grad = torch.randn_like(parameter) * 10
    return made


@pytest.mark.parametrize(("norm", "value"), [(None, None), (1.5, None), (None, 0.3), (1.5, 0.3), (1e6, 1e6)])
def test_clipping_equals_torchs(norm: float | None, value: float | None) -> None:
    ours, theirs = parameters_with_gradients(), parameters_with_gradients()
    before = clip(ours, norm, value)
    if norm is None:
        assert before is None
    else:
        assert torch.equal(before if before is not None else torch.zeros(0), clip_grad_norm_(theirs, norm))
    if value is not None:
        clip_grad_value_(theirs, value)
    for our, their in zip(ours, theirs, strict=True):
        assert our.grad is not None
        assert their.grad is not None
        assert torch.equal(our.grad, their.grad)


def test_clipping_nothing_is_no_error() -> None:
    norm = clip([], 1.0, 1.0)
    assert norm is not None
    assert norm.item() == 0.0


def test_only_lbfgs_evaluates_the_loss_itself() -> None:
    parameter = [nn.Parameter(torch.zeros(1))]
    assert needs_closure(torch.optim.LBFGS(parameter))
    assert not needs_closure(torch.optim.SGD(parameter))
    assert not needs_closure(torch.optim.AdamW(parameter))


def test_an_optimizer_steps_with_and_without_a_closure() -> None:
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    parameter.grad = torch.ones(1)
    optimizer_step(optimizer)
    assert parameter.item() == 0.5
    calls: list[int] = []

    def closure() -> Any:
        calls.append(1)
        return torch.zeros(())

    optimizer_step(optimizer, closure)
    assert calls == [1]
    assert parameter.item() == 0.0


# What torch makes of defaults, and what some classes need.
STOCK: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "Adam": {"lr": 0.1, "amsgrad": True},
    "AdamW": {"lr": 0.1},
    "Adamax": {},
    "NAdam": {},
    "RAdam": {},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adagrad": {"lr_decay": 0.1},
    "Adadelta": {},
    "Rprop": {},
    "ASGD": {},
    "Adafactor": {},
}


@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step_inside_torchs_wrappers_is_the_step(name: str, dtype: torch.dtype) -> None:
    kind = getattr(torch.optim, name)
    ours, theirs = ([nn.Parameter(torch.arange(6.0, dtype=dtype).reshape(2, 3))] for _ in range(2))
    optimizers = kind(ours, **STOCK[name]), kind(theirs, **STOCK[name])
    for update in range(4):
        for parameters in (ours, theirs):
            parameters[0].grad = torch.sin(parameters[0].detach() + update)
        optimizer_step(optimizers[0])
        optimizers[1].step()
        assert torch.equal(ours[0], theirs[0])
        assert torch.is_grad_enabled()


def counted_step(optimizer: torch.optim.Optimizer) -> list[str]:
    """Step once while the inside of torch's wrapper is watched: what went through the public way is in the list."""
    public: list[str] = []
    earlier = torch.optim.Optimizer._optimizer_step_code
    torch.optim.Optimizer._optimizer_step_code = lambda self: public.append("public")  # type: ignore[method-assign]
    try:
        optimizer_step(optimizer)
    finally:
        torch.optim.Optimizer._optimizer_step_code = earlier  # type: ignore[method-assign]
    return public


def sgd() -> torch.optim.SGD:
    parameter = nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    return torch.optim.SGD([parameter], lr=0.5)


def test_a_bare_optimizer_is_stepped_without_torchs_wrappers() -> None:
    assert counted_step(sgd()) == []


def test_a_schedulers_patch_is_no_reason_for_the_public_way() -> None:
    optimizer = sgd()
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    assert counted_step(optimizer) == []


def test_hooks_of_one_optimizer_are_called() -> None:
    optimizer, called = sgd(), []
    before = optimizer.register_step_pre_hook(lambda *_: called.append("before"))
    after = optimizer.register_step_post_hook(lambda *_: called.append("after"))
    assert counted_step(optimizer) == ["public"]
    assert called == ["before", "after"]
    before.remove()
    after.remove()
    assert counted_step(optimizer) == []


def test_hooks_of_every_optimizer_are_called() -> None:
    called: list[str] = []
    module = import_module("torch.optim.optimizer")
    for register in (module.register_optimizer_step_pre_hook, module.register_optimizer_step_post_hook):
        handle = register(lambda *_: called.append("hook"))
        assert counted_step(sgd()) == ["public"]
        handle.remove()
    assert called == ["hook", "hook"]


def test_a_profiler_sees_the_step() -> None:
    with torch.profiler.profile() as profile:
        optimizer_step(sgd())
    assert any("Optimizer.step#SGD.step" in event.key for event in profile.key_averages())


def test_a_patched_step_and_a_class_of_the_users_are_called_as_they_are() -> None:
    class Mine(torch.optim.SGD):
        def step(self, closure: Any = None) -> None:  # type: ignore[override]
            called.append("mine")

    called: list[str] = []
    patched = sgd()
    patched.step = lambda: called.append("patched")  # type: ignore[method-assign, assignment, misc]
    optimizer_step(patched)
    optimizer_step(Mine([nn.Parameter(torch.ones(1))], lr=0.1))
    assert called == ["patched", "mine"]


def test_a_differentiable_optimizer_takes_the_public_way() -> None:
    start = torch.ones(1, requires_grad=True)
    parameter = start.clone()
    parameter.grad = torch.ones(1)
    optimizer_step(torch.optim.SGD([parameter], lr=0.5, differentiable=True))
    assert parameter.requires_grad
    parameter.sum().backward()
    assert start.grad is not None
