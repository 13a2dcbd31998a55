import copy

import torch
from samples import digits
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

train, valid, test = (TensorDataset(*part) for part in digits())
model = nn.Sequential(
    *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 10)),
)
loss_function = nn.CrossEntropyLoss()
optimizer = optim.Adam(model.parameters(), lr=0.003)


def evaluate(dataset):
    model.eval()
    total, right = 0.0, 0
    with torch.inference_mode():
        for x, y in DataLoader(dataset, batch_size=32):
            scores = model(x)
            total += loss_function(scores, y).item() * len(x)
            right += (scores.argmax(1) == y).sum().item()
    model.train()
    return total / len(dataset), right / len(dataset)


best, stale, weights = float("inf"), 0, None
for epoch in range(15):
    for x, y in DataLoader(train, batch_size=32, shuffle=True):
        loss = loss_function(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss, accuracy = evaluate(valid)
    print(f"epoch {epoch}: valid loss {loss:.4f}, accuracy {accuracy:.3f}")
    if loss < best:
        best, stale, weights = loss, 0, copy.deepcopy(model.state_dict())
    else:
        stale += 1
        if stale == 3:
            break
model.load_state_dict(weights)
print(f"test accuracy {evaluate(test)[1]:.3f}")
