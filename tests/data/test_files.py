"""Readers of files: which files there are, which are bad, and that nobody gets another file's sample."""

from __future__ import annotations

import os
import pickle
import shutil
import threading
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from torchflow.data import Dataset, batches_of
from torchflow.data.describing import digest_of
from torchflow.data.readers.files import (
    Files,
    FileSource,
    PerProcess,
    checked_files,
    examined,
    label_field,
    list_files,
    read_bytes,
)
from torchflow.data.schema import Field, Schema
from torchflow.errors import ArgumentTypeError, ArgumentValueError, FileError, MissingExtraError
from torchflow.randomness import Keys


class Bytes(FileSource):
    """One byte a file: the smallest reader."""

    def read(self, path: str, part: int) -> torch.Tensor:
        content = read_bytes(path, 100, "max_bytes")
        if content.startswith(b"bad"):
            raise FileError(f"{path} is bad. Make it good.", path)
        if content.startswith(b"odd"):
            raise ZeroDivisionError("3 / 0")
        return torch.tensor(list(content[part : part + 1]))


def from_bytes(where: Any, bad: str = "raise", **options: Any) -> Dataset[Any]:
    files = list_files(where, factory="from_bytes", suffixes=(".bin", ".b.gz"), **options)
    files, _ = examined(files, lambda path: read_bytes(path, 100, "max_bytes").index(b"!"), bad) if bad == "skip" else (files, 0)
    files = checked_files(files, bad)
    x = Field("x", (1,), torch.int64)
    return Dataset(Bytes(files, "from_bytes", Schema((x, *label_field(files)))))


def write(folder: Path, **contents: str) -> Path:
    for name, content in contents.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


def names(dataset: Dataset[Any]) -> list[str]:
    source = dataset.source
    assert isinstance(source, FileSource)
    return list(source.files.names)


def test_a_folder_is_read_in_the_order_of_its_names_whatever_made_it(tmp_path: Path) -> None:
    write(tmp_path, b__2_bin="2", b__10_bin="1", a_bin="a", a__z_BIN="z", c_b_gz="c")
    dataset = from_bytes(tmp_path)
    assert names(dataset) == ["a/z.BIN", "a.bin", "b/10.bin", "b/2.bin", "c.b.gz"]
    assert [chr(int(sample)) for sample in dataset] == ["z", "a", "1", "2", "c"]


def test_hidden_files_and_other_suffixes_are_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path, a_bin="a", b_txt="b", c__d_bin="d")
    (tmp_path / ".hidden.bin").write_text("h")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "e.bin").write_text("e")
    with pytest.warns(UserWarning, match=r"\.cache \(hidden\) and 2 more in the folder are left out.*left_out lists them"):
        dataset = from_bytes(tmp_path)
    assert names(dataset) == ["a.bin", "c/d.bin"]
    assert dataset.take(1).left_out == ((".cache", "hidden"), (".hidden.bin", "hidden"), ("b.txt", "another suffix"))
    with pytest.warns(UserWarning, match="and 3 more"):
        assert names(from_bytes(tmp_path, recursive=False)) == ["a.bin"]


def test_a_link_around_in_a_circle_ends(tmp_path: Path) -> None:
    write(tmp_path, a__b_bin="b")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "c").symlink_to(tmp_path / "a" / "b.bin")
    (tmp_path / "d.bin").symlink_to(tmp_path / "a" / "b.bin")
    with pytest.warns(UserWarning, match="left out"):
        assert names(from_bytes(tmp_path)) == ["a/b.bin", "d.bin"]


def test_folders_are_classes_sorted_by_name(tmp_path: Path) -> None:
    write(tmp_path, dog__1_bin="d", cat__x__2_bin="c", cat__3_bin="k")
    dataset = from_bytes(tmp_path, labels="folder")
    assert [(chr(int(x)), int(y)) for x, y in dataset] == [("k", 0), ("c", 0), ("d", 1)]
    assert dataset.schema is not None
    assert dataset.schema["label"] == Field("label", (), torch.int64, classes=("cat", "dog"), target=True)
    named = from_bytes(tmp_path, labels="folder", classes=["dog", "bird", "cat"])
    assert [int(y) for _, y in named] == [2, 2, 0]


