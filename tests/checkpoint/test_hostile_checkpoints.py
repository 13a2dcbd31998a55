"""Law 8, the second half: loading executes nothing, whatever the files hold, with every hash and digest right.

Each test says which break of the code makes it fail.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.watching import watched
from torchflow.checkpoint import load_model, read_checkpoint
from torchflow.checkpoint.json_text import canonical
from torchflow.errors import CheckpointError, CorruptCheckpointError, TorchflowError


class Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch /tmp/executed",)


def forged(folder: Path, contents: Mapping[str, bytes], **changes: object) -> Path:
    """Write a checkpoint of step 7 whose hashes and digest are right, whatever its files hold."""
    there = folder / "step-000000007"
    there.mkdir(parents=True)
    entries = []
    for name, content in contents.items():
        (there / name).write_bytes(content)
        entries.append({"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    rest = {
        "format": "torchflow-checkpoint/1",
        "step": 7,
        "revision": 0,
        "parent": None,
        "environment": {},
        "files": entries,
        **changes,
    }
    digest = hashlib.sha256(canonical(rest)).hexdigest()
    (there / "manifest.json").write_bytes(canonical({**rest, "digest": digest}) + b"\n")
    return there


def tensor_file(header: object, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def zipped(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


W, V_W = b'{"w":{"$tensor":"w"}}', b'{"v":{"$tensor":"v"},"w":{"$tensor":"w"}}'
F32 = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
ONE = tensor_file({"w": F32}, bytes(4))
HOSTILE_FILES: dict[str, tuple[bytes, bytes]] = {
    "a pickle as tensors": (b'{"w":{"$tensor":"w"}}', pickle.dumps(Payload())),
    "a pickle as state": (pickle.dumps(Payload()), ONE),
    "a pickle as state, text": (pickle.dumps(Payload(), protocol=0), ONE),
    "a class path": (b'{"w":{"$tensor":"w"},"x":{"$class":"os.system","$args":["true"]}}', ONE),
    "overlapping offsets": (b'{"v":{"$tensor":"v"},"w":{"$tensor":"w"}}', tensor_file({"v": F32, "w": F32}, bytes(4))),
    "offsets beyond the end": (b'{"w":{"$tensor":"w"}}', tensor_file({"w": {**F32, "data_offsets": [0, 8]}}, bytes(4))),
    "negative offsets": (b'{"w":{"$tensor":"w"}}', tensor_file({"w": {**F32, "data_offsets": [-4, 0]}}, bytes(4))),
    "a shape that overflows": (b'{"w":{"$tensor":"w"}}', tensor_file({"w": {**F32, "shape": [2**62, 2**62, 16]}}, bytes(4))),
    "a header of 100 MB that is not there": (b'{"w":{"$tensor":"w"}}', (10**8).to_bytes(8, "little") + b"{}"),
    "a header of 2^63 bytes": (b'{"w":{"$tensor":"w"}}', (2**63).to_bytes(8, "little") + b"{}"),
    "a deep header": (b'{"w":{"$tensor":"w"}}', tensor_file(b'{"a":' * 200_000)),
    "a key twice in the header": (
        b'{"w":{"$tensor":"w"}}',
        tensor_file(b'{"w":%s,"w":%s}' % ((json.dumps(F32).encode(),) * 2), bytes(4)),
    ),
    "a tensor too many": (b"{}", ONE),
    "a tensor too few": (b'{"v":{"$tensor":"v"},"w":{"$tensor":"w"}}', ONE),
    "a deep state": (b'{"a":' * 1_000_000, ONE),
    "a key twice": (b'{"w":{"$tensor":"w"},"a":1,"a":2}', ONE),
    "not a number": (b'{"w":{"$tensor":"w"},"a":NaN}', ONE),
    "a zip of torch.save": (W, zipped({"archive/data.pkl": pickle.dumps(Payload())})),
    "a zip that unpacks to a thousand times its size": (W, zipped({"archive/data/0": bytes(10**7)})),
    "a packed state that unpacks to a thousand times its size": (gzip.compress(bytes(10**7), mtime=0), ONE),
    "no bytes as tensors": (W, b""),
    "no bytes as state": (b"", ONE),
    "a header that is a list": (W, tensor_file([F32], bytes(4))),
    "a header that is text": (W, tensor_file(b'"w"', bytes(4))),
    "an unknown dtype": (W, tensor_file({"w": {**F32, "dtype": "object"}}, bytes(4))),
    "a dtype that torch has not": (W, tensor_file({"w": {"dtype": "F8_E8M0", "shape": [4], "data_offsets": [0, 4]}}, bytes(4))),
    "a gap between tensors": (V_W, tensor_file({"v": F32, "w": {**F32, "data_offsets": [8, 12]}}, bytes(12))),
    "offsets that run backwards": (W, tensor_file({"w": {**F32, "data_offsets": [4, 0]}}, bytes(4))),
    "bytes after the last tensor": (W, ONE + bytes(4)),
    "a shape that does not fit its bytes": (W, tensor_file({"w": {**F32, "shape": [2]}}, bytes(4))),
    "a bool that is neither": (W, tensor_file({"w": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}}, b"\x02")),
    "a name that is a path": (W, tensor_file({"../../w": F32}, bytes(4))),
    "a header with values by the million": (W, tensor_file(b'{"a":[' + b"[]," * 2**21 + b"[]]}")),
    "values by the million": (b'{"w":{"$tensor":"w"},"a":[' + b"[]," * 2**21 + b"[]]}", ONE),
    "an int of 70 bits": (b'{"w":{"$tensor":"w"},"a":%d}' % 2**70, ONE),
    "an int of 5000 digits": (b'{"w":{"$tensor":"w"},"a":' + b"9" * 5000 + b"}", ONE),
    "a float that overflows": (b'{"w":{"$tensor":"w"},"a":1e999}', ONE),
    "an unknown tag": (b'{"w":{"$tensor":"w"},"a":{"$code":"__import__(\'os\')"}}', ONE),
    "a tag with more to say": (b'{"w":{"$tensor":"w","$class":"os.system"}}', ONE),
    "a float by an unknown word": (b'{"w":{"$tensor":"w"},"a":{"$float":"os.system"}}', ONE),
    "a tuple that is none": (b'{"w":{"$tensor":"w"},"a":{"$tuple":"ab"}}', ONE),
    "a tensor by a number": (b'{"w":{"$tensor":1}}', ONE),
    "a class path as a tensor": (b'{"w":{"$tensor":"os.system"}}', ONE),
    "a look-alike of a tag": ('{"w":{"$tensor\u200b":"w"}}'.encode(), ONE),
    "a look-alike of the dollar": ('{"w":{"\uff04tensor":"w"}}'.encode(), ONE),
    "a byte order mark": (b'\xef\xbb\xbf{"w":{"$tensor":"w"}}', ONE),
    "a state in UTF-16": ('{"w":{"$tensor":"w"}}'.encode("utf-16"), ONE),
    "a state that is a list": (b'[{"$tensor":"w"}]', ONE),
}


class Memory:
    """How much memory a block takes at its peak, in bytes, beyond what the process had before; None where nobody tells."""

    def __enter__(self) -> Memory:
        self.grown: int | None = None
        self._before = self._read("VmRSS", reset=True)
        return self

    def __exit__(self, *error: object) -> None:
        peak = self._read("VmHWM", reset=False)
        self.grown = None if peak is None or self._before is None else peak - self._before

    def _read(self, name: str, *, reset: bool) -> int | None:
        try:
            if reset:
                Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
            status = Path("/proc/self/status").read_text()
        except OSError:
            return None
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name))


ROOM = 16 * 2**20
"""What reading may take beside twice the files."""


def too_much(memory: Memory, files: int) -> str | None:
    """Say that reading files of so many bytes took more than it may, or None."""
    most = 2 * files + ROOM
    return f"it took {memory.grown} bytes, {most} are allowed" if memory.grown is not None and memory.grown > most else None


def test_reading_takes_no_more_than_twice_the_file(tmp_path: Path) -> None:
    """Fails when the bytes of a file are kept while its tensors are copied."""
    for tensors in (1, 8):
        size = 2**26 // tensors
        header = {str(i): {"dtype": "U8", "shape": [size], "data_offsets": [i * size, (i + 1) * size]} for i in range(tensors)}
        state = {str(i): {"$tensor": str(i)} for i in range(tensors)}
        contents = {
            "tensors-00000-of-00001.safetensors": tensor_file(header, bytes(2**26)),
            "state.json": json.dumps(state).encode(),
        }
        there = forged(tmp_path / str(tensors), contents)
        with Memory() as memory:
            read_checkpoint(there)
        assert too_much(memory, 2**26) is None


@pytest.mark.parametrize("kind", HOSTILE_FILES)
def test_hostile_files_with_right_hashes_end_in_a_typed_error_and_execute_nothing(tmp_path: Path, kind: str) -> None:
    """Fails when a file is unpickled, or when JSON is parsed by its own rules."""
    state, tensors = HOSTILE_FILES[kind]
    there = forged(tmp_path, {"tensors-00000-of-00001.safetensors": tensors, "state.json": state})
    with Memory() as memory, watched(tmp_path), pytest.raises(CorruptCheckpointError):
        read_checkpoint(there)
    assert too_much(memory, len(state) + len(tensors)) is None


def entry(name: str, size: object = 2, digest: object = "0" * 64) -> dict[str, object]:
    return {"name": name, "bytes": size, "sha256": digest}


DEEP: dict[str, Any] = {}
for _ in range(40):
    DEEP = {"a": DEEP}
HOSTILE_MANIFESTS: dict[str, dict[str, object]] = {
    "a name above the folder": {"files": [entry("../state.json")]},
    "an absolute name": {"files": [entry("/etc/passwd")]},
    "a name below the folder": {"files": [entry("a/state.json")]},
    "a file of its own": {"files": [entry("evil.py"), entry("state.json")]},
    "digits that only look like digits": {"files": [entry("tensors-0000\u0660-of-00001.safetensors"), entry("state.json")]},
    "no files": {"files": []},
    "a file twice": {"files": [entry("state.json"), entry("state.json")]},
    "a name that is no text": {"files": [{"name": 1, "bytes": 2, "sha256": "0" * 64}]},
    "a file with more to say": {"files": [{**entry("state.json"), "run": "me"}]},
    "a huge file": {"files": [entry("state.json", 2**62)]},
    "a size that is none": {"files": [entry("state.json", -1)]},
    "a size that is a bool": {"files": [entry("state.json", True)]},
    "a hash that is none": {"files": [entry("state.json", 2, "x" * 64)]},
    "files that are no list": {"files": {"state.json": 1}},
    "another format": {"format": "torchflow-checkpoint/2"},
    "a format that is no text": {"format": ["torchflow-checkpoint/1"]},
    "a key too many": {"class": "os.system"},
    "a step that is a bool": {"step": True},
    "a negative step": {"step": -7},
    "another step": {"step": 8},
    "another revision": {"revision": 1},
    "a parent from the future": {"parent": 8},
    "an environment that is none": {"environment": "cpu"},
    "an environment with tensors": {"environment": {"x": {"$tensor": "w"}}},
    "a deep environment": {"environment": DEEP},
}


@pytest.mark.parametrize("kind", HOSTILE_MANIFESTS)
def test_hostile_manifests_with_a_right_digest_end_in_a_typed_error_and_execute_nothing(tmp_path: Path, kind: str) -> None:
    """Fails when a name of the manifest is joined to the folder unchecked, or a type is taken for granted."""
    there = forged(tmp_path, {"state.json": b"{}"}, **HOSTILE_MANIFESTS[kind])
    with watched(tmp_path), pytest.raises(CorruptCheckpointError):
        read_checkpoint(there)


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"[" * 1_000_000, b"\x80\x04.", b'{"format":1,"format":1}', b"1" * 5000])
def test_a_manifest_that_is_something_else_ends_in_a_typed_error(tmp_path: Path, text: bytes) -> None:
    """Fails when the manifest is parsed by Python's own rules."""
    there = forged(tmp_path, {"state.json": b"{}"})
    (there / "manifest.json").write_bytes(text)
    with watched(tmp_path), pytest.raises(CorruptCheckpointError, match="manifest"):
        read_checkpoint(there)


