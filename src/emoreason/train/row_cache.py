"""A cache of arrays by content hash in the user's cache folder, so that nothing is computed twice for a picture."""

import hashlib
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from emoreason.core.files import write_atomically

MAX_BYTES = 2 << 30  # of all cache folders together
ROWS = 512  # minimum per file, except for the last file
Row = dict[str, np.ndarray]


class RowCache:
    """Rows by 32-byte key, in one folder for each way of computing them (`recipe`).

    Rows are written in blocks, so a killed run continues where it stopped. If the folder cannot be written or a file is
    damaged, the rows are computed again."""

    def __init__(self, recipe: str, folder: Path):
        self.folder = folder / hashlib.sha256(recipe.encode()).hexdigest()[:16]
        self.unwritten: dict[bytes, Row] = {}
        self.places: dict[bytes, tuple[Path, int]] = {}
        self._file = lru_cache(maxsize=8)(_read)
        for path in sorted(self.folder.glob("*.safetensors")):
            for row, key in enumerate(_read(path).get("keys", np.empty((0, 32), np.uint8))):
                self.places[key.tobytes()] = (path, row)

    def __contains__(self, key: bytes) -> bool:
        return key in self.unwritten or key in self.places

    def get(self, key: bytes) -> Row | None:
        if key in self.unwritten:
            return self.unwritten[key]
        path, number = self.places.get(key, (None, 0))
        columns = self._file(path) if path is not None else {}
        return {
            name: values[number].copy() for name, values in columns.items()
        } or None  # a view would keep the whole file in memory

    def add(self, rows: Mapping[bytes, Row]) -> None:
        self.unwritten |= rows
        if len(self.unwritten) >= ROWS:
            self.flush()

    def flush(self) -> None:
        if not self.unwritten:
            return
        keys = list(self.unwritten)
        columns = {name: np.stack([self.unwritten[key][name] for key in keys]) for name in self.unwritten[keys[0]]}
        path = _write(self.folder, {**columns, "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)})
        if path is not None:  # otherwise the rows stay in memory
            self.places |= {key: (path, number) for number, key in enumerate(keys)}
            self.unwritten = {}

    def prune(self, max_bytes: int = MAX_BYTES) -> None:
        """Remove the least recently used folders until all fit into max_bytes; never this one."""
        try:
            self.folder.touch()  # a folder's mtime is the time of its last use
            others = sorted(
                (f for f in self.folder.parent.iterdir() if f != self.folder), key=lambda f: f.stat().st_mtime
            )
            sizes = {f: sum(file.stat().st_size for file in f.iterdir()) for f in (*others, self.folder)}
            while others and sum(sizes.values()) > max_bytes:
                sizes.pop(oldest := others.pop(0))
                shutil.rmtree(oldest)
        except OSError:
            pass  # another run may be pruning at the same time


def _read(path: Path) -> Row:
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except Exception:  # a damaged file makes the reader raise almost anything; its rows are computed again
        return {}


def _write(folder: Path, columns: Row) -> Path | None:
    """Write the columns atomically to a file named by their keys; None if the folder cannot be written."""
    from safetensors.numpy import save

    path = folder / f"{hashlib.sha256(columns['keys'].tobytes()).hexdigest()[:16]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(columns))
    except OSError:  # full or read-only
        return None
    return path
