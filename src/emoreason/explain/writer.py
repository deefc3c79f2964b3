"""The writer: an evidence sheet -> grammars of the three sections. What may be said is decided here, how in `prompts/`.

`order` draws the plan of a section (which units share a sentence, which words stand for choice), so that one face gets
a small grammar and a thousand faces get a large one. Without it the plan follows from the numbers of the sheet.
"""

import random
import re
import zlib
from collections.abc import Sequence

from emoreason.emotions import canonical
from emoreason.explain.grammar import Choice, Node, Sentence, Seq, sample, seq, text
from emoreason.explain.sheet import Named, Reasoned, Sheet
from emoreason.explain.words import (
    blocked_words,
    book,
    general_nodes,
    numbers,
    spoken,
    thinned,
    unit_nodes,
    unit_slots,
    written,
)
from emoreason.facs import PROTOTYPES, opposites

HEADINGS = ("Key observations:", "Overall emotional interpretation:", "Conclusion:")
FRAMES = 2  # frames of a clause that stay open for choice
QUIET = {1: (1, 2), 2: (0, 2), 3: (0, 1)}  # named units -> sentences on what does not move
TELLING = ("12", "4", "1", "2", "25", "5", "15", "26", "7", "24", "43")  # units whose absence says something
_BELOW = re.compile(r"the best label has (\d+%), below the (\d+%) that was asked for")
_TOGETHER = ({"25", "26", "27"}, {"5", "7", "43"}, {"1", "2"}, {"12", "15"})  # not to be denied beside one another
SURENESS = (("sure", 0.9), ("fair", 0.75), ("unsure", 0.55), ("open", 0.0))


def observations(sheet: Sheet, order: random.Random | None = None) -> Node:
    """Every named unit with its band, a few telling absent ones, no emotion word. Never reads a probability."""
    rng = order or _plan(sheet)
    blocked = blocked_words(sheet.labels)
    named = list(sheet.named)
    if rng.random() < 0.3:
        named.reverse()
    sentences = _affirmed(named, rng, blocked)
    if not sheet.units:
        sentences.append(Sentence(_pick(general_nodes("unmeasured", blocked), rng)))
    elif not named:
        sentences += _still(sheet, rng, blocked)
    else:
        least, most = QUIET.get(len(named), (0, 0))
        sentences += [Sentence(node) for node in _quiet_parts(sheet, rng, blocked)[: rng.randint(least, most)]]
    return thinned(Seq(tuple(sentences)), rng)


def _plan(sheet: Sheet) -> random.Random:
    return random.Random(zlib.crc32(repr(sorted(sheet.units.items())).encode()))


def _pick(nodes: Sequence[Node], rng: random.Random, n: int = FRAMES) -> Node:
    """A choice among a few of the nodes."""
    kept = rng.sample(nodes, min(n, len(nodes)))
    return kept[0] if len(kept) == 1 else Choice(tuple(kept))


def _affirmed(named: list[Named], rng: random.Random, blocked: frozenset[str]) -> list[Node]:
    """The named units, one to three a sentence."""
    sentences: list[Node] = []
    left = list(named)
    while left:
        size = min(len(left), rng.choice((1, 2, 2, 3) if len(named) > 2 else (1, 2, 2)))
        sentences.append(_sentence([left.pop(0) for _ in range(size)], rng, blocked, "later" if sentences else "first"))
    return sentences


def _sentence(group: list[Named], rng: random.Random, blocked: frozenset[str], place: str) -> Node:
    words = book("observations")

    def part(unit: Named, kind: str) -> Node:
        return _pick(unit_nodes(unit.code, unit.band, kind, blocked), rng)

    lead = rng.random()
    first, rest = group[0], group[1:]
    if len(group) > 1 and lead < 0.15 and place == "first":  # "Two things stand out: ..., and ..."
        announced = written(words["announced"][str(len(group))], words, {})
        parts: list[Node] = [announced, part(first, "counted")]
        for unit in rest[:-1]:
            parts += [text(","), part(unit, "counted")]
        return Sentence(seq(*parts, ", and", part(rest[-1], "counted")))
    if len(group) == 2 and lead < 0.3:  # "With the lids drooping a little, the lips part slightly"
        fronted = written(words["fronted"], words, {})
        return Sentence(seq(fronted, part(first, "absolute"), ",", part(rest[0], "clauses")))
    parts = []
    if lead > 0.8:
        parts += [written(words["openers"][place], words, {}), text(",")]
    elif lead > 0.65:
        parts += [written(words["places"][first.region], words, {}), text(",")]
    parts.append(part(first, "clauses"))
    for i, unit in enumerate(rest):
        kind = "absolute" if i == 0 and rng.random() < 0.4 else "clauses"
        join = "absolute" if kind == "absolute" else "clause"
        parts += [written(words["joins"][join], words, {}), part(unit, kind)]
    return Sentence(Seq(tuple(parts)))


