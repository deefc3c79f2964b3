"""Writes conversations to train an explainer on, from faces with votes or labels.

Each conversation follows the explainer's steps: what is seen, from movements alone; the verdict; and, once the measured
distribution is shown, the reading and how well it fits. Questions with their answers come last. Some sheets are changed
on purpose, so that the model learns to follow the sheet instead of guessing from the picture; `provenance` lists the
changes.
"""

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.messages import Conversation, Message
from emoreason.data.messages import write
from emoreason.data.schema import Sample
from emoreason.explain.prompts import load_prompts
from emoreason.explain.sheet import Placed, Reasoned, Sheet
from emoreason.explain.write.explanation import write as write_parts
from emoreason.faces.detect import whole_picture
from emoreason.media.images import open_picture
from emoreason.reasoner import Reasoner
from emoreason.train.text.dialogues import training_turns
from emoreason.train.text.handwritten import VERDICT, evidence_of, explanation_messages, verdict, votes_of

BATCH = 128


@dataclass(frozen=True)
class Plan:
    """What to write about each face."""

    turns: int = 1  # follow-up questions
    vary: float = 0.5  # share of the sheets with a changed distribution
    flip: float = 0.15  # share of the sheets with a movement added or removed
    seed: int = 7


@dataclass(frozen=True)
class Described:
    written: dict[str, int]  # file -> number of conversations
    dropped: dict[str, int]  # reason -> number of faces


