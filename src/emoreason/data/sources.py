"""Recognises the layout of a data set and reads it: the table of all readers, `read` and `sniff`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data import affectnet, ckplus, fer2013, ferplus, hub, imagefolder, messages, rafdb, sfew, table
from emoreason.data.schema import Sample, split_name

# From special to general layouts: class folders are also image folders, and any csv is a table.
LAYOUTS = (ferplus, fer2013, affectnet, rafdb, ckplus, sfew, messages, table, imagefolder)
FORMATS: dict[str, tuple[Callable[..., Iterator[Sample]], dict[str, Any]]] = {
    **{module.__name__.rpartition(".")[2]: (module.read, {}) for module in LAYOUTS},
    "affectnet7": (affectnet.read, {"classes": 7}),
    "affectnet8": (affectnet.read, {"classes": 8}),
    "messages": (messages.samples, {}),
    "hub": (hub.read, {}),
}


def read(source: str | Path, *, format: str = "auto", split: str | None = None, **options: Any) -> Iterator[Sample]:
    """The samples of a data set, lazily. `options` belong to a format: classes=7, peak_frames=1, images=…

    The layout is checked by this call; the rows are read during iteration.
    """
    name = sniff(source) if format == "auto" else format
    if name not in FORMATS:
        near = difflib.get_close_matches(name, FORMATS, 3) or list(FORMATS)
        raise UsageError(f"unknown format {name!r}; expected auto or one of: {', '.join(near)}")
    reader, preset = FORMATS[name]
    allowed = [p.name for p in inspect.signature(reader).parameters.values() if p.kind == p.KEYWORD_ONLY]
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise UsageError(f"format {name} has no option {', '.join(unknown)}; it has: {', '.join(allowed) or 'none'}")
    if name != "hub" and not Path(source).exists():
        raise EmoreasonError(f"{source} does not exist. For a data set of the Hugging Face Hub, write hub:OWNER/NAME")
    wanted = split_name(split)
    place: Any = str(source) if name == "hub" else Path(source)
    return _of_split(reader(place, wanted, **{**preset, **options}), wanted, str(source))


def sniff(source: str | Path) -> str:
    """The format of a file or folder. If none matches, the error says what was expected and what was found."""
    if str(source).startswith(hub.PREFIX):
        return "hub"
    path = Path(source)
    if not path.exists():
        raise EmoreasonError(f"{source} does not exist. For a data set of the Hugging Face Hub, write hub:OWNER/NAME")
    for module in LAYOUTS:
        if module.matches(path):
            return module.__name__.rpartition(".")[2]
    if path.is_file():
        contents = f"a file ending in {path.suffix or '(nothing)'}"
    else:
        names = sorted(p.name + "/" * p.is_dir() for p in path.iterdir())
        contents = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") or "an empty folder"
    raise EmoreasonError(
        f"{source}: no known layout. Found: {contents}. Expected pictures in a folder per label, or a table (.csv, "
        ".tsv, .jsonl, .parquet) with the columns path and label; unpack archives first. If the layout of a benchmark "
        f"was not recognised, name it with --format: {', '.join(FORMATS)}"
    )


def _of_split(samples: Iterator[Sample], split: str | None, source: str) -> Iterator[Sample]:
    """The samples of one split. A split without samples is an error, not an empty data set."""
    others: set[str] = set()
    found = False
    for sample in samples:
        if split in (None, sample.split):
            found = True
            yield sample
        else:
            others.add(sample.split or "(none)")
    if not found:
        what = f"split {split!r}" if split else "samples"
        splits = f"; it has: {', '.join(sorted(others))}" if others else ""
        raise EmoreasonError(f"{source} has no {what}{splits}")
