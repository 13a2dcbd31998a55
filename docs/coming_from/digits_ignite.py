import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.handlers import EarlyStopping, ModelCheckpoint
from ignite.metrics import Accuracy, Loss
from samples import digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

train, valid, test = (TensorDataset(*part) for part in digits())
model = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
)
loss = nn.CrossEntropyLoss()
trainer = create_supervised_trainer(model, optim.Adam(model.parameters(), lr=0.003), loss)
evaluator = create_supervised_evaluator(model, metrics={"loss": Loss(loss), "accuracy": Accuracy()})


def score(engine):
    return -engine.state.metrics["loss"]


best = ModelCheckpoint("digits_ignite", score_function=score, score_name="score", require_empty=False)
evaluator.add_event_handler(Events.COMPLETED, EarlyStopping(3, score, trainer))
evaluator.add_event_handler(Events.COMPLETED, best, {"model": model})
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DataLoader(valid, batch_size=32)))
trainer.run(DataLoader(train, batch_size=32, shuffle=True), max_epochs=15)
model.load_state_dict(torch.load(best.last_checkpoint))
print(f"test accuracy {evaluator.run(DataLoader(test, batch_size=32)).metrics['accuracy']:.3f}")
