import torch
from ignite.engine import Engine
from ignite.metrics import Average
from samples import ring
from torch import nn, optim
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
critic_optimizer = optim.Adam(critic.parameters(), lr=0.002, betas=(0.5, 0.99))
generator_optimizer = optim.Adam(generator.parameters(), lr=0.001, betas=(0.5, 0.99))


def update(engine, real):
    fake = generator(torch.randn(len(real), 8))
    judged = softplus(-critic(real)).mean() + softplus(critic(fake.detach())).mean()
    critic_optimizer.zero_grad()
    judged.backward()
    critic_optimizer.step()
    made = softplus(-critic(fake)).mean()
    generator_optimizer.zero_grad()
    made.backward()
    generator_optimizer.step()
    return {"critic": judged.item(), "generator": made.item()}


trainer = Engine(update)
for name in ("critic", "generator"):
    Average(lambda losses, name=name: losses[name]).attach(trainer, name)
trainer.run(DataLoader(ring(), batch_size=128, shuffle=True), max_epochs=60)
print(f"distance from the middle {generator(torch.randn(1000, 8)).norm(dim=1).mean():.2f}")
