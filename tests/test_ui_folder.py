"""Labeling an upload: the rows of the command line, from memory."""

import os
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from emoreason.apps.cli.main import execute
from emoreason.apps.ui.archive import UploadLimits
from emoreason.apps.ui.folder import label_files, row_columns, rows_file, summary
from emoreason.core.errors import UsageError
from emoreason.engine import Engine
from emoreason.explain.read.sections import parse
from emoreason.media.images import Limits

SIDE = 200


@pytest.fixture(scope="module")
def photos(tmp_path_factory, astronaut) -> Path:
    """Two faces in one picture, one in others, none, and broken ones."""
    folder = tmp_path_factory.mktemp("photos")
    face = Image.open(astronaut).convert("RGB").crop((110, 0, 350, 240)).resize((SIDE, SIDE))
    face.save(folder / "a face.jpg")
    ImageOps.mirror(face).save(folder / "mirror.png")
    both = Image.new("RGB", (2 * SIDE, SIDE))
    both.paste(face, (0, 0))
    both.paste(ImageOps.mirror(face), (SIDE, 0))
    both.save(folder / "two.webp")
    Image.fromarray(np.linspace(60, 200, SIDE * SIDE * 3).reshape(SIDE, SIDE, 3).astype(np.uint8)).save(
        folder / "wall.png"
    )
    (folder / "broken.png").write_text("no picture")
    (folder / "half.jpg").write_bytes((folder / "a face.jpg").read_bytes()[:1500])
    return folder


@pytest.fixture(scope="module")
def zipped(photos, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("zip") / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for photo in sorted(photos.iterdir()):
            archive.write(photo, photo.name)
    return path


def rows_of(progress) -> list[dict]:
    return [row for step in progress for row in step.rows]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("options", [{}, {"labels": ["bored", "engaged"]}, {"detect": False}], ids=str)
def test_rows_are_those_of_the_command_line(mini, photos, zipped, tmp_path, kind, options):
    """To the byte but for the folder, of the files and of a zip of them."""
    target = tmp_path / f"rows.{kind}"
    flags = ["--labels", ",".join(options["labels"])] if "labels" in options else []
    flags += ["--no-detect"] if "detect" in options else []
    files = sorted(photos.iterdir())
    assert execute(["label", *map(str, files), "-o", str(target), "--device", "cpu", *flags]) == 3
    columns = row_columns(mini, options.get("labels"))
    wanted = target.read_bytes()
    for upload in (files, [zipped]):
        rows = rows_of(label_files(mini, upload, **options))
        placed = [row | {key: row[key].replace(row["source"], f"{photos}/{row['source']}") for key in
                         ("source", "error")} for row in rows]  # fmt: skip
        assert rows_file(placed, columns, kind) == wanted


def test_progress_counts_up_and_rows_come_as_they_are_made(mini, photos, zipped):
    steps = list(label_files(mini, [zipped, photos / "wall.png"], batch=2))
    assert [(step.done, step.total) for step in steps] == [(0, 7), (2, 7), (4, 7), (6, 7), (7, 7)]
    assert [row["source"] for step in steps[1:3] for row in step.rows] == [
        "a face.jpg", "broken.png", "half.jpg", "mirror.png"
    ]  # fmt: skip


def test_bad_files_are_rows_without_a_path_of_this_machine(mini, photos, tmp_path):
    bomb = tmp_path / "wide.png"
    Image.new("1", (9000, 9000)).save(bomb)
    with zipfile.ZipFile(tmp_path / "nested.zip", "w") as archive:
        archive.writestr("in.zip", b"")
        archive.writestr("../../<b>.png", b"x")
    limits = UploadLimits(picture=Limits(max_pixels=50_000_000))
    files = [bomb, tmp_path / "nested.zip", tmp_path / "gone.png", photos / "wall.png"]
    rows = rows_of(label_files(mini, files, limits=limits))
    assert [(row["source"], row["status"]) for row in rows] == [
        ("wide.png", "error"), ("in.zip", "error"), ("<b>.png", "error"), ("gone.png", "error"), ("wall.png", "no_face")
    ]  # fmt: skip
    assert "81 million pixels" in rows[0]["error"] and "<b>.png is not a picture" in rows[2]["error"]
    assert not any(str(tmp_path) in str(row) or "sha256" in str(row) for row in rows)


def test_stop_ends_it_without_an_error(mini, zipped):
    stop = threading.Event()
    engine = Engine(lambda: mini, "mini")
    steps = label_files(engine.caller(stop), [zipped], batch=1, stop=stop)
    next(steps), next(steps)
    stop.set()
    assert list(steps) == []
    engine.close()


def test_through_an_engine_with_others(mini, photos, zipped):
    """Two folders at once through one model: each gets its own rows."""
    engine = Engine(lambda: mini, "mini")
    found: dict[int, list[dict]] = {}

    def one(number: int, files: list[Path]) -> None:
        found[number] = rows_of(label_files(engine.caller(), files, batch=2))

    uploads = ([zipped], [photos / "two.webp"])
    threads = [threading.Thread(target=one, args=given) for given in enumerate(uploads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.close()
    assert [row["source"] for row in found[1]] == ["two.webp"] * 2
    assert {row["source"] for row in found[0]} == {path.name for path in photos.iterdir()}
    assert [row["face_id"] for row in found[0] if row["source"] == "two.webp"] == [0, 1]


def test_explanations_are_in_the_rows(photos, mini_with_words):
    (row,) = rows_of(label_files(mini_with_words, [photos / "a face.jpg"], explain=True))
    assert parse(row["explanation"]) is not None


def test_wrong_labels_are_told_before_any_work(mini, zipped):
    with pytest.raises(UsageError, match="at least two"):
        next(label_files(mini, [zipped], ["one"]))


def test_summary_in_words(mini, photos, zipped):
    rows = rows_of(label_files(mini, [zipped]))
    told = summary(rows)
    assert "Files: 6." in told and "Pictures without a face: 1." in told and "Not read: 2." in told
    n = sum(row["status"] == "ok" for row in rows)
    assert n and f"Faces with a label: {n}." in told and f"happiness {n}" in told
    assert summary([]) == "Files: 0."


def test_no_picture_is_left_on_disk(mini, zipped, tmp_path, monkeypatch):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows = rows_of(label_files(mini, [zipped]))
    rows_file(rows, row_columns(mini), "parquet")
    assert os.listdir(tmp_path) == []
