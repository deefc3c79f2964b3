"""Hand-written texts about measured faces: reads finetune/text/, multiplies them, and writes training conversations.

A scene is one to three measured faces, one of which is asked about. Its text file holds, line by line,

    @ t0255
    E: reading || what is seen || how well it fits
    Q why: y angry?
    A: Because the brows are clearly down and together.

Every text is multiplied by changes that keep it true: the picture is mirrored, two probabilities move by a few percent,
he becomes she, and questions are typed more carelessly.
"""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.data.schema import Sample
from emoreason.explain.prompts import load_prompts
from emoreason.explain.read.faces import asked_faces, named_faces
from emoreason.explain.sheet import NOT_VALIDATED, Placed, Sheet, placed

VERDICT = 3  # index of the message that holds the label, in an explanation
FOLLOW_UPS = ("pronoun", "insist", "shorter", "longer", "simpler", "rephrase", "contradiction", "summary")
ABOUT_ALL = ("who_most", "anyone", "everyone", "how_many", "compare_all", "group_mood", "least_sure_face",
             "same_expression", "list_faces", "relationship")  # fmt: skip
ABOUT_SOME = ("compare_two",)
ABOUT_ONE = ("other_face", "left_right_face", "numbered_face", "middle_face")


@dataclass(frozen=True)
class SceneFace:
    sheet: Sheet
    row: int  # of the face in the data set


@dataclass(frozen=True)
class Scene:
    id: str
    faces: tuple[SceneFace, ...]
    chosen: int  # index of the face that is asked about
    separate: bool  # whether every face has a picture of its own

    @property
    def placed(self) -> tuple[Placed, ...]:
        return placed([face.sheet for face in self.faces], self.separate)


@dataclass(frozen=True)
class Turn:
    kind: str
    question: str
    answer: str


@dataclass(frozen=True)
class Text:
    """What was written about a scene. `explanation` is reading, what is seen, and weighing; None for an unread face."""

    explanation: tuple[str, str, str] | None
    turns: tuple[Turn, ...]


# ---- files -----------------------------------------------------------------------------------------------------------


def read_scenes(path: Path) -> dict[str, Scene]:
    scenes = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        faces = tuple(SceneFace(_sheet(face), face["row"]) for face in entry["faces"])
        scenes[entry["id"]] = Scene(entry["id"], faces, entry["chosen"] - 1, entry["separate"])
    return scenes


def _sheet(face: Mapping[str, Any]) -> Sheet:
    notes = (NOT_VALIDATED,) if face["trust"] == NOT_VALIDATED else ()
    return Sheet(face["units"], face["probabilities"], face["trust"] == "calibrated", face["abstained"], face["why"],
                 notes=notes, sides={code: tuple(pair) for code, pair in face["sides"].items()},
                 covered=tuple(face["covered"]), yaw=face["yaw"], valence=face["valence"],
                 arousal=face["arousal"])  # fmt: skip


def read_texts(paths: Sequence[Path]) -> dict[str, Text]:
    """Scene id -> its text."""
    texts: dict[str, Text] = {}
    for path in paths:
        scene = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            words = line.strip()
            if not words:
                continue
            if words.startswith("@ "):
                scene = words[2:]
                texts[scene] = Text(None, ())
            elif words.startswith("E: "):
                parts = tuple(part.strip() for part in words[3:].split("||"))
                if len(parts) != 3:
                    raise EmoreasonError(f"{path}:{number}: an explanation has three parts with || between them")
                texts[scene] = replace(texts[scene], explanation=parts)
            elif found := re.match(r"Q (\w+): ?(.*)", words):
                turns = (*texts[scene].turns, Turn(found[1], found[2], ""))
                texts[scene] = replace(texts[scene], turns=turns)
            elif words.startswith("A: "):
                *before, last = texts[scene].turns
                texts[scene] = replace(texts[scene], turns=(*before, replace(last, answer=words[3:].strip())))
            else:
                raise EmoreasonError(f"{path}:{number}: expected a line that starts with @, E:, Q or A:")
    return texts


# ---- conversations ---------------------------------------------------------------------------------------------------


def explanation(scene: Scene, text: Text, image: str, votes: dict[str, float] | None) -> Conversation:
    """The explanation of the face that is asked about, in the order in which the model writes it."""
    assert text.explanation is not None
    sheet = scene.faces[scene.chosen].sheet
    label = max(votes, key=lambda label: votes[label]) if votes else sheet.label
    messages = explanation_messages(sheet, text.explanation, label)
    return Conversation(messages, (image,), evidence_of(sheet, votes, VERDICT), _origin(f"{scene.id}/explain"))


def explanation_messages(sheet: Sheet, parts: tuple[str, str, str], verdict: str) -> tuple[Message, ...]:
    """parts: reading, what is seen, and weighing. verdict: the model's own label."""
    script, (reading, seen, weighing) = load_prompts(), parts
    return (
        Message("user", f"{IMAGE}{script.measured(sheet)}{script.seen}"),
        Message("assistant", seen),
        Message("user", script.verdict),
        Message("assistant", verdict),
        Message("user", script.disclosure(sheet) + script.reading),
        Message("assistant", reading),
        Message("user", script.weighing),
        Message("assistant", weighing),
    )


