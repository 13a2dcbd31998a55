"""Updates that are loops alone. What is compiled here is compiled for real; a graph of torch's is the measure."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from tests.laws.problems import OPTIMIZERS, difference, dropout_network, numbers, table, with_weights
from torchflow import Schedule, Trainer, Updates, metrics, supervised
from torchflow.compiled import machine, replay
from torchflow.compiled.machine import _fakes
from torchflow.compiled.replay import replayed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch, for its own compiler

PYBINDING = "torch._inductor.async_compile.AsyncCompile.cpp_pybinding"


def graph_of(update: Callable[..., list[Tensor]], examples: Sequence[Tensor]) -> tuple[Any, list[Any]]:
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415  (imports the compiler)

    first = _fakes(examples, [])
    with torch.no_grad():
        return make_fx(update, tracing_mode="fake")(*first), first


def by_hand(
    update: Callable[..., list[Tensor]], carried: Sequence[Tensor], stacked: Sequence[Tensor], known: Sequence[Tensor]
) -> Any:
    """Return new values and stacked reports, made one update after the other."""
    values, reports = list(carried), []
    for number in range(len(stacked[0])):
        made = update(*values, *(leaf[number] for leaf in stacked), *known)
        values, now = made[: len(values)], made[len(values) :]
        reports.append(now)
    return [*values, *(torch.stack(column) for column in zip(*reports, strict=True))]


def descent(weight: Tensor, count: Tensor, x: Tensor, y: Tensor, scale: Tensor) -> list[Tensor]:
    """One step of a line, with a counter, a mean and a value a sample."""
    error = (x * weight).sum(1) - y
    gradient = (error.unsqueeze(1) * x).mean(0) * scale
    return [weight - gradient, count + 1, error.square().mean(), error.abs()]


def examples() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Return what is carried, what differs and what is known, of seven updates."""
    return [numbers((3,), 0), torch.tensor(0)], [numbers((7, 5, 3), 1), numbers((7, 5), 2)], [torch.tensor([0.1, 0.2, 0.3])]


def replay_of(update: Callable[..., list[Tensor]], carried: Any, stacked: Any, known: Any) -> Any:
    graph, first = graph_of(update, [*carried, *(leaf[0] for leaf in stacked), *known])
    with torch.no_grad():
        return replayed(graph, first, len(carried), len(stacked), {})


@pytest.fixture(scope="module")
def line() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = replay_of(descent, *examples())
    assert made is not None
    return made


@pytest.mark.parametrize("updates", [1, 2, 7])
def test_a_replay_makes_any_number_of_updates_and_changes_nothing_that_it_is_given(line: Any, updates: int) -> None:
    """Seen to fail where a leaf does not move on from update to update, and where new values stay in the old ones' place."""
    carried, stacked, known = examples()
    stacked = [leaf[:updates] for leaf in stacked]
    given = [*carried, *known, *stacked]
    before = [tensor.clone() for tensor in given]
    for _ in range(2):  # the second call begins where the first began
        made = line(given)
        torch.testing.assert_close(made, by_hand(descent, carried, stacked, known), rtol=1e-6, atol=1e-6)
    assert difference(given, before) is None


def test_reports_belong_to_whoever_asked(line: Any) -> None:
    carried, stacked, known = examples()
    first = line([*carried, *known, *stacked])[2:]
    kept = [report.clone() for report in first]
    line([*carried, *known, *[leaf + 1 for leaf in stacked]])
    assert difference(first, kept) is None


def test_numbers_that_lie_otherwise_are_the_same_numbers(line: Any) -> None:
    """Seen to fail where strides are not looked at."""
    carried, stacked, known = examples()
    odd = [numbers((6,), 0)[::2].copy_(carried[0]), carried[1]]
    turned = [stacked[0].permute(0, 2, 1).contiguous().permute(0, 2, 1), stacked[1]]
    strided = [torch.stack([leaf, leaf], 1)[:, 0] for leaf in stacked]
    expected = line([*carried, *known, *stacked])
    for given in ([*odd, *known, *turned], [*carried, torch.stack([known[0]] * 2, 1)[:, 0], *strided]):
        assert not all(tensor.is_contiguous() for tensor in given)
        assert difference(line(given), expected) is None


def test_other_threads_run_meanwhile(line: Any) -> None:
    carried, stacked, known = examples()
    counted, over = [0], threading.Event()

    def count() -> None:
        while not over.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    many = [leaf.repeat(300_000, *[1] * (leaf.ndim - 1)) for leaf in stacked]
    thread.start()
    try:
        before = counted[0]
        line([*carried, *known, *many])
        assert counted[0] > before + 1000
    finally:
        over.set()
        thread.join()


