"""Laws 1 to 4 for a mapping of steps, each with an optimizer of its own, as adversarial training wants it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import softplus

import torchflow
from tests.laws.problems import OPTIMIZERS, LossSum, difference, numbers, with_weights
from tests.small import state_of
from torchflow import Checkpoints, Every, Outputs, Trainer, events
from torchflow.data.batches import batches_of
from torchflow.randomness import Keys
from torchflow.update_randomness import ForwardStream

NAMES = st.sampled_from(sorted(name for name in OPTIMIZERS if not name.startswith("L-BFGS")))


class Pair(nn.Module):
    """A generator (noise of 3 to points of 2) and a critic; with dropout where it is wanted."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 2))
        self.critic = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Dropout(dropout), nn.Linear(6, 1))


def judge(model: Any, real: Tensor) -> Tensor:
    fake = model.generator(torch.randn(len(real), 3, dtype=real.dtype)).detach()
    return softplus(-model.critic(real)).mean() + softplus(model.critic(fake)).mean()


def fool(model: Any, real: Tensor) -> Tensor:
    return softplus(-model.critic(model.generator(torch.randn(len(real), 3, dtype=real.dtype)))).mean()


STEPS = {"critic": judge, "generator": fool}


def parted(names: dict[str, str]) -> dict[str, Callable[[Any], torch.optim.Optimizer]]:
    def recipe(part: str, name: str) -> Callable[[Any], torch.optim.Optimizer]:
        return lambda model: OPTIMIZERS[name](getattr(model, part))

    return {part: recipe(part, name) for part, name in names.items()}


def pair(seed: int = 0, dtype: torch.dtype = torch.float32, dropout: float = 0.0) -> nn.Module:
    return with_weights(Pair(dropout), seed, dtype)


def trainer(critic: str = "Adam", generator: str = "Adam", **options: Any) -> Trainer[Any, Any]:
    optimizer = parted({"critic": critic, "generator": generator})
    return Trainer(options.pop("step", STEPS), **{"optimizer": optimizer, "progress": False, "device": "cpu", **options})


def by_hand(model: Any, optimizers: dict[str, Any], points: Tensor, size: int, epochs: int, clip: float | None) -> None:
    """The loop of every course on GANs; each forward pass on the random stream that torchflow gives it."""
    order = batches_of(points, keys=Keys(0), name="train", batch_size=size)
    stream, update = ForwardStream(Keys(0), 2), 0
    for epoch in range(epochs):
        for batch in range(order.length or 0):
            real = points.index_select(0, torch.tensor(order.indices(epoch, batch)))
            for number, (name, step) in enumerate(STEPS.items()):
                torch.manual_seed(stream(update, number))
                loss = step(model, real)
                optimizers[name].zero_grad()
                loss.backward()
                if clip is not None:
                    nn.utils.clip_grad_norm_(getattr(model, name).parameters(), clip)
                optimizers[name].step()
            update += 1


@settings(max_examples=25, deadline=None)
@given(
    critic=NAMES,
    generator=NAMES,
    rows=st.integers(1, 30),
    size=st.integers(1, 12),
    epochs=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    clip=st.sampled_from([None, 0.05, 10.0]),
)
def test_fit_equals_the_loop_with_two_optimizers(
    critic: str, generator: str, rows: int, size: int, epochs: int, dtype: torch.dtype, clip: float | None
) -> None:
    """Parameters and the state of both optimizers are equal to the bit; noise is drawn in both steps.

    Seen to fail when a step's backward pass reaches the other network, whose gradients are then clipped with its own, when
    gradients stay until the next step, when both steps draw the same noise, and when streams of two updates are one.
    """
    points = numbers((rows, 2), 5, dtype)
    expected: Any = pair(1, dtype)
    optimizers = {name: recipe(expected) for name, recipe in parted({"critic": critic, "generator": generator}).items()}
    with torch.random.fork_rng():
        by_hand(expected, optimizers, points, size, epochs, clip)
    run = trainer(critic, generator, clip_norm=clip).start(pair(1, dtype), points, batch_size=size)
    for _ in events(run, epochs=epochs):
        pass
    found = {"model": run.model.state_dict(), **{name: list(one.state.values()) for name, one in run.optimizers.items()}}
    hand = {"model": expected.state_dict(), **{name: list(one.state.values()) for name, one in optimizers.items()}}
    assert difference(found, hand) is None


