"""Comparing stored and live trees, and the fingerprints of environments."""

from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from torchflow.checkpoint import check_state, differences, environment_differences, fingerprint
from torchflow.checkpoint.compare import equal, same_kind
from torchflow.types import State

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


@given(TREES)
def test_a_tree_does_not_differ_from_itself(tree: object) -> None:
    assert differences(tree, tree) == []
    assert differences({"root": tree}, {"root": tree}, values=same_kind) == []


def test_every_leaf_that_differs_is_named_by_its_path() -> None:
    stored = {"a": {"w": torch.ones(2), "gone": 1, "same": 1}, "b": (1, 2, 3), "c": [1], "d": {"x": 1}, "e": True}
    live = {"a": {"w": torch.ones(3), "same": 1, "new": torch.ones(1)}, "b": (1, 5), "c": (1,), "d": 4, "e": 1}
    assert differences(stored, live) == [
        "a/w: stored as a tensor (2,) of float32, live as a tensor (3,) of float32",
        "a/gone: stored as 1 (int), not there in the live one",
        "a/new: not stored, live as a tensor (1,) of float32",
        "b/1: stored as 2 (int), live as 5 (int)",
        "b/2: stored as 3 (int), not there in the live one",
        "c: stored as a list of 1, live as a tuple of 1",
        "d: stored as a dict of 1, live as 4 (int)",
        "e: stored as True (bool), live as 1 (int)",
    ]


def test_tensors_are_compared_by_shape_and_dtype_never_by_value() -> None:
    assert differences({"w": torch.zeros(2)}, {"w": torch.ones(2)}) == []
    assert len(differences({"w": torch.zeros(2)}, {"w": torch.ones(2).double()})) == 1
    assert len(differences({"w": torch.zeros(2)}, {"w": 0.0})) == 1
    assert len(differences({"w": 0.0}, {"w": torch.zeros(2)})) == 1


def test_the_caller_decides_about_plain_values() -> None:
    stored, live = {"lr": 0.1, "steps": 4, "x": None}, {"lr": 0.2, "steps": 5.0, "x": None}
    assert [line.partition(":")[0] for line in differences(stored, live)] == ["lr", "steps"]
    assert [line.partition(":")[0] for line in differences(stored, live, values=same_kind)] == ["steps"]
    assert differences(stored, live, values=lambda path, left, right: path in ("lr", "steps") or equal(path, left, right)) == []


def test_a_nan_fits_a_nan() -> None:
    assert equal("", math.nan, float("nan"))
    assert not equal("", math.nan, 1.0)


def test_a_fingerprint_can_be_stored_and_fits_itself() -> None:
    here = fingerprint("cpu", "float32", True)
    check_state(here)
    assert here["torch"] == str(torch.__version__)
    assert here["threads"] == torch.get_num_threads()
    assert environment_differences(here, here) == []


def test_every_difference_of_environments_is_one_sentence() -> None:
    stored: dict[str, State] = {"torch": "2.10.0", "threads": 1, "deterministic": True, "gone": 1}
    here: dict[str, State] = {"torch": "2.10.0", "threads": 2, "deterministic": 1, "dtype": "float32"}
    assert environment_differences(stored, here) == [
        "the number of intra-op threads was 1 and is 2 now",
        "the deterministic flag was True and is 1 now",
        "the gone was 1 and is not recorded now",
        "the dtype was not recorded and is float32 now",
    ]
