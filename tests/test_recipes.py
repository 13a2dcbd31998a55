from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD

from tests.laws.problems import dropout_network, small_network
from tests.small import columns, line, reacting, sgd, trainer, weights
from torchflow import layer_wise, one_cycle, warm_up_cosine
from torchflow.errors import ArgumentTypeError, ArgumentValueError, MismatchError


def rates(schedule: Any, *, lr: float = 0.5, fit: dict[str, Any] | None = None, **options: Any) -> list[float]:
    """The learning rate of every update."""
    seen: list[float] = []
    watch = reacting("on_step_end", lambda run, event: seen.append(event.learning_rates["main"]))
    made = trainer(scheduler=schedule, callbacks=[watch], **{"optimizer": sgd(lr, momentum=0.9), **options})
    made.fit(line(), columns(20), batch_size=4, **({"epochs": 4} if fit is None else fit))
    return seen


class Parts(nn.Module):
    """A model with a parameter of its own, an embedding, a shared layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.embedding = nn.Linear(2, 3)
        self.encoder = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(3, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(self.encoder(self.embedding(x)))) * self.scale
        return out


def named(model: nn.Module, groups: list[dict[str, Any]]) -> list[tuple[list[str], float]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [([names[p] for p in group["params"]], round(group["lr"], 6)) for group in groups]


def test_learning_rates_fall_from_the_output_to_the_input() -> None:
    model = Parts()
    assert named(model, layer_wise(model, 1.0, 0.5)) == [
        (["scale"], 0.125),
        (["embedding.weight", "embedding.bias"], 0.25),
        (["encoder.0.weight", "encoder.0.bias", "encoder.2.weight", "encoder.2.bias"], 0.5),
        (["head.weight", "head.bias"], 1.0),
    ]
    layers = [["scale", "embedding"], "encoder.0", "encoder", "head"]
    assert named(model, layer_wise(model, 1.0, 0.1, layers=layers)) == [
        (["scale", "embedding.weight", "embedding.bias"], 0.001),
        (["encoder.0.weight", "encoder.0.bias"], 0.01),
        (["encoder.2.weight", "encoder.2.bias"], 0.1),
        (["head.weight", "head.bias"], 1.0),
    ]


def test_a_model_inside_another_is_cut_as_it_would_be_alone() -> None:
    inner = small_network(2)
    alone = named(inner, layer_wise(inner, 0.1, 0.5))
    outer = nn.Sequential(nn.Sequential(inner))
    wrapped = [([name.removeprefix("0.0.") for name in names], lr) for names, lr in named(outer, layer_wise(outer, 0.1, 0.5))]
    assert wrapped == alone
    assert [lr for _, lr in alone] == [0.05, 0.1]
    single = line()
    assert named(single, layer_wise(single, 0.1)) == [(["weight", "bias"], 0.1)]


def test_a_layer_whose_parameters_an_earlier_one_shares_is_no_layer() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2, bias=False))
    model[2].weight = model[0].weight
    assert named(model, layer_wise(model, 1.0, 0.5)) == [(["0.weight", "0.bias"], 0.5), (["1.weight", "1.bias"], 1.0)]


@settings(max_examples=20, deadline=None)
@given(decay=st.floats(0.01, 1.0), lr=st.floats(0.0, 10.0))
def test_every_parameter_is_in_exactly_one_group_and_the_ratio_is_the_decay(decay: float, lr: float) -> None:
    """Seen to fail when the layers are counted from the input."""
    model = dropout_network(3)
    groups = layer_wise(model, lr, decay)
    held = [p for group in groups for p in group["params"]]
    assert len(held) == len(set(held)) == len(list(model.parameters()))
    for below, above in pairwise(groups):
        assert below["lr"] == pytest.approx(above["lr"] * decay)
    assert groups[-1]["lr"] == lr
    SGD(groups)


def test_a_trainer_takes_layer_wise_rates_with_a_schedule_over_them() -> None:
    result = trainer(optimizer=lambda m: SGD(layer_wise(m, 0.1, 0.5)), scheduler=one_cycle()).fit(
        small_network(2), columns(20), batch_size=4, epochs=2
    )
    assert result.progress.updates == 10


@settings(max_examples=20, deadline=None)
@given(rise=st.integers(0, 19), lowest=st.sampled_from([0.0, 0.125]))
def test_warm_up_and_cosine_are_their_formulas(rise: int, lowest: float) -> None:
    """Update t of a rise of w uses lr (t + 1) / w; afterwards half a cosine over the updates that are left.

    Seen to fail when the first update has the rate zero, and when the cosine is as long as the run.
    """
    made = rates(warm_up_cosine(rise, lowest=lowest))
    for update, rate in enumerate(made):
        if update < rise:
            expected = 0.5 * (update + 1) / rise
        else:
            start = rise if rise >= 2 else 0
            expected = lowest + (0.5 - lowest) * (1 + math.cos(math.pi * (update - start) / (20 - start))) / 2
        assert rate == pytest.approx(expected, abs=1e-9), update
    assert len(made) == 20


def test_a_warm_up_can_be_a_share_and_the_updates_can_be_given() -> None:
    assert rates(warm_up_cosine(0.25)) == rates(warm_up_cosine(5))
    assert rates(warm_up_cosine(0.1, updates=20), fit={"max_updates": 1}) == [0.25]
    assert rates(warm_up_cosine(0.0))[0] == 0.5


@pytest.mark.parametrize("rise", [0, 4])
@pytest.mark.parametrize("compile", [False, True])
def test_a_run_that_is_longer_than_its_cosine_stays_at_the_lowest_rate(rise: int, compile: bool) -> None:
    """Seen to fail with torch's own cosine, which goes up again."""
    made = rates(warm_up_cosine(rise, lowest=0.125, updates=12), fit={"epochs": 8}, compile=compile)
    assert made[:12] == rates(warm_up_cosine(rise, lowest=0.125), fit={"max_updates": 12}, compile=compile)
    assert made[12:] == pytest.approx([0.125] * 28, abs=1e-12)


