"""The same training on three floors: ``fit``, the loop over events, and single updates. All end with equal parameters.

python examples/your_own_loop.py

Take the stairs down when a callback would be the long way round: the objects stay the same, and so do the numbers.
"""

import torch
from torch import Tensor, nn

import torchflow
from torchflow import EpochEnded, Finished, Stepped, Trainer, data, supervised

EPOCHS, BATCH_SIZE = 5, 32

Batch = tuple[Tensor, Tensor]
train, valid = data.linear(weight=0.7, bias=0.3, samples=1_000, noise=0.02, seed=0).split(0.8, 0.2, seed=0)
trainer: Trainer[nn.Linear, Batch] = Trainer(
    supervised(nn.MSELoss()),
    optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
    progress=False,
)


def line() -> nn.Linear:
    """Return the same first weights each time."""
    torch.manual_seed(0)
    return nn.Linear(1, 1)


def on_the_top_floor() -> nn.Linear:
    """Hand everything over."""
    return trainer.fit(line(), train, epochs=EPOCHS, batch_size=BATCH_SIZE, validation=valid).model


def one_floor_down() -> nn.Linear:
    """Hold the loop: every yield is a safe point, at which to look, save, break, and go on later."""
    run = trainer.start(line(), train, batch_size=BATCH_SIZE, validation=valid)
    for event in torchflow.events(run, epochs=EPOCHS):
        match event:
            case Stepped(progress=progress, loss=loss) if progress.updates % 50 == 0:
                print(f"  update {progress.updates}: loss {loss.item():.5f}")
            case EpochEnded(progress=progress, metrics=metrics):
                print(f"  epoch {progress.epoch}: valid/loss {metrics['valid/loss']:.5f}")
            case Finished(reason=reason):
                print(f"  {reason}")
    return run.model


def two_floors_down() -> nn.Linear:
    """Make every update oneself: no validation, no callbacks, no epoch's end, only optimizer steps."""
    run = trainer.start(line(), train, batch_size=BATCH_SIZE)
    for epoch in range(EPOCHS):
        for batch in run.batches.epoch(epoch):
            torchflow.update(run, [batch])
    return run.model


def by_hand() -> nn.Linear:
    """Leave the house: plain PyTorch over the same batches."""
    batches = trainer.start(line(), train, batch_size=BATCH_SIZE).batches
    model, loss_function = line(), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(EPOCHS):
        for x, y in batches.epoch(epoch):
            loss = loss_function(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def main() -> None:
    """Train on every floor and compare the parameters bit by bit."""
    expected = on_the_top_floor()
    for floor in (one_floor_down, two_floors_down, by_hand):
        print(floor.__name__.replace("_", " "))
        model = floor()
        assert torch.equal(model.weight, expected.weight)
        assert torch.equal(model.bias, expected.bias)
    print(f"equal on all floors: y = {expected.weight.item():.4f} x + {expected.bias.item():.4f}")


if __name__ == "__main__":
    main()
