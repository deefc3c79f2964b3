"""The report as a whole: what must hold for any predictions."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.core.errors import EmoreasonError
from emoreason.core.files import write_atomically
from emoreason.core.resources import resource
from emoreason.evaluate import Prediction, load_benchmark, plots, read_predictions, rescore
from emoreason.evaluate.metrics import FEW_ROWS
from emoreason.evaluate.report import markdown
from emoreason.evaluate.score import score

LABELS = ("neutral", "happiness", "sadness")


@st.composite
def rows(draw):
    """Answers of every status, with and without probabilities, votes and groups."""
    n = draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    made = []
    for i in range(n):
        status = draw(st.sampled_from(["ok", "ok", "ok", "abstained", "no_face", "error"]))
        answered = status in ("ok", "abstained")
        p = random.dirichlet(np.ones(3)).round(2) if answered else []
        made.append(
            Prediction(
                id=str(i),
                status=status,
                label=draw(st.sampled_from([*LABELS, "bored", None])) if answered else None,
                probabilities=dict(zip(LABELS, p, strict=False)) if draw(st.booleans()) else {},
                target=draw(st.sampled_from(LABELS)),
                votes=dict(zip(LABELS, random.multinomial(10, [0.5, 0.3, 0.2]).tolist(), strict=True)),
                groups={"gender": draw(st.sampled_from(["a", "b", ""]))},
            )
        )
    return made


def scored(made: list[Prediction]) -> dict:
    return score(made, LABELS, lambda row: row.target, lambda row: row.votes)


def flat(value, path=""):
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{path}.{key}").items()}
    if isinstance(value, list):
        return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{path}.{i}").items()}
    return {path: value}


@settings(max_examples=40, deadline=None)
@given(rows())
def test_the_order_of_the_rows_has_no_say(made):
    order = np.random.default_rng(4).permutation(len(made))
    first, second = flat(scored(made)), flat(scored([made[i] for i in order]))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert second[key] == (pytest.approx(value, abs=1e-9) if isinstance(value, float) else value), key


@settings(max_examples=40, deadline=None)
@given(made=rows())
def test_every_report_is_json_counts_add_up_and_lines_survive_a_file(made, tmp_path_factory):
    report = scored(made)
    json.dumps(report, allow_nan=False)
    assert report["n"] == len(made) == report["n_scored"] + report["n_failed"]
    assert report["n_failed"] == report["n_no_face"] + report["n_error"] + report["n_unparsable"]
    assert sum(c["support"] for c in report["per_class"].values()) == len(made)
    assert report["majority"]["accuracy"] >= 1 / 3 - 1e-9
    path = tmp_path_factory.mktemp("rows") / "predictions.jsonl"
    path.write_text("".join(row.to_json() + "\n" for row in made))
    assert list(read_predictions(path)) == made


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(LABELS), min_size=1, max_size=40))
def test_a_perfect_predictor(targets):
    votes = [{t: 10.0} for t in targets]
    made = [
        Prediction(str(i), "ok", t, {t: 1.0}, target=t, votes=v)
        for i, (t, v) in enumerate(zip(targets, votes, strict=True))
    ]
    report = scored(made)
    for figure in (report[key] for key in ("accuracy", "uar", "macro_f1")):
        assert figure["value"] == figure["high"] == 1
        assert (figure["low"] < 1) == (len(made) < FEW_ROWS)  # a few right answers do not say that all will be
    zero = ("ece", "ece_adaptive", "brier", "nll", "kl", "js", "aurc")
    assert {key: report[key] for key in zero} == pytest.approx(dict.fromkeys(zero, 0))
    assert report["top2_hit"] == 1 and report["selective"]["accuracy"] == 1


def test_failures_are_wrong_and_lower_every_score():
    good = [Prediction(str(i), "ok", "happiness", target="happiness") for i in range(3)]
    for lost in (Prediction("x", "no_face"), Prediction("x", "error"), Prediction("x", "ok", "bored")):
        report = scored([*good, Prediction(**{**lost.__dict__, "target": "neutral"})])
        assert report["accuracy"]["value"] == 0.75 and report["uar"]["value"] == 0.5
        assert report["n_failed"] == 1 and report["per_class"]["neutral"]["recall"] == 0
        assert report["confusion"]["counts"][0] == [0, 0, 0] and report["confusion"]["no_answer"] == [1, 0, 0]


def test_an_absent_class_is_left_out_of_the_mean_and_shown_as_undefined():
    report = scored([Prediction("1", "ok", "happiness", target="happiness")])
    assert report["uar"]["value"] == 1 and report["per_class"]["sadness"]["recall"] is None


@pytest.mark.parametrize("p", [{"neutral": float("nan")}, {"neutral": 0.4}, {"neutral": 1.5, "sadness": -0.5}, {}])
def test_numbers_that_are_no_distribution_are_counted_as_missing(p):
    report = scored([Prediction("1", "ok", "neutral", p, target="neutral")])
    assert report["n_probabilities"] == 0 and report["ece"] is None and report["accuracy"]["value"] == 1


def test_small_groups_enter_no_gap():
    def people(group: str, n: int, right: int) -> list[Prediction]:
        answers = ["neutral"] * right + ["sadness"] * (n - right)
        return [
            Prediction(f"{group}{i}", "ok", a, target="neutral", groups={"age_band": group})
            for i, a in enumerate(answers)
        ]

    report = scored(people("20-39", 40, 30) + people("40-69", 40, 20) + people("70+", 4, 0))["groups"]["age_band"]
    assert report["uar_gap"] == pytest.approx(0.25) and set(report["values"]) == {"20-39", "40-69", "70+"}
    subjects = [Prediction(str(i), "ok", "neutral", target="neutral", groups={"subject": str(i)}) for i in range(40)]
    assert scored(subjects)["groups"] == {}


def test_nothing_to_score_says_what_to_do():
    with pytest.raises(EmoreasonError, match="none of the 1 samples counts"):
        scored([Prediction("1", "ok", "neutral")])


def test_a_status_that_does_not_exist():
    with pytest.raises(EmoreasonError, match="no_face"):
        Prediction("1", "fine")


def test_a_broken_line_is_named(tmp_path: Path):
    path = tmp_path / "predictions.jsonl"
    path.write_text('{"id": "1"}\n{"id": 2, "colour": "red"}\n')
    with pytest.raises(EmoreasonError, match="line 2"):
        list(read_predictions(path))


def full_report(tmp_path: Path, labels: tuple[str, ...], n: int) -> dict:
    random = np.random.default_rng(0)
    path = tmp_path / "predictions.jsonl"
    with path.open("w") as file:
        for i in range(n):
            p = dict(zip(labels, random.dirichlet(np.ones(len(labels))).tolist(), strict=True))
            row = Prediction(str(i), "ok", max(p, key=p.__getitem__), p, target=labels[i % len(labels)])
            file.write(row.to_json() + "\n")
    return rescore(path, load_benchmark("folder"))


@pytest.mark.parametrize(("labels", "n"), [(("yes", "no"), 3), (tuple("abcdefghijk"), 60), (("one", "two"), 1)])
def test_the_pictures_of_unusual_reports(tmp_path: Path, labels: tuple[str, ...], n: int):
    report = full_report(tmp_path, labels, n)
    for draw in (plots.confusion, plots.reliability, plots.risk_coverage):
        assert draw(report).startswith(b"\x89PNG")


@pytest.mark.filterwarnings("error")
def test_labels_of_any_length_and_script_are_drawn(tmp_path: Path):
    from PIL import Image

    sizes = []
    for word in (
        "怒り",
        "a label that goes on and on, longer than anybody would want to read in such a picture",
    ):
        with Image.open(io.BytesIO(plots.confusion(full_report(tmp_path, ("yes", word), 20)))) as picture:
            sizes.append(picture.width)
    assert sizes[1] < 2 * sizes[0]


def test_our_line_stands_between_the_published_ones(tmp_path: Path):
    anchors = [{"system": s, "accuracy": a, "uar": None, "regime": "r", "source": "s", "note": "doubt"} for s, a in
               (("best", 0.999), ("worst", 0.001))]  # fmt: skip
    report = full_report(tmp_path, ("yes", "no"), 20)
    text = markdown({**report, "model": "ours", "anchors": [{**a, "protocol": None, "split": None} for a in anchors]})
    lines = [line for line in text.splitlines() if re.match(r"\| (best|worst|\*\*ours\*\*)", line)]
    assert [line.split("|")[1].strip() for line in lines] == ["best", "**ours**", "worst"]
    assert "doubt" in lines[0] and "not stated" in lines[0]


def test_every_key_of_the_report_is_described(tmp_path: Path):
    described = set(re.findall(r"`([a-z0-9_]+)`", (resource("docs") / "evaluation.md").read_text()))
    report = full_report(tmp_path, ("yes", "no"), 20)
    assert set(report) <= described, set(report) - described


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "a", "text is no bytes")  # type: ignore[arg-type]
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_missing_resource_says_where_it_was_looked_for():
    with pytest.raises(EmoreasonError, match="_resources"):
        resource("eval/nothing.yaml")
