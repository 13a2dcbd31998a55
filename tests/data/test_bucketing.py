"""The order by length: every sample once, pure in what it depends on, alike lengths together, compared by a resume."""

from __future__ import annotations

from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from torchflow import Checkpoints, Trainer, data, supervised
from torchflow.data import Bucketed, MaskedLoss, PadBatch, batches_of
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError, MismatchError, TorchflowError
from torchflow.randomness import Keys

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=70)
Wrong: Any = Bucketed


def epoch_of(lengths: list[int], seed: int, epoch: int, size: int, start: int = 0, **options: Any) -> list[list[int]]:
    """The sample indices of every batch of an epoch."""
    dataset = data.from_tensors(torch.arange(len(lengths)))
    pool = options.pop("pool", 50)
    batches = batches_of(dataset, keys=Keys(seed), name="train", batch_size=size, shuffle=Bucketed(lengths, pool=pool), **options)
    return [batch.tolist() for batch in batches.epoch(epoch, start)]


@given(
    lengths=LENGTHS,
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
    size=st.integers(1, 9),
    pool=st.integers(1, 5),
    workers=st.sampled_from([0, 0, 2]),
)
@settings(deadline=None, max_examples=100)
def test_every_sample_comes_once_an_epoch_and_the_order_is_a_pure_function(
    lengths: list[int], seed: int, epoch: int, size: int, pool: int, workers: int
) -> None:
    batches = epoch_of(lengths, seed, epoch, size, pool=pool)
    assert sorted(chain.from_iterable(batches)) == list(range(len(lengths)))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert epoch_of(lengths, seed, epoch, size, pool=pool, workers=workers) == batches
    for start in range(len(batches)):
        assert epoch_of(lengths, seed, epoch, size, start, pool=pool) == batches[start:]


@given(lengths=st.lists(st.integers(0, 30), min_size=24, max_size=70), size=st.integers(2, 9))
@settings(deadline=None, max_examples=60)
def test_in_one_pool_full_batches_do_not_overlap_in_length(lengths: list[int], size: int) -> None:
    """With a pool that holds everything, full batches are the consecutive runs of the sorted lengths."""
    full = [batch for batch in epoch_of(lengths, 1, 0, size) if len(batch) == size][: len(lengths) // size]
    spans = sorted((min(lengths[i] for i in batch), max(lengths[i] for i in batch)) for batch in full)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_batches_come_in_no_order_of_length_and_epochs_differ() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 500, (2_000,), generator=generator).tolist()
    first, second = (epoch_of(lengths, 0, epoch, 20) for epoch in (0, 1))
    assert first != second
    means = torch.tensor([sum(lengths[i] for i in batch) / 20 for batch in first])
    assert not torch.equal(means, means.sort().values)
    assert abs(float(torch.corrcoef(torch.stack((means, torch.arange(100.0))))[0, 1])) < 0.4
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in first)
    plain = data.batches_of(data.from_tensors(torch.arange(2_000)), keys=Keys(0), name="train", batch_size=20)
    shuffled = sum(max(lengths[i] for i in batch.tolist()) * 20 for batch in plain.epoch(0))
    assert padded < 1.1 * sum(lengths)
    assert shuffled > 1.7 * sum(lengths)


def test_who_is_in_the_short_last_batch_has_nothing_to_do_with_length() -> None:
    lengths = list(range(101))
    last = [epoch_of(lengths, 0, epoch, 25)[-1] for epoch in range(300)]
    assert [len(batch) for batch in last] == [1] * 300
    assert 40 < sum(batch[0] for batch in last) / 300 < 60
    assert all(sum(map(len, epoch_of(lengths, 0, epoch, 25, last_batch="drop"))) == 100 for epoch in range(3))
    assert sum(map(len, epoch_of(lengths, 0, 0, 25, last_batch="pad"))) == 125


def test_the_order_is_what_it_was_when_it_was_released() -> None:
    """Golden: a change of these numbers is a new version of the algorithm, for old checkpoints count on them."""
    assert epoch_of([3, 1, 2, 3, 1, 2, 9, 7, 8, 9], seed=0, epoch=1, size=3, pool=2) == GOLDEN


GOLDEN = [[7, 6, 9], [2, 3, 8], [1, 4, 5], [0]]


def test_lengths_are_measured_where_they_are_not_given() -> None:
    texts = data.from_iterable([("a" * length, length % 2) for length in (5, 1, 3, 4, 2)])
    vocabulary = data.Vocabulary("byte").fit(texts)
    measured = Bucketed().over(texts.source, 2)
    given_lengths = Bucketed([5, 1, 3, 4, 2]).over(texts.source, 2)
    encoded = Bucketed().over(texts.map(vocabulary).source, 2)
    assert measured.algorithm == given_lengths.algorithm == encoded.algorithm
    assert Bucketed(torch.tensor([5, 1, 3, 4, 3])).over(texts.source, 2).algorithm != measured.algorithm
    first = data.from_iterable([torch.zeros(length, 4) for length in (2, 3)])
    assert Bucketed(axis=0).over(first.source, 2).algorithm == Bucketed([2, 3]).over(first.source, 2).algorithm
    assert repr(Bucketed()) == "Bucketed(pool=50)"


