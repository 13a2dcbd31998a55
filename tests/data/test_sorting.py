"""Both ways of sorting give the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torchflow.data import sorting
from torchflow.data.order import order_of
from torchflow.randomness import python_state


@given(st.lists(st.integers(0, 2**64 - 1), max_size=200), st.integers(0, 60))
def test_steps_sort_whatever_the_words_are(numbers: list[int], shift: int) -> None:
    """Seen to fail without the second step."""
    words = np.array(numbers, dtype=np.uint64) >> np.uint64(shift)  # with large shifts most of the first bits are equal
    assert sorting._in_steps(words.copy()).tolist() == sorted(words.tolist())


@pytest.mark.parametrize("length", [sorting.FEWEST - 1, sorting.FEWEST, 50_000, sorting.MOST, sorting.MOST + 1])
def test_an_order_is_the_same_whichever_way_is_sooner(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def ordered(sooner: bool) -> Tensor:
        def said() -> bool:
            asked.append(sooner)
            return sooner

        monkeypatch.setattr(sorting, "_steps_are_sooner", said)
        return order_of(length, 7)[:]

    found = ordered(True)
    assert found.sort().values.equal(order_of(length, None)[:])
    assert found.equal(ordered(False))
    assert asked == ([True, False] if sorting.FEWEST <= length <= sorting.MOST else [])


def test_which_way_is_sooner_is_measured_without_drawing() -> None:
    before = python_state()
    assert isinstance(sorting._steps_are_sooner.__wrapped__(), bool)
    assert python_state() == before
