from __future__ import annotations

import copy
import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchflow
from tests.small import Noisy, Recorder, columns, line, reacting, sgd, state_of, trainer, weights
from torchflow import Outputs, Stepped, Stop, metrics, supervised
from torchflow.errors import ArgumentTypeError, CallbackError, CheckpointError, NonFiniteError, OutOfMemoryError, StepError


def start(model: nn.Module | None = None, data: Any = None, batch_size: int = 5, **options: Any) -> Any:
    return trainer(**options).start(model or line(), data or columns(), batch_size=batch_size)


def by_hand(model: nn.Module, batches: list[tuple[Tensor, Tensor]], clip: float | None = None, value: float | None = None) -> None:
    optimizer = sgd()(model)
    for x, y in batches:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.mse_loss(model(x), y))
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        if value is not None:
            nn.utils.clip_grad_value_(model.parameters(), value)
        optimizer.step()


@pytest.mark.parametrize(("clip", "value"), [(None, None), (0.1, None), (None, 0.05), (0.5, 0.1)])
def test_updates_one_by_one_equal_the_loop_by_hand(clip: float | None, value: float | None) -> None:
    run = start(clip_norm=clip, clip_value=value)
    other = copy.deepcopy(run.model)
    batches = list(run.batches.epoch(0))
    for number, batch in enumerate(batches):
        stepped = torchflow.update(run, [batch])
        assert stepped.progress == (0, number + 1, number + 1, 5 * (number + 1), -1)
        assert run.progress == stepped.progress
    by_hand(other, batches, clip, value)
    assert weights(run.model) == weights(other)


def test_a_finished_update_tells_its_loss_count_metrics_and_rates() -> None:
    step = supervised(nn.MSELoss(), metrics={"error": metrics.absolute_error, "r2": metrics.R2()})
    run = start(step=step, optimizer=sgd(0.25))
    other = copy.deepcopy(run.model)
    batch = next(run.batches.epoch(0))
    stepped = torchflow.update(run, [batch])
    loss = nn.functional.mse_loss(other(batch[0]), batch[1]).detach()
    assert torch.equal(stepped.loss, loss)
    assert not stepped.loss.requires_grad
    assert stepped.count == 5
    assert list(stepped.metrics) == ["error"]
    torch.testing.assert_close(stepped.metrics["error"], (other(batch[0]) - batch[1]).abs().mean().detach())
    assert stepped.metrics["error"].shape == ()
    assert stepped.learning_rates == {"main": 0.25}
    assert not stepped.skipped


def test_nobody_writes_to_a_finished_loss_again() -> None:
    run = start()
    steps = [torchflow.update(run, [batch]) for batch in run.batches.epoch(0)]
    before = [stepped.loss.clone() for stepped in steps]
    for batch in run.batches.epoch(1):
        torchflow.update(run, [batch])
    assert all(torch.equal(stepped.loss, loss) for stepped, loss in zip(steps, before, strict=True))


@pytest.mark.parametrize("batches", [(), None, 3, "abc"])
def test_an_update_takes_a_list_of_batches(batches: Any) -> None:
    run = start()
    before = state_of(run)
    with pytest.raises(ArgumentTypeError, match=r"update\(run, batches\) takes a list .* Write update\(run, \[batch\]\)"):
        torchflow.update(run, batches)
    with pytest.raises(ArgumentTypeError, match="takes a list"):
        torchflow.update(run, [])
    assert state_of(run) == before


