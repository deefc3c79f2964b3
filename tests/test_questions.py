"""The held-out questions: their files, the rules that judge an answer, and whole conversations."""

import json
import random
import re
from pathlib import Path

import pytest

from drawn_faces import MOUTHS, drawn, png
from emoreason.core.errors import EmoreasonError
from emoreason.data.schema import Sample
from emoreason.evaluate.questions import (
    READ,
    RIGHT,
    WRONG,
    Answered,
    Asked,
    Rubric,
    Scene,
    ask,
    judge,
    read_questions,
    summary,
    write_rows,
)
from emoreason.explain.explanation import Question
from emoreason.explain.write.answers import answer
from test_battery import GoodExplainer

FOLDER = Path(__file__).resolve().parent.parent / "eval" / "questions"


@pytest.mark.parametrize(
    ("reply", "rubric", "verdict"),
    [
        ("", Rubric(), WRONG),
        ("It looks happy.", Rubric(), READ),  # no rule
        ("It looks happy.", Rubric(says=("happ",)), RIGHT),
        ("It looks HAPPY, at 80 %.", Rubric(says=("happ", r"\b80\b")), RIGHT),
        ("It looks happy.", Rubric(says=("happ", r"\b80\b")), READ),
        ("It looks happy, not angry.", Rubric(says=("happ",), never="angry"), WRONG),
        ("Yes, it does.", Rubric(begins="yes"), RIGHT),
        ("No.", Rubric(begins="yes"), WRONG),
        ("The lips are parted.", Rubric(begins="yes"), READ),
        ("Yes.", Rubric(begins="yes", says=("lips",)), READ),
        ("Not clear: too faint.", Rubric(begins="unclear"), RIGHT),
        ("Yes.", Rubric(begins="unclear"), READ),
    ],
)
def test_an_answer_is_judged_by_its_rubric(reply, rubric, verdict):
    found, why = judge(reply, rubric)
    assert found == verdict and bool(why) == (verdict != RIGHT)


def test_the_questions_can_be_used():
    """Every scene has questions about faces that it has, and every rule is a regular expression."""
    scenes = read_questions(FOLDER)
    assert len(scenes) > 100 and len({scene.id for scene, _ in scenes}) == len(scenes)
    for scene, questions in scenes:
        assert questions and 0 <= scene.chosen < len(scene.rows) == len(scene.unread)
        for asked in questions:
            for pattern in (*asked.rubric.says, asked.rubric.never):
                re.compile(pattern)
            assert asked.question and asked.rubric.begins in ("", "yes", "no", "unclear"), asked
            assert set(asked.rubric.faces) <= set(range(1, len(scene.rows) + 1)), asked
            assert asked.rubric.right, asked


def test_the_files_are_read_and_mistakes_are_told(tmp_path):
    scene = {"id": "a", "chosen": 2, "separate": True, "faces": [{"row": 5}, {"row": 7, "unread": "too small"}]}
    (tmp_path / "scenes.jsonl").write_text(json.dumps(scene) + "\n")
    lines = ["@ a", "Q why: Why = what?", r"R: begins=no ; says=a=b & \d+ ; never= ; face=1,2 ; right=says x=y", ""]
    (tmp_path / "questions.txt").write_text("\n".join(lines))
    ((found, (asked,)),) = read_questions(tmp_path)
    assert found == Scene("a", (5, 7), ("", "too small"), 1, True, None)
    assert asked == Asked("why", "Why = what?", Rubric("no", ("a=b", r"\d+"), "", (1, 2), "says x=y"))
    (tmp_path / "questions.txt").write_text("@ a\nwhat?\n")
    with pytest.raises(EmoreasonError, match="questions.txt:2"):
        read_questions(tmp_path)


class BuiltIn(GoodExplainer):
    def __init__(self) -> None:
        super().__init__()
        self.questions: list[Question] = []

    def reply(self, question: Question) -> str:
        self.questions.append(question)
        return answer(question.text, question.view, random.Random(0))


def test_conversations_are_held_and_counted(mini, tmp_path):
    samples = [Sample(f"{i}", png(drawn(mouth, i))) for i, mouth in enumerate(MOUTHS.values())]
    own = ("bored", "engaged")
    scenes = [
        (Scene("pair", (0, 1), ("", ""), 0, False, None),
         [Asked("why", "Why?", Rubric(faces=(1,))), Asked("other", "and the right one?", Rubric(faces=(2,))),
          Asked("name", "What is her name?", Rubric(says=("not|cannot|can't",)))]),
        (Scene("small", (2,), ("the face is 9 pixels wide",), 0, False, own),
         [Asked("why", "Is the mouth open?", Rubric(never="^yes"))]),
    ]  # fmt: skip
    explainer = BuiltIn()
    rows = list(ask(scenes, samples, mini, explainer))
    assert [(row.scene, row.kind, row.about) for row in rows] == [
        ("pair", "why", (1,)), ("small", "why", (1,)), ("pair", "other", (2,)), ("pair", "name", (1,))]  # fmt: skip
    assert all(row.resolved and row.route == "written" and row.answer for row in rows)
    assert rows[-1].verdict == RIGHT and rows[1].verdict == READ
    first, small, _, last = explainer.questions
    assert [(turn.question, turn.about) for turn in last.history] == [("Why?", (0,)), ("and the right one?", (1,))]
    assert [face.place for face in first.faces] == ["left", "right"] and first.explanation.checks.ok
    assert small.view.sheets[0].units == {} and small.view.sheets[0].labels == own
    write_rows(rows, tmp_path / "answers.jsonl")
    written = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in written] == [row.answer for row in rows]


def test_a_person_has_the_last_word():
    row = Answered("a", "why", "?", "So.", "model", (1,), True, READ, "no rule", "")
    other = Answered("b", "sure", "?", "No.", "written", (1,), False, WRONG, "", "")
    figures = summary([row, other])
    assert (figures["n"], figures["kinds"], figures[READ], figures[WRONG], figures[RIGHT]) == (2, 2, 0.5, 0.5, 0)
    assert figures["routes"] == {"model": 0.5, "retried": 0, "written": 0.5} and figures["faces_resolved"] == 0.5
    read = summary([row, other], {("a", "why"): "useless"})
    assert (read["useless"], read[READ]) == (0.5, 0)
