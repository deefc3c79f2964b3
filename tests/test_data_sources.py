"""Every layout, written small as its authors hand it out, broken rows included."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data import FORMATS, Sample, read, sniff
from emoreason.data.protocols import VOTES
from emoreason.data.schema import png_from_pixels, split_name

FACES = np.random.default_rng(7).integers(0, 256, (64, 48, 48), dtype=np.uint8)


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(FACES[number]).save(buffer, "PNG")
    return buffer.getvalue()


def put(path: Path, number: int = 0) -> Path:
    """A picture file, in the format that its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(FACES[number]).save(path)
    return path


def pixels(number: int) -> str:
    return " ".join(map(str, FACES[number].ravel()))


def rows(path: Path, *lines: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(lines)
    return path


def decoded(sample: Sample) -> np.ndarray:
    source = io.BytesIO(sample.image) if isinstance(sample.image, bytes) else sample.image
    return np.asarray(Image.open(source))


def labels(samples: Iterator[Sample]) -> dict[str, str | None]:
    return {s.id: s.label for s in samples}


# FER2013 and FER+


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """fer2013.csv and fer2013new.csv: five rows, one without a face, one with too few pixels."""
    usages = ("Training", "Training", "Training", "PublicTest", "PrivateTest")
    cells = (pixels(0), pixels(1), "12 13 14", pixels(3), pixels(4))
    rows(
        tmp_path / "fer2013.csv",
        ("emotion", "pixels", "Usage"),
        *((index, cell, usage) for index, cell, usage in zip((0, 3, 4, 6, 9), cells, usages, strict=True)),
    )
    names = ("fer0000000.png", "", "fer0000001.png", "fer0000002.png", "fer0000003.png")
    counts = ((4, 0, 0, 1, 3, 2, 0, 0, 0, 0),) * 2 + ((0, 9, 0, 0, 0, 0, 0, 0, 1, 0),) * 3
    header = ("Usage", "Image name", *VOTES[:8], "unknown", "NF")
    rows(
        tmp_path / "fer2013new.csv",
        header,
        *((usage, name, *c) for usage, name, c in zip(usages, names, counts, strict=True)),
    )
    return tmp_path


def test_fer2013_csv(kaggle: Path):
    (kaggle / "fer2013new.csv").unlink()
    assert sniff(kaggle) == sniff(kaggle / "fer2013.csv") == "fer2013"
    samples = list(read(kaggle))
    assert [s.split for s in samples] == ["train", "train", "train", "validation", "test"]
    assert [s.label for s in samples] == ["anger", "happiness", "sadness", "neutral", "9"]  # 9 is no emotion
    assert np.array_equal(decoded(samples[0]), FACES[0])
    assert samples[2].image == b"" and "3 pixel values, expected 2304" in str(samples[2].problem)


def test_the_header_of_icml_face_data_has_spaces_and_another_order(tmp_path: Path):
    rows(tmp_path / "icml_face_data.csv", ("emotion", " Usage", " pixels"), (3, "PublicTest", pixels(5)))
    (sample,) = read(tmp_path)
    assert (sample.source, sample.label, sample.split) == ("fer2013", "happiness", "validation")


def test_ferplus_from_the_two_csv_files(kaggle: Path):
    assert sniff(kaggle) == sniff(kaggle / "fer2013.csv") == sniff(kaggle / "fer2013new.csv") == "ferplus"
    samples = list(read(kaggle))
    assert [s.id for s in samples] == ["fer0000000.png", "fer0000001.png", "fer0000002.png", "fer0000003.png"]
    assert [s.label for s in samples] == [None, "sadness", "happiness", "happiness"]
    assert samples[0].votes == dict(zip(VOTES, (4, 0, 0, 1, 3, 2, 0, 0, 0, 0), strict=True))
    assert np.array_equal(decoded(samples[2]), FACES[3])
    assert samples[1].problem and samples[1].image == b""
    assert [s.id for s in read(kaggle, split="test")] == ["fer0000003.png"]


def test_ferplus_says_which_file_is_missing(kaggle: Path):
    (kaggle / "fer2013.csv").unlink()
    with pytest.raises(EmoreasonError, match=r"but fer2013\.csv is missing"):
        list(read(kaggle))


def test_ferplus_files_of_different_length_do_not_pair(kaggle: Path):
    with open(kaggle / "fer2013.csv", "a") as file:
        file.write(f"0,{pixels(0)},Training\n")
    with pytest.raises(EmoreasonError, match="same number of rows, but one ends after 5"):
        list(read(kaggle, format="ferplus"))


def test_ferplus_folders_of_its_own_script(tmp_path: Path):
    for folder, name in (("FER2013Train", "fer0000000.png"), ("FER2013Valid", "fer0028638.png")):
        put(tmp_path / folder / name)
        lines = [(name, "(0, 0, 48, 48)", 8, 1, 0, 0, 0, 0, 0, 0, 1, 0), ("bad.png", "(0, 0, 48, 48)", 8, 1)]
        rows(tmp_path / folder / "label.csv", *lines)
    assert sniff(tmp_path) == "ferplus"
    samples = list(read(tmp_path, split="val"))
    assert [(s.id, s.label, s.split) for s in samples][:1] == [("fer0028638.png", "neutral", "validation")]
    assert "votes" in str(samples[1].problem)


def ferplus_parquet(path: Path, first: int, votes: list[list[int]], **columns: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [{"bytes": png(first + i), "path": f"fer{first + i:07d}.png"} for i in range(len(votes))]
    table = pa.table({"image": images, "votes": pa.array(votes, pa.list_(pa.int8(), 10)), **columns})
    pq.write_table(table, path)
    return path


def test_ferplus_parquet_as_folder_and_as_file(tmp_path: Path):
    votes = [[0, 0, 8, 0, 0, 0, 2, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0, 9, 0]]
    ferplus_parquet(tmp_path / "train.parquet", 0, votes, fer2013_label=["surprise", None])
    test = ferplus_parquet(tmp_path / "test.parquet", 2, votes, fer2013_label=["happy", "fear"])
    assert sniff(tmp_path) == sniff(test) == "ferplus"
    assert labels(read(tmp_path, split="test")) == {"fer0000002.png": "surprise", "fer0000003.png": None}
    assert {s.split for s in read(tmp_path)} == {"train", "test"}
    (first, _) = read(test)
    assert first.votes == dict(zip(VOTES, votes[0], strict=True)) and first.image == png(2)
    assert labels(read(test, format="fer2013")) == {"fer0000002.png": "happiness", "fer0000003.png": "fear"}
    assert next(read(tmp_path, format="fer2013")).votes is None


def test_the_real_ferplus(ferplus: Path):
    samples = list(read(ferplus, split="validation"))
    assert len(samples) == 3579 and sum(s.label is not None for s in samples) == 3191
    assert len({s.id for s in samples}) == 3579


# RAF-DB


@pytest.fixture
def rafdb(tmp_path: Path) -> Path:
    lines = ("train_00001.jpg 5", "train_00002.jpg 4", "test_0001.jpg 7", "test_0002.jpg 12", "test_0003.jpg")
    basic = tmp_path / "basic"
    for number, line in enumerate(lines[:3]):
        put(basic / "Image" / "aligned" / f"{line.split('.')[0]}_aligned.jpg", number)
        put(basic / "Image" / "original" / line.split()[0], number)
    (basic / "EmoLabel").mkdir()
    (basic / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(lines) + "\n")
    manual = basic / "Annotation" / "manual"
    manual.mkdir(parents=True)
    (manual / "train_00001_manu_attri.txt").write_text("1.0\t2.0\n" * 5 + "1\n2\n4\n")
    (manual / "train_00002_manu_attri.txt").write_text("1.0\t2.0\n" * 5 + "0\n0\n")
    return tmp_path


def test_rafdb(rafdb: Path):
    assert sniff(rafdb) == sniff(rafdb / "basic") == "rafdb"
    samples = list(read(rafdb))
    assert [s.label for s in samples] == ["sadness", "happiness", "neutral", "12", None]
    assert [s.split for s in samples] == ["train", "train", "test", "test", "test"]
    assert samples[0].groups == {"gender": "female", "race": "asian", "age_band": "70+"}
    assert samples[1].groups == {"gender": "male", "race": "caucasian"} and samples[2].groups == {}
    assert Path(str(samples[0].image)).name == "train_00001_aligned.jpg" and Path(str(samples[0].image)).is_file()
    assert "line 5" in str(samples[4].problem)


def test_rafdb_original_pictures(rafdb: Path):
    sample = next(read(rafdb, images="original"))
    assert Path(str(sample.image)).name == "train_00001.jpg" and Path(str(sample.image)).is_file()
    with pytest.raises(EmoreasonError, match="aligned and Image/original"):
        list(read(rafdb, images="cropped"))


def test_rafdb_as_numbered_folders(tmp_path: Path):
    put(tmp_path / "DATASET" / "train" / "1" / "train_1.jpg")
    put(tmp_path / "DATASET" / "test" / "7" / "test_1.jpg")
    assert sniff(tmp_path) == "rafdb"
    assert labels(read(tmp_path)) == {"train/1/train_1.jpg": "surprise", "test/7/test_1.jpg": "neutral"}
    put(tmp_path / "DATASET" / "test" / "0" / "x.jpg")  # then it counts from 0: not RAF-DB
    assert sniff(tmp_path) == "imagefolder"


# AffectNet

AFFECTNET = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal"


@pytest.mark.parametrize("with_header", [True, False])
def test_affectnet_lists(tmp_path: Path, with_header: bool):
    put(tmp_path / "Manually_Annotated_Images" / "689" / "a.jpg")
    expressions = (1, 7, 8, 10, 0, 11)
    lines = [(f"689/{c}.jpg", 1, 1, 9, 9, "1;2;3;4", e, 0.1, 0.2) for c, e in zip("abcdef", expressions, strict=True)]
    folder = tmp_path / "Manually_Annotated_file_lists"
    head = [AFFECTNET.split(",")] if with_header else []
    rows(folder / "training.csv", *head, *lines)
    rows(folder / "validation.csv", *head, lines[0])
    assert sniff(tmp_path) == sniff(folder / "training.csv") == "affectnet"
    assert labels(read(tmp_path, split="train")) == {
        "689/a.jpg": "happiness",
        "689/b.jpg": "contempt",
        "689/e.jpg": "neutral",
        "689/f.jpg": "11",
    }
    assert [s.label for s in read(tmp_path, format="affectnet7", split="train")] == ["happiness", "neutral", "11"]
    (sample,) = read(folder / "validation.csv")
    assert sample.split == "validation" and Path(str(sample.image)).is_file()


def test_affectnet_npy(tmp_path: Path):
    for part, number, expression in (("train_set", 0, "2"), ("train_set", 1, "7"), ("val_set", 5, "3")):
        put(tmp_path / part / "images" / f"{number}.jpg", number)
        annotations = tmp_path / part / "annotations"
        annotations.mkdir(exist_ok=True)
        for name, value in (("exp", expression), ("val", "0.1"), ("aro", "-0.2"), ("lnd", "1.0")):
            np.save(annotations / f"{number}_{name}.npy", np.array(value))
    put(tmp_path / "train_set" / "images" / "2.jpg")
    (tmp_path / "train_set" / "annotations" / "2_exp.npy").write_bytes(b"not numpy")
    put(tmp_path / "train_set" / "images" / "3.jpg")
    assert sniff(tmp_path) == sniff(tmp_path / "val_set") == "affectnet"
    found = {s.id: s for s in read(tmp_path)}
    assert [s.label for s in found.values()] == ["sadness", "contempt", None, None, "surprise"]
    assert "2_exp.npy cannot be read" in str(found["train_set/2.jpg"].problem)
    assert "3_exp.npy cannot be read" in str(found["train_set/3.jpg"].problem)
    assert [s.id for s in read(tmp_path, split="val", classes=7)] == ["val_set/5.jpg"]
    assert "train_set/1.jpg" not in labels(read(tmp_path, format="affectnet7"))


def test_affectnet_has_seven_or_eight_classes(tmp_path: Path):
    (tmp_path / "val_set" / "annotations").mkdir(parents=True)
    with pytest.raises(UsageError, match="7 or 8"):
        list(read(tmp_path, classes=5))


# SFEW, CK+


def test_sfew_takes_the_aligned_faces(tmp_path: Path):
    for place in ("Train/Angry/a.png", "Val/Happy/b.png", "Val/Val_Aligned_Faces_new/Happy/b.png", "Test/c.png"):
        put(tmp_path / place)
    assert sniff(tmp_path) == "sfew"
    found = list(read(tmp_path))
    assert [(s.id, s.label, s.split) for s in found] == [
        ("Train/Angry/a.png", "anger", "train"),
        ("Val/Val_Aligned_Faces_new/Happy/b.png", "happiness", "validation"),
        ("Test/c.png", None, "test"),
    ]


@pytest.fixture
def ckplus(tmp_path: Path) -> Path:
    for sequence, frames in (("S005/001", 6), ("S010/002", 2)):
        name = sequence.replace("/", "_")
        for number in range(1, frames + 1):
            put(tmp_path / "cohn-kanade-images" / sequence / f"{name}_{number:08d}.png", number)
        (tmp_path / "cohn-kanade-images" / sequence / ".DS_Store").write_bytes(b"mac")
        (tmp_path / "Emotion" / sequence).mkdir(parents=True)
        (tmp_path / "Emotion" / sequence / f"{name}_{frames:08d}_emotion.txt").write_text("   3.0000000e+00\n")
    (tmp_path / "Emotion" / "S011" / "001").mkdir(parents=True)  # not labelled, as most sequences
    (tmp_path / "Emotion" / "S999" / "001").mkdir(parents=True)
    (tmp_path / "Emotion" / "S999" / "001" / "S999_001_00000009_emotion.txt").write_text("   7.0000000e+00\n")
    return tmp_path


def test_ckplus_takes_the_peak_and_the_neutral_start(ckplus: Path):
    assert sniff(ckplus) == "ckplus"
    found = list(read(ckplus))
    assert [(s.id[-7:-4], s.label) for s in found if s.groups == {"subject": "S005"}] == [
        ("001", "neutral"),
        ("004", "disgust"),
        ("005", "disgust"),
        ("006", "disgust"),
    ]
    assert [s.label for s in found if s.groups == {"subject": "S010"}] == ["neutral", "disgust"]
    assert "no frames" in str(found[-1].problem)
    assert len(list(read(ckplus, peak_frames=1, neutral=False))) == 3


# ImageFolder, tables, the Hub


def test_imagefolder_with_splits_and_hidden_files(tmp_path: Path):
    put(tmp_path / "train" / "Happy" / "deep" / "a.jpg")
    put(tmp_path / "val" / "bored" / "a.png")
    (tmp_path / "val" / "bored" / "notes.txt").write_text("no picture")
    (tmp_path / "val" / ".git").mkdir()
    assert sniff(tmp_path) == "imagefolder"
    assert [(s.id, s.label, s.split) for s in read(tmp_path)] == [
        ("train/Happy/deep/a.jpg", "happiness", "train"),
        ("val/bored/a.png", "boredom", "validation"),
    ]


def test_imagefolder_without_classes(tmp_path: Path):
    put(tmp_path / "a.jpg")
    (sample,) = read(tmp_path)
    assert (sample.label, sample.split, sample.source) == (None, None, "imagefolder")


def test_imagefolder_with_metadata(tmp_path: Path):
    for part in ("train", "test"):
        put(tmp_path / part / "a.png")
        row = {"file_name": "a.png", "label": "joy", "distribution": {"joy": 0.75, "fear": 0.25}, "gender": "female"}
        (tmp_path / part / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    found = list(read(tmp_path))
    assert [s.id for s in found] == ["test/a.png", "train/a.png"]
    assert found[0].votes == {"happiness": 0.75, "fear": 0.25} and found[0].groups == {"gender": "female"}
    assert all(Path(str(s.image)).is_file() for s in found)


def test_csv_with_distribution_groups_and_split(tmp_path: Path):
    table = rows(
        tmp_path / "faces.csv",
        ("path", "label", "distribution", "gender", "group_site", "split"),
        ("a.png", "Happy", '{"happiness": 0.9, "neutral": 0.1}', "female", "lab", "train"),
        ("b.png", "grumpy", "", "", "", "fold3"),
        ("c.png", "", '{"happiness": "much"}', "", "", "test"),
        ("", "fear", "", "", "", "test"),
    )
    assert sniff(table) == "table"
    a, b, c, d = read(table)
    assert (a.label, a.votes, a.groups, a.split) == (
        "happiness",
        {"happiness": 0.9, "neutral": 0.1},
        {"gender": "female", "site": "lab"},
        "train",
    )
    assert a.image == str(tmp_path / "a.png")
    assert (b.label, b.split, b.groups) == ("grumpy", "fold3", {})
    assert "line 4: votes cannot be read" in str(c.problem) and "line 5: no picture" in str(d.problem)


def test_jsonl_keeps_lines_that_are_no_json_as_broken(tmp_path: Path):
    table = tmp_path / "faces.jsonl"
    table.write_text(
        '{"image": "/abs/a.png", "label": "sad", "votes": {"sad": 3, "NF": 1}}\n\n{"image": \n[1]\n{"x": 1}\n'
    )
    good, *bad = read(table)
    assert (good.image, good.label, good.votes) == ("/abs/a.png", "sadness", {"sadness": 3, "not_a_face": 1})
    assert ["line 3" in str(bad[0].problem), "expected an object" in str(bad[1].problem)] == [True, True]
    assert "no column for the picture" in str(bad[2].problem)


def test_a_label_table_of_ours_can_be_read_back(tmp_path: Path):
    table = rows(
        tmp_path / "labels.csv", ("source", "label", "p_happiness", "p_fear"), ("a.jpg", "fear", "0.25", "0.75")
    )
    (sample,) = read(table)
    assert sample.votes == {"happiness": 0.25, "fear": 0.75}


def test_a_table_without_pictures_says_what_it_needs(tmp_path: Path):
    table = rows(tmp_path / "t.csv", ("number", "label"), (1, "fear"))
    with pytest.raises(EmoreasonError, match="no column for the picture among 'number', 'label'"):
        list(read(table))


def test_parquet_with_class_names(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["sad", "happy"]))
    data = {"image": [{"bytes": png(0), "path": "x.png"}], "label": [1]}
    datasets.Dataset.from_dict(data, features=features).to_parquet(str(tmp_path / "test-00000-of-00001.parquet"))
    (sample,) = read(tmp_path)
    assert (sample.label, sample.split, sample.image) == ("happiness", "test", png(0))


def test_a_file_that_is_no_parquet(tmp_path: Path):
    (tmp_path / "x.parquet").write_bytes(b"PAR?")
    with pytest.raises(EmoreasonError, match="not a readable parquet file"):
        list(read(tmp_path / "x.parquet"))


def test_hub_reads_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    for place in ("train/happy/a.png", "train/sad/b.png", "validation/sad/c.png"):
        put(tmp_path / "set" / place)
    source = f"hub:{tmp_path / 'set'}"
    assert sniff(source) == "hub"
    samples = list(read(source))
    assert [(s.label, s.split) for s in samples] == [
        ("happiness", "train"),
        ("sadness", "train"),
        ("sadness", "validation"),
    ]
    assert all(decoded(s).shape == (48, 48) for s in samples)
    assert [s.label for s in read(source, split="val", streaming=True)] == ["sadness"]


def test_a_hub_name_that_is_none(tmp_path: Path):
    pytest.importorskip("datasets")
    with pytest.raises(EmoreasonError, match="(?s)cannot be loaded: .*hf auth login"):
        list(read(f"hub:{tmp_path / 'nothing'}"))


# read and sniff


def test_sniff_says_what_it_found_and_what_it_knows(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(EmoreasonError) as caught:
        sniff(tmp_path)
    assert "Found: notes.txt" in str(caught.value) and "--format: ferplus" in str(caught.value)
    assert "a folder per label" in str(caught.value)
    with pytest.raises(EmoreasonError, match=r"a file ending in \.txt"):
        sniff(tmp_path / "notes.txt")


@pytest.mark.parametrize("call", [sniff, lambda source: read(source, format="rafdb")])
def test_a_path_to_nothing(call: Callable[[str], Any]):
    with pytest.raises(EmoreasonError, match="hub:OWNER/NAME"):
        call("no/such")


def test_unknown_formats_options_and_splits(tmp_path: Path):
    put(tmp_path / "train" / "sad" / "a.png")
    with pytest.raises(UsageError, match="expected auto or one of: rafdb"):
        read(tmp_path, format="raf-db")
    with pytest.raises(UsageError, match="no option classes"):
        read(tmp_path, format="imagefolder", classes=7)
    with pytest.raises(EmoreasonError, match="has no split 'test'"):
        list(read(tmp_path, split="test"))


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"hub", "table", "imagefolder", "messages"}))
def test_a_named_format_that_it_is_not_says_the_layout(tmp_path: Path, name: str):
    with pytest.raises(EmoreasonError, match=r"expected|needs"):
        list(read(tmp_path, format=name))