def test_a_window_of_uneven_batches_has_the_gradient_of_the_whole() -> None:
    x, y = (column.double() for column in columns(11))
    run = start(line().double(), (x, y), accumulate=3)
    other = copy.deepcopy(run.model)
    cut = [(x[:5], y[:5]), (x[5:6], y[5:6]), (x[6:], y[6:])]
    stepped = torchflow.update(run, cut)
    by_hand(other, [(x, y)])
    for ours, theirs in zip(run.model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert stepped.count == 11
    assert stepped.progress == (0, 3, 1, 11, -1)
    whole = nn.functional.mse_loss(line().double()(x), y).item()
    assert stepped.loss.item() == pytest.approx(whole, rel=1e-12)


def test_metrics_of_a_window_are_means_over_its_samples() -> None:
    def step(model: nn.Module, batch: Any) -> Outputs:
        x, y = batch
        loss = nn.functional.mse_loss(model(x), y)
        extra = {"last": torch.tensor(7.0)} if len(x) == 1 else {}
        return Outputs(loss, metrics={"each": y[:, 0], "mean": y.mean(), **extra})

    x, y = columns(6)
    run = start(step=step, accumulate=2)
    found = torchflow.update(run, [(x[:5], y[:5]), (x[5:], y[5:])]).metrics
    torch.testing.assert_close(found["each"], y.mean())
    torch.testing.assert_close(found["mean"], y.mean())
    assert found["last"].item() == 7.0  # where only one batch of the window has it


def test_counts_of_the_step_weigh_the_batches_of_a_window() -> None:
    def step(model: nn.Module, batch: Any) -> Outputs:
        x, y = batch
        return Outputs(nn.functional.mse_loss(model(x), y), count=torch.tensor(len(x) * 10))

    x, y = columns(6)
    run = start(step=step, accumulate=2)
    stepped = torchflow.update(run, [(x[:5], y[:5]), (x[5:], y[5:])])
    assert float(stepped.count) == 60.0
    assert stepped.progress.samples == 6
    torch.testing.assert_close(stepped.loss, nn.functional.mse_loss(line()(x), y).detach())


def test_gradients_are_none_after_every_update_even_one_that_failed() -> None:
    run = start()
    torchflow.update(run, [next(run.batches.epoch(0))])
    assert all(p.grad is None for p in run.model.parameters())
    with pytest.raises(StepError):
        torchflow.update(run, [torch.zeros(3)])
    assert all(p.grad is None for p in run.model.parameters())


# Not finite


def poisoned(at: int, value: float, samples: int = 20) -> tuple[Tensor, Tensor]:
    x, y = columns(samples)
    x[at] = value
    return x, y


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_place_and_the_samples_and_changes_nothing(value: float) -> None:
    run = start(data=poisoned(13, value), batch_size=4)
    batches = list(run.batches.epoch(0))
    bad = next(n for n in range(5) if 13 in (run.batches.indices(0, n) or []))
    for batch in batches[:bad]:
        torchflow.update(run, [batch])
    before = state_of(run)
    samples = ", ".join(map(str, run.batches.indices(0, bad) or []))
    with pytest.raises(NonFiniteError) as raised:
        torchflow.update(run, [batches[bad]])
    assert str(raised.value).startswith(
        f"the loss is not finite at epoch 0, batch {bad}, samples {samples} (update {bad}); the parameters are as they were before it."
    )
    assert "nonfinite='skip'" in str(raised.value)
    assert raised.value.__cause__ is None
    assert state_of(run) == before


def test_many_samples_are_cut_short_and_a_window_names_those_of_all_its_batches() -> None:
    run = start(data=poisoned(0, math.nan), accumulate=4)
    with pytest.raises(NonFiniteError) as raised:
        torchflow.update(run, list(run.batches.epoch(0)))
    named = [*(run.batches.indices(0, 0) or []), *(run.batches.indices(0, 1) or [])]
    assert f"samples {', '.join(map(str, named[:8]))}, …" in str(raised.value)


class Sudden(torch.autograd.Function):
    """A finite value with a gradient that is not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: float) -> Tensor:
        ctx.value = value
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return torch.full_like(grad, ctx.value), None


def sudden(value: float) -> Any:
    def step(model: nn.Module, batch: Any) -> Tensor:
        loss = nn.functional.mse_loss(model(batch[0]), batch[1])
        if 13 in batch[2]:
            loss = Sudden.apply(loss, value)
        return loss

    return step


def numbered() -> tuple[Tensor, ...]:
    return (*columns(), torch.arange(20))


@pytest.mark.parametrize("clip", [{}, {"clip_norm": 1.0}, {"clip_value": 0.1}, {"clip_norm": 1.0, "clip_value": 0.1}])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_found_however_gradients_are_clipped(value: float, clip: dict[str, Any]) -> None:
    run = start(data=numbered(), step=sudden(value), batch_size=20, **clip)
    before = weights(run.model)
    with pytest.raises(NonFiniteError, match="a gradient is not finite at epoch 0, batch 0, samples"):
        torchflow.update(run, list(run.batches.epoch(0)))
    assert weights(run.model) == before


@pytest.mark.parametrize("accumulate", [1, 2])
def test_skipping_drops_the_update_and_goes_on(accumulate: int) -> None:
    recorder = Recorder()
    made = trainer(
        step=sudden(math.nan), nonfinite="skip", callbacks=[recorder], accumulate=accumulate, optimizer=sgd(momentum=0.9)
    )
    result = made.fit(line(), numbered(), batch_size=5, epochs=1)
    steps = [event for hook, event in recorder.seen if hook == "on_step_end"]
    assert [stepped.skipped for stepped in steps].count(True) == 1
    assert result.progress.updates == len(steps) == 4 // accumulate
    assert recorder.hooks.count("on_gradients") == len(steps) - 1
    assert math.isfinite(result.history.last["train/loss"])
    assert all(torch.isfinite(p).all() for p in result.model.parameters())

    # the same run without the bad update
    other = line()
    optimizer = sgd(momentum=0.9)(other)
    source = trainer(step=sudden(math.nan), accumulate=accumulate).start(line(), numbered(), batch_size=5)
    batches = list(source.batches.epoch(0))
    for first in range(0, 4, accumulate):
        window = batches[first : first + accumulate]
        if any(13 in batch[2] for batch in window):
            continue
        optimizer.zero_grad()
        for x, y, _ in window:
            torch.autograd.backward(nn.functional.mse_loss(other(x), y) * (1 if accumulate == 1 else 5))
        if accumulate > 1:
            for parameter in other.parameters():
                assert parameter.grad is not None
                parameter.grad /= 10
        optimizer.step()
    assert weights(other) == weights(result.model)


def test_a_skipped_update_steps_no_scheduler_and_is_told_with_its_loss() -> None:
    made = trainer(
        nonfinite="skip",
        scheduler=torchflow.Schedule(lambda opt, plan: torch.optim.lr_scheduler.ExponentialLR(opt, 0.5)),
        optimizer=sgd(1.0),
    )
    run = made.start(line(), poisoned(0, math.nan), batch_size=20)
    stepped = torchflow.update(run, list(run.batches.epoch(0)))
    assert stepped.skipped
    assert math.isnan(stepped.loss.item())
    assert run.optimizer.param_groups[0]["lr"] == 1.0
    assert math.isnan(run.averages.compute()["loss"])
    assert run.progress == (0, 1, 1, 20, -1)


def test_a_run_whose_every_update_is_skipped_ends_without_a_train_loss() -> None:
    result = trainer(nonfinite="skip").fit(line(), poisoned(0, math.nan), batch_size=20, epochs=2)
    assert result.progress.updates == 2
    assert all(math.isnan(value) for value in result.history["train/loss"])


# Randomness


def numpy_state() -> str:
    with np.printoptions(threshold=10_000):
        return repr(np.random.get_state())


def test_every_forward_pass_has_a_stream_of_its_own_and_python_and_numpy_are_keyed_with_it() -> None:
    drawn: list[tuple[float, float, float]] = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        drawn.append((torch.rand(()).item(), float(np.random.random()), random.random()))
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    models = [line(), line()]
    outside = torch.random.get_rng_state(), numpy_state(), random.getstate()
    made = trainer(step=step, accumulate=2, seed=3)
    made.fit(models[0], columns(), batch_size=5, epochs=3)
    first = list(drawn)
    assert len(first) == 12
    assert all(len(set(column)) == 12 for column in zip(*first, strict=True))
    drawn.clear()
    made.fit(models[1], columns(), batch_size=5, epochs=3)
    assert drawn == first
    assert torch.equal(torch.random.get_rng_state(), outside[0])
    assert numpy_state() == outside[1]
    assert random.getstate() == outside[2]


# Custom updates


class Gan(nn.Module):
    """A generator and a discriminator of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.maker, self.judge = nn.Linear(2, 1), nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))


