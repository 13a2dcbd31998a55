"""Plain tables for a terminal, and numbers with their units."""

from __future__ import annotations

from collections.abc import Sequence

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> list[str]:
    r"""Return the lines of a table: the first ``left`` columns begin together, the others end together.

    A row without cells is a rule.

    >>> print(*aligned(("layer", "parameters"), [("Linear", "12"), (), ("all", "12")]), sep="\n")
    layer   parameters
    ------------------
    Linear          12
    ------------------
    all             12
    """
    widths = [max(len(row[place]) for row in (header, *rows) if row) for place in range(len(header))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))

    def line(row: Sequence[str]) -> str:
        if not row:
            return rule
        cells = zip(row, widths, strict=True)
        return "  ".join(
            cell.ljust(width) if place < left else cell.rjust(width) for place, (cell, width) in enumerate(cells)
        ).rstrip()

    return [line(header), rule, *map(line, rows)]


def in_bytes(number: float) -> str:
    """Return a number of bytes in the largest unit that leaves at least 1, in powers of 1000.

    >>> in_bytes(999), in_bytes(1_500), in_bytes(2_000_000_000)
    ('999 B', '1.5 kB', '2 GB')
    """
    power = 0
    while abs(number) >= 999.5 and power < len(_UNITS) - 1:
        number, power = number / 1000, power + 1
    return f"{number:.3g} {_UNITS[power]}"


def in_seconds(seconds: float) -> str:
    """Return a duration in the units that people say it in.

    >>> in_seconds(0.0042), in_seconds(0.11), in_seconds(61), in_seconds(7_300)
    ('4.2 ms', '0.11 s', '1 min 1 s', '2 h 1 min')
    """
    if seconds < 0.0995:  # what two digits can say
        return f"{seconds * 1000:.2g} ms"
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "update"), counted(2_000, "update")
    ('1 update', '2,000 updates')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
