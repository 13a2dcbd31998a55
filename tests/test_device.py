from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.compiled.interpreter import interpreting
from torchflow import Trainer, Updates, supervised
from torchflow.device import available, deterministic_algorithms, move, move_model, out_of_memory, resolve
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DeviceError, OutOfMemoryError
from torchflow.randomness import generator

CPU = torch.device("cpu")


def pretend(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, xpu: int = 0, mps: bool = False) -> None:
    """Let torch say that this machine has these accelerators."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: xpu > 0)
    monkeypatch.setattr(torch.xpu, "device_count", lambda: xpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("machine", "chosen"),
    [
        ({}, "cpu"),
        ({"cuda": 2}, "cuda:0"),
        ({"xpu": 1}, "xpu:0"),
        ({"mps": True}, "mps:0"),
        ({"xpu": 1, "mps": True}, "xpu:0"),
        ({"cuda": 1, "xpu": 1, "mps": True}, "cuda:0"),
    ],
)
def test_auto_picks_the_first_accelerator_that_is_there(
    monkeypatch: pytest.MonkeyPatch, machine: dict[str, Any], chosen: str
) -> None:
    pretend(monkeypatch, **machine)
    assert str(resolve("auto")) == chosen
    assert available()[-1] == CPU


def test_names_and_devices_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=2)
    assert resolve("cuda") == resolve("cuda:0") == resolve(torch.device("cuda")) == torch.device("cuda", 0)
    assert resolve("cuda:1") == torch.device("cuda", 1)
    assert resolve("cpu") == CPU
    assert resolve("cpu:0").type == "cpu"


def test_a_device_that_is_not_there_is_refused_with_a_list_of_those_that_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, cuda=2)
    with pytest.raises(
        DeviceError,
        match=r"device 'cuda:99' is not on this machine\. Here there are 'cuda:0', 'cuda:1', 'cpu'; 'auto' picks the first",
    ):
        resolve("cuda:99")
    pretend(monkeypatch)
    for name in ("cuda", "mps", "meta", "cpu:3"):
        with pytest.raises(DeviceError, match=rf"device '{name}' is not on this machine\. Here there are 'cpu'"):
            resolve(name)


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "CPU"])
def test_a_name_that_torch_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(
        ArgumentValueError, match=rf"device '{name}' is no device that torch knows\. Here there are .*'auto' picks one"
    ):
        resolve(name)


@pytest.mark.parametrize("value", [0, None, 1.5, b"cpu", ["cpu"]])
def test_a_device_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises(
        ArgumentTypeError, match=r"device must be a name such as 'auto', 'cpu' or 'cuda:0', or a torch\.device, got"
    ):
        resolve(value)


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclass
class Graph:
    nodes: Any
    name: str


class Movable:
    """A leaf with a ``to`` of its own, as graphs and packed sequences have."""

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def to(self, device: torch.device) -> Movable:
        return Movable(str(device))


def test_on_the_cpu_nothing_is_copied() -> None:
    x, y = torch.zeros(3), torch.ones(3)
    batch = (x, y)
    assert move(batch, CPU) is batch
    tree: dict[str, Any] = {"x": x, "rest": [y, "text", 3, None]}
    moved = move(tree, CPU)
    assert moved["x"] is x
    assert moved["rest"][0] is y
    assert moved["rest"][1:] == ["text", 3, None]


def test_moving_keeps_every_type() -> None:
    meta = torch.device("meta")
    tree = (Pair(torch.zeros(2), [torch.ones(3)]), {"g": Graph(torch.zeros(1), "name")}, Movable(), 5)
    pair, mapping, movable, number = move(tree, meta)
    assert type(pair) is Pair
    assert pair.x.device == pair.y[0].device == mapping["g"].nodes.device == meta
    assert type(mapping["g"]) is Graph
    assert mapping["g"].name == "name"
    assert movable.device == "meta"
    assert number == 5


def test_a_tuple_with_something_else_than_plain_cpu_tensors_is_moved_leaf_by_leaf() -> None:
    assert move((nn.Parameter(torch.zeros(2)),), CPU)[0].device == CPU
    assert move((Movable("somewhere"),), CPU)[0].device == "cpu"


class Spy(Tensor):
    """A tensor that says how it was moved."""

    pinned: bool
    moves: list[tuple[torch.device, bool]]

    def is_pinned(self, device: Any = None) -> bool:
        return self.pinned

    def to(self, *args: Any, **options: Any) -> Tensor:
        self.moves.append((args[0], options["non_blocking"]))
        return self


def spy(*, pinned: bool) -> Spy:
    tensor = torch.zeros(2).as_subclass(Spy)
    tensor.pinned, tensor.moves = pinned, []
    return tensor


@pytest.mark.parametrize("pinned", [True, False])
def test_only_pinned_tensors_travel_to_an_accelerator_without_blocking(pinned: bool) -> None:
    tensor, cuda = spy(pinned=pinned), torch.device("cuda", 0)
    move([tensor], cuda)
    assert tensor.moves == [(cuda, pinned)]


def test_to_the_cpu_every_move_blocks() -> None:
    tensor = spy(pinned=True)
    move([tensor], CPU)
    assert tensor.moves == [(CPU, False)]


def test_a_model_is_moved_in_place() -> None:
    model = nn.Linear(2, 1)
    weight = model.weight
    move_model(model, CPU)
    assert model.weight is weight


def test_a_model_on_the_meta_device_is_refused() -> None:
    with pytest.raises(
        ArgumentValueError, match=r"model has 'weight' on the meta device, which holds no values\. Call model.to_empty"
    ):
        move_model(nn.Linear(2, 1, device="meta"), CPU)
    model = nn.BatchNorm1d(2)
    model.running_mean = torch.zeros(2, device="meta")
    with pytest.raises(ArgumentValueError, match="model has 'running_mean' on the meta device"):
        move_model(model, CPU)


def switches() -> tuple[bool, bool, bool, bool]:
    memory: Any = torch.utils.deterministic
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        memory.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
    )


@pytest.mark.parametrize("was", [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("choice", [True, None])
def test_deterministic_switches_are_set_and_put_back(was: tuple[bool, bool], choice: bool | None) -> None:
    before = switches()
    try:
        torch.use_deterministic_algorithms(was[0], warn_only=was[1])
        torch.backends.cudnn.benchmark = True
        outside = switches()
        with deterministic_algorithms(choice, CPU):
            assert switches() == (True, choice is None, False, False)
        assert switches() == outside
        with pytest.raises(ZeroDivisionError), deterministic_algorithms(choice, CPU):
            1 // int(False)
        assert switches() == outside
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        torch.backends.cudnn.benchmark = before[3]


@pytest.mark.parametrize(("choice", "device"), [(False, "cpu"), (False, "cuda"), (None, "cuda"), (None, "mps")])
def test_deterministic_switches_are_left_alone_where_nobody_asked(choice: bool | None, device: str) -> None:
    before = switches()
    with deterministic_algorithms(choice, torch.device(device)):
        assert switches() == before


def test_memory_that_did_not_suffice_is_explained() -> None:
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nGPU 0 has little"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ):
        explained = out_of_memory(error, "update 7")
        assert isinstance(explained, OutOfMemoryError)
        text = str(explained)
        assert text.startswith("Out of memory in update 7. Try, in this order: smaller pieces of each batch (microbatch=")
        assert text.endswith(f"torch said: {str(error).splitlines()[0]}")


def test_other_errors_are_not_about_memory() -> None:
    assert out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "update 7") is None


def test_a_memory_error_without_a_text_is_explained_too() -> None:
    assert isinstance(out_of_memory(torch.OutOfMemoryError(""), "update 7"), OutOfMemoryError)


class Watched(nn.Module):
    """A small convolutional network that notes the layout of what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)
        self.layouts: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.layouts.append(x.is_contiguous(memory_format=torch.channels_last))
        out: Tensor = self.last(self.convolution(x).relu().mean((2, 3)))
        return out


