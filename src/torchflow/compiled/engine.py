"""Compiled updates: one captured update, run many times by one call of machine code.

The updates of an epoch lie on a fixed grid from its start, ``k`` to a group. A group is one call over its stacked batches, and one
event. What does not fit (the update in which optimizers make their state, and a last, shorter batch) is made uncompiled, by
one rule on both sides of a resume.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchflow.compiled.capture import Captured, Place, capture
from torchflow.compiled.groups import Group, Windows, grouped, groups_ahead
from torchflow.compiled.looking import look
from torchflow.compiled.machine import Machine, compile_updates
from torchflow.compiled.rates import Rates, refuse_moving_momentum
from torchflow.compiled.reasons import Uncapturable, Unprimed
from torchflow.compiled.values import Values
from torchflow.device import move, out_of_memory
from torchflow.events import Stepped
from torchflow.hooks import Callback
from torchflow.intervals import Progress
from torchflow.run import Run
from torchflow.tree import map_leaves
from torchflow.updating import Counted, mean_metrics, total_count

_LOG = logging.getLogger("torchflow")


@dataclass
class _Ready:
    """One captured update, its machine code, and the live tensors that both read and change."""

    captured: Captured
    machine: Machine
    values: Values

    def __post_init__(self) -> None:
        live, changed = self.values.live(), set(self.captured.changed)
        self.carried = [live[i] for i in self.captured.changed]
        self._known = [*(value for i, value in enumerate(live) if i not in changed), *self.captured.constants]

    def __call__(self, stacked: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Make updates; return what :attr:`carried` becomes, and the stacked reports. Nothing is changed yet."""
        made, count = list(self.machine([*self.carried, *self._known, *stacked])), len(self.carried)
        return made[:count], made[count:]


class CompiledUpdates:
    """Makes the updates of a run as groups; see the module.

    Args:
        size: Updates of a group.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._machines: dict[Any, tuple[Captured, Machine]] = {}
        self._ready: _Ready | None = None
        self._refused = False
        self._validated = -1
        self._rates: Rates | None = None
        self._ahead = 0
        self._changing = False

    def windows(
        self, run: Run[Any, Any], single: Callable[[Run[Any, Any]], Windows]
    ) -> Generator[tuple[Group | list[Any], bool], None, None]:
        """Yield groups for :meth:`update`, and lists of batches for an uncompiled one; and whether the epoch ends with each.

        Args:
            run: The run.
            single: The windows of an epoch one by one.
        """
        self._ready = None  # what may have changed since the last epoch is looked at anew
        self._changing = _changed_at_every_update(run)
        self._ahead = self._ahead or groups_ahead(run, self._size)
        for window, last in single(run) if self._refused else grouped(run, self._size, self._ahead, single):
            if isinstance(window, list):
                yield window, last
            else:
                yield from self._prepared(run, window, last)

    def _prepared(self, run: Run[Any, Any], group: Group, last: bool) -> Iterator[tuple[Group | list[Any], bool]]:
        """Yield a group where it can be made at once, or else its updates one by one until it can."""
        if self._changing or self._validated != run.progress.validated:
            self._ready, self._validated = None, run.progress.validated
        while group.updates:
            try:
                if not self._refused:
                    self._ready = self._ready or self._made_ready(run, group)
                    yield group, last
                    return
            except Unprimed:
                pass
            except Uncapturable as reason:
                self._refused = True
                _LOG.warning("torchflow: compile= does nothing in this run: %s.", reason)
            first, group = group.split(1)
            yield first.window(0), last and not group.updates

    def update(self, run: Run[Any, Any], group: Group, single: Callable[[Run[Any, Any], list[Any]], Stepped]) -> Stepped:
        """Make the updates of a group. Where one is not finite, all are made anew one by one, as without compiling.

        Args:
            run: The run.
            group: Its next updates.
            single: Makes one update uncompiled.
        """
        ready, before = self._ready, run.progress
        assert ready is not None
        run.settled = False
        run.randomness.seed(before.updates, 0, run.accelerator)
        rates = self._rates
        if rates is None or not rates.serve(group.updates):
            rates = self._rates = Rates(run, group.updates)
        with rates:
            made, reports = self._called(run, ready, group, rates)
            if finite := bool((reports[-1] if group.updates == 1 else reports[-1].all()).item()):
                torch._foreach_copy_(ready.carried, made)
            else:
                rates.undo()
        if not finite:
            return _joined([single(run, group.window(number)) for number in range(group.updates)])
        parts = ready.captured.parts
        for part in parts:
            run.averages.add_many(*_resolved(part, reports))
        epoch, batch, updates, samples, validated = before
        batch, samples = batch + group.updates * group.accumulate, samples + group.updates * sum([part.samples for part in parts])
        run.previous, run.progress = before, Progress(epoch, batch, updates + group.updates, samples, validated)
        return _event(run, parts, reports, rates.last)

    def _called(self, run: Run[Any, Any], ready: _Ready, group: Group, rates: Rates) -> tuple[list[Tensor], list[Tensor]]:
        try:
            return ready([*_placed(run, group), rates.stacked])
        except Exception as error:
            if explained := out_of_memory(error, f"updates {run.progress.updates} to {run.progress.updates + group.updates}"):
                raise explained from error
            raise

    def _made_ready(self, run: Run[Any, Any], group: Group) -> _Ready:
        """Capture and compile, or find what was compiled for a run that looks like this."""
        refuse_moving_momentum(run)
        if run.custom_update is not None or run.by_closure or run.reactions.has("on_gradients"):
            raise Uncapturable("update=, L-BFGS and on_gradients see an update from inside")
        values = Values(run)
        signature = _signature(run, group)
        if signature not in self._machines:
            self._machines[signature] = self._compiled(run, values, group)
        return _Ready(*self._machines[signature], values)

    def _compiled(self, run: Run[Any, Any], values: Values, group: Group) -> tuple[Captured, Machine]:
        with Rates(run, group.updates) as rates:
            rates.undo()
        window = [move(batch, run.choices.device, run.choices.memory_format) for batch in group.window(0)]
        if not run.looked:
            look(run, window[0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the compiler warns of is its own, and would end it where warnings are errors
            captured = capture(run, values, window, rates.stacked[0])
            try:
                return captured, compile_updates(captured, values.live(), [*_placed(run, group), rates.stacked])
            except Exception as error:
                said = (str(error).strip().splitlines() or [""])[0]
                raise Uncapturable(f"the compiler failed ({type(error).__name__}: {said})") from error


def _changed_at_every_update(run: Run[Any, Any]) -> bool:
    """Say whether a callback may change what an update is from one to the next."""
    return any(c.changes_run and type(c).on_step_end is not Callback.on_step_end for c in run.callbacks.values())


def _placed(run: Run[Any, Any], group: Group) -> tuple[Tensor, ...]:
    """Return the batches of a group on the run's device, each in the layout that it would have by itself."""
    device, layout = run.choices.device, run.choices.memory_format
    if layout is None:
        return move(group.stacked, device)
    return tuple(torch.unflatten(move(leaf.flatten(0, 1), device, layout), 0, leaf.shape[:2]) for leaf in group.stacked)


