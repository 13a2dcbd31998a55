"""What callbacks write into the history: learning rates and norms of gradients; and when callbacks that recur act."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import StepLR

import torchflow
from tests.laws.problems import OPTIMIZERS, small_network, table
from tests.small import columns, line, reacting, sgd, trainer
from torchflow import Callback, Every, GradientNorm, History, LearningRate, Progress, Schedule, Stop
from torchflow.callbacks.recurring import Recurring
from torchflow.errors import ArgumentTypeError, ArgumentValueError

HALVED = Schedule(lambda optimizer, plan: StepLR(optimizer, 1, 0.5), every=Every(updates=1))


class Acting(Recurring):
    def __init__(self, every: Every) -> None:
        super().__init__(every)
        self.at: list[tuple[int, int]] = []

    def act(self, run: Any, progress: Progress) -> Stop | None:
        self.at.append((progress.epoch, progress.updates))
        return Stop("five") if len(self.at) == 5 else None


@settings(max_examples=20, deadline=None)
@given(
    every=st.one_of(
        st.builds(Every, epochs=st.integers(1, 3)),
        st.builds(Every, updates=st.integers(1, 6)),
        st.builds(Every, samples=st.integers(1, 20)),
    )
)
def test_what_recurs_acts_after_every_interval_once_and_may_stop_the_run(every: Every) -> None:
    """Five updates an epoch, four samples each.

    Seen to fail when an interval of updates acts at the end of an epoch once more.
    """
    acting = Acting(every)
    result = trainer(callbacks=[acting]).fit(line(), columns(20), batch_size=4, epochs=6)
    size = every.epochs or every.updates or every.samples or 0
    unit = {"epochs": 5, "updates": 1}.get(next(n for n in ("epochs", "updates", "samples") if getattr(every, n)), 0.25)
    due = [u for u in range(1, 31) if math.floor(u / unit / size) > math.floor((u - 1) / unit / size)]
    assert acting.at == [((u - 1) // 5, u) for u in due][:5]
    assert result.reason == ("five" if len(due) >= 5 else "all 6 epochs are done")


def test_seconds_are_counted_from_the_start_of_the_call() -> None:
    acting = Acting(Every(seconds=1e-9))
    trainer(callbacks=[acting]).fit(line(), columns(12), batch_size=4, epochs=1)
    assert acting.at == [(0, 1), (0, 2), (0, 3)]


def test_something_that_recurs_must_say_what_it_does() -> None:
    with pytest.raises(NotImplementedError):
        Recurring(Every(epochs=1)).act(None, Progress())  # type: ignore[arg-type]


def test_the_learning_rate_of_the_last_update_is_in_the_epochs_row() -> None:
    result = trainer(callbacks=[LearningRate()], optimizer=sgd(0.8), scheduler=HALVED).fit(
        line(), columns(12), batch_size=4, epochs=2
    )
    assert result.history["learning_rate/main"] == [0.8 / 4, 0.8 / 32]
    assert [list(row) for row in result.history.rows] == [["epoch", "updates", "train/loss", "learning_rate/main"]] * 2


def test_learning_rates_of_updates_make_rows_of_their_own() -> None:
    recipes = {"first": lambda m: torch.optim.SGD([m.weight], lr=0.1), "second": lambda m: torch.optim.SGD([m.bias], lr=0.2)}
    made = trainer(callbacks=[LearningRate(Every(updates=2))], optimizer=recipes)
    history = made.fit(line(), columns(20), batch_size=4, epochs=1).history
    assert [(row["updates"], row.get("learning_rate/first"), row.get("learning_rate/second")) for row in history.rows] == [
        (2, 0.1, 0.2),
        (4, 0.1, 0.2),
        (5, None, None),
    ]
    assert history.epochs("learning_rate/first") == [0.4, 0.8]


@pytest.mark.parametrize("clip", [None, 0.01])
def test_the_norm_of_the_gradients_is_that_before_clipping(clip: float | None) -> None:
    norms: list[float] = []

    def look(run: Any, event: Any) -> None:
        gradients = [p.grad for p in run.parameters if p.grad is not None]
        norms.append(float(event.norm if clip else torch.linalg.vector_norm(torch.cat([g.reshape(-1) for g in gradients]))))

    callbacks = {"norm": GradientNorm(), "look": reacting("on_gradients", look)}
    result = trainer(callbacks=callbacks, clip_norm=clip).fit(small_network(2), columns(20), batch_size=4, epochs=3)
    for epoch in range(3):
        part = norms[5 * epoch : 5 * epoch + 5]
        assert result.history["gradients/mean_norm"][epoch] == pytest.approx(sum(part) / 5, rel=1e-5)
        assert result.history["gradients/largest_norm"][epoch] == pytest.approx(max(part), rel=1e-5)


def test_sparse_gradients_have_a_norm_and_no_gradients_have_none() -> None:
    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(5, 1, sparse=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.table(x)
            return out

    torch.manual_seed(0)
    words = torch.tensor([0, 1, 1, 3])
    result = trainer(callbacks=[GradientNorm()]).fit(Words(), (words, torch.zeros(4, 1)), batch_size=4, epochs=2)
    assert all(value > 0 for value in result.history["gradients/mean_norm"])
    own = trainer(callbacks=[GradientNorm()], update=lambda run, batches: torch.tensor(1.0))
    assert math.isnan(own.fit(line(), columns(4), epochs=1).history.last["gradients/mean_norm"])
    assert math.isnan(own.fit(line(), columns(4), epochs=1).history.last["gradients/largest_norm"])


def test_the_order_of_callbacks_that_record_makes_no_difference() -> None:
    states = []
    for order in (("rate", "norm", "other"), ("other", "norm", "rate")):
        made: dict[str, Callback] = {"rate": LearningRate(), "norm": GradientNorm(), "other": LearningRate(Every(updates=2))}
        run = trainer(callbacks={name: made[name] for name in order}).start(
            line(), columns(20), batch_size=4, validation=table(3, 2), validate=Every(updates=3)
        )
        assert len(list(torchflow.events(run, epochs=2))) > 10
        states.append((run.callbacks["history"].state(), [list(row.items()) for row in run.callbacks["history"].rows]))  # type: ignore[attr-defined]
    assert repr(states[0]) == repr(states[1])


def test_a_history_with_notes_comes_back_exactly_and_one_without_is_as_ever() -> None:
    history, other = History(), History()
    assert "noted" not in history.state()
    history.note(Progress(0, 2, 2), {"learning_rate/main": 0.5})
    history.note(Progress(0, 4, 4), {"b": 1.0, "a": math.nan})
    other.load_state(history.state())
    assert repr(other.state()) == repr(history.state())
    assert other.names == ("a", "b", "learning_rate/main")
    assert repr(other.rows) == repr(history.rows)
    history.load_state(History().state())
    assert "noted" not in history.state()


@pytest.mark.parametrize("kind", [LearningRate, GradientNorm])
def test_impossible_intervals_are_refused(kind: Any) -> None:
    with pytest.raises(
        ArgumentTypeError, match=rf"{kind.__name__}\(every=…\) must be an interval such as Every\(epochs=1\), got 2"
    ):
        kind(2)
    with pytest.raises(ArgumentValueError, match=rf"{kind.__name__}\(every=…\) can't be in seconds, which differ from run to run"):
        kind(Every(seconds=2))


def test_l_bfgs_has_one_norm_an_update() -> None:
    result = trainer(callbacks=[GradientNorm(Every(updates=1))], optimizer=OPTIMIZERS["L-BFGS"]).fit(
        line(), columns(8), batch_size=4, epochs=2
    )
    assert len(result.history["gradients/mean_norm"]) == 4
    assert result.history["gradients/mean_norm"] == result.history["gradients/largest_norm"]
