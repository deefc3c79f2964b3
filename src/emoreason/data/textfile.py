"""Opens table files: CSV in UTF-8 or Excel's UTF-16, separated by commas, semicolons or tabs; and parquet."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from emoreason.core.errors import EmoreasonError

END = "\x00end"  # appended as a last line; if a quotation mark is never closed, it ends up inside a cell
MAX_CELL = 1 << 28  # a cell may hold a whole picture as a data URI


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """The file as text. If it cannot be decoded, the error says how to save it."""
    with open(path, "rb") as raw:
        marked = raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
        with open(path, newline="", encoding="utf-16" if marked else "utf-8-sig") as file:
            yield file
    except UnicodeError as error:
        raise EmoreasonError(
            f"{path} is not UTF-8 text ({getattr(error, 'reason', error)}): save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from None
    except csv.Error as error:
        raise EmoreasonError(f"{path} cannot be read as a table: {error}") from None


def header(file: TextIO) -> tuple[list[str], str]:
    """The column names, and the separator."""
    line = file.readline()
    file.seek(0)
    separator = max(",;\t", key=line.count)
    return next(csv.reader([line], delimiter=separator), []), separator


def csv_rows(file: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column. If a quotation mark is never closed, a cell of the last row ends in END."""
    csv.field_size_limit(MAX_CELL)
    _, separator = header(file)
    reader = csv.DictReader(chain(file, [END]), delimiter=separator, restval="")
    for row in reader:
        cells = {name: cell for name, cell in row.items() if name is not None}  # drops cells beyond the header
        if next(iter(cells.values())) != END:
            yield reader.line_num - sum(cell.count("\n") for cell in cells.values()), cells


def is_open_ended(row: dict[str, str]) -> bool:
    return any(cell.endswith(END) for cell in row.values())


def open_parquet(path: Path) -> Any:
    """The opened file, for use in a `with`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise EmoreasonError(f"{path} is not a readable parquet file: {error}") from error
