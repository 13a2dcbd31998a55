"""What a run costs over the best hand-written loop on a tiny model: the line at batch 32 (W1).

    python benchmarks/overhead.py [--rounds 20] [--epochs 20]

The two loops train the same model on the same batches, in turns within one process and in alternating order, and must end
with equal parameters. Printed is the median of the ratios of the rounds, beside the hand-written loop against itself: what
lies within that control is noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from torchflow import EarlyStopping, Trainer, data, supervised
from torchflow.data.batches import batches_of
from torchflow.randomness import Keys

ROWS, BATCH = 32 * 1_000, 32


def columns() -> tuple[Tensor, Tensor]:
    """Return inputs and targets of a noiseless line, each (rows, 1)."""
    x = torch.rand(ROWS, 1, generator=torch.Generator().manual_seed(0))
    return x, 0.7 * x + 0.3


def model() -> nn.Linear:
    """Return the same first weights each time."""
    line = nn.Linear(1, 1)
    with torch.no_grad():
        line.weight.fill_(0.1)
        line.bias.fill_(0.0)
    return line


def by_hand(epochs: int) -> nn.Module:
    """Train as a careful author would: tensors in memory, one order an epoch, index_select, no .item()."""
    x, y = columns()
    orders = batches_of((x, y), keys=Keys(0), name="train", batch_size=BATCH)
    line, loss_function = model(), nn.MSELoss()
    optimizer = torch.optim.SGD(line.parameters(), lr=0.05)
    total = torch.zeros(())
    order = [torch.tensor([orders.indices(e, b) for b in range(ROWS // BATCH)]) for e in range(epochs)]
    start = time.perf_counter()
    for epoch in range(epochs):
        for indices in order[epoch]:
            inputs, targets = x.index_select(0, indices), y.index_select(0, indices)
            loss = loss_function(line(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
    line.seconds = time.perf_counter() - start  # type: ignore[assignment]
    return line


def by_torchflow(epochs: int, **choices: object) -> nn.Module:
    """Train the same with a Trainer."""
    trainer = Trainer(
        supervised(nn.MSELoss()),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.05),
        progress=False,
        **choices,  # type: ignore[arg-type]
    )
    line = model()
    dataset = data.from_tensors(*columns())
    start = time.perf_counter()
    trainer.fit(line, dataset, epochs=epochs, batch_size=BATCH)
    line.seconds = time.perf_counter() - start  # type: ignore[assignment]
    return line


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    contestants: dict[str, Callable[[], nn.Module]] = {
        "hand": lambda: by_hand(arguments.epochs),
        "hand again (control)": lambda: by_hand(arguments.epochs),
        "torchflow": lambda: by_torchflow(arguments.epochs),
        "torchflow, early stopping": lambda: by_torchflow(
            arguments.epochs, callbacks=[EarlyStopping("train/loss", patience=10**6)]
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(arguments.rounds + 1):
        trained = {}
        for name in list(contestants)[:: 1 if turn % 2 else -1]:
            trained[name] = contestants[name]()
            if turn:  # the first round warms up
                seconds[name].append(trained[name].seconds)  # type: ignore[arg-type]
        first = list(trained["hand"].parameters())
        for name, other in trained.items():
            assert all(torch.equal(a, b) for a, b in zip(first, other.parameters(), strict=True)), f"{name} trained something else"
    updates = ROWS // BATCH * arguments.epochs
    print(f"torch {torch.__version__}, 1 thread, {arguments.rounds} paired rounds of {updates} updates, medians")
    for name, times in seconds.items():
        ratios = [own / hand for own, hand in zip(times, seconds["hand"], strict=True)]
        print(f"{name:28} {statistics.median(times) / updates * 1e6:7.1f} us an update   {statistics.median(ratios):.3f} of hand")


if __name__ == "__main__":
    main()
