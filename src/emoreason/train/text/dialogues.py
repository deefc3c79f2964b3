"""Questions about a face, with the built-in answers, for training."""

import random

from emoreason.explain.check.statements import View
from emoreason.explain.sheet import Placed, Sheet
from emoreason.explain.write.answers import answer
from emoreason.explain.write.phrases import load_phrases
from emoreason.knowledge.facs import PLAIN_NAMES, REGIONS
from emoreason.train.text.handwritten import careless

CLAIMED = 0.3  # share of the questions about a label that name the face's own label


def training_turns(sheet: Sheet, rng: random.Random, n: int) -> list[tuple[str, str]]:
    """`n` questions about a face with their answers. A kind repeats only after all kinds were used."""
    examples = load_phrases("answers")["examples"]
    kinds: list[str] = []
    while len(kinds) < n:
        kinds += rng.sample(list(examples), len(examples))
    view, turns = View([Placed(sheet)]), []
    for kind in kinds[:n]:
        question = ask(rng.choice(examples[kind]), sheet, rng)
        turns.append((question, answer(question, view, rng)))
    return turns


def ask(example: str, sheet: Sheet, rng: random.Random) -> str:
    """The example question about a label, a movement or a part of the face, sometimes typed carelessly."""
    others = [label for label in sheet.labels if label != sheet.label]
    label = sheet.label if not others or rng.random() < CLAIMED else rng.choice(others)
    code = rng.choice([code for code in sheet.units if code in PLAIN_NAMES] or list(PLAIN_NAMES))
    slots = {"label": label, "unit": PLAIN_NAMES[code], "code": code, "part": rng.choice(REGIONS)}
    return careless(example.format(**slots), rng)
