"""The DataLoaders that every peer gets."""

from __future__ import annotations

from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contestants.loops import Ordered
from benchmarks.workloads import Workload


def train_loader(workload: Workload, *, peeks: int = 0) -> DataLoader[tuple[Tensor, ...]]:
    """Return the batches of each epoch, in the workload's order."""
    return DataLoader(TensorDataset(*workload.train), batch_size=workload.batch, sampler=Ordered(workload, peeks=peeks))


def valid_loader(workload: Workload) -> DataLoader[tuple[Tensor, ...]] | None:
    """Return the batches of the validation, where the workload has one."""
    return None if workload.valid is None else DataLoader(TensorDataset(*workload.valid), batch_size=workload.batch)
