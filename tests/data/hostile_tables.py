"""Files that are not what they say: tables and workbooks, made by hand and by seeded damage.

python -m tests.data.hostile_tables 500     reads so many damaged files, and prints what became of them
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.data.workbooks import REAL_XLS, Cell, ods, ods_of, sheet_of, sheet_xml, xlsx, xlsx_parts, zipped
from torchflow import data
from torchflow.data import Dataset
from torchflow.errors import DataError, FileError

ROWS: list[list[Cell]] = [["id", "size", "name"]]
ROWS += [[float(i), i / 7, f"name {i}"] for i in range(50)]
CSV = "id,size,name\n" + "".join(f'{i},{i / 7},"name, {i}"\n' for i in range(50))
READERS: dict[str, Callable[[Path], Dataset[Any]]] = {
    ".csv": data.from_csv,
    ".parquet": data.from_parquet,
    ".xlsx": data.from_excel,
    ".xls": data.from_excel,
    ".ods": data.from_excel,
}
MOST = 20_000
FAR = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'


def parquet(table: pa.Table, **options: Any) -> bytes:
    """A parquet file."""
    made = io.BytesIO()
    pq.write_table(table, made, **options)
    return made.getvalue()


def plain_parquet() -> bytes:
    """A sound parquet file with numbers, texts and gaps in three row groups."""
    numbers = [float(i) if i % 5 else None for i in range(300)]
    columns = {"id": list(range(300)), "size": numbers, "name": [f"name {i}" for i in range(300)]}
    return parquet(pa.table(columns), row_group_size=100)


def with_part(name: str, content: str | bytes) -> bytes:
    """A workbook with one part replaced."""
    return zipped({**xlsx_parts({"Sheet": sheet_xml(ROWS)}), name: content})


def lying_zip() -> bytes:
    """A workbook whose archive says that a part is small."""
    made = bytearray(with_part("xl/worksheets/sheet1.xml", sheet_of("<row></row>" * 3_000_000)))
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        size = archive.getinfo("xl/worksheets/sheet1.xml").file_size.to_bytes(4, "little")
    return bytes(made.replace(size, (100).to_bytes(4, "little")))


def repeated_text() -> bytes:
    """Two megabytes that hold one long text twenty million times."""
    codes = pa.array(np.zeros(20_000_000, dtype=np.int8))
    return parquet(pa.table({"a": pa.DictionaryArray.from_arrays(codes, pa.array(["x" * 1000]))}))


# By name: the ending, what makes the file, and what the message must say; None where the file can be read as it is.
BY_HAND: dict[str, tuple[str, Callable[[], str | bytes], str | None]] = {
    "an empty csv": (".csv", lambda: "", "is empty"),
    "only line ends": (".csv", lambda: "\r\n\r\n", "is empty"),
    "only a header": (".csv", lambda: "a,b\n", "no rows"),
    "nul bytes": (".csv", lambda: "a,b\n1,\0\n", "NUL"),
    "utf-16": (".csv", lambda: "a,b\n1,2\n".encode("utf-16"), "UTF-16"),
    "latin-1": (".csv", lambda: "a,b\n1,caf\xe9\n".encode("latin-1"), "not text in UTF-8"),
    "a byte order mark": (".csv", lambda: "\ufeffa,b\n1,2\n", None),
    "carriage returns": (".csv", lambda: "a,b\r1,2\r3,4\r", None),
    "mixed line ends": (".csv", lambda: "a,b\r\n1,2\n3,4\r", None),
    "mixed delimiters": (".csv", lambda: "a,b\n1,2\n3;4\n", "line 3 has 1 cells, and the header has 2"),
    "semicolons": (".csv", lambda: "a;b\n1;2\n", "delimiter=';'"),
    "a quote that does not end": (".csv", lambda: 'a,b\n"1,2\n3,4\n', "Check the quotes"),
    "a quote in the middle": (".csv", lambda: 'a,b\n"1"2,3\n', "Check the quotes"),
    "a long cell": (".csv", lambda: "a,b\n1," + "x" * 200_000 + "\n", "field larger than field limit"),
    "one endless line": (".csv", lambda: "a,b\n" + "1," * 2_000_000, "more than 1,048,576 characters"),
    "a million columns": (".csv", lambda: ",".join(f"c{i}" for i in range(1_000_000)), "more than 1,048,576 characters"),
    "too many columns": (".csv", lambda: ",".join(f"c{i}" for i in range(100_000)), "max_columns="),
    "two columns of one name": (".csv", lambda: "a,a\n1,2\n", "2 times"),
    "giant numbers": (".csv", lambda: "a,b\n1e999,2\n" + "9" * 5000 + ",3\n", None),
    "a parquet file called csv": (".csv", plain_parquet, "not text in UTF-8|NUL"),
    "a workbook called csv": (".csv", lambda: xlsx({"Sheet": ROWS}), "not text in UTF-8|NUL"),
    "an empty parquet file": (".parquet", lambda: b"", "no parquet file"),
    "a csv called parquet": (".parquet", lambda: CSV, "no parquet file.*from_csv"),
    "a parquet file cut off": (".parquet", lambda: plain_parquet()[:-100], "damaged or cut off"),
    "only the mark of parquet": (".parquet", lambda: b"PAR1" * 3, "damaged or cut off"),
    "a footer that is too long": (".parquet", lambda: plain_parquet()[:-8] + b"\xff\xff\xff\x7fPAR1", "damaged or cut off"),
    "parquet without rows": (".parquet", lambda: parquet(pa.table({"a": pa.array([], pa.int64())})), "no rows"),
    "parquet of lists": (".parquet", lambda: parquet(pa.table({"a": [[1], [2]]})), "holds list"),
    "parquet of bytes": (".parquet", lambda: parquet(pa.table({"a": [b"1"]})), "holds binary"),
    "parquet with two columns of one name": (
        ".parquet",
        lambda: parquet(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])),
        "2 times",
    ),
    "parquet of many columns": (".parquet", lambda: parquet(pa.table({f"c{i}": [1] for i in range(10_001)})), "max_columns="),
    "parquet of a long text, often": (".parquet", repeated_text, None),
    "parquet of many gaps": (".parquet", lambda: parquet(pa.table({"a": pa.nulls(300_000_000, pa.int8())})), "cache='folder'"),
    "an empty workbook": (".xlsx", lambda: b"", "is empty"),
    "a csv called xlsx": (".xlsx", lambda: CSV, "no workbook.*from_csv"),
    "an archive without a workbook": (".xlsx", lambda: zipped({"a.txt": "text"}), "no workbook is in it"),
    "a workbook cut off": (".xlsx", lambda: xlsx({"Sheet": ROWS})[:-30], "damaged archive"),
    "a workbook without a sheet": (".xlsx", lambda: zipped(xlsx_parts({})), "no sheet"),
    "a sheet that is not there": (
        ".xlsx",
        lambda: zipped({k: v for k, v in xlsx_parts({"S": ""}).items() if "sheet1" not in k}),
        "damaged|no sheet|empty",
    ),
    "a sheet that is no xml": (".xlsx", lambda: with_part("xl/worksheets/sheet1.xml", "no xml <<<"), "cannot be read|is empty"),
    "an empty sheet": (".xlsx", lambda: xlsx({"Sheet": []}), "is empty"),
    "a sheet with a header alone": (".xlsx", lambda: xlsx({"Sheet": [["a"]]}), "no rows"),
    "cells without a name": (".xlsx", lambda: xlsx({"Sheet": [["a", None], [1.0, 2.0]]}), "column B has cells and no name"),
    "two names alike": (".xlsx", lambda: xlsx({"Sheet": [["a", "a"], [1.0, 2.0]]}), "2 times"),
    "a cell far away": (".xlsx", lambda: zipped(xlsx_parts({"Sheet": sheet_of(FAR)})), "as far as XFD1048576"),
    "a cell far away, in disguise": (
        ".xlsx",
        lambda: zipped(xlsx_parts({"Sheet": sheet_of(FAR.replace('"XFD1048576"', '"&#88;FD1048576"'))})),
        "as far as XFD1048576",
    ),
    "a wide and long rectangle": (
        ".xlsx",
        lambda: zipped(xlsx_parts({"Sheet": sheet_of(FAR.replace("XFD1048576", "Z1048576"))})),
        "max_cells=|memory|far",
    ),
    "a row beyond all rows": (
        ".xlsx",
        lambda: zipped(xlsx_parts({"Sheet": sheet_of('<row r="4294967295"><c r="A4294967295"><v>1</v></c></row>')})),
        "",
    ),
    "a bomb that says so": (
        ".xlsx",
        lambda: with_part("xl/worksheets/sheet1.xml", b"<row></row>" * 60_000_000),
        "bytes unpacked.*max_bytes=",
    ),
    "a bomb that lies": (".xlsx", lying_zip, "cannot be read|is empty"),
    "many files": (".xlsx", lambda: zipped({f"xl/workbook.xml{i or ''}": "" for i in range(20_000)}), "archive has 20,000 files"),
    "laughing entities": (
        ".xlsx",
        lambda: with_part(
            "xl/worksheets/sheet1.xml",
            sheet_of(
                '<row><c t="inlineStr"><is><t>&c;</t></is></c></row>',
                '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;">]>',
            ),
        ),
        "",
    ),
    "shared texts that are not there": (
        ".xlsx",
        lambda: with_part("xl/worksheets/sheet1.xml", sheet_of('<row><c t="s"><v>99999999</v></c></row>')),
        "",
    ),
    "an ods called xls": (".xls", lambda: ods(ROWS), None),
    "an ods that repeats a row": (
        ".ods",
        lambda: ods_of(
            '<table:table-row table:number-rows-repeated="2000000000"><table:table-cell table:number-columns-repeated="16384" '
            'office:value-type="float" office:value="1"/></table:table-row>'
        ),
        "cannot be read",
    ),
    "an ods that repeats empty rows": (
        ".ods",
        lambda: ods_of(
            '<table:table-row table:number-rows-repeated="1048576"><table:table-cell table:number-columns-repeated="16384"/>'
            "</table:table-row>"
        ),
        "is empty|cannot be read",
    ),
    "an xls cut off": (".xls", lambda: REAL_XLS.read_bytes()[:5000], "cannot be read|is empty"),
    "only the mark of xls": (".xls", lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "cannot be read"),
}


def sound() -> dict[str, bytes]:
    """A sound file for each ending."""
    return {
        ".csv": CSV.encode(),
        ".parquet": plain_parquet(),
        ".xlsx": xlsx({"Sheet": ROWS}),
        ".xls": REAL_XLS.read_bytes(),
        ".ods": ods(ROWS),
    }


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file with one kind of damage: cut, bytes changed, a piece doubled, left out or zeroed, a number made extreme."""
    made = bytearray(content)
    at = rng.randrange(len(made))
    length = rng.choice((1, 4, 64, 1000))
    kind = rng.randrange(7)
    if kind == 0:
        del made[at:]
    elif kind == 1:
        for _ in range(rng.choice((1, 3, 30))):
            made[rng.randrange(len(made))] = rng.randrange(256)
    elif kind == 2:
        made[at:at] = made[at : at + length]
    elif kind == 3:
        del made[at : at + length]
    elif kind == 4:
        made[at : at + length] = bytes(len(made[at : at + length]))
    elif kind == 5:
        made[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\0\0"))
    else:
        end = max(0, len(made) - rng.randrange(1, 400))  # footers and directories stand at the end
        made[end] = rng.randrange(256)
    return bytes(made)


def damaged_archive(content: bytes, rng: random.Random) -> bytes:
    """An archive that is sound, and whose parts are not."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts: dict[str, str | bytes] = {name: archive.read(name) for name in archive.namelist()}
    name = rng.choice([name for name, part in parts.items() if part])
    part = parts[name]
    parts[name] = damaged(part if isinstance(part, bytes) else part.encode(), rng)
    return zipped(parts)


def read(path: Path) -> str:
    """Read a file and its first rows, and return "read", or the error's message; anything but a typed error is raised."""
    try:
        dataset = READERS[path.suffix](path)
        for start in range(0, min(len(dataset), MOST), 4096):
            dataset.take_batch(range(start, min(start + 4096, len(dataset))))
    except DataError as error:
        if str(path) not in str(error) or (isinstance(error, FileError) and error.path != str(path)):
            raise AssertionError(f"the error does not name the file: {error}") from error
        return str(error)
    return "read"


def campaign(count: int, folder: Path, seed: int = 0) -> Iterator[tuple[str, str, float]]:
    """Damage and read so many files; yield the ending, what became of it, and the seconds."""
    rng = random.Random(seed)
    files = sound()
    for number in range(count):
        suffix = list(files)[number % len(files)]
        inside = suffix in (".xlsx", ".ods") and rng.random() < 0.7
        path = folder / f"{number}{suffix}"
        path.write_bytes(damaged_archive(files[suffix], rng) if inside else damaged(files[suffix], rng))
        before = time.perf_counter()
        found = read(path)
        path.unlink()
        yield suffix, found, time.perf_counter() - before


def main() -> None:
    """Run a campaign."""
    counts: Counter[str] = Counter()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for suffix, found, seconds in campaign(int(sys.argv[1]), Path(folder)):
            counts[f"{suffix} {'read' if found == 'read' else 'refused'}"] += 1
            slowest = max(slowest, seconds)
        for name, (suffix, make, _) in BY_HAND.items():
            path = Path(folder) / f"hand{suffix}"
            content = make()
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            before = time.perf_counter()
            Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak of memory begins anew
            found = read(path)
            seconds = time.perf_counter() - before
            peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1]
            slowest = max(slowest, seconds)
            print(f"{name}: {seconds:.2f} s, {int(peak) // 1024} MiB: {found.replace(folder, '')[:150]}")
    print(f"slowest {slowest:.2f} s", *(f"{kind}: {count}" for kind, count in sorted(counts.items())), sep="\n")


if __name__ == "__main__":
    main()
