"""Reads faces that were coded by eye for action units: eval/coded_faces/*.csv."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

UNITS = ("1", "2", "4", "5", "6", "7", "9", "10", "12", "14", "15", "17", "18", "20", "23", "24", "25", "26", "27",
         "43")  # fmt: skip
_CODE = re.compile(r"(\d+)([<>?]*)")


def read_line(line: str) -> np.ndarray:
    """One line of codes -> (20,) 1 present, 0.5 perhaps, 0 absent, NaN not judged. "1 4 15? | x 43" """
    seen, _, hidden = line.partition("|")
    found = dict.fromkeys(UNITS, 0.0) | dict.fromkeys(set(hidden.split()).intersection(UNITS), np.nan)
    for code, marks in _CODE.findall(seen):
        found[code] = 0.5 if "?" in marks else 1.0
    return np.array([found[code] for code in UNITS])


def consensus(passes: Sequence[np.ndarray]) -> np.ndarray:
    """(p, n, 20) codes of passes -> (n, 20): the majority; 0.5 if undecided, NaN if fewer than two could judge."""
    stacked = np.stack(passes)
    judged = ~np.isnan(stacked)
    mean = np.where(judged, stacked, 0).sum(axis=0) / np.maximum(judged.sum(axis=0), 1)
    decided = np.where(mean > 0.5, 1.0, np.where(mean < 0.5, 0.0, 0.5))
    return np.where(judged.sum(axis=0) >= 2, decided, np.nan)


def read_coded(path: Path) -> tuple[list[str], np.ndarray]:
    """Names and codes (n, 20) of a file with one or several passes."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    passes = [[read_line(row[column]) for row in rows] for column in rows[0] if column not in ("name", "source")]
    codes = np.array(passes)
    return [row["name"] for row in rows], consensus(list(codes)) if len(codes) > 1 else codes[0]
