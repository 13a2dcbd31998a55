"""Datasets of Hugging Face, made of dicts: read in every way, by any number of workers, after every change of their rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.fitting.libraries import is_there
from torchflow import Outputs, Trainer, data
from torchflow.errors import ArgumentTypeError

if not is_there("datasets"):
    pytest.skip("datasets is in the environment of `make fitting`", allow_module_level=True)

from datasets import Dataset


def rows(count: int = 60) -> Any:
    numbers = torch.linspace(-1, 1, count).tolist()
    return Dataset.from_dict({"size": numbers, "weight": [n * n for n in numbers], "price": [3 * n - n * n for n in numbers]})


def step(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(torch.stack((batch["size"], batch["weight"]), 1))[:, 0], batch["price"])


def weights(train: Any, batch_size: int | None = 8, **options: Any) -> list[float]:
    trainer: Trainer[Any, Any] = Trainer(step, optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1), progress=False)
    result = trainer.fit(lambda: nn.Linear(2, 1), train, epochs=2, batch_size=batch_size, **options)
    found: list[float] = result.model.weight[0].tolist()
    return found


def jittered(batch: dict[str, list[float]]) -> dict[str, Tensor]:
    return {name: torch.tensor(values) + 0.1 * torch.randn(len(values)) for name, values in batch.items()}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing_and_random_transforms_are_keyed(workers: int) -> None:
    for train in (rows().with_format("torch"), rows().with_transform(jittered)):
        assert weights(train, workers=workers) == weights(train)


def test_every_format_gives_the_same_numbers() -> None:
    expected = weights(rows().with_format("torch"))
    assert weights(rows()) == expected
    assert weights(rows().with_format("torch")[:]) == expected


def test_all_rows_at_once_are_those_that_the_dataset_was_changed_to() -> None:
    changed = rows().map(lambda row: {"size": 2 * row["size"]}).filter(lambda row: row["size"] < 1).shuffle(seed=1)
    parts = changed.train_test_split(0.25, seed=0)
    for part in (changed, parts["train"], parts["test"]):
        table, columns = data.from_frame(part.with_format("arrow")[:], target="price"), part.with_format("torch")[:]
        assert len(table) == len(part) < 60
        for index in (0, len(part) - 1):
            row = part[index]
            assert table[index][0].tolist() == pytest.approx([row["size"], row["weight"]])
            assert columns["price"][index].item() == pytest.approx(row["price"])
    assert changed.data.table.num_rows != len(parts["test"])  # which is why the page takes [:]


def test_objects_of_torchmetrics_are_measured_on_them() -> None:
    regression = pytest.importorskip("torchmetrics.regression", reason="it brings the metric")

    class Measured:
        metrics = {"pearson": regression.PearsonCorrCoef()}  # noqa: RUF012  (one for all, as a user would write it)

        def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> Outputs:
            predicted = model(batch["size"][:, None])[:, 0]
            loss = nn.functional.mse_loss(predicted, batch["price"])
            return Outputs(loss, metrics={"pearson": (predicted, batch["price"])}, predictions=predicted)

    trainer: Trainer[Any, Any] = Trainer(
        Measured(), optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.1), progress=False
    )
    train = rows().with_format("torch")
    result = trainer.fit(lambda: nn.Linear(1, 1), train, epochs=2, batch_size=7, validation=train)
    by_hand = regression.PearsonCorrCoef()
    by_hand.update(trainer.predict(result.model, train), train["price"][:])
    assert result.history.last["valid/pearson"] == pytest.approx(float(by_hand.compute()), rel=1e-4)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: rows().train_test_split(0.5), r"train is a dict, whose values must be tensors or arrays: \['train'\] is Dataset"),
        (
            lambda: rows().to_iterable_dataset(),
            "train is a torch IterableDataset, which yields samples one by one. Wrap it: DataLoader",
        ),
        (lambda: {"size": rows()["size"]}, r"train\['size'\] is Column.*torch.as_tensor\(column\[:\]\)"),
        (lambda: (rows()["size"], rows()["price"]), r"train\[0\] is Column.*torch.as_tensor\(column\[:\]\)"),
    ],
)
def test_what_is_no_data_is_refused_with_what_to_do(made: Any, said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=said):
        weights(made())


def test_a_stream_in_a_loader_is_trained_on() -> None:
    stream = torch.utils.data.DataLoader(rows().to_iterable_dataset().with_format("torch"), batch_size=8)
    assert weights(stream, batch_size=None) == weights(rows().with_format("torch"), shuffle=False)
