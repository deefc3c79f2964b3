"""The built-in texts: nothing in them may be false, whatever the sheet and the question."""

import json
import random
import re
from dataclasses import replace

import pytest

from emoreason.core.messages import IMAGE
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.explanations import reading_problems, seen_problems, weighing_problems
from emoreason.explain.check.policy import POLICY_KINDS
from emoreason.explain.check.statements import View, problems_of
from emoreason.explain.prompts import load_prompts
from emoreason.explain.read.claims import mentions
from emoreason.explain.read.sections import stated_label
from emoreason.explain.sheet import Placed, Reasoned, Sheet
from emoreason.explain.write.answers import answer
from emoreason.explain.write.asked import Asked
from emoreason.explain.write.explanation import clause, seen, write
from emoreason.explain.write.phrases import load_phrases
from emoreason.explain.write.wording import denial, noun
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.emotions import LABEL_SETS
from emoreason.knowledge.facs import ACTION_UNITS, BANDS, PLAIN_NAMES, SIDED, SURE
from emoreason.train.text.describe import Plan, write_conversation
from emoreason.train.text.dialogues import ask

MINI = ("1", "2", "4", "5", "6", "7", "9", "10", "12", "14", "15", "17", "18", "20", "24", "25", "26", "27", "43")
EIGHT = LABEL_SETS["ferplus8"].labels
KNOWN = tuple(dict.fromkeys(entry.labels for entry in LABEL_SETS.values()))
OWN = (("bored", "engaged", "confused"), ("very tired", "open", "raised"), ("calm", "angry"))
HIDDEN = {"mouth": ("mouth", "chin", "jaw", "cheeks", "nose"), "eyes": ("eyes", "brows")}
REASONS = (
    "the best label has 41%, below the 68% that was asked for",
    "the picture is almost even: there is nothing to read",
    "the face looks like none of the trained labels",
    "",
)
SLIP = re.compile(r"[,;:.]\s*[,;:.|]|[|{}\[\]^]|\b(\w+) \1\b|\ba [aeio]|\ban [^aeiou]|  ")


def made(rng: random.Random) -> Sheet:
    """A sheet as faces give them, and as they hardly do."""
    labels = rng.choice([EIGHT, EIGHT, rng.choice(KNOWN), rng.choice(OWN)])
    masses = [rng.random() ** rng.choice((1, 6)) + 0.001 for _ in labels]
    covered = rng.choice(((), (), (), ("mouth",), ("eyes",), ("eyes", "mouth")))
    codes = rng.choice((MINI, MINI, tuple(ACTION_UNITS)))
    codes = tuple(code for code in codes if not any(ACTION_UNITS[code].region in HIDDEN[area] for area in covered))
    there = rng.sample(codes, min(len(codes), rng.choice((0, 0, 1, 2, 3, 4, 6))))
    low = rng.choice((0.09, 0.3))
    units = {code: rng.uniform(SURE, 1) if code in there else rng.uniform(0, low) for code in codes}
    units = units if rng.random() > 0.05 else {}
    abstained = not units or rng.random() < 0.15
    notes = (f"not validated: no data checks {labels[0]}",) if labels in OWN and rng.random() < 0.6 else ()
    return Sheet(units, {label: mass / sum(masses) for label, mass in zip(labels, masses, strict=True)},
                 rng.random() < 0.7, abstained, rng.choice(REASONS) if abstained else "", rng.random() < 0.1, notes,
                 {code: (rng.random(), rng.random()) for code in units if code in SIDED and rng.random() < 0.4},
                 covered, rng.choice((None, 3.0, -44.0)), rng.uniform(-1, 1), rng.uniform(-1, 1))  # fmt: skip


def face(label: str = "happiness", p: float = 0.8, **units: float) -> Sheet:
    shares = dict.fromkeys(EIGHT, (1 - p) / 7) | {label: p}
    return Sheet(
        dict.fromkeys(MINI, 0.0) | {code[2:]: x for code, x in units.items()}, shares, valence=0.5, arousal=0.2
    )


SMILE = face(au12=0.7, au25=0.5)


