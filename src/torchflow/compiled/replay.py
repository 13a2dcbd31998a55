"""An update that is nothing but loops in C++: they are called again and again, with nothing in between.

In the loop that torch compiles, every update makes some thirty tensors, which costs a tiny model five times its mathematics. Where
Inductor calls no library, an update is a list of calls of its own functions, on addresses that never change. That list is written down
once, and becomes one function that makes any number of updates. All of this stands on private parts of Inductor. Where a version of torch
lacks them, :func:`replayed` returns None.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

SMALL = 2**18
"""Bytes that an update reads: beyond, what is saved is a small part of it."""
_LIBRARY = re.compile(r"mm|convolution|linear|attention|rand|bernoulli|dropout")
"""The common operations that are no loops of Inductor's own; the others are found when the calls are written down."""
_HEAD = re.compile(r'extern "C"\s+(?:__declspec\(dllexport\)\s+)?void\s+kernel\(')
_BEGIN = """#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <cstring>
namespace {
struct OthersMayRun {
    PyThreadState* state = PyEval_SaveThread();
    ~OthersMayRun() { PyEval_RestoreThread(state); }
};
}
"""


class _NotLoops(Exception):  # noqa: N818  (a signal within this module)
    """The update does more than call loops."""


@dataclass(eq=False)
class _Loops:
    """A function of Inductor's: its C++, the types of its arguments, and what they were compiled to, if somebody wanted it."""

    types: Sequence[str]
    source: str
    function: Any = None

    def __call__(self, *arguments: Any) -> None:
        """Write down that it was called. Who comes by it through a cache of Inductor's, and writes nothing down, calls it."""
        calls = _CALLS.get()
        if calls is not None:
            calls.append((self, arguments))
            return
        self.function = self.function or _loaded(self.types, self.source, {})
        self.function(*arguments)


@dataclass(frozen=True)
class _Update:
    """The tensors that one update takes, the loops that it calls on them, and the tensors that it gives."""

    inputs: list[Tensor]
    calls: _Calls
    outputs: list[Tensor]


_Calls: TypeAlias = list[tuple[_Loops, tuple[Any, ...]]]
_CALLS: ContextVar[_Calls | None] = ContextVar("_CALLS", default=None)
_ONE_AT_A_TIME = threading.Lock()


def replayed(once: Any, given: Sequence[Tensor], carried: int, stacked: int, options: dict[str, Any]) -> Any:  # a Machine, or None
    """Compile an update into a function that makes any number of them; None where it is not made of loops alone.

    Args:
        once: The graph of one update, from the values that it changes, what differs from update to update, and what is
            known, to new values and what it reports.
        given: Tensors without storage, of the shapes that it takes.
        carried: How many of them it changes.
        stacked: How many differ from update to update.
        options: For Inductor.
    """
    operations = {str(node.target) for node in once.graph.nodes if node.op == "call_function"}
    if sum(tensor.nbytes for tensor in given) > SMALL or any(map(_LIBRARY.search, operations)):
        return None
    try:
        return _Replay(_written_down(once, given, options), carried, stacked, options)
    except Exception:  # whatever another torch says to this: its own loop remains, and says what is wrong with that
        return None


def _written_down(once: Any, given: Sequence[Tensor], options: dict[str, Any]) -> _Update:
    """Compile an update, and write down what it does instead of doing it."""
    from torch._inductor.async_compile import AsyncCompile  # noqa: PLC0415  (the compiler takes a second to import)
    from torch._inductor.compile_fx import compile_fx  # noqa: PLC0415

    # Zeros: loops that were compiled before, and are found in a cache, compute on them.
    inputs = [torch.empty_strided(t.shape, t.stride(), dtype=t.dtype).zero_() for t in given]
    calls: _Calls = []
    with _ONE_AT_A_TIME, _replaced(AsyncCompile, "cpp_pybinding", lambda _, types, source: _Loops(types, source)):
        whole: Any = compile_fx(copy.deepcopy(once), list(given), config_patches={**options, "cpp_wrapper": False})
        token = _CALLS.set(calls)
        try:
            with _NothingElse():  # type: ignore[no-untyped-call]
                outputs = list(whole(*inputs))
        finally:
            _CALLS.reset(token)
    return _Update(inputs, calls, outputs)


