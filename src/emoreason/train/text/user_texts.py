"""Turns the texts of a data set into training conversations for an explainer."""

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
from emoreason.train.text.convert_prompts import to_our_prompts
from emoreason.train.text.describe import Plan, write_conversation
from emoreason.train.text.handwritten import evidence_of
from emoreason.train.text.texts import sheet_of

PARTS = ("train", "holdout", "report")
BATCH = 64
SHAPED = 0.9  # minimum share of texts with the three sections to choose the form `sections`
MAX_HELD_OUT = 200


@dataclass(frozen=True)
class FaceText:
    """A face with a text or a conversation about it. With neither, the engine writes the text."""

    id: str
    image: str | bytes
    part: str
    votes: dict[str, float] | None
    text: str | None = None
    conversation: Conversation | None = None


def face_texts(rows: Iterable[tuple[Sample, str]], engine: bool) -> list[FaceText]:
    """The usable rows of a table. engine: rows need a label or votes; otherwise they need a text."""
    faces = []
    for sample, part in rows:
        votes = target_of(sample)
        if sample.problem or (votes is None if engine else not sample.explanation):
            continue
        faces.append(FaceText(sample.id, sample.image, part, votes, None if engine else sample.explanation))
    return faces


def face_texts_in(path: Path) -> list[FaceText]:
    """The conversations of a file, split by picture, so that all conversations about a picture are in one part."""
    conversations = list(messages.read(path))
    by_picture: dict[str, list[Conversation]] = {}
    for conversation in conversations:
        if len(conversation.images) != 1:
            raise EmoreasonError(f"{path}: one picture per conversation was expected, found {len(conversation.images)}")
        picture = path.parent / conversation.images[0]
        if not picture.is_file():
            raise EmoreasonError(f"{path}: the picture {picture} does not exist (paths are relative to the file)")
        by_picture.setdefault(hashlib.sha256(picture.read_bytes()).hexdigest(), []).append(conversation)
    held_out = max(1, min(MAX_HELD_OUT, len(by_picture) // 10))
    faces = []
    for place, digest in enumerate(sorted(by_picture)):
        part = "report" if place < held_out else "holdout" if place < 2 * held_out else "train"
        for n, conversation in enumerate(by_picture[digest]):
            image = str(path.parent / conversation.images[0])
            faces.append(FaceText(f"{Path(image).stem}-{n}", image, part, None, conversation=conversation))
    return faces


def form_of(faces: Sequence[FaceText]) -> str:
    """`sections` if nearly all texts have the three sections, else `free`."""
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
    """Write `folder/train.jsonl`, `holdout.jsonl` and `report.jsonl` with the crops in `folder/images`."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    by_part: dict[str, list[Conversation]] = {part: [] for part in PARTS}
    for number, (face, sheet, crop) in enumerate(_measure(faces, reasoner, detector, labels)):
        name = f"images/{number}.png"
        crop.save(folder / name)
        by_part[face.part].append(_conversation(face, sheet, name, form, question, plan))
    for part, conversations in by_part.items():
        messages.write(conversations, folder / f"{part}.jsonl")


def counts(folder: Path) -> dict[str, int]:
    """The number of conversations in each part."""
    return {part: len((folder / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()) for part in PARTS}


def _measure(
    faces: Sequence[FaceText], reasoner: Reasoner, detector: Detector | None, labels: Sequence[str]
) -> Iterator[tuple[FaceText, Sheet, Image.Image]]:
    """Yield each face with its sheet and crop; skip pictures that are unreadable or show no face."""
    waiting = iter(faces)
    while chunk := list(islice(waiting, BATCH)):
        usable, pictures = [], []
        for face in chunk:
            try:
                picture = open_picture(face.image)
            except EmoreasonError:
                continue
            if (detected := largest(detect(picture, detector))) is not None:
                usable.append(face)
                pictures.append((picture, [detected]))
        for face, analysis in zip(usable, reasoner.analyze_faces(pictures, list(labels)), strict=True):
            result = analysis.faces[0]
            yield face, replace(Sheet.of(result.evidence), abstained=False, why=""), result.face.crop


def _conversation(face: FaceText, sheet: Sheet, image: str, form: str, question: str, plan: Plan) -> Conversation:
    if face.conversation is not None:
        return to_our_prompts(replace(face.conversation, images=(image,)), sheet)
    if face.text is None:
        assert face.votes is not None
        plan = plan if face.part == "train" else replace(plan, vary=0.0, flip=0.0)
        return write_conversation(face.id, sheet, face.votes, image, plan)
    sections = parse(face.text) if form == "sections" else None
    if sections is not None:
        return in_sections(face, sheet, sections, image)
    turns = Message("user", f"{IMAGE}\n{question}"), Message("assistant", face.text)
    given = Conversation(turns, (image,), {"votes": face.votes} if face.votes else None, {"id": face.id})
    return to_our_prompts(given, sheet)


def in_sections(face: FaceText, sheet: Sheet, sections: Sections, image: str) -> Conversation:
    """The user's three sections in the order of the explainer's steps, with the face's label as the verdict."""
    script = load_prompts()
    label = max(face.votes, key=face.votes.__getitem__) if face.votes else sheet.label
    texts = [" ".join(part.split()) for part in (sections.observations, sections.conclusion, sections.interpretation)]
    turns = (
        Message("user", f"{IMAGE}{script.measured(sheet)}{script.seen}"),
        Message("assistant", texts[0]),
        Message("user", script.verdict),
        Message("assistant", label),
        Message("user", script.disclosure(sheet) + script.reading),
        Message("assistant", texts[1]),
        Message("user", script.weighing),
        Message("assistant", texts[2]),
    )
    evidence = evidence_of(sheet, face.votes, 3)
    return Conversation(turns, (image,), evidence, {"id": face.id, "prompts": script.id, "writer": "the data"})


def subjects_in(path: Path, limit: int) -> list[tuple[Sheet, Image.Image]]:
    """Sheet and crop of the first `limit` conversations, to generate new texts for them."""
    subjects = []
    for conversation in islice(messages.read(path), limit):
        evidence = conversation.evidence or {}
        crop = Image.open(path.parent / conversation.images[0]).convert("RGB")
        subjects.append((sheet_of(conversation) or Sheet({}, evidence["probabilities"]), crop))
    return subjects


def answers_in(path: Path, limit: int) -> list[str]:
    """The first answer, or the three sections as one text, of the first `limit` conversations."""
    texts = []
    for conversation in islice(messages.read(path), limit):
        answers = [message.content for message in conversation.messages if message.role == "assistant"]
        if (conversation.evidence or {}).get("verdict_message") is None or len(answers) < 4:
            texts.append(answers[0])
        else:
            seen, _, reading, weighing, *_ = answers
            texts.append(Sections(seen, weighing, reading).text())
    return texts