def reply(question: str, *sheets: Sheet, about: tuple[int, ...] = (0,), seed: int = 0) -> str:
    places = ("",) if len(sheets) == 1 else ("left", "right")
    faces = [Placed(sheet, i + 1, place) for i, (sheet, place) in enumerate(zip(sheets, places, strict=True))]
    return answer(question, View(faces, about), random.Random(seed))


# ---- explanations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", range(5))
def test_an_explanation_says_all_that_it_must_and_nothing_false(batch):
    for n in range(80):
        rng = random.Random(f"{batch}/{n}")
        sheet = made(rng)
        own = Reasoned({label: rng.random() for label in sheet.labels}) if rng.random() < 0.5 else None
        parts = write(sheet, own, rng)
        view = View([Placed(sheet)])
        assert not problems_of(parts.short, view), (parts, problems_of(parts.short, view))
        assert not SLIP.search(parts.short), parts
        assert len(parts.short.split()) <= 125, parts
        if not sheet.units:
            assert parts.reading and not parts.seen and not parts.weighing
            continue
        found = mentions(parts.seen)
        assert {m.action_unit: m.band for m in found if m.present} == {unit.code: unit.band for unit in sheet.named}
        assert {m.action_unit for m in found if not m.present} <= set(sheet.absent), parts.seen
        assert all(m.side in (None, sheet.stronger_side(m.action_unit)) for m in found), parts.seen
        assert not seen_problems(parts.seen, sheet), (parts.seen, seen_problems(parts.seen, sheet))
        assert stated_label(parts.reading, sheet.labels) == (None if sheet.abstained else sheet.label), parts.reading
        assert not reading_problems(parts.reading, sheet) and not weighing_problems(parts.weighing, sheet), parts


@pytest.mark.parametrize("code", ACTION_UNITS)
def test_every_unit_can_be_said_denied_and_named(code):
    for band, lower in BANDS:
        if lower < SURE:
            continue
        sheet = Sheet({code: lower + 0.01}, {"fear": 1.0})
        for seed in range(12):
            said = clause(sheet, code, random.Random(seed))
            assert [(m.action_unit, m.band, m.present) for m in mentions(said)] == [(code, band, True)], said
            assert not leaks(said), said
    assert [(m.action_unit, m.present) for m in mentions(denial(code))] == [(code, False)]
    assert [(m.action_unit, m.band, m.present) for m in mentions(f"It needs {noun(code)}.")] == [(code, None, True)]


def test_what_is_seen_does_not_depend_on_the_label():
    for seed in range(20):
        sheet = replace(made(random.Random(seed)), probabilities={"fear": 0.9, "anger": 0.1})
        turned = replace(sheet, probabilities={"fear": 0.2, "anger": 0.8}, abstained=False)
        assert seen(sheet, random.Random(seed)) == seen(turned, random.Random(seed))


def test_a_disagreement_and_the_worth_of_the_number_are_said():
    for seed in range(10):
        rng = random.Random(seed)
        assert "fear" in write(SMILE, Reasoned({"happiness": 0.2, "fear": 0.8}), rng).weighing
        assert "estimate" in write(replace(SMILE, calibrated=False), None, rng).weighing
        assert "eyes" in write(replace(SMILE, covered=("eyes",)), None, rng).weighing
        assert "turned" in write(replace(SMILE, yaw=50.0), None, rng).weighing
        own = Sheet({"12": 0.7}, {"bored": 0.6, "engaged": 0.4}, notes=("not validated: no data checks bored",))
        assert '"bored"' in write(own, None, rng).reading and "checked" in write(own, None, rng).weighing


def test_texts_are_not_alike():
    texts = [write(SMILE, None, random.Random(seed)) for seed in range(200)]
    assert len({text.short for text in texts}) > 190
    assert len({text.reading for text in texts}) >= 5


