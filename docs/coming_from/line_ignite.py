from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Loss
from samples import line
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

train, valid = (TensorDataset(*part) for part in line())
model, loss = nn.Linear(1, 1), nn.MSELoss()
trainer = create_supervised_trainer(model, optim.SGD(model.parameters(), lr=0.1), loss)
evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(loss)})
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DataLoader(valid, batch_size=32)))
trainer.run(DataLoader(train, batch_size=32, shuffle=True), max_epochs=20)
print(f"valid loss {evaluator.state.metrics['loss']:.5f}")
