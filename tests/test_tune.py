"""`emoreason finetune --data`: from faces to a folder that every other verb loads, on the real mini."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import emoreason
from drawn_faces import MOUTHS, drawn, png, write_folder
from emoreason.apps.cli.main import execute
from emoreason.apps.cli.serve import loaders
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.schema import Sample
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.statements import View
from emoreason.explain.sheet import Placed
from emoreason.train import run_folder
from emoreason.train.features import are_face_crops, compute_features, feature_cache
from emoreason.train.finetune import finetune
from emoreason.train.finetune_config import FinetuneConfig, FinetuneData, HeadTraining
from emoreason.train.run_folder import FILES

OWN = ("bored", "engaged", "confused")


def config(data: Path, out: Path, labels: str = ",".join(OWN), **train) -> FinetuneConfig:
    return FinetuneConfig(out=str(out), device="cpu", data=FinetuneData(source=str(data), labels=labels),
                      train=HeadTraining(epochs=40) if not train else HeadTraining(**train))  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("own") / "my_faces", each=24)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory, module_cache) -> Path:
    said: list[str] = []
    done = finetune(config(data, tmp_path_factory.mktemp("runs") / "mine"), notify=said.append)
    assert any("taken as face crops" in line or "looked for" in line for line in said)
    return done.folder


def test_the_run_folder_is_whole(run):
    assert {path.name for path in run.iterdir()} == set(FILES)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["after"]["n"] == metrics["before"]["n"] == 15
    assert metrics["after"]["accuracy"]["value"] > metrics["before"]["accuracy"]["value"]
    card = (run / "README.md").read_text()
    assert "bored" in card and "Not for use at work" in card and "mini" in card
    parts = [row["part"] for row in csv.DictReader((run / "split.csv").open())]
    assert {part: parts.count(part) for part in set(parts)} == {"train": 51, "holdout": 6, "report": 15}
    assert not [path for path in run.rglob("*") if path.suffix in (".pt", ".pkl", ".bin")]


def test_the_folder_is_a_model_with_evidence_of_the_mini(run, mini, astronaut):
    model = emoreason.load(str(run), device_name="cpu")
    assert model.default_labels == OWN and model.name == "mine" and model.has_words
    face, below = (m.analyze(astronaut, explain=False).faces[0] for m in (model, mini))
    assert tuple(face.probabilities) == OWN and sum(face.probabilities.values()) == pytest.approx(1)
    assert face.action_units == below.action_units
    assert face.evidence.valence is not None and face.evidence.arousal is not None
    asked = ["happiness", "sadness", "anger"]  # by name: still the mini's own answer, calibration and all
    words = [m.analyze(astronaut, labels=asked, explain=False) for m in (model, mini)]
    assert words[0].faces[0].probabilities == words[1].faces[0].probabilities
    assert words[0].revision != words[1].revision
    part = model.analyze(astronaut, labels=["bored", "engaged"], explain=False).faces[0].probabilities
    ratio = face.probabilities["bored"] / face.probabilities["engaged"]
    assert part["bored"] / part["engaged"] == pytest.approx(ratio, rel=1e-3)


def test_every_verb_takes_the_folder(run, data, tmp_path, astronaut, capsys):
    assert execute(["explain", str(astronaut), "--model", str(run), "--json"]) == 0
    face = json.loads(capsys.readouterr().out)["faces"][0]
    assert face["label"] in OWN and face["explanation"]["conclusion"] and face["action_units"]
    assert set(face["explanation"]["reasoned"]["probabilities"]) == set(OWN)
    out = tmp_path / "rows.jsonl"
    assert execute(["label", str(data / "bored"), "--no-detect", "--model", str(run), "-o", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 24 and {"p_bored", "p_engaged", "p_confused"} <= set(rows[0]) and rows[0]["model"] == "mine"
    assert sum(row["label"] == "bored" for row in rows) >= 18
    model = loaders([str(run)], device_name="cpu")["mine"]()  # as the page and the API load and name it
    assert set(next(iter(model.label([astronaut])))) >= {"p_bored", "au_12", "valence"}
    asked = [{"role": "user", "content": [{"type": "image", "image": str(astronaut)}]}]
    told, explanation = model.chat(asked), model.analyze(astronaut).faces[0].explanation
    assert told == explanation.short and explanation.checks.ok and explanation.sheet.labels == OWN
    asked += [{"role": "assistant", "content": told}, {"role": "user", "content": "How sure are you?"}]
    assert not check_answer(model.chat(asked), "How sure are you?", View([Placed(explanation.sheet)]))


def test_eval_gives_the_figures_of_the_card(run, data, tmp_path):
    """The faces of the report through `emoreason eval`: the model that is served is the one that was measured."""
    kept = [row for row in csv.DictReader((run / "split.csv").open()) if row["part"] == "report"]
    table = tmp_path / "report.csv"
    names = {"bored": "boredom", "engaged": "interest", "confused": "confusion"}
    table.write_text("path,label\n" + "".join(f"{data / row['id']},{row['label']}\n" for row in kept))
    labels = ",".join(names[label] for label in OWN)
    command = [
        "eval",
        "folder",
        "--data",
        str(table),
        "--model",
        str(run),
        "--labels",
        labels,
        "-o",
        str(tmp_path / "r"),
    ]
    assert execute([*command, "--device", "cpu"]) == 0
    report, metrics = (json.loads(path.read_text()) for path in (tmp_path / "r" / "report.json", run / "metrics.json"))
    for key in ("accuracy", "uar", "macro_f1"):
        assert report[key]["value"] == pytest.approx(metrics["after"][key]["value"])
    assert report["nll"] == pytest.approx(metrics["after"]["nll"], abs=0.01)


def test_the_same_seed_and_data_give_the_same_weights(run, data, tmp_path):
    """Also from another folder, since names of files have no say."""
    elsewhere = shutil.copytree(data, tmp_path / "copy")
    again = finetune(config(elsewhere, tmp_path / "again")).folder
    assert (again / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()
    hashes = [json.loads((folder / "model.json").read_text())["trained_on"]["data_sha256"] for folder in (run, again)]
    assert hashes[0] == hashes[1]


def test_a_killed_run_goes_on(run, data, tmp_path):
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "emoreason", "finetune", "--data", str(data), "--labels", ",".join(OWN)]
    command += ["--out", str(out), "--device", "cpu", "--train.epochs", "40"]
    started = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while not (out / "env.txt").is_file() and started.poll() is None:
        time.sleep(0.01)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert (out / "config.yaml").is_file() and not (out / "model.json").exists()
    with pytest.raises(UsageError, match="--resume"):
        finetune(config(data, out))
    with pytest.raises(UsageError, match="labels was 'bored,engaged,confused' and is 'bored,engaged'"):
        finetune(config(data, out, labels="bored,engaged"), resume=True)
    done = finetune(config(data, out), resume=True).folder
    assert (done / "weights.safetensors").read_bytes() == (run / "weights.safetensors").read_bytes()


def test_a_run_that_was_stopped_says_how_to_go_on(data, tmp_path, module_cache, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 4)
    try:
        endless = ["--train.epochs", "100000000", "--train.patience", "100000000", "--no-detect"]
        assert execute(["finetune", "--data", str(data), "--out", str(tmp_path / "run"), *endless]) == 130
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "with --resume to continue" in capsys.readouterr().err


def test_folders_are_not_written_over(run, data, tmp_path):
    weights = (run / "weights.safetensors").read_bytes()
    for resume in (False, True):
        with pytest.raises(UsageError, match="finished.*--overwrite"):
            finetune(config(data, run), resume=resume)
    assert (run / "model.json").is_file() and (run / "weights.safetensors").read_bytes() == weights
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"):
        finetune(config(data, tmp_path), overwrite=True)
    with pytest.raises(EmoreasonError, match="cannot be written"):
        finetune(config(data, tmp_path / "notes.txt" / "run"))
    with pytest.raises(UsageError, match="is itself a trained head.*--model mini"):
        finetune(FinetuneConfig(model=str(run), data=FinetuneData(source=str(data))))


def test_overwriting_waits_until_there_is_something_to_train_on(run, data, tmp_path):
    there = shutil.copytree(run, tmp_path / "run")
    with pytest.raises(UsageError, match="no face has the label"):
        finetune(config(data, there, labels="bored,angry"), overwrite=True)
    assert {path.name for path in there.iterdir()} == {path.name for path in run.iterdir()}


def test_a_run_inside_its_pictures_is_refused(data):
    with pytest.raises(UsageError, match="its plots would be read as faces"):
        finetune(config(data, data / "run"))
    assert not (data / "run").exists()


def test_two_runs_do_not_share_a_folder(data, tmp_path):
    with run_folder.lock(tmp_path), pytest.raises(UsageError, match="another emoreason finetune is running there"):
        finetune(config(data, tmp_path, epochs=1))
    assert finetune(config(data, tmp_path, epochs=1)).folder == tmp_path


def test_a_run_that_was_refused_leaves_its_folder_free(data, tmp_path):
    with pytest.raises(UsageError, match="no face has the label"):
        finetune(config(data, tmp_path / "run", labels="bored,angry", epochs=1))
    assert not (tmp_path / "run").exists()
    assert (finetune(config(data, tmp_path / "run", epochs=1)).folder / "model.json").is_file()


def test_a_head_on_another_encoder_is_refused(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    spec = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps(spec | {"base_revision": "another"}))
    with pytest.raises(EmoreasonError, match="train it again"):
        emoreason.load(str(other))
    (other / "model.json").write_text(json.dumps(spec))
    (other / "weights.safetensors").write_bytes(b"damaged")
    with pytest.raises(EmoreasonError, match="damaged"):
        emoreason.load(str(other))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "no data and no recipe"),
        (["--data", "nowhere"], "does not exist"),
        (["--data", "{data}", "--labels", "bored,angry"], "no face has the label 'angry'"),
        (["--data", "{data}", "--train.learning_rate", "1"], "unknown key train.learning_rate"),
        (["--data", "{data}", "--data.validation", "2"], "a share between 0 and 1"),
        (["--data", "{data}", "--format", "table"], "did you mean data.format?"),
        (["finetune/lara.yaml", "--data", "{data}"], "no recipe finetune/lara.yaml; the package has"),
        (["--data", "{data}", "--epochs", "5"], "did you mean train.epochs or tower.epochs?"),
        (["--data", "{data}", "--train.epochs", "five"], "is not a whole number"),
        (["{data}"], "is a data set, not a recipe: emoreason finetune --data"),
    ],
)
def test_mistakes_are_told_in_a_line(given, told, data, tmp_path, capsys):
    code = execute(["finetune", *(word.format(data=data) for word in given), "--out", str(tmp_path / "run")])
    assert code in (1, 2) and told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--train.epochs", "-5"], "train.epochs -5: 1 or more"),
        (["--train.lr", "nan"], "train.lr nan: a number above 0"),
        (["--train.batch_size", "0"], "train.batch_size 0: 1 or more"),
        (["--data.limit", "-3"], "data.limit -3: 0 or more"),
        (["--loss.name", "ada-cm", "--data.unlabeled", "nowhere"], "nowhere does not exist"),
        (["--model", "nosuch"], "no model 'nosuch'"),
        (["--detector", "nosuch"], "no face detector 'nosuch'"),
        (["--loss.name", "eac"], "add --what lora or --what full"),
        (["--train.lr", "1e9", "--no-detect"], "try a smaller --train.lr"),
    ],
)
def test_a_mistake_leaves_the_folder_free_for_the_next_try(given, told, data, tmp_path, module_cache, capsys):
    out = tmp_path / "out"
    assert execute(["finetune", "--data", str(data), "--out", str(out), "--device", "cpu", *given]) in (1, 2)
    assert told in capsys.readouterr().err and not out.exists()


@pytest.mark.parametrize("field", ["--what", "--loss.name", "--words.form", "--words.source", "--data.crops"])
def test_a_word_that_is_none_of_those_known_leaves_no_folder(field, data, tmp_path, capsys):
    assert execute(["finetune", "--data", str(data), "--out", str(tmp_path / "out"), field, "everything"]) == 2
    assert f"{field[2:]} 'everything':" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_picture_is_looked_at_once(mini, data, tmp_path):
    encoder = mini.reader.zeroshot.encoder
    samples = [Sample(path.name, str(path), "fear") for path in sorted(data.rglob("*.png"))[:6]]
    first = list(compute_features(samples, encoder, None, feature_cache(encoder, None, tmp_path)))

    class Blind:
        """An encoder that cannot encode: what comes back was kept."""

        name, revision, mirror, compute = encoder.name, encoder.revision, encoder.mirror, encoder.compute

    kept = list(compute_features(samples, Blind(), None, feature_cache(Blind(), None, tmp_path)))
    for (_, a), (_, b) in zip(first, kept, strict=True):
        assert a.fingerprint == b.fingerprint and (a.embedding == b.embedding).all()
    detected = feature_cache(encoder, mini.detector, tmp_path)
    assert not detected.places  # another way of cropping, other features
    (next(tmp_path.rglob("*.safetensors"))).write_bytes(b"damaged")
    assert not isinstance(
        list(compute_features(samples, encoder, None, feature_cache(encoder, None, tmp_path)))[0][1], str
    )


def test_old_features_leave_the_cache_first(mini, tmp_path):
    import os

    encoder = mini.reader.zeroshot.encoder
    for age, name in ((30, "old"), (20, "older_than_mine"), (10, "recent")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rows.safetensors").write_bytes(bytes(1000))
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    cache = feature_cache(encoder, None, tmp_path)
    cache.folder.mkdir()
    (cache.folder / "rows.safetensors").write_bytes(bytes(1500))
    cache.prune(max_bytes=2600)
    assert {path.name for path in tmp_path.iterdir()} == {"recent", cache.folder.name}
    cache.prune(max_bytes=10)
    assert {path.name for path in tmp_path.iterdir()} == {cache.folder.name}  # its own are never taken


def test_labels_keep_the_words_of_the_data(data, tmp_path, mini):
    """Folders called engaged, bored, confused: no --labels needed. Two ways to write one emotion get one name."""
    done = finetune(config(data, tmp_path / "a", labels="", epochs=1))
    assert set(done.metrics["counts"]["train"]) == set(OWN)
    mixed = shutil.copytree(data, tmp_path / "mixed")
    (mixed / "interested").mkdir()
    for i, path in enumerate(sorted((mixed / "engaged").iterdir())[:6]):
        path.rename(mixed / "interested" / f"{i}.png")
    done = finetune(config(mixed, tmp_path / "b", labels="", epochs=1))
    assert set(done.metrics["counts"]["train"]) == {"bored", "interest", "confused"}


def test_crops_and_photographs_are_told_apart(mini, astronaut, tmp_path):
    photo = Sample("a", str(astronaut))
    assert are_face_crops([photo], mini.detector)[0] is False
    close = Image.open(astronaut).convert("RGB").crop((160, 45, 290, 195))
    assert are_face_crops([Sample("b", png(close))], mini.detector)[0] is True
    small = Sample("c", png(drawn("up", 0, size=48)))
    are_crops, why = are_face_crops([small], mini.detector)
    assert are_crops and "48 pixels" in why


def test_faces_are_cut_out_of_photographs(astronaut, tmp_path, mini):
    """Whole photographs, one without a face: the face is trained on, the other left out."""
    photo = Image.open(astronaut).convert("RGB")
    for k, label in enumerate(("engaged", "bored")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(6):
            turned = photo.rotate(3 * i - 8).point(lambda v, i=i, k=k: min(255, int(v * (0.7 + 0.05 * i + 0.02 * k))))
            turned.save(tmp_path / "photos" / label / f"{i}.png")
    Image.effect_noise((320, 240), 60).convert("RGB").save(tmp_path / "photos" / "bored" / "noise.png")
    (tmp_path / "photos" / "bored" / "broken.png").write_bytes(b"no picture")
    said: list[str] = []
    tuned = finetune(config(tmp_path / "photos", tmp_path / "run", labels=""), notify=said.append)
    assert any("cut out" in line for line in said) and any("broken.png" in line for line in said)
    assert tuned.metrics["left_out"] == {"broken or missing": 1, "no face found": 1}


def test_tables_with_distributions_and_people(tmp_path):
    rows = ["path,label,distribution,group"]
    (tmp_path / "faces").mkdir()
    for i in range(60):
        label = list(MOUTHS)[i % 3]
        drawn(MOUTHS[label], i, size=48).save(tmp_path / "faces" / f"{i}.png")
        other = list(MOUTHS)[(i + 1) % 3]
        rows.append(f'faces/{i}.png,{label},"{{""{label}"": 0.8, ""{other}"": 0.2}}",person{i // 6}')
    (tmp_path / "faces.csv").write_text("\n".join(rows) + "\n")
    tuned = finetune(config(tmp_path / "faces.csv", tmp_path / "run"))
    side = {}
    for row in csv.DictReader((tuned.folder / "split.csv").open()):
        side.setdefault(int(Path(row["id"]).stem) // 6, set()).add(row["part"])
    assert all(len(parts) == 1 for parts in side.values())
    assert "Faces of one person (group)" in tuned.metrics["protocol"]


def slices(ferplus: Path, folder: Path, train: int, validation: int, rename: dict[str, str] | None = None) -> Path:
    """The first faces of both splits as an own data set: FER+'s votes, or one label each by other names."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from emoreason.data.protocols import majority_label
    from emoreason.data.textfile import open_parquet

    folder.mkdir()
    for name, n in (("train", train), ("validation", validation)):
        with open_parquet(ferplus / f"{name}.parquet") as file:
            rows = next(file.iter_batches(batch_size=n))
        if rename is None:
            pq.write_table(pa.Table.from_batches([rows]), folder / f"{name}.parquet")
            continue
        names = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown")
        kept = []
        for row in rows.to_pylist():
            label = majority_label(dict(zip((*names, "not_a_face"), row["votes"], strict=True)))
            if label in rename:
                kept.append({"image": row["image"], "label": rename[label]})
        pq.write_table(pa.Table.from_pylist(kept), folder / f"{name}.parquet")
    return folder