@settings(max_examples=15, deadline=None)
@given(
    killed=st.integers(1, 11),
    accumulate=st.integers(1, 3),
    names=st.tuples(NAMES, NAMES),
)
def test_a_run_that_was_killed_goes_on_to_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, killed: int, accumulate: int, names: tuple[str, str]
) -> None:
    """With noise, dropout, accumulation and validation in mid-epoch: all of the state, averages and history included.

    Seen to fail when no step is put on a random stream of its own.
    """
    folder = tmp_path_factory.mktemp("run")
    options: dict[str, Any] = {"accumulate": accumulate, "callbacks": [LossSum()]}

    def start() -> Any:
        made = trainer(*names, **options)
        points = numbers((26, 2), 5)
        return made.start(pair(dropout=0.3), points, batch_size=3, validation=points[:7], validate=Every(updates=2))

    whole = start()
    for _ in events(whole, epochs=4):
        pass
    first = start()
    for _ in events(first, max_updates=killed):
        pass
    torchflow.save(first, folder)
    second = start()
    torchflow.load(second, folder)
    for _ in events(second, epochs=4):
        pass
    expected, found = state_of(whole), state_of(second)
    assert {path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)} <= {"/stop"}


@settings(max_examples=10, deadline=None)
@given(every=st.integers(1, 4), evaluated=st.booleans())
def test_validation_and_evaluation_do_not_disturb(every: int, evaluated: bool) -> None:
    """Seen to fail when a pass leaves the model in evaluation mode."""
    points = numbers((20, 2), 5)
    alone = trainer().fit(pair(dropout=0.3), points, epochs=2, batch_size=4).model
    made = trainer()
    run = made.start(pair(dropout=0.3), points, batch_size=4, validation=points[:9], validate=Every(updates=every))
    for event in events(run, epochs=2):
        if evaluated and isinstance(event, torchflow.Stepped):
            made.evaluate(run.model, points[:5])
    assert difference(alone.state_dict(), run.model.state_dict()) is None


def weighed(name: str, sign: float) -> Callable[[Any, tuple[Tensor, Tensor, Tensor]], Outputs]:
    """A step without draws, on noise of the batch, whose loss is the mean over real weights of the samples."""

    def step(model: Any, batch: tuple[Tensor, Tensor, Tensor]) -> Outputs:
        noise, real, counts = batch
        fake = model.generator(noise)
        scores = model.critic(fake if sign < 0 else torch.cat([fake.detach(), real], 1)[:, 2:] + fake.detach())
        counts = counts if name == "critic" else torch.ones_like(counts)
        return Outputs((softplus(sign * scores[:, 0]) * counts).sum() / counts.sum(), count=counts.sum())

    return step


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=2, max_size=4), clip=st.sampled_from([None, 0.01]))
def test_any_split_of_a_batch_gives_each_step_the_gradient_of_the_whole(sizes: list[int], clip: float | None) -> None:
    """The two losses count differently, and each is weighed by its own count. Seen to fail when both are by the first's."""
    rows = sum(sizes)
    counts = torch.arange(rows, dtype=torch.float64) % 3 + 1
    batch = (numbers((rows, 3), 7, torch.float64), numbers((rows, 2), 8, torch.float64), counts)
    steps = {"critic": weighed("critic", 1.0), "generator": weighed("generator", -1.0)}
    optimizer = {part: (lambda model, part=part: torch.optim.SGD(getattr(model, part).parameters(), lr=0.5)) for part in steps}
    models: list[Tensor] = []
    losses: list[tuple[Tensor, Tensor, dict[str, float]]] = []
    for parts in ([rows], sizes):
        run = trainer(step=steps, optimizer=optimizer, accumulate=len(parts), clip_norm=clip).start(
            pair(dtype=torch.float64), batch, batch_size=rows
        )
        with run.session():
            stepped = torchflow.update(
                run, [tuple(piece) for piece in zip(*(column.split(parts) for column in batch), strict=True)]
            )
        models.append(torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()]))
        losses.append((stepped.metrics["critic"], stepped.metrics["generator"], run.averages.compute()))
    torch.testing.assert_close(models[1], models[0], rtol=0, atol=1e-12)
    for name, whole, split in zip(("critic", "generator"), losses[0][:2], losses[1][:2], strict=True):
        torch.testing.assert_close(split, whole, rtol=0, atol=1e-12)
        assert losses[1][2][name] == pytest.approx(whole.item(), abs=1e-12)
    assert losses[1][2]["loss"] == pytest.approx(losses[1][2]["critic"] + losses[1][2]["generator"], abs=1e-12)


def test_a_folder_of_steps_in_another_order_is_refused(tmp_path: Path) -> None:
    points = numbers((8, 2), 5)
    trainer(checkpoints=Checkpoints(tmp_path / "run")).fit(pair(), points, epochs=1)
    swapped = trainer(step=dict(reversed(STEPS.items())), checkpoints=Checkpoints(tmp_path / "run"))
    with pytest.raises(torchflow.errors.MismatchError, match="steps"):
        swapped.fit(pair(), points, epochs=2, resume=True)