def _signature(run: Run[Any, Any], group: Group) -> Any:
    """Return all that a captured update took for constant: it is captured anew where one of these has changed."""
    modules = tuple(module.training for module in run.model.modules())
    tensors = tuple(
        (name, t.requires_grad, t.shape, t.dtype) for name, t in [*run.model.named_parameters(), *run.model.named_buffers()]
    )
    choices = [{k: v for k, v in g.items() if k not in ("params", "lr")} for o in run.optimizers.values() for g in o.param_groups]
    states = [
        sorted(str(key) for key in optimizer.state.get(p, ()))
        for optimizer in run.optimizers.values()
        for g in optimizer.param_groups
        for p in g["params"]
    ]
    batches = tuple((leaf.shape[1:], leaf.dtype) for leaf in group.stacked)
    return modules, tensors, repr(choices), repr(states), batches


def _resolved(part: Counted, reports: Sequence[Tensor]) -> tuple[Tensor, int | Tensor, dict[str, Any]]:
    """Return the loss, the weight and the metrics of a part, with its tensors back in their places."""

    def report(leaf: Any) -> Any:
        return reports[leaf] if isinstance(leaf, Place) else leaf

    metrics = map_leaves(report, dict(part.metrics)) if part.metrics else {}
    return report(part.loss), report(part.weight), metrics


def _event(run: Run[Any, Any], parts: Sequence[Counted], reports: Sequence[Tensor], rates: dict[str, float]) -> Stepped:
    """Return the event of a group: its last update, and the losses of all."""
    metrics: Mapping[str, Tensor] = {}
    counts: Tensor | None = None
    loss, count = reports[0][-1], parts[0].weight
    if len(parts) > 1 or parts[0].metrics or isinstance(count, Place):
        last = [report[-1] for report in reports]
        final = [Counted(values, own, weight, part.samples) for part in parts for own, weight, values in [_resolved(part, last)]]
        metrics, count = mean_metrics(final), total_count(final)
        if isinstance(count, Tensor):
            counts = torch.as_tensor(sum(_resolved(part, reports)[1] for part in parts))
    return Stepped(run.progress, loss, metrics, count, rates, 0, reports[0], counts)


def _joined(steps: Sequence[Stepped]) -> Stepped:
    """Return the events of updates that were made one by one as the event of their group."""
    losses, counts = torch.stack([step.loss for step in steps]), [step.count for step in steps]
    each = torch.stack([torch.as_tensor(count, device=losses.device) for count in counts])
    return steps[-1]._replace(skipped=sum(step.skipped for step in steps), group=losses, group_counts=each)
