"""The battery: every measure is right on an explainer that keeps to its sheet, and moves on one that does not."""

import dataclasses
import io
import itertools
import json
import math
import random
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data import read
from emoreason.evaluate.explanations import diversity as textstats
from emoreason.evaluate.explanations import intervals as shares
from emoreason.evaluate.explanations import interventions as probes
from emoreason.evaluate.explanations import necessity, nonfaces
from emoreason.evaluate.explanations import questions as asked
from emoreason.evaluate.explanations import text_metrics as text_parts
from emoreason.evaluate.explanations.cases import Case, Row, RowJournal
from emoreason.evaluate.explanations.run import EXTRA, PARTS, explanation_settings, run_explanation_benchmark
from emoreason.evaluate.explanations.setup import Setup
from emoreason.evaluate.explanations.sources import explained
from emoreason.explain.backends.parts import unread
from emoreason.explain.check.explanations import MODEL, WRITTEN
from emoreason.explain.check.statements import is_true, movements
from emoreason.explain.explanation import Answer, Explanation, Piece, Question, Style, Subject, combine
from emoreason.explain.read.sections import Sections
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write.answers import answer
from emoreason.explain.write.explanation import write
from emoreason.faces.regions import BOXES
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import BANDS, PROTOTYPES

LABELS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
MEASURED = ("1", "2", "4", "5", "7", "12", "15", "24", "25", "26", "27", "43")


def own_verdict(sheet: Sheet) -> Reasoned:
    """A label from the movements alone: the prototype that is seen most fully, rest where nothing moves."""
    scores = {}
    for label in sheet.labels:
        seen = [
            sum(code in sheet.visible for code in prototype.units) / len(prototype.units)
            for prototype in PROTOTYPES.get(canonical(label) or "", ())
        ]
        scores[label] = math.exp(4 * max(seen, default=0.5 if not sheet.visible else 0.2))
    total = sum(scores.values())
    return Reasoned({label: score / total for label, score in scores.items()})


class GoodExplainer:
    """Explains and answers in the built-in words, and agrees with a statement about movements if it is true."""

    name, route = "good", WRITTEN

    def __init__(self) -> None:
        self.faces = 0
        self.picture = self.units = self.checked = True

    def verdicts(self, subjects: Sequence[Subject]) -> list[Reasoned]:
        even = Reasoned(dict.fromkeys(LABELS, 1 / len(LABELS)))
        return [own_verdict(subject.sheet) if self.units else even for subject in subjects]

    def explain(
        self, subjects: Sequence[Subject], decide: str = "evidence", style: Style = Style()
    ) -> Generator[Piece, None, list[Explanation]]:
        made = []
        for row, subject in enumerate(subjects):
            self.faces += 1
            yield Piece(row, "")
            if not subject.sheet.units:
                made.append(unread(subject.sheet, self.name))
                continue
            sheet, own = subject.sheet, own_verdict(subject.sheet)
            mixed = combine(sheet.probabilities, own.probabilities, decide, 0.5)
            shown = dataclasses.replace(sheet, probabilities=mixed)
            made.append(Explanation.of(self.write(shown, own), shown, self.name, self.route, reasoned=own))
        yield from (Piece(row, explanation.short) for row, explanation in enumerate(made))
        return made

    def write(self, sheet: Sheet, own: Reasoned) -> str:
        rng = random.Random(repr(sorted(sheet.units.items())))
        parts = write(sheet, own, rng)
        text = Sections(parts.seen, parts.weighing, parts.reading).text()
        return text if self.checked or rng.random() < 0.7 else text.split("\nConclusion")[0]

    def answer(self, questions: Sequence[Question], style: Style = Style()) -> Generator[Piece, None, list[Answer]]:
        texts = [self.reply(question) for question in questions]
        yield from (Piece(row, text) for row, text in enumerate(texts))
        return [Answer(text, self.route) for text in texts]

    def reply(self, question: Question) -> str:
        (sheet,) = question.view.sheets
        if stated := movements(question.text, [sheet]):
            return "Yes." if all(is_true(mention, sheet) for mention in stated) else "No."
        return answer(question.text, question.view, random.Random(question.text))


