import lightning as L
import torch
from samples import ring
from torch import nn, optim
from torch.nn.functional import softplus
from torch.utils.data import DataLoader


class Pair(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        self.critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1))

    def training_step(self, real, index):
        critic, generator = self.optimizers()
        fake = self.generator(torch.randn(len(real), 8, device=self.device))
        judged = softplus(-self.critic(real)).mean() + softplus(self.critic(fake.detach())).mean()
        critic.zero_grad()
        self.manual_backward(judged)
        critic.step()
        made = softplus(-self.critic(fake)).mean()
        generator.zero_grad()
        self.manual_backward(made)
        generator.step()
        self.log_dict({"critic": judged, "generator": made}, on_step=False, on_epoch=True, prog_bar=True)

    def configure_optimizers(self):
        critic = optim.Adam(self.critic.parameters(), lr=0.002, betas=(0.5, 0.99))
        generator = optim.Adam(self.generator.parameters(), lr=0.001, betas=(0.5, 0.99))
        return critic, generator


model = Pair()
L.Trainer(max_epochs=60).fit(model, DataLoader(ring(), batch_size=128, shuffle=True))
print(f"distance from the middle {model.generator(torch.randn(1000, 8)).norm(dim=1).mean():.2f}")
