"""Small trainings of transformers' models that processes of their own make again. Nothing is downloaded: the weights are random."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchflow import EMA, Every, Outputs, Trainer
from torchflow.testing import Job

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}
WORDS = {"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "a": 3, "rose": 4, "is": 5, "it": 6}


def adam(model: Any) -> Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def texts(count: int = 40) -> dict[str, Tensor]:
    """Rows of numbers from 1 to 29, some of them filled up, with the labels of a language model."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 30, (count, 8), generator=generator)
    mask = torch.arange(8) < torch.randint(3, 9, (count, 1), generator=generator)
    return {"input_ids": ids * mask, "attention_mask": mask.long(), "labels": ids.where(mask, -100)}


def next_tokens(model: Any, batch: dict[str, Tensor]) -> Outputs:
    outputs = model(**batch, use_cache=False)
    return Outputs(outputs.loss, count=(batch["labels"][:, 1:] != -100).sum(), predictions=outputs.logits)


def hidden_tokens(model: Any, batch: dict[str, Tensor]) -> Outputs:
    return Outputs(model(**batch).loss, count=(batch["labels"] != -100).sum())


def writer() -> Any:
    """A GPT-2 with dropout, whose first and last weights are one."""
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415  (only where it is there)

    config = GPT2Config(vocab_size=30, n_positions=8, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)


def reader() -> Any:
    """A BERT that finds hidden words."""
    from transformers import BertConfig, BertForMaskedLM  # noqa: PLC0415

    return BertForMaskedLM(BertConfig(vocab_size=len(WORDS), **SIZES))


def classifier() -> Any:
    """A BERT with two classes."""
    from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415

    return BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), num_labels=2, **SIZES))


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    words = Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]")


def lines() -> Any:
    """Rows of datasets, of several lengths, in numbers of a tokenizer."""
    from datasets import Dataset  # noqa: PLC0415

    read = tokenizer()
    rows = Dataset.from_dict({"text": ["a rose is a rose", "is it", "it is a rose", "a rose"] * 10, "labels": [0, 1, 1, 0] * 10})
    return rows.map(lambda row: read(row["text"]), remove_columns=["text"])


def writing() -> Job:
    trainer = Trainer(next_tokens, optimizer=adam, accumulate=2, clip_norm=1.0, callbacks=[EMA(0.9)])
    return Job(trainer, writer, texts(), {"epochs": 3, "batch_size": 6, "validation": texts(9), "validate": Every(updates=3)})


def hiding() -> Job:
    """A collator that hides words by chance, over rows of datasets that processes read ahead."""
    from transformers import DataCollatorForLanguageModeling  # noqa: PLC0415

    collate = DataCollatorForLanguageModeling(tokenizer(), mlm_probability=0.4)
    trainer: Trainer[Any, Any] = Trainer(hidden_tokens, optimizer=adam)
    options = {"epochs": 2, "batch_size": 8, "collate": collate, "workers": 1}
    return Job(trainer, reader, lines().remove_columns(["labels"]), options)