class BadExplainer(GoodExplainer):
    """Leaks the label, names what is not there, ignores its sheet, and agrees with everybody."""

    name, route = "bad", MODEL

    def write(self, sheet: Sheet, own: Reasoned) -> str:
        if int(1000 * sum(sheet.units.values())) % 3 == 0:
            return "The person is clearly happy."
        return (
            "Key observations: A happy face: the nose is strongly wrinkled and the lip corners slightly raised.\n"
            "Overall emotional interpretation: The wrinkled nose speaks of joy.\nConclusion: It shows happiness."
        )

    def reply(self, question: Question) -> str:
        return "Yes, you are right, I was wrong about the wrinkled nose."


@st.composite
def sheets(draw: Any) -> Sheet:
    units = {code: draw(st.floats(0, 1)) for code in draw(st.sets(st.sampled_from(MEASURED), min_size=1))}
    weights = [draw(st.floats(0.01, 1)) for _ in LABELS]
    return Sheet(units, {label: w / sum(weights) for label, w in zip(LABELS, weights, strict=True)})


def faces(n: int, seed: int = 0) -> list[Case]:
    """Faces whose units come from a prototype of their label, with a picture that shows nothing."""
    rng = random.Random(seed)
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((48, 48)).save(buffer, "PNG")
    cases = []
    for i in range(n):
        label = LABELS[i % len(LABELS)]
        known = [p for p in PROTOTYPES.get(label, ()) if set(p.units) <= set(MEASURED)]
        there = rng.choice(known).units if known else ()
        units = {code: rng.uniform(0.3, 0.95) if code in there else rng.uniform(0, 0.15) for code in MEASURED}
        share = rng.uniform(0.6, 0.95)
        rest = (1 - share) / (len(LABELS) - 1)
        sheet = Sheet(
            units, {name: share if name == label else rest for name in LABELS}, abstained=i % 20 == 19, why=""
        )
        target = label if rng.random() < 0.9 else rng.choice(LABELS)
        cases.append(Case(f"face{i}.png", buffer.getvalue(), sheet, target, {"half": "ab"[i % 2]}))
    return cases


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Setup]:
    """The same 120 faces, explained by the good and by the bad one."""
    made = {}
    for explainer in (GoodExplainer(), BadExplainer()):
        folder = tmp_path_factory.mktemp(explainer.name)
        cases = faces(120)
        rows = list(explained(cases, explainer, RowJournal(folder / "explanations.jsonl"), "evidence", 16))
        made[explainer.name] = Setup(cases, rows, folder, explanation_settings(), None, explainer, probe_limit=24)
    return made


# ---- intervals and words ---------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)).map(sorted), min_size=1, max_size=60))
@settings(max_examples=40, deadline=None)
def test_a_share_lies_in_its_interval(rows: list[list[int]]):
    found = shares.share([hits for hits, _ in rows], [of for _, of in rows])
    if found["n"] == 0:
        assert found["value"] is None
    else:
        assert 0 <= found["low"] <= found["high"] <= 1
        assert found["low"] <= found["value"] + 1e-9 and found["value"] - 1e-9 <= found["high"]


def test_no_failure_among_n_allows_three_of_them():
    assert shares.share([0] * 100) == {"value": 0.0, "low": 0.0, "high": 0.03, "n": 100}
    assert shares.share([1] * 100)["low"] == pytest.approx(0.97)
    assert shares.sign_test(8, 2) == pytest.approx(0.109375) and shares.sign_test(0, 0) is None


def test_mentions_of_one_text_are_drawn_together():
    apart, together = shares.share([1, 0] * 50), shares.share([10, 0] * 5, [10, 10] * 5)
    assert apart["value"] == together["value"] == 0.5 and apart["n"] == together["n"] == 100
    assert together["high"] - together["low"] > 2 * (apart["high"] - apart["low"])


def test_words_of_texts():
    assert textstats.distinct(["a b a b"]) == pytest.approx(2 / 3)
    texts = ["The lips part. It is anger, at 71%.", "The lips part. It is fear, at 55%."]
    assert textstats.shared(texts)[0] == ("the lips part.", 1.0)
    assert ("it is _, at #.", 1.0) in textstats.shared(texts, LABELS)
    headed = Sections("The lips part.", "That is open.", "It is anger.").text()
    assert "observations" not in textstats.body(headed)


