"""Conversion loses nothing, is all or nothing, and `datasets` reads the result."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data import Sample, read, sniff
from emoreason.data.convert import convert
from emoreason.data.protocols import VOTES


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two splits with distributions and groups, a missing and a broken picture."""
    root = tmp_path / "source"
    for part in ("train", "test"):
        (root / part).mkdir(parents=True)
        lines = []
        for number, label in enumerate(("happy", "bored", None)):
            (root / part / f"{number}.png").write_bytes(png(number + 10 * (part == "test")))
            lines.append({"file_name": f"{number}.png", "label": label, "gender": "female"})
        lines[0]["distribution"] = {"happy": 0.75, "bored": 0.25}  # type: ignore[assignment]
        (root / part / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (root / "train" / "2.png").unlink()
    (root / "test" / "2.png").write_bytes(png(1)[:90])
    return root


@pytest.fixture
def voted(tmp_path: Path) -> Path:
    """A FER+ folder in the form of its own script."""
    for part, names in (("FER2013Train", ("fer0000000.png", "fer0000001.png")), ("FER2013Test", ("fer0032220.png",))):
        (tmp_path / "voted" / part).mkdir(parents=True)
        with open(tmp_path / "voted" / part / "label.csv", "w") as table:
            for number, name in enumerate(names):
                (tmp_path / "voted" / part / name).write_bytes(png(number))
                table.write(f'{name},"(0, 0, 48, 48)",1,0,0,0,0,0,0,7,2,0\n')
    return tmp_path / "voted"


def bare(samples: Iterator[Sample]) -> list[Sample]:
    """Samples without what a conversion may change: where the bytes are and who read them."""
    kept = (s for s in samples if not s.problem)
    with_bytes = (replace(s, image=s.image if isinstance(s.image, bytes) else Path(s.image).read_bytes()) for s in kept)
    return sorted((replace(s, source="") for s in with_bytes), key=lambda s: (s.split or "", s.id))


def usable(folder: Path) -> list[Sample]:
    shutil.copytree(folder, folder.parent / "usable")
    for name in ("train/metadata.jsonl", "test/metadata.jsonl"):
        file = folder.parent / "usable" / name
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:2]))
    return bare(read(folder.parent / "usable"))


@pytest.mark.parametrize(("to", "name"), [("parquet", "out"), ("parquet", "out.parquet"), ("jsonl", "out")])
def test_there_and_back(folder: Path, tmp_path: Path, to: str, name: str):
    result = convert(folder, tmp_path / name, to=to)
    assert result.written == 4
    assert {(t.id, t.split) for t in result.skipped} == {("train/2.png", "train"), ("test/2.png", "test")}
    assert bare(read(tmp_path / name)) == usable(folder)
    assert not list(tmp_path.rglob(".*")), "nothing half-done is left behind"


def test_ferplus_votes_keep_their_layout(voted: Path, tmp_path: Path):
    import pyarrow.parquet as pq

    result = convert(voted, tmp_path / "parquet")
    assert result.counts == {"train.parquet": 2, "test.parquet": 1}
    assert sniff(tmp_path / "parquet") == "ferplus"
    assert bare(read(tmp_path / "parquet")) == bare(read(voted))
    schema = pq.read_schema(tmp_path / "parquet" / "test.parquet")
    assert str(schema.field("votes").type).startswith("fixed_size_list") and schema.field("votes").type.list_size == 10
    assert json.loads(schema.metadata[b"emotions"]) == list(VOTES)


def test_one_split_only(folder: Path, tmp_path: Path):
    assert convert(folder, tmp_path / "t.parquet", split="test").counts == {"t.parquet": 2}
    assert {s.split for s in read(tmp_path / "t.parquet")} == {"test"}


