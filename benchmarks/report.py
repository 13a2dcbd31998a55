"""Writes what was measured into docs/performance.rst, between its marks, and draws its picture.

    python -m benchmarks.report

Parts that were never measured leave their place in the page as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.columns import DATA, GROWTH
from benchmarks.contestants import CONTESTANTS
from benchmarks.plot import draw
from benchmarks.results import Row

DOCS = Path(__file__).parent.parent / "docs"
WORKLOADS = ("W1", "W2", "W3", "W4")
NOTHING = "\N{EN DASH}"  # a hyphen would begin a list
PICTURE = Path("_static/speed.png")
ALT = "For each workload, the time of an update of every contestant on one thread, in units of the loop by hand, on a logarithmic scale."
BEGIN, END = ".. {}: begin (written by `make bench`)", ".. {}: end"


def main() -> None:
    """Write every block that there are results for."""
    page = DOCS / "performance.rst"
    text = page.read_text(encoding="utf-8")
    for name, block in BLOCKS.items():
        if lines := block():
            text = put(text, name, lines)
    page.write_text(text, encoding="utf-8")
    for kind in kinds()[:1]:
        measured = {what: [row for row in speeds(what, 1, kind) if "ratio" in row] for what in WORKLOADS}
        if all(measured.values()):
            draw(measured, DOCS / PICTURE)


def put(page: str, name: str, lines: Sequence[str]) -> str:
    """Return the page with the lines between the marks of a block."""
    begin, end = BEGIN.format(name), END.format(name)
    before, found, rest = page.partition(begin)
    if not found or end not in rest:
        raise ValueError(f"docs/performance.rst has no block {name!r}: it needs the lines {begin!r} and {end!r}")
    return "\n".join([f"{before}{begin}", "", *lines, "", f"{end}{rest.partition(end)[2]}"])


def speed() -> list[str]:
    """Return the tables of ratios and of compile times: of the first kind of processor whole, of the others torchflow's own and JAX."""
    lines = [f".. image:: {PICTURE}", f"   :alt: {ALT}", ""] if all(results.load(f"speed-{what}-1") for what in WORKLOADS) else []
    for place, kind in enumerate(kinds()):
        for threads in (1, 2):
            by_workload = {what: speeds(what, threads, kind) for what in WORKLOADS}
            if place:
                by_workload = {what: [row for row in rows if _is_own(row["contestant"])] for what, rows in by_workload.items()}
            rows = [row for found in by_workload.values() for row in found]
            if not rows:
                continue
            title = f"**{threads} thread{'s' if threads > 1 else ''}, {kind}.**"
            lines += [f"{title} {said(rows)}", "", *_ratios(by_workload), "", *_left_out(by_workload), ""]
            if compiled := _compile_times(by_workload):
                lines += ["Seconds until the first update was made, less an update's own time:", "", *compiled, ""]
    return lines[:-1]


def _is_own(contestant: str) -> bool:
    return contestant.startswith(("torchflow", "hand", "jax"))


def kinds() -> list[str]:
    """Return the kinds of processors on which updates were measured, the one on which most was measured first."""
    rows = [row for what in WORKLOADS for threads in (1, 2) for row in results.load(f"speed-{what}-{threads}")]
    return [kind for kind, _ in Counter(map(results.kind, rows)).most_common()]


def speeds(what: str, threads: int, kind: str) -> list[Row]:
    """Return the rows of a workload that were measured on a kind of processor."""
    return [row for row in results.load(f"speed-{what}-{threads}") if results.kind(row) == kind]


def _ratios(by_workload: dict[str, list[Row]]) -> list[str]:
    """Return a line a contestant: the median ratio to the loop by hand, and its quartiles."""
    names = [one.name for one in CONTESTANTS]
    cells = {(row["contestant"], what): row for what, rows in by_workload.items() for row in rows if "ratio" in row}
    hands = [
        "hand, µs an update",
        *(_shown(cells.get(("hand", what)), lambda row: f"{row['microseconds']:,.0f}") for what in WORKLOADS),
    ]
    body = [
        [_title(name), *(_shown(cells.get((name, what)), _ratio) for what in WORKLOADS)]
        for name in names
        if name != "hand" and any((name, what) in cells for what in WORKLOADS)
    ]
    best = [
        [
            "torchflow over hand-best",
            *(
                _shown(cells.get(("torchflow", what)), lambda row: f"{row.get('over_best', float('nan')):.2f}")
                for what in WORKLOADS
            ),
        ]
    ]
    return table(["", *WORKLOADS], [hands, *body, *best], [28, 18, 18, 18, 18])


def _title(name: str) -> str:
    return f"**{name}**" if name.startswith("torchflow") else name