def images() -> tuple[Tensor, Tensor]:
    return torch.rand(22, 3, 6, 6, generator=generator(0)), torch.arange(22) % 2


def fitted(memory_format: Literal["channels_last"] | None, **options: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Watched()
    trainer = Trainer(
        supervised(nn.CrossEntropyLoss()),
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9),
        memory_format=memory_format,
        progress=False,
        **options,
    )
    result = trainer.fit(model, images(), epochs=2, batch_size=4, validation=images())
    return result, trainer.predict(model, images())


def test_channels_last_lays_out_images_and_weights_and_trains_the_same() -> None:
    (plain, predicted), (last, also) = fitted(None), fitted("channels_last")
    assert all(last.model.layouts)
    assert last.model.convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(plain.model.layouts)
    for one, other in zip(plain.model.parameters(), last.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert torch.allclose(predicted, also, atol=1e-6)
    assert last.history.last["valid/loss"] == pytest.approx(plain.history.last["valid/loss"], rel=1e-5)


def test_channels_last_holds_in_groups_of_updates() -> None:
    class Quiet(Watched):
        def forward(self, x: Tensor) -> Tensor:
            assert x.is_contiguous(memory_format=torch.channels_last)
            out: Tensor = self.last(self.convolution(x).relu().mean((2, 3)))
            return out

    layouts: dict[Literal["channels_last"] | None, torch.memory_format]
    layouts = {None: torch.contiguous_format, "channels_last": torch.channels_last}
    made = {}
    for name in layouts:
        with torch.random.fork_rng(), interpreting():
            torch.manual_seed(0)
            model = Quiet() if name else nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
            trainer = Trainer(
                supervised(nn.CrossEntropyLoss()),
                optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1),
                memory_format=name,
                compile=Updates(3),
                progress=False,
            )
            made[name] = trainer.fit(model, images(), epochs=2, batch_size=4)
    assert made["channels_last"].progress == made[None].progress


@pytest.mark.parametrize(("value", "error"), [("nhwc", ArgumentValueError), (torch.channels_last, ArgumentTypeError)])
def test_another_memory_format_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"memory_format must be 'channels_last', got .* Write memory_format='channels_last'"):
        Trainer(supervised(nn.MSELoss()), optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), memory_format=value)
