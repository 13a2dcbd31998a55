"""Laws 4 and 5 over options that are drawn together, compiled updates, and what the library refuses to put together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.compiled.interpreter import interpreting
from tests.laws.choices_drawn import Drawn
from tests.laws.drawing_choices import EVERYTHING, TOGETHER, refusal
from tests.laws.drawn_runs import QUIET, drawing, fitted
from torchflow import Callback, Every, Updates
from torchflow.data.batches import batches_of
from torchflow.precision import as_written
from torchflow.randomness import Keys

pytestmark = QUIET


class Batches:
    """Batches that are already made, as many in every epoch."""

    def __init__(self, batches: list[Any]) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


class Gradients(Callback):
    """Keeps the gradients of every update, as the optimizer is given them."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def on_gradients(self, run: Any, event: Any) -> None:
        self.kept.append(torch.cat([p.grad.reshape(-1) for p in run.parameters if p.grad is not None]))


SMOOTH = ("SGD", "momentum", "Adam", "AdamW", "layer wise", "two")
AVERAGED = EVERYTHING.filter(lambda drawn: drawn.optimizer in SMOOTH and drawn.step != "mixing").map(
    lambda drawn: replace(
        drawn,
        network="plain",
        precision="float64",
        damaged=False,
        size=1.0,
        last_batch="keep",
        workers=0,
        validations=0,
        memory_format=None,
        schedule="by updates" if drawn.schedule.startswith("plateau") else drawn.schedule,  # a rule with a threshold may tip over
        changing=tuple(name for name in drawn.changing if not name.startswith("stopping")),
        watching=(),
    )
)


@drawing(0.5)
@given(drawn=AVERAGED, sizes=st.lists(st.lists(st.integers(1, 5), min_size=3, max_size=3), min_size=1, max_size=3))
def test_uneven_splits_give_the_gradient_of_the_whole(drawn: Drawn, sizes: list[list[int]]) -> None:
    """Law 4, in float64: each window of uneven batches is an update of one large batch, clipped, scheduled, averaged and frozen alike.

    Seen to fail when the losses of a window are added up without their counts, and when they are divided by the number of samples
    where the loss is the mean over something else.
    """
    rows = sum(map(sum, sizes))
    parts = [column.split([size for window in sizes for size in window]) for column in drawn.columns(rows)]
    small = [tuple(part.clone() for part in batch) for batch in zip(*parts, strict=True)]
    large = [tuple(map(torch.cat, zip(*small[first : first + 3], strict=True))) for first in range(0, len(small), 3)]
    drawn = replace(drawn, rows=3 * len(sizes), batch_size=1, accumulate=3)  # so many updates
    if refusal(drawn) is not None:
        drawn = replace(drawn, schedule="none", changing=("ema", "unfreeze"), recomputed=None)
    gradients, models = [], []
    for batches, accumulate in ((small, 3), (large, 1)):
        seen, made = Gradients(), replace(drawn, accumulate=accumulate)
        with TemporaryDirectory() as folder:
            trainer = made.trainer(Path(folder), more={"seen": seen})
            models.append(trainer.fit(made.model(), Batches(batches), epochs=drawn.epochs).model)
        gradients.append(seen.kept)
    assert len(gradients[0]) == len(gradients[1]) == drawn.epochs * len(sizes)
    for number, (one, other) in enumerate(zip(*gradients, strict=True)):
        scale = max(float(other.abs().max()), 1e-3)
        assert float((one - other).abs().max()) <= (1e-12 if number == 0 else 1e-7) * scale, number
    for one, other in zip(*(model.state_dict().values() for model in models), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)


class Order(Callback):
    """Gathers, at every update, the samples that it was made of: one that evaluates its window several times sees each once."""

    def __init__(self) -> None:
        self.indices: list[int] = []
        self.inputs: list[Tensor] = []
        self._samples = 0

    def on_step_end(self, run: Any, event: Any) -> None:
        seen: list[tuple[Tensor, Tensor]] = as_written(run.step).seen
        count, self._samples = event.progress.samples - self._samples, event.progress.samples
        self.indices += torch.cat([indices for indices, _ in seen])[:count].tolist()
        self.inputs += torch.cat([x for _, x in seen])[:count]
        seen.clear()


