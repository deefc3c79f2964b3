"""Converts any data set to a form that most tools read: parquet with embedded pictures, or JSONL beside pictures."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.check import SampleProblem
from emoreason.data.duplicates import picture
from emoreason.data.protocols import VOTES
from emoreason.data.schema import Sample
from emoreason.data.sources import read
from emoreason.data.table import parquet_files

Encoded = tuple[Sample, bytes]
KINDS = ("parquet", "jsonl")
ROWS, BYTES = 1000, 32 << 20  # a row group is written as soon as it reaches either


@dataclass(frozen=True)
class Converted:
    """What was written, and which samples were skipped."""

    output: str
    kind: str
    counts: dict[str, int]  # file -> rows
    skipped: tuple[SampleProblem, ...]

    @property
    def written(self) -> int:
        return sum(self.counts.values())


@dataclass
class Shape:
    """The columns that a data set needs. A first pass collects them, as parquet needs them before its first row."""

    votes: dict[str, None] = field(default_factory=dict)  # used as an ordered set, like the next two
    groups: dict[str, None] = field(default_factory=dict)
    units: dict[str, None] = field(default_factory=dict)
    point: bool = False  # some sample has a valence or an arousal
    explained: bool = False
    counted: bool = True  # all votes are whole numbers that fit the int8 of FER+

    def add(self, sample: Sample) -> None:
        self.groups.update(dict.fromkeys(sample.groups))
        self.votes.update(dict.fromkeys(sample.votes or ()))
        self.units.update(dict.fromkeys(sample.units or ()))
        self.point |= sample.valence is not None or sample.arousal is not None
        self.explained |= sample.explanation is not None
        self.counted &= all(float(count).is_integer() and count <= 127 for count in (sample.votes or {}).values())

    @property
    def ferplus(self) -> bool:
        """Whether the votes fit the layout of FER+: ten counts, two of them for no emotion."""
        return self.counted and set(VOTES[8:]) <= set(self.votes) <= set(VOTES)


def convert(
    source: str | Path,
    output: str | Path,
    *,
    format: str = "auto",
    to: str = "parquet",
    split: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Converted:
    """Write a data set in another form. `output` only appears once it is complete.

    `to="parquet"`  OUTPUT.parquet, or a folder with one file per split
    `to="jsonl"`    a folder with metadata.jsonl and images/ (in train/, validation/, test/ if the data has splits)
    `overwrite`     replace existing parquet files; a folder of pictures is never replaced
    `progress`      called with the number of samples done
    `options`       as for `read`

    Samples whose picture is missing or broken are left out and returned as `skipped`.
    """
    if to not in KINDS:
        raise UsageError(f"cannot convert to {to!r}; expected one of: {', '.join(KINDS)}")
    output = Path(output)
    if output.resolve() == Path(source).resolve():
        raise UsageError(f"{output} is also the source; choose another output")
    shape = Shape()
    for sample in read(source, format=format, split=split, **options):
        shape.add(sample)
    skipped: list[SampleProblem] = []
    samples = _usable(read(source, format=format, split=split, **options), skipped, progress)
    output.parent.mkdir(parents=True, exist_ok=True)
    write = _write_parquet if to == "parquet" else _write_jsonl
    counts = write(samples, output, shape, overwrite)
    if not counts:
        raise EmoreasonError(f"{source}: no picture can be used, so nothing was written; the first: {skipped[0].why}")
    return Converted(str(output), to, counts, tuple(skipped))


def _usable(
    samples: Iterator[Sample], skipped: list[SampleProblem], progress: Callable[[int], None] | None
) -> Iterator[Encoded]:
    """Samples with their original encoded bytes. Each picture is decoded once, so that no broken one is written."""
    for done, sample in enumerate(samples, 1):
        try:
            picture(sample)
            yield sample, sample.image if isinstance(sample.image, bytes) else Path(sample.image).read_bytes()
        except (EmoreasonError, OSError) as error:
            skipped.append(SampleProblem(sample.id, sample.split, str(error)))
        if progress:
            progress(done)


def _row(sample: Sample, shape: Shape) -> dict[str, Any]:
    """Everything but the picture, with the same keys in every row."""
    row: dict[str, Any] = {"id": sample.id, "label": sample.label}
    if shape.ferplus:
        row["votes"] = [int(sample.votes.get(name, 0)) for name in VOTES] if sample.votes else None
    elif shape.votes:
        row["distribution"] = {name: sample.votes.get(name, 0.0) for name in shape.votes} if sample.votes else None
    if shape.groups:
        row["groups"] = {name: sample.groups.get(name) for name in shape.groups}
    row |= {f"au_{code}": (sample.units or {}).get(code) for code in shape.units}
    row |= {"valence": sample.valence, "arousal": sample.arousal} if shape.point else {}
    row |= {"explanation": sample.explanation} if shape.explained else {}
    return {**row, "split": sample.split}


def _write_parquet(samples: Iterator[Encoded], output: Path, shape: Shape, overwrite: bool) -> dict[str, int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    single = output.suffix == ".parquet"
    if single:
        _refuse(output, output.exists() and not overwrite)
    else:
        _refuse(output, output.is_file() or (output.is_dir() and any(output.iterdir()) and not overwrite))
        output.mkdir(exist_ok=True)
    folder = output.parent if single else output
    schema = _schema(shape)
    counts: dict[str, int] = {}
    waiting: dict[str, list[dict[str, Any]]] = {}
    sizes: dict[str, int] = {}
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=folder) as work:
        with ExitStack() as stack:
            writers: dict[str, pq.ParquetWriter] = {}

            def flush(name: str) -> None:
                if name not in writers:
                    writers[name] = stack.enter_context(pq.ParquetWriter(Path(work, name), schema))
                writers[name].write_table(pa.Table.from_pylist(waiting[name], schema))
                waiting[name], sizes[name] = [], 0

            for sample, encoded in samples:
                name = output.name if single else f"{sample.split or 'data'}.parquet"
                image = {"bytes": encoded, "path": Path(sample.id).name}
                waiting.setdefault(name, []).append({"image": image, **_row(sample, shape)})
                counts[name] = counts.get(name, 0) + 1
                sizes[name] = sizes.get(name, 0) + len(encoded)
                if len(waiting[name]) >= ROWS or sizes[name] >= BYTES:
                    flush(name)
            for name in counts:
                flush(name)
        # A split left over from an older conversion must not mix with the new ones.
        stale = [] if single else [file.name for file in parquet_files(folder) if file.name not in counts]
        _refuse(folder / ", ".join(stale), bool(stale and counts))
        for name in counts:
            os.replace(Path(work, name), folder / name)
    return counts


def _schema(shape: Shape) -> Any:
    """The schema of the FER+ parquet files. Its metadata makes `datasets` show the column `image` as pictures."""
    import pyarrow as pa

    fields = [
        ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("id", pa.string()),
        ("label", pa.string()),
    ]
    metadata = {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})}
    if shape.ferplus:
        fields.append(("votes", pa.list_(pa.int8(), len(VOTES))))
        metadata["emotions"] = json.dumps(VOTES)
    elif shape.votes:
        fields.append(("distribution", pa.struct([(name, pa.float64()) for name in shape.votes])))
    if shape.groups:
        fields.append(("groups", pa.struct([(name, pa.string()) for name in shape.groups])))
    fields += [
        (name, pa.float64())
        for name in (*(f"au_{code}" for code in shape.units), *("valence", "arousal") * shape.point)
    ]
    fields += [("explanation", pa.string())] * shape.explained
    return pa.schema([*fields, ("split", pa.string())], metadata)


def _write_jsonl(samples: Iterator[Encoded], output: Path, shape: Shape, overwrite: bool) -> dict[str, int]:
    _refuse(output, output.is_file() or (output.is_dir() and any(output.iterdir())))
    counts: dict[str, int] = {}
    taken: set[str] = set()
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as work, ExitStack() as stack:
        files: dict[str, Any] = {}
        for sample, encoded in samples:
            part = Path(work, "data", sample.split or "")
            table = Path(sample.split or "", "metadata.jsonl").as_posix()
            if table not in files:
                (part / "images").mkdir(parents=True)
                files[table] = stack.enter_context(open(part / "metadata.jsonl", "w", encoding="utf-8"))
            name = _file_name(sample, encoded, taken)
            (part / "images" / name).write_bytes(encoded)
            row = {"file_name": f"images/{name}", **_row(sample, shape)}
            files[table].write(json.dumps(row, ensure_ascii=False) + "\n")
            counts[table] = counts.get(table, 0) + 1
        stack.close()
        if output.is_dir():
            output.rmdir()
        if counts:
            os.rename(Path(work, "data"), output)
    return counts


def _file_name(sample: Sample, encoded: bytes, taken: set[str]) -> str:
    """A safe, unused file name made from the id, with the suffix of the actual image format."""
    suffix = ".jpg" if encoded[:2] == b"\xff\xd8" else ".png" if encoded[:4] == b"\x89PNG" else Path(sample.id).suffix
    stem = re.sub(r"[^\w.-]+", "_", str(Path(sample.id).with_suffix(""))).strip("._") or "picture"
    name, number = f"{stem}{suffix}", 1
    while (sample.split or "") + "/" + name in taken:
        number += 1
        name = f"{stem}_{number}{suffix}"
    taken.add((sample.split or "") + "/" + name)
    return name


def _refuse(output: Path, exists: bool) -> None:
    if exists:
        raise UsageError(f"{output} already exists; choose another output (--overwrite replaces parquet files)")