def describe(
    samples: Iterable[Sample],
    reasoner: Reasoner,
    folder: Path,
    *,
    name: str = "train",
    plan: Plan = Plan(),
    holdout: int = 0,
    without: frozenset[str] = frozenset(),
    rewrite: Callable[[Conversation, Sheet], Conversation] | None = None,
    progress: Callable[[int], None] = lambda n: None,
) -> Described:
    """Write `folder/name.jsonl` (and `holdout.jsonl`) with the crops in `folder/images`.

    without: ids to leave out. holdout: this many faces, chosen by the hash of their pixels, go to holdout.jsonl.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    faces, dropped = _select_faces(samples, without)
    by_hash = sorted(faces)
    held_out = set(by_hash[:holdout])
    written = {}
    done = 0
    as_read = replace(plan, vary=0.0, flip=0.0)  # scores must be for unchanged sheets, as users get them
    parts = (
        (name, plan, [d for d in faces if d not in held_out]),
        ("holdout", as_read, [d for d in faces if d in held_out]),
    )
    for part, plan, digests in parts:
        if not digests:
            continue

        def conversations(digests: list[str] = digests, plan: Plan = plan) -> Iterator[Conversation]:
            nonlocal done
            for face, sheet, votes, image in _read_in_batches([faces[d] for d in digests], reasoner, folder):
                done += 1
                progress(done)
                talk = write_conversation(face.id, sheet, votes, image, plan)
                origin = {"source": face.source, "model": reasoner.name, "revision": reasoner.revision}
                talk = replace(talk, provenance=talk.provenance | origin)
                yield rewrite(talk, sheet) if rewrite else talk

        written[str(folder / f"{part}.jsonl")] = write(conversations(), folder / f"{part}.jsonl")
    return Described(written, dropped)


def digest_of(face: Sample) -> str:
    """The hash of the grey pixels: the same for copies of a picture in different files."""
    return hashlib.sha256(open_picture(face.image).image.convert("L").tobytes()).hexdigest()


def _select_faces(samples: Iterable[Sample], without: frozenset[str]) -> tuple[dict[str, Sample], dict[str, int]]:
    """Usable faces by the digest of their grey pixels, and the number of dropped faces by reason."""
    faces: dict[str, Sample] = {}
    dropped = dict.fromkeys(("broken", "no_emotion", "left_out", "doubles"), 0)
    for face in samples:
        if face.problem:
            dropped["broken"] += 1
            continue
        if votes_of(face) is None:
            dropped["no_emotion"] += 1
            continue
        if face.id in without:
            dropped["left_out"] += 1
            continue
        try:
            digest = digest_of(face)
        except EmoreasonError:
            dropped["broken"] += 1
            continue
        if digest in faces:
            dropped["doubles"] += 1
        else:
            faces[digest] = face
    if not faces:
        raise UsageError("no usable face is left to describe: check the source with `emoreason data check`")
    return faces, dropped


def _read_in_batches(
    faces: Sequence[Sample], reasoner: Reasoner, folder: Path
) -> Iterator[tuple[Sample, Sheet, dict[str, float], str]]:
    waiting = iter(faces)
    while chunk := list(islice(waiting, BATCH)):
        pictures = [open_picture(face.image) for face in chunk]
        analyses = reasoner.analyze_faces([(picture, [whole_picture(picture)]) for picture in pictures])
        for face, picture, analysis in zip(chunk, pictures, analyses, strict=True):
            name = f"images/{Path(face.id).stem}.png"
            picture.image.save(folder / name)
            votes = votes_of(face)
            assert votes is not None
            yield face, Sheet.of(analysis.faces[0].evidence), votes, name


def write_conversation(id: str, measured: Sheet, votes: dict[str, float], image: str, plan: Plan) -> Conversation:
    """The training conversation about one face, in the order in which the explainer is asked."""
    rng, script = random.Random(f"{plan.seed}/{id}"), load_prompts()
    sheet, changed = vary(measured, votes, plan, rng)
    shares = [votes.get(label, 0.0) + 1e-6 for label in sheet.labels]
    # The verdict is drawn from the votes, so that training includes disagreement with the sheet.
    own = rng.choices(sheet.labels, shares)[0]
    reasoned = Reasoned({label: float(label == own) for label in sheet.labels})
    if not sheet.units:  # a model that measures no movements: there is nothing to write but the label
        talk = verdict(id, sheet, image, votes)
        return replace(talk, provenance=talk.provenance | {"id": id, "writer": "built-in", "changed": changed})
    parts = write_parts(sheet, reasoned, rng)
    messages = [*explanation_messages(sheet, (parts.reading, parts.seen, parts.weighing), own)]
    opening = script.faces([Placed(sheet)], 0)
    for question, answer in training_turns(sheet, rng, plan.turns):
        messages += [Message("user", opening + script.turn(question)), Message("assistant", answer)]
        opening = ""
    shorter = replace(sheet, units=_rounded(sheet.units), probabilities=_rounded(sheet.probabilities))
    evidence = evidence_of(shorter, _rounded(votes), VERDICT)
    provenance = {"id": id, "prompts": script.id, "writer": "built-in", "changed": changed}
    return Conversation(tuple(messages), (image,), evidence, provenance)


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def vary(sheet: Sheet, votes: dict[str, float], plan: Plan, rng: random.Random) -> tuple[Sheet, list[str]]:
    """Change some sheets: swap the top label, mix in the votes, or flip one movement. Returns the changes too."""
    units, probabilities, changed = dict(sheet.units), dict(sheet.probabilities), []
    drawn = rng.random()
    if drawn < plan.vary / 3:  # a wrong label on top, because the text must follow the sheet
        first, other = sheet.label, rng.choice([label for label in sheet.labels if label != sheet.label])
        probabilities[first], probabilities[other] = probabilities[other], probabilities[first]
        changed.append("label swapped")
    elif drawn < plan.vary and all(label in probabilities for label in votes):
        share = rng.uniform(0.5, 1.0)  # the votes are less sure than an encoder on its own training faces
        probabilities = {k: share * votes.get(k, 0.0) + (1 - share) * p for k, p in probabilities.items()}
        changed.append("votes mixed in")
    sides = dict(sheet.sides)
    if units and rng.random() < plan.flip:
        code = rng.choice(list(units))
        units[code] = round(rng.uniform(0.45, 0.98), 3) if code in sheet.absent else 0.05
        sides.pop(code, None)
        changed.append(f"unit {code} flipped")
    return replace(sheet, units=units, probabilities=probabilities, sides=sides, abstained=False, why=""), changed
