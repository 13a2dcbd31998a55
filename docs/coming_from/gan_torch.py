import torch
from samples import ring
from torch import nn, optim
from torch.nn.functional import softplus
from torch.utils.data import DataLoader

generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
critic_optimizer = optim.Adam(critic.parameters(), lr=0.002, betas=(0.5, 0.99))
generator_optimizer = optim.Adam(generator.parameters(), lr=0.001, betas=(0.5, 0.99))
for epoch in range(60):
    judged_total = made_total = 0.0
    for real in DataLoader(ring(), batch_size=128, shuffle=True):
        fake = generator(torch.randn(len(real), 8))
        judged = softplus(-critic(real)).mean() + softplus(critic(fake.detach())).mean()
        critic_optimizer.zero_grad()
        judged.backward()
        critic_optimizer.step()
        made = softplus(-critic(fake)).mean()
        generator_optimizer.zero_grad()
        made.backward()
        generator_optimizer.step()
        judged_total += judged.item() * len(real)
        made_total += made.item() * len(real)
    print(f"epoch {epoch}: critic {judged_total / 2_048:.3f}, generator {made_total / 2_048:.3f}")
print(f"distance from the middle {generator(torch.randn(1000, 8)).norm(dim=1).mean():.2f}")
