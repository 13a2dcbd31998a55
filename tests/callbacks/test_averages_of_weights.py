from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

import torchflow
from tests.laws.problems import copied, difference, dropout_network, small_network, table
from tests.small import columns, line, reacting, sgd, trainer, weights
from torchflow import EMA, SWA, Callback, EarlyStopping, Every, Finished, Stepped, Stop, Updates, Validated
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CallbackError, MismatchError


def states_of(watch: Callback | None = None, **options: Any) -> list[dict[str, Tensor]]:
    """The model's state after every update of five epochs of five updates."""
    seen: list[dict[str, Tensor]] = []
    spy = reacting("on_step_end", lambda run, event: seen.append(copied(run.model.state_dict())))
    trainer(callbacks={"spy": spy}, optimizer=sgd(0.05, momentum=0.9)).fit(
        dropout_network(2), columns(20), batch_size=4, last_batch="drop", epochs=5, **options
    )
    return seen


def fitted(callback: Callback, model: nn.Module | None = None, **options: Any) -> nn.Module:
    made = trainer(callbacks=[callback], optimizer=sgd(0.05, momentum=0.9))
    fitting = {"batch_size": 4, "last_batch": "drop", "epochs": 5, **options}
    return made.fit(dropout_network(2) if model is None else model, columns(20), **fitting).model  # type: ignore[no-any-return]


def by_hand(states: list[dict[str, Tensor]], rule: Any, **options: Any) -> dict[str, Tensor]:
    """torch's own average over the states of a model."""
    model = dropout_network(2)
    average = AveragedModel(model, multi_avg_fn=rule, **options)
    for state in states:
        model.load_state_dict(state)
        average.update_parameters(model)
    return dict(average.module.state_dict())


@settings(max_examples=10, deadline=None)
@given(
    decay=st.floats(0.0, 0.99),
    every=st.integers(1, 6),
    start=st.integers(0, 12),
    buffers=st.sampled_from(["copy", "average"]),
    validate=st.booleans(),
)
def test_an_exponential_average_is_torchs_own_over_the_same_weights(
    decay: float, every: int, start: int, buffers: Any, validate: bool
) -> None:
    """To the last bit, whatever validation looks at.

    Seen to fail when the average is made before the update, when the start is counted from the wrong update, and when the
    weights of the validation are not put back.
    """
    ema = EMA(
        decay,
        every=Every(updates=every),
        start_after=Every(updates=start) if start else None,
        buffers=buffers,
        validate=validate,
    )
    model = fitted(ema, validation=table(5, 2), validate=Every(updates=3))
    states = [state for update, state in enumerate(states_of(), 1) if update % every == 0 and update > start]
    expected = by_hand(states, get_ema_multi_avg_fn(decay), use_buffers=buffers == "average")
    assert ema.count == len(states)
    assert difference(dict(ema.averaged.state_dict()), expected) is None
    assert difference(dict(model.state_dict()), expected) is None


def test_a_decay_that_warms_up_rises_with_the_number_of_averages() -> None:
    ema = EMA(0.5, warm_up=True, apply=False)
    fitted(ema, line())
    model, average = line(), None
    spy: list[Tensor] = []
    watch = reacting("on_step_end", lambda run, event: spy.append(run.model.weight.detach().clone()))
    fitted(watch, model)
    for n, weight in enumerate(spy):
        decay = min(0.5, (1 + n) / (10 + n))
        average = weight if average is None else decay * average + (1 - decay) * weight
    assert average is not None
    torch.testing.assert_close(ema.averaged.weight, average, rtol=1e-5, atol=1e-6)


@settings(max_examples=8, deadline=None)
@given(start=st.integers(0, 2), every=st.integers(1, 3))
def test_a_stochastic_average_is_the_mean_of_the_weights_at_the_ends_of_late_epochs(start: int, every: int) -> None:
    """And the running statistics are those of one pass over the training data.

    Seen to fail when the average of an epoch's end comes one update late, and when the statistics are left as they are.
    """
    swa = SWA(Every(epochs=start) if start else None, every=Every(epochs=every))
    model = fitted(swa)
    ends = states_of()[4::5]
    chosen = [state for epoch, state in enumerate(ends, 1) if epoch % every == 0 and epoch > start]
    assert swa.count == len(chosen)
    for name, parameter in model.named_parameters():
        mean = torch.stack([state[name] for state in chosen]).mean(0)
        torch.testing.assert_close(parameter.detach(), mean, rtol=1e-5, atol=1e-6)
    norm: Any = copy.deepcopy(model)
    x, y = columns(20)
    run = trainer().start(dropout_network(2), (x, y), batch_size=4, last_batch="drop")
    update_bn([(batch[0],) for batch in run.batches.epoch(0)], norm)
    torch.testing.assert_close(norm[1].running_mean, model[1].running_mean)  # type: ignore[index]
    torch.testing.assert_close(norm[1].running_var, model[1].running_var)  # type: ignore[index]
    assert int(norm[1].num_batches_tracked) == 5


