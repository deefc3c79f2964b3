"""An export is an ImageFolder that datasets reads, also after the run that made it was killed."""

import io
import json

import pytest
from datasets import load_dataset
from PIL import Image

from emoreason.analysis import row
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.image_folder import ImageFolder, check_folder

BY = {"model": "mini", "revision": "r", "prompt_id": "p"}


def face(source: str, label: str = "happiness", status: str = "ok", face_id: int = 0) -> dict:
    return row(source=source, face_id=face_id, status=status, label=label, confidence=0.8, **BY)


def png(shade: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, shade, shade)).save(stream, "PNG")
    return stream.getvalue()


def fill(folder) -> ImageFolder:
    export = ImageFolder(folder, "model:mini@r")
    export.add([face("a/x.jpg"), face("a/x.jpg", "anger", face_id=1)], [png(1), png(2)])
    export.add([row(source="broken.jpg", status="error", error="damaged", **BY)], [])
    export.add([row(source="wall.jpg", status="no_face", **BY)], [])
    export.add([face("b/x.jpg")], [png(1)])  # the same name and the same pixels in another folder
    export.add([face("c.jpg", status="abstained")], [png(3)])
    return export


def entries(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def test_datasets_reads_it_with_label_and_label_source(tmp_path):
    fill(tmp_path / "faces")
    data = load_dataset(
        "imagefolder", data_dir=str(tmp_path / "faces"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(data) == 4 and set(data["label_source"]) == {"model:mini@r"}
    assert sorted(data["label"]) == ["anger", "happiness", "happiness", "happiness"]
    assert data[0]["image"].size == (8, 8) and "source" in data.column_names
    assert {p.parent.name for p in (tmp_path / "faces").glob("*/*.png")} == {"happiness", "anger", "_abstained"}


def test_our_own_reader_takes_the_folder(tmp_path):
    from emoreason.data import read

    fill(tmp_path / "faces")
    assert {sample.label for sample in read(tmp_path / "faces")} == {"happiness", "anger"}


def test_repeated_pictures_are_added_once(tmp_path):
    fill(tmp_path / "faces")
    fill(tmp_path / "faces")
    assert len(entries(tmp_path / "faces")) == 4


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_an_index_that_a_kill_left_incomplete_is_repaired(tmp_path, cut):
    folder = tmp_path / "faces"
    fill(folder)
    index = folder / "metadata.jsonl"
    before = entries(folder)
    index.write_bytes(index.read_bytes()[:-cut])
    fill(folder)
    key = str
    assert sorted(entries(folder), key=key) == sorted(before, key=key)
    assert {line["file_name"] for line in before} == {str(p.relative_to(folder)) for p in folder.glob("*/*.png")}


@pytest.mark.parametrize("label", ["a/b", "..", "a\\b:c", "x" * 300, "très heureux"])
def test_any_label_is_a_folder_inside_the_export(tmp_path, label):
    folder = tmp_path / "faces"
    ImageFolder(folder, "m").add([face("http://host/p.jpg?x=../..", label)], [png()])
    (path,) = folder.rglob("*.png")
    assert path.parent.parent == folder and entries(folder)[0]["label"] == label


def test_folders_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").write_text("")
    with pytest.raises(UsageError, match="expected a folder"):
        check_folder(tmp_path / "file", False, ())
    with pytest.raises(UsageError, match="not empty"):
        check_folder(tmp_path / "full", False, ())
    with pytest.raises(UsageError, match="lies inside"):
        check_folder(tmp_path / "new", True, (str(tmp_path), "*.jpg"))
    check_folder(tmp_path / "full", True, ("a.jpg",))
    check_folder(tmp_path / "new", False, (str(tmp_path / "full"),))


def test_a_foreign_index_is_refused(tmp_path):
    (tmp_path / "metadata.jsonl").write_text("[1]\n")
    with pytest.raises(EmoreasonError, match="not the index of an ImageFolder"):
        ImageFolder(tmp_path, "m")
