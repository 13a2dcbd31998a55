import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from samples import patients
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Network(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model, self.loss = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1)), nn.MSELoss()

    def training_step(self, batch, index):
        x, y = batch
        return self.loss(self.model(x), y)

    def validation_step(self, batch, index):
        x, y = batch
        self.log("valid/loss", self.loss(self.model(x), y))

    def test_step(self, batch, index):
        x, y = batch
        self.log("test/error", (self.model(x) - y).abs().mean())

    def configure_optimizers(self):
        return optim.AdamW(self.parameters(), lr=0.003)


parts = patients()
(x_mean, x_std), (y_mean, y_std) = ((column.mean(0), column.std(0, correction=0)) for column in parts[0])
train, valid, test = (TensorDataset((x - x_mean) / x_std, (y - y_mean) / y_std) for x, y in parts)
best = ModelCheckpoint(monitor="valid/loss")
trainer = L.Trainer(max_epochs=200, callbacks=[EarlyStopping("valid/loss", patience=10), best])
trainer.fit(Network(), DataLoader(train, batch_size=32, shuffle=True), DataLoader(valid, batch_size=32))
(scores,) = trainer.test(dataloaders=DataLoader(test, batch_size=32), ckpt_path="best")
print(f"best loss {best.best_model_score:.3f}; test error {scores['test/error'] * y_std.item():.1f}")