def _still(sheet: Sheet, rng: random.Random, blocked: frozenset[str]) -> list[Node]:
    """A face without a visible unit: that nothing moves, and one or two parts of it."""
    parts = _quiet_parts(sheet, rng, blocked)
    general = _pick(general_nodes("nothing", blocked), rng)
    match rng.randrange(4):
        case 0:
            return [Sentence(general), *(Sentence(node) for node in parts[:2])]
        case 1:
            return [Sentence(general), *([Sentence(_joined(parts[:2], rng))] if parts else [])]
        case 2:
            return [*(Sentence(node) for node in parts[:1]), Sentence(general)]
        case _:
            return [Sentence(_joined([general, *parts[:1]], rng)), *(Sentence(node) for node in parts[1:2])]


def _joined(nodes: Sequence[Node], rng: random.Random) -> Node:
    joins = book("observations")["joins"]["clause"]
    parts = [nodes[0]]
    for node in nodes[1:]:
        parts += [written(joins, {}, {}), node]
    return Seq(tuple(parts))


def _quiet_parts(sheet: Sheet, rng: random.Random, blocked: frozenset[str]) -> list[Node]:
    """Clauses on what does not move, in random order, no region twice."""
    denied = [[code] for code in _denied(sheet)]
    regions = {name: entry["units"] for name, entry in book("observations")["rest"].items()}
    absent = set(sheet.absent)
    resting = [(name, units) for name, units in regions.items() if absent.issuperset(units)]
    found: list[tuple[set[str], Node]] = []
    for [code] in denied:
        found.append(({code}, _pick(unit_nodes(code, None, "absent", blocked), rng)))
    for name, units in resting * 2:
        found.append((set(units), _pick(general_nodes("resting", blocked, name), rng)))
    rng.shuffle(found)
    kept: list[Node] = []
    said: set[str] = set()
    for codes, node in found:
        near = {code for group in (*_TOGETHER, *map(set, regions.values())) if group & codes for code in group}
        if not near & said:
            said |= codes
            kept.append(node)
    return kept


def _denied(sheet: Sheet) -> list[str]:
    """Absent units worth a word: none beside a grade or the opposite of what is there."""
    there, absent = set(sheet.visible), set(sheet.absent)
    close = {code for group in _TOGETHER if group & there for code in group}
    close.update(other for code in there for other in opposites(code))
    return [code for code in TELLING if code in absent and code not in close]


def interpretation(sheet: Sheet, reasoned: Reasoned | None, order: random.Random | None = None) -> Node:
    """Which named units speak for the label, what is against it or for the runner-up, how open it is."""
    rng = order or _plan(sheet)
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
    sentences: list[Node] = [_said(words[key], rng, slots, cited)]
    if reasoned and reasoned.label != sheet.label:
        sentences.append(_said(words["disagree"], rng, slots | {"other": spoken(reasoned.label)}))
    elif sheet.runner_up:
        sentences.append(_second(sheet, sheet.runner_up, rng, slots, named, typical))
    else:
        sentences += _rest(sheet, rng, slots, named, typical)
    return thinned(Seq(tuple(sentences)), rng)


def _rest(sheet: Sheet, rng: random.Random, slots: dict[str, Node], named: list[str], typical: set[str]) -> list[Node]:
    """A sentence more where no runner-up is close."""
    words = book("interpretation")
    aside = [code for code in named if typical and code not in typical]
    lacking = [code for code in _denied(sheet) if code in typical]
    kinds = ["alone", "alone"] + ["aside"] * bool(aside) + ["incomplete"] * bool(lacking and named)
    kind = rng.choice(kinds) if rng.random() < 0.8 else None
    if kind == "incomplete":
        slots = slots | {"lacking": _missing(rng.choice(lacking))}
    return [_said(words[kind], rng, slots, aside if kind == "aside" else ())] if kind else []


