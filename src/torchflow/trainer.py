"""The roof: a Trainer holds the choices, and makes runs of them."""

from __future__ import annotations

import contextlib
import copy
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, Unpack

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchflow import arguments, building, interruption
from torchflow.blueprint import Blueprint, checked_checkpoints, group_size, recipes
from torchflow.callbacks.checkpoints import Checkpoints
from torchflow.callbacks.history import History, history_of
from torchflow.choices import Choices, refuse_together
from torchflow.data.bucketing import Bucketed
from torchflow.data.interop import named_data
from torchflow.data.reading import Reading
from torchflow.data.workers import Workers
from torchflow.device import check_memory_format, resolve
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.evaluation import evaluate_batches, predict_batches
from torchflow.events import Finished
from torchflow.hooks import Callback
from torchflow.intervals import Every, Progress
from torchflow.keywords import explained
from torchflow.limits import Limits
from torchflow.loop import events
from torchflow.microbatches import check_microbatch
from torchflow.options import FitOptions, limits_of
from torchflow.precision import check_matmul_precision, check_precision
from torchflow.recomputing import check_rule
from torchflow.run import Run
from torchflow.saving import Resume
from torchflow.schedule import Schedule, SchedulerRecipe
from torchflow.step import Outputs, Step
from torchflow.steps import Steps, checked_step
from torchflow.types import B, Data, LastBatch, M, OptimizerRecipe
from torchflow.updates import Updates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torchflow.rehearsal import Rehearsal
    from torchflow.run_plan import RunPlan

NONFINITE = ("raise", "skip")


@dataclass(frozen=True, slots=True)
class Result(Generic[M]):
    """What :meth:`Trainer.fit` returns.

    Attributes:
        model: What was trained.
        reason: Why the run ended, in one sentence.
        history: The metrics of every epoch and validation.
        progress: How far the run came.
        judged: What early stopping, checkpoints and other callbacks judged by: the updates at its best value, by the metric's full name.
    """

    model: M
    reason: str
    history: History
    progress: Progress
    judged: Mapping[str, int] = field(default_factory=dict)

    def plot(self, path: str | os.PathLike[str] | None = None, names: list[str] | None = None) -> Figure:
        """Draw the curves of the history with the end, its reason and the best of what was judged; see :func:`torchflow.plots.history`."""
        from torchflow import plots  # noqa: PLC0415  (a run does without plots)

        return plots.history(self, path, names)

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {value:.4g}" for name, value in self.history.last.items())
        return f"Result({self.reason}; {self.progress.updates} updates{'; ' + last if last else ''})"


