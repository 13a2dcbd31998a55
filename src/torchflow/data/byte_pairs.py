"""Byte pair encoding: bytes, and the pairs of tokens that were merged most often (Sennrich, Haddow and Birch, 2016).

The library ``tokenizers`` learns the merges and applies them. What is kept is the merges alone, as numbers, so that a saved
vocabulary holds no program of another library, and reads the same with every version of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from torchflow.errors import ArgumentValueError, MissingExtraError
from torchflow.types import State

if TYPE_CHECKING:
    import tokenizers
    from numpy.typing import NDArray

BYTES = 256
LARGEST = 2**20
"""The most merges of a vocabulary."""
_LONGEST = 2**12
"""The most bytes of one token."""


class BytePairTokens:
    """Bytes and merged runs of them, by which every text comes back exactly.

    Args:
        merges: int64, shape (merges, 2): the numbers of the two tokens of each, in the order of learning. Tokens 0 to 255
            are the bytes; each merge that spells something new adds a token.

    Raises:
        ArgumentValueError: A merge names a token that is not there yet.
    """

    def __init__(self, merges: NDArray[np.int64]) -> None:
        self._merges = merges
        self._spelled = _spelled(merges)
        self._tokenizer: tokenizers.Tokenizer | None = None

    @classmethod
    def learnt(cls, texts: Iterable[str], most: int, minimum: int) -> BytePairTokens:
        """Return the tokens of texts: at most ``most``, each merge seen at least ``minimum`` times."""
        library = _library()
        characters = _characters()
        learner = library.Tokenizer(library.models.BPE())
        learner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = list(characters)
        trainer = library.trainers.BpeTrainer(
            vocab_size=most, min_frequency=minimum, show_progress=False, initial_alphabet=alphabet, max_token_length=64
        )
        learner.train_from_iterator(iter(texts), trainer)
        number = {character: byte for byte, character in enumerate(characters)}
        merges: list[tuple[int, int]] = []
        for pair in json.loads(learner.to_str())["model"]["merges"]:
            left, right = pair.split(" ") if isinstance(pair, str) else pair
            merges.append((number[left], number[right]))
            number.setdefault(left + right, len(number))
        return cls(np.array(merges, dtype=np.int64).reshape(-1, 2))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> BytePairTokens:
        """Return the tokens of a state."""
        merges = state["merges"]
        if not isinstance(merges, Tensor) or merges.ndim != 2 or merges.shape[1] != 2 or merges.is_floating_point():
            raise ArgumentValueError("the state's merges must be a tensor of whole numbers, shape (merges, 2).")
        return cls(merges.cpu().numpy().astype(np.int64))

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self._spelled)

    def ids(self, text: str) -> NDArray[np.int64]:
        """Return the numbers of a text's tokens."""
        if self._tokenizer is None:
            self._tokenizer = self._built()
        return np.array(self._tokenizer.encode_batch_fast([text])[0].ids, dtype=np.int64)

    def text(self, ids: NDArray[np.int64]) -> str:
        """Return the text; bytes that are no UTF-8 become U+FFFD."""
        return b"".join([self._spelled[number] for number in ids.tolist()]).decode("utf-8", "replace")

    def shown(self, text: str, place: int) -> str:
        """Return a token."""
        return repr(self._spelled[int(self.ids(text)[place])])

    def state(self) -> dict[str, State]:
        """Return the merges."""
        return {"merges": torch.from_numpy(self._merges.astype(np.int32))}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tokenizer": None}  # each process builds its own

    def _built(self) -> tokenizers.Tokenizer:
        """Return the tokenizer of another library that applies these merges."""
        library = _library()
        characters = _characters()
        names = ["".join(characters[byte] for byte in token) for token in self._spelled]
        pairs = [(names[left], names[right]) for left, right in self._merges.tolist()]
        made: tokenizers.Tokenizer = library.Tokenizer(
            library.models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=pairs)
        )
        made.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        return made


def _spelled(merges: NDArray[np.int64]) -> list[bytes]:
    """Return the bytes of every token."""
    if len(merges) > LARGEST:
        raise ArgumentValueError(f"a vocabulary has at most {LARGEST} merges, got {len(merges)}.")
    spelled = [bytes([byte]) for byte in range(BYTES)]
    known = set(spelled)
    for number, (left, right) in enumerate(merges.tolist()):
        if not 0 <= left < len(spelled) or not 0 <= right < len(spelled):
            raise ArgumentValueError(f"merge {number} joins tokens {left} and {right}, and there are {len(spelled)} by then.")
        token = spelled[left] + spelled[right]
        if len(token) > _LONGEST:
            raise ArgumentValueError(f"merge {number} makes a token of {len(token)} bytes, above {_LONGEST}.")
        if token not in known:
            known.add(token)
            spelled.append(token)
    return spelled


def _characters() -> list[str]:
    """Return the printable character that stands for each byte in byte-level BPE: itself, or one from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(BYTES) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(BYTES)]


def _library() -> Any:
    """Return the module ``tokenizers``."""
    # Its own threads do not survive a fork, and texts are encoded by several readers at once already.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError(
            "byte pair encoding needs tokenizers, which is not installed. Use: pip install 'torchflow-train[text]', or a Vocabulary of "
            "bytes, characters or words, which need nothing."
        ) from error
    return tokenizers
