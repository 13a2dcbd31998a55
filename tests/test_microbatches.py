"""Batches in pieces: how they are cut, what cannot be, and what happens where the memory does not suffice."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from tests.small import Recorder, columns, line, state_of, trainer, weights
from torchflow import Checkpoints, Outputs, Run, Sample, Updates, events, find_batch_size, update
from torchflow.errors import ArgumentValueError, DataError, OutOfMemoryError
from torchflow.microbatches import cut


class Pair(NamedTuple):
    values: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Sentence:
    tokens: Tensor
    text: list[str]
    language: str


@settings(max_examples=50, deadline=None)
@given(samples=st.integers(1, 40), size=st.integers(1, 45))
def test_pieces_hold_every_sample_once_in_order_and_are_as_few_as_they_can_be(samples: int, size: int) -> None:
    """Seen to fail when the last piece takes what is left over."""
    batch = (torch.arange(samples * 2.0).reshape(samples, 2), torch.arange(samples))
    pieces = list(cut(batch, size))
    assert torch.equal(torch.cat([x for x, _ in pieces]), batch[0])
    assert torch.equal(torch.cat([y for _, y in pieces]), batch[1])
    lengths = [len(x) for x, _ in pieces]
    assert len(pieces) == -(-samples // size)
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


def test_a_batch_of_any_structure_is_cut() -> None:
    batch = {
        "pair": Pair(torch.arange(6).reshape(3, 2), torch.ones(3, 5, dtype=torch.bool)),
        "array": np.arange(3.0),
        "sentence": Sentence(torch.arange(3), ["a", "b", "c"], "en"),
        "names": ("x", "y", "z"),
        "none": None,
        "factor": 2.5,
        "scale": torch.tensor(3.0),
        "list": [torch.arange(3)],
        "empty": [],
    }
    first, second = cut(batch, 2)
    assert [len(piece["array"]) for piece in (first, second)] == [1, 2]  # type: ignore[arg-type]
    assert isinstance(second["pair"], Pair)
    assert second["pair"].values.tolist() == [[2, 3], [4, 5]]
    assert isinstance(second["sentence"], Sentence)
    assert (second["sentence"].text, second["sentence"].language) == (["b", "c"], "en")
    assert second["names"] == ("y", "z")
    assert (second["none"], second["factor"], second["scale"]) == (None, 2.5, batch["scale"])
    assert second["list"][0].tolist() == [1, 2]  # type: ignore[index]
    assert second["empty"] == []


def test_a_piece_is_a_copy_and_keeps_its_memory_format() -> None:
    """Seen to fail when a piece is a view."""
    pictures, labels = torch.randn(6, 3, 4, 4).contiguous(memory_format=torch.channels_last), np.arange(6)
    for x, y in cut((pictures, labels), 3):
        assert x.is_contiguous(memory_format=torch.channels_last)
        x.zero_()
        y[:] = -1
    assert pictures.abs().sum() > 0
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_batch_that_is_small_enough_is_itself_whatever_it_holds() -> None:
    batch = (torch.ones(3, 2), object())
    assert next(cut(batch, 3)) is batch


UNCUTTABLE: dict[str, tuple[Any, str]] = {
    "another first dimension": ((torch.ones(4, 2), torch.ones(5)), r"it holds a tensor of shape \(5,\), .* \[0\] float32 \(4, 2\)"),
    "an array of another length": ((torch.ones(4, 2), np.ones(3)), r"it holds an array of shape \(3,\)"),
    "packed": (pack_sequence([torch.ones(3), torch.ones(2)]), r"it holds a PackedSequence, whose rows are no samples"),
    "sparse": ((torch.ones(4, 2), torch.eye(4).to_sparse()), r"it holds a sparse tensor of shape \(4, 4\)"),
    "nested": (
        (torch.ones(2, 2), torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)),
        r"it holds a nested tensor",
    ),
    "texts of another number": ((torch.ones(4, 2), ["a", "b"]), r"it holds a list of 2 plain values"),
    "numbers in a list": ((torch.ones(4, 2), [1, 2, 3, 4]), r"it holds a list of 4 plain values"),
    "an object": ((torch.ones(4, 2), object()), r"it holds a object"),
}


@pytest.mark.parametrize("name", UNCUTTABLE)
def test_what_cannot_be_cut_is_named(name: str) -> None:
    batch, message = UNCUTTABLE[name]
    with pytest.raises(DataError, match=rf"cannot be cut into microbatches: {message}"):
        list(cut(batch, 1))


def test_a_batch_that_cannot_be_cut_leaves_the_run_as_it_was() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        return model(batch[0]).square().mean()  # type: ignore[no-any-return]

    run = trainer(step=step, microbatch=2).start(line(), columns(8), batch_size=4)
    before = state_of(run)
    with pytest.raises(DataError, match=r"a tensor of shape \(3,\)"):
        update(run, [(torch.ones(4, 2), torch.ones(3))])
    assert state_of(run) == before


def short_of_memory(most: int, seen: list[int] | None = None, starve: Callable[[], object] | None = None) -> Any:
    """A step on a device whose memory holds so many samples; writes down how many came."""

    def step(model: nn.Module, batch: Any) -> Outputs:
        if seen is not None:
            seen.append(len(batch[0]))
        predictions = model(batch[0])
        if len(batch[0]) > most:
            if starve is not None:
                starve()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB\nmore")
        return Outputs((predictions - batch[1]).square().mean(), predictions=predictions)

    return step


def test_pieces_are_halved_until_they_fit_and_it_is_said_once() -> None:
    """Seen to fail when the size that was found is forgotten."""
    seen: list[int] = []
    recorder = Recorder()
    with pytest.warns(UserWarning, match="did not fit") as caught:
        result = trainer(step=short_of_memory(5, seen), microbatch="auto", callbacks=[recorder]).fit(
            line(), columns(36), batch_size=18, epochs=2
        )
    assert seen == [18, 9, *[4, 5, 4, 5] * 4]
    assert [str(warning.message) for warning in caught] == [
        "update 0 did not fit into the memory with 9 samples at once. From here on, batches go through the step in pieces of at most 5, with the same "
        "mathematics by counts. Pass microbatch=5 for a run that does not depend on the memory."
    ]
    assert Path(caught[0].filename) == Path(__file__)
    assert result.progress.samples == 72
    assert recorder.hooks.count("on_gradients") == recorder.hooks.count("on_step_end") == 4


def test_the_memory_of_an_attempt_is_free_before_the_next_one() -> None:
    """Seen to fail when the next attempt is made where the error is handled."""
    large: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        alive.append(sum(reference() is not None for reference in large))
        activations = model(batch[0])
        large.append(weakref.ref(activations))
        if len(batch[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return activations.square().mean()  # type: ignore[no-any-return]

    run = trainer(step=step, microbatch="auto").start(line(), columns(8), batch_size=8)
    with pytest.warns(UserWarning, match="at most 2"):
        update(run, [columns(8)])
    assert len(alive) == 2 + 4
    assert set(alive) == {0}


def test_where_one_sample_does_not_fit_it_is_said_what_was_tried() -> None:
    run = trainer(step=short_of_memory(0), microbatch="auto").start(line(), columns(8), batch_size=6)
    with pytest.raises(OutOfMemoryError) as caught:
        update(run, [columns(6)])
    text = str(caught.value)
    assert text.startswith(
        "Out of memory in update 0: microbatch='auto' tried pieces of 6, 3, 2 and 1 samples, and not even one sample fits."
    )
    assert text.endswith("torch said: CUDA out of memory. Tried to allocate 2.00 GiB")
    assert isinstance(caught.value.__cause__, torch.OutOfMemoryError)
    assert all(parameter.grad is None for parameter in run.parameters)
    assert run.progress.updates == 0
    assert weights(run.model) == weights(line())


def test_an_update_whose_step_has_written_to_its_batch_is_not_made_again() -> None:
    """Seen to fail when nobody looks: the second attempt would see another batch."""

    def step(model: nn.Module, batch: Any) -> Tensor:
        loss: Tensor = model(batch[0].mul_(2)).square().mean()
        if len(batch[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    run = trainer(step=step, microbatch="auto").start(line(), columns(8), batch_size=4)
    with pytest.raises(OutOfMemoryError, match=r"the step has written to its batch\. Write x = x \* 2 .* microbatch=2"):
        update(run, [columns(4)])


def test_a_batch_that_cannot_be_cut_is_named_where_memory_does_not_suffice() -> None:
    run = trainer(step=short_of_memory(2), microbatch="auto").start(line(), columns(8), batch_size=4)
    with pytest.raises(
        OutOfMemoryError, match=r"microbatch='auto' cannot help: a batch of 4 samples cannot be cut .* torch said: CUDA"
    ):
        update(run, [(*columns(4), object())])


def test_another_error_of_a_smaller_piece_says_why_there_are_pieces() -> None:
    def step(model: nn.Module, batch: Any) -> Tensor:
        if len(batch[0]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        raise ValueError("too few")

    run = trainer(step=step, microbatch="auto").start(line(), columns(8), batch_size=4)
    with pytest.raises(ValueError, match="too few") as caught:
        update(run, [columns(4)])
    assert (
        "torchflow: for want of memory, microbatch='auto' had cut the batches to at most 2 samples at once."
        in caught.value.__notes__
    )


def test_without_a_microbatch_or_with_a_number_nothing_is_made_again() -> None:
    for choice in (None, 3):
        seen: list[int] = []
        run = trainer(step=short_of_memory(2, seen), microbatch=choice).start(line(), columns(8), batch_size=4)
        with pytest.raises(OutOfMemoryError, match=r"microbatch='auto', or a number of samples"):
            update(run, [columns(3)])
        assert seen == [3]


def test_what_torchs_own_allocator_refuses_on_the_cpu_is_cut() -> None:
    step = short_of_memory(3, starve=lambda: torch.empty(2**50))  # four petabytes
    with pytest.warns(UserWarning, match="at most 3"):
        update(trainer(step=step, microbatch="auto").start(line(), columns(8), batch_size=6), [columns(6)])


CHILD = """
import resource, torch
from torch import nn
from torchflow import Trainer, update

