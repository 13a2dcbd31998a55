"""Matrix products of a captured graph: written out where they are small, by oneDNN where it is faster, and the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from tests.laws.problems import table, with_weights
from torchflow import Trainer, Updates, supervised
from torchflow.compiled import products

SIZES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.integers(1, 12))


def matrix(rows: int, columns: int, seed: int, *, turned: bool, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    if turned:
        return torch.randn(columns, rows, generator=generator, dtype=dtype).t()
    return torch.randn(rows, columns, generator=generator, dtype=dtype)


def rewritten(function: Callable[..., Tensor], *given: Tensor) -> Any:
    graph = make_fx(function, tracing_mode="fake")(*given)
    products.rewrite_products(graph)
    graph.recompile()
    return graph


def operations(graph: Any) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this is a processor on which oneDNN is faster."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)


@settings(deadline=None)  # the first example waits for an import
@given(SIZES, st.booleans(), st.booleans(), st.integers(0, 99))
def test_small_products_are_written_out_and_give_the_same_numbers(
    sizes: tuple[int, int, int], a_turned: bool, b_turned: bool, seed: int
) -> None:
    """Seen to fail where the sum goes over another dimension, and where the bias is left out."""
    rows, inner, columns = sizes
    a = matrix(rows, inner, seed, turned=a_turned, dtype=torch.float64)
    b = matrix(inner, columns, seed + 1, turned=b_turned, dtype=torch.float64)
    bias = torch.randn(columns, generator=torch.Generator().manual_seed(seed + 2), dtype=torch.float64)
    plain, biased = rewritten(torch.mm, a, b), rewritten(torch.addmm, bias, a, b)
    torch.testing.assert_close(plain(a, b), a @ b, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(biased(bias, a, b), a @ b + bias, rtol=1e-12, atol=1e-12)
    assert not any("mm" in name for name in operations(plain) + operations(biased))


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize(("a_turned", "b_turned"), [(False, False), (False, True), (True, False), (True, True)])
def test_large_products_go_to_onednn_and_give_the_same_numbers(a_turned: bool, b_turned: bool, with_bias: bool) -> None:
    """Seen to fail where the second matrix is handed over as it is, not turned."""
    a = matrix(200, 160, 0, turned=a_turned, dtype=torch.float32)
    b, bias = matrix(160, 160, 1, turned=b_turned, dtype=torch.float32), torch.randn(160)
    graph = rewritten(torch.addmm, bias, a, b) if with_bias else rewritten(torch.mm, a, b)
    found = graph(bias, a, b) if with_bias else graph(a, b)
    expected = (a.double() @ b.double() + (bias.double() if with_bias else 0)).float()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert "torchflow.linear.default" in operations(graph)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(
    "given",
    [
        pytest.param((torch.randn(60, 60), torch.randn(60, 60)), id="too-small-for-it"),
        pytest.param((torch.randn(200, 160).double(), torch.randn(160, 160).double()), id="another-dtype"),
        pytest.param((torch.randn(8, 1024), torch.randn(1024, 1024)), id="copies-cost-more-than-it-saves"),
        pytest.param((torch.randn(200, 1), torch.randn(200, 160), torch.randn(160, 160)), id="a-column-as-bias"),
    ],
)
def test_other_products_stay_as_they_are(given: tuple[Tensor, ...]) -> None:
    graph = rewritten(lambda *x: torch.mm(*x) if len(x) == 2 else torch.addmm(*x), *given)
    assert operations(graph) in (["aten.mm.default"], ["aten.addmm.default"])


def test_a_scaled_product_keeps_its_scale() -> None:
    a, b, bias = torch.randn(3, 3), torch.randn(3, 3), torch.randn(3)
    graph = rewritten(lambda *x: torch.addmm(*x, beta=0.5, alpha=2.0), bias, a, b)
    torch.testing.assert_close(graph(bias, a, b), 0.5 * bias + 2 * (a @ b))


@pytest.mark.parametrize(
    ("maker", "family", "capability", "faster"),
    [
        ("AuthenticAMD", 26, "AVX512", True),
        ("AuthenticAMD", 25, "AVX512", False),
        ("AuthenticAMD", 26, "AVX2", False),
        ("GenuineIntel", 26, "AVX512", False),
        ("", 0, "AVX512", False),
    ],
)
def test_the_rule_looks_at_the_processor_alone(
    maker: str, family: int, capability: str, faster: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_processor", lambda: (maker, family))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert products.onednn_is_faster.__wrapped__() is faster


def test_the_processor_says_who_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t: 1\n\nvendor_id\t: Other\ncpu family\t: 7\n"
    monkeypatch.setattr(Path, "read_text", lambda self, **_: said)
    assert products._processor() == ("GenuineIntel", 6)

    def missing(self: Path, **_: object) -> str:
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr("platform.processor", lambda: "AMD64 Family 25 Model 1 Stepping 0, AuthenticAMD")
    assert products._processor() == ("AuthenticAMD", 25)
    monkeypatch.setattr("platform.processor", lambda: "arm")
    assert products._processor() == ("", 0)


@pytest.mark.usefixtures("fast")
def test_machine_code_with_onednn_trains_what_the_loop_trains() -> None:
    """Compiled for real, from a group of one update: what is left of the first epoch. Later groups have two."""
    model = with_weights(nn.Sequential(nn.Linear(128, 160), nn.Tanh(), nn.Linear(160, 128), nn.Tanh(), nn.Linear(128, 1)), 0)
    columns = table(512, 128)

    def trained(compile: bool | Updates) -> Any:
        own = nn.Sequential(nn.Linear(128, 160), nn.Tanh(), nn.Linear(160, 128), nn.Tanh(), nn.Linear(128, 1))
        own.load_state_dict(model.state_dict())
        trainer = Trainer(supervised(nn.MSELoss()), optimizer=_sgd, progress=False, compile=compile)
        return trainer.fit(own, columns, epochs=3, batch_size=256)

    plain, compiled = trained(False), trained(Updates("epoch"))
    for one, other in zip(plain.model.parameters(), compiled.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert not all(torch.equal(one, other) for one, other in zip(plain.model.parameters(), model.parameters(), strict=True))


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
