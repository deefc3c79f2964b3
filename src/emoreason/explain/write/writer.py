"""Builds the grammars of the three sections from an evidence sheet. The phrases are in `prompts/`.

`order` is the random generator that plans a section (which units share a sentence, which phrases are alternatives). So
the grammar of one face is small, and the texts of a thousand faces still vary. By default the plan follows from the
measurements on the sheet.
"""

import random
import re
from collections.abc import Sequence

from emoreason.core.probabilities import percent
from emoreason.explain.sheet import Reasoned, Sheet, ranked
from emoreason.explain.write.grammar import Choice, Node, Sentence, Seq, choice, sample, seq, text
from emoreason.explain.write.observations import FRAMES, ROOMY, deniable, observations, plan_of
from emoreason.explain.write.phrases import (
    fill_template,
    label_phrases,
    load_phrases,
    plural,
    thinned,
    unit_nodes,
    unit_slots,
)
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import prototypes_of, typical_units

__all__ = ["abstention", "conclusion", "explanation", "interpretation", "observations"]

HEADINGS = ("Key observations:", "Overall emotional interpretation:", "Conclusion:")
SURENESS = (("sure", 0.9), ("fair", 0.75), ("unsure", 0.55), ("open", 0.0))
_REPLACED_BY = {"part": ("incomplete",), "alone": ("unmoved", "unlike"), "where": ("counted",)}  # left out beside these
_BELOW = re.compile(r"the best label has (\d+%), below the (\d+%) that was asked for")


def interpretation(sheet: Sheet, reasoned: Reasoned | None, order: random.Random | None = None) -> Node:
    """Which named units support the label, what speaks against it or for the runner-up, and how clear the case is."""
    rng = order or plan_of(sheet)
    words = load_phrases("interpretation")
    slots = _voice(sheet.confidence) | {"label": label_phrases(sheet.label), "name": text(sheet.label)}
    named = [unit.code for unit in sheet.named]
    typical = typical_units(sheet.label)
    support = [code for code in named if code in typical]
    if canonical(sheet.label) == "neutral":
        key, cited = ("quiet", named) if named else ("still" if sheet.at_rest and sheet.units else "faint", [])
    elif not typical:
        key, cited = "own", []
    elif support:
        key, cited = "supported", support
    else:
        faint = typical & set(sheet.visible) or not sheet.units
        key, cited = "faint" if faint else "unsupported" if sheet.visible else "motionless", []
    sentences: list[Node] = [_sentence(words[key], rng, slots, sheet, cited)]
    if reasoned and reasoned.label != sheet.label:
        sentences.append(_sentence(words["disagree"], rng, slots | {"other": label_phrases(reasoned.label)}))
    elif sheet.runner_up:
        sentences.append(_second(sheet, sheet.runner_up, rng, slots, named, typical))
    elif not sheet.brief:
        sentences += _rest(sheet, rng, slots, named, typical)
    return thinned(Seq(tuple(sentences)), rng)


def _rest(
    sheet: Sheet, rng: random.Random, slots: dict[str, Node], named: list[str], typical: frozenset[str]
) -> list[Node]:
    """Up to two more sentences, if no runner-up is close."""
    words = load_phrases("interpretation")
    aside = [code for code in named if typical and code not in typical]
    lacking = [code for code in deniable(sheet) if code in typical]
    second = ranked(sheet.probabilities)[1][0] if len(sheet.labels) > 1 else None
    contrary = [code for code in deniable(sheet) if second and code in typical_units(second) - typical]
    kinds = ["incomplete"] * bool(lacking and named) + ["aside"] * bool(aside) + _pattern(sheet)
    kinds += ["counted"] * (len(named) > 1 and bool(typical.intersection(named))) + _extent(sheet)
    kinds += ["where"] * (_place(sheet, typical) is not None)
    if second:
        kinds += (
            ["alone"] * 2
            + ["unlike"] * bool(contrary and named)
            + ["unmoved"] * (sheet.at_rest and bool(prototypes_of(second)))
        )
        slots = slots | {"second": label_phrases(second)}
    kinds = (
        list(dict.fromkeys(rng.choices(kinds, k=rng.choice((0, 1, 1, 1, 1, 2) if len(named) < ROOMY else (0, 1)))))
        if kinds
        else []
    )
    kinds = [kind for kind in kinds if not any(other in kinds for other in _REPLACED_BY.get(kind, ()))]
    sentences = []
    for kind in kinds:
        filled, frames = slots, words["second"][kind] if kind == "unlike" else words[kind]
        match kind:
            case "incomplete" | "unlike":
                filled = slots | _missing(rng.choice(lacking if kind == "incomplete" else contrary))
            case "alone":
                frames = frames[sureness(sheet.confidence)]
            case "counted":
                how, numbers = _share(len(typical.intersection(named)), len(named))
                filled, frames = slots | numbers, frames[how]
            case "where":
                place = words["places"][_place(sheet, typical)]
                filled = slots | {name: fill_template(entry, words, {}) for name, entry in place.items()}
        sentences.append(_sentence(frames, rng, filled, sheet, aside if kind == "aside" else ()))
    return sentences