@drawing(0.7)
@given(drawn=TOGETHER)
def test_the_samples_are_those_of_the_seed_whatever_else_is_chosen(drawn: Drawn) -> None:
    """Law 5: their order, their cut into batches and their augmentation know of no option but the data's own.

    Seen to fail when the key of the order holds how many batches are accumulated.
    """
    with TemporaryDirectory() as folder:
        order = Order()
        result, _ = fitted(drawn, Path(folder), more={"order": order})
    plain = Drawn(rows=drawn.rows, random=drawn.random, damaged=drawn.damaged, size=drawn.size, network=drawn.network)
    source = batches_of(
        plain.train(), keys=Keys(drawn.seed), name="train", batch_size=drawn.batch_size, last_batch=drawn.last_batch
    )
    made = result.progress.epoch * drawn.batches + result.progress.batch
    expected = [batch for epoch in range(drawn.epochs) for batch in source.epoch(epoch)][:made]
    assert order.indices == torch.cat([numbers for _, _, numbers in expected]).tolist()
    wanted = torch.cat([inputs for inputs, _, _ in expected])
    assert torch.equal(torch.stack(order.inputs).float().nan_to_num(7.5), wanted.nan_to_num(7.5))
    first = torch.cat([numbers for _, _, numbers in expected[: drawn.batches]]).tolist()
    whole = next(batches_of(plain.train(), keys=Keys(drawn.seed), name="train", batch_size=drawn.rows).epoch(0))[2].tolist()
    assert first[: drawn.rows] == whole[: len(first)]


def conflicts(drawn: Drawn) -> list[str]:
    """What a reader of the documentation would not put together, each as a pattern of what the library says."""
    changing, freezing = drawn.changing, [name for name in drawn.changing if "freeze" in name]
    listening = drawn.schedule == "plateau" or "stopping" in changing
    needed = {"warm up": 3, "one cycle": 7}.get(drawn.schedule, 0)
    rules = {
        "compares them with each other": drawn.optimizer == "L-BFGS" and drawn.precision == "fp16",
        "takes every gradient as one row": drawn.optimizer == "L-BFGS"
        and drawn.network == "image"
        and drawn.memory_format is not None,
        "needs a stream named 'valid'": listening and drawn.validations == 0,
        "two callbacks decide about": len(freezing) > 1,
        "matches no parameter": "unfreeze of epochs" in changing and drawn.network == "plain",
        "are too few to rise|none is left to fall": drawn.updates < needed,
        "leaves none of train": drawn.last_batch == "drop" and drawn.rows < drawn.batch_size,
        "cuts batches into pieces": drawn.compile is not False and drawn.microbatch is not None,
        "scales every loss": drawn.compile is not False and drawn.precision == "fp16",
        "has no effect in compiled updates": drawn.compile is not False and drawn.recomputed is not None,
        "EMA averages every": isinstance(drawn.compile, Updates)
        and bool({"ema", "ema warming", "average"} & {*changing, *drawn.watching}),
        "SWA averages every": drawn.compile == Updates(2) and "swa" in changing,
    }
    return [said for said, there in rules.items() if there]


@drawing(2)
@given(drawn=EVERYTHING, compile=st.sampled_from([False, False, True, Updates(2), Updates(3)]))
def test_what_does_not_go_together_is_refused_and_nothing_else(drawn: Drawn, compile: Any) -> None:
    """The library's refusals are those of the table, and come before the run begins.

    Seen to fail when recomputed modules in compiled updates are let through, and L-BFGS in channels_last.
    """
    drawn = replace(drawn, compile=compile)
    expected = conflicts(drawn)
    said = refusal(drawn)
    assert (said is None) == (expected == []), (said, expected)
    if said is not None:
        assert any(re.search(pattern, said) for pattern in expected), (said, expected)


COMPILED = EVERYTHING.map(
    lambda drawn: replace(
        drawn,
        microbatch=None,
        network="plain",  # dropout of compiled code draws other numbers
        step="plain" if drawn.step == "mixing" else drawn.step,
        precision="float64",
        recomputed=None,
        damaged=False,
        size=1.0,
        schedule="none" if drawn.schedule.startswith("plateau") else drawn.schedule,
        changing=tuple(name for name in drawn.changing if name in ("swa of epochs", "freeze")),
        watching=tuple(name for name in drawn.watching if name not in ("norm", "average", "speed")),
        every=Every(epochs=1),
    )
)


@drawing(0.2)
@given(drawn=COMPILED, compile=st.sampled_from([True, Updates(2), Updates(3)]))
def test_compiled_updates_train_what_the_loop_trains(drawn: Drawn, compile: Any) -> None:
    """To rounding; the captured graphs are interpreted, so nobody waits for the compiler."""
    if refusal(drawn) is not None:
        drawn = replace(drawn, schedule="none", last_batch="keep")
    with TemporaryDirectory() as first, TemporaryDirectory() as second:
        expected, _ = fitted(drawn, Path(first))
        with interpreting():
            found, _ = fitted(replace(drawn, compile=compile), Path(second))
    assert found.progress == expected.progress
    for one, other in zip(found.model.state_dict().values(), expected.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-9)
    for row, wanted in zip(found.history.rows, expected.history.rows, strict=True):
        assert row == pytest.approx(wanted, rel=1e-6, abs=1e-9, nan_ok=True)