# ---- answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", load_phrases("answers")["examples"])
def test_every_answer_is_true_and_short(kind):
    for n in range(12):
        rng = random.Random(f"{kind}/{n}")
        sheets = [made(rng) for _ in range(rng.choice((1, 1, 2, 3)))]
        places = {1: ("",), 2: ("left", "right"), 3: ("left", "middle", "right")}[len(sheets)]
        faces = [Placed(sheet, i + 1, place) for i, (sheet, place) in enumerate(zip(sheets, places, strict=True))]
        about = rng.choice([(0,), (len(faces) - 1,), tuple(range(len(faces)))])
        question = ask(rng.choice(load_phrases("answers")["examples"][kind]), sheets[about[0]], rng)
        said = answer(question, View(faces, about), rng)
        assert not check_answer(said, question, View(faces, about)), (question, said)
        assert 1 <= len(said.split()) <= 45 and not SLIP.search(said), said
        assert not re.search(r"\{|\bNone\b", said)


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Is she smiling?", r"Yes"),
        ("Are the brows lowered?", r"No\b.*brows are not"),
        ("Is it fear?", r"No\b.*[Ff]ear"),
        ("Is he happy?", r"Yes\b.*happiness"),
        ("why not anger?", r"[Aa]nger.*(lowered|tightened|pressed)"),
        ("No, that's fear.", r"happiness"),
        ("You are wrong.", r"stay with happiness"),
        ("how sure are you", r"80 %"),
        ("How likely is sadness?", r"[Ss]adness"),
        ("What does AU 12 mean?", r"lip corner puller.*mouth"),
        ("Describe the mouth.", r"mouth corners|corners of the mouth"),
        ("How many people are there?", r"one face"),
        ("one word please", r"^Happy\.$"),
        ("alt text", r"looking happy"),
        ("Rate the smile from 1 to 10", r"6"),
        ("Is she bored?", r"not among|not compare"),
        ("Is he wearing glasses?", r"measure"),
        ("Thanks!", r"welcome|Glad"),
        ("Do you upload my photo?", r"your (own )?computer"),
        ("valence?", r"\+0\.5"),
        ("Ist er traurig oder nicht?", r"^\(I answer in English\.\)"),
        ("asdf qwer", r"[Hh]app"),
    ],
)
def test_common_questions(question, expected):
    for seed in range(5):
        said = reply(question, SMILE, seed=seed)
        assert re.search(expected, said), said
        assert not check_answer(said, question, View([Placed(SMILE)])), said


def test_several_faces():
    angry = face("anger", au4=0.9)
    assert "left" in reply("Who smiles most?", SMILE, angry, about=(0, 1))
    assert "right face" in reply("Who is angriest?", SMILE, angry, about=(0, 1))
    assert reply("Do they show the same expression?", SMILE, angry, about=(0, 1)).startswith("No")
    assert reply("Is anyone sad?", SMILE, angry, about=(0, 1)).startswith("No")
    assert "two faces" in reply("How many faces?", SMILE, angry)
    assert "right face" in reply("Is he lying?", SMILE, angry, about=(1,))


def test_an_unclear_movement_is_neither_claimed_nor_denied():
    unsure = face(au12=0.25)
    for seed in range(5):
        assert reply("Is he smiling?", unsure, seed=seed).startswith("Not clear")


def test_every_policy_kind_and_every_case_has_its_words():
    texts = load_phrases("answers")
    assert set(POLICY_KINDS) <= texts.keys()
    asked = Asked("x", View([Placed(SMILE)]), random.Random(0))
    for case, need, pattern in texts["cases"]:
        assert re.compile(pattern) and isinstance(asked.has(need), bool)
        reply(case, SMILE)


# ---- training texts --------------------------------------------------------------------------------------------------


def test_a_training_conversation_follows_the_steps_of_the_explainer():
    script = load_prompts()
    for seed in range(20):
        sheet = replace(made(random.Random(seed)), abstained=False)
        sheet = replace(sheet, units={code: x for code, x in sheet.units.items() if code in PLAIN_NAMES})
        votes = {sheet.label: 1.0}
        talk = write_conversation(f"face-{seed}", sheet, votes, "x.png", Plan(turns=3, seed=seed))
        json.dumps(talk.evidence)
        assert talk.messages[0].content.startswith(IMAGE) and talk.evidence["votes"] == votes
        verdict = talk.evidence["verdict_message"]
        assert talk.messages[verdict].content == sheet.label
        assert [message.role for message in talk.messages] == ["user", "assistant"] * (len(talk.messages) // 2)
        assert talk.messages[verdict - 1].content.endswith(script.verdict)
        if sheet.units:
            assert len(talk.messages) == 14 and verdict == 3
            assert all(message.content for message in talk.messages)
