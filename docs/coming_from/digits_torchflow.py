from samples import digits
from torch import nn, optim

from torchflow import EarlyStopping, Trainer, metrics, supervised

train, valid, test = digits()
model = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
)
step = supervised(nn.CrossEntropyLoss(), metrics={"accuracy": metrics.accuracy})
stopping = EarlyStopping("valid/loss", patience=3, restore_best=True)
trainer = Trainer(step, optimizer=lambda model: optim.Adam(model.parameters(), lr=0.003), callbacks=[stopping])
trainer.fit(model, train, epochs=15, batch_size=32, validation=valid)
print(f"test accuracy {trainer.evaluate(model, test)['accuracy']:.3f}")
