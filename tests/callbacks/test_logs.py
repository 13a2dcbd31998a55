"""Logs in files, in TensorBoard and to people, and samples that are shown."""

from __future__ import annotations

import csv
import json
import logging
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import torchflow
from tests.laws.problems import dropout_network, small_network, table
from tests.small import columns, line, raising, reacting, trainer
from torchflow import (
    Callback,
    Checkpoints,
    CSVLog,
    Every,
    JSONLines,
    LearningRate,
    Notify,
    Profile,
    Progress,
    Sample,
    Stop,
    TensorBoard,
    data,
    metrics,
    supervised,
)
from torchflow.errors import ArgumentTypeError, ArgumentValueError, CallbackError, DataError, MissingExtraError


class Killed(BaseException):
    """Stands for the end of the process."""


def logged(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]


def logging_trainer(folder: Path, callbacks: dict[str, Callback], every: Every | None = None, **options: Any) -> Any:
    return trainer(
        step=supervised(nn.MSELoss(), metrics={"error": metrics.absolute_error}),
        callbacks={
            "csv_log": CSVLog(folder / "log.csv"),
            "json_lines": JSONLines(folder / "log.jsonl", every=Every(updates=2)),
            "rate": LearningRate(Every(updates=2)),  # begins rows that a validation goes on with
            **callbacks,
        },
        checkpoints=Checkpoints(folder / "run", every=every, on_exception=False),
        **options,
    )


FIT: dict[str, Any] = {"batch_size": 4, "epochs": 3}


@settings(max_examples=12, deadline=None)
@given(
    kills=st.lists(st.integers(1, 14), max_size=3),
    every=st.one_of(st.builds(Every, epochs=st.just(1)), st.builds(Every, updates=st.integers(1, 7))),
    validate=st.one_of(st.builds(Every, epochs=st.just(1)), st.builds(Every, updates=st.integers(1, 6))),
)
def test_the_logs_of_a_killed_and_resumed_run_are_those_of_an_undisturbed_one(
    kills: list[int], every: Every, validate: Every
) -> None:
    """Byte for byte, and without another file beside them.

    Seen to fail when JSONLines appends to whatever it finds, and when CSVLog does; and when a run that was killed before its second
    checkpoint is taken for a fresh one, whose earlier logs are renamed.
    """

    def files(kills: list[int]) -> list[bytes]:
        with TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
            patch.setattr("logging.Logger.warning", lambda *arguments: None)
            folder = Path(place)
            fitting = {**FIT, "validation": table(5, 2), "validate": validate, "resume": True}
            for updates in kills:

                def kill(run: Any, event: Any, updates: int = updates) -> None:
                    if event.progress.updates == updates:
                        raise Killed

                killing = reacting("on_gradients", kill)
                killing_at_the_end = reacting("on_epoch_end", kill)
                made = logging_trainer(folder, {"kill": killing, "end": killing_at_the_end}, every)
                try:
                    made.fit(line(), columns(20), **fitting)
                except Killed:
                    with (folder / "log.jsonl").open("a") as file:
                        file.write('{"event": "st')  # what the last moment left behind
            logging_trainer(folder, {}, every).fit(line(), columns(20), **fitting)
            assert sorted(path.name for path in folder.iterdir()) == ["log.csv", "log.jsonl", "run"]
            return [(folder / name).read_bytes() for name in ("log.csv", "log.jsonl")]

    assert files(kills) == files([])


def test_the_csv_file_is_the_history(tmp_path: Path) -> None:
    made = logging_trainer(tmp_path, {})
    result = made.fit(line(), columns(20), validation=table(5, 2), validate=Every(updates=3), **FIT)
    result.history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "log.csv").read_bytes() == (tmp_path / "history.csv").read_bytes()
    assert len(result.history) == 11
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["history.csv", "log.csv", "log.jsonl"]


