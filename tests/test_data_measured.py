"""Action units, valence and arousal, and texts: from every layout that may hold them, whatever scale they are on."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emoreason.data import read
from emoreason.data.check import check
from emoreason.data.convert import convert


def pictures(folder: Path, n: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        pixels = np.random.default_rng(i).integers(0, 256, (24, 24), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return [f"{i}.png" for i in range(n)]


def table(folder: Path, text: str, name: str = "faces.csv") -> Path:
    pictures(folder, 4)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_units_are_found_by_any_spelling_and_unknown_values_are_left_out(tmp_path: Path):
    path = table(
        tmp_path,
        "path,label,AU01,au_2, AU 12,AU04_r,AU04_c,Au-99,author\n"
        "0.png,happy,0.5,,0.25,5,1,0.1,x\n1.png,sad,-1,9,NaN,1,0,0.1,y\n2.png,sad,999,n/a,,,,,z\n",
    )
    first, second, third = read(path)
    assert first.units == {"1": 0.5, "4": 1.0, "12": 0.25}  # _r is OpenFace's, on 0 to 5 whatever the others are on
    assert second.units == {"4": 0.2} and third.units is None
    assert [s.problem for s in (first, second, third)] == [None] * 3


@pytest.mark.parametrize(
    ("cells", "expected"),
    [((0, 1, 1), [0, 1, 1]), ((0.2, 0.9, 1.0), [0.2, 0.9, 1.0]), ((0, 1, 4), [0, 0.2, 0.8]), ((9, 1, 0), [None, 1, 0])],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_scale_is_that_of_the_whole_table(tmp_path: Path, caplog, kind: str, cells: Any, expected: list[float]):
    rows = [
        {"path": name, "label": "happy", "AU12": cell} for name, cell in zip(pictures(tmp_path, 3), cells, strict=True)
    ]
    path = tmp_path / f"faces.{kind}"
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([{**row, "AU12": float(row["AU12"])} for row in rows]), path)
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text("path,label,AU12\n" + "".join(f"{r['path']},{r['label']},{r['AU12']}\n" for r in rows))
    with caplog.at_level(logging.WARNING, "emoreason"):
        found = [None if s.units is None else s.units["12"] for s in read(path)]
    assert found == pytest.approx(expected) if None not in expected else found == expected
    assert ("divided by 5" in caplog.text) == (4 in cells)


def test_a_part_with_small_numbers_is_on_the_scale_of_the_others(tmp_path: Path):
    for part, value in (("train", 4), ("test", 1)):
        table(tmp_path / part, f"file_name,label,AU12\n0.png,happy,{value}\n", "metadata.csv")
    assert {s.split: s.units for s in read(tmp_path)} == {"train": {"12": 0.8}, "test": {"12": 0.2}}
    assert [s.units for s in read(tmp_path, split="test")] == [{"12": 0.2}]


def test_valence_and_arousal_with_minus_one_as_a_value(tmp_path: Path):
    path = table(
        tmp_path, "path,label,Valence,AROUSAL\n0.png,sad,-1,0.5\n1.png,sad,-2,-2\n2.png,sad,-5,\n3.png,sad,7,0\n"
    )
    first, second, third, wrong = read(path)
    assert (first.valence, first.arousal) == (-1.0, 0.5)
    assert all(s.valence is None and s.arousal is None and not s.problem for s in (second, third))
    assert wrong.problem and "valence" in wrong.problem.lower() and "-1 to 1" in wrong.problem


@pytest.mark.parametrize("cell", ["7", "-0.5", "much"])
def test_a_unit_that_makes_no_sense_breaks_its_row_and_no_other(tmp_path: Path, cell: str):
    good, bad = read(table(tmp_path, f"path,AU12\n0.png,0.5\n1.png,{cell}\n"))
    assert good.units == {"12": 0.5} and not good.problem
    assert bad.problem and "AU12" in bad.problem and "line 3" in bad.problem


@pytest.mark.parametrize("name", ["explanation", "Caption", "description", "rationale"])
def test_a_text_by_any_of_its_names(tmp_path: Path, name: str):
    first, second = read(table(tmp_path, f"path,label,{name}\n0.png,happy, The lip corners rise. \n1.png,sad,\n"))
    assert first.explanation == "The lip corners rise." and second.explanation is None


def test_affectnet_in_both_forms(tmp_path: Path):
    header = "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal\n"
    lists = tmp_path / "lists"
    pictures(lists / "Manually_Annotated_Images", 3)
    (lists / "training.csv").write_text(header + "0.png,,,,,,1,0.7,-0.1\n1.png,,,,,,2,-2,-2\n2.png,,,,,,2,3,0\n")
    first, unknown, wrong = read(lists)
    assert (first.label, first.valence, first.arousal) == ("happiness", 0.7, -0.1)
    assert unknown.valence is None and unknown.problem is None and "valence" in str(wrong.problem)

    folder = tmp_path / "sets" / "train_set"
    pictures(folder / "images", 2)
    (folder / "annotations").mkdir()
    for name, value in (("0_exp", "1"), ("0_val", "0.25"), ("0_aro", "-0.5"), ("1_exp", "1")):
        np.save(folder / "annotations" / f"{name}.npy", np.array(value))
    found = {s.id: (s.valence, s.arousal, s.problem) for s in read(tmp_path / "sets")}
    assert found == {"train_set/0.png": (0.25, -0.5, None), "train_set/1.png": (None, None, None)}


@pytest.mark.parametrize("to", ["parquet", "jsonl"])
def test_convert_keeps_them(tmp_path: Path, to: str):
    path = table(
        tmp_path / "in",
        "path,label,AU12,AU4,valence,arousal,explanation\n0.png,happy,5,,0.5,-0.25,A smile.\n1.png,sad,,0,,,\n",
    )
    output = tmp_path / ("out.parquet" if to == "parquet" else "out")
    convert(path, output, to=to)
    before, after = list(read(path)), list(read(output))
    assert [(s.units, s.valence, s.arousal, s.explanation) for s in after] == [
        ({"12": 1.0}, 0.5, -0.25, "A smile."),
        ({"4": 0.0}, None, None, None),
    ]
    assert [(s.label, s.units) for s in before] == [(s.label, s.units) for s in after]


def test_check_counts_them(tmp_path: Path):
    path = table(tmp_path, "path,label,AU12,AU4,valence,explanation\n0.png,happy,1,,0.5,Yes.\n1.png,sad,0,1,,\n")
    report = check(path)
    assert report.measured == {"AU 4": 1, "AU 12": 2, "explanation": 1, "valence": 1}

    from rich.console import Console

    from emoreason.data.check_report import render

    console = Console(record=True, width=120, file=io.StringIO())
    console.print(render(report))
    assert "measured: AU 4 1, AU 12 2, explanation 1, valence 1" in console.export_text()


def test_of_the_hub_library(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    names = pictures(tmp_path / "pictures", 2)
    rows = {"image": [str(tmp_path / "pictures" / name) for name in names], "label": ["happy", "sad"]}
    rows |= {"AU12": [4.0, 1.0], "valence": [0.5, None]}
    made = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    (tmp_path / "set").mkdir()
    made.to_parquet(tmp_path / "set" / "train.parquet")
    found = [(s.units, s.valence) for s in read(f"hub:{tmp_path / 'set'}")]
    assert found == [({"12": 0.8}, 0.5), ({"12": 0.2}, None)]
