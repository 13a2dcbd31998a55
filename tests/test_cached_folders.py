"""Caches are listed and cleared: all that torchflow wrote and nobody uses, and nothing else."""

from __future__ import annotations

import fcntl
import gc
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.test_command import Ran, look
from torchflow import data
from torchflow.cached_folders import caches_in, clear_caches
from torchflow.command import main
from torchflow.data import Dataset, cache_use, disk_cache
from torchflow.data.describing import digest_of
from torchflow.errors import CacheError

DAY = 86_400


def samples(folder: Path) -> Dataset[Any]:
    dataset = data.from_tensors(torch.arange(10.0)).cache(folder)
    assert torch.equal(dataset.take_batch(range(10)), torch.arange(10.0))
    return dataset


def table(folder: Path) -> Dataset[Any]:
    paths = [folder.parent / f"{name}.parquet" for name in "ab"]
    for path in paths:
        if not path.exists():
            pq.write_table(pa.table({"x": [1, 2], "y": ["a", "b"]}), path)
    dataset = data.from_parquet(paths, cache=folder)
    assert dataset.take_batch([3, 0])["y"] == ["b", "a"]
    return dataset


def sequences(folder: Path) -> Dataset[Any]:
    path = folder.parent / "a.fa"
    if not path.exists():
        path.write_text(">r\nACGT\n>s\nGG\n", encoding="utf-8")
    dataset = data.from_fasta(path, cache=folder)
    assert data.dna_text(dataset[1]) == "GG"
    return dataset


KINDS: dict[str, tuple[Callable[[Path], Dataset[Any]], str]] = {
    "samples": (samples, "10 samples of from_tensors"),
    "table": (table, r"2 columns of \S+a\.parquet and 1 more"),
    "sequences": (sequences, "2 sequences of 1 files"),
}
ANY = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a cache of each kind, which nobody uses."""
    made = tmp_path / "cache"
    for make, _ in KINDS.values():
        make(made)
    gc.collect()
    return made


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def run(*words: object) -> Ran:
        status = main(["cache", *(str(word) for word in words)])
        out, err = capsys.readouterr()
        assert "--json" in words or all(len(line) <= 80 for line in out.splitlines())
        return Ran(status, out, err)

    return run


@ANY
def test_a_cache_of_each_kind_is_known_and_cleared_and_made_anew(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "cache"
    make, made_of = KINDS[kind]
    make(folder)
    gc.collect()
    (found,) = caches_in(folder).caches
    (path,) = folder.iterdir()
    assert found.path == str(path)
    assert re.fullmatch(made_of, found.made_of)
    assert found.bytes == sum(file.stat().st_size for file in path.iterdir())
    assert found.in_use is False
    done = clear_caches(folder)
    assert [(cache.path, cache.bytes) for cache in done.removed] == [(found.path, found.bytes)]
    assert (done.left, done.bytes) == ((), found.bytes)
    assert list(folder.iterdir()) == []
    make(folder)
    assert [Path(cache.path).name for cache in caches_in(folder).caches] == [path.name]


@ANY
def test_a_cache_that_is_used_is_left_until_its_user_is_gone(tmp_path: Path, kind: str) -> None:
    """Fails without the lock: the readers below would find their files gone."""
    folder = tmp_path / "cache"
    dataset = KINDS[kind][0](folder)
    derived = dataset.take(2)
    del dataset
    gc.collect()
    before = look(folder)
    (found,) = caches_in(folder).caches
    assert found.in_use
    done = clear_caches(folder)
    assert done.removed == ()
    assert [(cache.path, reason) for cache, reason in done.left] == [(found.path, "a program uses it")]
    assert look(folder) == before
    assert derived[0] is not None
    del derived
    gc.collect()
    assert len(clear_caches(folder).removed) == 1


def _hold(folder: Path, kind: str, ready: Any) -> None:
    dataset = KINDS[kind][0](folder)
    ready.set()
    time.sleep(600)
    del dataset


@ANY
def test_a_process_that_was_killed_uses_nothing(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "cache"
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(folder, kind, ready))
    holder.start()
    assert ready.wait(60)
    assert clear_caches(folder).removed == ()
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert len(clear_caches(folder).removed) == 1


def test_readers_that_come_while_caches_are_cleared_read_what_they_should(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if files are removed under the name by which they are found: a reader then meets half a cache."""
    monkeypatch.setattr(disk_cache, "SHARD_BYTES", 64)
    folder = tmp_path / "cache"
    expected = torch.arange(100.0)
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(20):
                assert torch.equal(data.from_tensors(expected.clone()).cache(folder).take_batch(range(100)), expected)
                assert table(folder).take_batch([1])["x"].tolist() == [2]
        except BaseException as error:
            failures.append(error)

    table(folder)
    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    while any(reader.is_alive() for reader in readers):
        done = clear_caches(folder)
        assert {reason for _, reason in done.left} <= {"a program uses it", "somebody else removes it"}
    for reader in readers:
        reader.join()
    assert failures == []


