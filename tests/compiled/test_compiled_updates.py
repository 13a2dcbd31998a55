from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR

import torchflow
from tests.compiled.interpreter import interpreting
from tests.laws.problems import OPTIMIZERS, difference, dropout_network, numbers, small_network, table, with_weights
from tests.small import reacting
from torchflow import (
    Callback,
    Checkpoints,
    EarlyStopping,
    Every,
    Outputs,
    Schedule,
    Stepped,
    Trainer,
    Updates,
    data,
    metrics,
    supervised,
)
from torchflow.checkpoint import Store
from torchflow.compiled import machine
from torchflow.compiled.groups import groups_ahead
from torchflow.errors import ArgumentTypeError, ArgumentValueError, NonFiniteError

pytestmark = pytest.mark.filterwarnings("ignore:the loss grows")  # some of the drawn runs break out, which is no matter here


@pytest.fixture(autouse=True)
def _no_fallback(request: Any, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A run that quietly went on uncompiled would pass every comparison: it fails the test instead."""
    with caplog.at_level(logging.WARNING, logger="torchflow"):
        yield
    if "fallback" not in request.keywords:
        assert [record.message for record in caplog.get_records("call") if "compile=" in record.message] == []


@pytest.fixture
def interpreter() -> Iterator[None]:
    with interpreting():
        yield


def trained(compile: bool | Updates, model: nn.Module, columns: Any, **options: Any) -> Any:
    fitted = {"epochs": 3, "batch_size": 4, **options.pop("fitted", {})}
    step = options.pop("step", None) or supervised(nn.MSELoss())
    trainer = Trainer(step, **{"optimizer": OPTIMIZERS["Adam"], "progress": False, "compile": compile, **options})
    return trainer.fit(model, columns, **fitted)


def largest_difference(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return float(max((a.double() - b.double()).abs().max() for a, b in pairs))


def assert_alike(model: Callable[[], nn.Module], columns: Any, within: float = 1e-6, **options: Any) -> Any:
    """Hold that compiled training ends where uncompiled training does, to rounding, with an equal history and progress."""
    compile = options.pop("compile", Updates(3))
    expected = trained(False, model(), columns, **options)
    found = trained(compile, model(), columns, **options)
    assert largest_difference(found.model, expected.model) <= within
    assert found.progress == expected.progress
    assert found.reason == expected.reason
    assert len(found.history) == len(expected.history)
    for row, other in zip(found.history.rows, expected.history.rows, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-6, nan_ok=True)
    return found


# Compiled for real: each of these waits for the compiler.


@pytest.mark.parametrize("compile", [True, Updates(4)])
def test_machine_code_trains_what_the_loop_trains(compile: bool | Updates) -> None:
    columns = table(27, 3, dtype=torch.float64)
    assert_alike(lambda: small_network(3, dtype=torch.float64), columns, within=1e-12, compile=compile)


def test_machine_code_forgets_neither_weight_decay_nor_dampening() -> None:
    """Seen to fail where ``a + alpha * b`` reaches torch 2.13's compiler as one operation: it becomes ``a + b``."""

    def recipe(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.1)

    def model() -> nn.Module:  # large enough for its products not to be written out as sums
        return with_weights(nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1)), 0, torch.float64)

    columns = table(70, 8, dtype=torch.float64)
    assert_alike(model, columns, within=1e-12, optimizer=recipe, fitted={"batch_size": 16})


