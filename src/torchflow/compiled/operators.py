"""Operators that a captured graph needs and torch does not have, and how torch's compiler is to call them.

All of this stands on private parts of Inductor. Where a version of torch lacks them, an operator is None, and graphs do without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import torch

_LIBRARIES: list[Any] = []
"""What is defined is gone when its library is."""


@cache
def linear() -> Any:  # the operator, or None
    """Define ``x @ w.T + b`` by oneDNN.

    torch's own operator cannot be used: its compiler takes the weights of that one for constants.
    """

    def lowered() -> Callable[..., Any]:
        from torch._inductor import ir, mkldnn_ir  # noqa: PLC0415  (the compiler takes a second to import)

        create = cast(Any, mkldnn_ir.LinearUnary).create

        def lower(x: Any, w: Any, b: Any) -> Any:
            return ir.TensorBox.create(create(x, w, None if b is None else ir.ExternKernel.realize_input(b), "none", [], ""))

        return lower

    return _defined(
        "linear(Tensor x, Tensor w, Tensor? b) -> Tensor",
        lambda x, w, b: torch.ops.mkldnn._linear_pointwise(x, w, b, "none", [], ""),
        lambda x, w, b: x.new_empty((x.shape[0], w.shape[0])),
        lowered,
    )


@cache
def once() -> Any:  # the operator, or None
    """Define the identity of a tensor that is computed by itself, rather than again and again in the loops that use it."""

    def lowered() -> Callable[..., Any]:
        def lower(x: Any) -> Any:
            x.realize()
            return x

        return lower

    return _defined("once(Tensor x) -> Tensor", lambda x: x.clone(), torch.empty_like, lowered)


def _defined(
    schema: str, function: Callable[..., Any], shape: Callable[..., Any], lowered: Callable[[], Callable[..., Any]]
) -> Any:
    try:
        from torch._inductor import lowering  # noqa: PLC0415  (the compiler takes a second to import)

        library: Any = torch.library.Library("torchflow", "FRAGMENT")  # type: ignore[no-untyped-call]
        library.define(schema)
        name = schema.partition("(")[0]
        library.impl(name, function, "CompositeExplicitAutograd")
        library.impl(name, shape, "Meta")
        operator = getattr(torch.ops.torchflow, name).default
        lowering.register_lowering(operator, type_promotion_kind=None)(lowered())
    except (ImportError, AttributeError, TypeError, RuntimeError):
        return None
    _LIBRARIES.append(library)
    return operator
