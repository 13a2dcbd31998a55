from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchflow.tree import leaves, leaves_with_paths, map_leaves, samples_in, shapes


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass(frozen=True)
class Scan:
    image: Any
    name: str
    size: int = field(init=False, default=3)


trees = st.recursive(
    st.integers() | st.text(max_size=3) | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.builds(Pair, inner, inner)
        | st.builds(Scan, inner, st.text(max_size=2))
    ),
    max_leaves=12,
)


@given(trees)
def test_mapping_with_the_identity_gives_an_equal_tree_of_the_same_types(tree: object) -> None:
    again = map_leaves(lambda leaf: leaf, tree)
    assert again == tree
    assert type(again) is type(tree)


@given(trees)
def test_leaves_come_in_the_order_in_which_they_are_mapped(tree: object) -> None:
    seen: list[object] = []

    def look(leaf: object) -> object:
        seen.append(leaf)
        return leaf

    map_leaves(look, tree)
    found = list(leaves(tree))
    if not any(isinstance(leaf, int) and leaf == 3 for leaf in found):  # a field that is not an argument is a leaf, and stays
        assert found == seen
    assert found == [leaf for _, leaf in leaves_with_paths(tree)]


def test_containers_keep_their_types() -> None:
    tree = (Pair(1, [2]), OrderedDict(a=3), Scan(4, "x"))
    pair, ordered, scan = map_leaves(lambda leaf: leaf * 10 if isinstance(leaf, int) else leaf, tree)
    assert pair == Pair(10, [20])
    assert type(ordered) is OrderedDict
    assert ordered == {"a": 30}
    assert scan == Scan(40, "x")


def test_a_class_is_a_leaf_even_if_its_instances_are_branches() -> None:
    seen: list[object] = []

    def look(leaf: object) -> object:
        seen.append(leaf)
        return leaf

    assert map_leaves(look, Scan) is Scan
    assert seen == [Scan]
    assert list(leaves(Scan)) == [Scan]


def test_paths_read_like_python() -> None:
    tree = (Pair(1, {"left": 2}), [Scan(3, "name")])
    assert [path for path, _ in leaves_with_paths(tree)] == [
        "[0].left",
        "[0].right['left']",
        "[1][0].image",
        "[1][0].name",
        "[1][0].size",
    ]
    assert list(leaves_with_paths(5)) == [("", 5)]


def test_samples_are_the_first_dimension_of_the_first_leaf_that_has_one() -> None:
    assert samples_in(torch.zeros(4, 2)) == 4
    assert samples_in((torch.zeros(5), torch.zeros(3))) == 5
    assert samples_in([torch.tensor(1.0), np.zeros((6, 2))]) == 6
    assert samples_in({"name": "text", "image": torch.zeros(7, 1)}) == 7
    assert samples_in((torch.tensor(1.0), torch.zeros(2))) == 2
    assert samples_in((torch.zeros(0, 3),)) == 0


class Graphs:
    """A batch of graphs, as PyTorch Geometric makes one: neither a tensor nor a tree of them."""

    num_graphs = 8


def test_a_batch_of_graphs_says_how_many_samples_it_holds() -> None:
    assert samples_in(Graphs()) == 8
    assert samples_in({"graphs": Graphs(), "targets": torch.zeros(8)}) == 8


def test_a_batch_without_dimensions_counts_as_one_sample() -> None:
    assert samples_in(()) == 1
    assert samples_in("text") == 1
    assert samples_in((torch.tensor(3.0),)) == 1


def test_shapes_say_what_a_batch_holds_in_one_line() -> None:
    batch = ({"image": torch.zeros(4, 3), "name": ["a", "b"]}, torch.zeros(4, dtype=torch.int64))
    assert shapes(batch) == "[0]['image'] float32 (4, 3), [0]['name'][0] str, [0]['name'][1] str, [1] int64 (4,)"
    assert shapes(tuple(torch.zeros(1) for _ in range(9))).endswith("[7] float32 (1,), …")
