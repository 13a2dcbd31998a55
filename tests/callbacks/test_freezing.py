from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchflow
from tests.compiled.interpreter import interpreting
from tests.laws.problems import OPTIMIZERS, copied, difference, dropout_network, small_network, table
from tests.small import columns, reacting, sgd, trainer, weights
from torchflow import Callback, EpochEnded, Every, Freeze, Stepped, Unfreeze, Updates
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CallbackError


def changes(callbacks: Any, model: nn.Module, *, epochs: int = 4, **options: Any) -> list[set[str]]:
    """The names of the tensors that each update changed."""
    seen: list[dict[str, Any]] = [weights(model)]
    spy = reacting("on_step_end", lambda run, event: seen.append(weights(run.model)))
    fitting = {"batch_size": 4, "last_batch": "drop", **options}
    trainer(callbacks={**callbacks, "spy": spy}, optimizer=sgd(0.05, weight_decay=0.1)).fit(
        model, columns(20), epochs=epochs, **fitting
    )
    return [{k for k in after if after[k] != before[k]} for before, after in pairwise(seen)]


def test_what_is_frozen_stays_to_the_bit_and_the_rest_trains() -> None:
    for changed in changes({"freeze": Freeze("0", "*.bias")}, small_network(2)):
        assert changed == {"/2.weight"}


def test_a_run_with_frozen_parts_is_the_run_by_hand() -> None:
    """Law 1 with a frozen part: requires_grad set by hand gives the same bits."""
    one, other = small_network(2), small_network(2)
    for parameter in other[0].parameters():  # type: ignore[index]
        parameter.requires_grad_(False)
    trainer(callbacks=[Freeze("0")], optimizer=OPTIMIZERS["AdamW"]).fit(one, columns(20), epochs=2)
    trainer(optimizer=OPTIMIZERS["AdamW"]).fit(other, columns(20), epochs=2)
    assert weights(one) == weights(other)


def test_running_statistics_of_a_frozen_part_are_frozen_too_where_not_told_otherwise() -> None:
    statistics = {"/1.running_mean", "/1.running_var", "/1.num_batches_tracked"}
    for changed in changes({"freeze": Freeze("0", "1")}, dropout_network(2)):
        assert changed == {"/4.weight", "/4.bias"}
    for changed in changes({"freeze": Freeze("0", "1", statistics=False)}, dropout_network(2)):
        assert changed == {"/4.weight", "/4.bias"} | statistics
    for changed in changes({"freeze": Freeze("0")}, dropout_network(2)):
        assert statistics < changed


@settings(max_examples=15, deadline=None)
@given(
    every=st.one_of(
        st.builds(Every, epochs=st.integers(1, 2)),
        st.builds(Every, updates=st.integers(1, 7)),
        st.builds(Every, samples=st.integers(1, 30)),
    )
)
def test_stages_are_released_one_after_the_other_as_a_function_of_the_progress(every: Every) -> None:
    """An update trains a stage exactly if so many intervals lie before it.

    Seen to fail when a stage is released at the end of the next epoch, and when the last stage is released with the first.
    """
    unfreeze = Unfreeze(["2.weight", ["0.*"]], every=every)
    for update, changed in enumerate(changes({"unfreeze": unfreeze}, small_network(2))):
        size = every.epochs or every.updates or every.samples or 0
        done = update // 5 if every.epochs else update if every.updates else 4 * update
        ready = done // size
        expected = {"/2.bias"} | ({"/2.weight"} if ready >= 1 else set()) | ({"/0.weight", "/0.bias"} if ready >= 2 else set())
        assert changed == expected, update


def test_released_statistics_follow_the_data_again() -> None:
    made = changes({"unfreeze": Unfreeze(["1"])}, dropout_network(2), epochs=2)
    assert all("/1.running_mean" not in changed for changed in made[:5])
    assert all("/1.running_mean" in changed for changed in made[5:])


def test_all_flags_are_put_back_whatever_ends_the_run() -> None:
    def flags(model: nn.Module) -> list[bool]:
        return [p.requires_grad for p in model.parameters()] + [m.training for m in model.modules()]

    def fail(run: Any, event: Any) -> None:
        raise ValueError("no")

    model = dropout_network(2)
    model[4].bias.requires_grad_(False)  # type: ignore[index]
    model[1].eval()  # type: ignore[index]
    before = flags(model)
    callbacks = {"freeze": Freeze("0", "4.bias"), "unfreeze": Unfreeze(["1"])}
    made = trainer(callbacks=callbacks)
    made.fit(model, columns(20), batch_size=4, epochs=3)
    assert flags(model) == before
    run = made.start(model, columns(20), batch_size=4)
    next(torchflow.events(run, epochs=1))
    assert flags(model) == before
    failing = trainer(callbacks={**callbacks, "fail": reacting("on_step_end", fail)})
    with pytest.raises(CallbackError):
        failing.fit(model, columns(20), batch_size=4, epochs=3)
    assert flags(model) == before


def test_a_part_that_its_owner_froze_begins_to_train() -> None:
    model = small_network(2)
    for parameter in model[0].parameters():  # type: ignore[index]
        parameter.requires_grad_(False)
    made = changes({"unfreeze": Unfreeze(["0"])}, model, epochs=2)
    assert ["/0.weight" in changed for changed in made] == [False] * 5 + [True] * 5
    assert not model[0].weight.requires_grad  # type: ignore[index]