def test_a_cosine_of_given_length_goes_on_in_a_longer_run(tmp_path: Path) -> None:
    """What the message of the next test advises, with the bits of the run that was never stopped."""

    def fitted(folder: str, epochs: int, *, updates: int | None, resume: bool) -> Any:
        made = trainer(scheduler=warm_up_cosine(updates=updates), checkpoints=tmp_path / folder)
        return made.fit(line(), columns(20), batch_size=4, epochs=epochs, resume=resume)

    fitted("stopped", 2, updates=None, resume=False)
    resumed = fitted("stopped", 4, updates=10, resume=True)
    whole = fitted("whole", 4, updates=10, resume=False)
    assert weights(resumed.model) == weights(whole.model)
    assert resumed.progress.updates == 20


@pytest.mark.parametrize(
    ("schedule", "way"),
    [
        (warm_up_cosine(), r"warm_up_cosine\(updates=10\), which then stays at its lowest rate"),
        (warm_up_cosine(4), r"warm_up_cosine\(updates=10\), which then stays at its lowest rate"),
        (one_cycle(), r"one_cycle\(updates=10\)"),
    ],
)
def test_a_resume_for_other_epochs_says_how_to_keep_the_schedule(schedule: Any, way: str, tmp_path: Path) -> None:
    made = trainer(scheduler=schedule, checkpoints=tmp_path / "run")
    made.fit(line(), columns(20), batch_size=4, epochs=2)
    says = (
        rf"the schedule was built for 10 updates, and here for 20: pass the same epochs as before, or {way}; Resume\(strict=False\)"
    )
    with pytest.raises(MismatchError, match=says):
        made.fit(line(), columns(20), batch_size=4, epochs=4, resume=True)


@pytest.mark.filterwarnings("ignore:the loss grows")  # its rates are drawn, and nothing is learnt
def test_one_cycle_goes_up_to_its_highest_and_down_again() -> None:
    made = rates(one_cycle(2.0, rise=0.5))
    assert max(made) == pytest.approx(2.0)
    assert made.index(max(made)) == 9
    assert made[0] == pytest.approx(2.0 / 25)
    assert made[-1] < 1e-3
    assert max(rates(one_cycle(), lr=0.25)) == pytest.approx(0.25)


