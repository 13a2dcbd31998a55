"""Tensors <-> bytes of safetensors files.

Written here, tensor by tensor, so that each byte passes the file layer and the hash once and no second copy of the
weights exists in memory; read by safetensors, which checks the header: offsets, overlaps, gaps and sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import torch
from torch import Tensor

from torchflow.checkpoint.json_text import JSON_VALUES, canonical, parse, values_in
from torchflow.errors import CorruptCheckpointError

SHARD_BYTES = 4 * 2**30
"""How many bytes of tensors go into one file; a larger tensor has a file for itself."""
HEADER_BYTES = 100_000_000
"""The largest header that safetensors reads."""

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
DTYPE_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
"""What safetensors calls each dtype that it can hold."""


@dataclass(frozen=True)
class Shard:
    """One safetensors file that is still to be written.

    Attributes:
        header: Length and JSON header, padded so that the tensors start at a multiple of eight bytes.
        tensors: In the order of the file; contiguous, on the CPU.
    """

    header: bytes
    tensors: tuple[Tensor, ...]

    def chunks(self) -> Iterator[memoryview]:
        """Yield the bytes of the file in order, without copying them."""
        yield memoryview(self.header)
        for tensor in self.tensors:
            yield raw(tensor)


def raw(tensor: Tensor) -> memoryview:
    """Return the memory of a contiguous CPU tensor."""
    memory: Any = tensor.detach().reshape(-1).view(torch.uint8).numpy()  # numpy's stubs do not know that arrays are buffers
    return memoryview(memory)


def split_into_shards(tensors: Mapping[str, Tensor], shard_bytes: int = SHARD_BYTES) -> list[Shard]:
    """Distribute tensors over files of at most ``shard_bytes`` bytes each, in their order; no tensors, no files."""
    groups: list[dict[str, Tensor]] = []
    room = 0
    for name, tensor in tensors.items():
        if not groups or tensor.nbytes > room:
            groups.append({})
            room = shard_bytes
        groups[-1][name] = tensor
        room -= tensor.nbytes
    return [make_shard(group, {"format": "pt"}) for group in groups]


def make_shard(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Shard:
    """Lay tensors out as one safetensors file."""
    # The widest elements first: then every tensor lies aligned to its own elements.
    ordered = sorted(tensors.items(), key=lambda item: -item[1].element_size())
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    offset = 0
    for name, tensor in ordered:
        entry = {"dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, offset + tensor.nbytes]}
        header[name] = entry
        offset += tensor.nbytes
    return Shard(header_bytes(header), tuple(tensor for _, tensor in ordered))


def header_bytes(header: Mapping[str, object]) -> bytes:
    """Return the one spelling of a header that is written here: its length, canonical JSON, spaces up to eight bytes."""
    text = canonical(header)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_shard(data: bytes, where: str) -> dict[str, Tensor]:
    """Parse one safetensors file into tensors that own their memory; a caller who keeps no ``data`` has it in memory twice at most.

    Raises:
        CorruptCheckpointError: The bytes are no safetensors file, repeat a name, or hold a dtype or a bool that torch has not.
    """
    if values_in(data[8 : 8 + min(int.from_bytes(data[:8], "little"), HEADER_BYTES)]) > JSON_VALUES:
        raise CorruptCheckpointError(f"{where} describes more tensors than any checkpoint has.")
    try:
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise CorruptCheckpointError(f"{where} is not a sound safetensors file: {error}.") from error
    read_header(data, where)  # safetensors lets the last of two equal names win
    del data  # before any tensor is copied
    tensors: dict[str, Tensor] = {}
    while entries:  # taken off one by one, so that no more than one tensor is in memory twice
        name, entry = entries.pop()
        tensors[name] = _tensor(entry["dtype"], entry["shape"], entry["data"], f"{where}: {name}")
    return tensors


def read_header(data: bytes, where: str) -> tuple[dict[str, Any], int]:
    """Return the strictly parsed header of a file that safetensors has accepted, and where the tensors begin."""
    length = 8 + int.from_bytes(data[:8], "little")
    return parse(data[8:length], where), length


def _tensor(dtype_name: str, shape: list[int], data: bytearray, where: str) -> Tensor:
    dtype = _DTYPES.get(dtype_name)
    if dtype is None:
        raise CorruptCheckpointError(f"{where} has the dtype {dtype_name}, which this version cannot read.")
    if not data:
        return torch.empty(shape, dtype=dtype, device="cpu")
    stored = torch.frombuffer(data, dtype=torch.uint8)
    if dtype is torch.bool and bool((stored > 1).any()):
        raise CorruptCheckpointError(f"{where} is a bool tensor with values other than 0 and 1.")
    return stored.clone().view(dtype).reshape(shape)