class Mean(nn.Module):
    """A score for each step of padded numbers (batch, length)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x: Any) -> Tensor:
        scores: Tensor = x.values * self.weight
        return scores


def trained(folder: Path | None, lengths: list[int], *, epochs: int, resume: bool = False, size: int = 4, pool: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    samples = [torch.rand(length, generator=generator, dtype=torch.float64) for length in lengths]
    dataset = data.from_iterable([(x, 3 * x) for x in samples])
    trainer: Trainer[nn.Module, Any] = Trainer(
        supervised(MaskedLoss(nn.MSELoss(reduction="none"))),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
        checkpoints=None if folder is None else Checkpoints(folder),
        progress=False,
    )
    model = Mean()
    trainer.fit(
        model,
        dataset,
        epochs=epochs,
        batch_size=size,
        shuffle=Bucketed(pool=pool),
        collate=PadBatch({0: 0.0, 1: 0.0}),
        resume=resume,
    )
    return model.weight.detach()


def test_a_resumed_run_ends_equal_and_other_lengths_are_refused(tmp_path: Path) -> None:
    lengths = [3, 9, 1, 7, 5, 2, 8, 4, 6, 10]
    whole = trained(None, lengths, epochs=4)
    trained(tmp_path / "run", lengths, epochs=2)
    assert torch.equal(trained(tmp_path / "run", lengths, epochs=4, resume=True), whole)
    changes: list[dict[str, Any]] = [{"lengths": [4, *lengths[1:]]}, {"lengths": lengths, "pool": 3}]
    for options in changes:
        with pytest.raises(MismatchError, match="data/order: stored as 'bucketed/1 pool 2 lengths"):
            trained(tmp_path / "run", epochs=6, resume=True, **options)


def test_validation_stays_in_its_own_order() -> None:
    dataset = data.from_iterable([(torch.ones(length), torch.ones(length)) for length in (2, 1, 3)])
    trainer: Trainer[nn.Module, Any] = Trainer(
        supervised(MaskedLoss(nn.MSELoss(reduction="none"))),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
        progress=False,
    )
    result = trainer.fit(
        Mean(), dataset, epochs=1, shuffle=Bucketed(), collate=PadBatch({0: 0.0, 1: 0.0}), validation=dataset.take(2)
    )
    assert "valid/loss" in result.history.last


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Wrong("abc"), ArgumentTypeError, "lengths must be whole numbers"),
        (lambda: Wrong([1.5]), ArgumentTypeError, "whole numbers in one dimension"),
        (lambda: Wrong(torch.ones(2, 2).int()), ArgumentTypeError, r"got shape \(2, 2\)"),
        (lambda: Wrong([True]), ArgumentTypeError, "torch.bool"),
        (lambda: Wrong([1, -2]), ArgumentValueError, "a length must be at least 0, got -2"),
        (lambda: Wrong(pool=0), ArgumentValueError, "pool must be an int of at least 1"),
        (lambda: Wrong(axis="last"), ArgumentTypeError, "axis must be an int"),
        (lambda: Wrong(field=1.5), ArgumentTypeError, "field must be a position"),
        (
            lambda: over([1]),
            ArgumentValueError,
            "Bucketed has 1 lengths, and the training data 2 samples",
        ),
        (lambda: over(None), DataError, "sample 0 has no length at field 0"),
        (lambda: over(None, random=True), ArgumentValueError, "cannot measure from_iterable.map_random"),
        (lambda: batches_of([1], keys=Keys(0), name="train", shuffle="yes"), ArgumentTypeError, r"Or data.Bucketed\(\)"),  # type: ignore[arg-type]
        (
            lambda: batches_of(iter([1]), keys=Keys(0), name="train", shuffle=Bucketed()),
            ArgumentTypeError,
            "shuffle cannot be given",
        ),
    ],
)
def test_what_has_no_lengths_is_refused(call: Any, error: type[TorchflowError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def over(lengths: list[int] | None, random: bool = False) -> None:
    dataset: data.Dataset[Any] = data.from_iterable([(1, 2), (3, 4)])
    dataset = dataset.map_random(lambda sample, generator: sample) if random else dataset
    batches_of(dataset, keys=Keys(0), name="train", shuffle=Bucketed(lengths))


class Tagger(nn.Module):
    """Class scores (batch, classes, length) of padded ids."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 5, dtype=torch.float64)

    def forward(self, x: Any) -> Tensor:
        scores: Tensor = self.table(x.values)
        return scores.transpose(1, 2)


def with_plain_targets(samples: list[Any]) -> Any:
    """Padded inputs, and targets that a loss with ignore_index reads."""
    x, y = PadBatch({0: 0, 1: -100})(samples)
    return x, y.values


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
def test_padding_never_counts_with_an_index_to_ignore_however_samples_fall_into_batches(batch_size: int) -> None:
    generator = torch.Generator().manual_seed(3)
    ids = [torch.randint(0, 5, (length,), generator=generator) for length in (1, 8, 2, 5, 3, 1, 4)]
    ragged = data.from_iterable([(part, part.flip(0)) for part in ids])
    whole, targets = torch.cat(ids), torch.cat([part.flip(0) for part in ids])
    model = Tagger()
    start = model.table.weight.detach().clone().requires_grad_()
    together = nn.functional.cross_entropy(start[whole], targets)
    together.backward()
    assert start.grad is not None
    trainer: Trainer[nn.Module, Any] = Trainer(
        supervised(nn.CrossEntropyLoss(ignore_index=-100)),
        optimizer=lambda m: torch.optim.SGD(m.parameters(), lr=1.0),
        accumulate=7,
        progress=False,
    )
    found = trainer.evaluate(model, ragged, batch_size=batch_size, collate=with_plain_targets)["loss"]
    assert found == pytest.approx(together.item(), rel=1e-12)
    trainer.fit(model, ragged, epochs=1, batch_size=batch_size, shuffle=Bucketed(), collate=with_plain_targets)
    assert torch.allclose(model.table.weight.detach(), start.detach() - start.grad, rtol=1e-12, atol=1e-12)
