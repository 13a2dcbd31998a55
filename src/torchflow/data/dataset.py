"""Dataset: an immutable description of samples, and its algebra."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, cast, overload

import torch
from torch import Tensor

from torchflow import arguments
from torchflow.data import splits
from torchflow.data.caches import Cache
from torchflow.data.draw import Draw, first_draw
from torchflow.data.joins import Concat, Repeat, Zip
from torchflow.data.maps import Filter, Map, MapBatch, MapRandom
from torchflow.data.order import pieces
from torchflow.data.provenance import Training, note_division
from torchflow.data.schema import Schema
from torchflow.data.sources import Source
from torchflow.data.views import Part, Select, Slice
from torchflow.data.windows import Runs, Windows
from torchflow.errors import ArgumentTypeError, ArgumentValueError
from torchflow.types import SampleValues, T, U, V

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNFITTED = "An encoder is fitted before it is mapped: Standardize().fit(train)."


class Dataset(Generic[T]):
    """An immutable description of samples; every method returns another and changes nothing.

    Datasets come from the factories of :mod:`torchflow.data`. ``len(dataset)``, ``dataset[i]`` and iteration read
    samples as they are in epoch 0 under seed 0; a run reads batches through :meth:`take_batch`, with its own draw.

    Args:
        source: The node that this dataset shows.
    """

    __slots__ = ("_source",)

    def __init__(self, source: Source) -> None:
        self._source = source

    @property
    def source(self) -> Source:
        """The node that this dataset shows."""
        return self._source

    @property
    def schema(self) -> Schema | None:
        """What a sample is, as long as samples are only chosen and not changed; None where nobody knows."""
        return self._source.schema

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a path and a reason, for the files that ``bad="skip"`` has left out."""
        return self._source.skipped

    @property
    def left_out(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a path and a reason, for hidden files and other suffixes, which a folder held and which are not read."""
        return self._source.left_out

    def __len__(self) -> int:
        return self._source.length

    def __getitem__(self, index: int) -> T:
        try:
            place = operator.index(index)
        except TypeError:
            remedy = "Use dataset.select(indices) or dataset.skip(n).take(m) for several samples."
            raise ArgumentTypeError(f"an index must be an int, got {arguments.shown(index)}. {remedy}") from None
        length = len(self)
        if not -length <= place < length:
            raise IndexError(f"index {place} is out of range for a dataset of {length} samples")
        return cast(T, self._source.samples(torch.tensor([place % length]), first_draw())[0])

    def __iter__(self) -> Iterator[T]:
        draw = first_draw()
        for indices in pieces(len(self), 256 if self._source.columnar else 1):
            yield from self._source.samples(indices, draw)

    def __repr__(self) -> str:
        schema = self.schema
        return f"Dataset({len(self)} samples, {self._source.lineage}{'' if schema is None else f'; {schema}'})"

    def show(self, n: int = 8, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw samples: images with their labels, sound over seconds, spectrograms, clips as rows of frames, series, texts, tables.

        How a part is drawn follows from its field in :attr:`schema`, and without one from its shape.

        Args:
            n: How many samples, at most 64, evenly over the dataset from the first to the last.
            path: Where to save the figure; the suffix says the format (``.png``, ``.pdf``, ``.svg``).

        Returns:
            The figure, which notebooks display.

        Raises:
            MissingExtraError: matplotlib is not installed.
            ArgumentValueError: There are no samples, or more than fit.
        """
        from torchflow.data.show import show  # noqa: PLC0415  (most programs draw nothing)

        return show(self._source, n, path)

    # A batch is collated: what it is follows from what the samples are.
    def take_batch(self, indices: Tensor | Sequence[int], draw: Draw | None = None) -> Any:
        """Return the collated batch of some samples, in fresh tensors (batch, ...).

        Args:
            indices: int64, shape (batch,), from 0 to len - 1.
            draw: The seed and epoch of random maps; None is epoch 0 under seed 0.

        Raises:
            ArgumentTypeError: The indices are not whole numbers.
            ArgumentValueError: An index is out of range.
            DataError: A function of the user failed, or the samples do not stack.
        """
        return self._source.batch(self._checked(indices), first_draw() if draw is None else draw)

    def take_samples(self, indices: Tensor | Sequence[int], draw: Draw | None = None) -> list[T]:
        """Return some samples, one by one; as :meth:`take_batch` before collating."""
        return self._source.samples(self._checked(indices), first_draw() if draw is None else draw)

    def map(self, function: Callable[[T], U]) -> Dataset[U]:
        """Return the dataset of ``function(sample)``.

        The global generators of torch, NumPy and :mod:`random` stand under the sample's key when it is called; for
        augmentation :meth:`map_random` says so openly and is faster.
        """
        return Dataset(Map(self._source, arguments.function("function", function, hint=_UNFITTED)))

    # From batch to batch, and nobody says what a sample of the new one is.
    def map_batch(self, function: Callable[[Any], Any]) -> Dataset[Any]:
        """Return the dataset that a vectorised function makes of whole batches.

        Args:
            function: From a collated batch (batch, ...) to a batch of as many samples, where each row depends on that
                row alone; otherwise results change with the batch size.
        """
        return Dataset(MapBatch(self._source, arguments.function("function", function, hint=_UNFITTED)))

    def map_random(self, function: Callable[[T, torch.Generator], U], *, name: str | None = None) -> Dataset[U]:
        """Return the dataset of ``function(sample, generator)``, drawn anew in every epoch.

        Args:
            function: From a sample and a ``torch.Generator`` under the sample's key to a sample; it draws from nothing
                but the generator.
            name: Maps of one name draw equally, for an image and its mask in two datasets; None draws apart.
        """
        if name is not None and not isinstance(name, str):
            raise ArgumentTypeError(f"name must be text or None, got {arguments.shown(name)}.")
        return Dataset(MapRandom(self._source, arguments.function("function", function), name))

    def filter(self, predicate: Callable[[T], object]) -> Dataset[T]:
        """Return the samples that a predicate wants; all are read once, at the first need.

        Raises:
            ArgumentValueError: The dataset has a random map: its samples differ from epoch to epoch.
        """
        arguments.function("predicate", predicate)
        self._refuse_random("filter")
        return Dataset(Filter(self._source, predicate))

    def cache(self, folder: str | os.PathLike[str] | None = None) -> Dataset[T]:
        """Return the dataset whose samples are made once and then kept, in memory or on disk.

        On disk samples lie in safetensors files, which are mapped into memory and written whole, some samples at a time, by
        however many processes. One folder serves any number of datasets: each cache lies under a digest of its data (files by
        name, size and time of change) and of the code and values of all functions, so that a change is noticed and made anew. Old
        caches stay until ``torchflow cache clear`` removes them; the ``manifest.json`` in each says what it was made of.

        Args:
            folder: Where samples are kept; None is in memory.

        Raises:
            ArgumentValueError: The dataset has a random map: it would draw no more.
            CacheError: The folder cannot be written, a sample holds what cannot be kept, or a function what cannot be hashed.
        """
        self._refuse_random("cache")
        if folder is None:
            return Dataset(Cache(self._source))
        from torchflow.data.disk_cache import DiskCache  # noqa: PLC0415  (most programs keep nothing on disk)

        return Dataset(DiskCache(self._source, arguments.path("folder", folder)))

    def select(self, indices: Tensor | Sequence[int]) -> Dataset[T]:
        """Return the samples at some indices, in that order; they may repeat, and count from the end if negative."""
        return Dataset(Select(self._source, self._checked(indices, negative=True).clone()))

    def take(self, count: int) -> Dataset[T]:
        """Return the first ``count`` samples, or all if there are fewer."""
        return Dataset(Slice(self._source, 0, min(arguments.whole("count", count, minimum=0), len(self)), "take"))

    def skip(self, count: int) -> Dataset[T]:
        """Return all but the first ``count`` samples."""
        start = min(arguments.whole("count", count, minimum=0), len(self))
        return Dataset(Slice(self._source, start, len(self) - start, "skip"))

    def concat(self, *others: Dataset[T]) -> Dataset[T]:
        """Return the samples of this dataset and then those of the others."""
        return Dataset(Concat([self._source, *_sources("concat", others)]))

    @overload
    def zip(self, other: Dataset[U], /) -> Dataset[tuple[T, U]]: ...

    @overload
    def zip(self, second: Dataset[U], third: Dataset[V], /) -> Dataset[tuple[T, U, V]]: ...

    @overload  # beyond three, annotations have no word for a tuple of each one's sample
    def zip(self, *others: Dataset[Any]) -> Dataset[tuple[Any, ...]]: ...

    def zip(self, *others: Dataset[Any]) -> Dataset[Any]:
        """Return tuples of a sample of each dataset; random maps of the sides draw apart unless they share a name.

        Raises:
            ArgumentValueError: The datasets differ in length.
        """
        sources = [self._source, *_sources("zip", others)]
        lengths = [source.length for source in sources]
        if len(set(lengths)) > 1:
            said = ", ".join(map(str, lengths))
            raise ArgumentValueError(f"zip needs datasets of one length, got {said}. Use take({min(lengths)}) on the longer ones.")
        return Dataset(Zip(sources))

    def repeat(self, times: int) -> Dataset[T]:
        """Return the samples ``times`` times over; random maps draw anew each time."""
        return Dataset(Repeat(self._source, arguments.whole("times", times)))

    # A window is collated, which makes tensors of numbers: what its samples become follows from what they are.
    def windows(self, length: int, stride: int = 1, horizon: int = 0, *, group: SampleValues = None) -> Dataset[Any]:
        """Return runs of consecutive samples: tensors (length, ...), the first dimension being time.

        No window, nor what follows it, spans the end of a dataset that was joined by ``concat`` or ``repeat``, the end of a file,
        a place where a split left samples out, or two groups.

        Args:
            length: Samples in a window.
            stride: Samples between the starts of two windows.
            horizon: Samples that follow the window; above 0 a sample is the pair (window, what follows).
            group: What each series is known by, where several stand in one table, also interleaved: the name of a field or a
                column, a key, a position, or a list of values. Within a group the order of samples is that of time.

        Raises:
            ArgumentValueError: The dataset, or every run in it, is too short for one window.
        """
        steps, gap = arguments.whole("length", length), arguments.whole("stride", stride)
        ahead = arguments.whole("horizon", horizon, minimum=0)
        runs = Runs.of(self._source, group)
        longest = len(self) if runs is None else int(runs.lengths.max())
        if steps + ahead > longest:
            where = f"{len(self)} samples" if runs is None else f"the longest of {len(runs.lengths)} runs, {longest} samples"
            remedy = "Use a shorter one." if longest > 1 or len(self) < 2 else "Split by time or by group, or take windows before."
            raise ArgumentValueError(f"a window of {steps} + {ahead} samples does not fit into {where}. {remedy}")
        return Dataset(Windows(self._source, steps, gap, ahead, runs))

    def split(
        self,
        *parts: float,
        seed: int = 0,
        stratify: SampleValues = None,
        group: SampleValues = None,
        time: SampleValues = None,
        gap: int = 0,
    ) -> tuple[Dataset[T], ...]:
        """Return disjoint parts: random ones, or by class, by group or by time; the first is the training part.

        ``stratify``, ``group`` and ``time`` exclude each other. Each is the name of a field of the schema, of a column, a key, a
        position in a sample, or a list with a value for each sample. Every sample is in exactly one part, but for gaps.

        Args:
            parts: Fractions that sum to 1, whose sizes are rounded by largest remainder, or counts that sum to the length.
            seed: Names the shuffle; equal seeds give equal parts.
            stratify: A class: every part gets its share of every class, rounded up or down.
            group: A group, such as a patient: none is in two parts; sizes are met to within the largest group.
            time: A time, or True where samples are in order: each part is later than the one before, and in order; samples
                of one time stay together.
            gap: Samples that are left out between two parts in time.

        Raises:
            ArgumentTypeError: The parts mix fractions and counts, or are no numbers; or two rules at once.
            ArgumentValueError: They do not sum up, a part would be empty, or a rule names nothing that samples have.
        """
        by = splits.By(seed, stratify, group, time, gap)
        pieces = splits.split(self._source, parts, by)
        note_division(self._source, "split")
        made = (Select(self._source, piece, "split", Part("split", i, len(pieces), by.kind)) for i, piece in enumerate(pieces))
        return tuple(map(Dataset, made))

    def kfold(
        self,
        folds: int,
        seed: int = 0,
        *,
        stratify: SampleValues = None,
        group: SampleValues = None,
        time: SampleValues = None,
        gap: int = 0,
    ) -> list[tuple[Dataset[T], Dataset[T]]]:
        """Return ``folds`` pairs (train, valid); every sample is in exactly one ``valid``.

        The rules are those of :meth:`split`. In time each fold trains on what comes before what it validates, so the first of
        ``folds + 1`` blocks is only trained on.

        Args:
            folds: How many, at least 2.
            seed: Names the shuffle.
            stratify: A class that all folds have in equal shares; one of fewer samples than folds is missing from some, which a warning
                says.
            group: A group that is in one fold alone.
            time: A time, or True where samples are in order.
            gap: Samples that are left out before each validated block.

        Raises:
            ArgumentTypeError: Two rules at once.
            ArgumentValueError: Fewer than 2 folds, more than samples, groups or members of the largest class, or a rule names nothing that samples have.
        """
        by = splits.By(seed, stratify, group, time, gap)
        pairs = splits.kfold(self._source, arguments.whole("folds", folds, minimum=2), by)
        note_division(self._source, "kfold")
        train, valid = (Part("kfold", number, 2, by.kind) for number in range(2))
        source = self._source
        return [
            (Dataset(Select(source, one, "kfold", train)), Dataset(Select(source, other, "kfold", valid))) for one, other in pairs
        ]

    def as_training(self) -> Dataset[T]:
        """Return this dataset, from which encoders may learn whatever part of a split it is: that is meant."""
        return Dataset(Training(self._source))

    def _checked(self, indices: object, negative: bool = False) -> Tensor:
        """Return indices as an int64 tensor (batch,), all in range."""
        return splits.checked_indices(indices, len(self), negative)

    def _refuse_random(self, verb: str) -> None:
        if self._source.random:
            raise ArgumentValueError(
                f"{verb} cannot stand above a random map: the samples of {self._source.lineage} differ from epoch to epoch. "
                f"Put {verb} before map_random."
            )


def _sources(verb: str, others: Sequence[object]) -> list[Source]:
    """Return the nodes of other datasets."""
    for other in others:
        if not isinstance(other, Dataset):
            raise ArgumentTypeError(f"{verb} takes datasets, got {arguments.shown(other)}. Wrap it with torchflow.data.as_dataset.")
    return [other.source for other in others if isinstance(other, Dataset)]
