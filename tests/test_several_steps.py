"""A mapping of steps: what is refused, what is reported, and what an update that is not finite leaves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchflow
from tests.laws.test_several_steps import STEPS, fool, judge, pair, parted, trainer
from tests.small import Recorder, Untouched, columns, line, reacting, sgd, weights
from torchflow import Checkpoints, EarlyStopping, GradientNorm, Outputs, Schedule, Trainer, supervised
from torchflow.errors import ArgumentTypeError, ArgumentValueError, NonFiniteError, StepError

POINTS = torch.randn(12, 2, generator=torch.Generator().manual_seed(3))
ADAM = parted({"critic": "Adam", "generator": "Adam"})


def test_every_loss_has_the_name_of_its_step_and_the_loss_is_their_sum() -> None:
    made = trainer(callbacks=[EarlyStopping("valid/critic", patience=9), GradientNorm()])
    result = made.fit(pair(), POINTS, epochs=2, batch_size=5, validation=POINTS[:7])
    assert list(result.history.names) == [
        *("train/loss", "train/critic", "train/generator", "valid/loss", "valid/critic", "valid/generator"),
        *("gradients/largest_norm", "gradients/mean_norm"),
    ]
    last = result.history.last
    for stream in ("train", "valid"):
        assert last[f"{stream}/loss"] == last[f"{stream}/critic"] + last[f"{stream}/generator"]
    found = made.evaluate(result.model, POINTS)
    assert list(found) == ["loss", "critic", "generator"]


def test_an_update_tells_both_losses_and_both_rates() -> None:
    run = trainer().start(pair(), POINTS, batch_size=12)
    stepped = torchflow.update(run, [POINTS])
    assert list(stepped.metrics) == ["critic", "generator"]
    torch.testing.assert_close(stepped.loss, stepped.metrics["critic"] + stepped.metrics["generator"], rtol=0, atol=0)
    assert stepped.count == 12
    assert stepped.learning_rates == {"critic": 0.01, "generator": 0.01}


def test_metrics_of_all_steps_come_together_each_with_its_own_count() -> None:
    def judged(model: Any, real: Tensor) -> Outputs:
        return Outputs(judge(model, real), metrics={"second": real[:, 1]})

    def fooled(model: Any, real: Tensor) -> Outputs:
        size = torch.tensor(float(len(real)))
        return Outputs(fool(model, real), count=real[:, 0].abs().sum(), metrics={"first": size}, predictions=real)

    made = trainer(step={"critic": judged, "generator": fooled})
    run = made.start(pair(), POINTS, batch_size=5)
    for event in torchflow.events(run, epochs=1):
        if isinstance(event, torchflow.EpochEnded):
            parts = [POINTS[torch.tensor(run.batches.indices(0, number))] for number in range(3)]
            by_hand = sum(len(part) * part[:, 0].abs().sum() for part in parts) / POINTS[:, 0].abs().sum()
            assert event.metrics["train/first"] == pytest.approx(float(by_hand), rel=1e-6)
            assert event.metrics["train/second"] == pytest.approx(POINTS[:, 1].mean().item(), rel=1e-5)
    assert torch.equal(made.predict(run.model, POINTS, batch_size=5), POINTS)


def test_gradients_are_shown_once_a_step_and_belong_to_it_alone() -> None:
    seen: list[tuple[str | None, set[str]]] = []

    def look(run: Any, event: Any) -> None:
        seen.append((event.step, {name.split(".")[0] for name, p in run.model.named_parameters() if p.grad is not None}))

    recorder = Recorder()
    trainer(callbacks=[reacting("on_gradients", look), recorder]).fit(pair(), POINTS, epochs=1, batch_size=6)
    assert seen == 2 * [("critic", {"critic"}), ("generator", {"generator"})]
    assert recorder.hooks.count("on_step_end") == 2


def test_schedulers_belong_to_the_optimizers_by_name() -> None:
    halve = Schedule(lambda optimizer, plan: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
    run = trainer(scheduler={"generator": halve}).start(pair(), POINTS)
    for _ in torchflow.events(run, epochs=2):
        pass
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in run.optimizers.items()}
    assert rates == {"critic": 0.01, "generator": 0.0025}


@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
@pytest.mark.parametrize("broken", ["critic", "generator"])
def test_a_loss_that_is_not_finite_stops_its_step_and_those_after_it(broken: str, nonfinite: Any) -> None:
    steps = {
        name: (lambda model, real, step=step, name=name: step(model, real) * (float("nan") if name == broken else 1))
        for name, step in STEPS.items()
    }
    run = trainer(step=steps, nonfinite=nonfinite).start(pair(), POINTS)
    before = weights(run.model)
    if nonfinite == "raise":
        besides = "before it, but for those of 'critic', which had stepped" if broken == "generator" else "before it. Look"
        with pytest.raises(NonFiniteError, match=f"the loss of step '{broken}' is not finite at epoch 0, batch 0.*{besides}"):
            torchflow.update(run, [POINTS])
    else:
        assert torchflow.update(run, [POINTS]).skipped == 1
        assert run.progress.updates == 1
    changed = {name.split("/")[1].split(".")[0] for name, value in weights(run.model).items() if before[name] != value}
    assert changed == ({"critic"} if broken == "generator" else set())
    assert all(parameter.grad is None for parameter in run.model.parameters())


def test_a_part_that_is_frozen_for_a_while_stays_and_its_loss_is_told() -> None:
    made = trainer(callbacks=[torchflow.Freeze("critic")])
    model = pair()
    before = weights(model)
    result = made.fit(model, POINTS, epochs=1, batch_size=6)
    changed = {name.split(".")[0].strip("/") for name, value in weights(model).items() if before[name] != value}
    assert changed == {"generator"}
    assert result.history.last["train/critic"] > 0


def test_bfloat16_and_activation_checkpointing_serve_several_steps() -> None:
    plain = trainer().fit(pair(), POINTS, epochs=2, batch_size=5).model
    recomputed = trainer(activation_checkpointing=["critic", "generator"]).fit(pair(), POINTS, epochs=2, batch_size=5).model
    assert weights(plain) == weights(recomputed)
    half = trainer(precision="bf16").fit(pair(), POINTS, epochs=2, batch_size=5).model
    assert weights(half) != weights(plain)
    assert trainer(precision="float64").fit(pair(), POINTS, epochs=1).history.last["train/critic"] > 0


def test_the_model_may_be_evaluated_planned_and_rehearsed() -> None:
    made = trainer()
    plan = made.plan(pair(), POINTS, epochs=2, validation=POINTS)
    assert plan.draws == ("torch",)
    assert made.rehearse(pair(), POINTS, epochs=2, validation=POINTS).ok


def test_a_plan_knows_of_draws_in_the_first_step_alone() -> None:
    def dull(model: Any, real: Tensor) -> Tensor:
        made: Tensor = model.generator(torch.ones(len(real), 3)).square().mean()
        return made

    made = trainer(step={"critic": judge, "generator": dull})
    assert made.plan(pair(), POINTS, epochs=1).draws == ("torch",)
    still = trainer(step={"critic": lambda model, real: model.critic(real).mean(), "generator": dull})
    assert still.plan(pair(), POINTS, epochs=1).draws == ()


def test_a_loss_that_grows_is_no_mistake_of_adversaries() -> None:
    factor = [1.0]

    def growing(model: Any, real: Tensor) -> Tensor:
        factor[0] *= 10
        return judge(model, real) * factor[0]

    result = trainer(step={"critic": growing, "generator": fool}).fit(pair(), POINTS, epochs=3, batch_size=4)  # warnings are errors
    assert result.history["train/loss"][-1] > 1e6


@pytest.mark.parametrize(
    ("step", "options", "error", "message"),
    [
        ({}, {}, ArgumentValueError, "at least two, got 0"),
        ({"critic": judge}, {"optimizer": {"critic": sgd()}}, ArgumentValueError, "at least two, got 1. Pass one step itself"),
        ({"critic": judge}, {"optimizer": sgd()}, ArgumentValueError, "at least two, got 1. Pass one step itself"),
        ({"critc": judge}, {"optimizer": ADAM}, ArgumentValueError, "steps are 'critc', and optimizers 'critic', 'generator'"),
        ({"loss": judge}, {"optimizer": ADAM}, ArgumentValueError, "other than 'loss', got 'loss'"),
        (STEPS, {"optimizer": sgd()}, ArgumentTypeError, "optimizer must be one of the same names"),
        (STEPS, {"optimizer": {**ADAM, "judge": sgd()}}, ArgumentValueError, "optimizers 'critic', 'generator', 'judge'"),
        (
            STEPS,
            {"optimizer": {"critic": sgd(), "maker": sgd()}},
            ArgumentValueError,
            "steps are 'critic', 'generator', and optimizers",
        ),
        ({"critic": judge, "loss": fool}, {}, ArgumentValueError, "other than 'loss'"),
        ({"critic": judge, "a/b": fool}, {}, ArgumentValueError, "without '/'"),
        ({"critic": judge, 3: fool}, {}, ArgumentValueError, "must be text"),
        ({"critic": judge, "generator": nn.MSELoss()}, {}, ArgumentTypeError, r"step\['generator'\] must be a function"),
        ({"critic": judge, "generator": None}, {}, ArgumentTypeError, r"step\['generator'\]"),
        (STEPS, {"update": lambda run, batches: None}, ArgumentValueError, "Leave out update="),
        (STEPS, {"compile": True}, ArgumentValueError, "Leave out compile="),
        (STEPS, {"precision": "fp16"}, ArgumentValueError, "precision='bf16'"),
        (STEPS, {"microbatch": 4}, ArgumentValueError, "Leave out microbatch"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything(
    step: Any, options: Any, error: Any, message: str, tmp_path: Any
) -> None:
    with Untouched(tmp_path / "run"), pytest.raises(error, match=message):
        trainer(step=step, checkpoints=Checkpoints(tmp_path / "run"), **options)


def test_lbfgs_is_refused() -> None:
    made = trainer(optimizer={**ADAM, "critic": lambda model: torch.optim.LBFGS(model.critic.parameters())})
    with pytest.raises(ArgumentValueError, match="L-BFGS evaluates the loss itself"):
        made.fit(pair(), POINTS, epochs=1)


def test_metrics_of_one_name_are_refused() -> None:
    def step(name: str) -> Any:
        return lambda model, real: Outputs(STEPS[name](model, real), metrics={"score": real[:, 0]})

    made = trainer(step={name: step(name) for name in STEPS})
    with pytest.raises(StepError, match=r"steps 'critic' and 'generator' both have a metric 'score'\. Rename one\."):
        made.fit(pair(), POINTS, epochs=1)
    with pytest.raises(StepError, match="both have a metric 'score'"):
        made.evaluate(pair(), POINTS)
    named = {"critic": judge, "generator": lambda model, real: Outputs(fool(model, real), metrics={"critic": real[:, 0]})}
    with pytest.raises(StepError, match="'generator' has a metric 'critic', and this is the name of a step"):
        trainer(step=named).fit(pair(), POINTS, epochs=1)


def test_metric_objects_of_one_name_are_refused_at_once() -> None:
    step = supervised(nn.MSELoss(), metrics={"r2": torchflow.metrics.R2()})
    with pytest.raises(StepError, match="both have a metric 'r2'"):
        Trainer({"one": step, "two": step}, optimizer={"one": sgd(), "two": sgd()})


def test_metric_objects_serve_the_step_that_has_them() -> None:
    whole = supervised(nn.MSELoss(), metrics={"r2": torchflow.metrics.R2()})
    optimizer = {
        "weight": lambda model: torch.optim.SGD([model.weight], lr=0.1),
        "bias": lambda model: torch.optim.SGD([model.bias], lr=0.1),
    }
    made: Trainer[Any, Any] = Trainer({"weight": whole, "bias": supervised(nn.L1Loss())}, optimizer=optimizer, progress=False)
    result = made.fit(line(), columns(), epochs=20, validation=columns())
    assert result.history.last["valid/r2"] > 0.9
    assert made.plan(line(), columns(), epochs=1, validation=columns()).draws == ()


def test_an_error_in_a_step_says_in_which() -> None:
    def broken(model: Any, real: Tensor) -> Tensor:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as raised:
        trainer(step={"critic": judge, "generator": broken}).fit(pair(), POINTS, epochs=1)
    assert "torchflow: in the step 'generator'" in raised.value.__notes__


def test_a_loss_without_a_gradient_for_its_own_optimizer_is_refused() -> None:
    with pytest.raises(StepError, match="the loss of step 'generator' does not depend on any parameter of its optimizer"):
        trainer(step={"critic": judge, "generator": judge}).fit(pair(), POINTS, epochs=1)
