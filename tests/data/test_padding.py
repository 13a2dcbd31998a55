from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from torchflow import Trainer, data, supervised
from torchflow.data import MaskedLoss, PadBatch, Padded
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, RaggedBatchError, StepError

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=5)


@settings(deadline=None)
@given(LENGTHS, st.integers(1, 4), st.sampled_from([0, 1, 2]))
def test_what_is_real_is_kept_and_what_is_filled_is_masked(lengths: list[int], multiple: int, axis: int) -> None:
    shapes = [[2, 3] for _ in lengths]
    for shape, length in zip(shapes, lengths, strict=True):
        shape.insert(axis, length)
    samples = [torch.rand(shape) + 1 for shape in shapes]
    batch = PadBatch({None: -1.0}, axis=axis, multiple=multiple)(samples)
    longest = batch.mask.shape[1]
    assert longest == -(-max(lengths) // multiple) * multiple
    assert batch.lengths.tolist() == lengths
    assert batch.mask.tolist() == [[place < length for place in range(longest)] for length in lengths]
    for values, sample, length in zip(batch.values, samples, lengths, strict=True):
        assert torch.equal(values.narrow(axis, 0, length), sample)
        assert (values.narrow(axis, length, longest - length) == -1).all()


def test_other_parts_are_put_together_as_always() -> None:
    samples: list[Any] = [{"x": torch.ones(1, n), "y": torch.arange(n), "name": f"n{n}", "label": n} for n in (2, 3)]
    batch = PadBatch({"x": 0.5, "y": -100}, length=4)(samples)
    assert batch["x"].values.tolist() == [[[1, 1, 0.5, 0.5]], [[1, 1, 1, 0.5]]]
    assert batch["y"].values.tolist() == [[0, 1, -100, -100], [0, 1, 2, -100]]
    assert batch["y"].values.dtype == torch.int64
    assert batch["label"].tolist() == [2, 3]
    assert batch["name"] == ["n2", "n3"]
    assert samples[0]["x"].shape == (1, 2), "the samples stay as they were"


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "parts": (lambda: PadBatch([0]), ArgumentTypeError, r"parts must be a mapping such as \{0: 0\.0\}"),  # type: ignore[arg-type]
    "no parts": (lambda: PadBatch({}), ArgumentTypeError, r"parts must be a mapping"),
    "a fill": (lambda: PadBatch({0: "x"}), ArgumentTypeError, r"parts\[0\] must be a number"),  # type: ignore[dict-item]
    "a field": (lambda: PadBatch({1.5: 0}), ArgumentTypeError, r"field must be a position"),  # type: ignore[dict-item]
    "the whole and a part": (lambda: PadBatch({None: 0, 1: 0}), ArgumentValueError, r"beside parts of it"),
    "axis": (lambda: PadBatch(axis=True), ArgumentTypeError, r"axis must be an int"),
    "length": (lambda: PadBatch(length=0), ArgumentValueError, r"length must be an int of at least 1"),
    "multiple": (lambda: PadBatch(multiple=0), ArgumentValueError, r"multiple must be"),
    "no samples": (lambda: PadBatch()([]), DataError, r"at least one"),
    "no tensor": (
        lambda: PadBatch({None: 0})(["text"]),
        DataError,
        r"needs a tensor .* the sample, got 'text' \(str\) in sample 0",
    ),
    "no dimension": (lambda: PadBatch({None: 0})([torch.ones(())]), DataError, r"dimension -1 at the sample, got shape \(\)"),
    "no such part": (lambda: PadBatch({2: 0})([(1, 2)]), DataError, r"no field 2"),
    "other shapes": (
        lambda: PadBatch({None: 0})([torch.ones(1, 2), torch.ones(2, 2)]),
        RaggedBatchError,
        r"samples 0 and 1 .* \(1, 2\) torch.float32 in one and \(2, 2\) torch.float32 in the other, and only dimension 1 may differ",
    ),
    "other dtypes": (lambda: PadBatch({None: 0})([torch.ones(1), torch.arange(1)]), RaggedBatchError, r"float32 .* torch.int64"),
    "too long": (
        lambda: PadBatch({None: 0}, length=2)([torch.ones(3)]),
        RaggedBatchError,
        r"3 steps .*more than PadBatch\(length=2\)",
    ),
    "a reduced loss": (lambda: MaskedLoss(nn.MSELoss()), ArgumentValueError, r'MSELoss\(reduction="none"\)'),
    "no loss": (lambda: MaskedLoss("mse"), ArgumentTypeError, r"loss must be a function"),  # type: ignore[arg-type]
    "a loss's axis": (lambda: MaskedLoss(nn.MSELoss(reduction="none"), axis=1.0), ArgumentTypeError, "axis"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_padding_is_refused(wrong: str) -> None:
    call, error, message = WRONG[wrong]
    with pytest.raises(error, match=message):
        call()


def test_a_loss_without_a_value_for_each_step_is_refused() -> None:
    targets = PadBatch({None: 0.0})([torch.ones(2), torch.ones(3)])
    with pytest.raises(StepError, match=r"shape \(batch, \.\.\., longest\) = \(2, 3\), got shape \(\)"):
        MaskedLoss(lambda p, t: (p - t).square().mean())(torch.zeros(2, 3), targets)
    with pytest.raises(StepError, match="PadBatch padded"):
        MaskedLoss(nn.MSELoss(reduction="none"))(torch.zeros(2, 3), targets.values)


@settings(deadline=None)
@given(LENGTHS.filter(any), st.sampled_from(["flat", "channels first", "channels last"]))
def test_a_masked_loss_is_the_mean_over_real_steps(lengths: list[int], layout: str) -> None:
    inner = {"flat": (), "channels first": (2,), "channels last": (2,)}[layout]
    axis = 1 if layout == "channels last" else -1
    shape = (lambda n: (n, *inner)) if axis == 1 else (lambda n: (*inner, n))
    real = [torch.rand(shape(n), dtype=torch.float64) for n in lengths]
    targets = PadBatch({None: float(10**6)}, axis=0 if axis == 1 else -1)(real)
    predictions = torch.rand_like(targets.values)
    rows = [p.narrow(0 if axis == 1 else -1, 0, n) for p, n in zip(predictions, lengths, strict=True)]
    expected = torch.cat([(p - r).square().flatten() for p, r in zip(rows, real, strict=True)]).mean()
    loss = MaskedLoss(nn.MSELoss(reduction="none"), axis=axis)
    torch.testing.assert_close(loss(predictions, targets), expected)
    assert loss.count(predictions, targets).item() == sum(lengths)


def test_nothing_comes_back_from_the_filling() -> None:
    targets = PadBatch({None: float(10**30)})([torch.ones(1), torch.ones(3)])
    predictions = torch.zeros(2, 3, requires_grad=True)
    MaskedLoss(nn.L1Loss(reduction="none"))(predictions, targets).backward()
    gradient = predictions.grad
    assert gradient is not None
    assert (gradient[~targets.mask] == 0).all()
    assert (gradient[targets.mask] == -0.25).all()


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((), 0.5, dtype=torch.float64))

    def forward(self, inputs: Padded) -> Tensor:
        """Return predictions (batch, longest)."""
        return inputs.values * self.weight


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 7), st.integers(1, 3))
def test_padding_never_counts_however_samples_fall_into_batches(batch_size: int, accumulate: int) -> None:
    lengths = [1, 5, 2, 2, 7, 3, 1]
    pairs = [(torch.arange(1.0, n + 1, dtype=torch.float64), torch.arange(n, dtype=torch.float64)) for n in lengths]
    samples: Any = data.from_iterable(pairs)
    pad = PadBatch({0: 99.0, 1: -99.0})
    step = supervised(MaskedLoss(nn.MSELoss(reduction="none")))
    trainer: Any = Trainer(step, optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=0.1), accumulate=accumulate, progress=False)
    x, y = (torch.cat(part) for part in zip(*pairs, strict=True))
    found = trainer.evaluate(Scale(), samples, batch_size=batch_size, collate=pad)["loss"]
    assert found == pytest.approx((0.5 * x - y).square().mean().item(), rel=1e-12)
    if batch_size * accumulate >= len(pairs):  # one update: gradients accumulate to that of all real steps
        model = Scale()
        trainer.fit(model, samples, max_updates=1, batch_size=batch_size, collate=pad)
        gradient = (2 * (0.5 * x - y) * x).mean().item()
        assert model.weight.item() == pytest.approx(0.5 - 0.1 * gradient, rel=1e-12)
