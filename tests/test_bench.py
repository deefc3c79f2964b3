"""The speed benchmark on a handful of pictures: that it measures what it says, not how fast this machine is."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EVAL = Path(__file__).resolve().parent.parent / "eval"


@pytest.fixture(scope="module")
def bench():
    sys.path.insert(0, str(EVAL))
    try:
        import bench_label

        yield bench_label
    finally:
        sys.path.remove(str(EVAL))


def test_crops_are_grey_faces_of_48_pixels_that_differ(bench, tmp_path):
    bench.write_crops(tmp_path / "crops", 5, None)
    crops = [Image.open(path) for path in sorted((tmp_path / "crops").iterdir())]
    assert [(crop.size, crop.mode, crop.format) for crop in crops] == [((48, 48), "L", "PNG")] * 5
    assert len({crop.tobytes() for crop in crops}) == 5


def test_crops_of_ferplus_start_again_when_more_are_asked_for(bench, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"image": [{"bytes": b"one", "path": "1.png"}, {"bytes": b"two", "path": "2.png"}]})
    pq.write_table(table, tmp_path / "validation.parquet")
    bench.write_crops(tmp_path / "crops", 3, tmp_path)
    assert [path.read_bytes() for path in sorted((tmp_path / "crops").iterdir())] == [b"one", b"two", b"one"]


def test_photos_are_one_megapixel(bench, tmp_path):
    pytest.importorskip("skimage")
    bench.write_photos(tmp_path / "photos", 2)
    photos = [Image.open(path) for path in sorted((tmp_path / "photos").iterdir())]
    assert [(photo.size, photo.format) for photo in photos] == [(bench.PHOTO_SIZE, "JPEG")] * 2
    assert 0.95e6 < np.prod(photos[0].size) < 1.05e6


def test_measures_every_stage_and_the_pipeline(bench, mini, tmp_path):
    bench.write_crops(tmp_path / "crops", 6, None)
    speed = bench.measure(mini, "crops", tmp_path / "crops", repeats=1, workers=1)
    assert (speed.pictures, speed.faces) == (6, 6)
    assert list(speed.stages) == ["decode", "detect", "encode", "write"]
    assert all(seconds > 0 for seconds in (*speed.stages.values(), speed.total))
    assert speed.before_mib > 0 and speed.peak_mib > 100
    assert bench.bare_network(mini, tmp_path / "crops", repeats=1, batch=4) > 0
    row = bench.table([speed]).splitlines()[-1]
    assert row.count("|") == bench.table([speed]).splitlines()[0].count("|")
    assert f"{speed.rate:.0f}/s" in row


def test_ratios_are_ours_over_theirs(bench):
    crops = bench.Speed("crops", 100, 100, {}, total=0.5, peak_mib=1, before_mib=1)
    peer = {"files": 100, "files_with_faces": 0, "files_with_faces_min20": 80, "api": 50.0, "api_min20": 100.0,
            "api_whole": 400.0, "network": 800.0}  # fmt: skip
    lines = bench.peer_table({"crops": crops}, 400.0, {"crops": peer}).splitlines()[2:]
    ratios = [line.split("|")[4].strip() for line in lines]
    assert ratios == ["4.00", "2.00", "0.50", "0.50"]
    assert "0 of 100" in lines[0] and "80 of 100" in lines[1]


def test_the_peer_script_needs_only_its_own_environment():
    """Neither TensorFlow nor fer is here: --help must do without, and nothing of emoreason may be imported."""
    source = (EVAL / "peers" / "fer_peer.py").read_text()
    assert "import emoreason" not in source and "from emoreason" not in source


def test_a_peer_that_cannot_run_says_what_to_read(bench, tmp_path, capfd):
    with pytest.raises(SystemExit, match=r"peers/README\.md"):
        bench.peer_speed(sys.executable, "crops", tmp_path, 1)


def test_predictions_of_a_peer_are_scored_by_our_code(tmp_path):
    """The row and run.json that the peer script writes, in the layout that rescore reads."""
    from emoreason.evaluate import load_benchmark, rescore

    labels = ["neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt"]
    rows = []
    for number, (said, truth) in enumerate([("happiness", "happiness"), ("anger", "neutral")]):
        rows.append({"id": f"{number}.png", "status": "ok", "label": said, "error": None, "source": "ferplus",
                     "probabilities": dict.fromkeys(labels, 0.0) | {said: 1.0}, "votes": {truth: 10.0}})  # fmt: skip
    (tmp_path / "predictions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    info = {"benchmark": "ferplus", "protocol": "majority", "labels": labels, "model": "fer", "n_read": 2}
    (tmp_path / "run.json").write_text(json.dumps(info))
    report = rescore(tmp_path / "predictions.jsonl", load_benchmark("ferplus"))
    assert report["n"] == 2 and report["model"] == "fer"


def test_the_script_answers_help():
    done = subprocess.run([sys.executable, EVAL / "bench_label.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--peer" in done.stdout
