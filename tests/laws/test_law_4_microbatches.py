"""Law 4 for microbatches: a batch that goes through the step in pieces gives the update of the whole, however it is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.laws.problems import OPTIMIZERS, copied, difference, dropout_network, numbers, small_network, table
from tests.laws.test_law_4_accumulation import Kept, largest_difference
from torchflow import Outputs, Run, Trainer, events, metrics, supervised, update

pytestmark = pytest.mark.filterwarnings("ignore:the loss grows")  # a drawn run may diverge

F64 = torch.float64


def of_scalars(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Outputs:
    """A step that gives its metrics as means over its own count."""
    predictions, mask = model(batch[0]), batch[1][:, 0] > 0
    errors = (predictions - batch[1]).square()[:, 0]
    count = mask.sum()
    return Outputs((errors * mask).sum() / count, count, {"error": ((predictions - batch[1]).abs()[:, 0] * mask).sum() / count})


def updated(
    step: Any, model: nn.Module, window: list[tuple[Tensor, ...]], microbatch: Any, **options: Any
) -> tuple[Run[Any, Any], Any, Kept]:
    """One update of a window; the run, the event and the gradients."""
    kept = Kept()
    trainer = Trainer(
        step,
        optimizer=OPTIMIZERS["SGD"],
        accumulate=len(window),
        microbatch=microbatch,
        callbacks=[kept],
        progress=False,
        **options,
    )
    run = trainer.start(model, window[0], batch_size=len(window[0][0]))
    return run, update(run, list(window)), kept


def windows(columns: tuple[Tensor, ...], sizes: list[int]) -> list[tuple[Tensor, ...]]:
    return [tuple(part) for part in zip(*(column.split(sizes) for column in columns), strict=True)]


def values_of(run: Run[Any, Any]) -> list[Tensor]:
    return [parameter.detach() for parameter in run.model.parameters()]


def assert_same_update(one: tuple[Run[Any, Any], Any, Kept], other: tuple[Run[Any, Any], Any, Kept]) -> None:
    (run, stepped, kept), (reference, expected, whole) = one, other
    assert largest_difference(kept.gradients, whole.gradients) < 1e-12
    assert largest_difference(values_of(run), values_of(reference)) < 1e-12
    torch.testing.assert_close(kept.norm, whole.norm, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(stepped.loss, expected.loss, rtol=1e-12, atol=1e-12)
    assert float(stepped.count) == pytest.approx(float(expected.count), rel=1e-12)
    assert dict(stepped.metrics).keys() == dict(expected.metrics).keys()
    for name, value in stepped.metrics.items():
        torch.testing.assert_close(value, expected.metrics[name], rtol=1e-12, atol=1e-12)
    assert run.averages.compute() == pytest.approx(reference.averages.compute(), rel=1e-11, abs=1e-12, nan_ok=True)
    assert run.progress == reference.progress


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    microbatch=st.integers(1, 10),
    seed=st.integers(0, 1000),
    scalars=st.booleans(),
    clip=st.sampled_from([{}, {"clip_norm": 0.5}, {"clip_norm": 0.5, "clip_value": 0.1}]),
)
def test_any_cut_is_the_update_of_the_whole(
    sizes: list[int], microbatch: int, seed: int, scalars: bool, clip: dict[str, float]
) -> None:
    """The gradient, its norm before clipping, the step, the loss, the count, every metric and all averages.

    Seen to fail when each piece's loss goes backward by itself, without its count, and when pieces in which nothing counts go backward.
    """
    columns = table(sum(sizes), 2, seed, F64)
    if scalars:  # some samples do not count; the first of each batch does
        targets = columns[1]
        targets[[int(start) for start in torch.tensor([0, *sizes[:-1]]).cumsum(0)]] = 1.5
        step: Any = of_scalars
    else:
        step = supervised(nn.MSELoss(), metrics={"error": metrics.absolute_error, "r2": metrics.R2()})
    window = windows(columns, sizes)
    model = lambda: small_network(2, seed, F64)  # noqa: E731
    assert_same_update(updated(step, model(), window, microbatch, **clip), updated(step, model(), window, None, **clip))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=3),
    microbatch=st.integers(1, 9),
    seed=st.integers(0, 1000),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_pieces_whose_targets_are_all_ignored_have_no_share(
    sizes: list[int], microbatch: int, seed: int, weighted: bool, reduction: str
) -> None:
    """The mean over no target is NaN; that of the whole batch is not.

    Seen to fail when a piece without a count is averaged.
    """
    rows = sum(sizes)
    x, targets = numbers((rows, 3), seed, F64), (numbers((rows,), seed + 1).abs() * 10).long() % 4
    targets[targets == 3] = -100
    first = [int(start) for start in torch.tensor([0, *sizes[:-1]]).cumsum(0)]
    targets[first] = targets[first].clamp(min=0)
    weight = torch.tensor([0.5, 2.0, 1.5], dtype=F64) if weighted else None
    step = supervised(nn.CrossEntropyLoss(weight=weight, reduction=reduction), metrics={"error": lambda p, t: p.square().sum(1)})
    model = lambda: small_network(3, seed, F64)[0]  # type: ignore[index]  # noqa: E731  # its first layer, (batch, 3) to (batch, 5)
    window = windows((x, targets.clamp(max=4)), sizes)
    if weight is not None:
        step = supervised(nn.CrossEntropyLoss(weight=torch.cat((weight, weight[:2])), reduction=reduction))
    assert_same_update(updated(step, model(), window, microbatch), updated(step, model(), window, None))


@settings(max_examples=20, deadline=None)
@given(
    size=st.integers(1, 4),
    pieces=st.integers(1, 4),
    batches=st.integers(1, 4),
    epochs=st.integers(1, 2),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    seed=st.integers(0, 1000),
)
def test_pieces_of_a_size_are_accumulated_batches_of_that_size(
    size: int, pieces: int, batches: int, epochs: int, optimizer: str, seed: int
) -> None:
    """To the bit, with every optimizer, L-BFGS's closures included: the same samples meet in the same sums.

    Seen to fail when the total is not the sum of the counts.
    """
    columns = table(size * pieces * batches, 2, seed)

    def trained(batch_size: int, **options: Any) -> Any:
        trainer = Trainer(supervised(nn.MSELoss()), optimizer=OPTIMIZERS[optimizer], progress=False, seed=seed, **options)
        result = trainer.fit(small_network(2, seed), columns, epochs=epochs, batch_size=batch_size)
        return dict(result.model.named_parameters()), result.history.last

    cut = trained(size * pieces, microbatch=size)
    assert difference(cut, trained(size, accumulate=pieces)) is None


@settings(max_examples=20, deadline=None)
@given(
    rows=st.integers(4, 20),
    batch_size=st.integers(2, 4),
    accumulate=st.integers(1, 3),
    microbatch=st.one_of(st.integers(6, 9), st.just("auto")),
    precision=st.sampled_from(["float32", "bf16", "fp16"]),
    seed=st.integers(0, 2**63 - 1),
)
def test_where_nothing_has_to_be_cut_the_run_is_that_without(
    rows: int, batch_size: int, accumulate: int, microbatch: Any, precision: str, seed: int
) -> None:
    """To the bit, with dropout and batch normalisation.

    Seen to fail when a batch that is small enough is weighed by its count.
    """

    def trained(choice: Any) -> Any:
        trainer = Trainer(
            supervised(nn.MSELoss()),
            optimizer=OPTIMIZERS["Adam"],
            accumulate=accumulate,
            microbatch=choice,
            precision=precision,
            progress=False,
            seed=seed,
        )
        run = trainer.start(dropout_network(3), table(rows, 3), batch_size=batch_size, last_batch="drop", validation=table(5, 3))
        for _ in events(run, epochs=2):
            pass
        return {name: value for name, value in copied(run.state()).items() if name != "microbatch"}

    assert difference(trained(microbatch), trained(None)) is None
