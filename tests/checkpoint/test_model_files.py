"""Model files: weights and encoders in one file, loaded into live tensors or not at all."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from torchflow.checkpoint import load_model, read_encoder_states, save_model
from torchflow.checkpoint.files import FileSystem
from torchflow.checkpoint.model_bytes import lay_out
from torchflow.checkpoint.shards import make_shard
from torchflow.errors import ArgumentTypeError, CheckpointError, CorruptCheckpointError, MismatchError, StateError
from torchflow.state import model_state
from torchflow.types import State


class Tied(nn.Module):
    """Embedding and head share their weight, unless told otherwise."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 3)
        self.head = nn.Linear(3, 4, bias=False)
        if tied:
            self.head.weight = self.embedding.weight


class Scaled:
    """An encoder as far as a model file is concerned."""

    def __init__(self, mean: float) -> None:
        self._mean = mean

    def state(self) -> Mapping[str, State]:
        return {"mean": torch.tensor([self._mean]), "names": ("a", "b"), "missing": float("nan")}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def snapshots(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(model: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    live = model.state_dict()
    return live.keys() == tensors.keys() and all(torch.equal(live[name], tensors[name]) for name in live)


def test_parameters_and_persistent_buffers_come_back_into_the_live_tensors(path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model.register_buffer("scratch", torch.ones(1), persistent=False)
    model(torch.randn(5, 3))
    save_model(model, path)
    other = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    identities = [id(parameter) for parameter in other.parameters()]
    addresses = [parameter.data_ptr() for parameter in other.parameters()]
    assert load_model(path, into=other) is other
    assert equal(other, model.state_dict())
    assert [id(parameter) for parameter in other.parameters()] == identities
    assert [parameter.data_ptr() for parameter in other.parameters()] == addresses
    assert all(parameter.requires_grad for parameter in other.parameters())


def test_any_safetensors_reader_reads_the_file(path: Path) -> None:
    model = nn.Linear(3, 2)
    save_model(model, path)
    tensors = safetensors.torch.load_file(path)
    assert equal(model, tensors)


def test_a_file_that_another_program_wrote_is_read(path: Path) -> None:
    source, model = nn.Linear(3, 2), nn.Linear(3, 2)
    safetensors.torch.save_file(source.state_dict(), path)
    assert equal(load_model(path, into=model), source.state_dict())
    assert read_encoder_states(path) == {}


@pytest.mark.parametrize("tied", [True, False])
def test_tied_weights_are_stored_once_and_load_into_tied_and_untied_models(path: Path, tied: bool) -> None:
    model = Tied()
    save_model(model, path)
    assert list(safetensors.torch.load_file(path)) == ["embedding.weight"]
    other = load_model(path, into=Tied(tied))
    assert torch.equal(other.embedding.weight, model.embedding.weight)
    assert torch.equal(other.head.weight, model.embedding.weight)
    assert (other.head.weight is other.embedding.weight) == tied


def test_tied_names_that_another_program_left_out_are_found(path: Path) -> None:
    model, other = Tied(), Tied()
    safetensors.torch.save_file({"head.weight": model.head.weight.detach()}, path)
    assert torch.equal(load_model(path, into=other).embedding.weight, model.embedding.weight)
    with pytest.raises(MismatchError, match=r"embedding\.weight: not stored"):
        load_model(path, into=Tied(tied=False))


def test_different_values_are_not_loaded_into_tied_weights(path: Path) -> None:
    save_model(Tied(tied=False), path)
    model = Tied()
    before = snapshots(model)
    with pytest.raises(
        MismatchError, match=r"head\.weight: stored with another value than embedding\.weight, with which it is one"
    ):
        load_model(path, into=model)
    assert equal(model, before)
    same = Tied(tied=False)
    same.load_state_dict({"embedding.weight": same.embedding.weight, "head.weight": same.embedding.weight})
    save_model(same, path)
    assert torch.equal(load_model(path, into=model).head.weight, same.head.weight)


def test_a_file_that_does_not_fit_changes_nothing_and_lists_every_difference(path: Path) -> None:
    save_model(nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2), nn.Linear(2, 1)), path)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3), nn.BatchNorm1d(3).double())
    before = snapshots(model)
    with pytest.raises(MismatchError) as caught:
        load_model(path, into=model)
    assert set(caught.value.differences) == {
        "1.weight: stored as a tensor (2, 2) of float32, live as a tensor (3, 2) of float32",
        "1.bias: stored as a tensor (2,) of float32, live as a tensor (3,) of float32",
        "2.weight: stored as a tensor (1, 2) of float32, live as a tensor (3,) of float64",
        "2.bias: stored as a tensor (1,) of float32, live as a tensor (3,) of float64",
        "2.running_mean: not stored, live as a tensor (3,) of float64",
        "2.running_var: not stored, live as a tensor (3,) of float64",
        "2.num_batches_tracked: not stored, live as a tensor () of int64",
    }
    assert "7 difference(s)" in str(caught.value)
    assert "strict=False" in str(caught.value)
    assert equal(model, before)


