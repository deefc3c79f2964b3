"""Small pieces of wording for the built-in texts: labels, percentages, movements as noun phrases, filled templates."""

import random
import re
from collections.abc import Sequence
from typing import Any

from emoreason.core.probabilities import percent
from emoreason.explain.sheet import Sheet
from emoreason.explain.write.phrases import load_phrases
from emoreason.knowledge.emotions import CIRCUMPLEX, canonical

LEVELS = (("sure", 0.9), ("fair", 0.75), ("unsure", 0.5), ("open", 0.0))
BELOW = re.compile(r"the best label has (\S+%), below the (\S+%) that was asked for")
VERBS = {"are": "is", "carry": "carries", "belong": "belongs", "speak": "speaks", "fit": "fits", "do": "does",
         "make": "makes"}  # fmt: skip


def words() -> dict[str, Any]:
    return load_phrases("writer")


def is_known(label: str) -> bool:
    """Whether the label is the plain name of an emotion; a user's own word is put in quotes instead."""
    return label in CIRCUMPLEX


def spoken(label: str) -> str:
    return label if is_known(label) else f'"{label}"'


def share(sheet: Sheet, label: str) -> str:
    return spaced(percent(sheet.probabilities[label]))


def spaced(text: str) -> str:
    return re.sub(r"(\d)%", r"\1 %", text)


def reason(sheet: Sheet, rng: random.Random) -> str:
    """Why no label is named, to be put after a colon."""
    if found := BELOW.fullmatch(sheet.why):
        return rng.choice(words()["why"]["below"]).format(best=spaced(found[1]), least=spaced(found[2]))
    return spaced(sheet.why.strip().rstrip(".").replace(": ", ", ")) or words()["why"]["nothing"]


def denial(code: str) -> str:
    entry = words()["units"][code]
    what = alternatives(entry["what"])[0]
    return f"{what} {'are' if plural(what) else 'is'} not {alternatives(entry['done'])[0]}"


def denials(codes: Sequence[str], limit: int) -> list[str]:
    """Denials of these movements, one for each part of the face."""
    by_part = {words()["units"][code]["what"]: denial(code) for code in reversed(codes)}
    return list(by_part.values())[-limit:][::-1]


def level(sheet: Sheet) -> str:
    """How firmly the label may be said. A number that was not checked counts one step less."""
    names = [name for name, lower in LEVELS if sheet.confidence >= lower]
    return names[0] if sheet.trust == "calibrated" else (*names, "open")[1]


def signs(label: str) -> list[str]:
    """The movements by which people usually recognise the expression, the most telling first."""
    return words()["signs"].get(canonical(label) or "", "").split()


def phrase(codes: Sequence[str], rng: random.Random, name: str = "units") -> dict[str, str]:
    """Slots for one or two movements as noun phrases, with verbs in their number."""
    chosen = sorted(rng.sample(range(len(codes)), min(2 if name == "units" else 1, len(codes))))
    nouns = [words()["units"][codes[i]]["as"] for i in chosen]
    many = len(nouns) > 1 or any(map(plural, nouns))
    ending = "" if name == "units" else f"_{name}"
    verbs = {f"{verb}{ending}": verb if many else single for verb, single in VERBS.items()}
    return {name: " and ".join(f"the {text}" for text in nouns), **verbs}


def noun(code: str) -> str:
    text = words()["units"][code]["as"]
    return text if plural(text) else f"{article(text)} {text}"


def say(rng: random.Random, templates: Sequence[str], *clauses: str, **slots: str) -> str:
    """One of the templates, filled, with capitals where sentences begin. {Label} is {label} with a capital."""
    text = rng.choice(templates).format(*clauses, **slots, **{name.capitalize(): s for name, s in slots.items()})
    return re.sub(r"(?:^|(?<=[.!?] ))[a-z]", lambda found: found[0].upper(), text)


def alternatives(text: str) -> list[str]:
    return [part.strip() for part in text.split("|")]


def pick(rng: random.Random, options: Sequence[str]) -> str:
    return options[rng.randrange(len(options))]


def plural(noun: str) -> bool:
    return " and " in noun or noun.split(" of ")[0].endswith("s")


def article(word: str) -> str:
    return "an" if word[:1] in "aeiou" else "a"
