"""That `make fitting` tries the libraries themselves, and nothing that stands in for them."""

from __future__ import annotations

import os

import pytest

from tests.fitting.libraries import is_there


@pytest.mark.skipif("TORCHFLOW_FITTING" not in os.environ, reason="the libraries are in the environment of `make fitting`")
@pytest.mark.parametrize("name", ["datasets", "networkx", "timm", "torch_geometric", "torchmetrics", "transformers"])
def test_the_library_itself_is_there(name: str) -> None:
    assert is_there(name)
