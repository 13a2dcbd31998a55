import torch
from samples import line
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

train, valid = (TensorDataset(*part) for part in line())
model, loss_function = nn.Linear(1, 1), nn.MSELoss()
optimizer = optim.SGD(model.parameters(), lr=0.1)
for epoch in range(20):
    model.train()
    for x, y in DataLoader(train, batch_size=32, shuffle=True):
        loss = loss_function(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    total = 0.0
    with torch.inference_mode():
        for x, y in DataLoader(valid, batch_size=32):
            total += loss_function(model(x), y).item() * len(x)  # the last batch is shorter
    print(f"epoch {epoch}: valid loss {total / len(valid):.5f}")
