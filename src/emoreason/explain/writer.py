"""The writer: an evidence sheet -> grammars of the three sections. What may be said is decided here, how in `prompts/`.

`order` draws the plan of a section (which units share a sentence, which words stand for choice), so that one face gets
a small grammar and a thousand faces get a large one. Without it the plan follows from the numbers of the sheet.
"""

import random
import re
from collections.abc import Sequence

from emoreason.emotions import canonical
from emoreason.explain.grammar import Choice, Node, Sentence, Seq, sample, seq, text
from emoreason.explain.observed import FRAMES, deniable, observations, plan_of
from emoreason.explain.sheet import Reasoned, Sheet, ranked
from emoreason.explain.words import articled, book, plural, spoken, thinned, unit_nodes, unit_slots, written
from emoreason.facs import PROTOTYPES

__all__ = ["abstention", "conclusion", "explanation", "interpretation", "observations"]

HEADINGS = ("Key observations:", "Overall emotional interpretation:", "Conclusion:")
SURENESS = (("sure", 0.9), ("fair", 0.75), ("unsure", 0.55), ("open", 0.0))
_BELOW = re.compile(r"the best label has (\d+%), below the (\d+%) that was asked for")


def interpretation(sheet: Sheet, reasoned: Reasoned | None, order: random.Random | None = None) -> Node:
    """Which named units speak for the label, what is against it or for the runner-up, how open it is."""
    rng = order or plan_of(sheet)
    words = book("interpretation")
    slots = _voice(sheet.confidence) | {"label": spoken(sheet.label), "name": text(sheet.label)}
    named = [unit.code for unit in sheet.named]
    typical = _typical(sheet.label)
    support = [code for code in named if code in typical]
    if canonical(sheet.label) == "neutral":
        key, cited = ("quiet", named) if named else ("faint" if sheet.visible or not sheet.units else "still", [])
    elif not typical:
        key, cited = "own", []
    elif support:
        key, cited = "supported", support
    else:
        key, cited = "faint" if typical & set(sheet.visible) or not sheet.units else "unsupported", []
    sentences: list[Node] = [_said(words[key], rng, slots, _referred(sheet, cited, rng))]
    if reasoned and reasoned.label != sheet.label:
        sentences.append(_said(words["disagree"], rng, slots | {"other": spoken(reasoned.label)}))
    elif sheet.runner_up:
        sentences.append(_second(sheet, sheet.runner_up, rng, slots, named, typical))
    elif not sheet.brief:
        sentences += _rest(sheet, rng, slots, named, typical)
    return thinned(Seq(tuple(sentences)), rng)


def _rest(sheet: Sheet, rng: random.Random, slots: dict[str, Node], named: list[str], typical: set[str]) -> list[Node]:
    """A sentence more where no runner-up is close."""
    words = book("interpretation")
    aside = [code for code in named if typical and code not in typical]
    lacking = [code for code in deniable(sheet) if code in typical]
    kinds = ["alone"] + ["aside"] * bool(aside) + ["incomplete"] * bool(lacking and named)
    kind = rng.choice(kinds) if rng.random() < 0.7 else None
    if kind == "incomplete":
        slots = slots | _missing(rng.choice(lacking))
    if len(sheet.labels) > 1:
        slots = slots | {"second": spoken(ranked(sheet.probabilities)[1][0])}
    elif kind == "alone":
        return []
    frames = words["alone"][sureness(sheet.confidence)] if kind == "alone" else words[kind] if kind else []
    return [_said(frames, rng, slots, _referred(sheet, aside, rng) if kind == "aside" else ())] if kind else []


def _missing(code: str) -> dict[str, Node]:
    lacking = unit_slots(code, None)["nominal"]
    return {"lacking": lacking, "a_lacking": articled(lacking)}


def _second(
    sheet: Sheet, second: str, rng: random.Random, slots: dict[str, Node], named: list[str], typical: set[str]
) -> Node:
    """A sentence on what else the face might be called."""
    words = book("interpretation")["second"]
    slots = slots | {"second": spoken(second)}
    other = _typical(second)
    shared = [code for code in named if code in other]
    lacking = [code for code in deniable(sheet) if code in other - typical]
    if shared and (not lacking or rng.random() < 0.6):
        return _said(words["shared"], rng, slots, _referred(sheet, shared, rng))
    if lacking:
        code = rng.choice(lacking)
        return _said(words["lacking"], rng, slots | _missing(code))
    return _said(words["plain"], rng, slots)