def _ratio(row: Row) -> str:
    low, high = row["quartiles"]
    digits = 3 if row["ratio"] < 0.1 else 2
    return f"{row['ratio']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" + ("" if row["agrees"] else " *loss differs*")


def _shown(row: Row | None, text: Callable[[Row], str]) -> str:
    return NOTHING if row is None else text(row)


def _left_out(by_workload: dict[str, list[Row]]) -> list[str]:
    reasons = {row["contestant"]: row["left_out"] for rows in by_workload.values() for row in rows if "left_out" in row}
    if not reasons:
        return []
    return ["Left out: " + "; ".join(f"{name} ({reason})" for name, reason in reasons.items()) + "."]


def _compile_times(by_workload: dict[str, list[Row]]) -> list[str]:
    rows = {
        (row["contestant"], what): row["compiling"] for what, found in by_workload.items() for row in found if "compiling" in row
    }
    names = list(dict.fromkeys(name for name, _ in rows))
    body = [
        [_title(name), *(f"{rows[name, what]:.1f}" if (name, what) in rows else NOTHING for what in WORKLOADS)] for name in names
    ]
    return table(["", *WORKLOADS], body, [28, 18, 18, 18, 18]) if any(name.startswith("torchflow") for name in names) else []


def scaling() -> list[str]:
    """Return the tables of growth."""
    lines: list[str] = []
    for part, (title, columns) in GROWTH.items():
        if rows := results.load(f"scaling-{part}"):
            body = [[text(row) for text in columns.values()] for row in rows]
            lines += [f"*{title}* {said(rows)}", "", *table(list(columns), body), ""]
    return lines[:-1]


def data() -> list[str]:
    """Return the tables of data."""
    lines: list[str] = []
    for part, (title, columns) in DATA.items():
        if rows := results.load(f"data-{part}"):
            body = [[text(row) for text in columns.values()] for row in rows]
            lines += [f"*{title}* {said(rows)}", "", *table(list(columns), body), ""]
    return lines[:-1]


def microseconds() -> list[str]:
    """Return the two tables of an update's parts."""
    ladder, samples = results.load("profiling-ladder"), results.load("profiling-samples")
    if not ladder or not samples:
        return []
    parts = list(dict.fromkeys(row["part"] for row in ladder))
    rungs = {(row["workload"], row["part"]): row for row in ladder}
    first = [[part, *(_rung(rungs[what, part]) for what in ("W1", "W2"))] for part in parts]
    shares = {(row["workload"], row["part"]): row for row in samples}
    second = [
        [
            part,
            *(
                _shown(shares.get((what, part)), lambda row: f"{row['microseconds']:.1f} ({row['share']:.1%})")
                for what in ("W1", "W2")
            ),
        ]
        for part in dict.fromkeys(row["part"] for row in samples)
    ]
    counts = " and ".join(f"{next(row['samples'] for row in samples if row['workload'] == what):,}" for what in ("W1", "W2"))
    return [
        f"{said(ladder)} Microseconds an update: up to this part, and in brackets the part alone.",
        "",
        *table(["loop", "W1", "W2"], first),
        "",
        f"torchflow's own update, with bar and early stopping, by {counts} samples: microseconds, and the share of an update.",
        "",
        *table(["where the program is", "W1", "W2"], second),
    ]


def _rung(row: Row) -> str:
    return f"{row['up_to']:.1f}" + ("" if row["alone"] is None else f" ({row['alone']:+.1f})")


def said(rows: Iterable[Row]) -> str:
    """Return when and with what the rows were measured."""
    rows = list(rows)

    def all_of(column: str) -> str:
        return ", ".join(dict.fromkeys(str(row[column]) for row in rows))

    libraries = ", ".join(
        dict.fromkeys(row["library"] for row in rows if row.get("library", "torch").partition(" ")[0] not in ("", "torch"))
    )
    rounds = ", ".join(dict.fromkeys(str(row["rounds"]) for row in rows if "rounds" in row))
    return (
        f"Made on {all_of('date')} with torch {all_of('torch')}, Python {all_of('python')}, {all_of('system')}, "
        f"{', '.join(dict.fromkeys(map(results.kind, rows)))}, {all_of('cores')} cores{f'; {rounds} paired rounds' if rounds else ''}{f'; {libraries}' if libraries else ''}."
    )


def table(head: Sequence[str], body: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> list[str]:
    """Return a list-table."""
    options = ["   :header-rows: 1", *([f"   :widths: {' '.join(map(str, widths))}"] if widths else [])]
    lines = [".. list-table::", *options, ""]
    for cells in (head, *body):
        lines += [f"   {'  -' if number else '* -'} {cell}".rstrip() for number, cell in enumerate(cells)]
    return lines


BLOCKS: dict[str, Callable[[], list[str]]] = {"speed": speed, "scaling": scaling, "data": data, "microseconds": microseconds}

if __name__ == "__main__":
    main()
