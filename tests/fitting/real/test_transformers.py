"""Models of transformers, with random weights: trained, killed and resumed, watched, saved and read by both sides."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.fitting.libraries import is_there
from tests.fitting.real import jobs
from torchflow import Outputs, Trainer, load_model, metrics, save_model
from torchflow.testing import verify_observers, verify_resume

if not is_there("transformers"):
    pytest.skip("transformers is in the environment of `make fitting`", allow_module_level=True)

with_datasets = pytest.mark.skipif(not is_there("datasets"), reason="datasets is in the environment of `make fitting`")


def trainer(step: Any = jobs.next_tokens, **options: Any) -> Trainer[Any, Any]:
    return Trainer(step, optimizer=jobs.adam, progress=False, **options)


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == also and torch.equal(value, second) for (name, value), (also, second) in pairs)


def classes(model: Any, batch: Any) -> Outputs:
    outputs = model(**batch)
    return Outputs(outputs.loss, metrics={"accuracy": metrics.accuracy(outputs.logits, batch["labels"])}, predictions=outputs)


def test_a_language_model_that_is_killed_ends_equal() -> None:
    verify_resume(jobs.writing)


def test_a_language_model_does_not_see_who_watches() -> None:
    verify_observers(jobs.writing)


@with_datasets
def test_a_run_whose_collator_hides_words_by_chance_ends_equal() -> None:
    verify_resume(jobs.hiding)


@with_datasets
def test_a_collator_hides_the_same_words_for_any_number_of_workers() -> None:
    models = []
    for workers in (0, 2):
        job = jobs.hiding()
        models.append(job.trainer.fit(job.model, job.train, **{**job.fit, "workers": workers}).model)
    assert equal(*models)


@with_datasets
@pytest.mark.parametrize("batch_size", [1, 3, 40])
def test_padded_lines_are_measured_alike_however_they_are_cut(batch_size: int) -> None:
    from transformers import DataCollatorWithPadding  # noqa: PLC0415  (after the look whether it is there)

    torch.manual_seed(0)
    model, rows, collate = jobs.classifier(), jobs.lines(), DataCollatorWithPadding(jobs.tokenizer())
    alone = [trainer(classes).evaluate(model, rows.select([row]), collate=collate)["loss"] for row in range(4)]
    found = trainer(classes).evaluate(model, rows, batch_size=batch_size, collate=collate)
    assert found["loss"] == pytest.approx(sum(alone) / 4, rel=1e-5)


def test_a_loss_counts_tokens_in_accumulated_updates_too() -> None:
    """Seen to fail when the step gives no count. To rounding in float32: transformers computes this loss in it whatever the model is in."""
    torch.manual_seed(0)
    first = jobs.writer()
    first.train()
    for part in first.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    models = [copy.deepcopy(first), copy.deepcopy(first)]
    for model, (size, accumulate) in zip(models, ((40, 1), (7, 6)), strict=True):
        by_tokens: Trainer[Any, Any] = Trainer(
            jobs.next_tokens,
            optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=1.0),
            accumulate=accumulate,
            progress=False,
        )
        by_tokens.fit(model, jobs.texts(), epochs=1, batch_size=size, shuffle=False)
    for before, one, other in zip(first.parameters(), models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=2e-6)
        assert not torch.equal(one, before)


def test_predictions_may_be_the_model_s_own_outputs() -> None:
    torch.manual_seed(0)
    model, data = jobs.classifier(), jobs.texts()
    data = {"input_ids": data["input_ids"] % 7, "attention_mask": data["attention_mask"]}
    found = trainer(classes).predict(
        model, data, batch_size=7, forward=lambda model, batch: model(**batch, output_hidden_states=True)
    )
    expected = model.eval()(**data, output_hidden_states=True)
    assert type(found) is type(expected)
    assert torch.allclose(found.logits, expected.logits, atol=1e-6)
    assert [part.shape for part in found.hidden_states] == [part.shape for part in expected.hidden_states]


def test_tied_weights_are_stored_once_and_both_libraries_read_them(tmp_path: Path) -> None:
    from safetensors import safe_open  # noqa: PLC0415
    from transformers import GPT2LMHeadModel  # noqa: PLC0415

    model = trainer().fit(jobs.writer, jobs.texts(), epochs=1).model
    assert model.lm_head.weight is model.transformer.wte.weight
    ours = tmp_path / "model.safetensors"
    save_model(model, ours)
    with safe_open(ours, framework="pt") as file:
        assert {"transformer.wte.weight", "lm_head.weight"} & set(file.keys()) == {"transformer.wte.weight"}
    read = load_model(ours, into=jobs.writer())
    assert equal(read, model)
    assert read.lm_head.weight is read.transformer.wte.weight
    theirs = tmp_path / "theirs"
    model.save_pretrained(theirs)
    assert equal(load_model(theirs / "model.safetensors", into=jobs.writer()), model)
    save_model(model, theirs / "model.safetensors")
    assert equal(GPT2LMHeadModel.from_pretrained(theirs), model)


def test_a_model_that_was_read_in_evaluation_mode_is_trained_in_training_mode(tmp_path: Path) -> None:
    from transformers import GPT2LMHeadModel  # noqa: PLC0415

    torch.manual_seed(0)
    first = jobs.writer()
    first.save_pretrained(tmp_path)
    read = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert not read.training
    trainer().fit(read, jobs.texts(), epochs=1)
    trainer().fit(first.train(), jobs.texts(), epochs=1)  # with its dropout
    assert equal(read, first)
    assert not read.training


def test_blocks_that_forget_their_activations_give_the_same_bits() -> None:
    models = [
        trainer(activation_checkpointing=rule).fit(jobs.writer, jobs.texts(), epochs=2).model for rule in (None, "transformer.h.*")
    ]
    assert equal(*models)
