import lightning as L
from samples import line
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Line(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model, self.loss = nn.Linear(1, 1), nn.MSELoss()

    def training_step(self, batch, index):
        x, y = batch
        return self.loss(self.model(x), y)

    def validation_step(self, batch, index):
        x, y = batch
        self.log("valid/loss", self.loss(self.model(x), y))

    def configure_optimizers(self):
        return optim.SGD(self.parameters(), lr=0.1)


train, valid = (TensorDataset(*part) for part in line())
trainer = L.Trainer(max_epochs=20)
trainer.fit(Line(), DataLoader(train, batch_size=32, shuffle=True), DataLoader(valid, batch_size=32))
print(f"valid loss {trainer.callback_metrics['valid/loss']:.5f}")
