"""The hand-written training texts: what is read from finetune/text/, what multiplying may change, and the prompts."""

import random
import re
from collections.abc import Generator
from pathlib import Path

import pytest
from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import IMAGE
from emoreason.explain.backends.drafts import Draft
from emoreason.explain.backends.local import LocalExplainer
from emoreason.explain.backends.parts import Part
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.explanations import reading_problems, seen_problems, weighing_problems
from emoreason.explain.check.statements import View
from emoreason.explain.explanation import Question, Subject, consume
from emoreason.explain.explanation import Turn as Asked
from emoreason.explain.sheet import Sheet
from emoreason.train.recipes.smoke_texts import save_language
from emoreason.train.text.encoding import Coder
from emoreason.train.text.handwritten import (
    Scene,
    SceneFace,
    Text,
    Turn,
    careless,
    conversation,
    explanation,
    faces_of,
    mirror,
    multiply,
    read_scenes,
    read_texts,
)
from test_vlm import fresh

FOLDER = Path(__file__).resolve().parent.parent / "finetune" / "text"
REST = {"1": 0.0, "4": 0.0, "25": 0.0}
LEFT_SMILE = Sheet(
    REST | {"12": 0.7}, {"happiness": 0.8, "fear": 0.15, "anger": 0.05}, sides={"12": (0.8, 0.2)}, yaw=30.0
)
ANGRY = Sheet(REST | {"12": 0.0, "4": 0.9}, {"happiness": 0.03, "fear": 0.06, "anger": 0.91})
EXPLAINED = (
    "It looks happy.",
    "The lip corners are clearly raised, more on the left.",
    "Happiness gets 80 %, fear 15 %.",
)


def scene(*sheets: Sheet, chosen: int = 0, separate: bool = False) -> Scene:
    return Scene("t0", tuple(SceneFace(sheet, i) for i, sheet in enumerate(sheets)), chosen, separate)


def problems(scene: Scene, text: Text) -> list[str]:
    """What the checks say of the explanation and of every answer."""
    sheet, found = scene.faces[scene.chosen].sheet, []
    if text.explanation is not None:
        reading, seen, weighing = text.explanation
        found += [*seen_problems(seen, sheet), *reading_problems(reading, sheet), *weighing_problems(weighing, sheet)]
    for turn in text.turns:
        found += check_answer(turn.answer, turn.question, View(scene.placed, faces_of(turn, scene)))
    return found


# ---- more texts that are as true -------------------------------------------------------------------------------------


def test_multiplied_texts_stay_true():
    """A sample of the texts in use, each changed in a few ways: no statement becomes false by it."""
    scenes, texts = read_scenes(FOLDER / "scenes.jsonl"), read_texts(sorted(FOLDER.glob("texts_*.txt")))
    rng = random.Random(3)
    names = [name for name in rng.sample(sorted(texts), 80) if not problems(scenes[name], texts[name])]
    assert len(names) > 50
    changed = 0
    for name in names:
        for _ in range(3):
            other, text = multiply(scenes[name], texts[name], rng)
            assert not problems(other, text), (name, problems(other, text))
            changed += (other, text) != (scenes[name], texts[name])
    assert changed > 2 * len(names)


def test_a_mirrored_scene_swaps_all_that_has_a_side():
    turns = (Turn("left_right_face", "and the right one?", "The right face looks angry (91 %)."),
             Turn("numbered_sides", "Which side?", "The left corner of the mouth is higher."))  # fmt: skip
    before, text = scene(LEFT_SMILE, ANGRY), Text(EXPLAINED, turns)
    after, told = mirror(before, text)
    assert after.chosen == 1 and [face.row for face in after.faces] == [1, 0]
    assert after.faces[1].sheet.sides == {"12": (0.2, 0.8)} and after.faces[1].sheet.yaw == -30.0
    assert told.explanation[1] == "The lip corners are clearly raised, more on the right."
    assert [turn.question for turn in told.turns] == ["and the left one?", "Which side?"]
    assert told.turns[0].answer == "The left face looks angry (91 %)."
    assert told.turns[1].answer.startswith("The right corner")
    assert mirror(after, told) == (before, text)


@pytest.mark.parametrize(
    "answer",
    [
        "There is little left to say.",
        "That is right.",
        "Face 1 looks happy, on the left.",  # the numbers would change as well
        "The first one, on the left.",
    ],
)
def test_what_cannot_be_mirrored_stays(answer):
    before, text = scene(LEFT_SMILE, ANGRY), Text(EXPLAINED, (Turn("other", "Which?", answer),))
    assert mirror(before, text) == (before, text)


def test_separate_pictures_keep_their_order():
    before = scene(LEFT_SMILE, ANGRY, separate=True)
    after, told = mirror(before, Text(EXPLAINED, ()))
    assert after.chosen == 0 and [face.row for face in after.faces] == [0, 1]
    assert after.faces[0].sheet.sides == {"12": (0.2, 0.8)} and "right" in told.explanation[1]
    assert [face.place for face in after.placed] == ["picture 1", "picture 2"]


