import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from samples import digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Network(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
        )
        self.loss = nn.CrossEntropyLoss()

    def training_step(self, batch, index):
        x, y = batch
        return self.loss(self.model(x), y)

    def validation_step(self, batch, index):
        x, y = batch
        self.log("valid/loss", self.loss(self.model(x), y))

    def test_step(self, batch, index):
        x, y = batch
        self.log("test/accuracy", (self.model(x).argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return optim.Adam(self.parameters(), lr=0.003)


train, valid, test = (TensorDataset(*part) for part in digits())
callbacks = [EarlyStopping("valid/loss", patience=3), ModelCheckpoint(monitor="valid/loss")]
trainer = L.Trainer(max_epochs=15, callbacks=callbacks)
trainer.fit(Network(), DataLoader(train, batch_size=32, shuffle=True), DataLoader(valid, batch_size=32))
(scores,) = trainer.test(dataloaders=DataLoader(test, batch_size=32), ckpt_path="best")
print(f"test accuracy {scores['test/accuracy']:.3f}")
