"""The `Sample` that every reader gives, and the names of splits and labels that all readers share."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from emoreason.core.errors import EmoreasonError
from emoreason.knowledge import emotions
from emoreason.media.images import find_pictures

SPLIT_WORDS = {
    "train": ("train", "training", "trn", "fer2013train", "train_set"),
    "validation": ("validation", "val", "valid", "dev", "eval", "evaluation", "publictest", "fer2013valid", "val_set"),
    "test": ("test", "testing", "tst", "privatetest", "fer2013test", "test_set"),
}
_SPLITS = {word: name for name, words in SPLIT_WORDS.items() for word in words}


@dataclass(frozen=True)
class Sample:
    """A face and all that the data set says about it. Unusable rows are Samples too, so that they are counted."""

    id: str  # unique inside the data set, e.g. the file name
    image: str | bytes  # a path, or the encoded bytes (PNG, JPEG)
    label: str | None = None  # canonical name if known, else the raw word; None = not labelled
    votes: dict[str, float] | None = None  # names -> counts, or a distribution
    groups: dict[str, str] = field(default_factory=dict)  # gender, race, age_band, subject, …
    split: str | None = None  # "train", "validation", "test" or another name of the data set; None = unknown
    source: str = ""  # name of the reader
    problem: str | None = None  # why the row cannot be used (`image` is then empty)
    units: dict[str, float] | None = None  # action units: code -> 0..1, without units that were not scored
    valence: float | None = None  # -1..1
    arousal: float | None = None  # -1..1
    explanation: str | None = None  # a text about the face
    word: str | None = field(default=None, compare=False)  # the label (or the one with most votes) as written


def split_name(word: object) -> str | None:
    """The name of a split: Training -> train, val or PublicTest -> validation. Other names (fold3) stay unchanged."""
    text = str(word).strip().lower() if word is not None else ""
    return _SPLITS.get(text, text) or None


def known_split(word: str) -> str | None:
    """The split that `word` names, or None: a folder name may mean anything."""
    return _SPLITS.get(word.strip().lower())


def label_name(word: object) -> str | None:
    """The canonical emotion for a word of a data set, the word itself if it is unknown, None if it is empty."""
    text = str(word).strip() if word is not None else ""
    return (emotions.canonical(text) or text) or None


def indexed_label(label_set: str, index: object) -> str:
    """The label for an index. Unknown indices are returned as written, so that a check can report them."""
    text = str(index).strip()
    try:
        return emotions.from_index(label_set, text)
    except EmoreasonError:
        return text or "(empty)"


def broken(id: str, why: str, source: str, split: str | None = None, label: str | None = None) -> Sample:
    """A sample for a row that cannot be used."""
    return Sample(id=id, image=b"", label=label, split=split, source=source, problem=why)


def pictures(folder: Path) -> Iterator[Path]:
    """Picture files below a folder, in natural order and lazily."""
    return map(Path, find_pictures(folder))


def printable(path: Path) -> str:
    """A path as valid UTF-8 text: other bytes are written as escapes (\\xff)."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def folders(folder: Path) -> list[Path]:
    """The visible subfolders, sorted, without the __MACOSX folder of archives made on a Mac."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(p for p in found if p.is_dir() and not p.name.startswith((".", "__MACOSX")))


def png_from_pixels(text: str, side: int = 48) -> bytes:
    """The PNG of a FER2013 `pixels` cell. A ValueError says what is wrong with the cell."""
    import numpy as np
    from PIL import Image

    words = text.split()
    if len(words) != side * side:
        raise ValueError(f"{len(words)} pixel values, expected {side * side}")
    pixels = np.array(words, dtype=np.int64)
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(f"pixel values from {pixels.min()} to {pixels.max()}, expected 0 to 255")
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8).reshape(side, side)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
