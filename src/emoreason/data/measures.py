"""Reads the measured columns of a table: action units, valence and arousal, and the scale that they are on."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emoreason.data.textfile import csv_rows, header, open_text
from emoreason.knowledge.facs import ACTION_UNITS

log = logging.getLogger("emoreason")
_UNIT = re.compile(r"(?:au|action[ _]?unit)[ _-]?0*(\d+)(_r|_c)?$")
UNKNOWN_UNIT = (-1.0, 9.0, 999.0)  # 9: not scored, in DISFA and BP4D
UNKNOWN_POINT = (-2.0, -5.0, 999.0)  # -2: AffectNet, -5: Aff-Wild2; -1 is a valid value here
FIVE = 5.0  # OpenFace, DISFA and BP4D write the FACS intensities A to E as 1 to 5


def unit_columns(names: Iterable[str]) -> dict[str, str]:
    """Code -> column, in FACS order. OpenFace has pairs: takes the intensity (AU12_r), not the presence (AU12_c).

    Leaves out units that `facs` does not describe, as nothing could be said about them."""
    found: dict[str, tuple[int, str]] = {}
    for name in names:
        match = _UNIT.match(str(name).strip().lower())
        if match and match[1] in ACTION_UNITS:
            rank = ("_r", None, "_c").index(match[2])
            found[match[1]] = min(found.get(match[1], (rank, name)), (rank, name))
    return {code: found[code][1] for code in ACTION_UNITS if code in found}


def units(row: Mapping[str, Any], columns: Mapping[str, str], scale: float) -> dict[str, float] | None:
    """Code -> 0..1 for the units that were scored, None if none was. A ValueError says what is out of range."""
    found = {}
    for code, column in columns.items():
        value = _number(row.get(column), column, UNKNOWN_UNIT)
        if value is not None:
            highest = _named_scale(column) or scale
            if not 0 <= value <= highest:
                raise ValueError(f"{column} is {value:g}: expected 0 to 1, or 0 to 5 in the whole table")
            found[code] = value / highest
    return found or None


def point(row: Mapping[str, Any], column: str | None) -> float | None:
    """Valence or arousal on -1..1, None if it is unknown."""
    value = _number(row.get(column), column, UNKNOWN_POINT) if column else None
    if value is not None and not -1 <= value <= 1:
        raise ValueError(f"{column} is {value:g}: expected -1 to 1 (convert a scale of 1 to 9 by x / 4 - 1.25)")
    return value


def unit_scale(rows: Iterable[Mapping[str, Any]], where: str) -> float:
    """The scale of the action units: 0 to 5 if any number of the table is above 1, else 0 to 1."""
    for row in rows:
        for column in unit_columns(row).values():
            if _named_scale(column):
                continue
            try:
                value = _number(row[column], column, UNKNOWN_UNIT)
            except ValueError:
                continue  # reported when the row is read
            if value is not None and 1 < value <= FIVE:
                log.warning(
                    "%s: %s is %g, so all action units are taken as 0 to 5 and divided by 5", where, column, value
                )
                return FIVE
    return 1.0


def file_scale(files: Sequence[Path]) -> float:
    """The common scale of tables that belong together. Files without action units are not read to their end."""
    return unit_scale((row for file in files for row in _unit_rows(file)), files[0].name if files else "")


def _unit_rows(file: Path) -> Iterator[Mapping[str, Any]]:
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        from emoreason.data.textfile import open_parquet

        with open_parquet(file) as table:
            columns = list(unit_columns(table.schema_arrow.names).values())
            for batch in table.iter_batches(columns=columns) if columns else ():
                yield from batch.to_pylist()
        return
    with open_text(file) as text:
        if suffix in (".jsonl", ".ndjson"):
            for line in text:
                if re.search(r'"\s*a(u|ction)', line, re.IGNORECASE):
                    try:
                        row = json.loads(line)
                    except ValueError:
                        continue  # reported when the row is read
                    if isinstance(row, dict):
                        yield row
            return
        if unit_columns(header(text)[0]):
            yield from (row for _, row in csv_rows(text))


def _named_scale(column: str) -> float | None:
    """OpenFace's suffixes give the scale: _r is 0 to 5 even if all numbers are small, _c is 0 or 1."""
    return {"_r": FIVE, "_c": 1.0}.get(column.strip().lower()[-2:])


def _number(cell: Any, column: str, unknown: Sequence[float]) -> float | None:
    text = str(cell).strip().lower() if cell is not None else ""
    if text in ("", "nan", "na", "n/a", "none", "null"):
        return None
    try:
        value = float(cell)
    except (TypeError, ValueError):
        raise ValueError(f"{column} is {text[:30]!r}: expected a number") from None
    return None if value in unknown or math.isnan(value) else value