def test_reading_is_lazy(kaggle: Path):
    stream = read(kaggle)
    (kaggle / "fer2013new.csv").write_text("")
    with pytest.raises(EmoreasonError):
        next(stream)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("Training", "train"),
        ("PublicTest", "validation"),
        ("Val", "validation"),
        ("eval", "validation"),
        ("fold3", "fold3"),
        ("", None),
    ],
)
def test_split_names(word: str, name: str | None):
    assert split_name(word) == name


@pytest.mark.parametrize(("text", "what"), [("1 2", "2 pixel values"), ("300 " * 2304, "from 300"), ("x " * 2304, "x")])
def test_pixels_that_are_none(text: str, what: str):
    with pytest.raises(ValueError, match=what):
        png_from_pixels(text)


# what people save


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_office_programs_save_them(tmp_path: Path, between: str, encoding: str):
    lines = [("path", "label", "AU12", "AU04"), ("ä.png", "happy", "5", "1"), ("b.png", "müde", "0", "")]
    text = "\r\n".join(between.join(line) for line in lines) + "\r\n"
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    found = list(read(tmp_path / "t.csv"))
    assert [(s.id, s.label, s.units) for s in found] == [
        ("ä.png", "happiness", {"12": 1.0, "4": 0.2}),
        ("b.png", "müde", {"12": 0.0}),
    ]


