"""Workbooks written byte by byte, so that tests can make those that no program writes."""

from __future__ import annotations

import io
import sysconfig
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

Cell = float | str | None
SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
REAL_XLS = (
    Path(sysconfig.get_path("purelib")) / "statsmodels/tsa/statespace/tests/results/frbny_nowcast/Nowcasting/data/US/2016-07-29.xls"
)


def zipped(parts: Mapping[str, str | bytes]) -> bytes:
    """A zip archive of some parts."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content, zipfile.ZIP_STORED if name == "mimetype" else zipfile.ZIP_DEFLATED)
    return made.getvalue()


def sheet_xml(rows: Sequence[Sequence[Cell]]) -> str:
    """The XML of a sheet without styles; cells and rows follow each other without places."""
    written = []
    for row in rows:
        cells = []
        for cell in row:
            if isinstance(cell, str):
                cells.append(f'<c t="inlineStr"><is><t>{escape(cell)}</t></is></c>')
            else:
                cells.append("<c/>" if cell is None else f"<c><v>{cell!r}</v></c>")
        written.append(f"<row>{''.join(cells)}</row>")
    return sheet_of("".join(written))


def sheet_of(data: str, before: str = "") -> str:
    """The XML of a sheet around its rows."""
    return f'<?xml version="1.0"?>{before}<worksheet xmlns="{SHEETS}"><sheetData>{data}</sheetData></worksheet>'


def xlsx_parts(sheets: Mapping[str, str]) -> dict[str, str | bytes]:
    """The parts of an .xlsx file, sheets given by their XML."""
    names = "".join(f'<sheet name="{escape(name)}" sheetId="{i}" r:id="rId{i}"/>' for i, name in enumerate(sheets, 1))
    links = "".join(
        f'<Relationship Id="rId{i}" Type="{RELATIONS}/worksheet" Target="worksheets/sheet{i}.xml"/>'
        for i, _ in enumerate(sheets, 1)
    )
    root = f'<Relationship Id="rId1" Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/>'
    return {
        "[Content_Types].xml": f'<?xml version="1.0"?><Types xmlns="{PACKAGE}/content-types"></Types>',
        "_rels/.rels": f'<?xml version="1.0"?><Relationships xmlns="{PACKAGE}/relationships">{root}</Relationships>',
        "xl/workbook.xml": f'<?xml version="1.0"?><workbook xmlns="{SHEETS}" xmlns:r="{RELATIONS}"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<?xml version="1.0"?><Relationships xmlns="{PACKAGE}/relationships">{links}</Relationships>',
        **{f"xl/worksheets/sheet{i}.xml": xml for i, xml in enumerate(sheets.values(), 1)},
    }


def xlsx(sheets: Mapping[str, Sequence[Sequence[Cell]]]) -> bytes:
    """An .xlsx file."""
    return zipped(xlsx_parts({name: sheet_xml(rows) for name, rows in sheets.items()}))


def ods_of(rows: str) -> bytes:
    """An .ods file with one sheet, around the XML of its rows."""
    office = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'<?xml version="1.0"?><office:document-content xmlns:office="{office}:office:1.0" xmlns:table="{office}:table:1.0" '
        f'xmlns:text="{office}:text:1.0"><office:body><office:spreadsheet><table:table table:name="Sheet">{rows}'
        "</table:table></office:spreadsheet></office:body></office:document-content>"
    )
    manifest = f'<?xml version="1.0"?><manifest:manifest xmlns:manifest="{office}:manifest:1.0"/>'
    return zipped(
        {"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": content, "META-INF/manifest.xml": manifest}
    )


def ods(rows: Sequence[Sequence[Cell]]) -> bytes:
    """An .ods file with one sheet."""
    written = []
    for row in rows:
        cells = []
        for cell in row:
            if isinstance(cell, str):
                cells.append(f'<table:table-cell office:value-type="string"><text:p>{escape(cell)}</text:p></table:table-cell>')
            else:
                value = "" if cell is None else f' office:value-type="float" office:value="{cell!r}"'
                cells.append(f"<table:table-cell{value}/>")
        written.append(f"<table:table-row>{''.join(cells)}</table:table-row>")
    return ods_of("".join(written))