@pytest.mark.parametrize("compile", [True, Updates(4)])
def test_machine_code_finds_what_is_not_finite(compile: bool | Updates) -> None:
    """Seen to fail where a product with zero is to find it: torch 2.13's compiler takes ``nan * 0`` for 0."""

    def edge(model: nn.Module, batch: Any) -> Tensor:
        predictions = model(batch[0])
        still = (predictions - predictions.detach()).square().sum().sqrt()  # 0, with a slope of 0 times infinity
        loss: Tensor = (predictions - batch[1]).square().mean() + still
        return loss

    x, y = table(24, 3)
    x[13] = torch.nan
    fitted = {"shuffle": False, "epochs": 2}
    with pytest.raises(NonFiniteError, match=r"the loss is not finite at epoch 0, batch 3, samples 12, 13, 14, 15 \(update 3\)"):
        trained(compile, small_network(3), (x, y), fitted=fitted)
    assert_alike(lambda: small_network(3), (x, y), nonfinite="skip", compile=compile, fitted=fitted)
    with pytest.raises(NonFiniteError, match="a gradient is not finite at epoch 0, batch 0"):
        trained(compile, small_network(3), table(24, 3), step=edge, fitted=fitted)
    x[13], y[13] = 0.0, 1e30  # whose square float32 does not hold
    with pytest.raises(NonFiniteError, match=r"the loss is not finite at epoch 0, batch 3"):
        trained(compile, small_network(3), (x, y), clip_norm=1.0, fitted=fitted)


def test_machine_code_draws_dropout_from_the_update_s_key_and_keeps_running_statistics() -> None:
    """Equal runs are equal to the bit; runs of other seeds are not; statistics are those of every batch."""
    columns = table(24, 3)

    def run(seed: int) -> Any:
        torch.manual_seed(random.randrange(100))  # whatever the process drew before
        return trained(Updates(3), dropout_network(3), columns, seed=seed, fitted={"shuffle": False})

    one, again, other = run(0), run(0), run(1)
    assert difference(one.model.state_dict(), again.model.state_dict()) is None
    assert difference(list(one.history.rows), list(again.history.rows)) is None
    assert largest_difference(one.model, other.model) > 1e-4
    assert one.model[1].num_batches_tracked.item() == 18
    assert one.model[1].running_mean.abs().sum() > 0


def test_machine_code_is_the_same_by_the_short_way_and_by_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen to fail where the short way hands over a batch in another's place."""
    columns = table(24, 3)
    asked, same = [], machine._takes_and_gives

    def never(inner: Any, outer: Any) -> bool:
        asked.append(same(inner, outer))
        return False

    short = trained(Updates(3), dropout_network(3), columns)
    monkeypatch.setattr(machine, "_takes_and_gives", never)
    wrapped = trained(Updates(3), dropout_network(3), columns)
    assert asked == [True]  # so the other run did go the short way
    assert difference(short.model.state_dict(), wrapped.model.state_dict()) is None
    assert difference(list(short.history.rows), list(wrapped.history.rows)) is None


def test_headers_are_compiled_ahead_where_it_pays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    left_out = {"cpp_cache_precompile_headers": False}
    monkeypatch.setattr(machine, "_GRAPHS", itertools.count())
    monkeypatch.setattr("torch._inductor.codecache._HEADER_DIR", str(tmp_path / "headers"))
    assert left_out.items() <= machine._shorter_ways().items()  # nobody has done it, and it is this process's first graph
    assert not left_out.keys() & machine._shorter_ways()  # its second one
    monkeypatch.setattr(machine, "_GRAPHS", itertools.count())
    (tmp_path / "headers").mkdir()
    assert not left_out.keys() & machine._shorter_ways()


def test_what_somebody_said_about_the_compiler_stays() -> None:
    from torch._inductor import config  # noqa: PLC0415

    with config.patch({"cpp.vec_isa_ok": None}):
        assert machine._shorter_ways()["cpp.vec_isa_ok"] is True
    with config.patch({"cpp.vec_isa_ok": False}):
        assert "cpp.vec_isa_ok" not in machine._shorter_ways()