def test_loops_that_nobody_writes_down_compute() -> None:
    """Somebody else may come by them through a cache of the compiler's. Seen to fail where they do nothing then."""
    from torch._inductor.async_compile import AsyncCompile  # noqa: PLC0415  (the compiler takes a second to import)

    carried, stacked, known = examples()
    each = [*carried, *(leaf[0] for leaf in stacked), *known]
    compile_before = AsyncCompile.cpp_pybinding
    graph, first = graph_of(descent, each)
    with torch.no_grad():
        update = replay._written_down(graph, first, {})
    assert AsyncCompile.cpp_pybinding is compile_before
    for place, value in zip(update.inputs, each, strict=True):
        place.copy_(value)
    for loops, arguments in update.calls:
        loops(*arguments)
    torch.testing.assert_close(update.outputs, descent(*each), rtol=1e-6, atol=1e-6)


def swapped(a: Tensor, b: Tensor, x: Tensor) -> list[Tensor]:
    return [b, a + x, (a * x).sum()]


def with_a_product(a: Tensor, b: Tensor, x: Tensor) -> list[Tensor]:
    return [a @ b.t(), b + x, x.sum()]


def that_sorts(a: Tensor, b: Tensor, x: Tensor) -> list[Tensor]:
    return [a + x.flatten().topk(4).values.reshape(2, 2), b + 1, x.sum()]


@pytest.mark.parametrize("update", [swapped, with_a_product, that_sorts])
def test_what_is_more_than_loops_is_left_to_torchs_own(update: Any) -> None:
    graph, first = graph_of(update, [numbers((2, 2), seed) for seed in range(3)])
    before = graph.code
    with torch.no_grad():
        assert replayed(graph, first, 2, 1, {}) is None
    assert graph.code == before  # which torch's own loop is made of now


def test_large_updates_are_left_to_torchs_own() -> None:
    large = [torch.zeros(replay.SMALL), torch.zeros(1, 3)]
    assert replay_of(lambda w, x: [w + x.sum(), x.sum()], large[:1], large[1:], []) is None


def test_a_torch_that_lacks_the_private_parts_has_no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(PYBINDING)
    assert replay_of(descent, *examples()) is None


def test_a_run_is_replayed_and_ends_where_torchs_own_loop_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts of the step's own, class weights, metrics, clipping, accumulation, moving rates and moments, in float64."""
    inputs, labels = numbers((42, 4), 0, torch.float64), torch.arange(42) % 3
    labels[::4] = -100
    weights = torch.tensor([0.2, 1.0, 2.0], dtype=torch.float64)
    asked: list[bool] = []

    def trained() -> Any:
        trainer = Trainer(
            supervised(nn.CrossEntropyLoss(weight=weights), metrics={"top": metrics.accuracy}),
            optimizer=OPTIMIZERS["Adam"],
            scheduler=Schedule(lambda optimizer, plan: CosineAnnealingLR(optimizer, T_max=9)),
            clip_norm=0.5,
            accumulate=2,
            progress=False,
            compile=Updates(3),
        )
        return trainer.fit(with_weights(nn.Linear(4, 3), 0, torch.float64), (inputs, labels), epochs=2, batch_size=4)

    def looked_at(*arguments: Any) -> Any:
        made = replayed(*arguments)
        asked.append(made is not None)
        return made

    monkeypatch.setattr(machine, "replayed", looked_at)
    short = trained()
    monkeypatch.setattr(machine, "replayed", lambda *arguments: None)
    long = trained()
    assert asked == [True]
    for name, value in short.model.state_dict().items():
        torch.testing.assert_close(value, long.model.state_dict()[name], rtol=0, atol=1e-12)
    for row, other in zip(short.history.rows, long.history.rows, strict=True):
        assert row == pytest.approx(other, rel=1e-12)


def test_dropout_is_left_to_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def looked_at(*arguments: Any) -> Any:
        asked.append(replayed(*arguments))

    monkeypatch.setattr(machine, "replayed", looked_at)
    monkeypatch.setattr(machine, "_compiled", lambda *arguments: 1 / 0)  # nothing is compiled, and the run goes on without
    trainer = Trainer(supervised(nn.MSELoss()), optimizer=OPTIMIZERS["SGD"], progress=False, compile=True)
    trainer.fit(dropout_network(3), table(24, 3), epochs=1, batch_size=4)
    assert asked == [None]
