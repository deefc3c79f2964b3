"""Arrays by content, kept in the user's cache folder: what was computed of a picture once is not computed again."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

MAX_BYTES = 2 << 30  # of all folders beside each other
ROWS = 512  # at least so many stand in a file, but for the last one
Row = dict[str, np.ndarray]


class RowCache:
    """Rows by 32-byte key, in one folder for each way of computing them (`recipe`).

    It is written piece by piece, so that a run that was killed goes on where it was. A folder that cannot be written,
    or
    a damaged file, costs time and nothing else."""

    def __init__(self, recipe: str, folder: Path):
        self.folder = folder / hashlib.sha256(recipe.encode()).hexdigest()[:16]
        self.fresh: dict[bytes, Row] = {}  # not in a file yet
        self.places: dict[bytes, tuple[Path, int]] = {}
        self._file = lru_cache(maxsize=8)(_read)
        for path in sorted(self.folder.glob("*.safetensors")):
            for row, key in enumerate(_read(path).get("keys", np.empty((0, 32), np.uint8))):
                self.places[key.tobytes()] = (path, row)

    def __contains__(self, key: bytes) -> bool:
        return key in self.fresh or key in self.places

    def get(self, key: bytes) -> Row | None:
        if key in self.fresh:
            return self.fresh[key]
        path, number = self.places.get(key, (None, 0))
        columns = self._file(path) if path is not None else {}
        return {name: values[number].copy() for name, values in columns.items()} or None  # a view would hold the file

    def add(self, rows: Mapping[bytes, Row]) -> None:
        self.fresh |= rows
        if len(self.fresh) >= ROWS:
            self.flush()

    def flush(self) -> None:
        if not self.fresh:
            return
        keys = list(self.fresh)
        columns = {name: np.stack([self.fresh[key][name] for key in keys]) for name in self.fresh[keys[0]]}
        path = _write(self.folder, {**columns, "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), -1)})
        if path is not None:  # else the rows stay in memory
            self.places |= {key: (path, number) for number, key in enumerate(keys)}
            self.fresh = {}

    def prune(self, max_bytes: int = MAX_BYTES) -> None:
        """Remove the folders that were not used for longest, never this one."""
        try:
            self.folder.touch()  # the time of a folder is that of its last run
            others = sorted(
                (f for f in self.folder.parent.iterdir() if f != self.folder), key=lambda f: f.stat().st_mtime
            )
            sizes = {f: sum(file.stat().st_size for file in f.iterdir()) for f in (*others, self.folder)}
            while others and sum(sizes.values()) > max_bytes:
                sizes.pop(oldest := others.pop(0))
                shutil.rmtree(oldest)
        except OSError:
            pass  # another run may be pruning as well


def _read(path: Path) -> Row:
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except Exception:  # a damaged file makes the reader raise almost anything; its pictures are looked at again
        return {}


def _write(folder: Path, columns: Row) -> Path | None:
    """A file named by its keys, complete or not there; None where the folder cannot be written."""
    from safetensors.numpy import save_file

    path = folder / f"{hashlib.sha256(columns['keys'].tobytes()).hexdigest()[:16]}.safetensors"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        os.close(handle)
        save_file(columns, temporary)
        os.replace(temporary, path)
    except OSError:  # full or read-only
        return None
    return path