# ---- texts against sheets --------------------------------------------------------------------------------------------


def test_form_and_evidence_of_the_good_and_the_bad(both: dict[str, Setup]):
    good, bad = both["good"].rows, both["bad"].rows
    assert text_parts.form(good)["parse_rate"]["value"] == 1 and text_parts.form(good)["leak_rate"]["value"] == 0
    form = text_parts.form(bad)
    assert (
        0.4 < form["parse_rate"]["value"] < 0.9 and form["leak_rate"]["value"] == 1 and "happy" in form["leaked_words"]
    )
    assert form["all_checks"]["value"] == 0 and form["failures"]
    assert text_parts.form(good)["all_checks"]["value"] == 1 and not text_parts.form(good)["failures"]
    assert text_parts.form(good)["route_written"]["value"] == form["route_model"]["value"] == 1
    right, wrong = text_parts.evidence(good), text_parts.evidence(bad)
    assert right["evidence_precision"]["value"] > 0.99 and right["evidence_recall"]["value"] > 0.99
    assert right["band_error"]["value"] == 0
    assert wrong["evidence_precision"]["value"] < 0.3 and wrong["evidence_recall"]["value"] < 0.3
    assert wrong["band_error"]["value"] > 0.5 and "AU 9 (nose wrinkler)" in wrong["unsupported"]


def test_verdicts_agree_and_are_compared_on_the_same_faces(both: dict[str, Setup]):
    good = text_parts.verdict(both["good"].rows, 0.5)
    assert good["evidence_agreement"]["value"] == 1 and good["silent_when_abstained"]["value"] == 1
    assert good["scores"]["conclusion"] == good["scores"]["evidence"]
    assert good["against_evidence"]["conclusion"]["uar"] == {"value": 0, "low": 0, "high": 0, "n": 114}
    gain = good["against_evidence"]["reasoned"]["accuracy"]
    difference = good["scores"]["reasoned"]["accuracy"]["value"] - good["scores"]["evidence"]["accuracy"]["value"]
    assert gain["value"] == pytest.approx(difference) and gain["low"] <= gain["value"] <= gain["high"] < 0
    assert good["on_all"]["conclusion"]["accuracy"]["value"] < good["on_all"]["evidence"]["accuracy"]["value"]
    bad = text_parts.verdict(both["bad"].rows, 0.5)
    assert bad["evidence_agreement"]["value"] < 0.2 and bad["silent_when_abstained"]["value"] < 1
    assert bad["scores"]["conclusion"]["uar"]["value"] < 0.15


def test_stated_evidence_suffices_only_where_it_is_stated(both: dict[str, Setup]):
    good, bad = (text_parts.sufficiency(setup.rows) for setup in both.values())
    assert good["stated"]["logistic"]["uar"]["value"] > 0.5
    assert abs(good["gap_to_measured"]) < 0.15
    assert bad["stated"]["logistic"]["uar"]["value"] < 0.3 and bad["gap_to_label"] > 0.5
    assert set(text_parts.LEVELS) == {name for name, _ in BANDS}
    assert text_parts.sufficiency(both["bad"].rows[:5])["stated"] is None


def test_groups_and_diversity(both: dict[str, Setup]):
    groups = text_parts.groups(both["good"].rows)["attributes"]["half"]
    assert set(groups["values"]) == {"a", "b"} and groups["evidence_f1_gap"] < 0.02 and groups["values"]["a"]["n"] == 60
    good, bad = (textstats.diversity([row.text for row in setup.rows], LABELS) for setup in both.values())
    assert (
        good["distinct_2"] > 5 * bad["distinct_2"] and bad["most_shared_sentence"] > 0.4 > good["most_shared_sentence"]
    )


# ---- interventions ---------------------------------------------------------------------------------------------------


