from samples import line
from torch import nn, optim

from torchflow import Trainer, supervised

train, valid = line()
trainer = Trainer(supervised(nn.MSELoss()), optimizer=lambda model: optim.SGD(model.parameters(), lr=0.1))
result = trainer.fit(nn.Linear(1, 1), train, epochs=20, batch_size=32, validation=valid)
print(f"valid loss {result.history.last['valid/loss']:.5f}")
