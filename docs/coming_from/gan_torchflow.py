import torch
from samples import ring
from torch import nn, optim
from torch.nn.functional import softplus

from torchflow import Trainer


def critic(model, real):
    fake = model["generator"](torch.randn(len(real), 8, device=real.device)).detach()
    return softplus(-model["critic"](real)).mean() + softplus(model["critic"](fake)).mean()


def generator(model, real):
    return softplus(-model["critic"](model["generator"](torch.randn(len(real), 8, device=real.device)))).mean()


model = nn.ModuleDict()
model["generator"] = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
model["critic"] = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))
trainer = Trainer(
    {"critic": critic, "generator": generator},
    optimizer={
        "critic": lambda model: optim.Adam(model["critic"].parameters(), lr=0.002, betas=(0.5, 0.99)),
        "generator": lambda model: optim.Adam(model["generator"].parameters(), lr=0.001, betas=(0.5, 0.99)),
    },
)
trainer.fit(model, ring(), epochs=60, batch_size=128)
print(f"distance from the middle {model['generator'](torch.randn(1000, 8)).norm(dim=1).mean():.2f}")
