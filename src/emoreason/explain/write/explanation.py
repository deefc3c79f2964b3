"""Writes the built-in explanation of a face from its sheet: the reading, what is seen, and how the two fit.

It steps in where a language model's text fails the checks, and it writes the engine's training texts. The phrases are
in prompts/writer.yaml.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from emoreason.explain.prompts import TURNED
from emoreason.explain.sheet import Named, Reasoned, Sheet, ranked
from emoreason.explain.write.wording import (
    alternatives,
    article,
    denial,
    is_known,
    level,
    noun,
    phrase,
    pick,
    plural,
    reason,
    say,
    share,
    signs,
    spoken,
    words,
)
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import ACTION_UNITS, opposites, typical_units

TELLING = ("4", "1", "12", "5", "25", "24", "7", "15", "2", "9", "26", "6", "10", "17")  # most telling first
DEFINITE = 0.97  # from here on the second label is not worth a word


@dataclass(frozen=True)
class Parts:
    """The three parts of an explanation, in the order in which they are read."""

    reading: str
    seen: str = ""
    weighing: str = ""

    @property
    def short(self) -> str:
        return " ".join(part for part in (self.reading, self.seen, self.weighing) if part)


def write(sheet: Sheet, reasoned: Reasoned | None, rng: random.Random) -> Parts:
    """An explanation that says only what the sheet bears out."""
    if not sheet.units:
        return Parts(say(rng, words()["reading"]["unread"], why=reason(sheet, rng)))
    return Parts(reading(sheet, rng), seen(sheet, rng), weighing(sheet, reasoned, rng))


# ---- the reading -----------------------------------------------------------------------------------------------------


def reading(sheet: Sheet, rng: random.Random) -> str:
    """The label, or why there is none."""
    texts = words()["reading"]
    if sheet.abstained:
        return say(rng, texts["abstained"], why=reason(sheet, rng))
    how = level(sheet)
    if not is_known(sheet.label):
        return say(rng, texts["own_open" if how == "open" else "own"], label=spoken(sheet.label))
    adjective = words()["adjectives"].get(sheet.label, "")
    options = [text for text in texts[how] if adjective or "adjective" not in text]
    return say(rng, options, label=sheet.label, adjective=adjective, a=article(adjective))


# ---- what is seen ----------------------------------------------------------------------------------------------------


def seen(sheet: Sheet, rng: random.Random) -> str:
    """The named movements with strengths and sides, and one or two telling absences, whatever the label is."""
    clauses = named_clauses(sheet, rng)
    text = say(rng, words()["joins"][len(clauses)], *clauses) if clauses else rng.choice(words()["none"])
    quiet = quiet_clauses(sheet, rng)[: rng.choice((0, 0, 1) if len(clauses) > 2 else (1, 2) if clauses else (2,))]
    return f"{text} {say(rng, words()['absent'][len(quiet)], *quiet)}" if quiet else text


def named_clauses(sheet: Sheet, rng: random.Random) -> list[str]:
    """A clause for each named movement; two movements of one kind and strength share a clause."""
    used: list[str] = []
    named, clauses = list(sheet.named), []
    while named:
        unit = named.pop(0)
        entry = words()["units"][unit.code]
        what, done = pick(rng, alternatives(entry["what"])), alternatives(entry["done"])
        mate = next((other for other in named if _alike(unit, other, sheet)), None)
        if mate and (unit.code, mate.code) == ("1", "2"):
            entry = words()["units"]["1 2"]
            what, done = entry["what"], alternatives(entry["done"])
        elif mate and rng.random() < 0.6:
            other = words()["units"][mate.code]
            both = [word for word in alternatives(other["done"]) if word in done]
            what, done = f"{what} and {pick(rng, alternatives(other['what']))}", both
            entry = {**entry, "does": None}
        else:
            mate = None
        if mate:
            named.remove(mate)
        clauses.append(_clause(sheet, unit, what, done, entry, rng, used))
    return clauses


def _alike(unit: Named, other: Named, sheet: Sheet) -> bool:
    entries = words()["units"]
    one_sided = sheet.stronger_side(unit.code) or sheet.stronger_side(other.code)
    states = set(alternatives(entries[unit.code]["done"])) & set(alternatives(entries[other.code]["done"]))
    return unit.band == other.band and not one_sided and bool(states)


def _clause(sheet: Sheet, unit: Named, what: str, done: Sequence[str], entry: Mapping[str, Any], rng: random.Random,
            used: list[str]) -> str:  # fmt: skip
    """A frame that no clause of this text has used yet, without words that are labels of the user."""
    frames = [*words()["bands"][unit.band], *(words()["does"][unit.band] if entry.get("does") else ())]
    fresh = [frame for frame in frames if frame not in used] or frames
    far = alternatives(entry["strong"] or "fully")
    are = "are" if plural(what) else "is"
    options = {
        frame.format(what=what, are=are, done=state, far=degree, does=verb): frame
        for frame in rng.sample(fresh, len(fresh)) + frames
        for state in rng.sample(done, len(done))
        for degree in rng.sample(far, len(far))
        for verb in alternatives(entry.get("does") or "")
    }
    text = next((text for text in options if not leaks(text, sheet.labels)), next(iter(options)))
    used.append(options[text])
    side = sheet.stronger_side(unit.code)
    return text + (pick(rng, words()["side"]).format(side=side) if side else "")


def clause(sheet: Sheet, code: str, rng: random.Random) -> str:
    """A clause about one movement that may be named."""
    entry = words()["units"][code]
    what, done = pick(rng, alternatives(entry["what"])), alternatives(entry["done"])
    return _clause(sheet, Named(code, sheet.sure[code]), what, done, entry, rng, [])


def quiet_clauses(sheet: Sheet, rng: random.Random) -> list[str]:
    """Parts at rest and movements that are absent, for a few of the telling ones."""
    moving = {ACTION_UNITS[code].region for code in sheet.units if code not in sheet.absent}
    still = [
        rng.choice(alternatives(entry["say"]))
        for region, entry in words()["rest"].items()
        if region not in moving and set(entry["units"].split()) <= set(sheet.absent)
    ]
    regions = {ACTION_UNITS[unit.code].region for unit in sheet.named}
    telling = [code for code in TELLING if code in sheet.absent and ACTION_UNITS[code].region not in regions][:4]
    denied = [denial(code) for code in rng.sample(telling, len(telling)) if ACTION_UNITS[code].region in moving]
    clauses = [*rng.sample(still, len(still)), *denied]
    return [clause for clause in clauses if not leaks(clause, sheet.labels)]


# ---- how well it fits ------------------------------------------------------------------------------------------------


def weighing(sheet: Sheet, reasoned: Reasoned | None, rng: random.Random) -> str:
    """What speaks for the label and against it, how far the number can be trusted, and what must be known besides."""
    texts, order = words()["weighing"], ranked(sheet.probabilities)
    slots = {"label": spoken(sheet.label), "percent": share(sheet, sheet.label)}
    second = order[1][0] if len(order) > 1 else None
    if second:
        slots |= {"rival": spoken(second), "share": share(sheet, second)}
    if sheet.abstained:
        said = [say(rng, texts["open" if second else "open_one"], **slots)]
        if fitting := [unit.code for unit in sheet.named if unit.code in typical_units(sheet.label)]:
            said.append(say(rng, texts["open_fits"], **slots, **phrase(fitting, rng)))
        said.append(rng.choice(texts["open_trust"][sheet.trust]))
    else:
        said = list(_case(sheet, second, slots, rng))
        if reasoned and reasoned.label != sheet.label:
            said[1:] = [say(rng, texts["disagree"], **slots, other=spoken(reasoned.label))]
        said.append(say(rng, texts[sheet.trust], **slots))
    return " ".join((*said, *notes(sheet, rng)))


def _case(sheet: Sheet, second: str | None, slots: Mapping[str, str], rng: random.Random) -> Iterator[str]:
    """What the named movements are worth."""
    texts, named, typical = words()["weighing"], [unit.code for unit in sheet.named], typical_units(sheet.label)
    fitting, aside = [code for code in named if code in typical], [code for code in named if code not in typical]
    yield say(rng, texts[case_of(sheet)], **slots, **phrase(fitting or named, rng), **phrase(aside, rng, "aside"))
    lacking = [code for code in signs(sheet.label) if code in sheet.absent and not conflicts(code, named)]
    if second and sheet.runner_up:
        shared = [code for code in named if code in typical_units(second)]
        missing = [code for code in signs(second) if code in sheet.absent and code not in typical]
        missing = [code for code in missing if not conflicts(code, named)]
        kind = "shared" if shared else "rival_lacks" if missing else "rival"
        yield say(rng, texts[kind], **slots, **phrase(shared, rng), missing=noun(missing[0]) if missing else "")
    elif len(named) > 3:
        return
    elif fitting and lacking and rng.random() < 0.5:
        yield say(rng, texts["lacking"], **slots, missing=noun(rng.choice(lacking)))
    elif second and sheet.confidence < DEFINITE and rng.random() < 0.6:
        yield say(rng, texts["far"], **slots)


def case_of(sheet: Sheet) -> str:
    """How the named movements stand to the label."""
    named, typical = {unit.code for unit in sheet.named}, typical_units(sheet.label)
    if canonical(sheet.label) == "neutral":
        return "moved" if named else "rest" if sheet.at_rest else "quiet"
    if not typical:
        return "own"
    if named & typical:
        return "partly" if named - typical else "supported"
    if typical.intersection((*sheet.unclear, *sheet.sure)):
        return "faint" if not typical.intersection(sheet.sure) else "unsupported"
    return "unsupported" if named else "motionless"


def conflicts(code: str, named: Sequence[str]) -> bool:
    """Whether a named movement excludes this one, as two ways of holding the mouth do."""
    return not set(opposites(code)).isdisjoint(named)


def notes(sheet: Sheet, rng: random.Random) -> Iterator[str]:
    """Covered parts, a turned head, and words that the lexicon does not know."""
    texts = words()["weighing"]
    facts = ["covered"] * bool(sheet.covered) + ["turned"] * (sheet.yaw is not None and abs(sheet.yaw) >= TURNED)
    if facts:
        yield say(rng, texts["_".join(facts)], parts=" and the ".join(sheet.covered))
    for note in sheet.notes:
        if found := re.fullmatch(r"(.+) is not in the lexicon; it was taken as near to (.+)", note):
            yield say(rng, texts["near"], word=f'"{found[1]}"', others=found[2])
