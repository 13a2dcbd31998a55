"""Law 1. For a model and step without randomness, training equals the hand-written PyTorch loop, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.laws.problems import OPTIMIZERS, difference, small_network, table
from torchflow import Trainer, events, supervised, update
from torchflow.data.batches import batches_of
from torchflow.randomness import Keys

pytestmark = pytest.mark.filterwarnings("ignore:the loss grows")  # a drawn run may diverge

DTYPES = st.sampled_from([torch.float32, torch.float64])


def by_hand(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    columns: tuple[Tensor, Tensor],
    batch_size: int,
    epochs: int,
    clip: float | None,
) -> dict[str, Any]:
    """The loop of every PyTorch course, over copies of the same rows in the same order."""
    x, y = columns
    order = batches_of(columns, keys=Keys(0), name="train", batch_size=batch_size)
    loss_function = nn.MSELoss()
    finite = True
    model.train()
    for epoch in range(epochs):
        for batch in range(order.length or 0):
            rows = torch.tensor(order.indices(epoch, batch))
            inputs, targets = x.index_select(0, rows), y.index_select(0, rows)

            def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                nonlocal finite
                optimizer.zero_grad()
                loss: Tensor = loss_function(model(inputs), targets)
                loss.backward()
                finite &= bool(loss.isfinite()) and all(
                    bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None
                )
                if clip is not None:
                    finite &= bool(torch.nn.utils.clip_grad_norm_(model.parameters(), clip).isfinite())  # squares may overflow
                return loss

            if isinstance(optimizer, torch.optim.LBFGS):
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
    assume(finite)  # what diverges by hand is refused by torchflow, though the parameters may come back from infinity
    return {"model": model.state_dict(), "optimizer": list(optimizer.state.values())}


@pytest.mark.filterwarnings("ignore:the loss grows")  # L-BFGS may jump anywhere, and the loop by hand with it
@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=8, deadline=None)
@example(rows=33, features=4, batch_size=3, epochs=1, dtype=torch.float32, clip=0.05, seed=25)  # L-BFGS at an infinite loss
@given(
    rows=st.integers(1, 40),
    features=st.integers(1, 4),
    batch_size=st.integers(1, 17),
    epochs=st.integers(1, 3),
    dtype=DTYPES,
    clip=st.sampled_from([None, None, 0.05, 10.0]),
    seed=st.integers(0, 100),
)
def test_fit_equals_the_loop_by_hand(
    name: str, rows: int, features: int, batch_size: int, epochs: int, dtype: torch.dtype, clip: float | None, seed: int
) -> None:
    """Parameters and optimizer state are equal to the bit, for every optimizer of torch that trains dense parameters.

    Seen to fail when the loss of a single batch goes backward times its count and is divided again, and when the rows of a
    batch come in another order.
    """
    columns = table(rows, features, seed, dtype)
    expected_model = small_network(features, seed, dtype)
    expected = by_hand(expected_model, OPTIMIZERS[name](expected_model), columns, batch_size, epochs, clip)
    trainer = Trainer(supervised(nn.MSELoss()), optimizer=OPTIMIZERS[name], clip_norm=clip, progress=False)
    run = trainer.start(small_network(features, seed, dtype), columns, batch_size=batch_size)
    for _ in events(run, epochs=epochs):
        pass
    found = {"model": run.model.state_dict(), "optimizer": list(run.optimizer.state.values())}
    assert difference(found, expected) is None


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    rows=st.integers(2, 30),
    batch_size=st.integers(1, 9),
    accumulate=st.integers(1, 3),
    epochs=st.integers(1, 3),
)
def test_all_floors_give_equal_parameters(name: str, rows: int, batch_size: int, accumulate: int, epochs: int) -> None:
    """``fit``, the loop over ``events`` and the loop over ``update`` end with equal bits.

    Seen to fail when the windows of ``events`` are one batch longer than those of the loop over ``update``.
    """
    columns = table(rows, 2)
    trainer = Trainer(supervised(nn.MSELoss()), optimizer=OPTIMIZERS[name], accumulate=accumulate, progress=False, nonfinite="skip")
    fitted = trainer.fit(small_network(2), columns, epochs=epochs, batch_size=batch_size).model
    one_down = trainer.start(small_network(2), columns, batch_size=batch_size)
    for _ in events(one_down, epochs=epochs):
        pass
    two_down = trainer.start(small_network(2), columns, batch_size=batch_size)
    with two_down.session():
        for epoch in range(epochs):
            batches = list(two_down.batches.epoch(epoch))
            for start in range(0, len(batches), accumulate):
                update(two_down, batches[start : start + accumulate])
    assert difference(fitted.state_dict(), one_down.model.state_dict()) is None
    assert difference(fitted.state_dict(), two_down.model.state_dict()) is None


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(["SGD", "momentum", "Adam", "AdamW", "RMSprop"]),
    rows=st.integers(1, 30),
    batch_size=st.integers(1, 9),
    clip=st.sampled_from([None, 0.05, 10.0]),
    size=st.sampled_from([1.0, 30.0, 1e4]),
    seed=st.integers(0, 100),
)
@example(name="Adam", rows=9, batch_size=3, clip=None, size=1e4, seed=0)  # updates overflow
def test_mixed_precision_equals_the_loop_by_hand(
    precision: str, name: str, rows: int, batch_size: int, clip: float | None, size: float, seed: int
) -> None:
    """Autocast around the forward pass, and for fp16 torch's GradScaler around the rest, as torch's documentation writes it.

    Seen to fail without autocast, when gradients are clipped before they are unscaled, and when the factor is not lowered after an
    overflow.
    """
    x, y = table(rows, 3, seed)
    columns = x * size, y
    model = small_network(3, seed)
    optimizer = OPTIMIZERS[name](model)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    scaler = torch.amp.GradScaler("cpu", enabled=precision == "fp16")
    order = batches_of(columns, keys=Keys(0), name="train", batch_size=batch_size)
    model.train()
    for epoch in range(2):
        for batch in range(order.length or 0):
            rows_of_batch = torch.tensor(order.indices(epoch, batch))
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype):
                loss = nn.functional.mse_loss(model(columns[0].index_select(0, rows_of_batch)), y.index_select(0, rows_of_batch))
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
            assume(precision == "fp16" or all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None))
            scaler.step(optimizer)
            scaler.update()
    trainer = Trainer(
        supervised(nn.MSELoss()), optimizer=OPTIMIZERS[name], clip_norm=clip, progress=False, precision=precision, nonfinite="skip"
    )
    run = trainer.start(small_network(3, seed), columns, batch_size=batch_size)
    for _ in events(run, epochs=2):
        pass
    found = {
        "model": run.model.state_dict(),
        "optimizer": list(run.optimizer.state.values()),
        "scaler": run.state().get("scaling", {}),
    }
    expected = {"model": model.state_dict(), "optimizer": list(optimizer.state.values()), "scaler": scaler.state_dict()}
    assert difference(found, expected) is None