def adversarial(run: Any, batches: Any) -> Outputs:
    (noise, real) = batches[0]
    model, bce = run.model, nn.functional.binary_cross_entropy_with_logits
    fake = model.maker(noise)
    judged = bce(model.judge(real), torch.ones(len(real), 1)) + bce(model.judge(fake.detach()), torch.zeros(len(real), 1))
    run.optimizers["judge"].zero_grad()
    torch.autograd.backward(judged)
    run.optimizers["judge"].step()
    fooled = bce(model.judge(fake), torch.ones(len(real), 1))
    run.optimizers["maker"].zero_grad()
    torch.autograd.backward(fooled)
    run.optimizers["maker"].step()
    return Outputs(judged.detach(), metrics={"fooled": fooled.detach()})


def gan_trainer(**options: Any) -> Any:
    return trainer(
        update=adversarial,
        optimizer={
            "maker": lambda m: torch.optim.Adam(m.maker.parameters(), lr=0.01),
            "judge": lambda m: torch.optim.Adam(m.judge.parameters(), lr=0.02),
        },
        **options,
    )


def test_an_update_of_the_user_trains_with_two_optimizers_and_goes_on_after_a_save(tmp_path: Any) -> None:
    recorder = Recorder()
    whole = gan_trainer(callbacks=[recorder]).fit(Gan, columns(), batch_size=5, epochs=4)
    stepped = next(event for hook, event in recorder.seen if hook == "on_step_end")
    assert stepped.learning_rates == {"maker": 0.01, "judge": 0.02}
    assert stepped.count == 5
    assert math.isfinite(whole.history.last["train/fooled"])
    made = gan_trainer(checkpoints=tmp_path / "gan")
    made.fit(Gan, columns(), batch_size=5, epochs=2)
    resumed = made.fit(Gan, columns(), batch_size=5, epochs=4, resume=True)
    assert weights(resumed.model) == weights(whole.model)
    assert all(p.grad is None for p in resumed.model.parameters())


