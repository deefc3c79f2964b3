"""The parser of sections and conclusions, and the checks of an explanation against its sheet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emoreason.explain.backends.parts import unread
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.explanations import check, reading_problems, seen_problems, weighing_problems
from emoreason.explain.check.statements import View
from emoreason.explain.read.sections import Sections, parse, stated_confidence, stated_label
from emoreason.explain.sheet import Placed, Sheet
from emoreason.knowledge.emotions import LABEL_SETS

LABELS = LABEL_SETS["ferplus8"].labels
ABC = Sections("The brows are lowered.", "This speaks for it.", "The face shows anger.")
A, B, C = ABC.observations, ABC.interpretation, ABC.conclusion


# ---- sections --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"Key observations: {A}\nOverall emotional interpretation: {B}\nConclusion: {C}",
        f"**Key Observations:** {A}\n\n**Overall Emotional Interpretation:** {B}\n\n**Conclusion:** {C}",
        f"**Key Observations**: {A}\n**Overall Emotional Interpretation**: {B}\n**Conclusion**: {C}\n\n---\n",
        f"### 1. Key Observations\n{A}\n\n### 2. Overall Emotional Interpretation\n{B}\n\n### 3. Conclusion\n{C}",
        f"(1) Key Observations of the Face: {A}\n(2) Overall Emotional Interpretation: {B}\n(3) Conclusion: {C}",
        f"(1) Key Observations of the Face: {A} (2) Overall Emotional Interpretation: {B} (3) Conclusion: {C}",
        f"Key observations - {A}\nOverall emotional interpretation - {B}\nConclusion - {C}",
        f"Key observations: {A} Overall emotional interpretation: {B} Conclusion: {C}",
        f"**Key Observations:**  \n{A}  **Overall Emotional Interpretation:** {B} **Conclusion:** {C}",
        f"Sure:\n\n1. **Key Observations**:\n{A}\n2. **Interpretation**:\n{B}\n3. **Final Conclusion**:\n{C}",
        f"KEY OBSERVATIONS\n{A}\nOVERALL INTERPRETATION\n{B}\nCONCLUSION\n{C}",
        f"- **Key Observations**\n  {A}\r\n- **Emotional Interpretation**\n  {B}\n- **Conclusion**\n  {C}",
    ],
)
def test_headings_of_other_systems(text):
    assert parse(text) == ABC


@pytest.mark.parametrize(
    "text",
    [
        "",
        A,
        f"Key observations: {A}\nConclusion: {C}",
        f"Key observations:\nOverall emotional interpretation: {B}\nConclusion: {C}",
        f"Key observations: **\nOverall emotional interpretation: {B}\nConclusion: {C}",
        f"Conclusion: {C}\nKey observations: {A}\nOverall emotional interpretation: {B}",
        f"Key observations: {A}\nOverall emotional interpretation: {B}\nConclusion: {C}\nKey observations: {A}",
        f"The key observations are few.\nMy interpretation of it: {B}\nIn conclusion, {C}",
    ],
)
def test_what_is_not_three_sections_is_none(text):
    assert parse(text) is None


LINE = (
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r", exclude_categories=("Cc", "Cs")), min_size=1)
    .map(str.strip)
    .filter(lambda text: any(c.isalnum() for c in text) and text[0] not in "*_#" and "---" not in text)
)


@given(LINE, LINE, LINE)
def test_what_is_formatted_is_parsed(observations, interpretation, conclusion):
    sections = Sections(observations, interpretation, conclusion)
    assert parse(sections.text()) == sections


# ---- the label -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conclusion", "label"),
    [
        ("The face shows happiness.", "happiness"),
        ("She looks angrily at the camera.", "anger"),
        ("It is not fear but surprise.", "surprise"),
        ("Rather than fear, the face shows surprise.", "surprise"),
        ("Surprise, and not fear.", "surprise"),
        ("Neither fear nor anger, but surprise.", "surprise"),
        ("The face isn't sad, it's neutral.", "neutral"),
        ("Fear is unlikely; anger fits best.", "anger"),
        ("A depiction of sadness, devoid of anger or disgust.", "sadness"),
        ("The expression is neutral; no emotion is evident.", "neutral"),
        ("Not only happy but also surprised.", "happiness"),
        ("The face shows happiness, with sadness as the next candidate.", "happiness"),
        ("It is surprise, closely followed by fear.", "surprise"),
        ("The face most likely shows sadness, at 61%, with fear close behind at 50%.", "sadness"),
        ("Anger stays possible, at 40%, directly trailed by fear with 35%.", "anger"),
        ("At best, fear comes closest, at only 32%, and sadness next at 30%.", "fear"),
        ("Primarily happiness, with elements of surprise.", "happiness"),
        ("While there are hints of sadness, the primary cue is happiness.", "happiness"),
        ("Sadness is possible, but neutral is more likely.", "neutral"),
        ("Possibly anger.", "anger"),
        ("It more or less reads as fear.", "fear"),
        ("A joyful face.", "happiness"),
        ("Anger has 45% and fear has 30%.", "anger"),
        ("Anger, at 45%, while fear closely tails it.", "anger"),
        ("A mix of anger and disgust.", None),
        ("Anger has 45% and fear has 45%.", None),
        ("It could be fear or surprise.", None),
        ("It is not happiness.", None),
        ("I would not call it anger.", None),
        ("With sadness as the runner-up.", None),
        ("A fearless look.", None),
        ("Nothing can be said.", None),
        ("", None),
    ],
)
def test_the_stated_label(conclusion, label):
    assert stated_label(conclusion, LABELS) == label


@pytest.mark.parametrize("conclusion", ["It could be fear or surprise.", "Fear and surprise in equal parts."])
def test_never_the_first_in_the_list(conclusion):
    assert stated_label(conclusion, LABELS) is None
    assert stated_label(conclusion, LABELS[::-1]) is None


def test_labels_of_the_user():
    assert stated_label("She looks bored rather than engaged.", ["bored", "engaged"]) == "bored"
    assert stated_label("The face is glad.", ["joy", "sadness"]) == "joy"
    assert stated_label("The face is glad.", ["joy", "happiness"]) is None, "a synonym of both"
    assert stated_label("The face shows joy.", ["joy", "happiness"]) == "joy"
    assert stated_label("It is very negative.", ["negative", "very negative"]) == "very negative"


def test_the_stated_confidence():
    assert stated_confidence("The face shows anger, at 91%.") == 0.91
    assert stated_confidence("Anger (0.62), then fear (0.3).") == 0.62
    assert stated_confidence("Anger with 7.5 percent.") == 0.075
    assert stated_confidence("Surely anger, on face 2.") is None


# ---- the checks ------------------------------------------------------------------------------------------------------

SHEET = Sheet(
    {"12": 0.7, "25": 0.5, "4": 0.05, "1": 0.0, "2": 0.1, "26": 0.0},
    {"happiness": 0.8, "sadness": 0.15, "neutral": 0.05},
)


def written(observations: str, conclusion: str = "The face shows happiness, at 80%.") -> str:
    return Sections(observations, "The raised lip corners speak for it.", conclusion).text()


def test_a_true_text_is_ok():
    checks = check(
        written("The lip corners are clearly raised. The lips are slightly parted, the brows are not lowered."), SHEET
    )
    assert checks.ok and checks.problems() == []
    assert (checks.evidence_precision, checks.evidence_recall) == (1.0, 1.0)
    assert (checks.bands_stated, checks.band_errors, checks.label_agrees) == (2, 0, True)


@pytest.mark.parametrize(
    ("observations", "conclusion", "problem"),
    [
        ("The brows are lowered, the lip corners raised, the lips parted.", None,
         "The observations name the brow lowerer (AU 4), which was not measured above its threshold."),
        ("The lip corners are raised; the lips are not parted.", None,
         "The observations deny the lips part (AU 25), which was not measured as absent."),
        ("The lip corners are raised.", None, "The observations leave out the lips part (AU 25), which was measured."),
        ("The lip corners are slightly raised, the lips parted.", None,
         "The observations call the lip corner puller (AU 12) slight, but it was measured as marked."),
        ("The lip corners are happily raised, the lips parted.", None,
         'The observations use "happily": they must not name an emotion or a label, only what is seen.'),
        ("The lip corners are raised, the lips parted.", "The face shows sadness.",
         'The conclusion says "sadness", but the evidence says "happiness".'),
        ("The lip corners are raised, the lips parted.", "Hard to say.",
         'The conclusion does not settle on one of the asked labels; the evidence says "happiness".'),
    ],
)  # fmt: skip
def test_a_problem_is_said_in_a_sentence(observations, conclusion, problem):
    checks = check(written(observations, *([conclusion] if conclusion else [])), SHEET)
    assert not checks.ok
    assert problem in checks.problems()


def test_numbers_of_a_false_text():
    checks = check(written("The brows are lowered and the lip corners are faintly raised."), SHEET)
    assert checks.evidence_precision == 0.5 and checks.evidence_recall == 0.5
    assert checks.unsupported == ("4",) and checks.missing == ("25",) and checks.denied == ()
    assert (checks.bands_stated, checks.band_errors) == (1, 1)
    assert checks.bands_wrong == (("12", "trace", "marked"),)


def test_a_unit_that_was_not_measured_can_be_neither_named_nor_denied():
    for text in ("The nose is wrinkled.", "The nose is not wrinkled."):
        assert check(written(text), SHEET).unsupported == ("9",)


def test_a_text_without_sections():
    checks = check("A happy face.", SHEET)
    assert not checks.parsed and checks.evidence_precision is None and checks.label_agrees is None
    assert "three sections" in checks.problems()[0]


def test_an_abstention_makes_no_claim():
    sheet = Sheet(SHEET.units, SHEET.probabilities, abstained=True, why="the best label has 80%, below the 90%")
    seen = "The lip corners are raised, the lips parted."
    assert check(written(seen, "I leave the label open."), sheet).ok
    claimed = check(written(seen), sheet)
    assert 'The conclusion claims "happiness", but the evidence makes no claim.' in claimed.problems()


def test_of_a_face_that_was_not_read_nothing_is_said():
    sheet = Sheet({}, SHEET.probabilities, abstained=True, why="the picture is almost even")
    checks = unread(sheet, "x").checks
    assert checks.ok and checks.route == "written" and checks.evidence_recall is None
    assert not check(written("The lip corners are raised."), sheet).ok


@pytest.mark.parametrize(
    "said",
    [
        "The brows are lowered, which speaks against it.",
        "The face shows sadness.",
        "Happiness has 95%.",
        "Sadness is second with 5%.",  # that is neutral's
        "Deep down, the person is afraid.",
        "She feels happy.",
    ],
)
def test_the_other_sections_are_held_to_the_evidence_too(said):
    text = Sections("The lip corners are raised, the lips parted.", said, "The face shows happiness.").text()
    checks = check(text, SHEET)
    assert checks.statements and not checks.ok


def test_each_part_is_checked_for_itself():
    assert not seen_problems("The lip corners are clearly raised and the lips slightly parted.", SHEET)
    assert not reading_problems("It looks happy, though not for certain.", SHEET)
    assert not weighing_problems("The raised lip corners carry it; sadness is second with 15%.", SHEET)
    for part in (seen_problems, reading_problems, weighing_problems):
        assert part("", SHEET)
        assert "the text breaks off" in part("It looks happy and the lip corners are", SHEET)
        assert "a sentence is repeated" in part("It looks happy. It looks happy.", SHEET)
        assert any("words" in problem for problem in part("so " * 80 + "happy.", SHEET))


def test_the_dictionary_has_the_keys_of_the_contract():
    found = check(written("The lip corners are raised."), SHEET).to_dict()
    assert {"parsed", "leaks", "evidence_precision", "evidence_recall"} <= set(found)
    assert found["missing"] == ["25"] and found["ok"] is False and found["problems"]


# ---- answers ---------------------------------------------------------------------------------------------------------

REST = {"1": 0.05, "2": 0.05, "4": 0.0, "5": 0.0, "9": 0.0, "15": 0.0}
SMILE = Sheet(
    REST | {"12": 0.7, "25": 0.5, "6": 0.25}, {"happiness": 0.8, "neutral": 0.12, "anger": 0.05, "fear": 0.03}
)
ANGRY = Sheet(REST | {"4": 0.9, "12": 0.0}, {"happiness": 0.03, "neutral": 0.05, "anger": 0.9, "fear": 0.02})
ONE = View([Placed(SMILE)])
TWO = View([Placed(SMILE, 1, "left"), Placed(ANGRY, 2, "right")], (0, 1))
UNREAD = View([Placed(Sheet({}, SMILE.probabilities, abstained=True, why="the picture is almost even"))])
NOT_THERE = View([Placed(SMILE)], missing=True)


@pytest.mark.parametrize(
    ("view", "question", "answer"),
    [
        (ONE, "Is she smiling?", "Yes, the lip corners are clearly raised."),
        (ONE, "Are the brows lowered?", "No, the brows are not lowered."),
        (ONE, "Are the cheeks raised?", "Not clear: the lift of the cheeks is too faint to tell."),
        (ONE, "How sure are you?", "Happiness gets 80%, neutral 12%."),
        (ONE, "Why not anger?", "Anger would need lowered brows, and the brows are not lowered."),
        (ONE, "What does AU 4 mean?", "AU 4 is the brow lowerer: it pulls the brows down and together."),
        (ONE, "Is he lying?", "That cannot be seen in a face."),
        (ONE, "How old is she?", "I do not guess ages."),
        (ONE, "How many faces are there?", "I see one face."),
        (TWO, "Compare them.", "The left face looks happy, the right one angry."),
        (TWO, "Who lowers the brows?", "The right face: its brows are strongly lowered."),
        (UNREAD, "What does it show?", "I cannot read this face: the picture is almost even."),
        (NOT_THERE, "And the man behind her?", "There is only one face in this picture."),
    ],
)
def test_a_true_answer_passes(view, question, answer):
    assert check_answer(answer, question, view) == []


@pytest.mark.parametrize(
    ("view", "question", "answer"),
    [
        (ONE, "Is she smiling?", "No."),
        (ONE, "Are the brows lowered?", "Yes, the brows are lowered."),
        (ONE, "Are the brows lowered?", "Yes."),
        (ONE, "Are the cheeks raised?", "Yes, the cheeks are raised."),  # not clear
        (ONE, "Describe the mouth.", "The lip corners are slightly raised."),
        (ONE, "Describe the nose.", "The nose is wrinkled."),
        (ONE, "What does it show?", "The face shows anger."),
        (ONE, "Is it anger?", "Yes."),
        (ONE, "How sure are you?", "Happiness gets 95%."),
        (ONE, "How likely is anger?", "Anger has 12%."),  # that is neutral's
        (ONE, "Is he lying?", "Yes, he is lying."),
        (ONE, "How old is she?", "She is about 30 years old."),
        (ONE, "What does he feel?", "He feels happy."),
        (ONE, "Is she pretty?", "She is pretty."),
        (ONE, "How many faces are there?", "I see two faces."),
        (ONE, "Why?", ""),
        (ONE, "Why?", "Because the lip corners are raised and the lips are"),
        (ONE, "Why?", "The lip corners of this face are raised, the lip corners of this face are raised."),
        (ONE, "Why?", "Well, " * 90 + "so."),
        (TWO, "Who smiles?", "The right face: its lip corners are clearly raised."),
        (TWO, "And the left one?", "The left one lowers the brows strongly."),
        (UNREAD, "What does it show?", "The lip corners are raised."),
        (UNREAD, "What does it show?", "It looks happy."),
        (NOT_THERE, "And the man behind her?", "The face shows happiness."),
    ],
)
def test_a_false_answer_is_told(view, question, answer):
    assert check_answer(answer, question, view)
