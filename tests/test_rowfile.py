"""The file of rows survives whatever ends a run: cut anywhere, it is gone on with and loses and repeats nothing."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.analysis import columns, row
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.row_files import RowFile, check_target, read_rows

LABELS, UNITS = ("happiness", "none"), ("12",)
COLUMNS = columns(LABELS, UNITS)
MADE_WITH = {"model": "mini", "revision": "123e45", "prompt_id": "0001234567", "threshold": None}
BY = {key: MADE_WITH[key] for key in ("model", "revision", "prompt_id")}


def picture(number: int, faces: int = 1) -> list[dict]:
    """The rows of one picture: every third is broken."""
    source = f"päth/{number}.jpg"
    if number % 3 == 0:
        return [row(source=source, status="error", error="it is damaged, line\nbroken", **BY)]
    return [
        row(source=source, face_id=face, x=1, y=2, w=30, h=40, face_score=0.9, status="ok", label="none",
            confidence=0.7, probabilities={"happiness": 0.3, "none": 0.7},
            attributes={"au_12": 0.1, "valence": -0.1, "arousal": None}, **BY)
        for face in range(faces)
    ]  # fmt: skip


def new(path: Path, **options) -> RowFile:
    return RowFile(path, COLUMNS, **{"made_with": MADE_WITH, **options})


def write_all(path: Path, pictures: list[list[dict]], **options) -> RowFile:
    file = new(path, **options)
    for rows in pictures:
        if rows[0]["source"] not in file.done:
            file.write(rows)
    file.finish()
    return file


def full(rows: list[dict]) -> list[dict]:
    return [dict.fromkeys(COLUMNS) | line for line in rows]


PICTURES = [picture(number, faces=1 + number % 4) for number in range(8)]
ROWS = full([line for rows in PICTURES for line in rows])


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1), suffix=st.sampled_from([".jsonl", ".csv", ".parquet"]))
def test_a_run_that_is_killed_at_any_byte_is_resumed_to_the_same_rows(tmp_path_factory, share, suffix):
    path = tmp_path_factory.mktemp("rows") / f"rows{suffix}"
    killed = new(path)  # the state that kill -9 leaves: lines, no finish
    for rows in PICTURES:
        killed.write(rows)
    lines = path if suffix == ".jsonl" else path.with_name(path.name + ".partial.jsonl")
    os.truncate(lines, round(share * lines.stat().st_size))

    resumed = write_all(path, PICTURES, resume=True)

    assert read(path) == ROWS
    assert sum(resumed.statuses.values()) == len(ROWS) and resumed.statuses["error"] == 3
    assert sorted(p.name for p in path.parent.iterdir()) == sorted([path.name, f".{path.name}.run.json"])


def read(path: Path) -> list[dict]:
    """By other people's readers."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        frame = pd.read_parquet(path)
    else:
        texts = dict.fromkeys(("source", "label", "error", "revision", "prompt_id"), str)
        frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
    whole = ("x", "y", "w", "h", "face_id")
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    for record in records:
        record |= {name: record[name] or "" for name in ("notes", "explanation", "error")}
    return [{k: int(v) if k in whole and v is not None else v for k, v in record.items()} for record in records]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_finished_file_is_gone_on_with_by_other_pictures_and_keeps_every_row(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    write_all(path, PICTURES)
    more = [picture(100, 3), picture(101)]
    resumed = write_all(path, more, resume=True)
    assert resumed.cut is None and read(path) == ROWS + full([line for rows in more for line in rows])


def test_labels_and_revisions_that_look_like_nothing_or_numbers_come_back_as_they_were(tmp_path):
    path = tmp_path / "rows.csv"
    write_all(path, PICTURES)
    again = new(path, resume=True)
    lines = list(read_rows(tmp_path / "rows.csv.partial.jsonl"))
    assert lines == ROWS and again.done == {line["source"] for line in ROWS}
    assert lines[1]["label"] == "none" and lines[1]["revision"] == "123e45" and lines[1]["prompt_id"] == "0001234567"


def test_a_picture_that_a_kill_left_incomplete_is_named_so_that_it_is_labeled_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    killed = new(path)
    killed.write(picture(1, 3))
    killed.write(picture(2, 3))
    resumed = new(path, resume=True)
    assert resumed.cut == "päth/2.jpg" and resumed.done == {"päth/1.jpg"} and resumed.statuses == {"ok": 3}


def test_an_output_that_exists_is_left_alone(tmp_path):
    for name in ("rows.jsonl", "rows.csv"):
        path = tmp_path / name
        write_all(path, PICTURES)
        before = path.read_bytes()
        with pytest.raises(UsageError, match="exists already: add --resume .* or --overwrite"):
            new(path)
        assert path.read_bytes() == before
        write_all(path, PICTURES[:2], overwrite=True)
        assert len(read(path)) == sum(map(len, PICTURES[:2]))


def test_unfinished_lines_of_a_csv_file_count_as_existing(tmp_path):
    new(tmp_path / "rows.csv").write(picture(1))
    with pytest.raises(UsageError, match="exists already"):
        check_target(tmp_path / "rows.csv", resume=False, overwrite=False)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"made_with": MADE_WITH | {"threshold": 0.5}}, "threshold = None, this run has 0.5"),
        ({"made_with": MADE_WITH | {"revision": "other"}}, "revision = 123e45, this run has other"),
        ({"columns": columns(("bored", "engaged"), UNITS)}, "other labels or another model"),
    ],
)
def test_resuming_with_other_options_is_refused_and_changes_nothing(tmp_path, suffix, change, message):
    path = tmp_path / f"rows{suffix}"
    write_all(path, PICTURES)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    arguments: dict = {"columns": COLUMNS, "made_with": MADE_WITH} | change
    with pytest.raises(UsageError, match=message):
        RowFile(path, arguments["columns"], made_with=arguments["made_with"], resume=True)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_rows_that_lost_the_file_beside_them_are_still_checked(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_all(path, PICTURES)
    (tmp_path / ".rows.jsonl.run.json").unlink()
    with pytest.raises(UsageError, match="made with model = mini, this run has big"):
        new(path, made_with=MADE_WITH | {"model": "big"}, resume=True)
    write_all(path, PICTURES, resume=True)
    assert read(path) == ROWS


@pytest.mark.parametrize("content", ["[1, 2]\n3\n", '{"a": 1}\n', '"text"\n{"a": 1}\n', "5\n6\n", "not\njson\n"])
def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(EmoreasonError):
        new(path, resume=True)
    assert path.read_text() == content


@pytest.mark.parametrize(("name", "content"), [("rows.csv", "a,b\n1,x\n"), ("rows.parquet", "no parquet")])
def test_a_table_of_something_else_is_refused(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(EmoreasonError):
        new(path, resume=True)
    assert path.read_text() == content


def test_damage_in_the_middle_is_refused_and_not_cut_away(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_all(path, PICTURES)
    path.write_bytes(path.read_bytes().replace(b'"x": 1', b'"x": ??', 1))
    size = path.stat().st_size
    with pytest.raises(EmoreasonError, match="damaged at byte"):
        new(path, resume=True)
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("name", "message"),
    [("rows.txt", "suffix decides"), ("rows", "suffix decides"), ("no/rows.csv", "mkdir -p"), ("d.csv", "a folder")],
)
def test_targets_that_cannot_be_are_refused_with_what_to_do(tmp_path, name, message):
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UsageError, match=message):
        check_target(tmp_path / name, resume=False, overwrite=False)


def test_upper_case_suffixes_are_the_same_formats(tmp_path):
    write_all(tmp_path / "ROWS.CSV", PICTURES)
    assert (tmp_path / "ROWS.CSV").read_text().startswith("source,frame,")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_a_full_disk_is_one_clear_error(tmp_path):
    (tmp_path / "rows.jsonl").symlink_to("/dev/full")
    file = new(tmp_path / "rows.jsonl", overwrite=True)
    with pytest.raises(EmoreasonError, match="No space left on device.*--resume"):
        file.write(picture(1))


def test_datasets_reads_a_long_file_whose_only_error_comes_last(tmp_path):
    """More than the 10 MiB from which datasets takes the types of the columns."""
    path = tmp_path / "rows.jsonl"
    file = new(path)
    for number in range(1, 1000):
        if number % 3:
            file.write([line | {"source": "long" * 800} for line in picture(number, 6)])
    file.write(picture(0))
    file.finish()
    assert path.stat().st_size > 11 * 2**20
    data = load_dataset("json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert data[-1]["error"].startswith("it is damaged") and data[0]["error"] == ""


def test_datasets_reads_the_files_even_when_they_begin_with_errors(tmp_path):
    pictures = [picture(0), picture(3), picture(6), *PICTURES[1:3]]
    for kind, name in (("json", "rows.jsonl"), ("parquet", "rows.parquet"), ("csv", "rows.csv")):
        write_all(tmp_path / name, pictures)
        data = load_dataset(kind, data_files=str(tmp_path / name), split="train", cache_dir=str(tmp_path / "cache"))
        assert data.column_names == COLUMNS and len(data) == 3 + 2 + 3
        assert data[0]["status"] == "error" and data[0]["p_happiness"] is None
        assert data[3]["p_happiness"] == pytest.approx(0.3) and data[3]["x"] == 1 and data[3]["face_id"] == 0
