"""Law 4. Any uneven split of a batch gives the gradient of the whole, for losses that are means over samples."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.laws.problems import numbers, small_network, table
from torchflow import Callback, Gradients, Run, Trainer, supervised, update

F64 = torch.float64


class Kept(Callback):
    """Keeps the gradients of the last update."""

    def __init__(self) -> None:
        self.gradients: list[Tensor] = []
        self.norm: Tensor | None = None

    def on_gradients(self, run: Run[Any, Any], event: Gradients) -> None:
        self.gradients = [p.grad.clone() for p in run.parameters if p.grad is not None]
        self.norm = event.norm


def gradients_of(step: Any, model: nn.Module, columns: tuple[Tensor, ...], sizes: list[int]) -> list[Tensor]:
    """The gradients that one update of these uneven batches makes."""
    kept = Kept()
    trainer = Trainer(
        step, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), accumulate=len(sizes), callbacks=[kept], progress=False
    )
    run = trainer.start(model, columns, batch_size=len(columns[0]))
    parts = zip(*(column.split(sizes) for column in columns), strict=True)
    update(run, [tuple(part) for part in parts])
    return kept.gradients


def largest_difference(one: list[Tensor], other: list[Tensor]) -> float:
    scale = max(float(g.abs().max()) for g in other)
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True)) / max(scale, 1e-300)


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), features=st.integers(1, 4), seed=st.integers(0, 1000))
def test_an_uneven_split_gives_the_gradient_of_the_whole(sizes: list[int], features: int, seed: int) -> None:
    """Seen to fail when the mean of the parts' means takes the place of the mean weighted by counts."""
    columns = table(sum(sizes), features, seed, F64)
    step = supervised(nn.MSELoss())
    whole = gradients_of(step, small_network(features, seed, F64), columns, [sum(sizes)])
    split = gradients_of(step, small_network(features, seed, F64), columns, sizes)
    assert largest_difference(split, whole) < 1e-12


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    seed=st.integers(0, 1000),
    weighted=st.booleans(),
    reduction=st.sampled_from(["mean", "sum", "none"]),
)
def test_ignored_targets_and_class_weights_count_as_torch_counts_them(
    sizes: list[int], seed: int, weighted: bool, reduction: str
) -> None:
    """Seen to fail when every target counts 1, ignored or not."""
    rows = sum(sizes)
    x = numbers((rows, 3), seed, F64)
    targets = (numbers((rows,), seed + 1).abs() * 10).long() % 4
    first = [int(start) for start in torch.tensor([0, *sizes[:-1]]).cumsum(0)]
    targets[targets == 3] = -100
    targets[first] = targets[first].clamp(min=0)  # every part keeps a target: the mean over none is undefined
    weight = torch.tensor([0.5, 2.0, 1.5], dtype=F64) if weighted else None
    step = supervised(nn.CrossEntropyLoss(weight=weight, reduction=reduction))
    mean = nn.CrossEntropyLoss(weight=weight)
    model, reference = nn.Linear(3, 3, dtype=F64), nn.Linear(3, 3, dtype=F64)
    reference.load_state_dict(model.state_dict())
    mean(reference(x), targets).backward()
    expected = [p.grad for p in reference.parameters() if p.grad is not None]
    assert largest_difference(gradients_of(step, model, (x, targets), sizes), expected) < 1e-12


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 40),
    batch_size=st.integers(1, 7),
    accumulate=st.integers(1, 5),
    epochs=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_training_with_accumulation_is_training_on_larger_batches(
    rows: int, batch_size: int, accumulate: int, epochs: int, seed: int
) -> None:
    """The last, short window of every epoch included; the number of updates is the sum of ⌈batches / accumulate⌉.

    Seen to fail when the last window is divided by the count of a full one.
    """
    columns = table(rows, 2, seed, F64)

    def trained(size: int, window: int) -> tuple[nn.Module, int]:
        trainer = Trainer(
            supervised(nn.MSELoss()),
            optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.05),
            accumulate=window,
            progress=False,
        )
        result = trainer.fit(small_network(2, seed, F64), columns, epochs=epochs, batch_size=size)
        return result.model, result.progress.updates

    (small, small_updates), (large, large_updates) = trained(batch_size, accumulate), trained(batch_size * accumulate, 1)
    batches = -(-rows // batch_size)
    assert small_updates == large_updates == epochs * -(-batches // accumulate)
    for one, other in zip(small.parameters(), large.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