def test_a_folder_that_is_cleared_while_it_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mkdir finds it, and a moment later it is gone."""
    made = Path.mkdir
    tries: list[Path] = []

    def mkdir(self: Path, *given: Any, **named: Any) -> None:
        tries.append(self)
        if len(tries) == 1:
            raise FileExistsError(17, "File exists")
        made(self, *given, **named)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    assert samples(tmp_path / "cache")[3].item() == 3
    assert len(tries) > 1


@pytest.mark.parametrize("put", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("nowhere")])
def test_a_file_in_the_place_of_a_cache_is_refused(put: Callable[[Path], object], tmp_path: Path) -> None:
    path = tmp_path / "cache"
    put(path)
    with pytest.raises(FileExistsError):
        cache_use.made_and_used(path)
    assert path.is_symlink() or path.read_text() == "mine"


def test_nothing_but_caches_is_touched(folder: Path, tmp_path: Path) -> None:
    """Fails if a name alone makes a cache, if a manifest alone does, or if a link is followed."""
    outside = tmp_path / "outside"
    data.from_tensors(torch.arange(3)).cache(outside)[0]
    gc.collect()
    (own,) = outside.iterdir()
    digest = "0123456789abcdef" * 2
    (folder / digest).mkdir()  # the name, and nothing in it
    (folder / "fedcba9876543210" / "deeper").mkdir(parents=True)
    (folder / "mine").mkdir()
    for name, text in (
        ("mine/manifest.json", (own / "manifest.json").read_text()),  # the manifest in a folder of another name
        (f"{'1' * 32}/manifest.json", '{"format": "another/1"}'),
        (f"{'2' * 32}/manifest.json", "[]"),
        (f"{'3' * 32}/manifest.json", "{"),
        ("notes-0123456789abcdef/manifest.json", '{"origin": {}}'),
        ("model.safetensors", "weights"),
        ("manifest.json", '{"format": "torchflow-cache/1"}'),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / own.name).symlink_to(own)
    (folder / ("4" * 32)).mkdir()
    (folder / ("4" * 32) / "manifest.json").symlink_to(own / "manifest.json")
    caches = {cache.path for cache in caches_in(folder).caches}
    assert len(caches) == 3
    before = look(tmp_path)
    kept = {path: facts for path, facts in before.items() if not any(str(path).startswith(cache) for cache in caches)}
    assert {cache.path for cache in clear_caches(folder).removed} == caches
    after = look(tmp_path)
    del kept[folder], after[folder]  # whose time has changed, since names in it are gone
    assert after == kept


@ANY
@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_a_cache_that_holds_something_else_is_left_whole(tmp_path: Path, kind: str, what: str) -> None:
    folder = tmp_path / "cache"
    KINDS[kind][0](folder)
    gc.collect()
    (path,) = folder.iterdir()
    target = tmp_path / "precious"
    target.write_text("mine", encoding="utf-8")
    name = "notes.txt"
    if what == "file":
        (path / name).write_text("mine", encoding="utf-8")
    elif what == "folder":
        (path / name).mkdir()
    else:  # under a name of torchflow's
        name = next(file.name for file in path.iterdir() if file.suffix != ".json")
        (path / name).unlink()
        (path / name).symlink_to(target)
    before = look(tmp_path)
    done = clear_caches(folder)
    assert [reason for _, reason in done.left] == [f"{name} in it was not written by torchflow"]
    assert look(tmp_path) == before


def test_only_what_nobody_has_used_for_so_long_is_cleared(folder: Path) -> None:
    """Fails if the time of writing counts: a cache that is read every day would go after a month."""
    now = time.time()
    by_kind = {cache.made_of.split()[1]: Path(cache.path) for cache in caches_in(folder).caches}
    for days, path in zip((40, 20, 1), by_kind.values(), strict=True):
        for file in path.iterdir():
            os.utime(file, (now - 100 * DAY, now - 100 * DAY))
        os.utime(path, (now - days * DAY, now - days * DAY))
    ages = [round(cache.age / DAY) for cache in caches_in(folder).caches]
    assert ages == [1, 20, 40]
    assert [round(cache.age / DAY) for cache in caches_in(folder, 30).caches] == [40]
    for make, _ in KINDS.values():
        make(folder)
    gc.collect()
    assert caches_in(folder, 0.5).caches == ()
    os.utime(by_kind["samples"], (now - 40 * DAY, now - 40 * DAY))
    assert [cache.path for cache in clear_caches(folder, 30).removed] == [str(by_kind["samples"])]
    assert len(caches_in(folder).caches) == 2


@ANY
def test_a_clearing_that_was_killed_is_finished_by_the_next(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if the manifest goes first: what is left would belong to nobody."""
    folder = tmp_path / "cache"
    make = KINDS[kind][0]
    make(folder)
    gc.collect()
    count, remove = len(list(next(folder.iterdir()).iterdir())), os.unlink
    for survivors in range(1, count + 1):
        left = [survivors]

        def dying(path: Path, left: list[int] = left) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            remove(path)

        with monkeypatch.context() as patch:
            patch.setattr(os, "unlink", dying)
            with pytest.raises(KeyboardInterrupt):
                clear_caches(folder)
        assert len(caches_in(folder).caches) == 1
        make(folder)  # finds nothing of it, and makes it anew
        gc.collect()
        assert len(clear_caches(folder).removed) == 2
        assert list(folder.iterdir()) == []
        make(folder)
        gc.collect()