class Trainer(Generic[M, B]):
    """Trains models: holds the mathematics and the hardware of a training, while data and duration belong to ``fit``.

    A Trainer is reusable: every fresh ``fit`` makes a new run and puts the callbacks back to their state at construction.

    Args:
        step: The mathematics, ``(model, batch) -> loss`` or ``Outputs``; :func:`torchflow.supervised` builds the common one. Or a
            mapping of steps, each with the optimizer of its name, as a GAN wants: an update takes them in their order, each with
            the parameters as the one before has left them, and gradients for its own optimizer's parameters alone.
        optimizer: A recipe ``(model) -> Optimizer``, a mapping of named recipes, or an optimizer of the model's parameters.
        scheduler: A recipe ``(optimizer) -> LRScheduler``, which steps once an epoch, or a :class:`torchflow.Schedule`; a
            mapping of them where there are several optimizers.
        update: The user's own way to make an update, ``(run, batches) -> loss`` or ``Outputs``; it steps the optimizers
            itself. None is the standard one.
        accumulate: Batches of an update. They are weighed by their counts, so an update is that of one large batch.
        microbatch: The most samples of a batch that go through the step at once, for less memory: each batch is cut into pieces that are
            weighed by their counts, so an update is that of the whole batch, to rounding. ``"auto"`` cuts where the memory does not suffice:
            pieces are halved until they fit, the same update is made again, and the size is kept for the rest of the run. None: whole batches.
        clip_norm: The largest 2-norm of all gradients together; None does not clip.
        clip_value: The largest magnitude of one gradient element; None does not clip. Applied after ``clip_norm``.
        callbacks: A list of callbacks, or a mapping from names.
        checkpoints: Where and when to save; nothing is written without it.
        progress: True shows a progress bar or lines, False is silent, None shows it.
        nonfinite: What happens to an update whose loss or gradient is NaN or infinite: ``"raise"`` or ``"skip"``. Either way
            no parameter is touched by it. Of several steps, it and those after it are not taken; those before it were.
        device: ``"auto"``, a name such as ``"cuda:0"``, or a device.
        precision: ``"float32"``: the dtypes of the model and the data as they are. ``"bf16"`` or ``"fp16"``: weights stay in
            float32, and forward passes (of training, evaluation and prediction) compute in bfloat16 or float16 where torch's
            autocast says so; fp16 scales its losses, and an update in which a gradient overflows is dropped and counted in
            ``Stepped.skipped``. ``"float64"``: the model is converted, as by ``model.double()``, and stays so; every
            floating-point tensor of a batch is converted on its way to the step.
        matmul_precision: How products of float32 matrices are computed during every call: ``"highest"``, ``"high"`` (TF32, where
            the device has it) or ``"medium"``; None leaves torch's setting as it is.
        activation_checkpointing: Which modules forget their activations after the forward pass and compute them again in the
            backward pass, for less memory and a longer update of equal bits: names or patterns of names as in
            ``model.named_modules()``, or a function ``(module) -> bool``. The model is as it was after the call.
        memory_format: ``"channels_last"`` lays images and the weights of convolutions out as most kernels for them want it; L-BFGS
            cannot work on such weights.
        compile: True makes every update, from the forward pass to the optimizer's step, by one call of compiled code;
            ``Updates(32)`` makes 32 by one call, which are one event. Results agree with uncompiled ones to rounding.
        deterministic: True holds torch to deterministic kernels during every call and refuses others; None does so on the
            CPU and only warns; False leaves torch as it is.
        seed: The seed of every random stream of a run, but for first weights that were made before.

    Raises:
        ArgumentTypeError: An argument has the wrong type.
        ArgumentValueError: An argument has an impossible value, or two do not go together: fp16 or ``microbatch`` with ``update=``;
            these or ``activation_checkpointing`` with ``compile=``; several steps with any of them but ``activation_checkpointing``.
        DeviceError: The device is not there, or does not compute in the precision.
    """

    @explained("Write the others by name: Trainer(step, optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3)).")
    def __init__(
        self,
        step: Step[M, B] | Mapping[str, Step[M, B]],
        *,
        optimizer: OptimizerRecipe[M] | Optimizer | Mapping[str, OptimizerRecipe[M] | Optimizer],
        scheduler: SchedulerRecipe | Schedule | Mapping[str, SchedulerRecipe | Schedule] | None = None,
        update: Callable[[Run[M, B], Sequence[B]], Tensor | Outputs] | None = None,
        accumulate: int = 1,
        microbatch: int | Literal["auto"] | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        callbacks: Sequence[Callback] | Mapping[str, Callback] = (),
        checkpoints: Checkpoints | str | os.PathLike[str] | None = None,
        progress: bool | None = None,
        nonfinite: Literal["raise", "skip"] = "raise",
        device: str | torch.device = "auto",
        precision: str = "float32",
        matmul_precision: str | None = None,
        activation_checkpointing: str | Sequence[str] | Callable[[torch.nn.Module], bool] | None = None,
        memory_format: Literal["channels_last"] | None = None,
        compile: bool | Updates = False,
        deterministic: bool | None = None,
        seed: int = 0,
    ) -> None:
        checked, named = checked_step(step, optimizer), building.named_callbacks(callbacks)
        own_update = None if update is None else arguments.function("update", update)
        for reserved in {"history", "progress_bar", "checkpoints"} & set(named):
            raise ArgumentValueError(
                f"a callback called {reserved!r} is always made by the Trainer; see its checkpoints= and progress=."
            )
        where = resolve(device)
        choices = Choices(
            accumulate=arguments.whole("accumulate", accumulate),
            clip_norm=None if clip_norm is None else arguments.real("clip_norm", clip_norm, above=0.0),
            clip_value=None if clip_value is None else arguments.real("clip_value", clip_value, above=0.0),
            nonfinite=arguments.one_of("nonfinite", nonfinite, NONFINITE),
            precision=check_precision(precision, where),
            deterministic=None if deterministic is None else arguments.flag("deterministic", deterministic),
            device=where,
            seed=arguments.seed("seed", seed),
            memory_format=check_memory_format(memory_format),
            group=group_size(compile),
            matmul_precision=check_matmul_precision(matmul_precision),
            recomputed=check_rule(activation_checkpointing),
            microbatch=check_microbatch(microbatch),
        )
        refuse_together(choices, own_update, several=isinstance(checked, Steps))
        self._blueprint: Blueprint[M, B] = Blueprint(
            step=checked,
            optimizer=recipes("optimizer", optimizer, Optimizer),
            scheduler=None if scheduler is None else recipes("scheduler", scheduler, Schedule),
            update=own_update,
            callbacks=named,
            at_construction={name: copy.deepcopy(dict(callback.state())) for name, callback in named.items()},
            checkpoints=checked_checkpoints(checkpoints),
            progress=True if progress is None else arguments.flag("progress", progress),
            choices=choices,
        )

    @property
    def step(self) -> Step[M, B]:
        """The mathematics."""
        return self._blueprint.step

    @property
    def choices(self) -> Choices:
        """The numbers and names that the loop looks at, as they were chosen."""
        return self._blueprint.choices

    @explained("Write fit(model, (inputs, targets), epochs=10), and validation=(inputs, targets).")
    def fit(
        self,
        model: M | Callable[[], M],
        train: Data[B],
        *,
        epochs: int | None = None,
        max_updates: int | None = None,
        max_seconds: float | None = None,
        batch_size: int | None = None,
        shuffle: bool | Bucketed | None = None,
        last_batch: LastBatch = "keep",
        workers: int | Workers = 0,
        collate: Callable[[list[Any]], B] | None = None,
        validation: Data[B] | Mapping[str, Data[B]] | None = None,
        validate: Every | None = None,
        resume: bool | Resume = False,
    ) -> Result[M]:
        """Train a model in place.

        Args:
            model: The model, or a recipe that is called under a key of the seed.
            train: The training data: a dataset, a tuple or dict of tensors, anything with a length and items, or an
                iterable of batches such as a DataLoader.
            epochs: Epochs in all, counted from the run's first.
            max_updates: Updates in all.
            max_seconds: Seconds of this call; outside the promise of equal runs.
            batch_size: Samples of a batch; 32 by default.
            shuffle: Whether every epoch has an order of its own, True by default; or :class:`torchflow.data.Bucketed`, by length.
            last_batch: What becomes of a last, short batch: ``"keep"``, ``"drop"`` or ``"pad"``.
            workers: How many threads or processes read ahead, or a :class:`torchflow.data.Workers`; 0 reads inline. The results are
                the same.
            collate: From a list of samples to a batch.
            validation: One dataset (``"valid/loss"``) or a mapping of named ones.
            validate: When to validate; after every epoch by default.
            resume: Go on with the newest good checkpoint of ``checkpoints`` where there is one; ``Resume(override=["lr"])``
                says what has changed on purpose.

        Returns:
            The model, the reason of the end, the history and the progress.

        Raises:
            ArgumentTypeError: No duration is given, or an argument has the wrong type.
            ArgumentValueError: An argument has an impossible value.
            CallbackError: A callback raised.
            DataError: The data is not what it was taken for.
            MismatchError: The checkpoint to resume belongs to another run.
            NonFiniteError: A loss or a gradient is NaN or infinite.
            StepError: The step returned something that cannot be trained on.
        """
        limits = limits_of("fit", {"epochs": epochs, "max_updates": max_updates, "max_seconds": max_seconds})
        going_on = self._blueprint.resume_of(resume)
        reading = Reading(batch_size, shuffle, last_batch, workers, collate)
        run = self._blueprint.run(model, train, reading, validation=validation, validate=validate, limits=limits)
        saver = self._blueprint.checkpoints
        try:
            if saver is not None:
                saver.open(run, going_on)
                run.saver = saver
            # Without a folder there is nothing to save, and signals do what they always do.
            with contextlib.nullcontext() if saver is None else interruption.listening():
                reason = _drained(run, limits)
        finally:
            run.close()
            if saver is not None:
                saver.close()
        found = [best for callback in run.callbacks.values() if (best := callback.best_at) is not None]
        return Result(run.model, reason, history_of(run), run.progress, dict(reversed(found)))  # of two for one metric, the first

    @explained("Write start(model, (inputs, targets)), and validation=(inputs, targets).")
    def start(
        self,
        model: M | Callable[[], M],
        train: Data[B],
        *,
        batch_size: int | None = None,
        shuffle: bool | Bucketed | None = None,
        last_batch: LastBatch = "keep",
        workers: int | Workers = 0,
        collate: Callable[[list[Any]], B] | None = None,
        validation: Data[B] | Mapping[str, Data[B]] | None = None,
        validate: Every | None = None,
    ) -> Run[M, B]:
        """Build a run without training it: one floor down, for :func:`torchflow.events` and :func:`torchflow.update`.

        Takes what :meth:`fit` takes except duration and resume, and raises what it raises before the first update. Saving
        is yours: :func:`torchflow.save` at any yield.
        """
        reading = Reading(batch_size, shuffle, last_batch, workers, collate)
        return self._blueprint.run(model, train, reading, validation=validation, validate=validate, limits=None)

    @explained("Write evaluate(model, (inputs, targets)).")
    def evaluate(
        self,
        model: M,
        data: Data[B] | Mapping[str, Data[B]],
        *,
        batch_size: int | None = None,
        workers: int | Workers = 0,
        collate: Callable[[list[Any]], B] | None = None,
    ) -> dict[str, float]:
        """Return the exact averages of the step's loss and metrics over every sample, without training.

        Args:
            model: The model; every module gets its own ``training`` flag back.
            data: The data, as in :meth:`fit`, or a mapping of named ones, as ``validation`` takes it; read in its own order.
            batch_size: Samples of a batch; 32 by default. Averages do not depend on it.
            workers: How many threads or processes read ahead.
            collate: From a list of samples to a batch.

        Returns:
            Values by name, such as ``{"loss": 0.0004}``; of named data ``{"near/loss": 0.0004, "far/loss": 0.02}``, each as if it were
            evaluated alone.

        Raises:
            ArgumentValueError: A name is no text, or holds a slash.
            DataError: The data is not what it was taken for.
            StepError: The step returned no scalar loss.
        """
        reading = Reading(batch_size, workers=workers, collate=collate)
        named = named_data(data, "a dataset")
        passes = {
            f"{name}/": self._blueprint.for_evaluation(model, one, "evaluate", reading, f"data[{name!r}]")
            for name, one in named.items()
        } or {"": self._blueprint.for_evaluation(model, data, "evaluate", reading)}
        values: dict[str, float] = {}
        try:
            with interruption.leaving_cleanly(), self.choices.kernels():
                step = self._blueprint.step_under_precision()
                for prefix, (batches, key) in passes.items():
                    found = evaluate_batches(step, model, batches, where=self.choices, key=key, microbatch=self.choices.pieces)
                    values |= {f"{prefix}{name}": value for name, value in found.items()}
        finally:
            for batches, _ in passes.values():
                batches.close()
        return values

    @explained("Write predict(model, inputs), and the others by name.")
    def predict(
        self,
        model: M,
        data: Data[B],
        *,
        forward: Callable[[M, B], Any] | None = None,
        batch_size: int | None = None,
        workers: int | Workers = 0,
        collate: Callable[[list[Any]], B] | None = None,
    ) -> Any:  # a tensor, or whatever tree of tensors the model predicts
        """Return the predictions of every sample, in dataset order, on the CPU.

        Args:
            model: The model; every module gets its own ``training`` flag back.
            data: The data, as in :meth:`fit`; read in its own order.
            forward: ``(model, batch) -> predictions``. Without it, a step of :func:`torchflow.supervised` calls the model as it does in
                training, with the inputs of ``(inputs, targets)`` or ``(inputs,)``, or with the batch as it is; of another step they are
                the ``Outputs.predictions``, so that data without targets needs ``forward``.
            batch_size: Samples of a batch; 32 by default.
            workers: How many threads or processes read ahead.
            collate: From a list of samples to a batch.

        Returns:
            A tensor of shape (samples, …), or the tree of tensors that the model gives; of a mixed precision in float32.

        Raises:
            DataError: The data is not what it was taken for.
            StepError: The step fills in no predictions, and ``forward`` is missing.
        """
        if forward is not None:
            arguments.function("forward", forward, hint="Write forward=lambda model, batch: model(batch).")
        batches, key = self._blueprint.for_evaluation(model, data, "predict", Reading(batch_size, workers=workers, collate=collate))
        try:
            with interruption.leaving_cleanly(), self.choices.kernels():
                return predict_batches(
                    self._blueprint.step_under_precision(),
                    model,
                    batches,
                    where=self.choices,
                    key=key,
                    forward=forward,
                    microbatch=self.choices.pieces,
                )
        finally:
            batches.close()

    def plan(self, model: M | Callable[[], M], train: Data[B], **options: Unpack[FitOptions]) -> RunPlan:
        """Say what :meth:`fit` would do with these arguments, when, and what it would take; nothing is changed.

        Four updates and a batch of each validation are made on copies, and measured; callbacks are named and not called.

        Args:
            model: The model, or its recipe.
            train: The training data; no iterator, which would be used up.
            options: As :meth:`fit` takes them.

        Returns:
            Every moment of the run, its memory and its time; the ``repr`` says it in words.

        Raises:
            ArgumentTypeError: As :meth:`fit`, or something cannot be copied.
            ArgumentValueError, DataError, NonFiniteError, StepError: As :meth:`fit`.
        """
        from torchflow.planning import plan_run  # noqa: PLC0415  (a run does without)

        return plan_run(self._blueprint, model, train, options)

    def rehearse(self, model: M | Callable[[], M], train: Data[B], **options: Unpack[FitOptions]) -> Rehearsal:
        """Go once through all that :meth:`fit` would do with these arguments, on copies and in a temporary folder.

        Two updates, of the first and the last batches of an epoch; a validation of the first and last batch of each; a checkpoint, and a
        second run that loads it and must be equal. Nothing is raised for what fails: the report says it. The callbacks are called, as
        copies that write into the temporary folder; what a function of yours sends or writes, such as that of ``Notify``, it does.

        Args:
            model: The model, or its recipe.
            train: The training data; no iterator, which would be used up.
            options: As :meth:`fit` takes them.

        Returns:
            What worked and what failed; ``rehearsal.ok``, and ``rehearsal.raise_for_failure()``.

        Raises:
            ArgumentTypeError: An argument has a name that ``fit`` does not know.
        """
        from torchflow.rehearsal import rehearse  # noqa: PLC0415  (a run does without)

        return rehearse(self._blueprint, model, train, options)


def blueprint_of(trainer: object) -> Blueprint[Any, Any]:
    """Return what a Trainer was given.

    Raises:
        ArgumentTypeError: It is no Trainer.
    """
    if not isinstance(trainer, Trainer):
        raise ArgumentTypeError(f"trainer must be a Trainer, got {arguments.shown(trainer)}.")
    return trainer._blueprint


def trainer_of(blueprint: Blueprint[M, B]) -> Trainer[M, B]:
    """Return a Trainer of what was checked before."""
    trainer: Trainer[M, B] = object.__new__(Trainer)
    trainer._blueprint = blueprint
    return trainer


def _drained(run: Run[Any, Any], limits: Limits) -> str:
    """Run to the end and return its reason."""
    every = events(run, epochs=limits.epochs, max_updates=limits.max_updates, max_seconds=limits.max_seconds)
    finished = deque(every, maxlen=1).pop()
    assert isinstance(finished, Finished)
    return finished.reason