def test_a_folder_of_classes_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Seen to fail: it was taken for a file, and its labels for a mistake."""
    with pytest.raises(FileError, match=r"there is no folder .*missing\. Pass one that has a folder for each class"):
        from_bytes(tmp_path / "missing", labels="folder")


def test_files_of_a_list_and_of_a_table_may_be_called_anything(tmp_path: Path) -> None:
    write(tmp_path, a_txt="a", b_x="b")
    listed = from_bytes([tmp_path / "b.x", str(tmp_path / "a.txt")], labels=["no", "yes"])
    assert [(chr(int(x)), int(y)) for x, y in listed] == [("b", 0), ("a", 1)]
    columns: dict[str, list[Any]] = {"file": ["b.x", "a.txt"], "price": [0.5, 1.5], "kind": ["u", "v"]}
    for table in (columns, pd.DataFrame(columns), pa.table(columns)):
        dataset = from_bytes(table, column="file", labels="price", root=tmp_path)
        assert [(chr(int(x)), float(y)) for x, y in dataset] == [("b", 0.5), ("a", 1.5)]
        kinds = from_bytes(table, column="file", labels="kind", root=tmp_path)
        assert [int(y) for _, y in kinds] == [0, 1]
    assert chr(int(from_bytes(tmp_path / "a.txt")[0])) == "a"


def test_wrong_listings_are_refused_with_the_remedy(tmp_path: Path) -> None:
    write(tmp_path, cat__1_bin="c", loose_bin="l", t__2_txt="t")
    (tmp_path / "empty").mkdir()
    file = str(tmp_path / "loose.bin")
    wrong: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (tmp_path / "none", {}, FileError, r"none cannot be read: there is no such file\. Correct the path"),
        (tmp_path / "empty", {}, FileError, r"empty has nothing to read: from_bytes reads \.bin, \.b\.gz\. It holds no files"),
        (tmp_path / "t", {}, FileError, r"It holds 1 with \.txt\. Files in a list are read whatever"),
        (tmp_path, {"labels": "folder"}, FileError, r"loose\.bin lies beside the folders of the classes"),
        (tmp_path, {"labels": "name"}, ArgumentValueError, r"labels must be 'folder', a list or None"),
        (tmp_path, {"labels": [1]}, ArgumentValueError, r"labels must be as many as files, 2, got 1"),
        ([file], {"labels": "folder"}, ArgumentValueError, r"no meaning for files that are named one by one"),
        ([file], {"labels": ["a"], "classes": ["b", "c"]}, ArgumentValueError, r"labelled 'a', which is none of classes: b, c"),
        ([file], {"labels": [2], "classes": ["b", "c"]}, ArgumentValueError, r"whole numbers from 0 to 1.*got 2 to 2"),
        ([file], {"labels": [None]}, ArgumentTypeError, r"labels must be all texts or all numbers"),
        ([file], {"classes": ["b"]}, ArgumentValueError, r"classes= names what labels= are"),
        ([file], {"labels": ["b"], "classes": ["b", "b"]}, ArgumentValueError, r"each once"),
        ([file], {"labels": ["b"], "classes": "b"}, ArgumentTypeError, r"classes must be a list of names"),
        ([], {}, ArgumentValueError, r"the list of files is empty"),
        ([3], {}, ArgumentTypeError, r"path 0 must be a path"),
        (3, {}, ArgumentTypeError, r"path must be a folder, a file, a list of files or a table"),
        ({"file": [file]}, {}, ArgumentTypeError, r"column must name the table's column of paths, got None"),
        ({"file": [file]}, {"column": "path"}, ArgumentValueError, r"no column 'path'\. Its columns are 'file'"),
        ([tmp_path / "t"], {}, FileError, r"t cannot be read: it is a folder"),
        ([file], {"bad": "maybe"}, ArgumentValueError, r"bad must be one of 'raise', 'skip'"),
    ]
    warnings.simplefilter("ignore")
    for where, options, error, message in wrong:
        with pytest.raises(error, match=message):
            from_bytes(where, **options)
    (tmp_path / "loose.bin").unlink()
    with pytest.raises(FileError, match=r"empty is the folder of a class"):
        from_bytes(tmp_path, labels="folder")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names there")
def test_a_pipe_is_no_file_and_nobody_waits_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.bin")
    with pytest.raises(FileError, match=r"pipe\.bin cannot be read: it is no regular file but a pipe"):
        from_bytes(tmp_path)
    with pytest.raises(FileError, match="it is no regular file"):
        read_bytes(str(tmp_path / "pipe.bin"), 10, "max_bytes")


def test_bad_files_are_left_out_by_choice_with_one_warning_and_labels_stay_with_their_files(tmp_path: Path) -> None:
    write(tmp_path, a__1_bin="x!", a__2_bin="none", b__3_bin="y!", c__4_bin="", c__5_bin="z!")
    with pytest.warns(
        UserWarning, match=r"^2 of 5 files cannot be read and are left out; the first: .*2\.bin.*subsection not"
    ) as said:
        dataset = from_bytes(tmp_path, bad="skip", labels="folder")
    assert len(said) == 1
    assert [(chr(int(x)), int(y)) for x, y in dataset] == [("x", 0), ("y", 1), ("z", 2)]
    skipped = dataset.split(2, 1)[0].map_random(lambda x, g: x).skipped
    assert [path for path, _ in skipped] == [str(tmp_path / "a" / "2.bin"), str(tmp_path / "c" / "4.bin")]
    assert "it is empty" in skipped[1][1]


def test_nothing_is_left_of_bad_files_alone(tmp_path: Path) -> None:
    write(tmp_path, a_bin="x", b_bin="y")
    with pytest.raises(FileError, match=r"none of 2 files can be read; the first: .*a\.bin"):
        from_bytes(tmp_path, bad="skip")


def test_a_missing_extra_is_no_bad_file(tmp_path: Path) -> None:
    def look(path: str) -> None:
        raise MissingExtraError("needs pillow")

    files = list_files(write(tmp_path, a_bin="x"), factory="f", suffixes=(".bin",))
    with pytest.raises(MissingExtraError, match="needs pillow"):
        examined(files, look, "skip")


def test_errors_name_file_and_sample_and_keep_their_cause(tmp_path: Path) -> None:
    write(tmp_path, a_bin="a", b_bin="bad", c_bin="odd", d_bin="d" * 101, e_bin="e")
    dataset = from_bytes(tmp_path).select([4, 3, 2, 1, 0])
    (tmp_path / "e.bin").unlink()
    for index, message in enumerate(
        [
            r"from_bytes failed at sample 0: .*e\.bin cannot be read: there is no such file",
            r"sample 1: .*d\.bin has more than 100 bytes\. Raise the limit with max_bytes=",
            r"sample 2: .*c\.bin cannot be read: ZeroDivisionError: 3 / 0\. Replace the file",
            r"sample 3: .*b\.bin is bad\. Make it good",
        ]
    ):
        with pytest.raises(FileError, match=message) as caught:
            dataset[index]
        assert os.path.dirname(caught.value.path) == str(tmp_path)
    assert isinstance(caught.value.__cause__, FileError)


def test_a_file_may_hold_several_samples(tmp_path: Path) -> None:
    write(tmp_path, a_bin="ab", b_bin="c", c_bin="def")
    files = list_files(tmp_path, factory="f", suffixes=(".bin",))
    files, counts = examined(files, lambda path: os.stat(path).st_size, "raise")
    dataset: Dataset[torch.Tensor] = Dataset(Bytes(files, "f", counts=counts))
    assert "".join(chr(int(sample)) for sample in dataset) == "abcdef"


@pytest.mark.parametrize("change", ["grown", "replaced", "renamed", "added", "relabelled", "none"])
def test_a_resume_notices_other_files(tmp_path: Path, change: str) -> None:
    def content() -> Any:
        dataset = from_bytes(tmp_path, labels="folder").map(lambda sample: sample[0])
        return batches_of(dataset, keys=Keys(0), name="train").describe()["content"]

    write(tmp_path, a__1_bin="x!", b__2_bin="y!")
    before = content()
    path = tmp_path / "a" / "1.bin"
    if change == "grown":
        path.write_text("x!!")
    elif change == "replaced":
        path.write_text("z!")
    elif change == "renamed":
        path.rename(tmp_path / "a" / "3.bin")
    elif change == "added":
        write(tmp_path, a__4_bin="x!")
    elif change == "relabelled":
        (tmp_path / "a").rename(tmp_path / "c")
    else:
        os.utime(path, (0, 0))  # a copy has other times
    assert (content() == before) == (change == "none")


def test_a_cache_notices_a_file_of_another_time_but_not_of_another_place(tmp_path: Path) -> None:
    write(tmp_path / "one", a__1_bin="x!", b__2_bin="y!")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    before = digest_of(from_bytes(tmp_path / "one", labels="folder").source)
    assert digest_of(from_bytes(tmp_path / "two", labels="folder").source) == before
    os.utime(tmp_path / "two" / "a" / "1.bin", (0, 0))
    assert digest_of(from_bytes(tmp_path / "two", labels="folder").source) != before
    assert digest_of(from_bytes(tmp_path / "one").source) != before


def test_labels_are_known_without_reading_a_file(tmp_path: Path) -> None:
    write(tmp_path, **{f"{'ab'[place % 2]}__{place}_bin": "x" for place in range(12)})
    dataset = from_bytes(tmp_path, labels="folder")
    for path in tmp_path.glob("*/*.bin"):
        path.unlink()
    train, test = dataset.split(0.5, 0.5, stratify="label")
    assert train.source.column("label").tolist().count(0) == test.source.column(1).tolist().count(0) == 3  # type: ignore[union-attr]


def test_an_error_travels_between_processes_with_its_path() -> None:
    error = pickle.loads(pickle.dumps(FileError("a.bin is bad", Path("a.bin"))))
    assert (str(error), error.path) == ("a.bin is bad", "a.bin")


@pytest.mark.parametrize("workers", [0, 3])
def test_the_order_of_files_is_a_function_of_seed_and_epoch_whoever_reads(tmp_path: Path, workers: int) -> None:
    """Law 5 with a reader: every file once an epoch, the same for any number of threads, and a late start is the rest."""
    write(tmp_path, **{f"{place:02d}_bin": chr(40 + place) for place in range(40)})
    dataset = from_bytes(tmp_path).map_random(lambda x, generator: torch.cat((x, torch.rand(1, generator=generator))))

    def read(count: int, epoch: int, start: int = 0) -> list[torch.Tensor]:
        return list(batches_of(dataset, keys=Keys(5), name="train", batch_size=6, workers=count).epoch(epoch, start))

    state = torch.get_rng_state()
    for epoch in range(2):
        batches = read(workers, epoch)
        assert all(map(torch.equal, batches, read(0, epoch)))
        assert sorted(torch.cat(batches)[:, 0].tolist()) == list(range(40, 80))
        assert all(map(torch.equal, read(workers, epoch, 2), batches[2:]))
    assert not torch.equal(read(workers, 0)[0], read(workers, 1)[0])
    assert torch.equal(torch.get_rng_state(), state)


class Records(FileSource):
    """Numbered records of eight bytes, read through one handle a process: seek, then read."""

    def __init__(self, files: Files, counts: list[int]) -> None:
        super().__init__(files, "records", counts=counts)
        self.handles: PerProcess[Any] = PerProcess(open_unbuffered, keep=3)

    def read(self, path: str, part: int) -> torch.Tensor:
        with self.handles.borrowed(path) as file:
            file.seek(8 * part)
            return torch.tensor(int(b"".join(file.read(1) for _ in range(8))))  # slowly: whoever shares the place moves it


def open_unbuffered(path: str) -> Any:
    return open(path, "rb", buffering=0)


@pytest.fixture
def records(tmp_path: Path) -> Dataset[torch.Tensor]:
    for name, begin in (("a", 0), ("b", 1000), ("c", 2000)):
        (tmp_path / f"{name}.bin").write_text("".join(f"{number:8d}" for number in range(begin, begin + 1000)))
    files = list_files(tmp_path, factory="records", suffixes=(".bin",))
    return Dataset(Records(files, [1000, 1000, 1000]))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_forked_and_spawned_workers_never_read_another_s_record(records: Dataset[torch.Tensor], method: str) -> None:
    """Fails if the handle is shared over a fork: with one plain open file some hundred of these reads are wrong."""
    assert [int(records[place]) for place in (7, 1007, 2007)] == [7, 1007, 2007]  # open before the workers start
    order = torch.randperm(3000, generator=torch.Generator().manual_seed(0)).repeat(4)
    loader: DataLoader[Any] = DataLoader(
        cast(Any, records), sampler=order.tolist(), batch_size=250, num_workers=2, multiprocessing_context=method
    )
    read = torch.cat(list(loader))
    assert torch.equal(read, order)


def test_threads_never_read_another_s_record(records: Dataset[torch.Tensor]) -> None:
    def read(place: int) -> bool:
        return int(records.take_samples([place % 3000])[0]) == place % 3000

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(0, 70_000, 7)))


def test_a_handle_is_opened_once_lent_alone_and_closed_when_there_are_too_many() -> None:
    opened: Counter[str] = Counter()
    closed: list[str] = []

    class Handle:
        def __init__(self, key: str) -> None:
            self.key = key
            opened[key] += 1

        def close(self) -> None:
            closed.append(self.key)

    handles: PerProcess[Handle] = PerProcess(Handle, keep=2)
    for _ in range(3):
        for key in "ab":
            with handles.borrowed(key) as handle:
                assert handle.key == key
    assert opened == {"a": 1, "b": 1}
    with handles.borrowed("a") as one, handles.borrowed("a") as other:
        assert one is not other
    assert closed == ["b"]  # room for two, and b had waited longest
    with pytest.raises(KeyError), handles.borrowed("a"):
        raise KeyError
    assert closed == ["b", "a"]  # it may have stopped anywhere
    handles.close()
    assert sorted(closed) == ["a", "a", "b"]


def test_a_fork_in_the_middle_of_a_borrowing_locks_nobody_out() -> None:
    handles: PerProcess[object] = PerProcess(lambda key: object())
    with handles._own().lock:  # another thread holds it when the process forks
        child = os.fork() if hasattr(os, "fork") else 0
        if child == 0:
            with handles.borrowed("a"):
                os._exit(0)
    alarm = threading.Timer(20, os.kill, (child, 9))
    alarm.start()
    _, status = os.waitpid(child, 0)
    alarm.cancel()
    assert status == 0