def test_datasets_reads_the_parquet(folder: Path, voted: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    convert(folder, tmp_path / "out")
    convert(voted, tmp_path / "votes")
    files = {part: str(tmp_path / "out" / f"{part}.parquet") for part in ("train", "test")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "cache"))
    row = loaded["test"][0]
    assert isinstance(loaded["test"].features["image"], datasets.Image) and row["image"].size == (48, 48)
    assert row["label"] == "happiness" and row["distribution"] == {"happiness": 0.75, "boredom": 0.25}
    assert row["groups"] == {"gender": "female"}
    test = str(tmp_path / "votes" / "test.parquet")
    (face,) = datasets.load_dataset("parquet", data_files=test, split="train", cache_dir=str(tmp_path / "cache"))
    assert face["votes"] == [1, 0, 0, 0, 0, 0, 0, 7, 2, 0] and face["label"] == "contempt"


def test_datasets_reads_the_folder(folder: Path, tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    convert(folder, tmp_path / "out", to="jsonl")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {part: len(rows) for part, rows in loaded.items()} == {"train": 2, "test": 2}
    assert loaded["train"][0]["image"].size == (48, 48) and loaded["train"][1]["label"] == "boredom"


def test_nothing_that_is_there_is_overwritten_unasked(folder: Path, tmp_path: Path):
    convert(folder, tmp_path / "out.parquet")
    before = (tmp_path / "out.parquet").read_bytes()
    with pytest.raises(UsageError, match="already exists"):
        convert(folder, tmp_path / "out.parquet", split="test")
    assert (tmp_path / "out.parquet").read_bytes() == before
    convert(folder, tmp_path / "out.parquet", split="test", overwrite=True)
    assert len(list(read(tmp_path / "out.parquet"))) == 2
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match="already exists"):
        convert(folder, tmp_path / "photos", to="jsonl", overwrite=True)
    assert (tmp_path / "photos" / "mine.jpg").read_bytes() == b"precious"


@pytest.mark.parametrize("to", ["parquet", "jsonl"])
def test_a_conversion_that_fails_leaves_nothing(folder: Path, tmp_path: Path, to: str):
    def stop(done: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(folder, tmp_path / "deep" / "out", to=to, progress=stop)
    assert not [p for p in (tmp_path / "deep").rglob("*") if p.is_file()]


def test_ids_that_are_no_file_names(tmp_path: Path):
    for name, seed in (("a b/x.png", 1), ("a_b/x.png", 2)):
        (tmp_path / "in" / "sad" / name).parent.mkdir(parents=True)
        (tmp_path / "in" / "sad" / name).write_bytes(png(seed))
    convert(tmp_path / "in", tmp_path / "out", to="jsonl")
    names = sorted(p.name for p in (tmp_path / "out" / "images").iterdir())
    assert names == ["sad_a_b_x.png", "sad_a_b_x_2.png"]
    assert bare(read(tmp_path / "out")) == bare(read(tmp_path / "in"))


def test_an_older_split_is_not_left_beside_new_ones(folder: Path, tmp_path: Path):
    convert(folder, tmp_path / "out")
    with pytest.raises(UsageError, match=r"train\.parquet already exists"):
        convert(folder, tmp_path / "out", split="test", overwrite=True)
    assert {s.split for s in read(tmp_path / "out")} == {"train", "test"}


def test_nothing_usable_is_an_error(tmp_path: Path):
    (tmp_path / "t.csv").write_text("path,label\ngone.png,fear\n")
    with pytest.raises(EmoreasonError, match="no picture can be used"):
        convert(tmp_path / "t.csv", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_bad_requests(folder: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="parquet, jsonl"):
        convert(folder, tmp_path / "out", to="tfrecord")
    with pytest.raises(UsageError, match="is also the source"):
        convert(folder, folder)


def test_what_was_skipped_is_told_in_words(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from emoreason.apps.cli.main import execute

    assert execute(["data", "convert", str(folder), str(tmp_path / "out.parquet")]) == 3
    told = capsys.readouterr().err
    assert "skipped: train/2.png: " in told and "does not exist" in told and "Trouble(" not in told
