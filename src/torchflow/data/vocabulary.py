"""Text as whole numbers: vocabularies of bytes, characters, words or byte pairs, learnt from the training split."""

from __future__ import annotations

from typing import Any

from torchflow import arguments
from torchflow.data.byte_pairs import BYTES, BytePairTokens
from torchflow.data.dataset import Dataset
from torchflow.data.fields import checked_field
from torchflow.data.fitted_vocabulary import KINDS, SPECIALS, FittedVocabulary, texts_of
from torchflow.data.tokens import ByteTokens, CharacterTokens, Tokens, WordTokens
from torchflow.errors import ArgumentTypeError, ArgumentValueError, DataError

BPE_SIZE = 2048


class Vocabulary:
    """Turn text into whole numbers, one for each byte, character, word or frequent run of bytes.

    Fit it on the training split alone, then map it over every split: ``vocabulary = Vocabulary("bpe").fit(train)``,
    ``train.map(vocabulary)``. Texts of several lengths make batches with ``fit(..., collate=PadBatch())``;
    :meth:`FittedVocabulary.windows` makes the samples of a language model.

    Args:
        kind: ``"byte"``: the 256 bytes of UTF-8; ``"character"``: the characters of the training split; ``"word"``: its words
            and single signs; ``"bpe"``: bytes, and the pairs that were merged most often (the extra ``text``).
        field: Where the text is: a tuple position, a dict key, an attribute, or None for the sample itself. A sample that is
            bare text is taken itself.
        size: The most tokens, special ones included: the most frequent are kept. None keeps all; of byte pairs 2,048.
        minimum: How often a character, a word or a pair must have been seen.
        unknown: What becomes of a character or word that is not in the vocabulary: an ``"error"``, or the special ``"token"``.
            Bytes and byte pairs know every text.
        padding: Whether there is a token for padding: the number of ``vocabulary.padding``, for ``PadBatch({0: vocabulary.padding})``.
        start: Whether every text begins with a special token.
        end: Whether every text ends with a special token.
        lowercase: Whether words are put into lower case first.

    Raises:
        ArgumentTypeError: An argument of the wrong type.
        ArgumentValueError: An impossible value.
    """

    def __init__(
        self,
        kind: str = "character",
        *,
        field: int | str | None = 0,
        size: int | None = None,
        minimum: int = 1,
        unknown: str = "error",
        padding: bool = False,
        start: bool = False,
        end: bool = False,
        lowercase: bool = False,
    ) -> None:
        self._kind = arguments.one_of("kind", kind, KINDS)
        self._field = checked_field(field)
        chosen = {
            "padding": arguments.flag("padding", padding),
            "unknown": arguments.one_of("unknown", unknown, ("error", "token")) == "token" and kind in ("character", "word"),
            "start": arguments.flag("start", start),
            "end": arguments.flag("end", end),
        }
        self._specials = tuple(name for name in SPECIALS if chosen[name])
        smallest = len(self._specials) + (BYTES if kind in ("byte", "bpe") else 1)
        self._size = arguments.whole_or_none("size", size, minimum=smallest, hint="Special tokens count too.")
        if kind == "byte" and size is not None and size != smallest:
            raise ArgumentValueError(f"a vocabulary of bytes has {smallest} tokens, got size={size}. Leave size out.")
        self._minimum = arguments.whole("minimum", minimum)
        self._lowercase = arguments.flag("lowercase", lowercase)
        if lowercase and kind != "word":
            raise ArgumentValueError(f"lowercase is for words, and kind is {kind!r}: its texts come back exactly. Use a map.")

    def fit(self, train: Dataset[Any]) -> FittedVocabulary:
        """Return the fitted transform, after one pass over the texts.

        Raises:
            ArgumentTypeError: ``train`` is no Dataset.
            ArgumentValueError: Nothing is frequent enough.
            DataError: A sample has no text at the field, or text that is no Unicode.
            MissingExtraError: ``kind`` is "bpe" and tokenizers is not installed.
        """
        if not isinstance(train, Dataset):
            raise ArgumentTypeError(
                f"Vocabulary.fit takes the training Dataset, got {arguments.shown(train)}. Make one with torchflow.data.from_text or "
                "from_iterable."
            )
        if not len(train):
            raise DataError("Vocabulary.fit needs at least one sample, got an empty dataset.")
        most = None if self._size is None else self._size - len(self._specials)
        texts = texts_of(train, self._field)
        tokens: Tokens
        if self._kind == "byte":
            tokens = ByteTokens()
        elif self._kind == "character":
            tokens = CharacterTokens.learnt(texts, most, self._minimum)
        elif self._kind == "word":
            tokens = WordTokens.learnt(texts, most, self._minimum, self._lowercase)
        else:
            tokens = BytePairTokens.learnt(texts, most or BPE_SIZE, self._minimum)
        return FittedVocabulary(self._kind, self._field, self._specials, tokens)