def step(model, batch):
    large = torch.ones(len(batch[0]), 2**22)  # 16 MiB a sample
    return model(batch[0]).square().mean() + 0 * large[0, 0]

run = Trainer(
    step, optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1), microbatch="auto", progress=False, device="cpu"
).start(nn.Linear(2, 1), (torch.ones(64, 2), torch.ones(64, 1)), batch_size=64)
update(run, [(torch.ones(1, 2), torch.ones(1, 1))])  # all threads and libraries are there
mapped = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + 2**29, resource.getrlimit(resource.RLIMIT_AS)[1]))
update(run, [(torch.ones(64, 2), torch.ones(64, 1))])
print("found", run.microbatch, run.progress.samples)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space and /proc are Linux's")
def test_a_process_whose_memory_is_limited_finds_its_size() -> None:
    """64 samples would take a gibibyte, and half of it is there."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(CHILD)], capture_output=True, text=True, check=False
    )
    found, _, samples = done.stdout.strip().removeprefix("found ").partition(" ")
    assert samples == "65", done.stderr
    assert found in ("8", "16", "32")


def test_updates_of_ones_own_compiled_ones_and_closures_are_refused() -> None:
    for options, message in (
        ({"update": lambda run, batches: None}, r"microbatch cuts batches .*cannot in update=\. Leave out"),
        ({"compile": True}, r"microbatch cuts batches .*cannot in compile=\. Leave out"),
        ({"compile": Updates(4)}, r"cannot in compile="),
    ):
        for choice in (4, "auto"):
            with pytest.raises(ArgumentValueError, match=message):
                trainer(microbatch=choice, **options)
    by_closure = {"optimizer": lambda model: torch.optim.LBFGS(model.parameters())}
    trainer(microbatch=4, **by_closure).start(line(), columns(8))
    with pytest.raises(ArgumentValueError, match=r"microbatch='auto' makes an update again .* L-BFGS .* microbatch=32"):
        trainer(microbatch="auto", **by_closure).start(line(), columns(8))


def test_validation_evaluate_and_predict_go_in_the_same_pieces() -> None:
    """Seen to fail when they take whole batches."""
    seen: list[int] = []
    chosen, plain = trainer(step=short_of_memory(99, seen), microbatch=3), trainer(step=short_of_memory(99))
    model = line()
    chosen.fit(model, columns(8), batch_size=8, epochs=1, validation=columns(7))
    assert seen == [2, 3, 3, 2, 2, 3]
    seen.clear()
    assert chosen.evaluate(model, columns(8), batch_size=8) == pytest.approx(plain.evaluate(model, columns(8), batch_size=8))
    torch.testing.assert_close(chosen.predict(model, columns(8), batch_size=8), plain.predict(model, columns(8), batch_size=8))
    assert seen == [2, 3, 3] * 2
    by_forward = chosen.predict(model, (columns(8)[0],), batch_size=8, forward=lambda model, batch: model(batch[0]))
    torch.testing.assert_close(by_forward, plain.predict(model, columns(8), batch_size=8))


def test_validation_goes_in_the_pieces_that_were_found() -> None:
    seen: list[int] = []

    def forward(model: nn.Module, batch: Any) -> Any:
        seen.append(len(batch[0]))
        return model(batch[0])

    sample = Sample(columns(6), lambda predictions, event: None, forward=forward)
    with pytest.warns(UserWarning, match="at most 2"):
        trainer(step=short_of_memory(2, seen), microbatch="auto", callbacks=[sample]).fit(
            line(), columns(4), batch_size=4, epochs=1, validation=columns(6)
        )
    assert seen[:3] == [4, 2, 2]
    assert set(seen[3:]) == {2}
    assert len(seen) == 3 + 3 + 3


def test_the_size_is_in_the_state_only_where_there_is_one() -> None:
    assert "microbatch" not in trainer().start(line(), columns(8)).state()
    run = trainer(step=short_of_memory(2), microbatch="auto").start(line(), columns(8), batch_size=8)
    assert run.state()["microbatch"] is run.microbatch is None
    with pytest.warns(UserWarning, match="at most 2"):
        next(event for event in events(run) if run.progress.updates)
    assert run.state()["microbatch"] == run.microbatch == 2
    assert trainer(microbatch=4).start(line(), columns(8)).microbatch == 4


def test_a_resume_with_another_microbatch_is_warned_of_and_one_with_the_same_is_not(tmp_path: Path) -> None:
    def fit(choice: Any, epochs: int) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            trainer(microbatch=choice, checkpoints=Checkpoints(tmp_path / "run")).fit(
                line(), columns(8), epochs=epochs, resume=True
            )
        return [str(warning.message) for warning in caught if "microbatch" in str(warning.message)]

    assert fit(None, 1) == []
    assert fit(4, 2) == ["the resumed run may differ in its last bits: the microbatch was not recorded and is 4 now."]
    assert fit(4, 3) == []
    assert fit("auto", 4) == ["the resumed run may differ in its last bits: the microbatch was 4 and is auto now."]
    assert fit("auto", 5) == []


def test_plans_rehearsals_and_the_search_for_a_size_know_it() -> None:
    planned = trainer(microbatch=4).plan(line(), columns(16), epochs=1, batch_size=8)
    assert planned.microbatch == 4
    assert "microbatch   at most 4 samples at once" in repr(planned)
    assert "microbatch" not in repr(trainer().plan(line(), columns(16), epochs=1))
    starved = trainer(step=short_of_memory(1), microbatch="auto")
    with pytest.warns(UserWarning, match="at most 1"):
        assert "microbatch   at most 1 sample at once" in repr(starved.plan(line(), columns(16), epochs=1, batch_size=8))
    with pytest.warns(UserWarning, match="at most 1"):
        rehearsal = starved.rehearse(line(), columns(16), epochs=1, batch_size=8)
    assert rehearsal.ok
    assert "at most 1 sample at once" in repr(rehearsal)
    for choice in ("auto", 2):
        found = find_batch_size(trainer(step=short_of_memory(5), microbatch=choice), line(), columns(16), start=2)
        assert found.largest == 5  # that of one pass, not of the batches that would be cut


def test_an_update_in_which_nothing_counts_is_not_finite_in_pieces_either() -> None:
    def step(model: nn.Module, batch: Any) -> Outputs:
        return Outputs(model(batch[0]).sum() / 0 * 0, 0)

    for choice in (None, 2):
        result = trainer(step=step, microbatch=choice, nonfinite="skip").fit(line(), columns(4), batch_size=4, epochs=1)
        assert weights(result.model) == weights(line())


def test_fp16_scales_the_pieces_of_a_batch_too() -> None:
    """At a factor that neither overflows: as in any accumulation, sums overflow sooner than means."""

    def trained(choice: int | None) -> Tensor:
        run = trainer(precision="fp16", microbatch=choice).start(line(), columns(8), batch_size=8)
        assert run.scaling is not None
        run.scaling.load_state({**run.scaling.state(), "scale": 64.0})
        assert update(run, [columns(8)]).skipped == 0
        return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])

    torch.testing.assert_close(trained(3), trained(None), rtol=2e-3, atol=2e-3)
    assert not torch.equal(trained(3), torch.cat([parameter.detach().flatten() for parameter in line().parameters()]))


def test_pieces_draw_apart_and_every_update_draws_again_what_it_drew() -> None:
    """Seen to fail when each piece begins its batch's stream anew."""
    drawn: list[tuple[float, float]] = []

    def step(model: nn.Module, batch: Any) -> Tensor:
        drawn.append((torch.rand(()).item(), float(np.random.uniform())))
        return model(batch[0]).square().mean()  # type: ignore[no-any-return]

    def draws(microbatch: int | None) -> list[tuple[float, float]]:
        drawn.clear()
        trainer(step=step, microbatch=microbatch, accumulate=2).fit(line(), columns(24), batch_size=6, epochs=1)
        return list(drawn)

    pieces = draws(2)
    assert len(set(pieces)) == len(pieces) == 12
    assert draws(2) == pieces
    assert pieces[::3] == draws(None)


def test_a_run_says_nothing_of_pieces_where_none_were_asked_for() -> None:
    run: Run[Any, Any] = trainer().start(line(), columns(8))
    assert run.microbatch is None
    assert run.microbatches is None
