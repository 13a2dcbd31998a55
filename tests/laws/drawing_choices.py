"""Whole configurations, drawn together. What does not go together, the library itself refuses, and so it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st

from tests.laws.choices_drawn import CHANGING, RECIPES, SCHEDULES, WATCHING, Drawn
from torchflow import Callback, Every
from torchflow.errors import ArgumentValueError


class Begun(BaseException):
    """Nothing was refused: the run has begun."""


class Begin(Callback):
    """Ends a run before its first update."""

    def on_fit_start(self, run: Any, event: Any) -> None:
        raise Begun


def refusal(drawn: Drawn) -> str | None:
    """Ask the library whether these choices go together: return what it says against them, before the run begins."""
    with TemporaryDirectory() as folder:
        try:
            drawn.trainer(Path(folder), more={"begin": Begin()}).fit(drawn.model(), **drawn.data())
        except ArgumentValueError as error:
            return str(error)
        except Begun:
            return None
    raise AssertionError("a run ended before it began")


def some(names: Any) -> Any:
    """Some of the names, in any order; of lists Hypothesis draws mostly short ones."""
    return st.builds(lambda order, number: tuple(order[:number]), st.permutations(sorted(names)), st.sampled_from([2, 1, 0, 3, 4]))


INTERVALS = st.one_of(
    st.builds(Every, epochs=st.integers(1, 2)),
    st.builds(Every, updates=st.integers(1, 4)),
    st.builds(Every, samples=st.integers(1, 20)),
)
EVERYTHING = st.builds(
    Drawn,
    network=st.sampled_from(["plain", "noisy", "image"]),
    step=st.sampled_from(["plain", "functions", "objects", "weighted", "mixing"]),
    optimizer=st.sampled_from(sorted(RECIPES)),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    changing=some(CHANGING),
    watching=some(WATCHING),
    rows=st.one_of(st.integers(12, 22), st.integers(5, 22)),
    batch_size=st.sampled_from([3, 2, 4, 5, 7]),
    accumulate=st.integers(1, 3),
    microbatch=st.sampled_from([None, None, 1, 2, 3]),
    epochs=st.sampled_from([2, 1, 3]),
    last_batch=st.sampled_from(["keep", "keep", "drop", "pad"]),
    random=st.booleans(),
    damaged=st.sampled_from([False, False, True]),
    size=st.sampled_from([1.0, 1.0, 1.0, 1e4]),
    workers=st.sampled_from([0, 0, 1, 2]),
    validations=st.sampled_from([0, 1, 1, 2, 2]),
    every=INTERVALS,
    clip_norm=st.sampled_from([None, None, 0.05, 10.0]),
    clip_value=st.sampled_from([None, None, 0.01, 1.0]),
    nonfinite=st.sampled_from(["raise", "skip"]),
    precision=st.sampled_from(["float32", "bf16", "fp16", "float64"]),
    matmul_precision=st.sampled_from([None, None, "highest", "high", "medium"]),
    recomputed=st.sampled_from([None, None, "middle", "body"]),
    memory_format=st.sampled_from([None, "channels_last"]),
    deterministic=st.sampled_from([None, True, False]),
    background=st.booleans(),
    seed=st.integers(0, 2**63 - 1),
)
"""All that can be written down, whether it goes together or not; but for compiled updates, which have cases of their own."""


OPTIONAL = ("microbatch", "memory_format", "precision", "recomputed", "last_batch", "schedule", "changing")


def candidates(drawn: Drawn) -> Iterator[Drawn]:
    """Yield a training with less and less of its choices: first one is left out, then one after the other."""
    yield drawn
    for name in drawn.changing:
        yield replace(drawn, changing=tuple(other for other in drawn.changing if other != name))
    for name in OPTIONAL:
        yield replace(drawn, **{name: getattr(Drawn(), name)})
    for name in OPTIONAL:
        yield (drawn := replace(drawn, **{name: getattr(Drawn(), name)}))


def mended(drawn: Drawn) -> Drawn:
    """Leave choices out until the library refuses nothing, and no sample ends the run by what it is."""
    if drawn.damaged:
        drawn = replace(drawn, nonfinite="skip")
    found = next(candidate for candidate in candidates(drawn) if refusal(candidate) is None)
    # As in a run that batch normalisation could not make: a sample more, or whole batches.
    fitting = (
        found,
        replace(found, rows=found.rows + 1),
        replace(found, microbatch=None),
        replace(found, rows=found.rows + 1, microbatch=None),
    )
    return next(candidate for candidate in fitting if not candidate.lonely)


TOGETHER = EVERYTHING.map(mended)
"""What goes together, by the library's own rules."""

FULL = Drawn(
    network="image", step="functions", optimizer="Adam fused", schedule="warm up", changing=("ema", "unfreeze"),
    watching=("average", "norm", "csv", "lines", "sum"), rows=20, batch_size=5, accumulate=2, microbatch=3, epochs=2, last_batch="pad", random=True,
    workers=1, validations=2, every=Every(updates=2), clip_norm=0.05, clip_value=0.02, nonfinite="skip", precision="fp16",
    recomputed="middle", memory_format="channels_last", size=1e4, seed=3,
)  # fmt: skip
"""One training with most of what there is; its first updates overflow."""
SKIPPING = Drawn(
    network="noisy", step="mixing", optimizer="two", schedule="by updates", changing=("stopping", "ema of samples", "freeze biases"),
    rows=20, batch_size=4, epochs=3, damaged=True, validations=1, every=Every(samples=9), nonfinite="skip", clip_value=1.0,
    precision="bf16", recomputed="body", seed=5,
)  # fmt: skip
"""One training of which every epoch has an update that is skipped."""
