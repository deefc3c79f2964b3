"""Text tables as people save them: UTF-8 or Excel's UTF-16; commas, semicolons or tabs between the cells."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from emoreason.core.errors import EmoreasonError

END = "\x00end"  # stands after the last line: where a quotation mark was never closed, it stands inside a cell
MAX_CELL = 1 << 28  # a picture may stand in a cell, as a data URI


@contextmanager
def opened(path: Path) -> Iterator[TextIO]:
    """The file as text; what cannot be decoded is an error that says how to save it."""
    with open(path, "rb") as raw:
        marked = raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    try:
        with open(path, newline="", encoding="utf-16" if marked else "utf-8-sig") as file:
            yield file
    except UnicodeError as error:
        raise EmoreasonError(
            f"{path} is no UTF-8 text ({getattr(error, 'reason', error)}): save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from None
    except csv.Error as error:
        raise EmoreasonError(f"{path} cannot be read as a table: {error}") from None


def header(file: TextIO) -> tuple[list[str], str]:
    """The names of the columns, and what stands between them."""
    line = file.readline()
    file.seek(0)
    between = max(",;\t", key=line.count)
    return next(csv.reader([line], delimiter=between), []), between


def csv_rows(file: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells by column; a last row that the file ends inside of has END in one of its cells."""
    csv.field_size_limit(MAX_CELL)
    _, between = header(file)
    reader = csv.DictReader(chain(file, [END]), delimiter=between, restval="")
    for row in reader:
        cells = {name: cell for name, cell in row.items() if name is not None}  # what stands beyond the header goes
        if next(iter(cells.values())) != END:
            yield reader.line_num - sum(cell.count("\n") for cell in cells.values()), cells


def is_open_ended(row: dict[str, str]) -> bool:
    return any(cell.endswith(END) for cell in row.values())


def open_parquet(path: Path) -> Any:
    """The opened file, to be used in a `with`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise EmoreasonError(f"{path} is no readable parquet file: {error}") from error
