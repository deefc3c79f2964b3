"""Labeling from end to end with the shipped model: real files, real processes, real kills."""

import functools
import http.server
import io
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import load_dataset
from PIL import Image

from emoreason.apps.cli.main import execute
from emoreason.core.row_files import RowFile
from emoreason.label import LabelJob, label_sources, made_with, open_source, row_columns, run
from emoreason.media.images import open_picture

SIDE = 200  # a photograph small enough to be searched at once


@pytest.fixture(scope="session")
def face(astronaut) -> Image.Image:
    """The astronaut's head and shoulders."""
    return Image.open(astronaut).convert("RGB").crop((110, 0, 350, 240)).resize((SIDE, SIDE))


@pytest.fixture(scope="session")
def wall() -> Image.Image:
    return Image.fromarray(np.linspace(60, 200, SIDE * SIDE * 3).reshape(SIDE, SIDE, 3).astype(np.uint8))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory, face, wall) -> Path:
    """The folder of the specification: 10 good, 3 broken, 2 faceless, 1 with two faces."""
    folder = tmp_path_factory.mktemp("mixed")
    for number in range(10):
        face.rotate(number - 5, fillcolor=(90, 90, 90)).save(folder / f"good{number}.jpg")
    (folder / "broken_empty.jpg").write_bytes(b"")
    (folder / "broken_text.png").write_text("this is no picture")
    (folder / "broken_half.jpg").write_bytes((folder / "good0.jpg").read_bytes()[:1500])
    wall.save(folder / "wall0.png")
    wall.rotate(90).save(folder / "wall1.png")
    both = Image.new("RGB", (2 * SIDE, SIDE))
    both.paste(face, (0, 0))
    both.paste(face.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (SIDE, 0))
    both.save(folder / "two.png")
    return folder


@pytest.fixture(scope="session")
def head(astronaut) -> Image.Image:
    """The astronaut's face as FER2013 would have cut it."""
    return Image.open(astronaut).convert("RGB").crop((164, 58, 280, 174)).resize((48, 48))


def make_crops(folder: Path, head: Image.Image, n: int) -> Path:
    """n different 48x48 pictures."""
    folder.mkdir(exist_ok=True)
    base = np.asarray(head, dtype=np.int16)
    for number in range(n):
        shifted = np.clip(np.roll(base, number % 5 - 2, axis=1) + number % 50 - 25, 0, 255).astype(np.uint8)
        Image.fromarray(shifted).save(folder / f"{number}.png", compress_level=1)
    return folder


@pytest.fixture(scope="session")
def crops(tmp_path_factory, head) -> Path:
    return make_crops(tmp_path_factory.mktemp("crops"), head, 12)


def animation(path: Path, head: Image.Image, frames: int = 3, shade: int = 0) -> None:
    pictures = [Image.eval(head, lambda v, s=shade + 9 * n: min(255, v + s)) for n in range(frames)]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100, loop=0)


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_same(found: list[dict], expected: list[dict]) -> None:
    """Row by row; numbers may differ in their last digits, because the batches are other ones."""
    assert [(r["source"], r["frame"], r["face_id"]) for r in found] == [
        (r["source"], r["frame"], r["face_id"]) for r in expected
    ]
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for key, value in one.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[key], abs=0.02), (one["source"], key)
            else:
                assert value == other[key], (one["source"], key)


# ---- the specification's own case ----------------------------------------------------------------


