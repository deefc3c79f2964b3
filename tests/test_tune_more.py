"""`emoreason finetune --data` where the data has more than labels: measures, words, several of them, or no label."""

import csv
import json
import random
from pathlib import Path

import pytest

import emoreason
from drawn_faces import MOUTHS, write_folder
from emoreason.apps.cli.main import execute

TEXTS = {
    "engaged": "A bright open face: the mouth is pulled up and the teeth show.",
    "bored": "The mouth is a flat line and nothing moves.",
    "confused": "The mouth is round and small, as if asking.",
}
POINTS = {"engaged": 0.7, "bored": -0.5, "confused": -0.1}


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("more") / "my_faces", each=40, size=96)


def table(faces: Path, name: str, *columns: str) -> Path:
    rng = random.Random(3)
    path = faces.parent / f"{name}.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", *columns], extrasaction="ignore")
        writer.writeheader()
        for label in MOUTHS:
            for i in range(40):
                writer.writerow({
                    "path": f"my_faces/{label}/{label}{i}.png", "label": label, "explanation": TEXTS[label],
                    "AU12": 0.8 * (label == "engaged") + 0.1 * rng.random(),
                    "valence": POINTS[label] + rng.gauss(0, 0.05),
                })  # fmt: skip
    return path


def finetune(data: Path, out: Path, *more: str) -> dict:
    assert (
        execute(["finetune", "--data", str(data), "--no-detect", "--out", str(out), "--train.epochs", "150", *more])
        == 0
    )
    return json.loads((out / "metrics.json").read_text())


def test_labels_and_measures_in_one_run(faces, tmp_path, module_cache, capsys):
    metrics = finetune(
        table(faces, "all", "label", "AU12", "valence"), tmp_path / "mine", "--openset", "0.1", "--data.holdout", "0.15"
    )
    assert metrics["after"]["accuracy"]["value"] > 0.9 and set(metrics["counts"]["train"]) == set(MOUTHS)
    measures = metrics["measures"]
    assert measures["valence"]["trained"]["ccc"] > 0.85 and measures["action_units"]["12"]["trained"]["f1"] > 0.9
    assert "base" in measures["action_units"]["12"]  # the mini's own unit, on the same faces
    printed = capsys.readouterr().out
    assert "CCC" in printed and "before (zero-shot)" in printed
    card = (tmp_path / "mine" / "README.md").read_text()
    assert "CCC" in card and "engaged" in card
    assert "folder: other action units, explanations and all other labels are still that model's" in card
    spec = json.loads((tmp_path / "mine" / "model.json").read_text())
    assert set(spec["files"]) == {"measures.safetensors"} and spec["openset"]["score"] == "energy"
    model = emoreason.load(str(tmp_path / "mine"), device_name="cpu", explainer="none")
    face = model.analyze(faces / "engaged" / "engaged3.png", detect=False, explain=False).faces[0]
    assert face.evidence.point_measured and face.evidence.valence == pytest.approx(0.7, abs=0.2)
    assert face.evidence.action_units["12"] > 0.5 and set(face.evidence.action_units) > {"12"}


def test_a_face_like_none_of_the_labels_gets_no_answer(faces, tmp_path, module_cache):
    """Trained on two of the three mouths; at least some of the third are told apart, few of the two are lost."""
    two = faces.parent / "two"
    for label in ("engaged", "bored"):
        (two / label).mkdir(parents=True)
        for path in (faces / label).iterdir():
            (two / label / path.name).write_bytes(path.read_bytes())
    finetune(two, tmp_path / "open", "--openset", "0.1")
    model = emoreason.load(str(tmp_path / "open"), device_name="cpu", explainer="none")
    withheld = {
        label: [face.status for face in (model.analyze(path, detect=False, explain=False).faces[0]
                                         for path in sorted((faces / label).iterdir()))]
        for label in MOUTHS
    }  # fmt: skip
    shares = {label: sum(status == "abstained" for status in found) / len(found) for label, found in withheld.items()}
    assert shares["engaged"] < 0.35 and shares["bored"] < 0.35
    assert shares["confused"] > max(shares["engaged"], shares["bored"])


def test_measures_without_any_label(faces, tmp_path, module_cache, astronaut):
    metrics = finetune(table(faces, "measures", "AU12", "valence"), tmp_path / "m")
    assert "after" not in metrics and metrics["measures"]["valence"]["trained"]["ccc"] > 0.85
    model = emoreason.load(str(tmp_path / "m"), device_name="cpu", explainer="none")
    assert "happiness" in model.default_labels and model.name == "m"  # labels are still the mini's
    assert model.analyze(astronaut, explain=False).faces[0].evidence.point_measured
    assert execute(["models", "verify", str(tmp_path / "m")]) == 0


def test_a_run_that_learned_nothing_is_no_model(faces, tmp_path, module_cache, capsys):
    few = faces.parent / "few.csv"
    few.write_text("".join(table(faces, "measures", "valence").read_text().splitlines(keepends=True)[:12]))
    assert execute(["finetune", "--data", str(few), "--no-detect", "--out", str(tmp_path / "m")]) == 1
    assert "nothing was learned: valence: " in capsys.readouterr().err and not (tmp_path / "m").exists()


def test_texts_of_ones_own_beside_labels(faces, tmp_path, module_cache, astronaut, capsys):
    out = tmp_path / "told"
    metrics = finetune(
        table(faces, "texts", "label", "explanation"), out, "--words.steps", "3", "--words.look_texts", "3"
    )
    assert metrics["words"]["form"] == "free" and metrics["words"]["steps"] == 3
    assert metrics["after"]["accuracy"]["value"] > 0.9
    assert not (out / "words").exists() and (out / "explainer" / "explainer.json").is_file()
    assert "folder: action units and all other labels are still that model's" in (out / "README.md").read_text()
    assert "perplexity" in (out / "README.md").read_text() and "perplexity" in capsys.readouterr().out
    assert execute(["explain", str(astronaut), "--model", str(out), "--json"]) == 0
    face = json.loads(capsys.readouterr().out)["faces"][0]
    assert face["label"] in MOUTHS and face["explanation"]["text"]
    assert execute(["explain", str(astronaut), "--model", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "not checked: the text does not have the three sections" in printed and "check failed" not in printed
