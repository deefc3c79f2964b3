"""Labeled faces as an ImageFolder, ready to be looked through, corrected, and trained on."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from emoreason.errors import UsageError


class ImageFolder:
    """`DIR/<label>/<picture>-<face>-<hash>.png` and `DIR/metadata.jsonl`, which `load_dataset("imagefolder")` reads.

    `label_source` says who labeled: a model now, a human after correction. Abstained faces go to `_abstained`, so that
    nobody trains on them by accident.
    """

    def __init__(self, folder: Path, label_source: str):
        self.folder, self.label_source = folder, label_source
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"--export imagefolder {folder}: this is a file, a folder was expected")
        folder.mkdir(parents=True, exist_ok=True)
        self._index = folder / "metadata.jsonl"
        self._known = {line["file_name"] for line in self._lines()} if self._index.exists() else set()

    def add(self, rows: list[dict[str, Any]], crops: list[bytes]) -> None:
        """One picture's rows with its crops, in order. A resumed run that repeats a picture adds nothing twice."""
        faces = [row for row in rows if row["status"] in ("ok", "abstained")]
        lines = []
        for number, (row, crop) in enumerate(zip(faces, crops, strict=True)):
            name = f"{_folder_of(row)}/{_stem(row['source'])}-{number}-{hashlib.sha256(crop).hexdigest()[:10]}.png"
            if name in self._known:
                continue
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(crop)
            self._known.add(name)
            kept = {key: row[key] for key in ("label", "confidence", "status", "source", "face_id", "frame")}
            lines.append(json.dumps({"file_name": name, **kept, "label_source": self.label_source}, ensure_ascii=False) + "\n")
        if lines:
            with self._index.open("a", encoding="utf-8") as file:
                file.write("".join(lines))

    def _lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._index.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def _folder_of(row: dict[str, Any]) -> str:
    return "_abstained" if row["status"] == "abstained" else _safe(row["label"])


def _stem(source: str) -> str:
    return _safe(Path(source.split("?")[0]).stem)[:60] or "picture"


def _safe(text: str) -> str:
    """A file name that no file system takes for a path."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".") or "_"
