from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from torchflow import EpochEnded, Finished, Plan, Progress, Started, Stepped, Validated


def test_events_are_frozen() -> None:
    events: list[Any] = [
        Started(Progress(), Plan(3, 2, 6)),
        Stepped(Progress(), torch.zeros(()), {}, 1, {}),
        Validated(Progress(), {}),
        EpochEnded(Progress(), {}),
        Finished(Progress(), "the end"),
    ]
    for event in events:
        with pytest.raises((dataclasses.FrozenInstanceError, AttributeError)):
            event.progress = Progress(9)


def test_the_counts_of_a_group_are_added() -> None:
    loss, group = torch.tensor(2.0), torch.tensor([3.0, 2.0, 2.0])
    assert Stepped(Progress(), loss, {}, 5, {}).total_count == 5
    assert Stepped(Progress(), loss, {}, 5, {}, group=group).total_count == 15
    counts = torch.tensor([1, 2, 5])
    assert int(Stepped(Progress(), loss, {}, counts[-1], {}, group=group, group_counts=counts).total_count) == 8


def test_the_losses_of_an_event_are_those_of_its_updates() -> None:
    loss = torch.tensor(2.0)
    assert Stepped(Progress(), loss, {}, 1, {}).losses.tolist() == [2.0]
    assert Stepped(Progress(), loss, {}, 1, {}, group=torch.tensor([3.0, 2.0])).losses.tolist() == [3.0, 2.0]
