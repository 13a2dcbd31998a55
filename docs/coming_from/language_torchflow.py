from samples import texts
from torch import nn, optim

from torchflow import Trainer, supervised

train, valid = ((ids[:, :-1], ids[:, 1:]) for ids in texts())
model = nn.Sequential(nn.Embedding(13, 32), nn.GRU(32, 64, batch_first=True), nn.Linear(64, 13))
step = supervised(nn.CrossEntropyLoss(ignore_index=0), forward=lambda model, ids: model[2](model[:2](ids)[0]).transpose(1, 2))
trainer = Trainer(step, optimizer=lambda model: optim.Adam(model.parameters(), lr=0.01), clip_norm=1.0)
result = trainer.fit(model, train, epochs=10, batch_size=32, validation=valid)
print(f"valid loss a token {result.history.last['valid/loss']:.3f}")
