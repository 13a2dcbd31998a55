"""Arguments that a function does not have: what was probably meant, and what to write instead.

Python's own error only says that the argument is unexpected. Whoever comes from another library knows what is wanted by the
name that it has there, so the commonest of those names are known here.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from typing import Any

from torchflow.arguments import shown
from torchflow.errors import ArgumentTypeError
from torchflow.types import F

# By what has the argument: what to write, and what it is called elsewhere.
_MEANT: Mapping[str, Mapping[str, str]] = {
    "fit": {
        "epochs=10": "epoch max_epochs n_epochs num_epochs num_train_epochs nb_epoch",
        "max_updates=1000": "max_steps num_steps total_steps num_training_steps max_iters max_iterations",
        "max_seconds=600": "max_time time_limit",
        "batch_size=32": "per_device_train_batch_size train_batch_size",
        "shuffle=False": "",
        "last_batch='drop'": "drop_last dataloader_drop_last",
        "workers=2": "num_workers n_workers dataloader_num_workers",
        "collate=...": "collate_fn data_collator",
        "validation=valid": "validation_data validation_set val_data val_dataset val_loader val_dataloader val_dataloaders val valid "
        "valid_data valid_dataset valid_loader eval_dataset eval_set",
        "validate=Every(epochs=1)": "validation_freq check_val_every_n_epoch val_check_interval eval_steps eval_strategy",
        "resume=True": "ckpt_path resume_from_checkpoint",
    },
    "Trainer": {
        "optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3)": "optimizers opt optim lr learning_rate weight_decay",
        "scheduler=lambda optimizer: ...": "lr_scheduler lr_schedulers schedulers lr_scheduler_type",
        "accumulate=4": "accumulate_grad_batches gradient_accumulation_steps accumulation_steps",
        "clip_norm=1.0": "gradient_clip_val max_grad_norm clipnorm global_clipnorm",
        "clip_value=1.0": "clipvalue",
        "callbacks=[...]": "callback logger loggers",
        "checkpoints='runs/name'": "output_dir default_root_dir checkpoint_dir save_dir enable_checkpointing",
        "progress=False": "verbose enable_progress_bar disable_tqdm",
        "device='cuda'": "accelerator devices gpus gpu use_cpu",
        "precision='bf16'": "bf16 fp16 amp use_amp mixed_precision",
        "compile=True": "jit_compile torch_compile",
        "activation_checkpointing=['layers.*']": "gradient_checkpointing",
        "deterministic=True": "full_determinism",
        "seed=0": "random_seed random_state seed_everything",
    },
    "Every": {
        "updates=1": "update step steps batch batches iterations",
        "samples=1000": "sample",
        "seconds=60": "second minutes",
    },
    "EarlyStopping": {
        "metric='valid/loss'": "monitor",
        "restore_best=True": "restore_best_weights",
        "target=0.9": "baseline stopping_threshold",
        "divergence=10.0": "divergence_threshold",
        "start_after=3": "start_from_epoch",
    },
    "Checkpoints": {
        "best='valid/loss'": "monitor save_best_only metric_for_best_model",
        "folder='runs/name'": "dirpath filepath path directory",
        "keep=2": "save_top_k save_total_limit max_to_keep",
        "every=Every(epochs=1)": "every_n_epochs every_n_train_steps save_freq save_steps save_strategy",
    },
}

# What goes elsewhere than into an argument of these.
_SAID: Mapping[str, str] = {
    "Give the loss to the step: Trainer(supervised(nn.MSELoss()), optimizer=...).": "loss loss_fn loss_function criterion",
    "Give metrics to the step: supervised(nn.MSELoss(), metrics={'distance': torchflow.metrics.absolute_error}).": "metrics compute_metrics",
    "Give the data as the second argument, such as a pair (inputs, targets), a Dataset or a DataLoader.": "x y data datamodule dataset "
    "dataloader dataloaders train_data train_dataset train_loader train_dataloader train_dataloaders test_dataloaders",
    "Give the model to fit: Trainer(step, optimizer=...).fit(model, train, epochs=10).": "model",
    "Split the data: train, valid = dataset.split(0.8, 0.2, seed=0), and fit(model, train, validation=valid).": "validation_split",
    "Give the weights to the loss: supervised(nn.CrossEntropyLoss(weight=weights)).": "class_weight",
}


def explained(remedy: str) -> Callable[[F], F]:
    """Return a decorator: a call with arguments that there are not says what to write, instead of what Python says.

    Args:
        remedy: What to write where there are too many arguments without a name; ``{}`` stands for the first that is too many.
    """

    def decorate(function: F) -> F:
        if isinstance(function, type):
            kind: Any = function
            kind.__init__ = _checked(kind.__init__, kind.__name__, remedy)
            return function
        name = function.__qualname__.removesuffix(".__init__").rpartition(".")[2]
        made: F = _checked(function, name, remedy)
        return made

    return decorate


def refuse(verb: str, name: str, known: Collection[str], otherwise: str = "") -> None:
    """Refuse an argument that a function does not have.

    Args:
        verb: The function.
        name: The argument that it was given.
        known: Those that it has.
        otherwise: What the message says where nobody knows what was meant; by default, what there is.

    Raises:
        ArgumentTypeError: Always.
    """
    raise ArgumentTypeError(f"{verb} has no argument {name!r}. {_meant(verb, name, known) or otherwise or _listed(known)}")


def _checked(function: Any, verb: str, remedy: str) -> Any:
    parameters = inspect.signature(function).parameters.values()
    known = [one.name for one in parameters if one.name != "self"]
    places = sum(one.kind is not one.KEYWORD_ONLY for one in parameters)
    own = len(parameters) - len(known)

    @functools.wraps(function)
    def checked(*given: Any, **named: Any) -> Any:
        if len(given) > places:
            first = shown(given[places]).rpartition(" (")[0]
            raise ArgumentTypeError(
                f"{verb} takes {places - own or 'no'} argument{'s' * (places - own > 1)} without a name, got {len(given) - own}. "
                f"{remedy.replace('{}', first)}"
            )
        for name in named:
            if name not in known:
                refuse(verb, name, known)
        return function(*given, **named)

    return checked


def _meant(verb: str, name: str, known: Collection[str]) -> str:
    """Return what to write for an argument that is called otherwise elsewhere or was mistyped; empty where nobody knows."""
    for owner in dict.fromkeys((verb, "fit", "Trainer")):
        for text, names in _MEANT.get(owner, {}).items():
            argument = text.partition("=")[0]
            if name == argument or name in names.split():
                return f"Write {text}." if argument in known else f"Write {text} in {owner}."
    for text, names in _SAID.items():
        if name in names.split():
            return text
    close = get_close_matches(name, known, n=1, cutoff=0.75)
    return f"Write {close[0]}=." if close else ""


def _listed(known: Collection[str]) -> str:
    return f"It takes {', '.join(known)}."
