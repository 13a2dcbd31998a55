"""Arguments that a function does not have: the names of other libraries, typing errors, and what has no place."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.small import Untouched, columns, line, sgd, trainer
from torchflow import Checkpoints, EarlyStopping, Every, Trainer, cross_validate, supervised
from torchflow.errors import ArgumentTypeError
from torchflow.keywords import _MEANT, _SAID, explained, refuse

LOSS = nn.MSELoss()


def made(*given: Any, **named: Any) -> object:
    return Trainer(supervised(LOSS), *given, **{"optimizer": sgd(), **named})


TRAINER: Any = trainer()  # Any, because a type checker refuses all that follows


def fitted(*given: Any, **named: Any) -> object:
    return TRAINER.fit(line(), columns(), *given, **named)


WORDS: dict[str, tuple[Callable[[], object], str]] = {
    "Lightning's max_epochs in Trainer": (
        lambda: made(max_epochs=3),
        "Trainer has no argument 'max_epochs'. Write epochs=10 in fit.",
    ),
    "max_epochs in fit": (lambda: fitted(max_epochs=3), "fit has no argument 'max_epochs'. Write epochs=10."),
    "transformers' name": (lambda: fitted(num_train_epochs=3), "Write epochs=10."),
    "Keras' validation": (lambda: fitted(validation_data=columns()), "Write validation=valid."),
    "Lightning's validation": (lambda: fitted(val_dataloaders=[]), "Write validation=valid."),
    "transformers' validation": (lambda: made(eval_dataset=columns()), "Write validation=valid in fit."),
    "Keras' split": (lambda: fitted(validation_split=0.2), "train, valid = dataset.split(0.8, 0.2, seed=0)"),
    "epochs in Trainer": (lambda: made(epochs=3), "Write epochs=10 in fit."),
    "batch_size in Trainer": (lambda: made(batch_size=3), "Write batch_size=32 in fit."),
    "callbacks in fit": (lambda: fitted(callbacks=[]), "Write callbacks=[...] in Trainer."),
    "verbose": (lambda: fitted(verbose=0), "Write progress=False in Trainer."),
    "accumulation": (lambda: made(accumulate_grad_batches=4), "Write accumulate=4."),
    "clipping": (lambda: made(gradient_clip_val=1.0), "Write clip_norm=1.0."),
    "a learning rate": (lambda: made(lr=0.1), "Write optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=1e-3)."),
    "a loss": (lambda: made(loss="mse"), "Give the loss to the step: Trainer(supervised(nn.MSELoss()), optimizer=...)."),
    "metrics": (lambda: made(metrics=["mae"]), "Give metrics to the step: supervised("),
    "the model": (lambda: made(model=line()), "Give the model to fit"),
    "data by name": (lambda: fitted(x=1), "Give the data as the second argument"),
    "loaders of evaluate": (lambda: TRAINER.evaluate(line(), dataloaders=1), "Give the data as the second argument"),
    "resuming": (lambda: fitted(epochs=3, ckpt_path="last"), "Write resume=True."),
    "the plan's": (lambda: TRAINER.plan(line(), columns(), max_epochs=3), "plan has no argument 'max_epochs'. Write epochs=10."),
    "the folds'": (
        lambda: cross_validate(trainer(), line, columns(), num_epochs=3),  # type: ignore[call-arg]
        "cross_validate has no argument 'num_epochs'. Write epochs=10.",
    ),
    "what folds are themselves": (
        lambda: cross_validate(trainer(), line, columns(), epochs=1, validation=columns()),  # type: ignore[call-arg]
        "cross_validate has no argument 'validation'. Beside its own it takes those of fit: epochs, max_updates",
    ),
    "monitor of early stopping": (lambda: EarlyStopping(monitor="val_loss"), "Write metric='valid/loss'."),  # type: ignore[call-arg]
    "monitor of checkpoints": (lambda: Checkpoints("runs", monitor="val_loss"), "Write best='valid/loss'."),  # type: ignore[call-arg]
    "steps of an interval": (lambda: Every(steps=3), "Write updates=1."),  # type: ignore[call-arg]
    "a typing error": (lambda: fitted(validatoin=columns()), "fit has no argument 'validatoin'. Write validation=."),
    "nothing that is known": (
        lambda: fitted(colour="red"),
        "fit has no argument 'colour'. It takes model, train, epochs, max_updates",
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_an_argument_that_is_called_otherwise_says_what_to_write(name: str) -> None:
    make, words = WORDS[name]
    with pytest.raises(ArgumentTypeError) as raised:
        make()
    assert words in str(raised.value)


PLACES: dict[str, tuple[Callable[[], object], str]] = {
    "an interval": (
        lambda: Every(5),  # type: ignore[call-arg]
        "Every takes no argument without a name, got 1. Write Every(updates=5) or Every(epochs=5).",
    ),
    "Keras' targets": (
        lambda: fitted(columns()[1], epochs=1),
        "fit takes 2 arguments without a name, got 3. Write fit(model, (inputs, targets), epochs=10), and validation=(inputs, targets).",
    ),
    "targets of evaluate": (lambda: TRAINER.evaluate(line(), *columns()), "Write evaluate(model, (inputs, targets))."),
    "targets of predict": (lambda: TRAINER.predict(line(), *columns()), "Write predict(model, inputs)"),
    "targets of start": (lambda: TRAINER.start(line(), *columns()), "Write start(model, (inputs, targets))"),
    "an optimizer": (
        lambda: made(sgd()),
        "Trainer takes 1 argument without a name, got 2. Write the others by name: Trainer(step, optimizer=",
    ),
    "patience": (lambda: EarlyStopping("valid/loss", 3), "EarlyStopping('valid/loss', patience=5)"),  # type: ignore[call-arg]
    "how many to keep": (lambda: Checkpoints("runs", 3), "Checkpoints('runs/name', every=Every(epochs=1))"),  # type: ignore[arg-type, call-arg]
}


@pytest.mark.parametrize("name", PLACES)
def test_an_argument_without_a_name_that_needs_one_says_what_to_write(name: str) -> None:
    make, words = PLACES[name]
    with pytest.raises(ArgumentTypeError) as raised:
        make()
    assert words in str(raised.value)


def test_nothing_is_written_or_started_before(tmp_path: Path) -> None:
    with Untouched(tmp_path / "run"), pytest.raises(ArgumentTypeError, match="epochs=10"):
        trainer(checkpoints=tmp_path / "run").fit(line(), columns(), max_epochs=3)  # type: ignore[call-arg]
    assert list(tmp_path.iterdir()) == []


def test_what_is_advised_is_there_and_what_is_translated_is_not() -> None:
    """Every piece of advice names an argument of its owner, and no owner has an argument that is called wrong."""
    owners: dict[str, Any] = {
        "fit": Trainer.fit,
        "Trainer": Trainer,
        "Every": Every,
        "EarlyStopping": EarlyStopping,
        "Checkpoints": Checkpoints,
    }
    assert set(_MEANT) == set(owners)
    for owner, table in _MEANT.items():
        known = inspect.signature(owners[owner]).parameters
        wrong = [word for names in table.values() for word in names.split()]
        assert [text for text in table if text.partition("=")[0] not in known] == []
        assert [word for word in wrong if word in known] == []
        assert len(set(wrong)) == len(wrong)
    assert not {word for names in _SAID.values() for word in names.split()} & {
        word for table in _MEANT.values() for names in table.values() for word in names.split()
    }


def test_signatures_and_texts_are_those_of_the_function() -> None:
    @explained("Write f(1).")
    def f(first: int, *, second: int = 2) -> int:
        """Add."""
        return first + second

    assert (f(1), f(1, second=3), f(first=4), f.__doc__, f.__name__) == (3, 4, 6, "Add.", "f")
    assert str(inspect.signature(f)) == "(first: 'int', *, second: 'int' = 2) -> 'int'"
    assert list(inspect.signature(Every).parameters) == ["epochs", "updates", "samples", "seconds"]
    assert list(inspect.signature(Trainer).parameters)[:2] == ["step", "optimizer"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'first'"):
        f()  # type: ignore[call-arg]


def test_an_interval_is_copied_and_sent_as_before() -> None:
    for every in (Every(epochs=2), Every(seconds=0.5)):
        assert copy.deepcopy(every) == pickle.loads(pickle.dumps(every)) == every


def test_a_type_error_of_the_user_s_own_is_the_user_s_to_see() -> None:
    def step(model: nn.Module, batch: Any) -> Any:
        return sorted(batch, colour="red")  # type: ignore[call-overload]

    with pytest.raises(TypeError, match="colour") as raised:
        trainer(step=step).fit(line(), columns(), epochs=1)
    assert not isinstance(raised.value, ArgumentTypeError)


def test_what_nobody_knows_is_answered_with_what_there_is() -> None:
    with pytest.raises(ArgumentTypeError, match=r"^f has no argument 'q'\. It takes first, second\.$"):
        refuse("f", "q", ["first", "second"])
    with pytest.raises(ArgumentTypeError, match=r"^f has no argument 'q'\. Nothing else\.$"):
        refuse("f", "q", ["first", "second"], "Nothing else.")
