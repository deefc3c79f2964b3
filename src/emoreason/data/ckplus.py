"""Reads CK+ (extended Cohn-Kanade): sequences from a neutral face to the peak, 327 of 593 with an emotion.

Usually the last three frames of a sequence get its emotion and the first frame gets neutral. Some papers use only the
peak: `peak_frames=1, neutral=False`. There is no official split: papers use ten folds of subjects (group `subject`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.schema import Sample, broken, indexed_label, pictures

LAYOUT = "Emotion/S005/001/*_emotion.txt with cohn-kanade-images/S005/001/*.png"
LABEL_FOLDERS = ("Emotion", "Emotion_labels/Emotion", "Emotion_labels")
IMAGE_FOLDERS = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")


def matches(path: Path) -> bool:
    return bool(_first(path, IMAGE_FOLDERS)) and bool(_first(path, LABEL_FOLDERS))


def read(path: Path, split: str | None = None, *, peak_frames: int = 3, neutral: bool = True) -> Iterator[Sample]:
    labels, images = _first(path, LABEL_FOLDERS), _first(path, IMAGE_FOLDERS)
    if labels is None or images is None:
        raise EmoreasonError(f"{path}: expected {LAYOUT}")
    if peak_frames < 1:
        raise UsageError(f"peak_frames is {peak_frames}; expected 1 or more")
    for file in sorted(labels.glob("*/*/*_emotion.txt")):
        subject, sequence = file.parts[-3:-1]
        groups = {"subject": subject}
        frames = list(pictures(images / subject / sequence)) if (images / subject / sequence).is_dir() else []
        if not frames:
            yield broken(f"{subject}/{sequence}", f"no frames in {images.name}/{subject}/{sequence}", "ckplus")
            continue
        emotion = indexed_label("ckplus8", file.read_text(errors="replace"))
        if neutral:
            yield Sample(
                f"{subject}/{sequence}/{frames[0].name}", str(frames[0]), "neutral", None, groups, None, "ckplus"
            )
        for frame in frames[1:][-peak_frames:]:
            yield Sample(f"{subject}/{sequence}/{frame.name}", str(frame), emotion, None, groups, None, "ckplus")


def _first(path: Path, names: tuple[str, ...]) -> Path | None:
    return next((path / name for name in names if (path / name).is_dir()), None)