def test_two_thousand_faces_of_ferplus_beat_zero_shot(ferplus, tmp_path):
    data = slices(ferplus, tmp_path / "data", 2000, 1200)
    tuned = finetune(FinetuneConfig(out=str(tmp_path / "run"), device="cpu", data=FinetuneData(source=str(data))))
    before, after, balanced = (tuned.metrics[name] for name in ("before", "after", "balanced"))
    gained = [max(after[key]["value"], balanced[key]["value"]) - before[key]["value"] for key in ("accuracy", "uar")]
    assert max(gained) > 0, tuned.metrics["after"]["accuracy"]
    assert after["ece"] < 0.1
    model = emoreason.load(str(tmp_path / "run"), device_name="cpu", explainer="none", point="balanced")
    assert model.reader.calibration.covers(model.default_labels)


def test_own_words_for_faces_of_ferplus(ferplus, tmp_path, astronaut, capsys):
    rename = {"happiness": "engaged", "neutral": "bored", "surprise": "confused"}
    data, out = slices(ferplus, tmp_path / "data", 1200, 800, rename), tmp_path / "run"
    assert execute(["finetune", "--data", str(data), "--labels", ",".join(OWN), "--out", str(out)]) == 0
    assert "Next: emoreason explain photo.jpg --model" in capsys.readouterr().out
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["after"]["uar"]["low"] > metrics["before"]["uar"]["high"]
    assert execute(["explain", str(astronaut), "--model", str(out), "--json"]) == 0
    face = json.loads(capsys.readouterr().out)["faces"][0]
    assert face["label"] == "engaged" and face["calibrated"] and face["explanation"]["checks"]["ok"]
    assert np.isclose(sum(face["probabilities"].values()), 1, atol=1e-4)