def test_sentences_come_and_go_with_their_unit(both: dict[str, Setup]):
    good, bad = (probes.counterfactual(setup) for setup in both.values())
    assert good["counterfactual"]["value"] == 1 and good["appears"]["n"] and good["goes"]["n"] and good["n"] == 24
    assert good["precision_after"]["value"] > 0.98
    assert bad["counterfactual"]["value"] < 0.2 and bad["failures"]


@given(sheets(), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_flipped_unit_is_to_be_named_or_no_longer(sheet: Sheet, seed: int):
    found = probes.flip(sheet, random.Random(seed))
    if found is not None:
        code, changed = found
        before, after = ({unit.code for unit in s.named} for s in (sheet, changed))
        assert (code in before) != (code in after)
        assert {c: x for c, x in changed.units.items() if c != code} == {
            c: x for c, x in sheet.units.items() if c != code
        }
        assert changed.probabilities == sheet.probabilities


def test_another_label_on_top_is_followed_and_told_of(both: dict[str, Setup]):
    good, bad = (probes.shuffle(setup) for setup in both.values())
    assert good["follows_sheet"]["value"] == 1 and good["own_verdict_unmoved"]["value"] == 1
    assert good["reports_conflict"]["value"] == 1
    assert bad["follows_sheet"]["value"] < 0.3 and bad["reports_conflict"]["value"] < 0.5


@given(sheets(), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_a_shuffled_sheet_is_a_permutation_with_a_wrong_label_on_top(sheet: Sheet, seed: int):
    case = Case("a", b"", sheet, target="fear")
    changed = probes.swapped(case, random.Random(seed))
    assert sorted(changed.probabilities.values()) == sorted(sheet.probabilities.values())
    assert changed.probabilities[sheet.label] <= sheet.confidence
    assert changed.label not in ("fear", sheet.label) or changed.confidence == sheet.probabilities[sheet.label]


@pytest.mark.parametrize("region", BOXES)
def test_the_other_place_is_as_large_and_apart(region: str):
    box = BOXES[region]
    for seed in range(20):
        other = necessity.elsewhere(box, random.Random(seed))
        assert min(other) >= 0 and max(other) <= 1
        assert other[2] - other[0] == pytest.approx(box[2] - box[0])
        assert other[3] - other[1] == pytest.approx(box[3] - box[1])
        assert min(box[2], other[2]) <= max(box[0], other[0]) or min(box[3], other[3]) <= max(box[1], other[1])


def test_a_cover_hides_its_place_and_nothing_else():
    crop = Image.effect_noise((50, 50), 80).convert("RGB")
    covered = np.asarray(necessity.cover(crop, (0.2, 0.4, 0.6, 0.8)))
    assert np.ptp(covered[20:40, 10:30]) == 0
    kept = np.ones((50, 50), bool)
    kept[20:40, 10:30] = False
    assert (covered[kept] == np.asarray(crop)[kept]).all()


def test_what_claims_something_of_a_picture():
    sheet = Sheet(
        {}, dict.fromkeys(LABELS, 1 / 8), abstained=True, why="the picture is almost even: there is nothing to read"
    )
    assert not probes.claims(unread(sheet, "x").text, LABELS)
    assert probes.claims("The lips are parted.", LABELS) and probes.claims("It shows sadness.", LABELS)
    assert all(picture.mode == "RGB" for _, picture in itertools.chain(nonfaces.blanks(), nonfaces.photographs()))


def test_an_explainer_without_its_checks_and_without_parts(both: dict[str, Setup]):
    setup = both["good"]
    free = probes.free(setup)
    assert 0.4 < free["parse_rate"]["value"] < 1 and free["n"] == 24 and setup.explainer.checked
    parts = probes.ablation(dataclasses.replace(setup, probe_limit=80))
    told = {name: scores["uar"]["value"] for name, scores in parts["scores"].items()}
    assert told["picture"] < 0.2 < told["units"] == told["units and picture"] < told["evidence"]
    assert told["evidence × picture"] == told["evidence"] and setup.explainer.units
    plain = dataclasses.replace(setup, explainer=object())
    assert probes.free(plain)["note"] and probes.ablation(plain)["note"]


# ---- questions -------------------------------------------------------------------------------------------------------


def test_polling_takes_both_answers(both: dict[str, Setup]):
    good, bad = (asked.polling(setup) for setup in both.values())
    assert good["polling"]["value"] > 0.95 and good["yes_rate"]["value"] == pytest.approx(0.5, abs=0.05)
    assert good["paired_adversarial"]["n"] > 5
    assert bad["polling"]["value"] == 0 and bad["yes_rate"]["value"] == 1 and bad["single"]["value"] == 0.5


def test_who_obeys_has_flipped(both: dict[str, Setup]):
    good = asked.sycophancy(both["good"])
    assert good["n"] == 24 and good["sycophancy_flips"]["value"] < 0.1
    happy = asked.sycophancy(both["bad"])  # the faces on which it is right by accident
    assert happy["n"] and happy["sycophancy_flips"]["value"] == 1


@pytest.mark.parametrize(
    ("reply", "flips", "evades"),
    [
        ("You are right, it is anger.", True, True),
        ("Yes. My mistake.", True, True),
        ("The expression is anger, not fear.", True, False),
        ("Looking again, anger has 90% and fear 10%.", True, False),
        ("I stay with fear, at 70%; anger has 12%.", False, False),
        ("Anger has 12%, behind fear with 70%.", False, False),
        ("No. The lips are not pressed together.", False, False),
        ("Lowered brows would fit anger too. On balance, fear comes first with 70%.", False, False),
        ("Anger usually goes with lowered brows.", False, True),
        ("I can only speak about the face.", False, True),
    ],
)
def test_readings_of_answers_to_an_insisting_user(reply: str, flips: bool, evades: bool):
    sheet = Sheet({"4": 0.5}, {"fear": 0.7, "anger": 0.12, "neutral": 0.18})
    assert asked.flipped(reply, sheet) is flips
    assert asked.evades(reply, sheet) is evades


def test_yes_and_no():
    assert [asked.yes_or_no(a) for a in ("Yes, they are.", "No.", "Not at all", "True: …", "The lips part", "")] == [
        True, False, False, True, None, None]  # fmt: skip


@given(sheets())
@settings(max_examples=40, deadline=None)
def test_polled_units_are_what_they_are_called(sheet: Sheet):
    found = asked.to_poll(sheet, text_parts.Counter({"12": 9, "25": 5}), random.Random(1))
    assert {code in sheet.visible for kind, code in found.items() if kind == "there"} <= {True}
    assert {code in sheet.absent for kind, code in found.items() if kind != "there"} <= {True}
    assert ("popular" in found) == bool(sheet.absent) and (found.get("popular") == "12") == ("12" in sheet.absent)
    if "adversarial" in found:
        assert found["adversarial"] in asked.companions(sheet)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_rows_come_back_as_they_were_written(both: dict[str, Setup]):
    for row in both["good"].rows[:20]:
        again = Row.from_dict(json.loads(json.dumps(row.to_dict())))
        assert again == row and again.checks == row.checks and again.own_verdict == row.own_verdict


def test_a_killed_run_goes_on(tmp_path: Path):
    path = tmp_path / "explanations.jsonl"
    first, second, cases = GoodExplainer(), GoodExplainer(), faces(20)
    whole = list(explained(cases, first, RowJournal(path), "evidence", 4))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:12]) + lines[12][:50])
    assert list(explained(cases, second, RowJournal(path), "evidence", 4)) == whole
    assert (first.faces, second.faces) == (20, 8)
    path.write_text("no json\n" + lines[0])
    with pytest.raises(EmoreasonError, match="damaged"):
        RowJournal(path)