def test_statistics_can_be_left_alone_and_every_module_keeps_its_flag() -> None:
    swa = SWA(statistics=False)
    model = fitted(swa)
    assert difference(dict(model[1].named_buffers()), dict(swa.averaged[1].named_buffers())) is None  # type: ignore[index]
    assert int(model[1].num_batches_tracked) == 25  # type: ignore[index]
    network = dropout_network(2)
    network[3].eval()  # type: ignore[index]
    swa = SWA()
    fitted(swa, network)
    assert [module.training for module in swa.averaged.modules()] == [True, True, True, True, False, True]


def test_a_stream_is_averaged_at_the_ends_of_its_epochs() -> None:
    class Stream:
        def __iter__(self) -> Any:
            x, y = columns(20)
            return iter([(x[i : i + 4], y[i : i + 4]) for i in range(0, 20, 4)])

    swa = SWA(Every(epochs=1), statistics=False, apply=False)
    seen: list[Tensor] = []
    spy = reacting("on_epoch_end", lambda run, event: seen.append(run.model.weight.detach().clone()))
    trainer(callbacks={"swa": swa, "spy": spy}).fit(line(), Stream(), epochs=3)
    assert swa.count == 2
    torch.testing.assert_close(swa.averaged.weight, torch.stack(seen[1:]).mean(0))


def test_validation_sees_the_average_and_training_does_not() -> None:
    seen: list[tuple[dict[str, Any], dict[str, Any], float]] = []
    ema = EMA(0.7, apply=False)
    other = trainer()

    def look(run: Any, event: Validated) -> None:
        score = other.evaluate(ema.averaged, table(5, 2), batch_size=4)["loss"]
        seen.append((weights(run.model), weights(ema.averaged), score - event.metrics["valid/loss"]))

    looking = reacting("on_validation_end", look)
    made = trainer(callbacks={"ema": ema, "look": looking})
    run = made.start(small_network(2), columns(20), batch_size=4, validation=table(5, 2), validate=Every(updates=2))
    plain = trainer().start(small_network(2), columns(20), batch_size=4)
    trained = {e.progress.updates: weights(plain.model) for e in torchflow.events(plain, epochs=2) if isinstance(e, Stepped)}
    for event in torchflow.events(run, epochs=2):
        if isinstance(event, (Stepped, Validated)):
            assert weights(run.model) == trained[event.progress.updates]
    assert len(seen) == 5
    assert all(live == average and score == 0.0 for live, average, score in seen)


def test_early_stopping_keeps_the_averaged_weights_that_were_the_best() -> None:
    kept: list[dict[str, Any]] = []
    ema = EMA(0.7)
    look = reacting("on_validation_end", lambda run, event: kept.append(weights(ema.averaged)))
    callbacks = {"ema": ema, "stopping": EarlyStopping("valid/loss", patience=9, restore_best=True), "look": look}
    result = trainer(callbacks=callbacks).fit(small_network(2), columns(20), epochs=4, validation=table(9, 2))
    best = result.history.best("valid/loss")
    assert weights(result.model) == kept[best.epoch]


@pytest.mark.parametrize("first", ["average", "stopping"])
@pytest.mark.parametrize("make", [lambda: EMA(0.7), lambda: SWA(validate=True)], ids=["EMA", "SWA"])
def test_best_weights_have_the_last_word_in_every_order(make: Any, first: str) -> None:
    """Those that validation looked at; the last average stays beside the model.

    Seen to fail when whichever of the two is called last has its way.
    """
    seen: list[dict[str, Any]] = []
    look = reacting("on_validation_end", lambda run, event: seen.append(weights(run.model)))
    average, stopping = make(), EarlyStopping("valid/loss", patience=9, restore_best=True)
    callbacks: dict[str, Callback] = {"average": average, "stopping": stopping}
    callbacks = {name: callbacks[name] for name in sorted(callbacks, reverse=first == "stopping")}
    result = trainer(callbacks={**callbacks, "look": look}).fit(small_network(2), columns(20), epochs=4, validation=table(9, 2))
    best = result.history.best("valid/loss")
    assert weights(result.model) == seen[best.epoch] != seen[-1]
    assert weights(average.averaged) == seen[-1]


