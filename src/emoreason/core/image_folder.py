"""Export labeled faces as an ImageFolder, to browse, correct and train on."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError, UsageError

COPIED_COLUMNS = ("label", "confidence", "status", "source", "face_id", "frame")


def check_folder(folder: Path, resume: bool, paths: tuple[str, ...]) -> None:
    """Refuse an unusable folder before a model is loaded."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--export imagefolder {folder}: this is a file; expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not resume:
        raise UsageError(
            f"--export imagefolder {folder} is not empty: choose a new folder, or --resume the run that created it"
        )
    target = folder.resolve()
    for path in paths:
        if os.path.isdir(path) and target.is_relative_to(Path(path).resolve()):
            raise UsageError(
                f"--export imagefolder {folder} lies inside {path}, so a second run would label the crops too: "
                "choose a folder elsewhere"
            )


class ImageFolder:
    """Writes `DIR/<label>/<picture>-<face>-<hash>.png` and `DIR/metadata.jsonl` for `load_dataset("imagefolder")`.

    `label_source` says who labeled the faces: a model at first, a human after correction. Abstained faces go to
    `_abstained`, so that nobody trains on them by accident.
    """

    def __init__(self, folder: Path, label_source: str):
        self.folder, self.label_source = folder, label_source
        self._index = folder / "metadata.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._known = self._repair() if self._index.exists() else set()
        except OSError as error:
            raise self._unwritable(error) from None

    def add(self, rows: list[dict[str, Any]], crops: list[bytes]) -> None:
        """Add one picture's rows and crops, in order. Faces that are in the folder already are not added again."""
        faces = [row for row in rows if row["status"] in ("ok", "abstained")]
        lines = []
        for number, (row, crop) in enumerate(zip(faces, crops, strict=True)):
            name = _name(row, number)
            if name in self._known:
                continue
            path = self.folder / name
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(crop)
            except OSError as error:
                raise self._unwritable(error) from None
            self._known.add(name)
            line = {"file_name": name, **{key: row[key] for key in COPIED_COLUMNS}, "label_source": self.label_source}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        if lines:
            try:
                with self._index.open("a", encoding="utf-8", newline="\n") as file:
                    file.write("".join(lines))
            except OSError as error:
                raise self._unwritable(error) from None

    def _repair(self) -> set[str]:
        """Return the file names of the index. A last line that a killed run left incomplete is removed first."""
        text = self._index.read_bytes()
        complete = text[: text.rfind(b"\n") + 1]
        if len(complete) < len(text):
            os.truncate(self._index, len(complete))
        try:
            return {json.loads(line)["file_name"] for line in complete.splitlines()}
        except (ValueError, TypeError, KeyError):
            raise EmoreasonError(
                f"{self._index} is not the index of an ImageFolder (expected one JSON object with file_name per line): "
                "choose a new folder"
            ) from None

    def _unwritable(self, error: OSError) -> EmoreasonError:
        return EmoreasonError(f"--export imagefolder {self.folder} cannot be written ({error.strerror or error})")


def _name(row: dict[str, Any], number: int) -> str:
    """The file name of a crop, unique to this face of this picture and the same in every run."""
    folder = "_abstained" if row["status"] == "abstained" else _safe(row["label"])
    key = hashlib.sha256(f"{row['source']}\n{row['frame']}\n{row['face_id']}".encode()).hexdigest()[:10]
    return f"{folder}/{_safe(Path(row['source'].split('?')[0]).stem)}-{number}-{key}.png"


def _safe(text: str) -> str:
    """The text as a file name that is valid on every file system."""
    return re.sub(r"[^\w.-]+", "_", text)[:60].strip(".") or "_"
