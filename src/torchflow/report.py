"""Facts about a run as lines of at most 80 columns; nothing that a file says can move the cursor or colour the text."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torchflow.cached_folders import Cache, Caches, Cleared
from torchflow.inspection import CHOSEN, Entry, Folder, Inspection, ResumePlan, Verification

WIDTH = 80
"""The columns of a terminal."""
_LABEL = 13
_NAME = 30
"""The longest name of a column; a longer one loses its middle."""


def inspection_lines(found: Inspection) -> Iterator[str]:
    """Return the lines of ``torchflow inspect``."""
    yield from _folder_lines(found.folder)
    yield from _field("seed", "not known" if found.seed is None else str(found.seed))
    yield from _field("data", ", ".join(f"{name} {value}" for name, value in (found.data or {}).items()) or "not known")
    yield from ("", "CHECKPOINTS")
    yield from _entry_lines(found.checkpoints)
    yield from ("", f"ENVIRONMENT of {found.newest or 'no checkpoint'}, beside this one")
    yield from _environment_lines(found)
    shown = f", the last {len(found.history)}" if len(found.history) < found.history_rows else ""
    yield from ("", f"HISTORY, {_counted(found.history_rows, 'row')}{shown}")
    yield from _history_lines(found.history)


def verification_lines(found: Verification) -> Iterator[str]:
    """Return the lines of ``torchflow verify``."""
    yield from _folder_lines(found.folder)
    yield from ("", "CHECKPOINTS")
    yield from _entry_lines(found.checkpoints)
    bad = sum(not entry.sound for entry in found.checkpoints)
    verdict = f"{bad} of them not sound" if bad else "all of them sound"
    if found.checkpoints:
        yield from ("", f"{_counted(len(found.checkpoints), 'checkpoint')} read, {verdict}.")


def plan_lines(found: ResumePlan) -> Iterator[str]:
    """Return the lines of ``torchflow resume-plan``."""
    yield from _folder_lines(found.folder)
    yield ""
    for entry in found.passed_over:
        yield from _field("passed over", f"{entry.name}: {entry.reason}")
    if found.chosen is None:
        rest = (
            "none of the checkpoints is sound. fit(resume=True) refuses; restore a copy, or start anew."
            if found.passed_over
            else "there is no checkpoint. fit(resume=True) starts at the beginning."
        )
        yield from _field("loads", f"nothing: {rest}")
        return
    why = "the newest that is sound" if found.passed_over else "the newest, and it is sound"
    yield from _field("loads", f"{found.chosen.name}, {why}")
    if found.position is None:
        yield from _field("goes on", "nowhere: the checkpoint holds no position of a run that this version reads")
        return
    at = found.position
    place = f"in epoch {at['epoch']} at batch {at['batch']}, both from 0, with {_counted(at['updates'], 'update')}"
    yield from _field("goes on", f"{place} and {_counted(at['samples'], 'sample')} done")
    if found.stop_reason is None:
        yield from _field("had stopped", "no; it goes on until the limits that fit is given, epochs=... for example")
    else:
        rest = "A resume returns at once, unless the rule was changed."
        yield from _field("had stopped", f"yes, by {found.stopped_by}: {found.stop_reason}. {rest}")
    if found.folder.in_use:
        yield from _field("but", "the run is in use now, so a resume is refused until it has ended")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], keys: int = 0, *, words: bool = False) -> Iterator[str]:
    """Return a table in blocks that fit the width.

    Args:
        header: The names of the columns.
        rows: The cells, as many in each row as there are names.
        keys: How many columns at the left come again in each block.
        words: Whether the cells are words, which begin at the left, and no numbers.
    """
    names = [_cut(escaped(name)) for name in header]
    cells = [[escaped(cell) for cell in row] for row in rows]
    widths = [max(map(len, (name, *(row[i] for row in cells)))) for i, name in enumerate(names)]
    left, block = list(range(keys)), list(range(keys))
    blocks = []
    for column in range(keys, len(names)):
        if len(block) > keys and sum(widths[i] + 2 for i in [*block, column]) - 2 > WIDTH:
            blocks.append(block)
            block = list(left)
        block.append(column)
    for number, columns in enumerate([*blocks, block]):
        if number:
            yield ""
        for row in (names, *cells):
            yield "  ".join(row[i].ljust(widths[i]) if words else row[i].rjust(widths[i]) for i in columns).rstrip()


def cache_lines(found: Caches) -> Iterator[str]:
    """Return the lines of ``torchflow cache list``."""
    yield from _field("folder", found.folder)
    yield from _field("caches", f"{len(found.caches)}, {size_text(found.bytes)}")
    for cache in found.caches:
        state = {True: ", in use", None: ", whether it is in use cannot be seen"}.get(cache.in_use, "")
        yield from _cache_lines(cache, state)


def cleared_lines(done: Cleared) -> Iterator[str]:
    """Return the lines of ``torchflow cache clear``."""
    yield from _field("folder", done.folder)
    yield from _field("removed", f"{len(done.removed)}, {size_text(done.bytes)}")
    for cache in done.removed:
        yield from _cache_lines(cache)
    if done.left:
        yield from _field("left", str(len(done.left)))
    for cache, reason in done.left:
        yield from _cache_lines(cache, f": {reason}")


def escaped(text: str) -> str:
    """Return a text in which every character that is not printed as itself is spelled out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def size_text(count: int) -> str:
    """Return a length in bytes in three or four digits."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def age_text(seconds: float | None) -> str:
    """Return an age in its largest whole unit."""
    if seconds is None:
        return "?"
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds)} s"


def plain(value: Any) -> Any:
    """Return a tree of facts as JSON can hold it: a number that is not finite becomes None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _folder_lines(folder: Folder) -> Iterator[str]:
    yield from _field("run", folder.path)
    writer = folder.last_writer or "an unknown process"
    if folder.in_use:
        yield from _field("in use", f"yes, by {writer}")
    elif folder.in_use is None:
        yield from _field("in use", f"cannot be seen from here; the last to write was {writer}")
    else:
        yield from _field("in use", f"no; the last to write was {writer}" if folder.last_writer else "no")
    for note in folder.notes:
        yield from _field("note", note)
    for names, why in ((folder.rejected, "found damaged earlier"), (folder.aside, "of a future that was not taken")):
        if names:
            yield from _field("kept", f"{why}: {', '.join(names)}")


