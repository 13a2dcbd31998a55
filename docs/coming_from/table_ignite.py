import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import EarlyStopping, ModelCheckpoint
from ignite.metrics import Loss, MeanAbsoluteError
from samples import patients
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

parts = patients()
(x_mean, x_std), (y_mean, y_std) = ((column.mean(0), column.std(0, correction=0)) for column in parts[0])
train, valid, test = (TensorDataset((x - x_mean) / x_std, (y - y_mean) / y_std) for x, y in parts)
model, loss = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1)), nn.MSELoss()
trainer = create_supervised_trainer(model, optim.AdamW(model.parameters(), lr=0.003), loss)
evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(loss), "error": MeanAbsoluteError()})


def score(engine):
    return -engine.state.metrics["loss"]


best = ModelCheckpoint("table_ignite", score_function=score, score_name="score", require_empty=False)
evaluator.add_event_handler(Events.COMPLETED, EarlyStopping(10, score, trainer))
evaluator.add_event_handler(Events.COMPLETED, best, {"model": model})
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DataLoader(valid, batch_size=32)))
trainer.run(DataLoader(train, batch_size=32, shuffle=True), max_epochs=200)
model.load_state_dict(torch.load(best.last_checkpoint))
error = evaluator.run(DataLoader(test, batch_size=32)).metrics["error"]
print(f"{best.last_checkpoint}; test error {error * y_std.item():.1f}")