def test_an_update_of_the_user_returns_a_finite_loss() -> None:
    run = start(update=lambda run, batches: torch.tensor(math.nan))
    with pytest.raises(
        NonFiniteError, match=r"update= returned a loss that is not finite after update 0\. .* check the loss before"
    ):
        torchflow.update(run, [next(run.batches.epoch(0))])
    run = start(update=lambda run, batches: None)
    with pytest.raises(StepError, match="step must return the loss as a Tensor, or Outputs, got None"):
        torchflow.update(run, [next(run.batches.epoch(0))])


def test_an_update_of_the_user_gets_the_whole_window() -> None:
    sizes: list[int] = []

    def own(run: Any, batches: Any) -> Tensor:
        sizes.append(len(batches))
        return torch.zeros(())

    result = trainer(update=own, accumulate=3).fit(line(), columns(), batch_size=5, epochs=1)
    assert sizes == [3, 1]
    assert result.progress.samples == 20
    assert weights(result.model) == weights(line())


# L-BFGS


def lbfgs(**options: Any) -> Any:
    return lambda model: torch.optim.LBFGS(model.parameters(), **{"lr": 0.5, "max_iter": 4, **options})


def test_lbfgs_equals_the_closure_by_hand_and_its_hooks_fire_once() -> None:
    recorder = Recorder()
    result = trainer(optimizer=lbfgs(), callbacks=[recorder]).fit(line(), columns(), batch_size=20, shuffle=False, epochs=3)
    other, (x, y) = line(), columns()
    optimizer = lbfgs()(other)
    calls: list[int] = []

    def closure() -> Any:
        calls.append(1)
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(other(x), y)
        torch.autograd.backward(loss)
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert len(calls) > 3
    assert weights(result.model) == weights(other)
    assert recorder.hooks.count("on_gradients") == recorder.hooks.count("on_step_end") == 3


def test_lbfgs_replays_a_window_on_the_same_random_streams() -> None:
    seen: list[list[float]] = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        seen[-1].append(torch.rand(()).item())
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    run = start(step=step, optimizer=lbfgs(), accumulate=3)
    batches = list(run.batches.epoch(0))
    for first in (0, 3):
        seen.append([])
        torchflow.update(run, batches[first : first + 3])
    for window, size in zip(seen, (3, 1), strict=True):
        evaluations = [window[n : n + size] for n in range(0, len(window), size)]
        assert len(evaluations) > 1
        assert all(evaluation == evaluations[0] for evaluation in evaluations)
        assert len(set(evaluations[0])) == size
    assert seen[0][0] != seen[1][0]


@pytest.mark.parametrize("clip", [{"clip_norm": 0.01}, {"clip_value": 0.01}])
def test_lbfgs_clips_every_evaluation(clip: dict[str, float]) -> None:
    norms: list[float] = []

    class Watched(torch.optim.LBFGS):
        def step(self, closure: Any = None) -> Any:
            def watched() -> Any:
                loss = closure()
                norms.append(max(p.grad.abs().max().item() for p in self.param_groups[0]["params"]))
                return loss

            return super().step(watched)

    trainer(optimizer=lambda m: Watched(m.parameters(), max_iter=4), **clip).fit(line(), columns(), batch_size=20, epochs=1)
    assert len(norms) > 1
    assert max(norms) <= 0.0100001


