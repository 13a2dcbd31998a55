"""From one captured update to machine code for any number of them.

Tiny updates are replayed (:mod:`torchflow.compiled.replay`). For the others, torch's scan operator carries the values from update
to update, and Inductor compiles it once for every length of the loop. The graph goes to Inductor directly: its guards are the
signature that :mod:`torchflow.compiled.engine` compares, and a call costs a third of one through ``torch.compile``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from torchflow.compiled.capture import Captured
from torchflow.compiled.replay import replayed

Machine = Callable[[list[Tensor]], Sequence[Tensor]]
"""From the changed values, the other values and constants, and stacked leaves and rates to new values and stacked reports."""


def compile_updates(captured: Captured, values: Sequence[Tensor], stacked: Sequence[Tensor]) -> Machine:
    """Compile a captured update into a loop over stacked batches.

    Args:
        captured: The update.
        values: The live values.
        stacked: Examples of what differs from update to update, each (updates, ...): the leaves of the batches and the rates.

    Returns:
        ``[*changed values, *unchanged values, *constants, *stacked] -> [*new changed values, *stacked reports]``, for any number of
        updates.
    """
    from torch._higher_order_ops.scan import scan_op  # noqa: PLC0415  (the compiler takes a second to import)
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415

    carried = [values[i] for i in captured.changed]
    known = [*(v for i, v in enumerate(values) if i not in captured.changed), *captured.constants]
    # Of one update alone the compiler would make a machine that takes one at a time for ever.
    given = _fakes([*carried, *known], [torch.cat([leaf, leaf]) if len(leaf) == 1 else leaf for leaf in stacked])
    count, end = len(carried), len(carried) + len(known)
    body = _body(captured, len(values), count, len(stacked))

    def updates(*flat: Tensor) -> Any:
        return scan_op(once, list(flat[:count]), list(flat[end:]), tuple(flat[count:end]))

    with torch.no_grad():
        first = _fakes([*carried, *(leaf[0] for leaf in stacked), *known], [])
        once = make_fx(body, tracing_mode="fake")(*first)
        on_cpu = all(value.is_cpu for value in values)
        options = _shorter_ways()
        if on_cpu and (machine := replayed(once, first, count, len(stacked), options)) is not None:
            return cast(Machine, machine)
        graph = make_fx(updates, tracing_mode="fake")(*given)
        return _compiled(graph, given, {**options, "cpp_wrapper": True} if on_cpu else {})


def _compiled(graph: Any, given: list[Any], options: dict[str, Any]) -> Machine:
    """Compile a graph by Inductor.

    What Inductor makes is wrapped by torch in what gradients, aliases and mutated arguments need. This graph has none of them, and
    the wrappers cost 10 microseconds a call, so on the CPU they are left out where what is inside takes and gives the same.
    """
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner  # noqa: PLC0415  (the compiler takes a second to import)

    inside: list[tuple[Any, Any]] = []

    def keeping(inner: Any, inputs: Any, **options: Any) -> Any:
        made = compile_fx_inner(inner, inputs, **options)
        inside.append((inner, made))
        return made

    whole: Any = compile_fx(graph, given, inner_compile=keeping, config_patches=options)
    if not options or len(inside) != 1 or not _takes_and_gives(inside[0][0], graph):
        return lambda flat: whole(*flat)
    direct: Machine | None = getattr(inside[0][1], "current_callable", None)
    if not callable(direct):
        return lambda flat: whole(*flat)

    def machine(flat: list[Tensor], around: Any = whole) -> Sequence[Tensor]:  # what is around it lives as long as it does
        return direct(flat)

    return machine


_GRAPHS = itertools.count()
"""Counts the graphs that this process has compiled."""


def _shorter_ways() -> dict[str, Any]:
    """Return options of Inductor that make the same machine code sooner."""
    from torch._inductor import codecache, config  # noqa: PLC0415  (the compiler takes a second to import)

    options: dict[str, Any] = {}
    # torch's headers, compiled ahead: six seconds once, two less for each graph. It pays where it is done, or a process compiles again.
    if next(_GRAPHS) == 0 and not Path(getattr(codecache, "_HEADER_DIR", "/nowhere")).is_dir():
        options["cpp_cache_precompile_headers"] = False
    # Whether the C++ compiler knows the instructions that this processor has: two seconds for each set of them, and all know AVX-512.
    if config.cpp.vec_isa_ok is None:
        options["cpp.vec_isa_ok"] = True
    return options


def _takes_and_gives(inner: Any, outer: Any) -> bool:
    """Say whether a graph takes the same tensors as another, in the same order, and gives as many."""

    def described(graph: Any) -> tuple[list[Any], int]:
        given = [node.meta.get("val") for node in graph.graph.nodes if node.op == "placeholder"]
        kinds = [(value.dtype, value.ndim) if isinstance(value, Tensor) else None for value in given]
        return kinds, len(next(iter(graph.graph.find_nodes(op="output"))).args[0])

    kinds, outputs = described(inner)
    return None not in kinds and (kinds, outputs) == described(outer)


def _body(captured: Captured, total: int, count: int, stacked: int) -> Callable[..., list[Tensor]]:
    """Return one update as the scan wants it: carried values, what differs, what is known -> carried values and reports."""
    unchanged = [i for i in range(total) if i not in captured.changed]

    def body(*flat: Tensor) -> list[Tensor]:
        differs, known = flat[count : count + stacked], flat[count + stacked :]
        values = dict(zip((*captured.changed, *unchanged), (*flat[:count], *known), strict=False))
        constants = known[len(unchanged) :]
        made = captured.graph(*(values[i] for i in range(total)), *differs, *constants)
        reports = [report.clone() for report in made[total:]]  # a report may be a view of a batch, which a scan refuses
        return [*(made[i] for i in captured.changed), *reports]

    return body


def _fakes(fixed: Sequence[Tensor], stacked: Sequence[Tensor]) -> list[Any]:
    """Return tensors without storage for tracing; the first dimension of those that are stacked is open."""
    from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: PLC0415
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext  # noqa: PLC0415

    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)

    def fake(tensor: Tensor, first: DimDynamic) -> Tensor:
        sizes = [first, *[DimDynamic.STATIC] * (tensor.ndim - 1)][: tensor.ndim]
        context: Any = StatelessSymbolicContext(dynamic_sizes=sizes)
        return mode.from_tensor(tensor, symbolic_context=context)

    return [*(fake(t, DimDynamic.STATIC) for t in fixed), *(fake(t, DimDynamic.DYNAMIC) for t in stacked)]