def test_a_table_in_another_encoding_says_how_to_save_it(tmp_path: Path):
    (tmp_path / "t.csv").write_bytes("path,label\na.png,müde\n".encode("latin-1"))
    (tmp_path / "t.jsonl").write_bytes('{"path": "a.png", "label": "müde"}\n'.encode("latin-1"))
    for name in ("t.csv", "t.jsonl"):
        with pytest.raises(EmoreasonError, match=f"{name} is not UTF-8 text .*save it as UTF-8"):
            list(read(tmp_path / name))


def test_an_open_quotation_mark_does_not_swallow_the_rest_in_silence(tmp_path: Path):
    (tmp_path / "t.csv").write_text('path,label\na.png,happy\n\nb.png,"sad\nc.png,fear\nd.png,fear\n')
    first, rest = read(tmp_path / "t.csv")
    assert first.label == "happiness" and first.problem is None
    assert rest.problem is not None and "line 4: a quotation mark is never closed" in rest.problem


def test_a_picture_in_a_cell_is_not_too_long(tmp_path: Path):
    (tmp_path / "t.csv").write_text('path,label\n"data:image/png;base64,' + "A" * 200_000 + '",sad\n')
    (sample,) = read(tmp_path / "t.csv")
    assert sample.label == "sadness" and len(sample.image) > 200_000