def _entry_lines(entries: Sequence[Entry]) -> Iterator[str]:
    if not entries:
        yield "  none"
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        verdict = "verified" if entry.sound else "NOT SOUND"
        size, age = size_text(entry.bytes), age_text(entry.age)
        yield f"  {entry.name.ljust(width)}  {age:>6} old  {size:>10}  {verdict}{', best' if entry.best else ''}"
        if entry.reason is not None:
            yield from _wrapped(entry.reason, "      ", "      ")


def _cache_lines(cache: Cache, after: str = "") -> Iterator[str]:
    yield from _wrapped(os.path.basename(cache.path), "  ", "    ")
    yield from _wrapped(f"{size_text(cache.bytes)}, used {age_text(cache.age)} ago, {cache.made_of}{after}", "      ", "      ")


def _environment_lines(found: Inspection) -> Iterator[str]:
    stored = found.stored_environment or {}
    rows = []
    for name in dict.fromkeys([*stored, *found.present_environment]):
        present = "the program's choice" if name in CHOSEN else str(found.present_environment.get(name, "not recorded"))
        rows.append((_cut(name), _cut(str(stored.get(name, "not recorded"))), _cut(present)))
    yield from ("  " + line for line in table(("", "stored", "here"), rows, keys=3, words=True))
    for sentence in found.differences:
        yield from _wrapped(f"{sentence}: the last bits may differ.", "  ! ", "    ")


def _history_lines(rows: Sequence[Mapping[str, float]]) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if names:
        yield from table(names, [[_number(row.get(name)) for name in names] for row in rows], keys=2)


def _number(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if type(value) is int else f"{value:.6g}"


def _field(label: str, text: str) -> Iterator[str]:
    yield from _wrapped(text, label.ljust(_LABEL), " " * _LABEL)


def _wrapped(text: str, first: str, later: str) -> list[str]:
    return textwrap.wrap(escaped(text), WIDTH, initial_indent=first, subsequent_indent=later, break_on_hyphens=False)


def _cut(text: str) -> str:
    half = _NAME // 2 - 1
    return text if len(text) <= _NAME else f"{text[:half]}..{text[-half:]}"


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
