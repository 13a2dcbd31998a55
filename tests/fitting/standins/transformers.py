"""In the place of Hugging Face's transformers: two small models that take batches by name and compute their losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class _Output:
    loss: Tensor | None
    logits: Tensor


class _Config:
    def __init__(self, **choices: Any) -> None:
        self.__dict__.update(choices)

    def __getattr__(self, name: str) -> Any:  # for type checkers: what a configuration holds is given to it
        raise AttributeError(name)


class BertConfig(_Config):
    """The sizes of a classifier."""


class GPT2Config(_Config):
    """The sizes of a language model."""


class BertForSequenceClassification(nn.Module):
    """Scores of the mean of the words, with dropout."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(config.vocab_size, config.hidden_size), nn.Linear(config.hidden_size, 2)
        self.dropout = nn.Dropout(0.1)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None) -> _Output:
        real = attention_mask.unsqueeze(-1)
        mean = (self.embedding(input_ids) * real).sum(1) / real.sum(1)
        logits = self.head(self.dropout(mean))
        return _Output(None if labels is None else nn.functional.cross_entropy(logits, labels), logits)


class GPT2LMHeadModel(nn.Module):
    """Scores of the word after each, by a network whose first and last weights are one."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict({"wte": nn.Embedding(config.vocab_size, config.n_embd)})
        self.memory = nn.GRU(config.n_embd, config.n_embd, batch_first=True)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer["wte"].weight  # type: ignore[assignment]  # a module's attribute

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor, use_cache: bool = True) -> _Output:
        logits = self.lm_head(self.memory(self.transformer["wte"](input_ids))[0])
        loss = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), labels[:, 1:], ignore_index=-100)
        assert torch.isfinite(loss), "labels without a word"
        return _Output(loss, logits)
