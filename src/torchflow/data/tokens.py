"""What a vocabulary is made of: bytes, characters or words, each kind with its text, its numbers and its state."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from torchflow.errors import ArgumentValueError
from torchflow.types import State

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNKNOWN = -1
_WORD = re.compile(r"\w+|[^\w\s]")
_LARGEST_UNICODE = 0x10FFFF


class Tokens(Protocol):
    """The tokens of one kind, numbered from 0."""

    @property
    def size(self) -> int:
        """How many tokens there are."""
        ...

    def ids(self, text: str) -> NDArray[np.int64]:
        """Return the numbers of a text's tokens, shape (tokens,); UNKNOWN for those that are not known."""
        ...

    def text(self, ids: NDArray[np.int64]) -> str:
        """Return the text of numbers; UNKNOWN stands for what was not known."""
        ...

    def shown(self, text: str, place: int) -> str:
        """Return the token at a place of a text's tokens, for a message."""
        ...

    def state(self) -> dict[str, State]:
        """Return what the tokens are made from again."""
        ...


class ByteTokens:
    """The 256 bytes of UTF-8."""

    size = 256

    def ids(self, text: str) -> NDArray[np.int64]:
        """Return the bytes."""
        return np.frombuffer(text.encode("utf-8"), dtype=np.uint8).astype(np.int64)

    def text(self, ids: NDArray[np.int64]) -> str:
        """Return the text; bytes that are no UTF-8 become U+FFFD."""
        return bytes(ids.astype(np.uint8)).decode("utf-8", "replace")

    def shown(self, text: str, place: int) -> str:
        """Return a byte."""
        return repr(text.encode("utf-8")[place : place + 1])

    def state(self) -> dict[str, State]:
        """Return nothing: all bytes are known."""
        return {}


class CharacterTokens:
    """Unicode characters, sorted.

    Args:
        points: Their code points, rising.
    """

    def __init__(self, points: NDArray[np.int64]) -> None:
        self._points = points
        self._table: NDArray[np.int64] = np.full(int(points[-1]) + 2, UNKNOWN, dtype=np.int64)
        self._table[points] = np.arange(len(points))

    @classmethod
    def learnt(cls, texts: Iterable[str], most: int | None, minimum: int) -> CharacterTokens:
        """Return the characters of texts: all, or the ``most`` frequent, each seen at least ``minimum`` times."""
        counts = np.zeros(_LARGEST_UNICODE + 1, dtype=np.int64)
        for text in texts:
            points, found = np.unique(_points(text), return_counts=True)
            counts[points] += found
        known = np.flatnonzero(counts >= minimum)
        if most is not None and len(known) > most:
            order = np.argsort(-counts[known], kind="stable")  # ties fall to the smaller code point
            known = np.sort(known[order[:most]])
        if not len(known):
            raise ArgumentValueError("no character is frequent enough for the vocabulary. Lower minimum=.")
        return cls(known)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> CharacterTokens:
        """Return the characters of a state."""
        points = _whole(state, "characters")
        if not len(points) or points[0] < 0 or points[-1] > _LARGEST_UNICODE or bool((np.diff(points) <= 0).any()):
            raise ArgumentValueError("the state's characters must be rising code points of Unicode.")
        return cls(points)

    @property
    def size(self) -> int:
        """How many characters there are."""
        return len(self._points)

    def ids(self, text: str) -> NDArray[np.int64]:
        """Return a number for each character."""
        found: NDArray[np.int64] = self._table[np.minimum(_points(text), len(self._table) - 1)]
        return found

    def text(self, ids: NDArray[np.int64]) -> str:
        """Return the text; what was not known is U+FFFD."""
        points = np.append(self._points, 0xFFFD)[ids]
        return points.astype("<u4").tobytes().decode("utf-32-le")

    def shown(self, text: str, place: int) -> str:
        """Return a character."""
        return f"{text[place]!r} (U+{ord(text[place]):04X})"

    def state(self) -> dict[str, State]:
        """Return the code points."""
        return {"characters": torch.from_numpy(self._points.copy())}


class WordTokens:
    """Words (runs of letters, digits and underscores) and single signs; the space between them is lost.

    Args:
        words: Each once, in the order of their numbers.
        lowercase: Whether texts are put into lower case first.
    """

    def __init__(self, words: Iterable[str], lowercase: bool) -> None:
        self._words = tuple(words)
        self._lowercase = lowercase
        self._numbers = {word: number for number, word in enumerate(self._words)}

    @classmethod
    def learnt(cls, texts: Iterable[str], most: int | None, minimum: int, lowercase: bool) -> WordTokens:
        """Return the words of texts, the most frequent first: all, or ``most``, each seen at least ``minimum`` times."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(_WORD.findall(text.lower() if lowercase else text))
        ranked = sorted(((-count, word) for word, count in counts.items() if count >= minimum))
        if not ranked:
            raise ArgumentValueError("no word is frequent enough for the vocabulary. Lower minimum=.")
        return cls((word for _, word in ranked[:most]), lowercase)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> WordTokens:
        """Return the words of a state."""
        try:
            words = bytes(_whole(state, "words").astype(np.uint8)).decode("utf-8").split("\n")
        except UnicodeDecodeError as error:
            raise ArgumentValueError("the state's words must be UTF-8, one a line.") from error
        if len(set(words)) < len(words) or not all(_WORD.fullmatch(word) for word in words):
            raise ArgumentValueError("the state's words must be single words, each once.")
        return cls(words, bool(state["lowercase"]))

    @property
    def size(self) -> int:
        """How many words there are."""
        return len(self._words)

    def ids(self, text: str) -> NDArray[np.int64]:
        """Return a number for each word and sign."""
        numbers = self._numbers
        return np.array([numbers.get(word, UNKNOWN) for word in self._split(text)], dtype=np.int64)

    def text(self, ids: NDArray[np.int64]) -> str:
        """Return the words with spaces between them."""
        return " ".join(self._words[number] if number != UNKNOWN else "\ufffd" for number in ids.tolist())

    def shown(self, text: str, place: int) -> str:
        """Return a word."""
        return repr(self._split(text)[place])

    def state(self) -> dict[str, State]:
        """Return the words, one a line."""
        text = "\n".join(self._words).encode("utf-8")
        return {"words": torch.tensor(list(text), dtype=torch.uint8), "lowercase": self._lowercase}

    def _split(self, text: str) -> list[str]:
        found: list[str] = _WORD.findall(text.lower() if self._lowercase else text)
        return found


def _points(text: str) -> NDArray[np.int64]:
    """Return the code points of a text."""
    return np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.int64)


def _whole(state: Mapping[str, Any], name: str) -> NDArray[np.int64]:
    """Return a tensor of whole numbers of a state, one dimension."""
    value = state[name]
    if not isinstance(value, Tensor) or value.ndim != 1 or value.is_floating_point():
        raise ArgumentValueError(f"the state's {name} must be a tensor of whole numbers in one dimension.")
    numbers: NDArray[np.int64] = value.cpu().numpy().astype(np.int64)
    return numbers