class _NothingElse(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses every operation of torch: what calls one is not made of loops alone."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise _NotLoops


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _loaded(types: Sequence[str], source: str, options: dict[str, Any]) -> Any:
    from torch._inductor import codecache, config  # noqa: PLC0415  (the compiler takes a second to import)

    with config.patch(options):
        return codecache.CppPythonBindingsCodeCache.load_pybinding(types, source)


class _Replay:
    """The calls of one update as a function that makes any number of them.

    Each tensor is known by its memory: that of the inputs is given anew with every call, the rest is kept from the
    one time that the calls were written down, and used again by every update.
    """

    def __init__(self, update: _Update, carried: int, stacked: int, options: dict[str, Any]) -> None:
        inputs, calls, outputs = update.inputs, update.calls, update.outputs
        self._inputs, self._carried, self._stacked = inputs, inputs[:carried], slice(carried, carried + stacked)
        likes = [(tensor, tensor.stride()) for tensor in inputs]
        self._rows, self._fixed = likes[self._stacked], likes[:carried] + likes[self._stacked.stop :]
        self._reports = outputs[carried:]
        self._memory = {_memory(tensor): number for number, tensor in enumerate(inputs)}
        if not calls or len(self._memory) != len(inputs):  # empty tensors have no memory
            raise _NotLoops
        self._kept: list[Tensor] = []
        loops = list(dict.fromkeys(function for function, _ in calls))
        body = [self._call(loops.index(function), function.types, arguments) for function, arguments in calls]
        body += [self._change(number, made) for number, made in enumerate(outputs[:carried])]
        body += [self._report(number, made) for number, made in enumerate(self._reports)]
        types, source = self._written([_renamed(f.source, number) for number, f in enumerate(loops)], body)
        self._function = _loaded(types, source, options)

    def __call__(self, flat: list[Tensor]) -> list[Tensor]:
        """Make updates; see :data:`torchflow.compiled.machine.Machine`."""
        rows, carried = len(self._rows), len(self._carried)
        fixed = [
            tensor if tensor.stride() == strides else _laid_out(tensor, like, ())
            for tensor, (like, strides) in zip(flat[:-rows], self._fixed, strict=True)
        ]
        stacked = [
            tensor if tensor.stride()[1:] == strides else _laid_out(tensor, like, tensor.shape[:1])
            for tensor, (like, strides) in zip(flat[-rows:], self._rows, strict=True)
        ]
        updates, steps = stacked[0].shape[0], [tensor.stride(0) * tensor.itemsize for tensor in stacked]
        reports = [torch.empty((updates, *report.shape), dtype=report.dtype) for report in self._reports]
        self._function(updates, *self._carried, *stacked, *fixed[carried:], *self._kept, *fixed[:carried], *steps, *reports)
        return [*self._carried, *reports]

    def _call(self, number: int, types: Sequence[str], arguments: Sequence[Any]) -> str:
        """Return a call of loops in C++."""
        return f"loops_{number}({', '.join(map(self._argument, types, arguments))});"

    def _argument(self, kind: str, value: Any) -> str:
        if isinstance(value, Tensor):
            return f"({kind})({self._place(value)})"
        if type(value) is not int:
            raise _NotLoops
        return f"({kind}){value}LL"

    def _place(self, tensor: Tensor) -> str:
        """Return where a tensor begins, as C++; what is no input's memory is kept."""
        memory = _memory(tensor)
        if memory not in self._memory:
            self._memory[memory] = len(self._memory)
            self._kept.append(torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()))
        return f"t{self._memory[memory]} + {tensor.storage_offset() * tensor.itemsize}"

    def _change(self, number: int, made: Tensor) -> str:
        """Return what puts a new value in the old one's place."""
        old = self._inputs[number]
        same = (made.shape, made.stride(), made.dtype) == (old.shape, old.stride(), old.dtype)
        if not same or not _is_dense(made) or self._memory.get(_memory(made), len(self._inputs)) < len(self._inputs):
            raise _NotLoops
        return f"memcpy(t{number}, {self._place(made)}, {made.nbytes});"

    def _report(self, number: int, made: Tensor) -> str:
        """Return what adds to a report."""
        if not made.is_contiguous():
            raise _NotLoops
        return f"memcpy(r{number}, {self._place(made)}, {made.nbytes}); r{number} += {made.nbytes};"

    def _written(self, loops: list[str], body: list[str]) -> tuple[list[str], str]:
        """Return the types of the function's arguments, and the function in C++."""
        carried, differs = range(len(self._carried)), range(self._stacked.start, self._stacked.stop)
        names = [f"char* t{number}" for number in range(len(self._memory))] + [f"char* first{number}" for number in carried]
        names += [f"int64_t step{number}" for number in differs] + [f"char* r{number}" for number in range(len(self._reports))]
        begin = [f"memcpy(t{number}, first{number}, {self._carried[number].nbytes});" for number in carried]
        moves = [f"t{number} += step{number};" for number in differs]
        lines = [
            *(_BEGIN, *loops),
            f'extern "C" void kernel({", ".join(["int64_t updates", *names])}) {{',
            *("OthersMayRun others;", *begin),
            *("for (int64_t update = 0; update < updates; ++update) {", *body, *moves, "}", "}"),
        ]
        return ["int64_t", *[name.rpartition(" ")[0] for name in names]], "\n".join(lines)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _laid_out(tensor: Tensor, like: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return a tensor whose numbers lie as the loops expect them, those of one update after those of another."""
    strides = [like.numel() for _ in sizes]
    return torch.empty_strided((*sizes, *like.shape), (*strides, *like.stride()), dtype=like.dtype).copy_(tensor)


def _is_dense(tensor: Tensor) -> bool:
    """Say whether a tensor's numbers lie one after the other, in whatever order."""
    return 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) == tensor.numel()


def _renamed(source: str, number: int) -> str:
    """Return loops under a name of their own, free to be put where they are called."""
    renamed, count = _HEAD.subn(f"static inline void loops_{number}(", source)
    if count != 1:
        raise _NotLoops
    return renamed
