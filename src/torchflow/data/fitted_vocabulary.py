"""A vocabulary that was learnt: a function from text to whole numbers, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data.byte_pairs import BytePairTokens
from torchflow.data.dataset import Dataset
from torchflow.data.fields import checked_field, part_of, with_field, with_part
from torchflow.data.language import TokenWindows
from torchflow.data.order import pieces
from torchflow.data.schema import Schema
from torchflow.data.tokens import UNKNOWN, ByteTokens, CharacterTokens, Tokens, WordTokens
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError
from torchflow.types import State

KINDS = ("byte", "character", "word", "bpe")
SPECIALS = ("padding", "unknown", "start", "end")
LARGEST_TEXT = 2**28
"""The most characters of one text."""
_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class FittedVocabulary:
    """A fitted :class:`Vocabulary`: a function from a sample to the same with int64 numbers, shape (tokens,), for its text.

    Special tokens come first: 0 and up in the order padding, unknown, start, end, as far as there are any.

    Args:
        kind: "byte", "character", "word" or "bpe".
        field: Where the text is.
        specials: Which special tokens there are.
        tokens: The others.
    """

    kind: str
    field: int | str | None
    specials: tuple[str, ...]
    tokens: Tokens

    @property
    def size(self) -> int:
        """How many tokens there are, as in ``nn.Embedding(vocabulary.size, ...)``."""
        return len(self.specials) + self.tokens.size

    def __len__(self) -> int:
        """Return how many tokens there are."""
        return self.size

    @property
    def padding(self) -> int | None:
        """The number of the padding token; None without one."""
        return self._special("padding")

    @property
    def unknown(self) -> int | None:
        """The number of the token for what is not known; None without one."""
        return self._special("unknown")

    @property
    def start(self) -> int | None:
        """The number of the token that every text begins with; None without one."""
        return self._special("start")

    @property
    def end(self) -> int | None:
        """The number of the token that every text ends with; None without one."""
        return self._special("end")

    # A sample or batch of any structure, in which one part becomes something else.
    def __call__(self, tree: Any) -> Any:
        """Return the sample with numbers in place of its text."""
        if isinstance(tree, str):
            return self.encode(tree)
        part = part_of(tree, self.field)
        if isinstance(part, (list, tuple)) and part and all(isinstance(text, str) for text in part):
            remedy = "Use dataset.map(vocabulary): texts of a batch differ in length."
            raise DataError(f"a vocabulary encodes one sample at a time, got {len(part)} texts at field {self.field!r}. {remedy}")
        return with_part(tree, self.field, self.encode(part))

    def schema_after(self, before: Schema | None) -> Schema | None:
        """Return the schema with int64 numbers in place of text."""
        return with_field(before, self.field, lambda field: replace(field, shape=(None,), dtype=torch.int64, dims=("position",)))

    def encode(self, text: str) -> Tensor:
        """Return the numbers of a text, int64, shape (tokens,).

        Raises:
            DataError: It is no text, holds lone surrogates, or a token that is not known.
        """
        ids = self.tokens.ids(checked_text(text, "the text"))
        unknown = ids == UNKNOWN
        if self.unknown is None and unknown.any():
            place = int(np.flatnonzero(unknown)[0])
            remedy = 'Use Vocabulary(unknown="token") to give such a token of their own, or "byte" or "bpe", which know every text.'
            raise DataError(f"{self.tokens.shown(text, place)} was not in the training split. {remedy}")
        ids += len(self.specials)
        if self.unknown is not None:
            ids[unknown] = self.unknown
        edges = [np.full(1, number, dtype=np.int64) for number in (self.start, self.end) if number is not None]
        if edges:
            ids = np.concatenate([*edges[: self.start is not None], ids, *edges[self.start is not None :]])
        return torch.from_numpy(ids)

    def decode(self, ids: Tensor) -> str:
        """Return the text of numbers, shape (tokens,): of bytes, characters and byte pairs exactly what was encoded.

        Special tokens are left out, but for what was not known, which is U+FFFD. Words come back with single spaces between them.

        Raises:
            ArgumentTypeError: No tensor of whole numbers in one dimension.
            ArgumentValueError: A number that no token has.
        """
        if not isinstance(ids, Tensor) or ids.ndim != 1 or ids.is_floating_point():
            raise ArgumentTypeError(f"ids must be a tensor of whole numbers, shape (tokens,), got {arguments.shown(ids)}.")
        numbers = ids.detach().cpu().numpy().astype(np.int64)
        wrong = numbers[(numbers < 0) | (numbers >= self.size)]
        if len(wrong):
            raise ArgumentValueError(f"ids must be from 0 to {self.size - 1}, got {int(wrong[0])}.")
        kept = numbers[(numbers >= len(self.specials)) | (numbers == (-1 if self.unknown is None else self.unknown))]
        shifted = np.where(kept >= len(self.specials), kept - len(self.specials), UNKNOWN)
        return self.tokens.text(shifted)

    def numbers(self, texts: str | Dataset[Any] | Iterable[str]) -> Tensor:
        """Return the numbers of texts, one after the other, int64, shape (tokens,).

        Args:
            texts: A text, a dataset with texts at the field, or an iterable of texts.
        """
        several = [texts] if isinstance(texts, str) else texts_of(texts, self.field) if isinstance(texts, Dataset) else texts
        parts = [self.encode(text) for text in several]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.int64)

    def windows(
        self, texts: str | Dataset[Any] | Iterable[str], length: int, stride: int | None = None
    ) -> Dataset[tuple[Tensor, Tensor]]:
        """Return the samples of a language model: ``(inputs, targets)``, the targets being the inputs one token later.

        The texts are encoded once, now, and put one after the other, so a window may span two of them: ``start`` and ``end``
        tokens say where. Batches cost no Python call a sample.

        Args:
            texts: A text, a dataset with texts at the field, or an iterable of texts. Train, validation and test are each given
                for themselves, so that no window lies in two of them.
            length: Tokens of a window.
            stride: Tokens between the starts of two windows; None is ``length``, so that every token is a target once.

        Returns:
            int64 inputs and targets, shape (length,) each.

        Raises:
            DataError: The texts have no whole window, or hold what cannot be encoded.
        """
        size = arguments.whole("length", length)
        step = size if stride is None else arguments.whole("stride", stride)
        numbers = self.numbers(texts)
        if len(numbers) <= size:
            raise DataError(
                f"a window of {size} tokens and the one after it do not fit into {len(numbers)} tokens. Use a shorter one."
            )
        return Dataset(TokenWindows(numbers, size, step, self.size))

    def state(self) -> dict[str, State]:
        """Return the kind, field, special tokens and tokens."""
        known = {"encoder": "vocabulary", "kind": self.kind, "field": self.field, "specials": list(self.specials)}
        return {**known, **self.tokens.state()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> FittedVocabulary:
        """Return the transform of a state.

        Raises:
            ArgumentValueError: It is no state of a vocabulary.
        """
        kind = arguments.one_of("the state's kind", state["kind"], KINDS)
        specials = tuple(state["specials"])
        if specials != tuple(name for name in SPECIALS if name in specials):
            raise ArgumentValueError(f"the state's specials must be some of {', '.join(SPECIALS)} in that order, got {specials}.")
        makers: dict[str, Any] = {"character": CharacterTokens, "word": WordTokens, "bpe": BytePairTokens}
        tokens: Tokens = ByteTokens() if kind == "byte" else makers[kind].from_state(state)
        return cls(kind, checked_field(state["field"]), specials, tokens)

    def _special(self, name: str) -> int | None:
        return self.specials.index(name) if name in self.specials else None


def checked_text(text: object, place: str) -> str:
    """Return a text that UTF-8 can hold.

    Raises:
        DataError: It is no text, too long, or holds a lone surrogate; the message says where.
    """
    if not isinstance(text, str):
        raise DataError(f"{place} must be text, got {arguments.shown(text)}. Name the part that is: field=.")
    if len(text) > LARGEST_TEXT:
        raise DataError(f"{place} has {len(text)} characters, above {LARGEST_TEXT}. Cut it before.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        found = f"U+{ord(text[error.start]):04X} at character {error.start}"
        raise DataError(
            f"{place} holds half a character, the lone surrogate {found}. Decode the file with errors='strict'."
        ) from None
    return text


def texts_of(dataset: Dataset[Any], field: int | str | None) -> Iterator[str]:
    """Yield the texts of a dataset."""
    for indices in pieces(len(dataset), _AT_ONCE):
        for index, sample in zip(indices.tolist(), dataset.take_samples(indices), strict=True):
            yield checked_text(sample if isinstance(sample, str) else part_of(sample, field), f"sample {index}")