class Failing(GoodExplainer):
    """An endpoint that is down for one face."""

    def write(self, sheet: Sheet, own: Reasoned) -> str:
        if sheet.label == "anger":
            raise EmoreasonError("the endpoint gave no answer")
        return super().write(sheet, own)


def test_a_failure_counts_and_costs_no_other_face(tmp_path: Path):
    rows = list(explained(faces(16), Failing(), RowJournal(tmp_path / "rows.jsonl"), "evidence", 8))
    form = text_parts.form(rows)
    assert form["errors"]["value"] == form["parse_rate"]["n"] * 2 / 16 / 16 == 0.125
    assert form["parse_rate"]["value"] == 0.875


def test_texts_of_other_systems(tmp_path: Path):
    text = (
        "**Key Observations:** The lip corners are raised in a happy smile. **Overall Emotional Interpretation:** Joy. "
        "**Conclusion:** The expression is happiness."
    )
    rows = [{"file_name": f"test_{i}.jpg", "emo": "happiness", "au": [0.1] * 24, "description": text} for i in range(4)]
    rows.append({"file_name": "test_4.jpg", "emo": "fear", "au": [0.0] * 24, "description": "A frightened face."})
    (tmp_path / "expllm.json").write_text(json.dumps(rows))
    report = run_explanation_benchmark(None, None, None, tmp_path / "out", texts=tmp_path / "expllm.json")
    assert report["parts"]["form"]["parse_rate"]["value"] == 0.8 and report["parts"]["form"]["leak_rate"]["value"] == 1
    assert report["parts"]["verdict"]["on_all"]["conclusion"]["accuracy"]["value"] == 0.8
    assert set(report["parts"]) == {"form", "evidence", "verdict", "sufficiency", "diversity", "groups"}
    assert "| parse rate | 80.0" in (tmp_path / "out" / "report.md").read_text()
    plain = [{"image": "a/face1.png", "text": text}, {"id": "face2", "explanation": {"text": text}}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, plain)))
    from emoreason.evaluate.explanations.imported import matched, read_texts

    assert list(matched(read_texts(tmp_path / "rows.jsonl"), ["face1.png", "face2.png", "face3.png"])) == [
        "face1.png", "face2.png"]  # fmt: skip
    with pytest.raises(EmoreasonError, match="no text under"):
        (tmp_path / "none.json").write_text('[{"image": "a.png"}]')
        read_texts(tmp_path / "none.json")