@pytest.mark.parametrize("first", ["average", "stopping"])
def test_an_average_that_gives_way_to_best_weights_is_said_before_the_run(first: str) -> None:
    seen: list[dict[str, Any]] = []
    note = reacting("on_epoch_end", lambda run, event: seen.append(weights(run.model)))

    def fit(average: Callback, metric: str) -> Any:
        pair: dict[str, Callback] = {"average": average, "stopping": EarlyStopping(metric, mode="max", restore_best=True)}
        names = sorted(pair, reverse=first == "stopping")
        made = trainer(callbacks={**{name: pair[name] for name in names}, "note": note})
        return made.fit(line(), columns(20), batch_size=4, epochs=3, validation=table(9, 2))

    with pytest.warns(UserWarning, match="both say what the model ends with") as warned:
        result = fit(SWA(), "valid/loss")
    assert [str(one.message) for one in warned] == [
        "SWA(apply=True) and EarlyStopping('valid/loss', restore_best=True) both say what the model ends with. It will be the best weights, and "
        "these are no averages: validation does not look at the average. For the best averages write SWA(validate=True); to end with the last "
        "average, restore_best=False; to keep it beside the model, SWA(apply=False), whose .averaged it is."
    ]
    assert warned[0].filename == __file__
    assert weights(result.model) == seen[result.history.best("valid/loss", "max").epoch]
    with pytest.warns(
        UserWarning, match="'train/loss' is measured with the weights that are trained. For the best averages judge a val"
    ):
        fit(EMA(0.9), "train/loss")
    fit(EMA(0.9, validate=False, apply=False), "valid/loss")
    with pytest.warns(UserWarning, match="SWA averaged nothing, and the model has its best weights: the first average was due"):
        fit(SWA(Every(epochs=75), validate=True), "valid/loss")


def test_without_a_best_value_a_run_ends_with_its_average() -> None:
    ema = EMA(0.7)
    callbacks = [EarlyStopping("valid/loss", restore_best=True), ema]
    result = trainer(callbacks=callbacks).fit(
        line(), columns(20), batch_size=4, epochs=1, validation=table(9, 2), validate=Every(epochs=2)
    )
    assert weights(result.model) == weights(ema.averaged)


def test_weights_are_put_back_where_a_validation_fails() -> None:
    calls = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        if not model.training:
            calls.append(1)
            raise RuntimeError("broken")
        return (model(batch[0]) - batch[1]).square().mean()  # type: ignore[no-any-return]

    seen: list[dict[str, Any]] = []
    spy = reacting("on_step_end", lambda run, event: seen.append(weights(run.model)))
    run = trainer(step=step, callbacks={"ema": EMA(0.5), "spy": spy}).start(line(), columns(20), validation=table(5, 2))
    with pytest.raises(RuntimeError, match="broken"):
        list(torchflow.events(run, epochs=2))
    assert calls
    assert weights(run.model) == seen[-1]
    assert run.settled


def test_weights_are_put_back_where_a_callback_fails_and_such_a_state_is_not_saved() -> None:
    def fail(run: Any, event: Any) -> None:
        raise ValueError("no")

    seen: list[dict[str, Any]] = []
    spy = reacting("on_step_end", lambda run, event: seen.append(weights(run.model)))
    callbacks = {"ema": EMA(0.5), "spy": spy, "fail": reacting("on_validation_end", fail)}
    run = trainer(callbacks=callbacks).start(line(), columns(20), validation=table(5, 2))
    with pytest.raises(CallbackError):
        list(torchflow.events(run, epochs=2))
    assert weights(run.model) == seen[-1]
    assert not run.settled


@pytest.mark.parametrize("kind", [EMA, SWA])
def test_an_average_that_only_watches_changes_nothing_and_says_so(kind: Any) -> None:
    average = kind(validate=False, apply=False)
    assert not average.changes_run
    assert kind(validate=True, apply=False).changes_run
    assert kind(validate=False, apply=True).changes_run
    assert weights(fitted(average)) == weights(fitted(Callback()))


def test_a_run_that_does_not_end_complete_keeps_its_own_weights() -> None:
    run = trainer(callbacks=[EMA(0.9)]).start(line(), columns(20), batch_size=4)
    for event in torchflow.events(run, epochs=3):
        if isinstance(event, Stepped) and event.progress.updates == 7:
            break
    plain = trainer().fit(line(), columns(20), batch_size=4, max_updates=7)
    assert weights(run.model) == weights(plain.model)


def test_a_stopped_run_ends_with_its_average() -> None:
    ema = EMA(0.9)
    stop = reacting("on_step_end", lambda run, event: Stop("enough") if event.progress.updates == 7 else None)
    result = trainer(callbacks={"ema": ema, "stop": stop}).fit(line(), columns(20), batch_size=4, epochs=9)
    assert ema.count == 7
    assert weights(result.model) == weights(ema.averaged)


def test_an_average_of_nothing_is_said() -> None:
    swa = SWA(Every(epochs=75))
    with pytest.warns(
        UserWarning, match="SWA averaged nothing, and the model is as the last update left it: the first average was"
    ):
        fitted(swa)
    with pytest.raises(ArgumentValueError, match="SWA has averaged nothing yet: its first average is due every epoch, after the"):
        swa.averaged  # noqa: B018


