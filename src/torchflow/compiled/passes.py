"""What is done to a captured graph before it is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from torchflow.compiled.operators import once
from torchflow.compiled.reasons import Uncapturable


def spell_out_alphas(graph: GraphModule) -> None:
    """Write ``a + alpha * b`` as a product and a sum.

    Inductor makes one ``addmm`` of a sum whose second term is a matrix product, and in torch 2.13 it forgets ``alpha``: weight decay
    and dampening would be left out, without a word.
    """
    for node in list(graph.graph.nodes):
        if node.target in (torch.ops.aten.add.Tensor, torch.ops.aten.sub.Tensor) and node.kwargs.get("alpha", 1) != 1:
            with graph.graph.inserting_before(node):
                product = graph.graph.call_function(torch.ops.aten.mul.Tensor, (node.args[1], node.kwargs["alpha"]))
            node.args, node.kwargs = (node.args[0], product), {}


def compute_scalars_once(graph: GraphModule) -> None:
    """Compute single numbers, such as Adam's bias corrections, by themselves.

    Inductor would compute them anew in every row of the loops that use them: a power takes as long as a hundred sums.
    """
    for node in list(graph.graph.nodes):
        if node.op != "call_function" or not _is_single(node) or node.target in _PLACES or (operator := once()) is None:
            continue
        users = [user for user in node.users if user.op == "call_function" and not _is_single(user)]
        if users:
            with graph.graph.inserting_after(node):
                alone = graph.graph.call_function(operator, (node,))
            alone.meta.update(node.meta)
            for user in users:
                user.replace_input_with(node, alone)


_PLACES = (torch.ops.aten.select.int, torch.ops.aten.unbind.int, torch.ops.aten.full.default, torch.ops.aten.ones_like.default)
"""What takes a number from a tensor computes nothing, nor does a constant."""


def _is_single(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.numel() == 1


def lift_constants(graph: GraphModule, live: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Turn tensors that the graph holds into inputs at its end, each once, so that it holds none.

    Args:
        graph: The graph, which is changed.
        live: The tensors that are inputs already.

    Raises:
        Uncapturable: The graph holds what is an input too, and would not see it change from update to update.
    """
    nodes = [node for node in graph.graph.nodes if node.op == "get_attr" and isinstance(getattr(graph, str(node.target)), Tensor)]
    last = [node for node in graph.graph.nodes if node.op == "placeholder"][-1]
    inputs, lifted = {_memory(tensor) for tensor in live}, dict[Any, Node]()
    constants: list[Tensor] = []
    for node in nodes:
        constant = getattr(graph, str(node.target)).detach()
        if _memory(constant) in inputs:
            raise Uncapturable("its step uses a parameter or buffer of the model other than through the model")
        place = (_memory(constant), constant.storage_offset(), constant.shape, constant.stride(), constant.dtype)
        if place not in lifted:
            with graph.graph.inserting_after(last):
                lifted[place] = last = graph.graph.placeholder(f"constant_{len(constants)}")
            last.meta.update(node.meta)
            constants.append(constant)
        node.replace_all_uses_with(lifted[place])
        graph.graph.erase_node(node)
    return tuple(constants)


def _memory(tensor: Tensor) -> int:
    """Return the address of a tensor's memory, which its views share; where it has none, a number of its own."""
    return tensor.untyped_storage().data_ptr() or id(tensor)


def changed(graph: GraphModule, count: int) -> tuple[int, ...]:
    """Return which of the first ``count`` inputs come out as something else."""
    nodes = list(graph.graph.nodes)
    inputs = [node for node in nodes if node.op == "placeholder"][:count]
    outputs: Any = nodes[-1].args[0]
    return tuple(i for i in range(count) if _origin(outputs[i]) is not inputs[i])


def _origin(node: Any) -> Any:
    """Follow a node back through copies that change nothing."""
    copies = (torch.ops.aten.clone.default, torch.ops.aten.detach.default, torch.ops.aten.alias.default)
    while isinstance(node, Node) and node.target in copies:
        node = node.args[0]
    return node