def verdict(name: str, sheet: Sheet, image: str, votes: dict[str, float]) -> Conversation:
    """A face and the question for its label, without any text."""
    script = load_prompts()
    label = max(votes, key=lambda label: votes[label])
    messages = (Message("user", f"{IMAGE}{script.measured(sheet)}{script.verdict}"), Message("assistant", label))
    return Conversation(messages, (image,), evidence_of(sheet, votes, 1), _origin(f"{name}/verdict"))


def faces_of(turn: Turn, scene: Scene) -> tuple[int, ...]:
    """Indices of the faces that a question is about, by its kind, and by the answer if the question is misspelt."""
    faces, everyone = scene.placed, tuple(range(len(scene.faces)))
    if turn.kind in ABOUT_ALL:
        return everyone
    named = named_faces(turn.question, faces, scene.chosen)
    if turn.kind in ABOUT_SOME:
        return named or named_faces(turn.answer.split(".")[0], faces, scene.chosen) or everyone
    if turn.kind in ABOUT_ONE:
        return (named or named_faces(re.split(r"[.,:;]", turn.answer)[0], faces, scene.chosen) or (scene.chosen,))[:2]
    return asked_faces(turn.question, faces, scene.chosen)[0]


def rounded(sheet: Sheet) -> Sheet:
    """The sheet with shorter numbers, to be stored."""
    return replace(sheet, units={code: round(x, 3) for code, x in sheet.units.items()},
                   probabilities={label: round(p, 4) for label, p in sheet.probabilities.items()},
                   sides={code: (round(a, 3), round(b, 3)) for code, (a, b) in sheet.sides.items()},
                   yaw=None if sheet.yaw is None else round(sheet.yaw, 1))  # fmt: skip


def votes_of(face: Sample) -> dict[str, float] | None:
    """The distribution of the votes, without single votes, which are noise. None if no emotion has the most votes."""
    if not face.votes:
        return {face.label: 1.0} if face.label else None
    emotions = {k: v for k, v in face.votes.items() if k not in ("unknown", "not_a_face")}
    if not emotions or max(emotions.values()) < max(face.votes.values()):
        return None
    counts = max(face.votes.values()) > 1
    clear = {k: v for k, v in emotions.items() if v > 1} if counts else emotions
    total = sum(clear.values())
    return {k: v / total for k, v in clear.items()} if total else None


def evidence_of(sheet: Sheet, votes: dict[str, float] | None, verdict_message: int) -> dict[str, Any]:
    measured = {"units": sheet.units, "probabilities": sheet.probabilities, "sides": sheet.sides,
                "covered": sheet.covered, "yaw": sheet.yaw, "verdict_message": verdict_message}  # fmt: skip
    return measured | ({"votes": votes} if votes else {})


def conversation(scene: Scene, text: Text, image: str) -> Conversation:
    """Questions and answers about the scene."""
    script = load_prompts()
    opening = IMAGE + script.faces(scene.placed, scene.chosen)
    if text.explanation is not None:
        opening += script.explained.format(text=" ".join(text.explanation))
    messages = []
    for turn in text.turns:
        about = [scene.placed[i].number for i in faces_of(turn, scene)]
        asked = opening + script.turn(turn.question, about, len(scene.faces))
        messages += [Message("user", asked), Message("assistant", turn.answer)]
        opening = ""
    return Conversation(tuple(messages), (image,), None, _origin(f"{scene.id}/converse"))


def _origin(name: str) -> dict[str, Any]:
    return {"id": name, "prompts": load_prompts().id, "writer": "by hand"}


# ---- more texts that are as true -------------------------------------------------------------------------------------

_SHE = {"he": "she", "him": "her", "his": "her", "himself": "herself", "he's": "she's", "man": "woman", "guy": "lady",
        "boy": "girl", "man's": "woman's"}  # fmt: skip
_SIDE = re.compile(r"\b(left|right)\b", re.I)
_PLACE = re.compile(
    r"\b(?:on|to|at|from|by) (?:the|their|his|her|its|your|the person's|the far) (?:own )?(?:left|right)\b"
    r"|\b(?:the|this|that|my|far|person's|their|own|more) (?:left|right)\b"
    r"|\b(?:left|right) (?:one|face|side|person|guy|man|woman|kid|eye|brow|corner|half|lid|cheek|hand)\b",
    re.I,
)


def multiply(scene: Scene, text: Text, rng: random.Random) -> tuple[Scene, Text]:
    """Another scene and text that are as true as these."""
    if rng.random() < 0.5:
        scene, text = mirror(scene, text)
    if rng.random() < 0.6:
        scene, text = _shift_shares(scene, text, rng)
    if rng.random() < 0.5:
        text = _each(text, lambda words: re.sub(r"[\w']+", _she, words))
    turns = tuple(replace(turn, question=careless(turn.question, rng)) for turn in text.turns)
    return scene, replace(text, turns=_some(turns, rng))


