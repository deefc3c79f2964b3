"""Reads a data set of the Hugging Face Hub, or a local folder that `datasets.load_dataset` understands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError
from emoreason.data.measures import unit_columns, unit_scale
from emoreason.data.rows import RowSource, find_columns, to_sample
from emoreason.data.schema import Sample, split_name

PREFIX = "hub:"


def read(
    source: str,
    split: str | None = None,
    *,
    config: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Sample]:
    """`columns` maps to columns with unusual names: {"image": "pixel_data", "label": "mood"}."""
    import datasets

    name = source.removeprefix(PREFIX)
    try:
        loaded = datasets.load_dataset(name, config, revision=revision, streaming=streaming)
    except Exception as error:  # the library passes on whatever its many back ends raise
        advice = "Check the name and the network; a private data set needs `hf auth login`"
        raise EmoreasonError(f"hub data set {name!r} cannot be loaded: {error}. {advice}") from error
    scale = unit_scale((row for rows in loaded.values() for row in _unit_rows(rows)), name)
    for part, rows in loaded.items():
        part_split = split_name(part)
        if split in (None, part_split):
            yield from _read_part(rows, name, part_split, columns or {}, scale)


def _unit_rows(rows: Any) -> Iterator[Mapping[str, Any]]:
    """The columns of action units, without the pictures. A stream with such columns is read once more for this."""
    columns = list(unit_columns(rows.features or {}).values())
    yield from rows.select_columns(columns) if columns else ()


def _read_part(rows: Any, name: str, split: str | None, renamed: Mapping[str, str], scale: float) -> Iterator[Sample]:
    import datasets

    features = rows.features or {}
    images = [column for column, kind in features.items() if isinstance(kind, datasets.Image)]
    columns = find_columns(features, name, image=renamed.get("image") or next(iter(images), None), scale=scale)
    label = renamed.get("label") or columns.label
    kind = features.get(label)
    columns = replace(columns, label=label, class_names=tuple(getattr(kind, "names", None) or ()))
    for column in images:
        rows = rows.cast_column(column, datasets.Image(decode=False))  # the encoded bytes; they are decoded later
    place = RowSource(Path(), f"{name}/{split}", "hub", split)
    for index, row in enumerate(rows):
        sample = to_sample(row, columns, place, index)
        yield sample if columns.id else replace(sample, id=f"{split}/{index:07d}")