def test_good_broken_faceless_and_several_faces_give_the_right_rows_and_exit_code_3(mini, mixed, tmp_path, capsys):
    out = tmp_path / "rows.jsonl"
    assert execute(["label", str(mixed), "-o", str(out), "--device", "cpu"]) == 3
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.strip().endswith("16 pictures, 17 rows: 3 error, 2 no face, 12 ok")

    rows = rows_of(out)
    by = {}
    for row in rows:
        by.setdefault(Path(row["source"]).stem.rstrip("0123456789"), []).append(row)
    assert {kind: len(found) for kind, found in by.items()} == {
        "good": 10, "two": 2, "wall": 2, "broken_empty": 1, "broken_half": 1, "broken_text": 1,
    }  # fmt: skip
    assert all(row["status"] == "ok" and row["label"] == "happiness" for row in by["good"] + by["two"])
    left, right = by["two"]
    assert (left["face_id"], right["face_id"]) == (0, 1) and left["x"] + left["w"] <= SIDE <= right["x"] + right["w"]
    assert all(row["status"] == "no_face" and row["label"] is None and row["error"] == "" for row in by["wall"])
    for row in by["broken_empty"] + by["broken_half"] + by["broken_text"]:
        assert row["status"] == "error" and row["label"] is None and row["x"] is None
        assert 10 < len(row["error"]) <= 300 and "\n" not in row["error"] and "Traceback" not in row["error"]
    for row in by["good"]:
        probabilities = [value for key, value in row.items() if key.startswith("p_")]
        assert len(probabilities) == 8 and sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert row["confidence"] == max(probabilities) == row[f"p_{row['label']}"]
        assert all(0 <= value <= 1 for key, value in row.items() if key.startswith("au_"))
    expected = row_columns(mini, LabelJob((str(mixed),)))
    assert all(list(row) == expected for row in rows)
    face_columns = ["face_id", "x", "y", "w", "h", "face_score", "status", "label", "confidence"]
    assert expected[:12] == ["source", "frame", "time_s", *face_columns]
    assert expected[-8:] == ["valence", "arousal", "notes", "explanation", "error", "model", "revision", "prompt_id"]
    assert expected[-12:-8] == ["yaw", "pitch", "roll", "shift"] and {"au_12", "au_12_left", "au_12_right"} <= set(
        expected
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_the_suffix_decides_the_format(mini, mixed, tmp_path, suffix):
    out = tmp_path / f"rows.{suffix}"
    assert execute(["label", str(mixed), "-o", str(out)]) == 3
    frame = pd.read_csv(out) if suffix == "csv" else pd.read_parquet(out)
    assert list(frame.columns) == row_columns(mini, LabelJob(())) and len(frame) == 17
    assert frame.status.value_counts().to_dict() == {"ok": 12, "error": 3, "no_face": 2}
    data = load_dataset(suffix, data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 17 and data[0]["status"] == "error"  # the broken ones come first
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == [f".rows.{suffix}.run.json", out.name]


def test_export_writes_the_crops_as_an_imagefolder(mini, mixed, tmp_path, capsys):
    out, faces = tmp_path / "rows.jsonl", tmp_path / "faces"
    command = ["label", str(mixed), "-o", str(out), "--export", "imagefolder", str(faces)]
    assert execute(command) == 3
    data = load_dataset("imagefolder", data_dir=str(faces), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(data) == 12 and set(data["label"]) == {"happiness"}
    assert set(data["label_source"]) == {f"model:mini@{mini.revision}"}
    assert min(data[0]["image"].size) >= 48
    assert execute(command) == 2  # neither rows nor crops are written over
    assert execute([*command, "--resume"]) == 3
    assert len(list(faces.rglob("*.png"))) == 12
    capsys.readouterr()


# ---- kill, stop, go on ---------------------------------------------------------------------------


@pytest.fixture(scope="session")
def animations(tmp_path_factory, head) -> Path:
    """200 pictures of two frames: two rows each."""
    folder = tmp_path_factory.mktemp("animations")
    for number in range(20):
        animation(folder / f"{number}.gif", head, frames=2, shade=number)
    for number in range(20, 200):
        shutil.copy(folder / f"{number % 20}.gif", folder / f"{number}.gif")
    return folder


@pytest.fixture(scope="session")
def uninterrupted(mini, animations) -> list[dict]:
    job = LabelJob((str(animations),), detect=False, frames=True, batch_size=12)
    return [row for labeled in label_sources(mini, job, job.sources()) for row in labeled.rows]


def start(command: list[str], out: Path, rows: int) -> subprocess.Popen:
    """A real `emoreason`, running until it has written that many rows."""
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it, and so would it
    process = subprocess.Popen([sys.executable, "-m", "emoreason", *command], stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, ours)
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if out.exists() and out.read_bytes().count(b"\n") >= rows:
            return process
        time.sleep(0.01)
    raise AssertionError(f"ended with {process.poll()} before {rows} rows: {process.communicate()[1]!r}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_is_killed_or_stopped_is_resumed_without_loss_or_repetition(
    mini, animations, uninterrupted, tmp_path, capsys, how
):
    out = tmp_path / "rows.jsonl"
    options = ["--no-detect", "--frames", "--batch-size", "12", "--device", "cpu"]
    command = ["label", str(animations), "-o", str(out), *options]
    process = start(command, out, rows=60)
    process.send_signal(how)
    error = process.communicate(timeout=60)[1].decode()
    if how == signal.SIGINT:
        assert process.returncode == 130 and "continue with --resume" in error and "Traceback" not in error
    else:
        assert process.returncode == -signal.SIGKILL
    written = out.read_bytes()
    assert 60 <= written.count(b"\n") < 400
    if how == signal.SIGKILL:  # what a kill inside a write leaves: half of the last picture
        lines = written.splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        last = len(whole) - len(whole) % 2
        out.write_bytes(b"".join(whole[: last - 1]) + whole[last - 1][:40])

    assert execute([*command, "--resume"]) == 0
    note = capsys.readouterr().err
    assert "200 pictures, 400 rows: 400 ok (" in note and "done before)" in note
    rows = rows_of(out)
    assert len(rows) == 400 == len({(row["source"], row["frame"], row["face_id"]) for row in rows})
    assert_same(rows, uninterrupted)

    before = out.read_bytes()
    assert execute([*command, "--resume"]) == 0 and out.read_bytes() == before  # nothing is left to do
    capsys.readouterr()


@pytest.mark.parametrize("where", ["after its first face", "in its second row", "before it"])
def test_a_last_picture_with_several_faces_is_whole_after_resuming(mini, mixed, tmp_path, where):
    job = LabelJob((str(mixed / "good0.jpg"), str(mixed / "two.png"), str(mixed / "good1.jpg")), batch_size=2)
    options = {"columns": row_columns(mini, job), "made_with": made_with(mini, job)}
    whole, killed = tmp_path / "whole.jsonl", tmp_path / "killed.jsonl"
    run(mini, job, RowFile(whole, **options), job.sources())
    lines = whole.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    left = {"after its first face": lines[:2], "in its second row": [*lines[:2], lines[2][:99]], "before it": lines[:1]}
    killed.write_bytes(b"".join(left[where]))

    outcome = run(mini, job, RowFile(killed, **options, resume=True), job.sources())
    assert_same(rows_of(killed), rows_of(whole))
    assert outcome.statuses == {"ok": 4} and outcome.pictures == 3


def test_resuming_with_other_pictures_makes_the_incomplete_one_whole_first(mini, mixed, tmp_path):
    first, second = LabelJob((str(mixed / "two.png"),)), LabelJob((str(mixed / "good1.jpg"),))
    options = {"columns": row_columns(mini, first), "made_with": made_with(mini, first)}
    path = tmp_path / "rows.jsonl"
    run(mini, first, RowFile(path, **options), first.sources())
    (tmp_path / ".rows.jsonl.run.json").unlink()
    path.write_bytes(path.read_bytes()[:-30])  # killed in the second face
    run(mini, second, RowFile(path, **options, resume=True), second.sources())
    assert [Path(row["source"]).name for row in rows_of(path)] == ["two.png", "two.png", "good1.jpg"]


@pytest.mark.parametrize(
    "other",
    [
        ["--threshold", "0.9"],
        ["--labels", "bored,engaged"],
        ["--label-set", "fer2013_7"],
        [],
        ["--frames", "--no-detect"],
    ],
)
def test_resuming_with_other_options_is_refused(mini, crops, tmp_path, capsys, other):
    out = tmp_path / "rows.jsonl"
    assert execute(["label", str(crops), "--no-detect", "-o", str(out), "--limit", "3"]) == 0
    before = out.read_bytes()
    detect = [] if other in ([], ["--frames", "--no-detect"]) else ["--no-detect"]
    assert execute(["label", str(crops), "-o", str(out), "--resume", *detect, *other]) == 2
    assert "give the same options, or another -o" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_failures_of_the_resumed_run_still_count(mini, mixed, tmp_path, capsys):
    out = tmp_path / "rows.csv"
    assert execute(["label", str(mixed), "-o", str(out), "--limit", "5"]) == 3
    assert execute(["label", str(mixed), "-o", str(out), "--resume"]) == 3
    assert "16 pictures, 17 rows: 3 error, 2 no face, 12 ok (5 pictures done before)" in capsys.readouterr().err


# ---- what can be given, and options --------------------------------------------------------------


def label(capsys, *arguments: object, code: int = 0) -> list[dict]:
    """Rows by way of standard output."""
    assert execute(["label", *map(str, arguments)]) == code, capsys.readouterr().err
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_labels_label_sets_and_prompts_are_asked_for_by_name(mini, crops, capsys):
    rows = label(capsys, crops, "--no-detect", "--limit", 2, "--labels", "bored, engaged,très content")
    assert [key for key in rows[0] if key.startswith("p_")] == ["p_bored", "p_engaged", "p_très content"]
    assert all(row["status"] == "abstained" and "“très content”" in row["error"] for row in rows)
    rows = label(capsys, crops, "--no-detect", "--limit", 2, "--labels", "bored, engaged,Over the Moon")
    assert all(row["label"] in ("bored", "engaged", "Over the Moon") and row["status"] == "ok" for row in rows)
    assert all("not validated: no data checks bored, engaged" in row["notes"] for row in rows)
    rows = label(capsys, crops, "--no-detect", "--limit", 1, "--label-set", "ekman6")
    assert {key[2:] for key in rows[0] if key.startswith("p_")} == {
        "anger", "disgust", "fear", "happiness", "sadness", "surprise",
    }  # fmt: skip


def test_a_threshold_withholds_answers_and_is_no_failure(mini, crops, capsys):
    rows = label(capsys, crops, "--no-detect", "--threshold", 1)
    assert {row["status"] for row in rows} == {"abstained"} and "below the 100%" in rows[0]["error"]
    assert all(row["label"] and row["confidence"] < 1 for row in rows)
    assert {row["status"] for row in label(capsys, crops, "--no-detect", "--threshold", 0)} == {"ok"}


def test_limit_and_shuffle_take_the_same_sample_each_time(mini, crops, capsys):
    def names(*options: object) -> list[str]:
        return [Path(row["source"]).stem for row in label(capsys, crops, "--no-detect", *options)]

    assert names() == [str(number) for number in range(12)]  # natural order
    assert names("--limit", 3) == ["0", "1", "2"]
    shuffled = names("--shuffle-seed", 7)
    assert shuffled != names() and sorted(shuffled) == sorted(names())
    assert names("--shuffle-seed", 7, "--limit", 4, "--workers", 3, "--batch-size", 1) == shuffled[:4]
    expected = [str(number) for number in range(12)]
    random.Random(7).shuffle(expected)
    assert shuffled == expected


def test_frames_gives_every_frame_of_an_animation(mini, crops, head, tmp_path, capsys):
    animation(tmp_path / "moving.gif", head)
    (one,) = label(capsys, tmp_path / "moving.gif", "--no-detect")
    assert one["frame"] is None
    rows = label(capsys, tmp_path / "moving.gif", crops / "0.png", "--no-detect", "--frames")
    assert [(row["frame"], row["time_s"]) for row in rows] == [(0, 0), (1, 0.1), (2, 0.2), (None, None)]


def test_a_list_on_stdin_and_a_picture_that_is_not_there(mini, crops, tmp_path, capsys, monkeypatch):
    (tmp_path / "list.txt").write_text(f"{crops / '3.png'}\n\n{tmp_path / 'gone.png'}\n{crops / '1.png'}\n")
    with (tmp_path / "list.txt").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        rows = label(capsys, "-", "--no-detect", code=3)
    assert [Path(row["source"]).name for row in rows] == ["3.png", "gone.png", "1.png"]
    assert [row["status"] for row in rows] == ["ok", "error", "ok"] and "No such file" in rows[1]["error"]


def test_addresses_are_fetched_and_a_missing_one_is_a_row(mini, crops, capsys):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=crops)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"
        rows = label(capsys, f"{base}/0.png", f"{base}/none.png", "--no-detect", code=3)
        server.shutdown()
    assert [(row["source"], row["status"]) for row in rows] == [(f"{base}/0.png", "ok"), (f"{base}/none.png", "error")]
    assert "404" in rows[1]["error"]


def test_a_picture_that_is_named_twice_is_labeled_once(mini, crops, capsys):
    rows = label(capsys, crops / "1.png", crops, crops / "*.png", "--no-detect")
    assert len(rows) == 12 and Path(rows[0]["source"]).name == "1.png"


def test_data_uris_stand_in_rows_by_their_hash_and_resume(mini, crops, tmp_path, capsys):
    import base64

    uri = "data:image/png;base64," + base64.b64encode((crops / "0.png").read_bytes()).decode()
    out = tmp_path / "rows.jsonl"
    for options in ([], ["--resume"]):
        assert execute(["label", uri, "--no-detect", "-o", str(out), *options]) == 0
        (row,) = rows_of(out)
        assert row["source"].startswith("data:image/png:sha256:") and len(row["source"]) < 60
    capsys.readouterr()


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text on this system")
def test_names_that_are_no_utf8_are_written_with_their_bytes_escaped(mini, crops, tmp_path, capsys):
    folder = tmp_path / "odd"
    folder.mkdir()
    shutil.copy(crops / "0.png", os.fsencode(folder) + b"/caf\xe9.png")
    (folder / "line\nbreak.png").write_text("broken")
    for name in ("rows.jsonl", "rows.parquet", "rows.csv"):
        out = tmp_path / name
        for options in ([], ["--resume"]):
            assert execute(["label", str(folder), "--no-detect", "-o", str(out), *options]) == 3
    sources = [row["source"].removeprefix(f"{folder}/") for row in rows_of(tmp_path / "rows.jsonl")]
    assert sorted(sources) == ["caf\\xe9.png", "line\nbreak.png"]
    assert sorted(pd.read_parquet(tmp_path / "rows.parquet").source) == sorted(
        pd.read_csv(tmp_path / "rows.csv").source
    )
    capsys.readouterr()


def test_workers_and_batches_change_nothing_but_speed(mini, mixed, tmp_path):
    def rows(workers: int, batch_size: int) -> list[dict]:
        job = LabelJob((str(mixed),), workers=workers, batch_size=batch_size)
        return [row for labeled in label_sources(mini, job, job.sources()) for row in labeled.rows]

    expected = rows(1, 128)
    for workers, batch_size in ((4, 1), (2, 3)):
        assert_same(rows(workers, batch_size), expected)


def test_python_gets_the_same_rows(mini, crops, capsys):
    printed = label(capsys, crops, "--no-detect", "--labels", "bored,engaged")
    assert_same(list(mini.label([crops], labels=["bored", "engaged"], detect=False)), printed)


def test_a_folder_without_pictures_is_an_error(mini, tmp_path, capsys):
    assert execute(["label", str(tmp_path)]) == 1
    assert "no pictures found" in capsys.readouterr().err


def test_memory_does_not_grow_with_the_job(mini, head, tmp_path):
    """Resident memory after 1,000 more pictures against before: names and a few batches are all that is held."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc on this system")
    sources = [str(path) for path in make_crops(tmp_path / "many", head, 1000).iterdir()]
    resident = []
    for n in (300, 300, 1000):  # the first to warm up: torch and the allocator keep some
        job = LabelJob((), detect=False, batch_size=64)
        count = sum(len(labeled.rows) for labeled in label_sources(mini, job, sources[:n]))
        assert count == n
        resident.append(int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
    assert resident[2] - resident[1] < 40, f"MiB: {resident}"  # the allocator of a process with a history keeps more


def test_pictures_are_opened_only_a_little_ahead(mini, head, tmp_path, monkeypatch):
    """An endless list is labeled as it comes: nothing waits for its end, and closing stops the workers."""
    make_crops(tmp_path, head, 40)
    sources = [str(tmp_path / f"{n % 40}.png") for n in range(20_000)]
    opened = []

    def counted(source, limits):
        opened.append(source)
        return open_picture(source, limits)

    monkeypatch.setattr("emoreason.pipeline.open_picture", counted)
    found = label_sources(mini, LabelJob((), detect=False, batch_size=16), sources)
    assert len(list(itertools.islice(found, 50))) == 50
    found.close()
    assert 50 <= len(opened) < 500
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("open")]


def test_a_stream_of_png_bytes_is_what_an_export_gets(mini, crops):
    job = LabelJob((str(crops / "0.png"),), detect=False)
    (labeled,) = label_sources(mini, job, job.sources(), keep_crops=True)
    assert Image.open(io.BytesIO(labeled.crops[0])).size == (48, 48)


def test_frames_are_reduced_one_by_one_and_a_failure_is_a_row(mini, tmp_path, monkeypatch):
    """However many frames there are, one full picture is in memory; and what fails while reducing does not raise."""
    frames = [Image.new("RGB", (64, 64), (n * 20, 0, 0)) for n in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    job = LabelJob((), detect=False, frames=True)
    opened = open_source(mini, job, str(tmp_path / "a.gif"), keep_crops=True)
    assert [picture.image.size for picture, _ in opened.opened.pictures] == [(1, 1)] * 5 and len(opened.crops) == 5
    monkeypatch.setattr("emoreason.label._png", lambda crop: 1 / 0)
    broken = open_source(mini, job, str(tmp_path / "a.gif"), keep_crops=True)
    assert broken.opened.error == "ZeroDivisionError: division by zero" and broken.crops == []
