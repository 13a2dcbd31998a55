import copy

import torch
from samples import patients
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

parts = patients()
(x_mean, x_std), (y_mean, y_std) = ((column.mean(0), column.std(0, correction=0)) for column in parts[0])
train, valid, test = (TensorDataset((x - x_mean) / x_std, (y - y_mean) / y_std) for x, y in parts)
model, loss_function = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1)), nn.MSELoss()
optimizer = optim.AdamW(model.parameters(), lr=0.003)


def evaluate(dataset, measure):
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for x, y in DataLoader(dataset, batch_size=32):
            total += measure(model(x), y).item() * len(x)
    model.train()
    return total / len(dataset)


best, best_epoch, weights = float("inf"), 0, None
for epoch in range(200):
    for x, y in DataLoader(train, batch_size=32, shuffle=True):
        loss = loss_function(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss = evaluate(valid, loss_function)
    print(f"epoch {epoch}: valid loss {loss:.4f}")
    if loss < best:
        best, best_epoch, weights = loss, epoch, copy.deepcopy(model.state_dict())
    elif epoch - best_epoch == 10:
        break
model.load_state_dict(weights)
print(f"best epoch {best_epoch}; test error {evaluate(test, nn.L1Loss()) * y_std.item():.1f}")