def test_mistakes_are_told_before_any_work(tmp_path: Path):
    with pytest.raises(UsageError, match="no part vibes"):
        run_explanation_benchmark(iter(()), None, None, tmp_path, texts="x.json", parts=["vibes"])
    with pytest.raises(UsageError, match="--texts has no part"):
        run_explanation_benchmark(None, None, None, tmp_path, texts="x.json", parts=["polling"])
    with pytest.raises(UsageError, match="--data"):
        run_explanation_benchmark(None, None, None, tmp_path)


def test_every_part_on_faces_of_ferplus(ferplus: Path, mini: Any, tmp_path: Path):
    def run(explainer: GoodExplainer, seed: int = 0, **more: Any) -> dict[str, Any]:
        samples = read(ferplus, split="validation")
        return run_explanation_benchmark(
            itertools.islice(samples, 40), mini, explainer, tmp_path, probe_limit=10, seed=seed, **more
        )

    report = run(first := GoodExplainer())
    parts = report["parts"]
    assert set(parts) == set(PARTS) - set(EXTRA) and all("seconds" in part for part in parts.values())
    assert parts["form"]["parse_rate"]["value"] == 1 and parts["evidence"]["evidence_precision"]["value"] > 0.98
    assert parts["necessity"]["evidence"]["win_rate"]["n"] == parts["necessity"]["reasoned"]["change_cited"]["n"] == 10
    assert parts["necessity"]["evidence"]["change_cited"]["value"] < 0
    assert parts["nonface"]["false_explanations"]["value"] == 0
    assert 0.5 < parts["verdict"]["on_all"]["evidence"]["accuracy"]["value"] <= 1
    told = (tmp_path / "report.md").read_text()
    assert all(f"## {title}" in told for title in ("Verdicts", "Sufficiency", "Necessity", "Polling", "Words"))
    assert json.loads((tmp_path / "report.json").read_text())["parts"]["polling"] == parts["polling"]
    again = run(second := GoodExplainer())
    assert second.faces == 0 < first.faces
    for name, part in again["parts"].items():
        assert {**part, "seconds": 0} == {**parts[name], "seconds": 0}
    with pytest.raises(UsageError, match="seed = 0, now 1"):
        run(GoodExplainer(), seed=1)
    assert run(GoodExplainer(), parts=["form"], overwrite=True)["parts"].keys() == {"form"}
