"""Samples in a few bytes: equal bytes for equal samples, and signatures that samples share which differ by little."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from torchflow.data.schema import Field, Schema
from torchflow.data.show import kind_of
from torchflow.tree import leaves_with_paths

Words = npt.NDArray[np.uint64]

NUMBERS = 8  # at least so many, or that rows agree in three digits says nothing
STEPS = 64  # to which a longer dimension is averaged
SIDE = 16  # of the thumbnails that decide on images
BITS_APART = 3  # of the 64 of an image's signature
THUMBNAIL_APART = 0.03  # of the range from its darkest to its lightest
LONG_TEXT = 32  # beside numbers a shorter one is a word
LETTERS = 5  # of a shingle
BANDS, ROWS = 16, 4
JACCARD = 0.8
_MULTIPLIERS = np.random.default_rng(5).integers(1, 2**64, size=(BANDS * ROWS, 2), dtype=np.uint64) | np.uint64(1)


@dataclass(frozen=True, slots=True)
class Content:
    """What a sample is compared by: its inputs, whole and in the part that near duplicates are looked for in.

    Attributes:
        exact: A digest of all inputs, 16 bytes.
        kind: "image", "text", "numbers", or "" where near duplicates are not looked for.
        part: The image (channels first or last), the text, or all numbers.
    """

    exact: bytes
    kind: str
    part: Any


def content_of_sample(sample: Any, schema: Schema | None) -> Content:
    """Return what a sample is compared by: all parts that are no targets, or the first of a pair of which nothing is known."""
    parts = _inputs(sample, schema)
    digest = hashlib.blake2b(digest_size=16)
    arrays: list[tuple[Field, Any]] = []
    for field, leaf in parts:
        value = leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf
        array = value.contiguous() if isinstance(value, Tensor) else value
        digest.update(f"{getattr(array, 'dtype', type(array).__name__)} {tuple(np.shape(array))}\n".encode())
        digest.update(_bytes(array))
        arrays.append((field, array.float().numpy() if isinstance(array, Tensor) else array))
    image = next((array for field, array in arrays if kind_of(field, array) == "image"), None)
    if image is not None:
        return Content(digest.digest(), "image", image)
    texts = [array for _, array in arrays if isinstance(array, str)]
    if texts and (len(texts) == len(arrays) or max(map(len, texts)) >= LONG_TEXT):
        return Content(digest.digest(), "text", max(texts, key=len))
    numbers = [np.asarray(array) for _, array in arrays if np.asarray(array).dtype.kind in "biuf"]
    enough = sum(array.size for array in numbers) >= NUMBERS
    return Content(digest.digest(), "numbers" if enough else "", numbers)


def signature(content: Content) -> Words:
    """Return the signature of a sample, shape (words,): one word of an image or of numbers, sixteen of a text."""
    if content.kind == "image":
        return np.array([_difference_hash(content.part)], dtype=np.uint64)
    if content.kind == "text":
        return _bands(shingles(content.part))
    digest = hashlib.blake2b(digest_size=8)
    for array in content.part:
        digest.update(rounded(array).tobytes())
    return np.frombuffer(digest.digest(), dtype=np.uint64)


def alike(one: Content, other: Content) -> bool:
    """Return whether two samples of near signatures are near duplicates."""
    if one.kind == "image":
        first, second = thumbnail(one.part), thumbnail(other.part)
        return first is not None and second is not None and float(np.abs(first - second).mean()) <= THUMBNAIL_APART
    if one.kind == "text":
        left, right = shingles(one.part), shingles(other.part)
        common = len(np.intersect1d(left, right))
        return bool(common >= JACCARD * (len(left) + len(right) - common))
    return len(one.part) == len(other.part) and all(
        np.array_equal(rounded(mine), rounded(theirs)) for mine, theirs in zip(one.part, other.part, strict=True)
    )


def rounded(array: Any) -> npt.NDArray[np.float64]:
    """Return numbers in three significant digits, a last dimension above 64 averaged down to 64."""
    values = torch.as_tensor(np.asarray(array, dtype=np.float64))
    if values.ndim and values.shape[-1] > STEPS:
        values = torch.nn.functional.adaptive_avg_pool1d(values.reshape(1, -1, values.shape[-1]), STEPS)
    numbers = values.numpy()
    with np.errstate(all="ignore"):
        scale = 10.0 ** np.floor(np.log10(np.abs(numbers)) - 2)
        made = np.where(np.isfinite(scale) & (scale > 0), np.round(numbers / scale) * scale, numbers)
    return np.asarray(made + 0.0, dtype=np.float32).astype(np.float64)  # + 0.0 makes -0.0 a 0; float32 hides the last bits


def grey(image: Any) -> Tensor:
    """Return an image as float64 (1, 1, height, width), its channels averaged."""
    values = torch.as_tensor(np.asarray(image, dtype=np.float64))
    if values.ndim == 3:
        values = values.mean(0 if values.shape[0] in (1, 3, 4) or values.shape[-1] not in (1, 3, 4) else -1)
    return values.reshape(1, 1, *values.shape[-2:])


def thumbnail(image: Any) -> npt.NDArray[np.float64] | None:
    """Return an image as 16 x 16 greys from 0 to 1; None where it has one grey alone."""
    small = torch.nn.functional.adaptive_avg_pool2d(grey(image), SIDE)
    low, high = float(small.min()), float(small.max())
    return None if not high > low else np.asarray(((small - low) / (high - low)).numpy()[0, 0], dtype=np.float64)


def shingles(text: str) -> Words:
    """Return the hashes of all runs of five letters, lower case and blanks as one, each once."""
    plain = re.sub(r"\s+", " ", text).strip().lower().ljust(LETTERS)
    codes = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    runs = np.lib.stride_tricks.sliding_window_view(codes, LETTERS)
    hashed = np.zeros(len(runs), dtype=np.uint64)
    for column in runs.T:
        hashed = (hashed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        hashed ^= hashed >> np.uint64(29)
    return np.unique(hashed)


def _difference_hash(image: Any) -> int:
    """Return 64 bits: whether each of 8 x 9 averaged greys is darker than its right neighbour (Krawetz's dHash, 2013)."""
    small = torch.nn.functional.adaptive_avg_pool2d(grey(image), (8, 9))[0, 0]
    bits = (small[:, 1:] > small[:, :-1]).reshape(-1).tolist()
    return sum(1 << place for place, bit in enumerate(bits) if bit)


def _bands(hashes: Words) -> Words:
    """Return the bands of a MinHash (Broder, 1997): of two sets one is equal almost surely where four in five shingles are."""
    with np.errstate(over="ignore"):
        smallest = (hashes[None, :] * _MULTIPLIERS[:, :1] + _MULTIPLIERS[:, 1:]).min(1)
        bands = np.zeros(BANDS, dtype=np.uint64)
        for row in range(ROWS):
            bands = (bands ^ smallest[row::ROWS]) * np.uint64(0x9E3779B97F4A7C15)
    return bands


def _inputs(sample: Any, schema: Schema | None) -> list[tuple[Field, Any]]:
    """Return the parts of a sample that are learnt from."""
    leaves = list(leaves_with_paths(sample))
    fields: Sequence[Field] = schema.fields if schema is not None else ()
    if len(fields) == len(leaves):
        inputs = [(field, leaf) for field, (_, leaf) in zip(fields, leaves, strict=True) if not field.target]
        if inputs:
            return inputs
    pair = isinstance(sample, tuple) and len(sample) == 2
    return [(Field(path), leaf) for path, leaf in leaves if not pair or path.startswith("[0]")]


def _bytes(value: Any) -> bytes:
    if isinstance(value, Tensor):
        return value.reshape(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, np.ndarray) and value.dtype != object:
        return np.ascontiguousarray(value).tobytes()
    return repr(value).encode("utf-8", "surrogatepass")
