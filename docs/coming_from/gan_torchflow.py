import torch
from samples import ring
from torch import nn
from torch.nn.functional import softplus

from torchflow import Outputs, Trainer


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        self.critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))


def update(run, batches):
    (real,), model = batches, run.model
    fake = model.generator(torch.randn(len(real), 8))
    judged = softplus(-model.critic(real)).mean() + softplus(model.critic(fake.detach())).mean()
    run.optimizers["critic"].zero_grad()
    judged.backward()
    run.optimizers["critic"].step()
    made = softplus(-model.critic(fake)).mean()
    run.optimizers["generator"].zero_grad()
    made.backward()
    run.optimizers["generator"].step()
    return Outputs(judged, metrics={"generator": made.detach()})


trainer = Trainer(
    lambda model, batch: softplus(-model.critic(batch)).mean(),
    optimizer={
        "critic": lambda model: torch.optim.Adam(model.critic.parameters(), lr=0.002, betas=(0.5, 0.99)),
        "generator": lambda model: torch.optim.Adam(model.generator.parameters(), lr=0.001, betas=(0.5, 0.99)),
    },
    update=update,
)
model = trainer.fit(Pair, ring(), epochs=60, batch_size=128).model
print(f"distance from the middle {model.generator(torch.randn(1000, 8)).norm(dim=1).mean():.2f}")
