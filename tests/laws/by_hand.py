"""A training by hand: every option of the library in plain PyTorch, as its documentation writes it, with nothing left out."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, OneCycleLR, ReduceLROnPlateau, SequentialLR, StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, get_swa_multi_avg_fn

from tests.laws.choices_drawn import RECIPES, Drawn, StepOf
from tests.laws.problems import copied
from torchflow.data.batches import batches_of
from torchflow.intervals import Every, Progress
from torchflow.randomness import Keys, seed_globals
from torchflow.update_randomness import ForwardStream

CHANGING = {"ema", "ema of samples", "swa of epochs", "freeze", "freeze biases", "unfreeze", "unfreeze of epochs", "stopping"}
"""The callbacks that change a run and are written out here."""


class NotFinite(Exception):  # noqa: N818
    """A loss or a gradient is not finite."""


class ByHand:
    """One training; ``train`` makes it, and the attributes are what it leaves behind."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn, self.keys, self.step = drawn, Keys(drawn.seed), StepOf(drawn.step)
        self.model = drawn.model()
        if drawn.precision == "float64":
            self.model.double()
        if drawn.memory_format == "channels_last":
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not annotate it
        recipes = RECIPES[drawn.optimizer]
        recipes = recipes if isinstance(recipes, dict) else {"main": recipes}
        self.optimizers: dict[str, Any] = {name: recipe(self.model) for name, recipe in recipes.items()}
        self.schedulers = [self.scheduler(optimizer) for optimizer in self.optimizers.values()]
        self.scaler = torch.amp.GradScaler("cpu", enabled=drawn.precision == "fp16")
        self.forward = ForwardStream(self.keys, drawn.accumulate)
        averages = {
            "ema": get_ema_multi_avg_fn(0.8),
            "ema of samples": get_ema_multi_avg_fn(0.6),
            # A number: torch's own counter is a tensor, whose 1 / 3 has the precision of float32 in a model of float64, too.
            "swa of epochs": lambda averages, weights, n: get_swa_multi_avg_fn()(averages, weights, int(n)),
        }
        self.averages = {
            name: AveragedModel(self.model, multi_avg_fn=averages[name], use_buffers=name == "ema of samples")
            for name in drawn.changing
            if name in averages
        }
        self.at = Progress()
        self.best: tuple[float, Any] = (math.inf, None)
        self.stale, self.stopped, self.skipped = 0, False, 0
        self.validations: list[dict[str, float]] = []
        self.epochs: list[float] = []

    def left_behind(self) -> dict[str, Any]:
        left: dict[str, Any] = copied(
            {
                "model": self.model.state_dict(),
                "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
                "scaler": self.scaler.state_dict(),
                "averages": {
                    name: average.module.state_dict() for name, average in self.averages.items() if average.n_averaged > 0
                },
                "validations": self.validations,
                "epochs": self.epochs,
            }
        )
        return left

    def scheduler(self, optimizer: torch.optim.Optimizer) -> Any:
        total, rates = self.drawn.updates, [group["lr"] for group in optimizer.param_groups]
        kind = self.drawn.schedule
        if kind == "warm up":
            rise = LinearLR(optimizer, 1 / 2, total_iters=1)
            return SequentialLR(optimizer, [rise, CosineAnnealingLR(optimizer, total - 2)], milestones=[2])
        if kind == "one cycle":
            return OneCycleLR(optimizer, rates, total_steps=total, pct_start=0.3, cycle_momentum=False)
        if kind.startswith("plateau"):
            return ReduceLROnPlateau(optimizer, patience=0)
        if kind == "by epochs":
            return StepLR(optimizer, 1, 0.5)
        return CosineAnnealingLR(optimizer, 7) if kind == "by updates" else None

    def move_rates(self, *kinds: str, value: float | None = None) -> None:
        for scheduler in self.schedulers:
            if self.drawn.schedule in kinds:
                scheduler.step(*([] if value is None else [value]))

    def train(self) -> ByHand:
        drawn = self.drawn
        source = batches_of(drawn.train(), keys=self.keys, name="train", batch_size=drawn.batch_size, last_batch=drawn.last_batch)
        before_matmul = torch.get_float32_matmul_precision()
        if drawn.matmul_precision is not None:
            torch.set_float32_matmul_precision(drawn.matmul_precision)
        try:
            self.model.train()
            while self.at.epoch < drawn.epochs and not self.stopped:
                self.epoch(source)
        finally:
            torch.set_float32_matmul_precision(before_matmul)
        for name in drawn.changing:  # in their order: of two averages, the last is the model
            if name in self.averages and self.averages[name].n_averaged > 0:
                self.model.load_state_dict(self.averages[name].module.state_dict())
        if "stopping" in drawn.changing and self.best[1] is not None:  # and best weights have the last word, wherever they stand
            self.model.load_state_dict(self.best[1])
        return self

    def epoch(self, source: Any) -> None:
        losses: list[tuple[Tensor, Any]] = []
        windows = list(self.windows(source))
        for number, window in enumerate(windows):
            self.freeze()
            losses += self.update(window)
            before, last = self.at, number == len(windows) - 1
            samples = before.samples + sum(len(batch[0]) for batch in window)
            self.at = before._replace(batch=before.batch + len(window), updates=before.updates + 1, samples=samples)
            reached = self.at._replace(epoch=self.at.epoch + 1) if last else self.at
            for name, average in self.averages.items():
                due = {"ema": True, "ema of samples": Every(samples=7).reached(before, reached), "swa of epochs": last}[name]
                if due:
                    average.update_parameters(self.model)
            if self.drawn.validations and self.drawn.every.reached(before, reached):
                self.validate()
            if last:
                self.epochs.append(mean(losses))
                self.move_rates("plateau on train", value=self.epochs[-1])
                self.at = self.at._replace(epoch=self.at.epoch + 1, batch=0)
                self.move_rates("by epochs")
            if self.stopped:
                return

    def windows(self, source: Any) -> Iterator[list[Any]]:
        batches = [self.placed(batch) for batch in source.epoch(self.at.epoch)]
        for first in range(0, len(batches), self.drawn.accumulate):
            yield batches[first : first + self.drawn.accumulate]

    def placed(self, batch: Any) -> Any:
        x, y, index = batch
        if self.drawn.precision == "float64":
            x, y = x.double(), y.double()
        if self.drawn.memory_format == "channels_last" and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return x, y, index

    def freeze(self) -> None:
        """What trains, as a function of the progress."""
        changing = self.drawn.changing
        for name, parameter in self.model.named_parameters():
            body, middle = name.startswith("body."), name.startswith("middle.")
            parameter.requires_grad_(
                not (
                    ("freeze" in changing and body)
                    or ("freeze biases" in changing and name.endswith(".bias"))
                    or ("unfreeze" in changing and body and self.at.updates < 3)
                    or ("unfreeze of epochs" in changing and (body or middle) and self.at.epoch < 1)
                )
            )
        for module in self.model.modules():  # running statistics of a frozen part stay, too
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train(not ("unfreeze of epochs" in changing and self.at.epoch < 1))

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, Any]:
        lower = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.drawn.precision)
        with torch.autocast("cpu", lower, enabled=lower is not None, cache_enabled=False):
            outputs = self.step(model, batch)
        return outputs.loss, len(batch[0]) if outputs.count is None else outputs.count

    def gradients(self, window: list[Any]) -> list[tuple[Tensor, Any]]:
        self.model.zero_grad()
        parts = []
        cut = [self.pieces(batch) for batch in window]
        whole = sum(map(len, cut)) == 1
        for shard, pieces in enumerate(cut):
            seed_globals(self.forward(self.at.updates, shard))
            for piece in pieces:
                loss, count = self.loss(self.model, piece)
                self.scaler.scale(loss if whole else loss * count).backward()
                parts.append((loss.detach(), count))
        if not whole:
            for parameter in self.trained():
                parameter.grad /= sum(count for _, count in parts)
        return parts

    def pieces(self, batch: Any) -> list[Any]:
        """The batch in as few parts as are small enough, whose sizes differ by one at most."""
        number = -(-len(batch[0]) // (self.drawn.microbatch or len(batch[0])))
        borders = [len(batch[0]) * place // number for place in range(number + 1)]
        return [tuple(column[a:b].clone() for column in batch) for a, b in pairwise(borders)]

    def trained(self) -> list[Any]:
        return [parameter for parameter in self.model.parameters() if parameter.grad is not None]

    def clip(self) -> bool:
        """Clip by norm and then by value; return whether the gradients were finite before."""
        finite = all(bool(parameter.grad.isfinite().all()) for parameter in self.trained())
        if self.drawn.clip_norm is not None:
            finite &= bool(torch.nn.utils.clip_grad_norm_(self.trained(), self.drawn.clip_norm).isfinite())
        if self.drawn.clip_value is not None and self.trained():
            torch.nn.utils.clip_grad_value_(self.trained(), self.drawn.clip_value)
        return finite

    def update(self, window: list[Any]) -> list[tuple[Tensor, Any]]:
        """Make one update; return the losses that count, none where it was skipped."""
        parts: list[tuple[Tensor, Any]] = []
        try:
            if self.drawn.optimizer == "L-BFGS":
                self.optimizers["main"].step(lambda: self.evaluated(window, parts))
            else:
                self.evaluated(window, parts)
                for optimizer in self.optimizers.values():
                    optimizer.step()
        except NotFinite:
            self.skipped += 1
            return []
        if (self.at.updates + 1) % 2 == 0:
            self.move_rates("by updates")
        self.move_rates("warm up", "one cycle")
        return parts

    def evaluated(self, window: list[Any], first: list[tuple[Tensor, Any]]) -> Tensor:
        """Leave clipped gradients behind and return the mean loss; what is not finite is looked at in the first evaluation."""
        parts = self.gradients(window)
        looked_at = [optimizer for optimizer in self.optimizers.values() if self.holds_gradients(optimizer)]
        for optimizer in looked_at:
            self.scaler.unscale_(optimizer)
        finite = self.clip()
        if looked_at and self.scaler.is_enabled():
            self.scaler.update()
        good = all(math.isfinite(loss) for loss, _ in parts)
        if not first and not (good and finite):
            if self.drawn.nonfinite == "raise" and not (self.scaler.is_enabled() and good):
                raise OverflowError("a loss or a gradient is not finite, and is to be raised")
            raise NotFinite
        first += [] if first else parts
        return parts[0][0] if len(parts) == 1 else torch.stack([loss * n for loss, n in parts]).sum() / sum(n for _, n in parts)

    def holds_gradients(self, optimizer: torch.optim.Optimizer) -> bool:
        return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])

    def validate(self) -> None:
        seen: Any = self.model
        for name in self.drawn.changing:
            if name == "ema" and self.averages[name].n_averaged > 0:
                seen = self.averages[name].module
        model, values = copy.deepcopy(seen).eval(), {}
        for name, rows, seed in (("valid", 7, 5), ("other", 3, 6))[: self.drawn.validations]:
            seed_globals(self.keys(f"evaluation/{name}", self.at.updates))
            columns = [[part.clone() for part in column.split(self.drawn.batch_size)] for column in self.drawn.columns(rows, seed)]
            with torch.no_grad():
                pieces = [piece for batch in zip(*columns, strict=True) for piece in self.pieces(self.placed(batch))]
                values[name] = mean([self.loss(model, piece) for piece in pieces])
        self.validations.append(values)
        self.move_rates("plateau", value=values["valid"])
        if "stopping" in self.drawn.changing:
            self.judge(values["valid"], model)

    def judge(self, value: float, model: nn.Module) -> None:
        if value < self.best[0]:
            self.best, self.stale = (value, copy.deepcopy(model.state_dict())), 0
        else:
            self.stale += 1
        self.stopped = self.stale >= 2 or math.isnan(value)


def mean(losses: list[tuple[Tensor, Any]]) -> float:
    """The exact mean of losses by their counts, summed in float64."""
    if not losses:
        return math.nan
    counts = torch.tensor([float(count) for _, count in losses], dtype=torch.float64)
    return float((torch.stack([loss for loss, _ in losses]).double() * counts).sum()) / float(counts.sum())
