"""The model card says what the reports say, which belong to the shipped weights and can be measured again."""

import json
import sys
from pathlib import Path

import pytest

from emoreason.models.bundle import bundles

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "eval" / "results" / "mini"
REPORTS = sorted(RESULTS.glob("*/report.json"))


def test_the_card_is_the_one_that_the_reports_give(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "eval"))
    import model_card

    assert (ROOT / "model_cards" / "mini.md").read_text() == model_card.card()
    sys.modules.pop("model_card")


def test_the_reports_were_made_with_the_shipped_weights():
    assert len(REPORTS) == 14  # four protocols at three points, wild faces, robustness
    for path in REPORTS:
        report = json.loads(path.read_text())
        assert report["model_hash"] == bundles()["mini"].spec["sha256"][:12], path
        if path.parent.name not in ("wild-photo", "robustness"):
            assert report["split"] == "validation" and report["limit"] is None and report["finished"]
    for name in ("units_by_eye", "words", "landmarks"):
        report = json.loads((RESULTS / f"{name}.json").read_text())
        assert report["revision"] == bundles()["mini"].spec["sha256"][:12], name


def test_the_readme_quotes_the_reports():
    text = (ROOT / "README.md").read_text()
    for point in ("photo", "accurate", "balanced"):
        report = json.loads((RESULTS / f"majority-{point}" / "report.json").read_text())
        for key in ("accuracy", "uar"):
            assert f"{100 * report[key]['value']:.1f}" in text, (point, key)


def test_measuring_again_gives_the_card(ferplus, mini, tmp_path):
    """A tenth of the validation faces, the same ones: every answer of the stored run comes out again."""
    from emoreason.data import read
    from emoreason.evaluate.predict import predictor

    stored = {}
    for line in (RESULTS / "majority-photo" / "predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        stored[row["id"]] = row
    samples = [s for s in read(ferplus, split="validation") if s.id in stored][::10]
    again = list(predictor(mini, detect=False, batch_size=128)(samples, mini.default_labels))
    same = [row.label == stored[row.id]["label"] for row in again]
    assert (
        len(again) > 300 and sum(same) / len(same) > 0.99
    )  # processors round differently: a tie may fall the other way
    for row in again:
        assert row.probabilities["happiness"] == pytest.approx(stored[row.id]["probabilities"]["happiness"], abs=0.05)


def test_the_battery_was_run_on_the_shipped_model():
    report = json.loads((ROOT / "eval" / "results" / "explanations" / "mini" / "report.json").read_text())
    assert report["explainer"] == "mini" and report["n"] >= 200
    assert report["revision"] == bundles()["mini"].spec["sha256"][:12]
    assert "/" not in report["explainer"] and not report["data"].startswith("/")