def test_lbfgs_with_a_loss_that_is_not_finite_changes_nothing() -> None:
    for policy in ("raise", "skip"):
        run = start(data=poisoned(0, math.nan), batch_size=20, optimizer=lbfgs(), nonfinite=policy)
        before = weights(run.model)
        batch = next(run.batches.epoch(0))
        if policy == "raise":
            with pytest.raises(NonFiniteError, match="the loss is not finite at epoch 0"):
                torchflow.update(run, [batch])
        else:
            assert torchflow.update(run, [batch]).skipped
        assert weights(run.model) == before


# The moment of complete gradients


def test_gradients_are_complete_clipped_and_shown_before_the_step() -> None:
    seen: list[tuple[Any, ...]] = []

    def look(run: Any, event: Any) -> None:
        total = torch.stack([p.grad.norm() for p in run.model.parameters()]).norm()
        seen.append((event.progress, event.norm, total, weights(run.model)))

    model, before = line(), weights(line())
    trainer(clip_norm=0.01, callbacks=[reacting("on_gradients", look)]).fit(model, columns(), batch_size=20, epochs=1)
    ((progress, norm, total, then),) = seen
    assert progress == (0, 0, 0, 0, -1)
    assert norm > 0.01
    assert total.item() == pytest.approx(0.01, rel=1e-4)
    assert then == before


def test_without_clip_norm_there_is_no_norm_and_a_callback_may_change_gradients() -> None:
    norms: list[object] = []

    def silence(run: Any, event: Any) -> None:
        norms.append(event.norm)
        for parameter in run.model.parameters():
            parameter.grad.zero_()

    callback = reacting("on_gradients", silence)
    callback.changes_run = True
    result = trainer(callbacks=[callback]).fit(line(), columns(), epochs=1)
    assert norms == [None]
    assert weights(result.model) == weights(line())


def test_a_stop_at_the_gradients_takes_effect_after_the_update() -> None:
    made = trainer(callbacks=[reacting("on_gradients", lambda run, event: Stop("seen enough"))])
    result = made.fit(line(), columns(), batch_size=5, epochs=2)
    assert (result.reason, result.progress.updates) == ("seen enough", 1)
    assert weights(result.model) != weights(line())


def test_saving_at_the_gradients_is_refused(tmp_path: Any) -> None:
    made = trainer(callbacks=[reacting("on_gradients", lambda run, event: torchflow.save(run, tmp_path / "x"))])  # type: ignore[arg-type, return-value]
    with pytest.raises(CallbackError, match="in the middle of an update or of its callbacks") as raised:
        made.fit(line(), columns(), epochs=1)
    assert isinstance(raised.value.__cause__, CheckpointError)
    assert not (tmp_path / "x").exists()


# Memory


@pytest.mark.parametrize("where", ["update 2", "an evaluation pass"])
def test_memory_that_did_not_suffice_is_explained_with_the_place(where: str) -> None:
    calls: list[int] = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        calls.append(1)
        if len(calls) == 3 if where == "update 2" else not model.training:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    with pytest.raises(OutOfMemoryError, match=rf"Out of memory in {where}\. Try, .* accumulate") as raised:
        trainer(step=step).fit(line(), columns(), batch_size=5, epochs=1, validation=columns(4))
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)


def test_another_runtime_error_goes_on_as_it_is() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    for validation in (None, columns(4)):
        with pytest.raises(RuntimeError, match="mat1 and mat2 shapes") as raised:
            trainer(step=step).fit(line(), columns(), epochs=1, validation=validation)
        assert type(raised.value) is RuntimeError


def test_dropout_and_a_frozen_part_train_as_their_owner_said() -> None:
    run = start(Noisy())
    assert [module.training for module in run.model.modules()] == [True, True, True, True, False]
    seen: list[list[bool]] = []

    def watched(model: nn.Module, batch: Any) -> Tensor:
        seen.append([module.training for module in model.modules()])
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    trainer(step=watched).fit(Noisy(), columns(), epochs=1)
    assert seen == [[True, True, True, True, False]]


def generator_of_batches() -> Iterator[Any]:
    yield columns(4)


def test_the_only_optimizer_has_a_short_name_and_several_have_none() -> None:
    assert start().optimizer is not None
    run = gan_trainer().start(Gan(), columns())
    with pytest.raises(ValueError, match=r"the run has 2 optimizers \('maker', 'judge'\)\. Write run\.optimizers\[name\]"):
        _ = run.optimizer


def test_stepped_is_what_an_update_returns() -> None:
    run = start()
    assert isinstance(torchflow.update(run, [next(run.batches.epoch(0))]), Stepped)
