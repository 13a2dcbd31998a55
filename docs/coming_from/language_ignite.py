from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Loss
from samples import texts
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


def forward(model, ids):
    return model[2](model[:2](ids)[0]).transpose(1, 2)


def clip(*_):
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


train, valid = (TensorDataset(ids[:, :-1], ids[:, 1:]) for ids in texts())
model = nn.Sequential(nn.Embedding(13, 32), nn.GRU(32, 64, batch_first=True), nn.Linear(64, 13))
loss, optimizer = nn.CrossEntropyLoss(ignore_index=0), optim.Adam(model.parameters(), lr=0.01)
optimizer.register_step_pre_hook(clip)
trainer = create_supervised_trainer(model, optimizer, loss, model_fn=forward)
a_token = Loss(loss, batch_size=lambda y: (y != 0).sum().item())
evaluator = create_supervised_evaluator(model, metrics={"loss": a_token}, model_fn=forward)
trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: evaluator.run(DataLoader(valid, batch_size=32)))
trainer.run(DataLoader(train, batch_size=32, shuffle=True), max_epochs=10)
print(f"valid loss a token {evaluator.state.metrics['loss']:.3f}")
