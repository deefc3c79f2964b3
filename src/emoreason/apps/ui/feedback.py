"""Stores user feedback as a training set. Off by default; the page shows where it goes."""

import errno
import hashlib
import io
import json
import os
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from filelock import FileLock
from platformdirs import user_data_path

from emoreason.apps.ui.words import words
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.label import EXPORT_SIZE

if TYPE_CHECKING:
    from emoreason.analysis import Analysis, FaceAnalysis

MAX_LABEL = 60  # characters
MAX_BYTES = 5 * 10**9  # of faces and rows; exceeded by at most one face
LOCK_TIMEOUT_S = 10  # seconds to wait for another process


def default_folder() -> Path:
    return user_data_path("emoreason") / "feedback"


@dataclass(frozen=True)
class Feedback:
    """Writes `feedback.jsonl` and `faces/` into a folder, created on first use. `emoreason.data.read` reads them.

    A row has a label only if a person gave or confirmed it. Other rows count as faces without a label in `data check`,
    and evaluations do not score them.
    """

    folder: Path = field(default_factory=default_folder)
    max_bytes: int = MAX_BYTES

    @property
    def file(self) -> Path:
        return self.folder / "feedback.jsonl"

    def add(
        self,
        analysis: "Analysis",
        face: "FaceAnalysis",
        *,
        thumb: Literal["up", "down"] | None = None,
        right_label: str | None = None,
        about: Literal["explanation", "answer"] = "explanation",
    ) -> None:
        """Saves feedback on one face. `right_label` corrects the label; a thumb up on an explanation confirms it."""
        label, label_source = None, None
        if right_label is not None:
            label, label_source = _checked_label(right_label), "human"
        elif thumb == "up" and about == "explanation" and face.status == "ok":
            label, label_source = face.label, "human_confirmed"
        elif thumb is None:
            raise UsageError(words()["feedback"]["nothing"])
        picture = _png(face)
        digest = hashlib.sha256(picture).hexdigest()
        row = {
            "id": f"{digest[:16]}-{uuid.uuid4().hex[:8]}",  # ids stay unique if a face is rated twice
            "path": f"faces/{digest}.png",
            "label": label,
            "label_source": label_source,
            "rated": thumb,
            "about": about,
            "suggested": face.label,
            "model": analysis.model,
            "revision": analysis.revision,
            "explanation": face.explanation.text if face.explanation else "",
            "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        try:
            self._write(row, picture)
        except OSError as error:
            why = error.strerror or str(error)
            raise EmoreasonError(words()["feedback"]["unwritable"].format(folder=self.folder, why=why)) from error

    def _write(self, row: dict[str, Any], picture: bytes) -> None:
        """Writes the face before its row, so that after a crash no row points to a missing face."""
        faces = self.folder / "faces"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        faces.mkdir(exist_ok=True)
        with FileLock(self.folder / ".lock", timeout=LOCK_TIMEOUT_S):
            if sum(entry.stat().st_size for entry in (*os.scandir(faces), *os.scandir(self.folder))) > self.max_bytes:
                size = f"{self.max_bytes / 1e9:.1f} GB"
                raise EmoreasonError(words()["feedback"]["full"].format(folder=self.folder, size=size))
            target = self.folder / row["path"]
            if not target.exists():
                temporary = target.with_suffix(".tmp")
                temporary.write_bytes(picture)
                temporary.replace(target)
            _append(self.file, json.dumps(row, ensure_ascii=False).encode() + b"\n")


def _append(path: Path, line: bytes) -> None:
    """Appends the whole line or nothing. Removes half a line that a crash left at the end."""
    with path.open("ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            end = path.read_bytes().rfind(b"\n") + 1
            file.truncate(end)
        if file.write(line) < len(line):
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(file.fileno())


def _checked_label(label: str) -> str:
    """The label on one line, or an error if it is empty or too long."""
    cleaned = " ".join(label.split())
    if not cleaned or len(cleaned) > MAX_LABEL or not cleaned.isprintable():
        raise UsageError(words()["feedback"]["label"].format(limit=MAX_LABEL))
    return cleaned


def _png(face: "FaceAnalysis") -> bytes:
    crop, buffer = face.face.crop.convert("RGB"), io.BytesIO()
    crop.thumbnail((EXPORT_SIZE, EXPORT_SIZE))
    crop.save(buffer, "PNG")
    return buffer.getvalue()