def test_one_cache_alone_may_be_named(folder: Path) -> None:
    first, *others = caches_in(folder).caches
    assert [cache.path for cache in clear_caches(Path(first.path)).removed] == [first.path]
    assert {cache.path for cache in caches_in(folder).caches} == {cache.path for cache in others}


def test_where_use_cannot_be_seen_nothing_is_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails if a disk without locks is taken for one where nobody reads."""

    def refuse(descriptor: int, how: int) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert {cache.in_use for cache in caches_in(folder).caches} == {None}
    done = clear_caches(folder)
    assert done.removed == ()
    assert {reason for _, reason in done.left} == {"this disk does not say whether a program uses it; delete it yourself"}
    for make, _ in KINDS.values():
        make(folder)  # readers go on without locks


def test_without_locks_in_the_system_open_files_are_its_own_affair(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_use, "fcntl", None)
    dataset = samples(folder)

    def refuse(source: Path, target: Path) -> None:
        raise PermissionError(13, "Access is denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        assert {reason for _, reason in clear_caches(folder).left} == {"it cannot be removed: Access is denied"}
    assert len(clear_caches(folder).removed) == 3
    assert len(dataset) == 10
    assert cache_use.use_of(folder / "nowhere") is None


def test_what_a_cache_was_used_for_does_not_change_what_is_made_of_it(tmp_path: Path) -> None:
    """Fails if a cache above it is made anew because files of the one below are open, or full."""
    dataset = data.from_tensors(torch.arange(10.0)).cache(tmp_path)
    before = digest_of(dataset.map(abs).source)
    assert dataset[3] == 3
    assert digest_of(dataset.map(abs).source) == before
    assert digest_of(data.from_tensors(torch.arange(9.0)).cache(tmp_path).map(abs).source) != before


# The command


def test_list_says_what_there_is_and_changes_nothing(folder: Path, run: Callable[..., Ran]) -> None:
    before = look(folder)
    shown = run("list", folder)
    assert (shown.status, shown.err) == (0, "")
    text = " ".join(shown.out.split())
    assert re.search(rf"folder{re.escape(str(folder))}caches3,[\d.]+KiB", text.replace(" ", ""))  # a long path is cut into lines
    assert re.search(r" B, used \d+ s ago, 10 samples of from_tensors", text)
    assert "in use" not in text
    facts = run("list", folder, "--json").json
    assert facts["folder"] == str(folder)
    assert facts["bytes"] == sum(cache["bytes"] for cache in facts["caches"])
    assert {cache["in_use"] for cache in facts["caches"]} == {False}
    assert run("list", folder, "--older-than", 1).out.endswith("caches       0, 0 B\n")
    assert look(folder) == before


def test_clear_says_what_it_removed_and_left(folder: Path, run: Callable[..., Ran]) -> None:
    dataset = samples(folder)
    assert ", in use" in run("list", folder).out
    assert run("clear", folder, "--older-than", "0.5").status == 0
    shown = run("clear", folder)
    assert shown.status == 1
    text = " ".join(shown.out.split())
    assert re.search(r"removed 2, [\d.]+ ", text)
    assert re.search(r"left 1 \S+.* 10 samples of from_tensors: a program uses it$", text)
    del dataset
    gc.collect()
    done = run("clear", folder, "--json")
    assert (done.status, len(done.json["removed"]), done.json["left"]) == (0, 1, [])
    assert run("clear", folder).out.endswith("removed      0, 0 B\n")


@pytest.mark.parametrize("action", ["list", "clear"])
def test_where_there_is_no_folder_one_line_says_so(tmp_path: Path, run: Callable[..., Ran], action: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for path, message in (
        (tmp_path / "no\x1b[31m", r"no\\x1b\[31m does not exist\."),
        (tmp_path / "file", "file is no folder; give the folder that a cache was given"),
        ("", "FOLDER must be a path that is not empty"),
    ):
        shown = run(action, path)
        assert (shown.status, shown.out) == (2, "")
        assert re.fullmatch(rf"torchflow cache {action}: .*{message}.*\n", shown.err)


def test_a_folder_that_cannot_be_listed_is_a_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> list[str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(CacheError, match=r"cache cannot be listed: Permission denied\."):
        caches_in(folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: ACTION"),
        (["empty", "f"], "invalid choice: 'empty'"),
        (["clear"], "required: FOLDER"),
        (["clear", "f", "--older-than", "-1"], "DAYS must be a number from 0 on, got '-1'"),
        (["list", "f", "--older-than", "nan"], "DAYS must be a number from 0 on, got 'nan'"),
        (["clear", "f", "--older-than", "a week"], "DAYS must be a number from 0 on, got 'a week'"),
        (["clear", "f", "--older"], "unrecognized arguments: --older"),
    ],
)
def test_wrong_words_are_explained(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["cache", *words])
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("manifest", [{}, {"samples": "x"}, {"samples": 3, "made_of": "\x1b[2J\n" + "w" * 300}])
def test_what_a_manifest_says_cannot_move_the_cursor(tmp_path: Path, run: Callable[..., Ran], manifest: dict[str, Any]) -> None:
    path = tmp_path / ("a" * 32)
    path.mkdir()
    text = json.dumps({"format": disk_cache.FORMAT, **manifest})
    (path / "manifest.json").write_text(text, encoding="utf-8")
    shown = run("list", tmp_path)
    assert shown.status == 0
    assert all(character.isprintable() for line in shown.out.split("\n") for character in line)
    assert ("its manifest does not say what" in " ".join(shown.out.split())) == (len(manifest) < 2)
