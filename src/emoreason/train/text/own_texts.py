"""What is said of each face of a data set, as conversations that an explainer learns from."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.data import messages
from emoreason.data.schema import Sample
from emoreason.explain.prompts import load_prompts
from emoreason.explain.read.sections import Sections, parse
from emoreason.explain.sheet import Sheet
from emoreason.faces.detect import Detector
from emoreason.media.images import open_picture
from emoreason.pipeline import detect, largest
from emoreason.reasoner import Reasoner
from emoreason.train.labeled_faces import target_of
from emoreason.train.text.describe import Plan
from emoreason.train.text.describe import conversation as engine_conversation
from emoreason.train.text.foreign_prompts import in_script

PARTS = ("train", "holdout", "report")
BATCH = 64
SHAPED = 0.9  # share of the texts that have to have the three sections, so that their form is theirs
MAX_HELD_OUT = 200


@dataclass(frozen=True)
class FaceText:
    """A face and what is said of it: a text, a conversation, or nothing yet (the engine writes it)."""

    id: str
    image: str | bytes
    part: str
    votes: dict[str, float] | None
    text: str | None = None
    given: Conversation | None = None


def face_texts(rows: Iterable[tuple[Sample, str]], engine: bool) -> list[FaceText]:
    """Rows of a table; those that say nothing are left out."""
    found = []
    for sample, part in rows:
        votes = target_of(sample)
        if sample.problem or (votes is None if engine else not sample.explanation):
            continue
        found.append(FaceText(sample.id, sample.image, part, votes, None if engine else sample.explanation))
    return found


def face_texts_in(path: Path) -> list[FaceText]:
    """Conversations of a file, split by their pictures: what is said of one picture stands on one side."""
    given = list(messages.read(path))
    by_picture: dict[str, list[Conversation]] = {}
    for conversation in given:
        if len(conversation.images) != 1:
            raise EmoreasonError(f"{path}: one picture per conversation was expected, found {len(conversation.images)}")
        picture = path.parent / conversation.images[0]
        if not picture.is_file():
            raise EmoreasonError(f"{path}: the picture {picture} is not there (paths are relative to the file)")
        by_picture.setdefault(hashlib.sha256(picture.read_bytes()).hexdigest(), []).append(conversation)
    apart = max(1, min(MAX_HELD_OUT, len(by_picture) // 10))
    found = []
    for place, digest in enumerate(sorted(by_picture)):
        part = "report" if place < apart else "holdout" if place < 2 * apart else "train"
        for n, conversation in enumerate(by_picture[digest]):
            image = str(path.parent / conversation.images[0])
            found.append(FaceText(f"{Path(image).stem}-{n}", image, part, None, given=conversation))
    return found


def form_of(faces: Sequence[FaceText]) -> str:
    """sections where nearly all texts have them, else free."""
    shaped = sum(face.text is not None and parse(face.text) is not None for face in faces)
    return "sections" if faces and shaped >= SHAPED * len(faces) else "free"


def write(
    faces: Sequence[FaceText],
    reasoner: Reasoner,
    detector: Detector | None,
    labels: Sequence[str],
    folder: Path,
    *,
    form: str,
    question: str,
    plan: Plan,
) -> None:
    """`folder/train.jsonl`, `holdout.jsonl` and `report.jsonl` with the crops."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    made: dict[str, list[Conversation]] = {part: [] for part in PARTS}
    for number, (face, sheet, crop) in enumerate(_looked_at(faces, reasoner, detector, labels)):
        name = f"images/{number}.png"
        crop.save(folder / name)
        made[face.part].append(_conversation(face, sheet, name, form, question, plan))
    for part, conversations in made.items():
        messages.write(conversations, folder / f"{part}.jsonl")


def counts(folder: Path) -> dict[str, int]:
    """How many conversations there are in each part."""
    return {part: len((folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()) for part in PARTS}


def _looked_at(
    faces: Sequence[FaceText], reasoner: Reasoner, detector: Detector | None, labels: Sequence[str]
) -> Iterator[tuple[FaceText, Sheet, Image.Image]]:
    """What was measured on each face; pictures that cannot be read or show no face are left out."""
    waiting = iter(faces)
    while chunk := list(islice(waiting, BATCH)):
        usable, pictures = [], []
        for face in chunk:
            try:
                picture = open_picture(face.image)
            except EmoreasonError:
                continue
            if (found := largest(detect(picture, detector))) is not None:
                usable.append(face)
                pictures.append((picture, [found]))
        for face, analysis in zip(usable, reasoner.analyze_faces(pictures, list(labels)), strict=True):
            seen = analysis.faces[0]
            yield face, replace(Sheet.of(seen.evidence), abstained=False, why=""), seen.face.crop


def _conversation(face: FaceText, sheet: Sheet, image: str, form: str, question: str, plan: Plan) -> Conversation:
    if face.given is not None:
        return in_script(replace(face.given, images=(image,)), sheet)
    if face.text is None:
        assert face.votes is not None
        plan = plan if face.part == "train" else replace(plan, vary=0.0, flip=0.0)
        return engine_conversation(face.id, sheet, face.votes, image, plan)
    sections = parse(face.text) if form == "sections" else None
    if sections is not None:
        return in_sections(face, sheet, sections, image)
    asked = Message("user", f"{IMAGE}\n{question}"), Message("assistant", face.text)
    given = Conversation(asked, (image,), {"votes": face.votes} if face.votes else None, {"id": face.id})
    return in_script(given, sheet)


def in_sections(face: FaceText, sheet: Sheet, sections: Sections, image: str) -> Conversation:
    """The user's three sections in the order of the three steps; the label between them is the face's own."""
    script = load_prompts()
    label = max(face.votes, key=face.votes.__getitem__) if face.votes else sheet.label
    said = [" ".join(part.split()) for part in (sections.observations, sections.interpretation, sections.conclusion)]
    turns = (
        Message("user", f"{IMAGE}{script.opening(sheet)}"),
        Message("assistant", said[0]),
        Message("user", script.verdict),
        Message("assistant", label),
        Message("user", script.disclosure(sheet) + script.interpretation),
        Message("assistant", f"{said[1]}{script.conclusion} {said[2]}"),
    )
    evidence = {"units": sheet.units, "probabilities": sheet.probabilities, "verdict_message": 3}
    evidence |= {"votes": face.votes} if face.votes else {}
    return Conversation(turns, (image,), evidence, {"id": face.id, "prompts": script.id, "writer": "the data"})


def subjects_in(path: Path, limit: int) -> list[tuple[Sheet, Image.Image]]:
    """Sheet and crop of the first `most` conversations, to write about them anew."""
    found = []
    for conversation in islice(messages.read(path), limit):
        evidence = conversation.evidence or {}
        crop = Image.open(path.parent / conversation.images[0]).convert("RGB")
        found.append((Sheet(evidence["units"], evidence["probabilities"]), crop))
    return found


def answers_in(path: Path, limit: int) -> list[str]:
    """The first answer of each conversation, or its three sections as one text."""
    found = []
    for conversation in islice(messages.read(path), limit):
        answers = [message.content for message in conversation.messages if message.role == "assistant"]
        if (conversation.evidence or {}).get("verdict_message") is None:
            found.append(answers[0])
        else:
            interpretation, _, conclusion = answers[2].partition(f"{load_prompts().conclusion} ")
            found.append(Sections(answers[0], interpretation, conclusion).text())
    return found
