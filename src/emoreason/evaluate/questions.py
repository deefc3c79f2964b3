"""Asks the held-out questions of eval/questions/ and judges the answers by their rubrics.

A scene is one to three faces of a data set, with a conversation of three questions. The rubric of a question says what
a right answer begins with, contains, and never contains. Where no rule can tell, a person reads.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError
from emoreason.data.schema import Sample
from emoreason.explain.check.response import begins_with
from emoreason.explain.explanation import Answer, Explainer, Explanation, Question, Subject, Turn, consume
from emoreason.explain.read.faces import asked_faces
from emoreason.explain.sheet import Placed, Sheet, placed
from emoreason.faces.detect import whole_picture
from emoreason.media.images import open_picture
from emoreason.reasoner import Reasoner

BATCH = 12
RIGHT, READ, WRONG = "right", "read", "wrong"  # "read": no rule can tell, a person has to


@dataclass(frozen=True)
class Rubric:
    begins: str = ""  # yes, no or unclear: how an answer has to commit; empty: it need not
    says: tuple[str, ...] = ()  # regular expressions, all of which a right answer matches
    never: str = ""  # a regular expression that only a wrong answer matches
    faces: tuple[int, ...] = ()  # numbers of the faces that the answer has to be about
    right: str = ""  # what a right answer tells, for a person who reads it


@dataclass(frozen=True)
class Asked:
    kind: str
    question: str
    rubric: Rubric


@dataclass(frozen=True)
class Scene:
    id: str
    rows: tuple[int, ...]  # of the data set
    unread: tuple[str, ...]  # for each face, why it cannot be read; usually empty
    chosen: int
    separate: bool
    labels: tuple[str, ...] | None


@dataclass(frozen=True)
class Answered:
    scene: str
    kind: str
    question: str
    answer: str
    route: str
    about: tuple[int, ...]  # numbers of the faces
    resolved: bool  # whether these are the faces that the rubric names
    verdict: str  # by the rules
    why: str
    right: str


def read_questions(folder: Path) -> list[tuple[Scene, list[Asked]]]:
    """The scenes of scenes.jsonl with their questions of questions.txt."""
    scenes = {}
    for line in (folder / "scenes.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        faces = entry["faces"]
        labels = tuple(entry["labels"]) if "labels" in entry else None
        scenes[entry["id"]] = Scene(entry["id"], tuple(face["row"] for face in faces),
                                    tuple(face.get("unread", "") for face in faces), entry["chosen"] - 1,
                                    entry["separate"], labels)  # fmt: skip
    questions: dict[str, list[Asked]] = {}
    name = ""
    for number, line in enumerate((folder / "questions.txt").read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("@ "):
            name = line[2:].strip()
            questions[name] = []
        elif found := re.match(r"Q (\w+): ?(.*)", line):
            questions[name].append(Asked(found[1], found[2].strip(), Rubric()))
        elif line.startswith("R: "):
            questions[name][-1] = replace(questions[name][-1], rubric=_rubric(line[3:]))
        elif line.strip():
            raise EmoreasonError(f"questions.txt:{number}: expected a line that starts with @, Q or R:")
    return [(scenes[name], asked) for name, asked in questions.items()]


def _rubric(line: str) -> Rubric:
    pairs = (piece.partition("=") for piece in f"{line} ".split(" ; "))
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    says = tuple(part for part in re.split(r" & ", fields.get("says", "")) if part)
    faces = tuple(int(number) for number in re.findall(r"\d+", fields.get("face", "")) if int(number))
    return Rubric(fields.get("begins", ""), says, fields.get("never", ""), faces, fields.get("right", ""))


def judge(answer: str, rubric: Rubric) -> tuple[str, str]:
    """The verdict by the rules, and why."""
    if not answer.strip():
        return WRONG, "no answer"
    if rubric.never and (found := re.search(rubric.never, answer, re.I)):
        return WRONG, f"says {found[0].strip()!r}"
    begun = begins_with(answer)
    if rubric.begins in ("yes", "no") and begun in ("yes", "no") and begun != rubric.begins:
        return WRONG, f"begins with {begun}, not {rubric.begins}"
    missing = [pattern for pattern in rubric.says if not re.search(pattern, answer, re.I)]
    if missing:
        return READ, f"does not match {missing[0]}"
    if rubric.begins and begun != rubric.begins:
        return READ, f"does not begin with {rubric.begins}"
    return (RIGHT, "") if rubric.says or rubric.begins else (READ, "no rule")


@dataclass
class _Conversation:
    scene: Scene
    questions: list[Asked]
    faces: Sequence[Placed]
    crops: list[Any]
    explanation: Explanation | None = None
    turns: list[Turn] = field(default_factory=list)

    def question(self, number: int) -> Question:
        text, before = self.questions[number].question, self.turns[-1].about if self.turns else ()
        about, missing = asked_faces(text, self.faces, self.scene.chosen, before)
        return Question(text, self.faces, self.scene.chosen, about, self.crops, self.explanation, self.turns, missing)

    def answered(self, number: int, question: Question, answer: Answer) -> Answered:
        asked = self.questions[number]
        self.turns = [*self.turns, Turn(asked.question, answer.text, tuple(question.about))]
        verdict, why = judge(answer.text, asked.rubric)
        numbers, wanted = tuple(i + 1 for i in question.about), set(asked.rubric.faces)
        resolved = not wanted or wanted == set(numbers) or len(self.faces) == 1
        return Answered(self.scene.id, asked.kind, asked.question, answer.text, answer.route, numbers, resolved,
                        verdict, why, asked.rubric.right)  # fmt: skip


def ask(
    scenes: Sequence[tuple[Scene, list[Asked]]], samples: Sequence[Sample], reasoner: Reasoner, explainer: Explainer
) -> Iterator[Answered]:
    """Hold the conversations side by side, and judge the answers."""
    conversations = [_begin(scene, questions, samples, reasoner) for scene, questions in scenes]
    for labels in dict.fromkeys(conversation.scene.labels for conversation in conversations):
        for part in _batches([one for one in conversations if one.scene.labels == labels]):
            subjects = [Subject(one.faces[one.scene.chosen].sheet, one.crops[one.scene.chosen]) for one in part]
            for one, explanation in zip(part, consume(explainer.explain(subjects)), strict=True):
                one.explanation = explanation
    for number in range(max(len(one.questions) for one in conversations)):
        for part in _batches([one for one in conversations if number < len(one.questions)]):
            questions = [one.question(number) for one in part]
            for one, question, answer in zip(part, questions, consume(explainer.answer(questions)), strict=True):
                yield one.answered(number, question, answer)


def _batches(conversations: Sequence[_Conversation]) -> Iterator[Sequence[_Conversation]]:
    for start in range(0, len(conversations), BATCH):
        yield conversations[start : start + BATCH]


def _begin(scene: Scene, questions: list[Asked], samples: Sequence[Sample], reasoner: Reasoner) -> _Conversation:
    pictures = [open_picture(samples[row].image) for row in scene.rows]
    analyses = reasoner.analyze_faces([(picture, [whole_picture(picture)]) for picture in pictures], scene.labels)
    sheets = [_sheet(Sheet.of(analysis.faces[0].evidence), why)
              for analysis, why in zip(analyses, scene.unread, strict=True)]  # fmt: skip
    return _Conversation(scene, questions, placed(sheets, scene.separate), [one.faces[0].face.crop for one in analyses])


def _sheet(sheet: Sheet, unread: str) -> Sheet:
    return replace(sheet, units={}, sides={}, abstained=True, why=unread, valence=None) if unread else sheet


def summary(rows: Sequence[Answered], by_eye: dict[tuple[str, str], str] | None = None) -> dict[str, Any]:
    """Shares of right, useless and wrong answers. by_eye: (scene, kind) -> right, useless or wrong, of a person."""
    read = by_eye or {}
    verdicts = [read.get((row.scene, row.kind), row.verdict) for row in rows]
    n = len(rows)
    routes = {route: sum(row.route == route for row in rows) / n for route in ("model", "retried", "written")}
    shares = {verdict: sum(v == verdict for v in verdicts) / n for verdict in (RIGHT, "useless", READ, WRONG)}
    return {"n": n, "kinds": len({row.kind for row in rows}), **shares, "routes": routes,
            "faces_resolved": sum(row.resolved for row in rows) / n}  # fmt: skip


def write_rows(rows: Sequence[Answered], path: Path) -> None:
    path.write_text("".join(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