def test_paths_written_on_windows(tmp_path: Path):
    put(tmp_path / "img" / "a.png")
    (sample,) = read(rows(tmp_path / "t.csv", ("path", "label"), (r"img\a.png", "sad")))
    assert sample.image == str(tmp_path / "img" / "a.png")


def test_one_folder_around_all_is_no_label(tmp_path: Path):
    for name in ("train/smug/1.png", "train/bored/2.png", "val/bored/3.png"):
        put(tmp_path / "download" / "dataset" / name)
    (tmp_path / "__MACOSX" / "dataset").mkdir(parents=True)
    assert [(s.id, s.label, s.split) for s in read(tmp_path)] == [
        ("download/dataset/train/bored/2.png", "boredom", "train"),
        ("download/dataset/train/smug/1.png", "smug", "train"),
        ("download/dataset/val/bored/3.png", "boredom", "validation"),
    ]
    put(tmp_path / "one" / "bored" / "monday" / "1.png")
    assert [s.label for s in read(tmp_path / "one")] == ["boredom"]


def test_folders_of_persons_with_the_emotions_inside(tmp_path: Path):
    for name in ("anna/bored/1.png", "anna/happy/2.png", "ben/bored/1.png"):
        put(tmp_path / "a" / name)
    assert [(s.label, s.groups) for s in read(tmp_path / "a")] == [
        ("boredom", {"subject": "anna"}),
        ("happiness", {"subject": "anna"}),
        ("boredom", {"subject": "ben"}),
    ]
    for name in ("smug/happy/1.png", "smug/monday/2.png"):  # not all that is inside is an emotion: the labels are above
        put(tmp_path / "b" / name)
    put(tmp_path / "b" / "sly" / "3.png")
    assert [(s.label, s.groups) for s in read(tmp_path / "b")] == [("sly", {}), ("smug", {}), ("smug", {})]