@pytest.mark.usefixtures("interpreter")
@settings(max_examples=8, deadline=None)
@given(rows=st.integers(100, 400), accumulate=st.integers(1, 3), size=st.integers(1, 4), stop=st.integers(1, 8))
def test_groups_that_are_read_ahead_are_those_that_are_read_one_by_one(rows: int, accumulate: int, size: int, stop: int) -> None:
    """Wherever a run is left and goes on. Seen to fail where a block is cut from the position rather than from the grid."""
    columns = table(rows, 4)

    def trained(ahead: int, columns: Any, stop: int | None = None) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torchflow.compiled.groups.AHEAD", ahead)
            compile = Updates(size)
            trainer = Trainer(
                supervised(nn.MSELoss()), optimizer=OPTIMIZERS["SGD"], compile=compile, accumulate=accumulate, progress=False
            )
            run = trainer.start(small_network(4), columns, batch_size=16)
            assert groups_ahead(run, size) == max(1, ahead // (size * accumulate))
            if stop is not None:
                assert list(torchflow.events(run, max_updates=stop))
            losses = [event.loss for event in torchflow.events(run, epochs=3) if isinstance(event, Stepped)]
            return run.model.state_dict(), losses[-1], run.progress

    assert difference(trained(32, columns), trained(1, columns)) is None
    # What is mapped here tells how many rows were read at once.
    mapped = data.from_tensors(columns).map_batch(lambda batch: (batch[0] + len(batch[0]) / 1_000, batch[1]))
    assert difference(trained(32, mapped, stop), trained(32, mapped)) is None


def test_machine_code_takes_class_weights_metric_objects_and_rates_that_move() -> None:
    """Seen to fall back when a tensor that the step holds is handed over once for each of its uses."""
    x, labels = numbers((30, 4), 0), (numbers((30, 1), 1).reshape(-1) > 0).long()
    loss = nn.CrossEntropyLoss(weight=torch.tensor([0.3, 0.7]))
    measures = {"accuracy": metrics.accuracy, "f1": torchmetrics.F1Score("binary")}

    def step(model: nn.Module, batch: Any) -> Any:
        outputs = supervised(loss, metrics={"accuracy": metrics.accuracy})(model, batch)
        return Outputs(outputs.loss, outputs.count, {**outputs.metrics, "f1": (outputs.predictions.argmax(1), batch[1])})

    step.metrics = {"f1": measures["f1"]}  # type: ignore[attr-defined]
    schedule = Schedule(lambda optimizer, plan: CosineAnnealingLR(optimizer, T_max=plan.updates or 1))
    assert_alike(
        lambda: with_weights(nn.Linear(4, 2), 0),
        (x, labels),
        within=1e-5,
        step=step,
        scheduler=schedule,
        accumulate=2,
        clip_norm=0.1,
    )


# The captured graph, run operation by operation.

# Two numbers of Adafactor are read in the middle of its step, which no graph can do.
CAPTURED = sorted(name for name in OPTIMIZERS if not name.startswith("L-BFGS") and name != "Adafactor")


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    """NAdam and RAdam keep numbers in the default dtype: in float32 those alone cost parity its last digits."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("interpreter", "float64_by_default")
@pytest.mark.parametrize("name", CAPTURED)
def test_every_captured_optimizer_is_torchs_own(name: str) -> None:
    """Seen to fail with bias corrections in float32, and with a learning rate that the graph holds as a constant."""
    columns = table(27, 3, dtype=torch.float64)
    schedule = Schedule(lambda optimizer, plan: CosineAnnealingLR(optimizer, T_max=20))
    assert_alike(
        lambda: small_network(3, dtype=torch.float64), columns, within=1e-12, optimizer=OPTIMIZERS[name], scheduler=schedule
    )


SCHEDULES: dict[str, Any] = {
    "none": None,
    "by epochs": lambda optimizer: StepLR(optimizer, step_size=1, gamma=0.5),
    "by updates": Schedule(lambda optimizer, plan: CosineAnnealingLR(optimizer, T_max=7)),
    "every second update": Schedule(lambda optimizer, plan: StepLR(optimizer, 1, gamma=0.9), every=Every(updates=2)),
    "one cycle": Schedule(lambda optimizer, plan: OneCycleLR(optimizer, 0.05, total_steps=1000, cycle_momentum=False)),
}


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(1, 30),
    batch_size=st.integers(1, 7),
    accumulate=st.integers(1, 3),
    size=st.one_of(st.integers(1, 9), st.just("epoch")),
    epochs=st.integers(1, 3),
    clip=st.sampled_from([None, 0.05]),
    clip_value=st.sampled_from([None, 0.02]),
    last_batch=st.sampled_from(["keep", "pad"]),
    name=st.sampled_from(["SGD", "momentum", "Adam fused", "two groups"]),
    schedule=st.sampled_from(sorted(SCHEDULES)),
    metric=st.booleans(),
    workers=st.sampled_from([0, 0, 2]),
)
def test_groups_train_what_single_updates_train(
    rows: int,
    batch_size: int,
    accumulate: int,
    size: int | Literal["epoch"],
    epochs: int,
    clip: float | None,
    clip_value: float | None,
    last_batch: str,
    name: str,
    schedule: str,
    metric: bool,
    workers: int,
) -> None:
    """Law 1 with ``compile=``: any cut, any group, accumulation, clipping, schedules and metrics, to rounding in float64.

    Seen to fail when groups begin anew at a resume instead of on the epoch's grid, when a schedule steps once a group, and when
    a window's batches are not weighed by their counts.
    """
    with interpreting():
        assert_alike(
            lambda: small_network(2, dtype=torch.float64),
            table(rows, 2, dtype=torch.float64),
            within=1e-11,
            compile=Updates(size),
            accumulate=accumulate,
            optimizer=OPTIMIZERS[name],
            clip_norm=clip,
            clip_value=clip_value,
            scheduler=SCHEDULES[schedule],
            step=supervised(nn.MSELoss(), metrics={"error": metrics.absolute_error, "r2": metrics.R2()} if metric else {}),
            fitted={"epochs": epochs, "batch_size": batch_size, "last_batch": last_batch, "workers": workers},
        )


@pytest.mark.usefixtures("interpreter")
class TestWhatIsCaptured:
    def test_frozen_unused_and_tied_parameters(self) -> None:
        class Odd(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.first, self.unused, self.frozen = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
                self.tied = nn.Linear(3, 3)
                self.tied.weight = self.first.weight
                self.frozen.requires_grad_(False)
                self.last = nn.Linear(3, 1)
                self.register_buffer("scale", torch.tensor(0.5))

            def forward(self, x: Tensor) -> Tensor:
                out: Tensor = self.last(self.tied(torch.tanh(self.frozen(self.first(x)))) * self.scale)
                return out

        assert_alike(lambda: with_weights(Odd(), 3), table(21, 3), clip_norm=0.5)

    def test_batch_norm_keeps_its_statistics(self) -> None:
        # Not with Adam: the gradient of a bias before a normalisation is nothing but rounding, and Adam makes whole steps of it.
        found = assert_alike(
            lambda: with_weights(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), 0),
            table(24, 3),
            within=1e-5,
            optimizer=OPTIMIZERS["momentum"],
        )
        assert found.model[1].num_batches_tracked.item() == 18

    def test_a_part_that_its_owner_keeps_in_evaluation_mode(self) -> None:
        def model() -> nn.Module:
            network = dropout_network(3)
            network[1].eval()  # type: ignore[index]
            network[3].eval()  # type: ignore[index]
            return network

        assert_alike(model, table(24, 3), within=1e-5)

    def test_dicts_and_dataclasses_of_batches(self) -> None:
        x, y = table(22, 3)

        def step(model: nn.Module, batch: Any) -> Tensor:
            loss: Tensor = (model(batch["in"]["x"]) - batch["y"]).square().mean()
            return loss

        assert_alike(lambda: small_network(3), {"in": {"x": x}, "y": y}, step=step)

    def test_foreign_datasets_and_streams_of_batches(self) -> None:
        x, y = table(22, 3)
        assert_alike(lambda: small_network(3), list(zip(x, y, strict=True)))
        loader: Any = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
        assert_alike(lambda: small_network(3), loader, fitted={"batch_size": None})
        batches = [(x[i : i + 4], y[i : i + 4]) for i in range(0, 22, 4)]

        class Endless:  # without a length
            def __iter__(self) -> Iterator[Any]:
                return iter(batches)

        assert_alike(lambda: small_network(3), Endless(), fitted={"batch_size": None})

    def test_random_maps_draw_by_their_samples(self) -> None:
        def jittered(sample: Any, generator: torch.Generator) -> Any:
            return sample[0] + 0.1 * torch.randn(3, generator=generator), sample[1]

        assert_alike(lambda: small_network(3), data.from_tensors(*table(22, 3)).map_random(jittered))

    def test_several_optimizers(self) -> None:
        recipes = {
            "first": lambda m: torch.optim.Adam(m[0].parameters(), lr=0.01),
            "last": lambda m: torch.optim.SGD(m[2].parameters(), lr=0.1, momentum=0.9),
        }
        schedule = {"last": Schedule(lambda optimizer, plan: StepLR(optimizer, 1, gamma=0.9))}
        assert_alike(lambda: small_network(3), table(22, 3), optimizer=recipes, scheduler=schedule)

    def test_class_weights(self) -> None:
        x, labels = numbers((30, 4), 0), torch.arange(30) % 2
        step = supervised(nn.CrossEntropyLoss(weight=torch.tensor([0.3, 0.7])))
        assert_alike(lambda: with_weights(nn.Linear(4, 2), 0), (x, labels), step=step, accumulate=2)

    def test_counts_that_the_step_gives(self) -> None:
        x, labels = numbers((40, 4), 0), torch.arange(40) % 3
        labels[::4] = -100
        assert_alike(lambda: with_weights(nn.Linear(4, 3), 0), (x, labels), step=supervised(nn.CrossEntropyLoss()), accumulate=2)


@pytest.mark.usefixtures("interpreter")
class TestGroups:
    def run(self, updates: int | Literal["epoch"] = 4, rows: int = 42, **options: Any) -> Any:
        trainer = Trainer(
            supervised(nn.MSELoss()), optimizer=OPTIMIZERS["Adam"], progress=False, compile=Updates(updates), **options
        )
        return trainer.start(small_network(3), table(rows, 3), batch_size=4)

    def test_a_group_is_one_event_with_every_loss_in_it(self) -> None:
        steps = [event for event in torchflow.events(self.run(), epochs=2) if isinstance(event, Stepped)]
        # ten whole batches and a short one: the update that makes Adam's state, the rest of its group, the grid, the short one
        assert [len(step.losses) for step in steps] == [1, 3, 4, 2, 1, 4, 4, 2, 1]
        assert [step.progress.updates for step in steps] == [1, 4, 8, 10, 11, 15, 19, 21, 22]
        assert [step.progress.samples for step in steps][-1] == 84
        single = [event for event in torchflow.events(self.run(updates=1), epochs=2) if isinstance(event, Stepped)]
        losses = torch.cat([step.losses for step in steps])
        assert torch.allclose(losses, torch.cat([step.losses for step in single]), rtol=1e-5)
        assert all(step.loss == step.losses[-1] for step in steps)

    def test_the_events_keep_their_losses(self) -> None:
        kept = [(e.losses, e.losses.tolist()) for e in torchflow.events(self.run(), epochs=3) if isinstance(e, Stepped)]
        assert all(losses.tolist() == values and not losses.requires_grad for losses, values in kept)

    @pytest.mark.parametrize(("limit", "reached"), [(2, 4), (4, 4), (5, 8), (11, 11), (12, 15)])
    def test_limits_round_up_to_the_grid(self, limit: int, reached: int) -> None:
        run = self.run()
        for _ in torchflow.events(run, max_updates=limit):
            pass
        assert run.progress.updates == reached

    def test_a_run_left_inside_an_epoch_goes_on_on_its_grid(self) -> None:
        run, reached = self.run(), []
        for limit in (1, 4, 9, 10):
            reached += [e.progress.updates for e in torchflow.events(run, max_updates=limit) if isinstance(e, Stepped)]
        assert reached == [1, 4, 8, 10]

    def test_update_makes_one_uncompiled_update(self) -> None:
        run = self.run()
        with run.session():
            stepped = torchflow.update(run, [next(run.batches.epoch(0))])
        assert stepped.progress.updates == 1
        assert stepped.group is None

    def test_a_stop_asked_for_in_a_group_comes_at_its_end(self) -> None:
        stopper = reacting("on_step_end", lambda run, event: torchflow.Stop("enough") if run.progress.updates >= 2 else None)
        run = self.run(callbacks=[stopper])
        *_, finished = torchflow.events(run, epochs=2)
        assert isinstance(finished, torchflow.Finished)
        assert (finished.reason, finished.progress.updates) == ("enough", 4)


@settings(max_examples=5, deadline=None)
@given(
    rows=st.integers(9, 30),
    size=st.one_of(st.integers(1, 5), st.just("epoch")),
    accumulate=st.integers(1, 2),
    epochs=st.integers(1, 2),
    schedule=st.sampled_from(["none", "by updates"]),
    validate=st.one_of(st.builds(Every, updates=st.integers(1, 4)), st.builds(Every, epochs=st.integers(1, 2))),
    stop=st.integers(1, 12),
)
def test_a_compiled_run_killed_and_resumed_ends_equal(
    tmp_path_factory: Any,
    rows: int,
    size: int | Literal["epoch"],
    accumulate: int,
    epochs: int,
    schedule: str,
    validate: Every,
    stop: int,
) -> None:
    """Law 2 with ``compile=``: dropout, statistics, schedules, best weights; and law 3, since the reference is not saved.

    Seen to fail when the random stream of a group is not keyed by its first update, and when groups start where a run was
    resumed and not on the grid.
    """
    x, y = table(rows, 3)

    def fit(folder: Path | None, **limits: Any) -> Any:
        trainer = Trainer(
            supervised(nn.MSELoss(), metrics={"error": metrics.absolute_error}),
            optimizer=OPTIMIZERS["Adam"],
            scheduler=SCHEDULES[schedule],
            accumulate=accumulate,
            callbacks=[EarlyStopping("valid/loss", patience=4, restore_best=True)],
            checkpoints=None if folder is None else Checkpoints(folder, every=Every(updates=3)),
            progress=False,
            compile=Updates(size),
        )
        options: dict[str, Any] = {"batch_size": 3, "last_batch": "drop", "validation": (x, y), "validate": validate}
        return trainer.fit(dropout_network(3), (x, y), **options, **limits, resume=folder is not None)

    with interpreting():
        expected = fit(None, epochs=epochs)
        folder = tmp_path_factory.mktemp("run") / "run"
        fit(folder, epochs=epochs, max_updates=stop)
        found = fit(folder, epochs=epochs)
    assert difference(found.model.state_dict(), expected.model.state_dict()) is None
    assert difference(list(found.history.rows), list(expected.history.rows)) is None
    assert found.progress == expected.progress


@pytest.mark.usefixtures("interpreter")
class TestNotFinite:
    def columns(self) -> tuple[Tensor, Tensor]:
        x, y = table(24, 3)
        x[13] = torch.nan
        return x, y

    def test_the_bad_update_is_named_and_the_parameters_are_those_before_it(self) -> None:
        fitted = {"shuffle": False, "epochs": 1}
        plain = small_network(3)
        with pytest.raises(NonFiniteError) as expected:
            trained(False, plain, self.columns(), fitted=fitted)
        model = small_network(3)
        with pytest.raises(NonFiniteError) as found:
            trained(Updates(6), model, self.columns(), fitted=fitted)
        assert str(found.value) == str(expected.value)
        assert largest_difference(model, plain) < 1e-6

    def test_skipping_drops_the_bad_update_alone(self) -> None:
        schedule = SCHEDULES["by updates"]
        assert_alike(lambda: small_network(3), self.columns(), nonfinite="skip", scheduler=schedule, compile=Updates(4))

    def test_an_infinite_gradient_under_a_finite_loss_is_found(self) -> None:
        def step(model: nn.Module, batch: Any) -> Tensor:
            predictions = model(batch[0])
            loss: Tensor = (predictions - batch[1]).square().mean() + (predictions.sum() * 0).sqrt()  # 1/sqrt(0) times 0
            return loss

        model = small_network(3)
        with pytest.raises(NonFiniteError, match="a gradient is not finite"):
            trained(Updates(4), model, table(24, 3), step=step)


@pytest.mark.usefixtures("interpreter")
@pytest.mark.fallback
class TestWhatCannotBeCaptured:
    def check(self, caplog: pytest.LogCaptureFixture, reason: str, **options: Any) -> None:
        """The run says why in one line, and is the uncompiled one to the bit."""
        columns, model = options.pop("columns", table(22, 3)), options.pop("model", lambda: small_network(3))
        expected = trained(False, model(), columns, **options)
        found = trained(Updates(4), model(), columns, **options)
        said = [record.message for record in caplog.records if "compile=" in record.message]
        assert len(said) == 1
        assert reason in said[0]
        assert difference(found.model.state_dict(), expected.model.state_dict()) is None
        assert difference(list(found.history.rows), list(expected.history.rows)) is None

    def test_a_step_that_reads_a_number(self, caplog: pytest.LogCaptureFixture) -> None:
        def step(model: nn.Module, batch: Any) -> Tensor:
            loss: Tensor = (model(batch[0]) - batch[1]).square().mean()
            return loss * 2 if loss.item() > 1e9 else loss

        self.check(caplog, "cannot be written down as a graph", step=step)

    def test_a_step_that_holds_a_parameter(self, caplog: pytest.LogCaptureFixture) -> None:
        """Seen to fail where the parameter becomes a constant: it then has no gradient, and its first value at every update."""
        weights: list[Any] = []

        def model() -> Any:
            network: Any = small_network(3)
            weights.append(network[0].weight)
            return network

        def step(given: nn.Module, batch: Any) -> Tensor:
            penalty = weights[-1].square().sum()
            loss: Tensor = (given(batch[0]) - batch[1]).square().mean() + penalty
            return loss

        self.check(caplog, "uses a parameter or buffer of the model other than through the model", model=model, step=step)

    @pytest.mark.parametrize("draw", [random.random, lambda: float(np.random.rand())])
    def test_a_step_that_draws_outside_torch(self, caplog: pytest.LogCaptureFixture, draw: Callable[[], float]) -> None:
        def step(model: nn.Module, batch: Any) -> Tensor:
            loss: Tensor = (model(batch[0]) - batch[1]).square().mean() * (1 + draw())
            return loss

        self.check(caplog, "draws from `random` or numpy.random", step=step)

    def test_a_module_that_keeps_what_it_saw(self, caplog: pytest.LogCaptureFixture) -> None:
        class Keeping(nn.Linear):
            seen: Any = None

            def forward(self, x: Tensor) -> Tensor:
                self.seen = x
                return super().forward(x)

        self.check(caplog, "Keeping sets its attribute 'seen'", model=lambda: with_weights(Keeping(3, 1), 0))

    def test_batches_with_text(self, caplog: pytest.LogCaptureFixture) -> None:
        x, y = table(22, 3)
        rows = [{"x": a, "y": b, "name": str(number)} for number, (a, b) in enumerate(zip(x, y, strict=True))]

        def step(model: nn.Module, batch: Any) -> Tensor:
            assert all(isinstance(name, str) for name in batch["name"])
            loss: Tensor = (model(batch["x"]) - batch["y"]).square().mean()
            return loss

        expected = trained(False, small_network(3), rows, step=step)
        found = trained(Updates(4), small_network(3), rows, step=step)
        assert difference(found.model.state_dict(), expected.model.state_dict()) is None

    @pytest.mark.parametrize("name", ["L-BFGS", "Adafactor"])
    def test_optimizers_that_read_numbers(self, caplog: pytest.LogCaptureFixture, name: str) -> None:
        self.check(caplog, "compile= does nothing", optimizer=OPTIMIZERS[name])

    def test_callbacks_that_look_at_gradients(self, caplog: pytest.LogCaptureFixture) -> None:
        self.check(caplog, "on_gradients", callbacks=[reacting("on_gradients", lambda run, event: None)])

    def test_a_schedule_that_moves_the_momentum(self, caplog: pytest.LogCaptureFixture) -> None:
        schedule = Schedule(lambda optimizer, plan: OneCycleLR(optimizer, 0.05, total_steps=1000))
        self.check(caplog, "cycle_momentum=False", scheduler=schedule)

    def test_a_compiler_that_fails(self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
        def failing(*_: Any) -> Any:
            raise RuntimeError("no C++ compiler found\nand much more")

        monkeypatch.setattr("torchflow.compiled.engine.compile_updates", failing)
        self.check(caplog, "the compiler failed (RuntimeError: no C++ compiler found)")

    def test_an_optimizer_of_the_users_that_counts_in_python(self, caplog: pytest.LogCaptureFixture) -> None:
        class Counting(torch.optim.SGD):
            @torch.no_grad()
            def step(self, closure: Any = None) -> None:  # type: ignore[override]
                for group in self.param_groups:
                    for p in group["params"]:
                        count = self.state[p]["count"] = self.state[p].get("count", 0) + 1
                        p.sub_(p.grad, alpha=0.01 / count)

        self.check(caplog, "keeps numbers that are no tensors", optimizer=lambda m: Counting(m.parameters(), lr=0.1))


@pytest.mark.usefixtures("interpreter")
@pytest.mark.parametrize(("precision", "within"), [("float64", 1e-12), ("bf16", 1e-2)])
def test_a_precision_is_captured_with_the_update(precision: str, within: float) -> None:
    """The end is that of an uncompiled run of the same precision, to its rounding, and not that of float32."""
    columns = table(24, 3)
    ends = {name: trained(Updates(3), small_network(3), columns, precision=name).model for name in (precision, "float32")}
    by_hand = trained(False, small_network(3), columns, precision=precision).model
    assert {p.dtype for p in ends[precision].parameters()} == {p.dtype for p in by_hand.parameters()}
    assert largest_difference(ends[precision], by_hand) <= within
    assert largest_difference(ends[precision], ends["float32"]) > 0


@pytest.mark.usefixtures("interpreter")
def test_a_callback_that_freezes_a_part_is_noticed() -> None:
    class Freezing(Callback):
        changes_run = True

        def on_epoch_start(self, run: Any, event: Any) -> None:
            run.model[0].requires_grad_(event.progress.epoch == 0)

    assert_alike(lambda: small_network(3), table(24, 3), callbacks=[Freezing()])


@pytest.mark.usefixtures("interpreter")
def test_a_schedule_of_the_users_that_moves_more_than_rates_is_refused() -> None:
    class Moving(torch.optim.lr_scheduler.LRScheduler):
        def get_lr(self) -> list[float | Tensor]:
            for group in self.optimizer.param_groups:
                group["weight_decay"] = 0.1 * self.last_epoch
            return [0.1 for _ in self.base_lrs]

    schedule = Schedule(lambda optimizer, plan: Moving(optimizer))
    with pytest.raises(ArgumentValueError, match=r"moves 'weight_decay' between updates.*Use compile=False"):
        trained(Updates(4), small_network(3), table(24, 3), scheduler=schedule)


@pytest.mark.parametrize("value", ["yes", 1, 32, None, 2.0])
def test_compile_is_a_bool_or_updates(value: Any) -> None:
    with pytest.raises(ArgumentTypeError, match=r"compile must be True or False.*Or Updates\(32\)"):
        Trainer(supervised(nn.MSELoss()), optimizer=OPTIMIZERS["SGD"], compile=value)


def test_updates_are_a_count_or_an_epoch() -> None:
    assert Updates(32).size == 32
    assert Updates("epoch").size > 10**12
    for wrong in (0, -1):
        with pytest.raises(ArgumentValueError, match="Updates"):
            Updates(wrong)
    for odd in ("all", 1.5, True, None):
        with pytest.raises(ArgumentTypeError, match="Updates"):
            Updates(odd)  # type: ignore[arg-type]


def test_what_is_compiled_leaves_no_key_in_a_checkpoint(tmp_path: Path) -> None:
    with interpreting():
        trained(Updates(4), small_network(3), table(22, 3), checkpoints=tmp_path / "run")
    loaded = Store(tmp_path / "run").load()
    assert loaded is not None
    assert set(loaded.state["model"]) == set(small_network(3).state_dict())
