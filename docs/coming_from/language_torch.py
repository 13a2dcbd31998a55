import torch
from samples import texts
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset


def forward(ids):
    return model[2](model[:2](ids)[0]).transpose(1, 2)


train, valid = (TensorDataset(ids[:, :-1], ids[:, 1:]) for ids in texts())
model = nn.Sequential(nn.Embedding(13, 32), nn.GRU(32, 64, batch_first=True), nn.Linear(64, 13))
loss_function, optimizer = nn.CrossEntropyLoss(ignore_index=0), optim.Adam(model.parameters(), lr=0.01)
for epoch in range(10):
    model.train()
    for x, y in DataLoader(train, batch_size=32, shuffle=True):
        loss = loss_function(forward(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for x, y in DataLoader(valid, batch_size=32):
            count = (y != 0).sum().item()
            total += loss_function(forward(x), y).item() * count
            tokens += count
    print(f"epoch {epoch}: valid loss a token {total / tokens:.3f}")
