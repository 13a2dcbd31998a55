"""One model as one safetensors file: the bytes, and the digest that a plain safetensors file lacks.

What is torchflow's own lies in the header's metadata, where every other reader passes over it: the format's version,
the names that share one tensor (tied weights), the states of encoders, and the SHA-256 over header and tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from torchflow.checkpoint.format import decode, encode
from torchflow.checkpoint.json_text import canonical, parse
from torchflow.checkpoint.shards import HEADER_BYTES, Shard, header_bytes, make_shard, read_header, read_shard
from torchflow.checkpoint.tensors import check_tensor, snapshot, view_of
from torchflow.errors import CheckpointError, CorruptCheckpointError, StateError
from torchflow.types import State

MODEL_FORMAT = "torchflow-model/1"
ENCODERS = "encoders/"

_FORMAT, _DIGEST, _ALIASES, _ENCODERS = (f"torchflow.{word}" for word in ("format", "digest", "aliases", "encoders"))
_KEYS = {"format", _FORMAT, _DIGEST, _ALIASES, _ENCODERS}


@dataclass(frozen=True)
class ModelContent:
    """What a model file holds.

    Attributes:
        tensors: Every name of every parameter and buffer; tied names hold one and the same tensor.
        encoders: The states of the encoders by name.
    """

    tensors: dict[str, Tensor]
    encoders: dict[str, Any] = field(default_factory=dict)


def lay_out(live: Mapping[str, Tensor], encoders: Mapping[str, Mapping[str, State]]) -> Shard:
    """Copy tensors and states and lay them out as the bytes of one file.

    Raises:
        StateError: A tensor or a state that cannot be stored, named.
    """
    stored: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    seen: dict[tuple[object, ...], str] = {}
    for name, tensor in live.items():
        check_tensor(tensor, name)
        if name.startswith(ENCODERS) or name == "__metadata__":
            raise StateError(f"{name}: this name is the file format's own; rename the module.")
        first = seen.setdefault(view_of(tensor), name)
        if first == name:
            stored[name] = snapshot(tensor)
        else:
            aliases[name] = first
    # Encoded under one key of its own, so that its tensors are called "encoders/..." in the file.
    encoded = encode({ENCODERS[:-1]: dict(encoders)})
    metadata = {"format": "pt", _FORMAT: MODEL_FORMAT, _ALIASES: canonical(aliases).decode(), _ENCODERS: encoded.text.decode()}
    tensors = {**stored, **encoded.tensors}
    unsigned = make_shard(tensors, metadata)
    digest = hashlib.sha256()
    for chunk in unsigned.chunks():
        digest.update(chunk)
    shard = make_shard(tensors, {**metadata, _DIGEST: digest.hexdigest()})
    if len(shard.header) - 8 > HEADER_BYTES:
        raise StateError(
            f"names and encoders take {len(shard.header)} bytes, above the limit of {HEADER_BYTES}; keep long lists as tensors."
        )
    return shard


def read_bytes(data: bytes, where: str) -> ModelContent:
    """Read the bytes of a model file, one that torchflow wrote or any plain safetensors file.

    Raises:
        CheckpointError: It is a pickle, which is never read here.
        CorruptCheckpointError: It is no safetensors file, or not what was written.
    """
    # A safetensors file begins with the length of its header in eight bytes, which may look like a pickle's first two; then
    # comes the header's brace.
    if data.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")) and data[8:9] != b"{":
        raise CheckpointError(
            f"{where} is a pickle or a zip of torch.save, which can execute code and is never read here; save the model "
            "again with save_model(model, path) in the program that wrote it."
        )
    tensors = read_shard(data, where)
    header, length = read_header(data, where)
    metadata = header.get("__metadata__") or {}
    if not any(key.startswith("torchflow.") for key in metadata):
        return ModelContent(tensors)
    if metadata.keys() != _KEYS or metadata[_FORMAT] != MODEL_FORMAT:
        raise CorruptCheckpointError(f"{where} is damaged, or of a later format than {MODEL_FORMAT!r}, which this version reads.")
    unsigned = {**header, "__metadata__": {key: text for key, text in metadata.items() if key != _DIGEST}}
    digest = hashlib.sha256(header_bytes(unsigned))
    digest.update(memoryview(data)[length:])
    if digest.hexdigest() != metadata[_DIGEST] or data[:length] != header_bytes(header):
        raise CorruptCheckpointError(f"{where} is not what was written: its SHA-256 differs; use another copy of the file.")
    return _content(tensors, metadata, where)


def _content(tensors: dict[str, Tensor], metadata: Mapping[str, str], where: str) -> ModelContent:
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(ENCODERS)}
    encoder_tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(ENCODERS)}
    state = decode(metadata[_ENCODERS].encode(), encoder_tensors, f"{where}: encoders")
    encoders = state.get(ENCODERS[:-1])
    aliases = parse(metadata[_ALIASES].encode(), f"{where}: aliases")
    if not isinstance(aliases, dict) or not isinstance(encoders, dict) or len(state) != 1:
        raise CorruptCheckpointError(f"{where} must hold its aliases and encoders as objects.")
    for alias, name in aliases.items():
        if alias in own or not isinstance(name, str) or name not in own:
            raise CorruptCheckpointError(f"{where} says that {alias!r} shares the tensor {name!r}, which cannot be.")
    return ModelContent({**own, **{alias: own[name] for alias, name in aliases.items()}}, encoders)
