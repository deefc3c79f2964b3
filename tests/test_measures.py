"""Trained action units, valence and arousal: from columns to heads, figures, and the evidence that is read by them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from emoreason.analysis import FaceAnalysis, columns
from emoreason.apps.cli.tables import print_analysis
from emoreason.core.errors import EmoreasonError
from emoreason.core.types import Evidence, Face
from emoreason.data import Sample, read
from emoreason.data.protocols import ferplus_target
from emoreason.evidence.measures import FILE, Measures
from emoreason.knowledge.emotions import valence_arousal
from emoreason.train.heads.measure_scores import best_threshold, ccc, f1, table
from emoreason.train.heads.measures import fit_measures

RANDOM = np.random.default_rng(3)
N, D = 900, 24
FEATURES = RANDOM.normal(size=(N, D)).astype(np.float32) + 1
FEATURES /= np.linalg.norm(FEATURES, axis=1, keepdims=True)
PARTS = (np.arange(600), np.arange(600, 700), np.arange(700, 900))
LINES = (FEATURES - FEATURES.mean(axis=0)) @ RANDOM.normal(size=(D, 4)) * 2


def samples(units: dict[str, np.ndarray] | None = None, **points: np.ndarray) -> list[Sample]:
    """NaN is what nobody knows."""

    def known(values: dict[str, np.ndarray], i: int) -> dict[str, float]:
        return {name: float(column[i]) for name, column in values.items() if not np.isnan(column[i])}

    return [Sample(str(i), b"", units=known(units or {}, i) or None, **known(points, i)) for i in range(N)]  # type: ignore[arg-type]


def fit(folder: Path, given: list[Sample], **more: Any) -> dict[str, Any]:
    found = fit_measures(given, FEATURES, PARTS, folder, 0, **more)
    assert found is not None
    json.dumps(found, allow_nan=False)
    return found


def test_without_columns_there_is_nothing_to_train(tmp_path: Path):
    assert fit_measures(samples(), FEATURES, PARTS, tmp_path, 0) is None
    assert Measures.load(tmp_path) is None and not list(tmp_path.iterdir())


def test_what_is_in_the_features_is_found_and_noise_is_not(tmp_path: Path):
    noise = RANDOM.normal(size=(N, 4)) * 0.1
    shown = (LINES[:, 2] + noise[:, 2] > 0.4).astype(float)
    given = samples({"12": shown, "4": (RANDOM.random(N) < 0.3).astype(float)},
                    valence=np.clip(LINES[:, 0] + noise[:, 0], -1, 1), arousal=RANDOM.uniform(-1, 1, N))  # fmt: skip
    found = fit(tmp_path, given, base_units={"12": np.full(N, 0.5)})
    assert found["valence"]["trained"]["ccc"] > 0.9 > 0.3 > abs(found["arousal"]["trained"]["ccc"])
    assert found["valence"]["trained"]["rmse"] < found["valence"]["constant"]["rmse"]
    low, high = found["valence"]["trained"]["ccc_interval"]
    assert low < found["valence"]["trained"]["ccc"] < high
    smile, frown = (found["action_units"][code] for code in ("12", "4"))
    assert smile["trained"]["f1"] > 0.85 > smile["always"]["f1"] and smile["trained"]["auc"] > 0.95
    assert smile["base"]["auc"] == 0.5 and abs(frown["trained"]["auc"] - 0.5) < 0.15
    assert found["mean_f1"]["base"] is None  # there is a unit that the base model does not know
    text = table(found)
    assert "| 12 | 200 |" in text and "valence" in text and "derived" not in text


def test_the_file_gives_the_answers_of_the_figures(tmp_path: Path):
    shown = (LINES[:, 2] > 0.3).astype(float)
    found = fit(tmp_path, samples({"12": shown}, valence=np.clip(LINES[:, 0], -1, 1), arousal=LINES[:, 1].clip(-1, 1)))
    read_back = Measures.load(tmp_path)
    assert read_back is not None and read_back.name == tmp_path.name and len(read_back.revision) == 12
    rows = PARTS[2]
    answers = read_back.valence_arousal(FEATURES[rows])
    assert answers is not None and np.abs(answers).max() <= 1
    assert ccc(answers[:, 0], np.clip(LINES[rows, 0], -1, 1)) == pytest.approx(
        found["valence"]["trained"]["ccc"], abs=1e-3
    )
    answered = read_back.units(FEATURES[rows])["12"] >= 0.2  # the lowest band begins at the fitted threshold
    assert f1(answered, shown[rows] > 0) == pytest.approx(found["action_units"]["12"]["trained"]["f1"], abs=1e-3)


def test_intensities_stay_intensities(tmp_path: Path):
    graded = np.round(np.clip(LINES[:, 2] + 0.3, 0, 1) * 5) / 5
    found = fit(tmp_path, samples({"12": graded}))
    measures = Measures.load(tmp_path)
    assert measures is not None and found["action_units"]["12"]["graded"]
    units = measures.units(FEATURES)["12"]
    assert np.allclose(units, measures.raw_units(FEATURES)[:, 0], atol=1e-6)
    assert np.corrcoef(units, graded)[0, 1] > 0.9 and np.abs(units - graded).mean() < 0.1


def test_rows_without_a_number_are_left_out_of_it_alone(tmp_path: Path):
    shown, valence = (LINES[:, 2] > 0.3).astype(float), np.clip(LINES[:, 0], -1, 1)
    shown[::2], valence[1::3] = np.nan, np.nan
    found = fit(tmp_path, samples({"12": shown}, valence=valence))
    assert found["action_units"]["12"]["n"] == 100 and found["valence"]["n"] == int((~np.isnan(valence[700:])).sum())
    assert found["valence"]["trained"]["ccc"] > 0.9 and found["action_units"]["12"]["trained"]["f1"] > 0.85
    assert "arousal" not in found and "arousal" not in found["left_out"]
    measures = Measures.load(tmp_path)
    point = measures.valence_arousal(FEATURES[:5]) if measures else None
    assert point is not None and np.isnan(point[:, 1]).all() and not np.isnan(point[:, 0]).any()


def test_too_little_is_said_and_not_trained(tmp_path: Path):
    rare = np.zeros(N)
    rare[:4] = 1
    valence = np.full(N, np.nan)
    valence[:20] = 0.5
    found = fit(tmp_path, samples({"9": rare, "12": (LINES[:, 2] > 0.3).astype(float)}, valence=valence))
    assert set(found["left_out"]) == {"AU 9", "valence"}
    assert "4 faces of the train part show it" in found["left_out"]["AU 9"]
    assert list(found["action_units"]) == ["12"] and "AU 9: 4 faces" in table(found)
    alone = fit(tmp_path / "alone", samples({"9": rare}))
    assert alone == {"left_out": {"AU 9": found["left_out"]["AU 9"]}} and not (tmp_path / "alone" / FILE).exists()


def test_a_damaged_file_is_told(tmp_path: Path):
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(EmoreasonError, match="train again"):
        Measures.load(tmp_path)


def test_the_threshold_with_the_best_f1():
    shown = np.array([True, True, False, True, False])
    assert best_threshold(np.array([0.9, 0.8, 0.6, 0.5, 0.1]), shown) == pytest.approx(0.3)
    assert best_threshold(np.full(5, 0.4), shown) == pytest.approx(0.2)  # equal answers fall on one side
    assert ccc(np.arange(5.0), np.arange(5.0)) == pytest.approx(1) and ccc(np.arange(5.0), np.arange(5.0) + 2) < 0.6


def measures_of(width: int, codes: tuple[str, ...], points: tuple[str, ...]) -> Measures:
    """Answers that do not depend on the face: units 0.75, valence -0.5, arousal 0.25."""
    said = {"valence": -0.5, "arousal": 0.25}
    return Measures("made", "0" * 12, codes, np.zeros((len(codes), width)), np.full(len(codes), np.log(3)),
                    np.full(len(codes), 0.2), points, np.zeros((len(points), width)),
                    np.array([said[name] for name in points]))  # fmt: skip


def test_the_reader_uses_them(mini, astronaut, capsys):
    before = mini.analyze(astronaut, explain=False)
    width = mini.reader.zeroshot.encoder.encode_texts(["a face"]).shape[1]
    measures = measures_of(width, ("9", "12"), ("valence", "arousal"))
    trained = replace(mini, reader=replace(mini.reader, measures=measures))
    analysis = trained.analyze(astronaut, explain=False)
    was, now = before.faces[0], analysis.faces[0]
    assert now.probabilities == was.probabilities
    assert now.action_units["9"] == now.action_units["12"] == pytest.approx(0.75)
    assert {k: v for k, v in now.action_units.items() if k not in ("9", "12")} == {
        k: v for k, v in was.action_units.items() if k not in ("9", "12")
    }
    told = now.to_dict()
    assert (told["valence"], told["arousal"], told["valence_arousal_source"]) == (-0.5, 0.25, "measured")
    assert was.to_dict()["valence_arousal_source"] == "derived"
    (row,) = analysis.rows()
    assert row["valence"] == -0.5 and row["au_9"] == 0.75
    assert list(row) == columns(trained.default_labels, trained.reader.unit_codes)
    print_analysis(analysis)
    said = capsys.readouterr().out
    assert "valence -0.50, arousal +0.25" in said and "derived" not in said


def test_one_that_was_not_trained_is_not_made_up(mini, astronaut, capsys):
    width = mini.reader.zeroshot.encoder.encode_texts(["a face"]).shape[1]
    trained = replace(mini, reader=replace(mini.reader, measures=measures_of(width, (), ("arousal",))))
    analysis = trained.analyze(astronaut, explain=False)
    told = analysis.faces[0].to_dict()
    assert (told["valence"], told["arousal"], told["valence_arousal_source"]) == (None, 0.25, "measured")
    print_analysis(analysis)
    assert "arousal +0.25" in capsys.readouterr().out


def at(valence, arousal, measured=False) -> FaceAnalysis:
    evidence = Evidence({"happiness": 1.0}, "happiness", 1.0, True, {}, valence, arousal, measured)
    return FaceAnalysis(Face(0, None, None, Image.new("RGB", (48, 48)), {}), evidence)


def test_the_page_says_what_was_measured():
    from emoreason.apps.ui.charts import circumplex
    from emoreason.apps.ui.words import words

    said = words()["charts"]
    assert said["measured"] in circumplex(at(0.1, 0.2, True), said) and said["derived"] in circumplex(
        at(0.1, 0.2), said
    )
    assert said["half_point"] in circumplex(at(None, 0.2, True), said) and said["no_point"] in circumplex(
        at(None, None), said
    )


def test_on_faces_of_ferplus(mini, ferplus, tmp_path: Path):
    """Units from the model's own head and the circumplex points of the votes, both with noise: made, not rated."""
    found = [s for s, _ in zip(read(ferplus, split="validation"), range(700), strict=False)]
    shares = [ferplus_target(s.votes, "probability") for s in found]
    kept = [i for i, row in enumerate(shares) if isinstance(row, dict)]
    from emoreason.media.images import open_picture

    encoder, reader = mini.reader.zeroshot.encoder, mini.reader
    seen = encoder.encode_faces([open_picture(found[i].image).image for i in kept])
    random = np.random.default_rng(0)
    own = dict(zip(encoder.unit_codes, seen.units.T, strict=True))
    noisy = {code: np.clip(own[code] + random.normal(0, 0.1, len(kept)), 0, 1) for code in ("12", "25", "4")}
    points = [valence_arousal(shares[i]) for i in kept]
    given = [
        replace(found[i], image=b"", units={code: float(values[row]) for code, values in noisy.items()},
                valence=float(np.clip(points[row][0] + random.normal(0, 0.1), -1, 1)),
                arousal=float(np.clip(points[row][1] + random.normal(0, 0.1), -1, 1)))
        for row, i in enumerate(kept)
    ]  # fmt: skip
    order = random.permutation(len(kept))
    parts = (order[:400], order[400:500], order[500:])
    labels = mini.default_labels
    said = [dict(zip(labels, map(float, row), strict=True)) for row in reader.distribution(seen, labels).probabilities]
    metrics = fit_measures(given, seen.embedding, parts, tmp_path, 0, distributions=said, base_units=own)
    assert metrics is not None
    for name in ("valence", "arousal"):
        assert metrics[name]["trained"]["ccc"] > 0.3 > metrics[name]["constant"]["ccc"]
        assert metrics[name]["derived"]["ccc"] > 0.3
    assert all(row["trained"]["auc"] > 0.8 for row in metrics["action_units"].values())
    assert all(row["base"]["auc"] > 0.9 for row in metrics["action_units"].values())  # it made them
