"""In the place of timm: one small model with a body, a head, and the numbers of its pictures."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn


class _Network(nn.Module):
    pretrained_cfg: ClassVar = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=4), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 1000)

    def forward_features(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.forward_features(x).mean((2, 3)))
        return scores

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        self.fc = nn.Linear(8, num_classes)


def create_model(name: str) -> nn.Module:
    return _Network()
