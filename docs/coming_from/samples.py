"""The data of the programs beside this file: tensors, the same for every library."""

import torch
from sklearn.datasets import load_diabetes, load_digits


def parts(columns, *sizes):
    """Return the rows of tensors, shuffled and cut into parts."""
    order = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(0))
    return [tuple(column[rows] for column in columns) for rows in order.split(sizes)]


def line():
    """Return 800 points to learn from and 200 to look at: x and y, shape (points, 1)."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1_000, 1, generator=generator) * 2 - 1
    return parts((x, 0.7 * x + 0.3 + 0.02 * torch.randn(1_000, 1, generator=generator)), 800, 200)


def digits():
    """Return 1,197, 300 and 300 digits: pictures (digits, 1, 8, 8) from 0 to 1, and classes."""
    images, labels = load_digits(return_X_y=True)
    pictures = torch.tensor(images.reshape(-1, 1, 8, 8) / 16, dtype=torch.float32)
    return parts((pictures, torch.tensor(labels)), 1_197, 300, 300)


def ring():
    """Return 2,048 points on a ring, shape (2048, 2)."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(2_048, generator=generator) * 6.2832
    return torch.stack((angles.cos(), angles.sin()), 1) + 0.05 * torch.randn(2_048, 2, generator=generator)


def texts():
    """Return 400 and 100 texts of 5 to 20 tokens, shape (texts, 20): tokens from 1 to 12, filled up with 0."""
    generator = torch.Generator().manual_seed(0)
    first, step = (torch.randint(1, 12, (500, 1), generator=generator) for _ in range(2))
    ids = (first + step * torch.arange(20)) % 12 + 1  # what comes next follows from the two before
    lengths = torch.randint(5, 21, (500, 1), generator=generator)
    return [part for (part,) in parts((ids * (torch.arange(20) < lengths),), 400, 100)]


def patients():
    """Return 264, 89 and 89 patients: ten measurements, and the progression of diabetes within a year, shape (patients, 1)."""
    x, y = (torch.tensor(column, dtype=torch.float32) for column in load_diabetes(return_X_y=True))
    return parts((x, y[:, None]), 264, 89, 89)