def test_folders_beside_those_of_splits_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for name in ("train/sad/1.png", "holdout/sad/2.png"):
        put(tmp_path / name)
    assert [s.id for s in read(tmp_path)] == ["train/sad/1.png"]
    assert "the other folders (holdout) are not read" in caplog.text


def test_a_table_beside_its_pictures_makes_the_folder_a_table(tmp_path: Path):
    put(tmp_path / "images" / "a.png")
    rows(tmp_path / "labels.csv", ("path", "label"), ("images/a.png", "smug"))
    rows(tmp_path / "readings.csv", ("time", "value"), ("1", "2"))
    assert sniff(tmp_path) == "table" and [s.label for s in read(tmp_path)] == ["smug"]
    (tmp_path / "labels.csv").unlink()
    rows(tmp_path / "answers.csv", ("source", "label"), ("images/a.png", "smug"))  # as `emoreason label` writes them
    assert sniff(tmp_path) == "imagefolder"
    for name in ("train", "val"):
        rows(tmp_path / f"{name}.csv", ("path", "label"), ("images/a.png", name))
    assert [(s.label, s.split) for s in read(tmp_path)] == [("train", "train"), ("val", "validation")]


def test_conversations_are_pictures_with_texts(tmp_path: Path):
    put(tmp_path / "a.png")
    turns = [{"role": "user", "content": "<image>What does it show?"}, {"role": "assistant", "content": "A smirk."}]
    (tmp_path / "talks.jsonl").write_text(json.dumps({"messages": turns, "images": ["a.png"]}) + "\n")
    assert sniff(tmp_path / "talks.jsonl") == "messages"
    (sample,) = read(tmp_path / "talks.jsonl")
    assert (sample.id, sample.label, sample.explanation) == ("a.png", None, "A smirk.")


