"""From pictures to a report: with a model that is small but real, it reads how bright a picture is."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.schema import Sample
from emoreason.evaluate import Prediction, benchmark_names, load_benchmark, read_predictions, rescore, run
from emoreason.knowledge.emotions import LABEL_SETS

CENTRES = {"sadness": 40.0, "neutral": 128.0, "happiness": 215.0}


def by_brightness(samples: Iterable[Sample], labels: Sequence[str]) -> Iterator[Prediction]:
    """The nearest centre wins, the distances make the distribution; blue pictures have no face in them."""
    for sample in samples:
        try:
            source = io.BytesIO(sample.image) if isinstance(sample.image, bytes) else sample.image
            pixels = np.asarray(Image.open(source).convert("RGB"), dtype=float)
        except OSError as problem:
            yield Prediction(sample.id, "error", error=type(problem).__name__)
            continue
        if pixels[..., 2].mean() > 2 * pixels[..., 0].mean() + 20:
            yield Prediction(sample.id, "no_face")
            continue
        closeness = np.array([np.exp(-abs(pixels.mean() - CENTRES.get(name, 1000)) / 30) for name in labels])
        p = closeness / closeness.sum()
        status = "abstained" if p.max() < 0.5 else "ok"
        probabilities = dict(zip(labels, p.tolist(), strict=True))
        yield Prediction(sample.id, status, labels[int(p.argmax())], probabilities, face_score=0.9)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """30 grey pictures in class folders, two of them broken and three blue; some stand in the wrong folder."""
    random = np.random.default_rng(0)
    for name, centre in CENTRES.items():
        folder = tmp_path / "faces" / name
        folder.mkdir(parents=True)
        for i in range(10):
            pixels = np.clip(centre + random.normal(0, 35) + random.normal(0, 5, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{i}.png")
        Image.new("RGB", (8, 8), "blue").save(folder / "3.png")
    (tmp_path / "faces" / "sadness" / "0.png").write_bytes(b"")
    (tmp_path / "faces" / "neutral" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    return tmp_path / "faces"


def test_a_folder_from_pictures_to_report(faces: Path, tmp_path: Path):
    out = tmp_path / "out"
    report = run(
        load_benchmark("folder"), faces, by_brightness, out, model="brightness", command="emoreason eval folder"
    )
    assert report["labels"] == ["happiness", "neutral", "sadness"]
    counts = {key: report[key] for key in ("n_read", "n_left_out", "n", "n_scored", "n_failed", "n_no_face", "n_error")}
    assert counts == {
        "n_read": 30,
        "n_left_out": 0,
        "n": 30,
        "n_scored": 25,
        "n_failed": 5,
        "n_no_face": 3,
        "n_error": 2,
    }
    assert report["majority"]["accuracy"] == pytest.approx(1 / 3) == report["chance"]["accuracy"]
    assert report["detected"]["n"] == 25

    rows = list(read_predictions(out / "predictions.jsonl"))
    right = sum(row.label == row.target for row in rows)
    assert report["accuracy"]["value"] == pytest.approx(right / 30)  # failures are wrong, and stay in the denominator
    assert report["detected"]["accuracy"]["value"] == pytest.approx(right / 25)
    assert report["accuracy"]["low"] <= report["accuracy"]["value"] <= report["accuracy"]["high"]
    assert sum(map(sum, report["confusion"]["counts"])) + sum(report["confusion"]["no_answer"]) == 30
    assert report["confusion"]["no_answer"] == [1, 2, 2]

    for name in ("confusion.png", "reliability.png", "risk_coverage.png"):
        assert Image.open(out / name).size[0] > 300
    assert json.loads((out / "report.json").read_text()) == report
    text = (out / "report.md").read_text()
    assert "3 no face, 2 errors, 0 unparsable" in text and "UAR" in text and "2 × UnidentifiedImageError" in text
    assert not list(out.glob(".*"))  # no half-written files are left behind


def test_rescoring_gives_the_same_report_without_the_model(faces: Path, tmp_path: Path):
    benchmark = load_benchmark("folder")
    report = run(benchmark, faces, by_brightness, tmp_path / "out", model="brightness", model_hash="12ab")
    assert rescore(tmp_path / "out" / "predictions.jsonl", benchmark) == report
    rescore(tmp_path / "out" / "predictions.jsonl", benchmark, out=tmp_path / "again")
    for name in ("report.json", "report.md"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_predictions_that_lost_their_run_file_can_still_be_scored(faces: Path, tmp_path: Path):
    benchmark = load_benchmark("folder")
    report = run(benchmark, faces, by_brightness, tmp_path / "out")
    (tmp_path / "out" / "run.json").unlink()
    alone = rescore(tmp_path / "out" / "predictions.jsonl", benchmark, out=tmp_path / "alone")
    assert alone["uar"] == report["uar"] and alone["model"] is None


def test_predictions_are_written_as_they_come_and_a_killed_run_is_scored(faces: Path, tmp_path: Path):
    path, seen = tmp_path / "out" / "predictions.jsonl", []

    def dies_after_twenty(samples: Iterable[Sample], labels: Sequence[str]) -> Iterator[Prediction]:
        for i, row in enumerate(by_brightness(samples, labels)):
            seen.append(len(path.read_text().splitlines()))
            if i == 20:
                raise RuntimeError("killed")
            yield row

    with pytest.raises(RuntimeError):
        run(load_benchmark("folder"), faces, dies_after_twenty, tmp_path / "out")
    assert seen == list(range(21))
    with path.open("a") as file:
        file.write('{"id": "half a l')
    report = rescore(path, load_benchmark("folder"), out=tmp_path / "out")
    assert report["n"] == 20 and report["finished"] is False
    assert "stopped early" in (tmp_path / "out" / "report.md").read_text()


def test_a_model_that_gives_no_answer_is_wrong_and_not_excused(faces: Path, tmp_path: Path):
    def stops_early(samples: Iterable[Sample], labels: Sequence[str]) -> Iterator[Prediction]:
        for i, row in zip(range(10), by_brightness(samples, labels), strict=False):
            if i != 7:
                yield row

    report = run(load_benchmark("folder"), faces, stops_early, tmp_path / "out")
    assert report["n"] == 30 and report["n_scored"] + report["n_failed"] == 30
    assert ["the model gave no answer", 21] in report["errors"]


def test_an_unknown_word_is_unparsable_and_never_a_label(faces: Path, tmp_path: Path):
    def mumbles(samples: Iterable[Sample], labels: Sequence[str]) -> Iterator[Prediction]:
        for sample in samples:
            yield Prediction(sample.id, "ok", "somewhat blue")

    report = run(load_benchmark("folder"), faces, mumbles, tmp_path / "out")
    assert report["n_unparsable"] == 30 and report["accuracy"]["value"] == 0 == report["uar"]["value"]
    assert report["ece"] is None and report["per_class"]["neutral"]["predicted"] == 0
    assert "no probabilities" in (tmp_path / "out" / "report.md").read_text()


def test_a_wrong_answer_to_a_question_that_was_never_asked(faces: Path, tmp_path: Path):
    def invents(samples: Iterable[Sample], labels: Sequence[str]) -> Iterator[Prediction]:
        yield Prediction("somebody else", "ok", labels[0])

    with pytest.raises(EmoreasonError, match="was not given"):
        run(load_benchmark("folder"), faces, invents, tmp_path / "out")


def test_a_limit_is_spread_over_the_data_and_repeats_with_its_seed(faces: Path, tmp_path: Path):
    reports = [run(load_benchmark("folder"), faces, by_brightness, tmp_path / "a", limit=12, seed=s) for s in (1, 1, 2)]
    assert [r["n"] for r in reports] == [12, 12, 12]
    assert reports[0]["data_hash"] == reports[1]["data_hash"] != reports[2]["data_hash"]
    assert all(c["support"] > 0 for c in reports[0]["per_class"].values())  # and not the first folder only


def test_the_data_hash_is_that_of_the_content(faces: Path, tmp_path: Path):
    first = run(load_benchmark("folder"), faces, by_brightness, tmp_path / "a")["data_hash"]
    moved = faces.rename(tmp_path / "elsewhere")
    assert run(load_benchmark("folder"), moved, by_brightness, tmp_path / "b")["data_hash"] == first
    Image.new("L", (8, 8), 77).save(moved / "neutral" / "5.png")
    assert run(load_benchmark("folder"), moved, by_brightness, tmp_path / "c")["data_hash"] != first


def test_groups_from_a_csv(faces: Path, tmp_path: Path):
    with (faces / "list.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "gender"])
        for name in CENTRES:
            for i in range(10):
                if i != 3:
                    Image.new("L", (8, 8), int(CENTRES[name])).save(faces / name / f"{i}.png")
                gender = "female" if i % 2 else "male"
                for _ in range(4):  # the same picture four times: each row counts
                    table.writerow([f"{name}/{i}.png", name, gender])
    report = run(load_benchmark("folder"), faces / "list.csv", by_brightness, tmp_path / "out")
    gender = report["groups"]["gender"]
    assert report["n"] == 120 and gender["values"]["male"]["uar"]["value"] == 1
    assert gender["values"]["female"]["recall"]["neutral"] == pytest.approx(0.8)  # the blue picture
    assert gender["uar_gap"] == pytest.approx(0.2) and gender["tpr_gap"]["sadness"] == pytest.approx(0.2)
    assert "## By gender" in (tmp_path / "out" / "report.md").read_text()


def write_ferplus(path: Path, votes: Sequence[Sequence[int]], brightness: Sequence[int]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = []
    for i, value in enumerate(brightness):
        buffer = io.BytesIO()
        Image.new("L", (48, 48), value).save(buffer, "PNG")
        images.append({"bytes": buffer.getvalue(), "path": f"fer{i:07d}.png"})
    columns = {
        "image": pa.array(images),
        "votes": pa.array([list(v) for v in votes], pa.list_(pa.int8(), 10)),
        "fer2013_label": pa.array([None] * len(votes), pa.string()),
    }
    pq.write_table(pa.table(columns), path)


VOTES = (  # neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, not a face
    (10, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    (0, 9, 1, 0, 0, 0, 0, 0, 0, 0),
    (0, 0, 0, 6, 4, 0, 0, 0, 0, 0),
    (4, 0, 0, 3, 3, 0, 0, 0, 0, 0),  # counts under argmax8 and probability only
    (5, 1, 1, 1, 1, 1, 0, 0, 0, 0),  # and this one under majority, too, but not under strict
    (0, 0, 0, 0, 0, 0, 0, 0, 2, 8),  # no face: never counts
)


def test_ferplus_a_test_split_and_one_run_scored_by_every_protocol(tmp_path: Path):
    data = tmp_path / "ferplus"
    data.mkdir()
    write_ferplus(data / "test.parquet", VOTES, (128, 215, 40, 128, 128, 128))
    benchmark = load_benchmark("ferplus")
    report = run(benchmark, data, by_brightness, tmp_path / "out")
    assert (report["split"], report["protocol"]) == ("test", "majority")
    assert (report["n_read"], report["n"], report["n_left_out"]) == (6, 4, 2)
    assert report["accuracy"]["value"] == 1 and report["n_votes"] == 4

    path = tmp_path / "out" / "predictions.jsonl"
    assert len(list(read_predictions(path))) == 5  # every face that counts anywhere was predicted once
    scored = {protocol: rescore(path, benchmark, protocol) for protocol in benchmark.protocols}
    assert {protocol: r["n"] for protocol, r in scored.items()} == {
        **{"majority": 4, "argmax8": 5},
        **{"strict": 3, "probability": 5},
    }
    soft = scored["probability"]
    assert soft["accuracy"]["value"] == pytest.approx(np.mean([1, 1, 0.6, 0.4, 1])) == soft["ceiling"]
    assert soft["nll"] == pytest.approx(soft["soft_cross_entropy"])
    asked = run(benchmark, data, by_brightness, tmp_path / "asked", protocol="probability")
    same = ("accuracy", "uar", "macro_f1", "per_class", "kl", "js", "nll", "ece", "reliability", "confusion")
    assert {key: asked[key] for key in same} == {key: soft[key] for key in same}


def test_a_missing_split_says_which_there_are_and_overwrites_nothing(tmp_path: Path):
    data = tmp_path / "ferplus"
    data.mkdir()
    write_ferplus(data / "validation.parquet", VOTES, (128,) * 6)
    benchmark = load_benchmark("ferplus")
    run(benchmark, data, by_brightness, tmp_path / "out", split="validation")
    before = (tmp_path / "out" / "predictions.jsonl").read_bytes()
    with pytest.raises(EmoreasonError, match="test"):
        run(benchmark, data, by_brightness, tmp_path / "out")
    assert (tmp_path / "out" / "predictions.jsonl").read_bytes() == before
    assert (tmp_path / "out" / "report.json").exists()


def always_neutral(samples: Iterable[Sample], labels: Sequence[str]) -> Iterator[Prediction]:
    for sample in samples:
        yield Prediction(sample.id, "ok", "neutral", {"neutral": 1.0})


def test_the_majority_line_of_the_real_validation_faces(ferplus: Path, tmp_path: Path):
    benchmark = load_benchmark("ferplus")
    report = run(benchmark, ferplus, always_neutral, tmp_path / "out", split="validation")
    assert (report["n_read"], report["n"]) == (3579, 3191)
    assert report["majority"]["label"] == "neutral" and report["per_class"]["neutral"]["support"] == 1180
    for key in ("accuracy", "uar", "macro_f1"):
        assert report[key]["value"] == pytest.approx(report["majority"][key])
    assert report["majority"]["accuracy"] == pytest.approx(1180 / 3191) and report["majority"]["uar"] == 1 / 8
    counts = {p: rescore(tmp_path / "out" / "predictions.jsonl", benchmark, p)["n"] for p in ("argmax8", "strict")}
    assert counts == {"argmax8": 3555, "strict": 2866}


@pytest.mark.parametrize("name", benchmark_names())
def test_every_shipped_benchmark_is_sound(name: str):
    benchmark = load_benchmark(name)
    assert benchmark.name == name and benchmark.title and benchmark.licence
    assert benchmark.label_set is None or benchmark.label_set in LABEL_SETS
    for anchor in benchmark.anchors:
        assert anchor.source and anchor.regime and anchor.accuracy is not None and 0.1 < anchor.accuracy < 1
        assert anchor.protocol in (None, *benchmark.protocols)


def test_unknown_names_are_answered_with_near_ones(tmp_path: Path):
    with pytest.raises(UsageError, match="did you mean ferplus"):
        load_benchmark("ferpluss")
    with pytest.raises(UsageError, match="is data, not a benchmark: emoreason eval folder --data"):
        load_benchmark(str(tmp_path))
    with pytest.raises(UsageError, match="majority, argmax8, strict, probability"):
        run(load_benchmark("ferplus"), tmp_path, by_brightness, tmp_path / "out", protocol="median")
    (tmp_path / "mine.yaml").write_text("name: mine\nprotocols: [majority, label]\n")
    with pytest.raises(EmoreasonError, match="is not a benchmark"):
        load_benchmark(tmp_path / "mine.yaml")


def test_predictions_of_another_benchmark_are_refused(faces: Path, tmp_path: Path):
    run(load_benchmark("folder"), faces, by_brightness, tmp_path / "out")
    with pytest.raises(UsageError, match="a run of folder"):
        rescore(tmp_path / "out" / "predictions.jsonl", load_benchmark("ferplus"))