def test_the_momentum_moves_where_that_is_wanted_alone() -> None:
    seen: list[float] = []
    for schedule in (one_cycle(), one_cycle(momentum=(0.8, 0.9))):
        watch = reacting("on_step_end", lambda run, event: seen.append(run.optimizer.param_groups[0]["momentum"]))
        trainer(scheduler=schedule, callbacks=[watch], optimizer=sgd(0.1, momentum=0.95)).fit(
            line(), columns(20), batch_size=4, epochs=2
        )
    assert set(seen[:10]) == {0.95}
    assert min(seen[10:]) == pytest.approx(0.8)
    assert max(seen[10:]) <= 0.9


@pytest.mark.parametrize("schedule", [warm_up_cosine(2), one_cycle()])
def test_a_run_of_unknown_length_is_refused_with_the_remedy(schedule: Any) -> None:
    with pytest.raises(
        ArgumentValueError, match=r"needs to know how many updates the run has\. Pass epochs= or max_updates= to fit"
    ):
        trainer(scheduler=schedule).fit(line(), columns(20), max_seconds=1.0)


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (warm_up_cosine(20), "warm_up_cosine: 20 of 20 updates rise, and none is left to fall. Choose a shorter warm_up."),
        (one_cycle(rise=0.05), "one_cycle: 20 updates are too few to rise for 0.05 of them. Train for longer."),
        (one_cycle(rise=0.99), "one_cycle: 20 updates are too few to rise for 0.99 of them. Train for longer."),
    ],
)
def test_runs_that_are_too_short_are_refused(schedule: Any, says: str) -> None:
    with pytest.raises(ArgumentValueError) as raised:
        rates(schedule)
    assert str(raised.value) == says


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: layer_wise(3, 0.1), ArgumentTypeError, "model must be an nn.Module, got 3"),  # type: ignore[arg-type]
        (lambda: layer_wise(Parts(), -1.0), ArgumentValueError, "lr must be a finite number of at least 0"),
        (lambda: layer_wise(Parts(), 0.1, 0.0), ArgumentValueError, "decay must be a finite number above 0"),
        (lambda: layer_wise(Parts(), 0.1, 1.1), ArgumentValueError, "decay must be at most 1"),
        (lambda: layer_wise(Parts(), 0.1, layers="head"), ArgumentTypeError, "layers must be a list of layers"),
        (lambda: layer_wise(Parts(), 0.1, layers=[3]), ArgumentTypeError, "layers must be names or patterns"),  # type: ignore[list-item]
        (lambda: layer_wise(Parts(), 0.1, layers=["e*", "head"]), ArgumentValueError, "no layer holds the parameter 'scale'"),
        (
            lambda: layer_wise(Parts(), 0.1, layers=["*", "head"]),
            ArgumentValueError,
            r"layer_wise: layers\[1\] \('head'\) holds no parameter that an earlier layer does not hold",
        ),
        (lambda: warm_up_cosine(-1), ArgumentValueError, "warm_up must be an int of at least 0"),
        (lambda: warm_up_cosine(1.0), ArgumentValueError, "warm_up must be a share from 0 up to below 1, or an int of updates"),
        (lambda: warm_up_cosine(sgd()(line())), ArgumentTypeError, r"Write scheduler=warm_up_cosine\(\)"),  # type: ignore[arg-type]
        (lambda: one_cycle(sgd()(line())), ArgumentTypeError, r"Write scheduler=one_cycle\(\)"),  # type: ignore[arg-type]
        (lambda: warm_up_cosine("2"), ArgumentTypeError, "warm_up must be an int of at least 0"),  # type: ignore[arg-type]
        (lambda: warm_up_cosine(lowest=-1.0), ArgumentValueError, "lowest must be a finite number of at least 0"),
        (lambda: warm_up_cosine(updates=0), ArgumentValueError, "updates must be an int of at least 1"),
        (lambda: one_cycle(0.0), ArgumentValueError, "highest must be a finite number above 0"),
        (lambda: one_cycle(rise=1.0), ArgumentValueError, "rise must be a share between 0 and 1"),
        (lambda: one_cycle(momentum=0.9), ArgumentTypeError, r"momentum must be a tuple \(lowest, highest\)"),  # type: ignore[arg-type]
        (lambda: one_cycle(momentum=(0.9, "x")), ArgumentTypeError, "momentum must be a number"),  # type: ignore[arg-type]
    ],
)
def test_impossible_choices_are_refused(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()