def _share(fitting: int, named: int) -> tuple[str, dict[str, Node]]:
    """The phrase for how many of the named units fit the label."""
    numerals = load_phrases("interpretation")["numerals"]
    if fitting == named:
        return "all", {"all": text("both" if named == 2 else f"all {numerals[named]}")}
    if fitting == 1:
        return "one", {"one_of": choice(*(f"{few} of the {numerals[named]}" for few in ("one", "only one")))}
    return "some", {"some_of": text(f"{numerals[fitting]} of the {numerals[named]}")}


def _extent(sheet: Sheet) -> list[str]:
    """The kind of sentence for movements that are all small or all strong; empty otherwise."""
    bands = {unit.band for unit in sheet.named}
    small = len(sheet.named) > 1 and bands <= {"trace", "slight"}
    return ["weak"] * small + ["strong"] * (len(sheet.named) > 1 and bands == {"strong"})


def _place(sheet: Sheet, typical: frozenset[str]) -> str | None:
    """The region of the named units that support the label, if it is the only one and has a phrase."""
    regions = {unit.region for unit in sheet.named if unit.code in typical}
    place = next(iter(regions)) if len(regions) == 1 and len(sheet.named) > 1 else None
    return place if place in load_phrases("interpretation")["places"] else None


def _pattern(sheet: Sheet) -> list[str]:
    """The kind of sentence for a face that shows all or part of a prototype of its label; empty otherwise."""
    prototypes = [set(prototype.units) for prototype in prototypes_of(sheet.label)]
    named = {unit.code for unit in sheet.named}
    if any(len(units) > 1 and units <= named for units in prototypes):
        return ["complete"]
    whole = any(units <= named for units in prototypes)
    return ["part"] * (not whole and any(units & named for units in prototypes))


def _missing(code: str) -> dict[str, Node]:
    slots = unit_slots(code, None)
    undone = unit_nodes(code, None, "undone")[0]
    return {"lacking": slots["nominal"], "lacked": Seq((slots["attribute"], slots["bare"])), "undone": undone}


def _second(
    sheet: Sheet, second: str, rng: random.Random, slots: dict[str, Node], named: list[str], typical: frozenset[str]
) -> Node:
    """A sentence on the runner-up label."""
    words = load_phrases("interpretation")["second"]
    slots = slots | {"second": label_phrases(second)}
    other = typical_units(second)
    shared = [code for code in named if code in other]
    lacking = [code for code in deniable(sheet) if code in other - typical]
    if lacking and (not shared or rng.random() < 0.4):
        return _sentence(words["lacking"] + words["unlike"], rng, slots | _missing(rng.choice(lacking)))
    sentence = _sentence(words["shared" if shared else "plain"], rng, slots, sheet, shared)
    if rng.random() < 0.4:  # "Even so, fear is also possible."
        return Sentence(seq(fill_template(load_phrases("interpretation")["contrast"], {}, {}), ",", _body(sentence)))
    return sentence


def _voice(confidence: float) -> dict[str, Node]:
    """The phrases that depend on the confidence."""
    words = load_phrases("interpretation")
    how = sureness(confidence)
    phrases = {
        name: fill_template(words[name][how], words, {}, many=False)
        for name in ("suggest", "fits", "evidence", "reads", "hedge", "choose")
    }
    return phrases | {
        "speak": fill_template(words["speak"][how], words, {}),
        "speak_one": fill_template(words["speak"][how], words, {}, many=False),
    }


Reference = tuple[Node, bool]  # a unit as a noun phrase, and whether that is plural


def _sentence(
    frames: Sequence[str],
    rng: random.Random,
    slots: dict[str, Node],
    sheet: Sheet | None = None,
    cited: Sequence[str] = (),
) -> Node:
    """A sentence from one of a few frames. The cited units decide whether the verb is singular or plural."""
    many = True
    if sheet and cited:
        units, many = _listed(_referred(sheet, cited, rng), rng, limit=2 if len(sheet.named) < ROOMY else 1)
        code = rng.choice(cited)
        stated = Choice(unit_nodes(code, sheet.visible[code], "state"))
        slots = slots | {"units": units, "units2": units, "stated": stated}
        if not many:
            slots = slots | {"speak": slots["speak_one"]}
    chosen = rng.sample(frames, min(FRAMES, len(frames)))
    words = load_phrases("interpretation")
    nodes = tuple(fill_template(frame, words, slots, many) for frame in chosen)
    return Sentence(nodes[0] if len(nodes) == 1 else Choice(nodes))