def test_shares_move_in_the_sheet_and_in_the_text():
    turn = Turn("numbers", "How sure are you?", "Happiness has 80 percent, fear 15%, anger 5 %; AU 12 is marked.")
    before, text = scene(LEFT_SMILE), Text(EXPLAINED, (turn,))
    moved = set()
    for seed in range(40):
        after, told = multiply(before, text, random.Random(seed))
        shares = after.faces[0].sheet.probabilities
        assert sum(shares.values()) == pytest.approx(1) and max(shares, key=shares.__getitem__) == "happiness"
        wanted = [round(100 * shares[label]) for label in ("happiness", "fear")]
        assert [int(number) for number in re.findall(r"(\d+) %", told.explanation[2])] == wanted
        answer = told.turns[0].answer
        assert [int(number) for number in re.findall(r"(\d+) ?(?:%|percent)", answer)] == [*wanted, 5]
        assert "AU 12" in answer, "only percentages move"
        moved.add(wanted[0])
    assert len(moved) > 3


def test_he_may_become_she_and_questions_become_careless():
    turn = Turn("why", "Why does he look like that, the man's brother?", "He raises his lip corners.")
    texts = {multiply(scene(LEFT_SMILE), Text(None, (turn,)), random.Random(seed))[1].turns[0] for seed in range(40)}
    answers = {text.answer for text in texts}
    assert answers == {"He raises his lip corners.", "She raises her lip corners."}
    assert len({careless("Are you sure about the brows?", random.Random(seed)) for seed in range(40)}) > 4
    assert all(careless("why", random.Random(seed)) for seed in range(40))


def test_a_follow_up_stays_behind_its_question():
    turns = tuple(Turn(kind, f"{i}?", "So.") for i, kind in enumerate(("why", "shorter", "sure", "pronoun", "brows")))
    for seed in range(30):
        _, told = multiply(scene(ANGRY), Text(None, turns), random.Random(seed))
        kinds = [turn.kind for turn in told.turns]
        assert kinds and all(kinds[kinds.index(late) - 1] == first for first, late in
                             (("why", "shorter"), ("sure", "pronoun")) if late in kinds)  # fmt: skip
        assert ("why" in kinds) == ("shorter" in kinds)


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_text_file_is_read_and_its_mistakes_are_told(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text(
        "@ t1\nE: It looks happy. || The lips part. || It fits.\n\nQ why: y?\nA: So.\n@ t2\nQ sure: Sure?\n"
    )
    texts = read_texts([path])
    assert texts["t1"] == Text(("It looks happy.", "The lips part.", "It fits."), (Turn("why", "y?", "So."),))
    assert texts["t2"].explanation is None and texts["t2"].turns[0].question == "Sure?"
    for line, said in (("E: one || two", "three parts"), ("B: what?", "starts with @")):
        path.write_text(f"@ t1\n{line}\n")
        with pytest.raises(EmoreasonError, match=f"texts.txt:2: .*{said}"):
            read_texts([path])


# ---- the prompts of training are the prompts of use ------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return fresh(save_language(tmp_path_factory.mktemp("gemma3")))


class Dictated(Draft):
    """A draft whose texts are given."""

    def dictate(self, *texts: str) -> "Dictated":
        self.texts = list(texts)
        return self

    def write(self, judge, fallback, temperature: float = 0.0) -> Generator[None, None, list[Part]]:
        part = Part(self.texts.pop(0), "model")
        yield
        self.tokens[0] += self.vlm.tokenizer.encode(f" {part.text}")
        self.outdated = True
        return [part]


def test_an_explanation_is_asked_for_as_in_training(tiny):
    explainer, face = LocalExplainer(tiny, "x"), Subject(LEFT_SMILE, Image.new("RGB", (48, 48), "grey"))
    reading, seen, weighing = EXPLAINED
    draft = Dictated(tiny, list(tiny.see([face.crop])), [0], explainer.line).dictate(seen, reading, weighing)
    explainer._draft = lambda subjects, style: draft
    made = consume(explainer.explain([face]))[0]
    taught = explanation(scene(LEFT_SMILE), Text(EXPLAINED, ()), "x.png", {made.reasoned.label: 1.0})
    tokens = Coder(tiny, 2000).conversation(taught).tokens
    assert list(tokens[1 + tiny.spec.grid**2 :]) == [*draft.tokens[0], explainer.line]
    assert made.short == " ".join(EXPLAINED)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("explained", [False, True])
def test_a_question_is_asked_as_in_training(tiny, separate, explained):
    turns = (Turn("why", "Why that?", "The lip corners are raised."),
             Turn("compare_all", "Compare them.", "One smiles."), Turn("sure", "How sure?", "80 %."))  # fmt: skip
    shown = scene(LEFT_SMILE, ANGRY, separate=separate)
    taught = conversation(shown, Text(EXPLAINED if explained else None, turns), "x.png").messages
    face = Subject(LEFT_SMILE, Image.new("RGB", (48, 48)))
    explainer = LocalExplainer(tiny, "x")
    made = None
    if explained:
        reading, seen, weighing = EXPLAINED
        draft = Dictated(tiny, list(tiny.see([face.crop])), [0], explainer.line).dictate(seen, reading, weighing)
        explainer._draft = lambda subjects, style: draft
        made = consume(explainer.explain([face]))[0]
    history = [Asked(turn.question, turn.answer, faces_of(turn, shown)) for turn in turns]
    for n, turn in enumerate(turns):
        question = Question(turn.question, shown.placed, 0, faces_of(turn, shown), [face.crop] * 2, made, history[:n])
        before = "".join(m.content if m.role == "user" else f" {m.content}" for m in taught[: 2 * n + 1])
        assert explainer._prompt(question) == before.removeprefix(IMAGE)