def test_one_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    """Fails when the last of two tensors of one name wins."""
    contents = {"tensors-00000-of-00002.safetensors": ONE, "tensors-00001-of-00002.safetensors": ONE}
    there = forged(tmp_path, {**contents, "state.json": b'{"w":{"$tensor":"w"}}'})
    with watched(tmp_path), pytest.raises(CorruptCheckpointError, match="holds the tensor 'w' a second time"):
        read_checkpoint(there)


def test_a_state_above_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Fails when a size of the manifest is believed."""
    there = forged(tmp_path, {"state.json": b"{}"}, files=[entry("state.json", 2**28 + 1)])
    os.truncate(there / "state.json", 2**28 + 1)  # a hole, which takes no room
    with watched(tmp_path), pytest.raises(CorruptCheckpointError, match="above the limit"):
        read_checkpoint(there)


@pytest.mark.parametrize(
    "content", [pickle.dumps(Payload()), pickle.dumps(Payload(), protocol=0), ONE[:-1], b"PK\x03\x04", b"import os"]
)
def test_a_hostile_model_file_ends_in_a_typed_error_and_executes_nothing(tmp_path: Path, content: bytes) -> None:
    """Fails when a file is unpickled."""
    (tmp_path / "model.safetensors").write_bytes(content)
    model = nn.Linear(1, 1)
    with watched(tmp_path), pytest.raises(CheckpointError):
        load_model(tmp_path / "model.safetensors", into=model)


def test_text_that_names_code_is_only_text(tmp_path: Path) -> None:
    """Fails when any name in a file is looked up."""
    text = b'{"_target_":"os.system","__class__":"subprocess.Popen","__reduce__":["os.system",["true"]],"py/object":"posix.system"}'
    there = forged(tmp_path, {"state.json": text})
    with watched(tmp_path):
        state = read_checkpoint(there).state
    assert state == json.loads(text)


def is_state(value: object) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and is_state(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(is_state, value))
    return value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)


WORDS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b":",
    b",",
    b'"$tensor"',
    b'"$tuple"',
    b'"$float"',
    b'"nan"',
    b'"w"',
    b"1",
    b"-",
    b"e9",
    b"null",
    b"\\",
    b" ",
    b"\xff",
]


@settings(max_examples=200, deadline=None)
@given(text=st.lists(st.sampled_from(WORDS), max_size=30).map(b"".join) | st.binary(max_size=40), header=st.binary(max_size=60))
def test_any_bytes_under_right_hashes_give_a_state_or_a_typed_error(text: bytes, header: bytes) -> None:
    """Fails when anything but a TorchflowError escapes the parser."""
    with tempfile.TemporaryDirectory() as parent:
        for contents in (
            {"state.json": b'{"w":' + text + b"}"},
            {"tensors-00000-of-00001.safetensors": tensor_file(header), "state.json": text},
        ):
            there = forged(Path(parent) / str(len(contents)), contents)
            with watched(Path(parent)), suppress(TorchflowError):
                assert is_state(read_checkpoint(there).state)
