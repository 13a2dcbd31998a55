"""Where samples come from: which part of a split they are, and who has learnt from them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from torchflow.data.sources import Source
from torchflow.data.views import Part, Select, Slice
from torchflow.errors import LeakError

_MEANT = "If that is meant, say so: fit(dataset.as_training())."


class Training(Slice):
    """All samples of a parent, which are training data because the user says so.

    Args:
        parent: Where the samples are.
    """

    def __init__(self, parent: Source) -> None:
        super().__init__(parent, 0, parent.length, "as_training")


@dataclass(frozen=True, slots=True)
class Seen:
    """A node of a tree, and the parts of a split that it is."""

    source: Source
    parts: tuple[Part, ...]


def check_training(source: Source, encoder: str) -> None:
    """Check that an encoder may learn from samples: neither from a part that is held out, nor from the whole of what was split.

    Raises:
        LeakError: It may not.
    """
    for seen in _nodes(source):
        for part in seen.parts:
            if part.number:
                names = ["training", *(["validation"] if part.of > 2 or part.verb == "kfold" else []), "test"]
                name = names[part.number] if part.number < len(names) else "held-out"
                raise LeakError(
                    f"{encoder}.fit was given part {part.number} of {part.of} of {seen.source.lineage}, a {name} part. Encoders learn "
                    f"from the first part alone: what they learn of the others, a test can no longer judge. {_MEANT}"
                )
        if seen.source.divided:
            raise LeakError(
                f"{encoder}.fit was given all of {seen.source.lineage}, which was split before: the parts that are held out too. "
                f"Fit on the training part. {_MEANT}"
            )
    if not isinstance(source, Training):
        source.learnt_by = encoder


def note_division(source: Source, verb: str) -> None:
    """Remember that samples were split, and warn where an encoder has learnt from all of them before."""
    for seen in _nodes(source):
        if seen.source.learnt_by:
            warnings.warn(
                f"{seen.source.learnt_by} was fitted on all of {seen.source.lineage}, which {verb} divides now: it has learnt from "
                "the parts that are held out. Split first, then fit on the training part.",
                stacklevel=4,
            )
        seen.source.divided = True


def _nodes(source: Source) -> Iterator[Seen]:
    """Yield the nodes whose samples are read as a whole: what lies below a part of a split, or below Training, is not."""
    waiting = [source]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Training):
            continue
        parts = node.parts if isinstance(node, Select) else ()
        yield Seen(node, parts)
        if not parts:
            waiting.extend(node.parents)