def _missing(code: str) -> Node:
    return unit_slots(code, None, numbers(code)[0])["compound"]


def _second(
    sheet: Sheet, second: str, rng: random.Random, slots: dict[str, Node], named: list[str], typical: set[str]
) -> Node:
    """A sentence on what else the face might be called."""
    words = book("interpretation")["second"]
    slots = slots | {"second": spoken(second)}
    other = _typical(second)
    shared = [code for code in named if code in other]
    lacking = [code for code in _denied(sheet) if code in other - typical]
    if shared and (not lacking or rng.random() < 0.6):
        return _said(words["shared"], rng, slots, shared)
    if lacking:
        code = rng.choice(lacking)
        return _said(words["lacking"], rng, slots | {"lacking": _missing(code)})
    return _said(words["plain"], rng, slots)


def _voice(confidence: float) -> dict[str, Node]:
    """The words that depend on how sure the evidence is."""
    words = book("interpretation")
    how = sureness(confidence)
    adverb = written(words["adverb"][how], words, {})
    given = {
        "adverb": adverb,
        **{name: written(words[name][how], words, {}) for name in ("i_adverb", "degree_of", "likely", "firm")},
    }
    signs = words["sign_open"] if how in ("unsure", "open") else words["signs"]
    return given | {
        "saying": written(words["saying"][how], words, given, many=False),
        "saying_all": written(words["saying"][how], words, given),
        "goes": written(words["goes"][how], words, given),
        "signs": written(signs, words, given),
    }


def _said(frames: Sequence[str], rng: random.Random, slots: dict[str, Node], cited: Sequence[str] = ()) -> Node:
    """A sentence of one of a few frames. The units that it cites are its subject's number as well."""
    many = True
    if cited:
        units, many = _listed(cited, rng)
        slots = slots | {"units": units, "units2": units}
        if not many:
            slots = slots | {"saying_all": slots["saying"]}
    chosen = rng.sample(frames, min(FRAMES, len(frames)))
    words = book("interpretation")
    nodes = tuple(written(frame, words, slots, many) for frame in chosen)
    return Sentence(nodes[0] if len(nodes) == 1 else Choice(nodes))


def _listed(codes: Sequence[str], rng: random.Random) -> tuple[Node, bool]:
    """One or two units as noun phrases, and whether they are many."""
    chosen = sorted(rng.sample(codes, min(rng.choice((1, 2, 2)), len(codes))), key=list(codes).index)
    parts = [_reference(code, rng) for code in chosen]
    if len(parts) == 2:
        return seq(parts[0][0], "and", parts[1][0]), True
    return parts[0]


def _reference(code: str, rng: random.Random) -> tuple[Node, bool]:
    """A named unit as "the raised brows" or "brow raising"."""
    many = numbers(code)[0]
    if rng.random() < 0.4:
        return unit_slots(code, None, many)["compound"], False
    return unit_nodes(code, None, "reference")[0], many


def _typical(label: str) -> set[str]:
    """The units of a label's prototypes."""
    prototypes = PROTOTYPES.get(canonical(label) or "", ())
    return {code for prototype in prototypes for code in (*prototype.units, *prototype.optional)}


def sureness(confidence: float) -> str:
    return next(name for name, lower in SURENESS if confidence >= lower)


def conclusion(sheet: Sheet, reasoned: Reasoned | None, order: random.Random | None = None) -> Node:
    """The label, how sure, the runner-up when it is close."""
    rng = order or _plan(sheet)
    words = book("interpretation")
    slots = _voice(sheet.confidence) | {"label": spoken(sheet.label), "percent": _percent(sheet.confidence)}
    sentence = _said(words["verdict"], rng, slots)
    if sheet.runner_up:
        slots |= {"second": spoken(sheet.runner_up), "percent2": _percent(sheet.probabilities[sheet.runner_up])}
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
    rng = _plan(sheet)
    why = sheet.why or "no movement of the face was measured"
    keys = ["observations", "interpretation", "conclusion"]
    given: dict[str, Node] = {"why": text(why)}
    if found := _BELOW.fullmatch(why):  # said in many ways, because many faces have it
        keys[2] = "close"
        given |= {"reached": text(found[1]), "limit": text(found[2])}
    return three_lines(*(sample(_said(words[key], rng, given), rng) for key in keys))