def test_the_csv_file_grows_while_the_run_does(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.csv"
    sizes: list[int] = []
    files: set[int] = set()

    def look(run: Any, event: Any) -> None:
        files.add(path.stat().st_ino)
        with path.open(encoding="utf-8", newline="") as file:
            sizes.append(len(list(csv.DictReader(file))))

    callbacks = {
        "log": CSVLog(path),
        "look": reacting("on_step_end", lambda run, event: look(run, event) if path.exists() else None),
    }
    trainer(callbacks=callbacks).fit(line(), columns(8), batch_size=4, epochs=3)
    assert sizes == [1, 1, 2, 2]
    assert len(files) == 1, "rows of the same columns are appended, and the file is not written anew"


def test_lines_say_what_happened(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    step = supervised(nn.MSELoss(), metrics={"error": metrics.absolute_error})
    made = trainer(step=step, callbacks=[JSONLines(path, every=Every(updates=2))])
    result = made.fit(line(), columns(12), batch_size=4, epochs=1, validation=table(4, 2))
    lines = logged(path)
    assert [(one["event"], one["epoch"], one["updates"], one["samples"]) for one in lines] == [
        ("step", 0, 2, 8),
        ("validation", 0, 3, 12),
        ("epoch", 0, 3, 12),
        ("end", 1, 3, 12),
    ]
    assert set(lines[0]) == {"event", "epoch", "updates", "samples", "loss", "error", "learning_rate/main"}
    assert lines[2]["train/loss"] == result.history.last["train/loss"]
    assert lines[3]["reason"] == "the epoch is done"


def test_values_that_json_lacks_are_null_and_updates_are_left_out_where_nobody_wants_them(tmp_path: Path) -> None:
    made = trainer(
        callbacks=[JSONLines(tmp_path / "a")],
        step=lambda m, b: torchflow.Outputs(m(b[0]).sum(), metrics={"x": torch.tensor(torch.inf)}),
    )
    made.fit(line(), columns(12), batch_size=4, epochs=1)
    assert [(one["event"], one.get("train/x", 0)) for one in logged(tmp_path / "a")] == [("epoch", None), ("end", 0)]


@pytest.mark.parametrize("make", [CSVLog, JSONLines])
def test_a_fresh_run_sets_an_older_file_aside(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("mine")
    (tmp_path / "log.1").write_text("also mine")
    made = trainer(callbacks=[make(path)])
    for _ in range(2):
        made.fit(line(), columns(8), epochs=1)
    assert (tmp_path / "log.1").read_text() == "also mine"
    assert (tmp_path / "log.2").read_text() == "mine"
    assert (tmp_path / "log.3").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("make", [CSVLog, JSONLines])
def test_a_run_that_has_nothing_to_resume_sets_an_older_file_aside_once(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("mine")
    killed = trainer(callbacks={"log": make(path), "kill": raising("on_fit_start", Killed())}, checkpoints=tmp_path / "run")
    with pytest.raises(Killed):
        killed.fit(line(), columns(8), epochs=1, resume=True)
    trainer(callbacks={"log": make(path)}, checkpoints=tmp_path / "run").fit(line(), columns(8), epochs=1, resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.1", "run"]
    assert (tmp_path / "log.1").read_text() == "mine"


def test_a_log_that_was_moved_is_said_and_gone_on_with(tmp_path: Path) -> None:
    log = JSONLines(tmp_path / "log")
    made = trainer(callbacks=[log])
    run = made.start(line(), columns(8), batch_size=4)
    for event in torchflow.events(run, epochs=2):
        if isinstance(event, torchflow.EpochEnded):
            break
    (tmp_path / "log").unlink()
    with pytest.warns(UserWarning, match="holds 0 bytes, and the checkpoint knows of .*: it was moved or cut"):
        list(torchflow.events(run, epochs=2))
    assert [one["event"] for one in logged(tmp_path / "log")] == ["epoch", "end"]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is written to a stand-in for torch's writer of event files."""
    calls: list[Any] = []

    class SummaryWriter:
        def __init__(self, log_dir: str, purge_step: int | None) -> None:
            calls.append(("open", log_dir, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def close(self) -> None:
            calls.append("close")

    module: Any = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return calls


def test_tensorboard_is_given_every_curve_once(written: list[Any], tmp_path: Path) -> None:
    made = trainer(callbacks=[TensorBoard(tmp_path / "b", every=Every(updates=2))])
    last = made.fit(line(), columns(8), batch_size=4, epochs=1, validation=table(4, 2)).history.last
    assert written[0] == ("open", str(tmp_path / "b"), None)
    assert [(call[0], call[2]) for call in written[1:-1]] == [
        ("step/loss", 2),
        ("learning_rate/main", 2),
        ("valid/loss", 2),
        ("train/loss", 2),
    ]
    assert written[3][1] == last["valid/loss"]
    assert written[-1] == "close"


def test_tensorboard_forgets_what_lies_after_a_checkpoint(written: list[Any], tmp_path: Path) -> None:
    made = trainer(callbacks=[TensorBoard(tmp_path / "b")])
    run = made.start(line(), columns(8), batch_size=4)
    for event in torchflow.events(run, epochs=1):
        if isinstance(event, torchflow.Stepped):
            break
    list(torchflow.events(run, epochs=1))
    assert [call for call in written if call == "close" or call[0] == "open"] == [
        ("open", str(tmp_path / "b"), None),
        "close",
        ("open", str(tmp_path / "b"), 2),
        "close",
    ]


def test_tensorboard_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError) as raised:
        TensorBoard("runs/board")
    assert str(raised.value) == (
        "TensorBoard needs tensorboard, which is not installed: pip install 'torchflow-train[tensorboard]'. "
        "JSONLines and CSVLog do without."
    )


def test_one_line_is_sent_at_the_chosen_moments() -> None:
    lines: list[str] = []
    made = trainer(callbacks=[Notify(lines.append, at=["start", "validation", "epoch", "end", "failure"])])
    result = made.fit(line(), columns(8), batch_size=4, epochs=1, validation=table(4, 2))
    train, valid = (f"{name} {result.history.last[name]:.4g}" for name in ("train/loss", "valid/loss"))
    assert lines == [
        "training starts",
        f"update 2: {valid}",
        f"epoch 1: {train}  {valid}",
        "training ended at update 2: the epoch is done",
    ]


def test_a_failure_is_sent_in_one_line_and_ends_the_run_as_it_would_have() -> None:
    def fail(run: Any, event: Any) -> None:
        raise ValueError("first\nsecond")

    lines: list[str] = []
    callbacks = {"notify": Notify(lines.append), "fail": reacting("on_epoch_end", fail)}
    with pytest.raises(CallbackError):
        trainer(callbacks=callbacks).fit(line(), columns(8), batch_size=4, epochs=1)
    assert lines == [
        "training failed at update 2: CallbackError: callback 'fail' raised ValueError in on_epoch_end at epoch 1, batch 0, "
        "update 2: first"
    ]
    lines.clear()
    run = trainer(callbacks=[Notify(lines.append, at=["start"])]).start(line(), columns(8), batch_size=4)
    for event in torchflow.events(run, epochs=1):
        if isinstance(event, torchflow.Stepped):
            break
    list(torchflow.events(run, epochs=1))
    assert lines == ["training starts", "training starts at update 1"]


def test_a_network_that_is_down_does_not_end_a_run_unless_that_is_wanted(caplog: pytest.LogCaptureFixture) -> None:
    def send(line: str) -> None:
        raise OSError("no route")

    with caplog.at_level(logging.WARNING, logger="torchflow"):
        result = trainer(callbacks=[Notify(send)]).fit(line(), columns(8), epochs=2)
    assert result.reason == "all 2 epochs are done"
    assert [record.getMessage() for record in caplog.records] == [
        "torchflow: Notify could not send 'training ended at update 2: all 2 epochs are done' (OSError: no route); the run goes on."
    ]
    with pytest.raises(CallbackError, match="no route"):
        trainer(callbacks=[Notify(send, at=["epoch"], on_error="stop")]).fit(line(), columns(8), epochs=2)


def test_predictions_of_the_same_samples_are_shown_at_every_interval() -> None:
    shown: list[tuple[Tensor, Progress]] = []
    x, y = table(7, 2)
    sample = Sample(
        data.from_tensors(x, y), lambda made, progress: shown.append((made, progress)), every=Every(updates=3), batch_size=2
    )
    run = trainer(callbacks=[sample]).start(dropout_network(2), columns(20), batch_size=4)
    other = trainer()
    expected = [
        (other.predict(run.model, (x, y)), event.progress)
        for event in torchflow.events(run, epochs=2)
        if isinstance(event, torchflow.Stepped) and event.progress.updates % 3 == 0
    ]
    assert [progress.updates for _, progress in shown] == [3, 6, 9]
    for (made, progress), (same, where) in zip(shown, expected, strict=True):
        torch.testing.assert_close(made, same)
        assert progress == where


def test_samples_without_targets_are_shown_by_a_forward_pass_of_the_users() -> None:
    shown: list[Tensor] = []
    x = table(3, 2)[0]
    sample = Sample((x,), lambda made, progress: shown.append(made), forward=lambda model, batch: model(batch[0]))
    result = trainer(callbacks=[sample]).fit(small_network(2), columns(8), epochs=2)
    assert len(shown) == 2
    with torch.no_grad():
        assert torch.equal(shown[1], result.model(x))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: CSVLog(3), ArgumentTypeError, "path must be a path"),  # type: ignore[arg-type]
        (lambda: JSONLines(""), ArgumentValueError, "path must be a path that is not empty"),
        (
            lambda: JSONLines("a", every=Every(epochs=1)),
            ArgumentValueError,
            r"JSONLines\(every=…\) chooses updates: epochs are always",
        ),
        (lambda: JSONLines("a", every=Every(seconds=1)), ArgumentValueError, r"JSONLines\(every=…\) can't be in seconds"),
        (lambda: TensorBoard(3), ArgumentTypeError, "folder must be a path"),  # type: ignore[arg-type]
        (lambda: TensorBoard("a", every=Every(epochs=1)), ArgumentValueError, r"TensorBoard\(every=…\) chooses updates"),
        (lambda: Notify("me"), ArgumentTypeError, "send must be a function"),  # type: ignore[arg-type]
        (lambda: Notify(print, at="end"), ArgumentTypeError, "at must be a list of moments such as"),  # type: ignore[arg-type]
        (lambda: Notify(print, at=[]), ArgumentValueError, "at must name a moment, one of 'start', 'validation', 'epoch', 'end'"),
        (
            lambda: Notify(print, at=["ends"]),  # type: ignore[list-item]
            ArgumentValueError,
            "at must be one of 'start', 'validation', 'epoch', 'end', 'failure'",
        ),
        (lambda: Notify(print, on_error="ignore"), ArgumentValueError, "on_error must be one of 'warn', 'stop'"),  # type: ignore[arg-type]
        (lambda: Sample(table(2, 2), 3), ArgumentTypeError, "show must be a function"),  # type: ignore[arg-type]
        (lambda: Sample(table(2, 2), print, forward=3), ArgumentTypeError, "forward must be a function"),  # type: ignore[arg-type]
        (lambda: Sample(table(2, 2), print, batch_size=0), ArgumentValueError, "batch_size must be an int of at least 1"),
        (lambda: Sample((torch.zeros(2, 1), torch.zeros(3, 1)), print), DataError, "columns of one length"),
        (lambda: Sample(3, print), ArgumentTypeError, "Sample's data"),
    ],
)
def test_impossible_choices_are_refused(make: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


def test_a_stopped_run_says_so_in_its_last_line(tmp_path: Path) -> None:
    stop = reacting("on_step_end", lambda run, event: Stop("enough"))
    trainer(callbacks={"log": JSONLines(tmp_path / "log"), "stop": stop}).fit(line(), columns(8), batch_size=4, epochs=2)
    assert logged(tmp_path / "log")[-1]["reason"] == "enough"


def test_tensorboard_itself_reads_what_was_written(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    result = trainer(callbacks=[TensorBoard(tmp_path)]).fit(line(), columns(8), batch_size=4, epochs=3)
    read = accumulator.EventAccumulator(str(tmp_path))
    read.Reload()
    found = [(point.step, point.value) for point in read.Scalars("train/loss")]
    expected = [(row["updates"], row["train/loss"]) for row in result.history.rows]
    assert found == [(step, pytest.approx(value, rel=1e-6)) for step, value in expected]


def curves(folder: Path) -> list[int]:
    """The steps that TensorBoard shows of the training loss in a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    read = accumulator.EventAccumulator(str(folder))
    read.Reload()
    return [point.step for point in read.Scalars("step/loss")]


def test_a_fresh_run_moves_the_curves_of_an_earlier_one_out_of_its_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And nothing else: the folder may hold other runs, or anything.

    Seen to fail when the event files stay where they are: TensorBoard then draws both runs as one curve.
    """
    board = tmp_path / "board"
    (board / "other").mkdir(parents=True)
    for name in ("note", "other/events.out.tfevents.1"):
        (board / name).write_text("mine")
    made = trainer(callbacks=[TensorBoard(board, every=Every(updates=1))])
    made.fit(line(), columns(8), batch_size=4, epochs=3)
    assert caplog.messages == []
    made.fit(line(), columns(8), batch_size=4, epochs=2)
    assert caplog.messages == [f"torchflow: {board} was used before; its event files are now in {tmp_path / 'board.1'}."]
    assert curves(tmp_path / "board.1") == [1, 2, 3, 4, 5, 6]
    assert curves(board) == [1, 2, 3, 4]
    assert (board / "note").read_text() == (board / "other/events.out.tfevents.1").read_text() == "mine"
    made.fit(line(), columns(8), batch_size=4, epochs=1)
    assert curves(tmp_path / "board.2") == [1, 2, 3, 4]


@pytest.mark.parametrize("killed", [1, 3])
def test_the_curves_of_a_killed_and_resumed_run_are_in_one_folder_and_hold_every_update_once(killed: int, tmp_path: Path) -> None:
    def kill(run: Any, event: Any) -> None:
        if event.progress.updates == killed:
            raise Killed

    for callbacks in ({"kill": reacting("on_gradients", kill)}, {}):
        made = trainer(
            callbacks={"board": TensorBoard(tmp_path / "board", every=Every(updates=1)), **callbacks},
            checkpoints=Checkpoints(tmp_path / "run", every=Every(updates=2), on_exception=False),
        )
        try:
            made.fit(line(), columns(8), batch_size=4, epochs=3, resume=True)
        except Killed:
            assert callbacks
    assert curves(tmp_path / "board") == [1, 2, 3, 4, 5, 6]
    assert not (tmp_path / "board.1").exists()


@pytest.mark.parametrize("kind", [CSVLog, JSONLines, Profile])
def test_a_folder_in_place_of_a_file_is_refused_and_stays(kind: Any, tmp_path: Path) -> None:
    """Seen to fail without the check: a log then renames the folder, with all that is in it."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "model").write_text("precious")
    made = trainer(callbacks=[kind(tmp_path / "runs")], checkpoints=tmp_path / "new")
    with pytest.raises(
        ArgumentValueError, match=rf"{kind.__name__} writes a file, and .*runs is a folder\. Name a file in it: {kind.__name__}\('"
    ):
        made.fit(line(), columns(), epochs=1)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model", "runs"]