def test_a_second_fit_begins_a_new_average() -> None:
    ema = EMA(0.9)
    made = trainer(callbacks=[ema])
    first = made.fit(line(), columns(20), batch_size=4, epochs=2)
    again = made.fit(line(), columns(20), batch_size=4, epochs=2)
    assert weights(first.model) == weights(again.model)
    assert ema.count == 10


def test_the_state_is_a_copy_that_fits_and_another_models_is_refused() -> None:
    ema = EMA(0.9)
    fitted(ema, line())
    state = copied(ema.state())
    other = EMA(0.9)
    other.load_state(state)
    assert difference(dict(other.state()), state) is None
    state["weights"]["weight"].fill_(7.0)
    assert difference(dict(other.state()), copied(ema.state())) is None
    run = trainer(callbacks=[other]).start(line(features=3), table(8, 3))
    other.load_state(state)
    with pytest.raises(CallbackError, match="the stored average does not fit the model") as raised:
        next(torchflow.events(run, epochs=1))
    assert isinstance(raised.value.__cause__, MismatchError)
    assert raised.value.__cause__.differences == (
        "weight: stored as a tensor (1, 2) of float32, live as a tensor (1, 3) of float32",
    )


def test_tied_weights_stay_tied_in_the_average() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(2, 2), nn.Linear(2, 2)
            self.two.weight = self.one.weight

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.two(torch.tanh(self.one(x))).sum(1, keepdim=True)
            return out

    torch.manual_seed(0)
    ema = EMA(0.5)
    model = fitted(ema, Tied(), validation=table(4, 2))
    assert ema.averaged.one.weight is ema.averaged.two.weight  # type: ignore[union-attr]
    assert weights(model) == weights(ema.averaged)


def test_groups_of_a_compiled_run_are_averaged_whole_or_refused() -> None:
    with pytest.raises(ArgumentValueError) as raised:
        trainer(callbacks=[EMA(0.9)], compile=Updates(4)).fit(line(), columns(20), epochs=1)
    assert "compile=Updates(4) shows every 4 updates. Average every=Every(updates=4), with a decay for" in str(raised.value)
    with pytest.raises(
        ArgumentValueError, match=r"compile=Updates\('epoch'\) shows the end of every epoch\. Average every=Every\(epochs=1\)"
    ):
        trainer(callbacks=[EMA(0.9)], compile=Updates("epoch")).fit(line(), columns(20), epochs=1)
    trainer(callbacks=[EMA(0.9, every=Every(updates=8))], compile=Updates(4)).start(line(), columns(20))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: EMA(1.0), ArgumentValueError, "decay must be below 1, or the average never moves, got 1.0"),
        (lambda: EMA(-0.1), ArgumentValueError, "decay must be a finite number of at least 0, got -0.1"),
        (lambda: EMA("0.9"), ArgumentTypeError, "decay must be a number of at least 0, got '0.9'"),  # type: ignore[arg-type]
        (lambda: EMA(every=Every(seconds=3)), ArgumentValueError, r"EMA\(every=…\) can't be in seconds"),
        (lambda: EMA(every=3), ArgumentTypeError, r"EMA\(every=…\) must be an interval such as Every\(epochs=1\), got 3"),  # type: ignore[arg-type]
        (lambda: EMA(start_after=3), ArgumentTypeError, r"EMA\(start_after=…\) must be an interval"),  # type: ignore[arg-type]
        (lambda: EMA(warm_up=1), ArgumentTypeError, "warm_up must be True or False"),  # type: ignore[arg-type]
        (lambda: EMA(buffers="none"), ArgumentValueError, "buffers must be one of 'copy', 'average'"),  # type: ignore[arg-type]
        (lambda: SWA(3), ArgumentTypeError, r"SWA\(start_after=…\) must be an interval"),  # type: ignore[arg-type]
        (lambda: SWA(Every(seconds=3)), ArgumentValueError, r"SWA\(start_after=…\) can't be in seconds"),
        (lambda: SWA(statistics="yes"), ArgumentTypeError, "statistics must be True or False"),  # type: ignore[arg-type]
        (lambda: SWA(apply=0), ArgumentTypeError, "apply must be True or False"),  # type: ignore[arg-type]
    ],
)
def test_impossible_choices_are_refused(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_a_finished_run_may_be_entered_again() -> None:
    """The process has its own random state between two calls, which is no draw of anybody's in the run."""
    run = trainer(callbacks=[EMA(0.9)]).start(line(), columns(20), batch_size=4)
    ends = [list(torchflow.events(run, epochs=2))[-1] for _ in range(2)]
    assert all(isinstance(end, Finished) and end.reason == "all 2 epochs are done" for end in ends)
