"""Samples follow-up questions with their answers for training."""

import random

from emoreason.explain.questions.answer_phrases import Slots, words
from emoreason.explain.questions.answers import answer
from emoreason.explain.questions.understand import KINDS, Intent
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write.grammar import Sentence, sample, template, text
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import ACTION_UNITS, REGIONS

PEOPLE = {"she": "her", "he": "his", "this person": "this person's", "the person": "the person's"}
CARELESS = 0.25  # share of questions in lower case and without a question mark
CLAIMED = 0.2  # share of the questions about a label that name the face's own label
MEASURED = 0.8  # share of the questions about a unit that name a measured one


def training_turns(
    sheet: Sheet, reasoned: Reasoned | None, other: Sheet | None, rng: random.Random, n: int
) -> list[tuple[str, str]]:
    """`n` questions about a face with their answers. A kind repeats only after all kinds were used."""
    kinds: list[str] = []
    while len(kinds) < n:
        kinds += rng.sample(KINDS, len(KINDS))
    turns = []
    for kind in kinds[:n]:
        question = _question(kind, sheet, rng)
        turns.append((ask(question, sheet, rng), sample(answer(question, sheet, reasoned, other), rng)))
    return turns


def _question(kind: str, sheet: Sheet, rng: random.Random) -> Intent:
    others = [label for label in sheet.labels if label != sheet.label]
    label = sheet.label if not others or rng.random() < CLAIMED else rng.choice(others)
    codes = list(sheet.units) if sheet.units and rng.random() < MEASURED else list(ACTION_UNITS)
    match kind:
        case "why_not" | "is_it" | "how_likely" | "label_meaning" | "what_would_change" | "insist":
            return Intent(kind, label=label)
        case "unit_meaning" | "unit_present":
            return Intent(kind, unit=rng.choice(codes), negated=kind == "unit_present" and rng.random() < 0.5)
        case "region":
            return Intent(kind, region=rng.choice(REGIONS))
        case _:
            return Intent(kind)


def ask(question: Intent, sheet: Sheet, rng: random.Random) -> str:
    """Phrase the question, by a random example sentence."""
    name = "unit_denied" if question.negated else question.kind
    sources = words()["questions"][name]
    if question.kind in ("what_would_change", "insist"):  # some of their examples name no label
        named = question.label is not None
        sources = [s for s in sources if named == ("{asked}" in s or "{adjective}" in s)]
    source = rng.choice(sources)
    label = question.label or rng.choice(sheet.labels)
    who, whose = rng.choice(list(PEOPLE.items()))
    slots: Slots = {
        "label": text("it" if sheet.abstained else sheet.label),
        "asked": text(label),
        "adjective": text(rng.choice(words()["adjectives"].get(canonical(label) or "", [label]))),
        "who": text(who),
        "who_possessive": text(whose),
        "region": text(question.region or "mouth"),
    }
    if question.unit:
        unit = words()["units"][question.unit]
        are = "are" if unit["subject"].endswith("s") else "is"
        slots |= {
            "code": text(f"AU {question.unit}"),
            "number": text(question.unit),
            "unit_name": text(ACTION_UNITS[question.unit].name),
            "subject": template(unit["subject"]),
            "state": template(unit["state"]),
            "are": text(are),
            "Are": text(are),
        }
    phrased = sample(Sentence(template(source[:-1], **slots), source[-1]), rng)
    return phrased[:-1].lower() if rng.random() < CARELESS else phrased
