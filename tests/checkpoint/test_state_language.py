"""The state language: what goes in comes back, bit for bit, and what cannot come back does not go in."""

from __future__ import annotations

import datetime
import math
from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from torchflow.checkpoint import check_state
from torchflow.checkpoint.format import STATE_DEPTH, Encoded, decode, encode
from torchflow.checkpoint.json_text import JSON_DEPTH
from torchflow.checkpoint.shards import DTYPE_NAMES, make_shard, raw, read_shard, split_into_shards
from torchflow.errors import CorruptCheckpointError, StateError
from torchflow.types import State

DTYPES = list(DTYPE_NAMES)


def same(left: object, right: object) -> bool:
    """Equal with types, order of keys aside, tensors and floats bit for bit (NaNs are all one)."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        if left.dtype != right.dtype or left.shape != right.shape:
            return False
        return bool(raw(left.contiguous()) == raw(right.contiguous()))
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return type(left) is type(right) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, float):
        return left.hex() == right.hex()
    return type(left) is type(right) and left == right


def through_bytes(encoded: Encoded, shard_bytes: int = 64) -> dict[str, Any]:
    tensors: dict[str, Tensor] = {}
    for shard in split_into_shards(encoded.tensors, shard_bytes):
        tensors.update(read_shard(b"".join(shard.chunks()), "shard"))
    return decode(encoded.text, tensors, "state.json")


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape)
    if dtype is torch.bool:
        flat = torch.tensor(draw(st.lists(st.booleans(), min_size=count, max_size=count)), dtype=torch.bool)
    else:
        width = torch.empty(0, dtype=dtype).element_size()
        content = bytearray(draw(st.binary(min_size=count * width, max_size=count * width)))
        flat = torch.frombuffer(content, dtype=torch.uint8).view(dtype) if content else torch.empty(0, dtype=dtype)
    tensor = flat.reshape(shape)
    return tensor.transpose(0, -1) if len(shape) > 1 and draw(st.booleans()) else tensor


KEYS = st.text(max_size=5).filter(lambda key: not key.startswith("$")) | st.sampled_from(["a", "a/b", "__metadata__", "", "b~2"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.just(math.nan)
    | st.text(st.characters(), max_size=5)
    | tensors()
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple) | st.dictionaries(KEYS, inner, max_size=4),
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=5), st.integers(1, 64))
def test_every_state_tree_comes_back_bit_for_bit(state: dict[str, State], shard_bytes: int) -> None:
    assert same(through_bytes(encode(state), shard_bytes), state)


@settings(max_examples=200, deadline=None)
@given(st.floats())
def test_every_float_comes_back_exactly(number: float) -> None:
    assert same(through_bytes(encode({"x": number}))["x"], math.nan if math.isnan(number) else number)


def test_tensors_appear_in_the_json_under_the_path_they_have_in_the_state() -> None:
    encoded = encode({"model": {"net.0.weight": torch.ones(2)}, "betas": (0.9, math.inf)})
    assert encoded.text == b'{"model":{"net.0.weight":{"$tensor":"model/net.0.weight"}},"betas":{"$tuple":[0.9,{"$float":"inf"}]}}'
    assert list(encoded.tensors) == ["model/net.0.weight"]


def test_names_that_collide_are_kept_apart() -> None:
    state: dict[str, State] = {
        "a/b": torch.zeros(1),
        "a": {"b": torch.ones(1)},
        "a/b~2": torch.full((1,), 2.0),
        "__metadata__": torch.ones(3),
        "\ud800": torch.ones(4),
    }
    assert same(through_bytes(encode(state)), state)


def test_tied_tensors_are_stored_once_and_come_back_under_both_names() -> None:
    weight = nn.Parameter(torch.randn(3, 2))
    encoded = encode({"a": weight, "b": weight, "view": weight[:1], "turned": weight.t()})
    assert list(encoded.tensors) == ["a", "view", "turned"]
    found = through_bytes(encoded)
    assert found["a"] is found["b"]
    assert torch.equal(found["turned"], weight.t())


def test_tensors_that_a_mapping_makes_anew_at_each_access_are_not_taken_for_one() -> None:
    class Fresh(dict[str, Tensor]):
        def items(self) -> Any:
            return ((str(i), torch.full((4,), float(i))) for i in range(20))

    found = through_bytes(encode(Fresh()))
    assert [float(found[str(i)][0]) for i in range(20)] == list(range(20))


def test_what_is_encoded_is_a_snapshot_and_the_state_is_as_it_was() -> None:
    weight = torch.ones(3, requires_grad=True)
    state: dict[str, State] = {"w": weight, "list": [1, {"x": (2,)}]}
    encoded = encode(state)
    with torch.no_grad():
        weight.zero_()
    assert encoded.tensors["w"].sum() == 3
    assert not encoded.tensors["w"].requires_grad
    assert state == {"w": weight, "list": [1, {"x": (2,)}]}


def test_conjugate_negative_and_expanded_views_are_stored_by_value() -> None:
    z = torch.randn(3, dtype=torch.complex64)
    state = {"conj": z.conj(), "plain": z, "neg": z.conj().imag, "wide": torch.ones(1).expand(4)}
    found = through_bytes(encode(state))
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_mappings_of_any_class_come_back_as_dicts() -> None:
    assert through_bytes(encode(MappingProxyType({"x": OrderedDict(y=1)}))) == {"x": {"y": 1}}


Point = namedtuple("Point", "x y")


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime.datetime(2020, 1, 1), "got datetime.datetime"),
        (np.float64(1.0), "convert it to a plain int, float, str, list or tensor"),
        (np.int64(1), "convert it to a plain int"),
        (np.ones(2), "convert it to a plain int"),
        (Colour.RED, "convert it to a plain int"),
        (Point(1, 2), "store a plain list, tuple or dict"),
        ({1, 2}, "store a plain list, tuple or dict"),
        (torch.Size([1]), "store a plain list, tuple or dict"),
        (b"bytes", "a state holds only None, bool, int, float, str, tensors"),
        (object, "a state holds only"),
        (2**64, "an int beyond 64 bits; store it as str"),
        (-(2**63) - 1, "an int beyond 64 bits"),
        (torch.ones(2, device="meta"), "meta device"),
        (torch.ones(2).to_sparse(), "not dense"),
        (torch.ones(2, dtype=torch.complex128), "torch.view_as_real"),
        (torch.ones(2, dtype=torch.float8_e4m3fnuz), "convert it first"),
        (nn.UninitializedParameter(), "lazy"),
        (torch.ones(2).as_subclass(type("Mine", (Tensor,), {})), "class Mine"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_with_its_path(value: Any, said: str) -> None:
    with pytest.raises(StateError) as caught:
        check_state({"callbacks": {"early_stopping": {"best": [0, value]}}})
    assert str(caught.value).startswith("callbacks/early_stopping/best/1: ")
    assert said in str(caught.value)


def test_keys_must_be_plain_strings_without_a_dollar_in_front() -> None:
    with pytest.raises(StateError, match=r"a/b: every key must be a str, got 1 \(int\); write str\(key\)\."):
        encode({"a": {"b": {1: 2}}})  # type: ignore[dict-item]
    with pytest.raises(StateError, match=r"a/\$tensor: a key must not start with"):
        encode({"a": {"$tensor": "x"}})


def test_a_state_is_a_dict() -> None:
    with pytest.raises(StateError, match="state must be a dict with string keys, got 3"):
        encode(3)  # type: ignore[arg-type]
    check_state([1])


def nested(levels: int, leaf: State = 0) -> dict[str, State]:
    value: State = leaf
    for level in range(levels - 1):
        value = (value,) if level % 2 else [value]
    return {"root": value}


def test_a_state_may_be_as_deep_as_the_limit_and_no_deeper() -> None:
    deepest = nested(STATE_DEPTH)
    assert same(through_bytes(encode(deepest)), deepest)
    with pytest.raises(StateError, match="deeper than 32 levels"):
        encode(nested(STATE_DEPTH + 1))
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(StateError, match="or a container holds itself"):
        encode({"ring": ring})


def test_json_above_the_limit_is_neither_written_nor_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchflow.checkpoint.format.STATE_BYTES", 100)
    with pytest.raises(StateError, match="keep long lists of numbers as tensors"):
        encode({"long": [1] * 100})
    with pytest.raises(CorruptCheckpointError, match="above the limit of 100"):
        decode(b" " * 101, {}, "state.json")


TUPLES = b'{"a":' + b'{"$tuple":[' * 33 + b"]}" * 33 + b"}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not valid JSON"),
        (b"[]", "must hold an object"),
        (b'{"$float":"nan"}', "must hold an object"),
        (b'{"a":1,"a":1}', "the key 'a' appears twice"),
        (b'{"a":NaN}', "NaN is no JSON number"),
        (b'{"a":-Infinity}', "-Infinity is no JSON number"),
        (b'{"a":1e999}', "out of range"),
        (b'{"a":18446744073709551616}', "beyond 64 bits"),
        (b'{"a":' + b"9" * 10_000 + b"}", "not valid JSON"),
        (b'{"a":{"$tensor":"gone"}}', "which is not stored"),
        (b'{"a":{"$tensor":1}}', "no value that this version writes"),
        (b'{"a":{"$tensor":"w","b":1}}', "no value that this version writes"),
        (b'{"a":{"$float":"1"}}', "no value that this version writes"),
        (b'{"a":{"$tuple":{}}}', "no value that this version writes"),
        (b'{"a":{"$class":"os.system"}}', "no value that this version writes"),
        (b'{"a":{"b":1,"$x":2}}', "no value that this version writes"),
        (b"{}", "does not refer to the stored tensors 'w' (str)"),
        (b'{"a":"\xff"}', "not valid JSON"),
        (b'\xef\xbb\xbf{"a":1}', "not valid JSON"),
        (b'{"a":1} x', "not valid JSON"),
        (b"[" * 1_000_000, f"nests deeper than {JSON_DEPTH} levels"),
        (b'{"a":' * 1_000_000, f"nests deeper than {JSON_DEPTH} levels"),
        (b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", "nests deeper than 32 levels"),
        (TUPLES, "nests deeper than 32 levels"),
        (b'{"a":"' + b'\\"' * 100_000, "a string has no end"),
    ],
)
def test_hostile_json_ends_in_a_typed_error(text: bytes, said: str) -> None:
    with pytest.raises(CorruptCheckpointError) as caught:
        decode(text, {"w": torch.ones(1)}, "state.json")
    assert str(caught.value).startswith("state.json")
    assert said in str(caught.value)


def test_brackets_within_strings_are_no_depth() -> None:
    assert through_bytes(encode({"text": "[{" * 1000 + '"\\'})) == {"text": "[{" * 1000 + '"\\'}


def test_many_unused_tensors_are_counted_instead_of_listed() -> None:
    with pytest.raises(CorruptCheckpointError, match="and 2 more"):
        decode(b"{}", {str(i): torch.ones(1) for i in range(7)}, "state.json")


def test_shards_hold_no_more_than_their_limit_and_larger_tensors_alone() -> None:
    sizes = [1, 2, 5, 1, 1, 3]
    shards = split_into_shards({str(i): torch.zeros(n, dtype=torch.uint8) for i, n in enumerate(sizes)}, 4)
    assert [[t.numel() for t in shard.tensors] for shard in shards] == [[1, 2], [5], [1, 1], [3]]
    assert split_into_shards({}) == []


def test_tensors_in_a_file_are_aligned_to_their_elements() -> None:
    shard = make_shard({"a": torch.ones(3, dtype=torch.uint8), "b": torch.ones(2, dtype=torch.float64)}, {})
    assert len(shard.header) % 8 == 0
    assert [tensor.dtype for tensor in shard.tensors] == [torch.float64, torch.uint8]


@pytest.mark.parametrize(
    ("header", "content", "said"),
    [
        (b'{"a":{"dtype":"F8_E8M0","shape":[1],"data_offsets":[0,1]}}', b"\0", "F8_E8M0, which this version cannot read"),
        (b'{"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}', b"\5", "bool tensor with values other than 0 and 1"),
        (
            b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}',
            b"\0" * 6,
            "not a sound",
        ),
        (b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,4]}}', b"\0" * 4, "not a sound safetensors file"),
        (b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"\0" * 5, "not a sound safetensors file"),
        (b"not json", b"", "not a sound safetensors file"),
    ],
)
def test_hostile_tensor_files_end_in_a_typed_error(header: bytes, content: bytes, said: str) -> None:
    with pytest.raises(CorruptCheckpointError, match=said):
        read_shard(len(header).to_bytes(8, "little") + header + content, "shard")