def _listed(cited: Sequence[Reference], rng: random.Random, limit: int) -> Reference:
    """One or two units as noun phrases."""
    chosen = sorted(rng.sample(range(len(cited)), min(rng.choice((1, 2, 2)), limit, len(cited))))
    if len(chosen) == 2:
        return seq(cited[chosen[0]][0], "and", cited[chosen[1]][0]), True
    return cited[chosen[0]]


def _referred(sheet: Sheet, codes: Sequence[str], rng: random.Random) -> list[Reference]:
    """Units as "the raised brows" or "the raising of the brows", or all of them as "slightly raised brows"."""
    found: list[Reference] = []
    bare = rng.random() < 0.25
    for code in codes:
        look, *states, movement, amount = unit_nodes(code, sheet.visible[code], "reference")
        if not bare and rng.random() < 0.3:
            found.append((Choice((movement, amount)), False))
        else:
            found.append((look if bare else Choice(tuple(states)), plural(code)))
    return found


def sureness(confidence: float) -> str:
    return next(name for name, lower in SURENESS if confidence >= lower)


def conclusion(sheet: Sheet, reasoned: Reasoned | None, order: random.Random | None = None) -> Node:
    """The label, the confidence, and the runner-up if it is close."""
    rng = order or plan_of(sheet)
    words = load_phrases("interpretation")
    slots = _voice(sheet.confidence) | {"label": text(sheet.label), "percent": _percent(sheet.confidence)}
    frames = words["verdict"] + words["calibrated"] * 2 if sheet.calibrated else words["verdict"]
    apart = bool(sheet.runner_up) and sheet.calibrated and rng.random() < 0.5  # the runner-up gets its own sentence
    if not sheet.calibrated:  # an uncalibrated number does not tell how sure the model is
        slots["rated"] = fill_template(words["rated_only"], words, slots)
    elif apart or not sheet.runner_up:
        slots["rated"] = choice(*(fill_template(words[name], words, slots) for name in ("rated", "rated_last")))
    sentences = [_sentence(frames, rng, slots)]
    if sheet.runner_up:
        slots |= {"second": text(sheet.runner_up), "percent2": _percent(sheet.probabilities[sheet.runner_up])}
        if apart:
            sentences.append(_sentence(words["runner_up_apart"], rng, slots))
        else:
            sentences = [Sentence(Seq((_body(sentences[0]), _body(_sentence(words["runner_up"], rng, slots)))))]
    if not sheet.calibrated:
        sentences.append(_sentence(words["uncalibrated"], rng, slots))
    return thinned(Seq(tuple(sentences)), rng)


def _body(node: Node) -> Node:
    return node.body if isinstance(node, Sentence) else node


def _percent(probability: float) -> Node:
    number = percent(probability)
    if number[0] in "ou":  # over 99%, under 1%
        return text(number)
    return choice(number, number, number, f"about {number}", f"around {number}", f"roughly {number}")


def explanation(sheet: Sheet, reasoned: Reasoned | None, rng: random.Random) -> str:
    """A sampled explanation of three lines."""
    nodes = (observations(sheet, rng), interpretation(sheet, reasoned, rng), conclusion(sheet, reasoned, rng))
    sections = [sample(node, rng) for node in nodes]
    sections[1] += notes(sheet)
    return three_lines(*sections)


def three_lines(*sections: str) -> str:
    return "\n".join(f"{heading} {section}" for heading, section in zip(HEADINGS, sections, strict=True))


def abstention(sheet: Sheet) -> str:
    """A text for a face without a reading: it gives the reason and makes no claim."""
    words = load_phrases("interpretation")["abstention"]
    rng = plan_of(sheet)
    why = sheet.why or "no movement of the face was measured"
    keys = ["observations", "interpretation", "conclusion"]
    if sheet.units:  # the face can be described; it is only the label that stays open
        keys[1] = "described"
    slots: dict[str, Node] = {"why": text(why)}
    if found := _BELOW.fullmatch(why):  # a common reason, so it has several wordings
        keys[2] = "close"
        slots |= {"reached": text(found[1]), "limit": text(found[2])}
    sections = [sample(_sentence(words[key], rng, slots), rng) for key in keys]
    if sheet.units:
        sections[0] = sample(observations(sheet, rng), rng)
    sections[1] += notes(sheet)
    return three_lines(*sections)


def notes(sheet: Sheet) -> str:
    """The sheet's notes as sentences that follow the interpretation."""
    return "".join(f" {note[0].upper()}{note[1:]}." for note in sheet.notes)
