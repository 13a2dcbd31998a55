"""Batches of tables: every row once an epoch, in an order that no worker, cut or kind of table changes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from torchflow import Trainer, data, supervised
from torchflow.data.readers import parquet_file
from torchflow.randomness import Keys

ROWS = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tables")
    lines = [f"{i},{i * i % 17 / 4},{'NA' if i % 9 == 0 else f'level {i % 3}'},{i / 10}" for i in range(ROWS)]
    (made / "t.csv").write_text("\n".join(["id,a,level,y", *lines]), encoding="utf-8")
    batch = data.from_csv(made / "t.csv").take_batch(range(ROWS))
    columns = {
        name: column.tolist() if isinstance(column, Tensor) else [text or None for text in column] for name, column in batch.items()
    }
    pq.write_table(pa.table(columns), made / "t.parquet", row_group_size=30)
    return made


def mapped(folder: Path) -> data.Dataset[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_file, "ROWS_AT_ONCE", 7)
        return data.from_parquet(folder / "t.parquet", cache=folder / "cache")


TABLES: dict[str, Callable[[Path], data.Dataset[Any]]] = {
    "csv": lambda folder: data.from_csv(folder / "t.csv"),
    "parquet": lambda folder: data.from_parquet(folder / "t.parquet"),
    "mapped": mapped,
}


def encoded(rows: data.Dataset[Any]) -> data.Dataset[Any]:
    return rows.map_batch(data.TableEncoder(target="y", numeric=["id", "a"], missing="indicator").fit(rows))


def epochs(dataset: data.Dataset[Any], batch_size: int = 8, workers: int = 0) -> list[Any]:
    batches = data.batches_of(dataset, keys=Keys(3), name="train", batch_size=batch_size, workers=workers)
    try:
        return [batch for epoch in range(2) for batch in batches.epoch(epoch)]
    finally:
        batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", TABLES)
def test_every_row_comes_once_an_epoch_whatever_the_cut(folder: Path, name: str) -> None:
    dataset = TABLES[name](folder)
    order = torch.cat([batch["id"] for batch in epochs(dataset)])
    assert sorted(order[:ROWS].tolist()) == sorted(order[ROWS:].tolist()) == list(range(ROWS))
    assert order[:ROWS].tolist() != order[ROWS:].tolist()
    assert torch.equal(torch.cat([batch["id"] for batch in epochs(dataset, batch_size=33)]), order)
    assert torch.equal(torch.cat([batch["id"] for batch in epochs(TABLES["csv"](folder))]), order)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("processes", [False, True])
def test_workers_read_the_same_batches(folder: Path, name: str, processes: bool) -> None:
    dataset = TABLES[name](folder)
    if processes:  # a map of the user's runs in processes, which open the table for themselves
        dataset = dataset.map(with_length)
    inline, ahead = epochs(dataset), epochs(dataset, workers=2)
    assert [list(batch) for batch in inline] == [list(batch) for batch in ahead]
    for one, other in zip(inline, ahead, strict=True):
        for column, again in zip(one.values(), other.values(), strict=True):
            same = torch.equal(column.nan_to_num(), again.nan_to_num()) if isinstance(column, Tensor) else column == again
            assert same


def with_length(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "length": len(row["level"])}


def test_a_model_learns_the_same_from_every_kind_of_table(folder: Path) -> None:
    weights = []
    for make in TABLES.values():
        dataset = encoded(make(folder))
        trainer: Trainer[nn.Linear, Any] = Trainer(supervised(nn.MSELoss()), optimizer=adam, progress=False)
        model = nn.Linear(len(dataset[0][0]), 1)
        nn.init.zeros_(model.weight)
        nn.init.zeros_(model.bias)
        result = trainer.fit(model, dataset, epochs=2, batch_size=16, workers=len(weights))
        weights.append(result.model.weight)
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=0.1)