def test_a_part_that_no_optimizer_would_train_is_refused() -> None:
    model = small_network(2)
    for parameter in model[0].parameters():  # type: ignore[index]
        parameter.requires_grad_(False)
    made = trainer(
        callbacks=[Unfreeze(["0"])], optimizer=lambda m: torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.1)
    )
    with pytest.raises(ArgumentValueError) as raised:
        made.fit(model, columns(20), epochs=1)
    assert str(raised.value) == (
        "Unfreeze: no optimizer holds '0.weight', so it would not train once it is released. Build the optimizer from "
        "model.parameters(), not from those that require a gradient at first."
    )


@pytest.mark.parametrize(
    ("callbacks", "says"),
    [
        (
            [Freeze("encoder")],
            "Freeze: 'encoder' matches no parameter of the model, whose parts are '0', '2'. A pattern is the name",
        ),
        ([Freeze("1")], "Freeze: '1' matches no parameter"),
        ([Unfreeze(["0", "3"])], "Unfreeze: '3' matches no parameter"),
        ([Freeze("*")], r"Freeze: with '\*' frozen, no parameter of the model trains in the first update. Leave out the part"),
        ([Unfreeze(["2", "0"])], "Unfreeze: with '2', '0' frozen, no parameter of the model trains in the first update"),
        ([Freeze("2"), Unfreeze(["0"])], "no parameter of the model trains in the first update"),
        (
            [Freeze("0.bias"), Unfreeze(["0"])],
            "two callbacks decide about the parameter '0.bias'. Name it in one Freeze or Unfreeze",
        ),
    ],
)
def test_patterns_that_make_no_sense_are_refused_before_anything_is_changed(callbacks: Any, says: str) -> None:
    model = small_network(2)
    with pytest.raises(ArgumentValueError, match=says):
        trainer(callbacks=callbacks).fit(model, columns(20), epochs=1)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (Freeze, ArgumentValueError, r"Freeze's patterns must not be empty, got \(\)"),
        (lambda: Freeze("a", ""), ArgumentValueError, "Freeze's patterns must not be empty"),
        (lambda: Freeze(["a"]), ArgumentTypeError, r"Freeze's patterns must be names .* Write .* Freeze\('encoder', 'head'\)"),  # type: ignore[arg-type]
        (lambda: Freeze("a", statistics=1), ArgumentTypeError, "statistics must be True or False"),  # type: ignore[arg-type]
        (lambda: Unfreeze("head"), ArgumentTypeError, "stages must be a list of stages such as"),
        (lambda: Unfreeze([]), ArgumentValueError, "stages must not be empty"),
        (lambda: Unfreeze([[]]), ArgumentValueError, r"stages\[0\] must not be empty"),
        (lambda: Unfreeze(["a", 3]), ArgumentTypeError, r"stages\[1\] must be names or patterns of modules"),  # type: ignore[list-item]
        (lambda: Unfreeze(["a"], every=Every(seconds=3)), ArgumentValueError, r"Unfreeze\(every=…\) can't be in seconds"),
        (lambda: Unfreeze(["a"], every=2), ArgumentTypeError, r"Unfreeze\(every=…\) must be an interval"),  # type: ignore[arg-type]
    ],
)
def test_impossible_choices_are_refused(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize("compile", [True, Updates(2)])
@pytest.mark.parametrize("every", [Every(epochs=1), Every(updates=4)])
def test_a_compiled_run_releases_stages_as_well(compile: Any, every: Every, caplog: pytest.LogCaptureFixture) -> None:
    states = []
    for choice in (False, compile):
        with interpreting():
            made = trainer(callbacks=[Unfreeze(["0"], every=every)], optimizer=OPTIMIZERS["Adam"], compile=choice)
            run = made.start(small_network(2), table(16, 2), batch_size=4)
            states.append([copied(run.model.state_dict()) for e in torchflow.events(run, epochs=3) if isinstance(e, EpochEnded)])
    assert [record.message for record in caplog.records if "compile=" in record.message] == []
    for one, other in zip(*states, strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-6)
    assert difference(states[0][0]["0.weight"], small_network(2).state_dict()["0.weight"]) is None or every.updates


def test_nothing_is_called_after_an_update_where_everything_stays_frozen() -> None:
    assert Freeze.on_step_end is Callback.on_step_end
    run = trainer(callbacks=[Freeze("0")]).start(small_network(2), columns(8))
    assert not run.reactions.has("on_step_end")
    assert not run.reactions.has("on_epoch_start")
    assert sum(isinstance(event, Stepped) for event in torchflow.events(run, epochs=1)) == 1


def test_gradients_of_frozen_parameters_are_never_made() -> None:
    seen: list[list[Tensor | None]] = []
    spy = reacting("on_gradients", lambda run, event: seen.append([p.grad for p in run.model.parameters()]))
    trainer(callbacks={"freeze": Freeze("0"), "spy": spy}, clip_norm=1.0).fit(small_network(2), columns(8), epochs=1)
    assert [[gradient is None for gradient in update] for update in seen] == [[True, True, False, False]]