def _voice(confidence: float) -> dict[str, Node]:
    """The words that depend on how sure the evidence is."""
    words = book("interpretation")
    how = sureness(confidence)
    said = {
        name: written(words[name][how], words, {}, many=False)
        for name in ("suggest", "fits", "evidence", "reads", "hedge", "choose")
    }
    return said | {
        "speak": written(words["speak"][how], words, {}),
        "speak_one": written(words["speak"][how], words, {}, many=False),
    }


Reference = tuple[Node, bool]  # a unit as a noun phrase, and whether that is many


def _said(frames: Sequence[str], rng: random.Random, slots: dict[str, Node], cited: Sequence[Reference] = ()) -> Node:
    """A sentence of one of a few frames. The units that it cites are its subject's number as well."""
    many = True
    if cited:
        units, many = _listed(cited, rng)
        slots = slots | {"units": units, "units2": units}
        if not many:
            slots = slots | {"speak": slots["speak_one"]}
    chosen = rng.sample(frames, min(FRAMES, len(frames)))
    words = book("interpretation")
    nodes = tuple(written(frame, words, slots, many) for frame in chosen)
    return Sentence(nodes[0] if len(nodes) == 1 else Choice(nodes))


def _listed(cited: Sequence[Reference], rng: random.Random) -> Reference:
    """One or two units as noun phrases."""
    chosen = sorted(rng.sample(range(len(cited)), min(rng.choice((1, 2, 2)), len(cited))))
    if len(chosen) == 2:
        return seq(cited[chosen[0]][0], "and", cited[chosen[1]][0]), True
    return cited[chosen[0]]


def _referred(sheet: Sheet, codes: Sequence[str], rng: random.Random) -> list[Reference]:
    """Named units as "the raised brows", "the slightly raised brows" or "the raising of the brows"."""
    found = []
    for code in codes:
        *states, movement = unit_nodes(code, sheet.visible[code], "reference")
        found.append((movement, False) if rng.random() < 0.2 else (Choice(tuple(states)), plural(code)))
    return found


def _typical(label: str) -> set[str]:
    """The units of a label's prototypes."""
    prototypes = PROTOTYPES.get(canonical(label) or "", ())
    return {code for prototype in prototypes for code in (*prototype.units, *prototype.optional)}


def sureness(confidence: float) -> str:
    return next(name for name, lower in SURENESS if confidence >= lower)


def conclusion(sheet: Sheet, reasoned: Reasoned | None, order: random.Random | None = None) -> Node:
    """The label, how sure, the runner-up when it is close."""
    rng = order or plan_of(sheet)
    words = book("interpretation")
    slots = _voice(sheet.confidence) | {"label": text(sheet.label), "percent": _percent(sheet.confidence)}
    frames = words["verdict"] + words["calibrated"] if sheet.calibrated else words["verdict"]
    if not sheet.calibrated:  # then the number is no measure of how sure one may be
        slots["rated"] = written(words["rated_only"], words, slots)
    sentence = _said(frames, rng, slots)
    if sheet.runner_up:
        slots |= {"second": text(sheet.runner_up), "percent2": _percent(sheet.probabilities[sheet.runner_up])}
        sentence = Sentence(Seq((_body(sentence), _body(_said(words["runner_up"], rng, slots)))))
    sentences = [sentence]
    if not sheet.calibrated:
        sentences.append(_said(words["uncalibrated"], rng, slots))
    return thinned(Seq(tuple(sentences)), rng)


def _body(node: Node) -> Node:
    return node.body if isinstance(node, Sentence) else node


def _percent(probability: float) -> Node:
    """Rounded, but never a certainty that no measurement gives."""
    return text(f"{min(99, max(1, round(100 * probability)))}%")


def explanation(sheet: Sheet, reasoned: Reasoned | None, rng: random.Random) -> str:
    """The three lines, sampled."""
    nodes = (observations(sheet, rng), interpretation(sheet, reasoned, rng), conclusion(sheet, reasoned, rng))
    return three_lines(*(sample(node, rng) for node in nodes))


def three_lines(*sections: str) -> str:
    return "\n".join(f"{heading} {section}" for heading, section in zip(HEADINGS, sections, strict=True))


def abstention(sheet: Sheet) -> str:
    """What is missing, and no claim."""
    words = book("interpretation")["abstention"]
    rng = plan_of(sheet)
    why = sheet.why or "no movement of the face was measured"
    keys = ["observations", "interpretation", "conclusion"]
    given: dict[str, Node] = {"why": text(why)}
    if found := _BELOW.fullmatch(why):  # said in many ways, because many faces have it
        keys[2] = "close"
        given |= {"reached": text(found[1]), "limit": text(found[2])}
    return three_lines(*(sample(_said(words[key], rng, given), rng) for key in keys))