def test_a_name_that_is_no_text_gets_one(tmp_path: Path):
    folder = tmp_path / "sad"
    folder.mkdir()
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/f\xff.png")).write_bytes(png(0))
    except OSError:
        pytest.skip("this file system takes no such name")
    (sample,) = read(tmp_path)
    assert sample.id == "sad/f\\xff.png" and decoded(sample).shape == (48, 48)


def test_a_label_that_is_a_list_breaks_its_row(tmp_path: Path):
    (tmp_path / "t.jsonl").write_text('{"path": "a.png", "label": ["sad", "bored"]}\n{"path": "b.png", "label": 3}\n')
    first, second = read(tmp_path / "t.jsonl")
    assert first.problem is not None and "expected one word" in first.problem and second.label == "3"


def test_a_table_of_action_units_makes_the_folder_a_table(tmp_path: Path):
    put(tmp_path / "images" / "a.png")
    rows(tmp_path / "au.csv", ("path", "AU12"), ("images/a.png", "1"))
    assert [(s.label, s.units) for s in read(tmp_path)] == [(None, {"12": 1.0})]


def test_shares_without_a_label_say_how_they_are_written(tmp_path: Path):
    table = rows(tmp_path / "t.csv", ("path", "distribution"), ("a.png", '{"Engaged": 80, "bored": 20}'))
    (sample,) = read(table)
    assert (sample.label, sample.word, sample.votes) == (None, "Engaged", {"interest": 80.0, "boredom": 20.0})