def test_not_strict_loads_what_fits_and_lists_the_rest(path: Path) -> None:
    source = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    save_model(source, path)
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 3))
    before, stored = snapshots(model), snapshots(source)
    with pytest.warns(UserWarning, match=r"2 tensor\(s\) were skipped") as caught:
        load_model(path, into=model, strict=False)
    assert "1.weight: stored as" in str(caught[0].message)
    assert equal(model, {**before, "0.weight": stored["0.weight"], "0.bias": stored["0.bias"]})


def test_a_tensor_that_cannot_be_written_to_is_found_before_anything_is_touched(path: Path) -> None:
    class Wide(nn.Module):
        def __init__(self, expanded: bool) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(2))
            self.register_buffer("ones", torch.ones(1).expand(3) if expanded else torch.ones(3))

    save_model(Wide(expanded=True), path)
    model = Wide(expanded=True)
    before = snapshots(model)
    with pytest.raises(MismatchError, match=r"ones: cannot be written to .*clone\(\) it there"):
        load_model(path, into=model)
    assert equal(model, before)
    load_model(path, into=Wide(expanded=False))


def test_a_compiled_model_is_stored_as_what_it_was_compiled_from(path: Path) -> None:
    class Compiled(nn.Module):
        """As torch.compile wraps a module."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self._orig_mod = inner

    inner, plain = nn.Linear(2, 1), nn.Linear(2, 1)
    save_model(Compiled(inner), path)
    assert torch.equal(load_model(path, into=plain).weight, inner.weight)
    load_model(path, into=Compiled(nn.Linear(2, 1)))


def test_names_that_become_one_without_the_compiler_s_part_are_refused(path: Path) -> None:
    model = nn.ModuleDict({"_orig_mod": nn.Linear(2, 1)})
    model.register_parameter("weight", nn.Parameter(torch.zeros(1)))
    with pytest.raises(StateError, match="weight: two tensors have this name"):
        save_model(model, path)
    assert not path.exists()
    with pytest.raises(StateError, match="model/weight: two tensors have this name"):
        model_state(model)


def test_saving_again_replaces_the_file_in_one_piece(path: Path) -> None:
    class Full(FileSystem):
        def sync(self, descriptor: int) -> None:
            raise OSError(28, "No space left on device")

    model = nn.Linear(2, 1)
    save_model(model, path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"was not saved: No space left on device; what was there before is untouched"):
        save_model(nn.Linear(2, 1), path, files=Full())
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    save_model(nn.Linear(2, 1), path)
    assert path.read_bytes() != before


def test_through_a_link_the_file_that_it_points_at_is_written_and_read(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    (tmp_path / "link").symlink_to("true.safetensors")
    save_model(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert equal(load_model(tmp_path / "link", into=nn.Linear(2, 1)), model.state_dict())


def test_a_file_name_may_be_as_long_as_the_disk_takes(tmp_path: Path) -> None:
    save_model(nn.Linear(1, 1), tmp_path / ("x" * 255))
    with pytest.raises(CheckpointError, match="File name too long"):
        save_model(nn.Linear(1, 1), tmp_path / ("x" * 256))


def test_encoders_are_stored_beside_the_weights(path: Path) -> None:
    save_model(nn.Linear(2, 1), path, encoders={"table": Scaled(3.0), "target": Scaled(4.0)})
    states = read_encoder_states(path)
    assert list(states) == ["table", "target"]
    assert states["table"]["mean"].tolist() == [3.0]
    assert states["target"]["mean"].tolist() == [4.0]
    assert states["table"]["names"] == ("a", "b")
    assert "encoders/table/mean" in safetensors.torch.load_file(path)
    load_model(path, into=nn.Linear(2, 1))


def test_a_model_without_anything_to_store_is_stored(path: Path) -> None:
    save_model(nn.ReLU(), path)
    load_model(path, into=nn.ReLU())
    assert read_encoder_states(path) == {}


class WithExtra(nn.Linear):
    def get_extra_state(self) -> Any:
        return {"a": 1}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nn.LazyLinear(2), "weight: the tensor is lazy and has no values yet; run one batch through the model first"),
        (nn.LazyBatchNorm1d(), "lazy"),
        (nn.Linear(2, 1, device="meta"), r"weight: the tensor is on the meta device .* model.to_empty\(...\)"),
        (nn.Linear(2, 1, dtype=torch.complex128), r"weight: got a tensor of torch.complex128.*view_as_real"),
        (WithExtra(2, 1), "_extra_state: got .* keep extra state in a buffer"),
        (nn.ModuleDict({"encoders/x": nn.Linear(1, 1)}), "encoders/x.weight: this name is the file format's own"),
    ],
)
def test_a_model_that_cannot_be_stored_is_refused_with_what_to_do(path: Path, model: nn.Module, said: str) -> None:
    with pytest.raises(StateError, match=said):
        save_model(model, path)
    assert not path.exists()


def test_a_model_without_values_cannot_take_any(path: Path) -> None:
    save_model(nn.Linear(2, 1), path)
    with pytest.raises(StateError, match="meta device"):
        load_model(path, into=nn.Linear(2, 1, device="meta"))


save: Any = save_model  # as a caller without a type checker sees them
load: Any = load_model
encoder_states: Any = read_encoder_states


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda path: save(nn.Linear, path), r"model must be a torch.nn.Module, got .*Call the class"),
        (lambda path: save({}, path), "model must be a torch.nn.Module, got {}"),
        (lambda path: save(nn.Linear(1, 1), 3), "path must be a path"),
        (lambda path: save(nn.Linear(1, 1), path, encoders=[Scaled(1)]), "encoders must be a dict from names"),
        (lambda path: save(nn.Linear(1, 1), path, encoders={"x": Scaled}), r"encoders\['x'\] must be a fitted encoder"),
        (lambda path: save(nn.Linear(1, 1), path, encoders={"x": 3}), r"encoders\['x'\] must be a fitted encoder"),
        (lambda path: load(path, into=None), "into must be a torch.nn.Module, got None"),
        (lambda path: load(path, into=nn.Linear(1, 1), strict="no"), "strict must be True or False"),
        (lambda path: encoder_states(b"x"), "path must be a path"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(path: Path, call: Any, said: str) -> None:
    with pytest.raises(ArgumentTypeError, match=said):
        call(path)
    assert not path.exists()


def test_wrong_paths_end_in_a_typed_error_with_what_to_do(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(CheckpointError, match="is a folder; give the name of a file in it"):
        save_model(model, tmp_path)
    with pytest.raises(
        CheckpointError, match=r"is no folder, so model\.safetensors cannot be written there; create the folder first"
    ):
        save_model(model, tmp_path / "missing" / "model.safetensors")
    with pytest.raises(CheckpointError, match="is a folder without checkpoints; give the folder of a run, or the model file in it"):
        load_model(tmp_path, into=model)
    with pytest.raises(CheckpointError, match=r"does not exist; save_model\(model, .*\) writes it"):
        load_model(tmp_path / "missing", into=model)


@pytest.mark.parametrize("content", [b"", b"just text", b"x" * 5000, bytes(8), (2**62).to_bytes(8, "little") + b"{}"])
def test_a_file_that_is_no_model_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=r"model\.safetensors is not a sound safetensors file"):
        load_model(path, into=nn.Linear(2, 1))


def test_a_pickle_is_never_read_whatever_it_is_called(path: Path) -> None:
    for protocol in range(2, 6):
        path.write_bytes(pickle.dumps({"weight": 1}, protocol=protocol))
        with pytest.raises(CheckpointError, match="which can execute code and is never read here; save the model again"):
            load_model(path, into=nn.Linear(2, 1))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(CheckpointError, match="is a pickle or a zip"):
        load_model(path, into=nn.Linear(2, 1))


def signed(path: Path, **changes: str) -> None:
    """Write a model file with other metadata and a right digest."""
    import hashlib  # noqa: PLC0415

    shard = lay_out(nn.Linear(1, 1).state_dict(), {})
    length = int.from_bytes(shard.header[:8], "little")
    metadata = json.loads(shard.header[8 : 8 + length])["__metadata__"]
    metadata.update({f"torchflow.{name}": text for name, text in changes.items()})
    del metadata["torchflow.digest"]
    tensors = nn.Linear(1, 1).state_dict()
    digest = hashlib.sha256(b"".join(make_shard(tensors, metadata).chunks())).hexdigest()
    path.write_bytes(b"".join(make_shard(tensors, {**metadata, "torchflow.digest": digest}).chunks()))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "torchflow-model/2"}, "of a later format than 'torchflow-model/1'"),
        ({"class": "os.system"}, "damaged, or of a later format"),
        ({"aliases": "[]"}, "must hold its aliases and encoders as objects"),
        ({"aliases": '{"a":"gone"}'}, "says that 'a' shares the tensor 'gone', which cannot be"),
        ({"aliases": '{"a":["gone"]}'}, "which cannot be"),
        ({"aliases": '{"weight":"bias"}'}, "which cannot be"),
        ({"aliases": '{"a":1,"a":2}'}, "appears twice"),
        ({"encoders": "{}"}, "must hold its aliases and encoders as objects"),
        ({"encoders": '{"encoders":3}'}, "must hold its aliases and encoders as objects"),
        ({"encoders": '{"encoders":{},"x":1}'}, "must hold its aliases and encoders as objects"),
        ({"encoders": '{"encoders":{"x":{"$tensor":"weight"}}}'}, "which is not stored"),
        ({"encoders": "[" * 100_000}, "nests deeper"),
    ],
)
def test_hostile_metadata_with_a_right_digest_ends_in_a_typed_error(path: Path, changes: dict[str, str], said: str) -> None:
    signed(path)
    load_model(path, into=nn.Linear(1, 1))
    signed(path, **changes)
    with pytest.raises(CorruptCheckpointError, match=said):
        load_model(path, into=nn.Linear(1, 1))


def test_a_header_that_no_reader_would_read_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchflow.checkpoint.model_bytes.HEADER_BYTES", 100)
    with pytest.raises(StateError, match="above the limit of 100; keep long lists as tensors"):
        save_model(nn.Linear(1, 1), path)


@pytest.mark.parametrize("length", range(200, 330, 5))
def test_a_header_whose_length_begins_like_a_pickle_is_read(tmp_path: Path, length: int) -> None:
    model = nn.Linear(1, 1)
    model.register_buffer("b" * length, torch.full((1,), 3.0))
    save_model(model, tmp_path / "m.safetensors")
    other = nn.Linear(1, 1)
    other.register_buffer("b" * length, torch.zeros(1))
    load_model(tmp_path / "m.safetensors", into=other)
    assert torch.equal(other.state_dict()["b" * length], torch.full((1,), 3.0))
