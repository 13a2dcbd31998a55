"""Windows over series: none spans two groups, two recordings, two files, or what a split has left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchflow import data
from torchflow.data import Dataset
from torchflow.errors import ArgumentValueError

SIZES = {"steps": st.integers(1, 4), "stride": st.integers(1, 3), "horizon": st.integers(0, 2)}


def numbered(codes: list[int]) -> Dataset[Any]:
    """Samples {place, code}."""
    return data.from_tensors({"place": torch.arange(len(codes)), "code": torch.tensor(codes)})


def spans(windows: Dataset[Any], horizon: int) -> list[list[int]]:
    """The places of every window and of what follows it."""
    made = []
    for window in windows:
        past, ahead = window if horizon else (window, None)
        made.append(past["place"].tolist() + ([] if ahead is None else ahead["place"].tolist()))
    return made


def expected(series: list[list[int]], steps: int, stride: int, horizon: int) -> list[list[int]]:
    """The plain rule: in every run, from its start on, ``stride`` apart, as long as all fits."""
    span = steps + horizon
    return [run[begin : begin + span] for run in series for begin in range(0, len(run) - span + 1, stride)]


@settings(deadline=None, max_examples=80)
@given(codes=st.lists(st.integers(0, 3), min_size=12, max_size=40), **SIZES)
def test_windows_of_interleaved_groups_follow_each_group_alone(codes: list[int], steps: int, stride: int, horizon: int) -> None:
    """Fails if windows are cut by place in the table instead of within the group."""
    series = [[place for place, code in enumerate(codes) if code == group] for group in sorted(set(codes))]
    wanted = expected(series, steps, stride, horizon)
    if not wanted:
        with pytest.raises(ArgumentValueError, match=r"does not fit into the longest of \d+ runs"):
            numbered(codes).windows(steps, stride, horizon, group="code")
        return
    windows = numbered(codes).windows(steps, stride, horizon, group="code")
    assert spans(windows, horizon) == wanted
    assert spans(windows.select([len(windows) - 1]), horizon) == wanted[-1:]


@settings(deadline=None, max_examples=80)
@given(lengths=st.lists(st.integers(1, 12), min_size=2, max_size=5), twice=st.booleans(), taken=st.integers(0, 3), **SIZES)
def test_windows_do_not_span_what_was_joined(
    lengths: list[int], twice: bool, taken: int, steps: int, stride: int, horizon: int
) -> None:
    runs, begin = [], 0
    for length in lengths:
        runs.append(list(range(begin, begin + length)))
        begin += length
    whole = numbered([0] * begin)
    parts = [whole.skip(run[0]).take(len(run)) for run in runs]
    joined = parts[0].concat(*parts[1:]).map(lambda sample: sample)
    if twice:
        joined, runs = joined.repeat(2), runs * 2
    if taken:
        joined, runs = joined.skip(taken), _without(runs, taken)
    wanted = expected(runs, steps, stride, horizon)
    if wanted:
        assert spans(joined.windows(steps, stride, horizon), horizon) == wanted
    else:
        with pytest.raises(ArgumentValueError, match="does not fit into"):
            joined.windows(steps, stride, horizon)


def _without(runs: list[list[int]], count: int) -> list[list[int]]:
    """The runs without their first samples."""
    made = []
    for run in runs:
        made.append(run[count:])
        count = max(0, count - len(run))
    return [run for run in made if run]


def test_windows_do_not_span_what_a_split_left_out() -> None:
    codes = [place // 5 for place in range(40)]
    train, test = numbered(codes).split(0.5, 0.5, group="code", seed=3)
    for part in (train, test):
        found = spans(part.windows(5), 0)
        assert found == [list(range(5 * group, 5 * group + 5)) for group in sorted({int(s["code"]) for s in part})] or all(
            window == list(range(window[0], window[0] + 5)) for window in found
        )
    fold, _ = numbered(codes).kfold(4, group="code")[1]
    assert all(window == list(range(window[0], window[0] + 3)) for window in spans(fold.windows(3), 0))
    early, late = numbered(codes).split(0.75, 0.25, time=True)
    assert (len(early.windows(4)), len(late.windows(4))) == (27, 7)
    with pytest.raises(ArgumentValueError, match=r"Split by time or by group, or take windows before|Use a shorter one"):
        numbered(codes).split(0.5, 0.5)[0].windows(20)


def test_windows_of_a_part_in_time_are_in_time_however_rows_stand() -> None:
    days = [3, 0, 4, 1, 5, 2, 6, 7]
    early, late = numbered(days).split(6, 2, time="code")
    assert [[days[place] for place in window] for window in spans(early.windows(3), 0)] == [
        [0, 1, 2],
        [1, 2, 3],
        [2, 3, 4],
        [3, 4, 5],
    ]
    assert len(late.windows(2)) == 1


def test_groups_are_cut_at_seams_too_and_chosen_samples_follow_on() -> None:
    one, other = numbered([0, 1, 0, 1]), numbered([1, 0, 1, 0])
    windows = one.concat(other).windows(2, group="code")
    assert spans(windows, 0) == [[0, 2], [1, 3], [1, 3], [0, 2]] or len(windows) == 4
    assert [sample["code"].unique().numel() for sample in windows] == [1] * 4
    every_other = numbered([0] * 10).select(range(0, 10, 2))
    assert spans(every_other.windows(3), 0) == [[0, 2, 4], [2, 4, 6], [4, 6, 8]]  # meant so
    zipped = one.concat(other).zip(numbered([0] * 8))
    assert len(zipped.windows(3)) == 4


def test_random_maps_draw_apart_in_windows_of_groups() -> None:
    noisy = numbered([0, 1] * 6).map_random(lambda sample, g: {**sample, "noise": torch.rand((), generator=g)})
    windows = noisy.windows(3, group="code")
    drawn = torch.cat([window["noise"] for window in windows])
    assert drawn.unique().numel() == drawn.numel()


def test_lists_name_groups_as_well(tmp_path: Path) -> None:
    series = data.from_tensors(torch.arange(6.0))
    windows = series.windows(2, horizon=1, group=["b", "a", "b", "a", "b", "a"])
    assert [(past.tolist(), ahead.tolist()) for past, ahead in windows] == [([1, 3], [5]), ([0, 2], [4])]
    with pytest.raises(ArgumentValueError, match="a window of 3 \\+ 1 samples does not fit into the longest of 2 runs, 3 samples"):
        series.windows(3, horizon=1, group=["b", "a", "b", "a", "b", "a"])
