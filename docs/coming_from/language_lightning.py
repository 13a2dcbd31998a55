import lightning as L
from samples import texts
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Writer(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.words, self.memory, self.scores = nn.Embedding(13, 32), nn.GRU(32, 64, batch_first=True), nn.Linear(64, 13)
        self.loss = nn.CrossEntropyLoss(ignore_index=0)

    def forward(self, ids):
        return self.scores(self.memory(self.words(ids))[0]).transpose(1, 2)

    def training_step(self, batch, index):
        x, y = batch
        return self.loss(self(x), y)

    def validation_step(self, batch, index):
        x, y = batch
        self.log("valid/loss", self.loss(self(x), y), batch_size=(y != 0).sum().item())

    def configure_optimizers(self):
        return optim.Adam(self.parameters(), lr=0.01)


train, valid = (TensorDataset(ids[:, :-1], ids[:, 1:]) for ids in texts())
trainer = L.Trainer(max_epochs=10, gradient_clip_val=1.0)
trainer.fit(Writer(), DataLoader(train, batch_size=32, shuffle=True), DataLoader(valid, batch_size=32))
print(f"valid loss a token {trainer.callback_metrics['valid/loss']:.3f}")