def mirror(scene: Scene, text: Text) -> tuple[Scene, Text]:
    """Swap left and right, unless a text uses the words in another sense."""
    words = "\n".join(_all(text))
    if len(_SIDE.findall(words)) != sum(len(_SIDE.findall(found)) for found in _PLACE.findall(words)):
        return scene, text

    def mirrored(face: SceneFace) -> SceneFace:
        sides = {code: (right, left) for code, (left, right) in face.sheet.sides.items()}
        yaw = None if face.sheet.yaw is None else -face.sheet.yaw
        return replace(face, sheet=replace(face.sheet, sides=sides, yaw=yaw))

    faces = tuple(mirrored(face) for face in scene.faces)
    if len(faces) > 1 and not scene.separate and re.search(r"\b[Ff]aces? #?\d|\bnumber|#\d|first|second|third", words):
        return scene, text  # the numbers would change as well
    if not scene.separate:
        scene = replace(scene, chosen=len(faces) - 1 - scene.chosen)
        faces = faces[::-1]
    return replace(scene, faces=faces), _each(text, lambda part: _SIDE.sub(_other_side, part))


def _other_side(found: re.Match[str]) -> str:
    other = "right" if found[0].lower() == "left" else "left"
    return other.upper() if found[0].isupper() else other.capitalize() if found[0][0].isupper() else other


def _shift_shares(scene: Scene, text: Text, rng: random.Random) -> tuple[Scene, Text]:
    """Move a few percent between the two best labels of each face, in the sheets and in the texts."""
    whole = [round(100 * p) for face in scene.faces for p in face.sheet.probabilities.values()]
    faces: list[SceneFace] = []
    changes: dict[int, int] = {}
    for face in scene.faces:
        p = face.sheet.probabilities
        first, second = sorted(p, key=lambda label: -p[label])[:2]
        a, b = round(100 * p[first]), round(100 * p[second])
        step = rng.choice((-3, -2, -1, 1, 2, 3))
        fine = a - step > b + step + 4 and b + step > 3 and a - step < 98 and whole.count(a) == whole.count(b) == 1
        if fine and not face.sheet.abstained:
            changes |= {a: a - step, b: b + step}
            moved = p | {first: (a - step) / 100, second: (b + step) / 100}
            face = replace(face, sheet=replace(face.sheet, probabilities=moved))
        faces.append(face)

    def percent(found: re.Match[str]) -> str:
        return f"{changes.get(int(found[1]), found[1])}{found[2]}"

    return replace(scene, faces=tuple(faces)), _each(text, lambda part: re.sub(r"\b(\d+)( ?%| percent)", percent, part))


def _she(found: re.Match[str]) -> str:
    other = _SHE.get(found[0].lower(), found[0])
    return other if found[0].islower() or other == found[0] else other.capitalize()


_SLIPS = {"you": "u", "are": "r", "what": "wat", "the": "teh", "because": "cuz", "please": "pls", "people": "ppl",
          "and": "n", "about": "abt", "really": "rly"}  # fmt: skip


def careless(question: str, rng: random.Random) -> str:
    """The question as somebody in a hurry types it."""
    drawn = rng.random()
    if drawn < 0.2:
        question = question.lower()
    if drawn < 0.12 or drawn > 0.9:
        question = question.rstrip("?!. ") or question
    if 0.2 < drawn < 0.3:
        words = question.split(" ")
        at = rng.randrange(len(words))
        word = words[at]
        if word.lower() in _SLIPS:
            words[at] = _SLIPS[word.lower()]
        elif len(word) > 4:
            cut = rng.randrange(1, len(word) - 2)
            words[at] = word[:cut] + word[cut + 1] + word[cut] + word[cut + 2 :]
        question = " ".join(words)
    return question


def _some(turns: tuple[Turn, ...], rng: random.Random) -> tuple[Turn, ...]:
    """Groups of a question with its follow-ups, shuffled; a fifth is left out."""
    groups: list[list[Turn]] = []
    for turn in turns:
        if turn.kind in FOLLOW_UPS and groups:
            groups[-1].append(turn)
        else:
            groups.append([turn])
    rng.shuffle(groups)
    kept = groups[: max(1, round(len(groups) * rng.uniform(0.75, 1.0)))]
    return tuple(turn for group in kept for turn in group)


def _all(text: Text) -> Iterator[str]:
    yield from text.explanation or ()
    for turn in text.turns:
        yield from (turn.question, turn.answer)


def _each(text: Text, change: Any) -> Text:
    explained = text.explanation and tuple(change(part) for part in text.explanation)
    turns = tuple(replace(turn, question=change(turn.question), answer=change(turn.answer)) for turn in text.turns)
    return Text(explained, turns)
