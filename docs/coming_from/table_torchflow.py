from samples import patients
from torch import nn, optim

from torchflow import EarlyStopping, Trainer, data, metrics, supervised

train, valid, test = (data.from_tensors(part) for part in patients())
scale, unit = (data.Standardize(field).fit(train) for field in (0, 1))
train, valid, test = (part.map_batch(scale).map_batch(unit) for part in (train, valid, test))
model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
step = supervised(nn.MSELoss(), metrics={"error": metrics.absolute_error})
stopping = EarlyStopping("valid/loss", patience=10, restore_best=True)
trainer = Trainer(step, optimizer=lambda model: optim.AdamW(model.parameters(), lr=0.003), callbacks=[stopping])
result = trainer.fit(model, train, epochs=200, batch_size=32, validation=valid)
print(f"{result.reason}; test error {trainer.evaluate(model, test)['error'] * unit.std.item():.1f}")
