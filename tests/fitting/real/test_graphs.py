"""Graph networks with the layers and batches of PyTorch Geometric."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.fitting.libraries import is_there
from tests.fitting.pages import ran
from torchflow import Stepped, Trainer, events

if not is_there("torch_geometric"):
    pytest.skip("torch_geometric is in the environment of `make fitting`", allow_module_level=True)

from torch_geometric.data import Batch
from torch_geometric.nn import GCNConv


class Network(nn.Module):
    """The network of the page on one graph, of layers of PyTorch Geometric."""

    def __init__(self, links: Tensor) -> None:
        super().__init__()
        self.register_buffer("edges", links.nonzero().T.contiguous(), persistent=False)
        self.register_buffer("nodes", torch.eye(len(links)), persistent=False)
        self.first, self.second = GCNConv(len(links), 16), GCNConv(16, 2)

    def forward(self) -> Tensor:
        scores: Tensor = self.second(torch.relu(self.first(self.nodes, self.edges)), self.edges)
        return scores


def test_layers_of_the_library_learn_one_graph_as_products_do() -> None:
    """The two round differently; a convolution here has its bias behind the product with the links, there before it."""
    names = ran("graphs")[0]
    torch.manual_seed(0)
    theirs = Network(names["links"])
    known, others = names["data"]["train"], names["data"]["valid"]
    trainer: Trainer[Any, Any] = Trainer(
        names["step"], optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4), progress=False
    )
    options: dict[str, Any] = {"epochs": 60, "batch_size": 4, "shuffle": False, "validation": others}
    assert trainer.fit(theirs, known, **options).history.last["valid/accuracy"] > 0.9
    ours = names["Network"](names["links"])
    with torch.no_grad():
        for one, other in ((ours.first, theirs.first), (ours.second, theirs.second)):
            one.weight.copy_(other.lin.weight)
            one.bias.zero_()
            other.bias.zero_()
    assert torch.allclose(ours(), theirs(), atol=1e-5)


def test_graphs_are_counted_and_averages_do_not_see_how_they_are_cut() -> None:
    """Seen to fail when a batch of graphs counts as one sample."""
    names = ran("many_graphs")[0]
    trainer, rings = names["trainer"], names["rings"]
    run = trainer.start(names["Counter"], rings, batch_size=8, collate=Batch.from_data_list)
    counts = [int(event.count) for event in events(run, epochs=1) if isinstance(event, Stepped)]
    assert counts == [8] * 12 + [4]
    assert run.progress.samples == 100
    losses = [trainer.evaluate(run.model, rings, batch_size=size, collate=Batch.from_data_list)["loss"] for size in (1, 7, 100)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_graphs_come_from_workers_as_they_are() -> None:
    names = ran("many_graphs")[0]
    fitted = [
        names["trainer"].fit(names["Counter"], names["rings"], epochs=1, collate=Batch.from_data_list, workers=workers).model
        for workers in (0, 2)
    ]
    for one, other in zip(fitted[0].parameters(), fitted[1].parameters(), strict=True):
        assert torch.equal(one, other)
