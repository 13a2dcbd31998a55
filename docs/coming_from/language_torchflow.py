import torch
from samples import texts
from torch import nn

from torchflow import Trainer, supervised


class Writer(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.memory, self.scores = nn.Embedding(13, 32), nn.GRU(32, 64, batch_first=True), nn.Linear(64, 13)

    def forward(self, ids):
        return self.scores(self.memory(self.words(ids))[0]).transpose(1, 2)


train, valid = ((ids[:, :-1], ids[:, 1:]) for ids in texts())
trainer = Trainer(
    supervised(nn.CrossEntropyLoss(ignore_index=0)),
    optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.01),
    clip_norm=1.0,
)
result = trainer.fit(Writer, train, epochs=10, batch_size=32, validation=valid)
print(f"valid loss a token {result.history.last['valid/loss']:.3f}")
