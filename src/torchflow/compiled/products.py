"""Matrix products in a captured graph: small ones written out, large ones by whichever library is faster here.

A call of a kernel costs about a microsecond: more than a product of some thousand numbers. And MKL, which torch calls for float32,
does not use the widest instructions of AMD's processors: where they are as fast as they are wide, oneDNN takes half its time.
"""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from torchflow.compiled.operators import linear

SMALL = 2**11
"""Products of at most so many multiplications become one loop with what is around them."""
LARGE = 2**20
"""Products of at least so many are worth oneDNN's preparations, which are some microseconds."""
PER_COPY = 24
"""How many multiplications pay for copying one number, where oneDNN needs a matrix turned: what made it often writes it so at once."""
ZEN_5 = 26
"""The family of AMD's first processors that take 512 bits at once."""


def rewrite_products(graph: GraphModule) -> None:
    """Rewrite the matrix products of a graph for speed; the results differ in rounding alone."""
    for node in list(graph.graph.nodes):
        if node.target not in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default) or node.kwargs:
            continue
        *bias, a, b = node.args
        if not all("val" in term.meta for term in node.args):  # a constant that the graph holds
            continue
        (rows, inner), columns = a.meta["val"].shape, b.meta["val"].shape[1]
        with graph.graph.inserting_before(node):
            if rows * inner * columns <= SMALL:
                made = _written_out(graph, a, b, bias)
            elif _is_for_onednn(node.meta["val"], a.meta["val"], b.meta["val"], [term.meta["val"] for term in bias]):
                turned = graph.graph.call_function(torch.ops.aten.permute.default, (b, [1, 0]))
                made = graph.graph.call_function(linear(), (a, turned, bias[0] if bias else None))
            else:
                continue
        node.replace_all_uses_with(made)
        graph.graph.erase_node(node)


def _written_out(graph: GraphModule, a: Node, b: Node, bias: list[Node]) -> Node:
    """Return a product as products and sums of numbers."""

    def call(operation: Any, *arguments: Any) -> Node:
        return graph.graph.call_function(operation, arguments)

    aten = torch.ops.aten
    each = call(aten.mul.Tensor, call(aten.unsqueeze.default, a, 2), call(aten.unsqueeze.default, b, 0))
    total = call(aten.sum.dim_IntList, each, [1])
    return call(aten.add.Tensor, total, bias[0]) if bias else total


def _is_for_onednn(result: Tensor, a: Tensor, b: Tensor, bias: list[Tensor]) -> bool:
    """Whether oneDNN makes a product faster, the copies that it needs included."""
    if result.device.type != "cpu" or result.dtype is not torch.float32 or any(term.shape != b.shape[1:] for term in bias):
        return False
    work = a.shape[0] * a.shape[1] * b.shape[1]
    copied = sum(0 if matrix.is_contiguous() else matrix.numel() for matrix in (a, b.t()))
    return work >= max(LARGE, PER_COPY * copied) and onednn_is_faster()


@cache
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 matrices faster than MKL on this processor, and torch's compiler can call it.

    AMD's processors know 512 bits since Zen 4, which takes them in two halves: MKL, with 256, is as fast there, and its calls are
    cheaper. The rule looks at the processor and measures nothing, so that every process decides alike.
    """
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    maker, family = _processor()
    return both and wide and maker == "AuthenticAMD" and family >= ZEN_5 and linear() is not None


def _processor() -> tuple[str, int]:
    """Return the maker and the family of the processor as it says them; empty and 0 where the system does not tell."""
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        said = platform.processor()  # on Windows: AMD64 Family 26 Model 68 Stepping 0, AuthenticAMD
    maker = re.search(r"AuthenticAMD|GenuineIntel", said)
    family = re.search(r"family\s*:?\s*(\d+)", said, re.IGNORECASE)
    return maker[0] if maker else "", int(family[1]) if family else 0
