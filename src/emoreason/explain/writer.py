"""The writer: an evidence sheet -> grammars of the three sections. What may be said is decided here, how in `prompts/`.

`order` draws the plan of a section (which units share a sentence, which frames stand for choice), so that one face gets
a small grammar and a thousand faces get a large one. Without it the plan follows from the numbers of the sheet.
"""

import random
import zlib
from collections.abc import Sequence

from emoreason.emotions import canonical
from emoreason.explain.grammar import Choice, Node, Sentence, Seq, sample, seq, template, text
from emoreason.explain.sheet import Named, Reasoned, Sheet
from emoreason.explain.words import blocked_words, book, phrases, unit_nodes, unit_slots, without
from emoreason.facs import PROTOTYPES, opposites

HEADINGS = ("Key observations:", "Overall emotional interpretation:", "Conclusion:")
FRAMES = 3  # frames of a clause that stay open for choice
TELLING = ("12", "4", "1", "2", "25", "5", "15", "26", "7", "24", "43", "27")  # whose absence says something
_TOGETHER = (
    {"25", "26", "27"},
    {"5", "7", "43"},
    {"1", "2"},
)  # one movement's grades: not to be denied beside one another
SURENESS = (("sure", 0.9), ("fair", 0.75), ("unsure", 0.55), ("open", 0.0))


def observations(sheet: Sheet, order: random.Random | None = None) -> Node:
    """Every named unit with its band, a few telling absent ones, no emotion word. Never reads a probability."""
    rng = order or _plan(sheet)
    blocked = blocked_words(sheet.labels)
    named = list(sheet.named)
    if rng.random() < 0.3:
        named.reverse()
    sentences = [_sentence(group, rng, blocked) for group in _grouped(named, rng)]
    if not named:
        sentences.append(Sentence(_open("nothing" if sheet.units else "unmeasured", "observations", rng, blocked)))
    most = {0: 2, 1: 2, 2: 1, 3: 1}.get(len(named), 0)
    fewest = 1 if not named and sheet.absent else 0
    denied = _denied(sheet, rng)[: rng.randint(min(fewest, most), most)]
    sentences += [Sentence(_pick(unit_nodes(code, None, "absent", blocked), rng)) for code in denied]
    return Seq(tuple(sentences))


def _plan(sheet: Sheet) -> random.Random:
    return random.Random(zlib.crc32(repr(sorted(sheet.units.items())).encode()))


def _pick(nodes: Sequence[Node], rng: random.Random, n: int = FRAMES) -> Node:
    """A choice among a few of the nodes."""
    kept = rng.sample(nodes, min(n, len(nodes)))
    return kept[0] if len(kept) == 1 else Choice(tuple(kept))


def _grouped(named: list[Named], rng: random.Random) -> list[list[Named]]:
    """One or two units a sentence, four sentences at most."""
    groups, left = [], list(named)
    while left:
        pair = len(left) > 1 and rng.random() < 0.65
        groups.append([left.pop(0) for _ in range(2 if pair else 1)])
    while len(groups) > 3:
        groups[-2:] = [groups[-2] + groups[-1]]
    return groups


def _sentence(group: list[Named], rng: random.Random, blocked: frozenset[str]) -> Node:
    words = book("observations")
    parts: list[Node] = []
    if rng.random() < 0.5:
        lead = rng.choice((words["openers"], words["places"][group[0].region]))
        parts += [phrases(lead), text(",")] if lead is not words["openers"] else [_opener(lead)]
    for i, unit in enumerate(group):
        kind = "absolute" if i and rng.random() < 0.35 else "clauses"
        if i:
            parts.append(phrases(words["joins"]["absolute" if kind == "absolute" else "clause"]))
        parts.append(_pick(unit_nodes(unit.code, unit.band, kind, blocked), rng))
    return Sentence(Seq(tuple(parts)))


def _opener(openers: str) -> Node:
    spoken = [f"{opener.strip()}," for opener in openers.split("|") if opener.strip()]
    return phrases(" | ".join(spoken))


def _denied(sheet: Sheet, rng: random.Random) -> list[str]:
    """Absent units worth a word, in random order: none beside a grade or the opposite of what is there."""
    there = set(sheet.visible)
    close = {code for group in _TOGETHER if group & there for code in group}
    close.update(other for code in there for other in opposites(code))
    found: list[str] = []
    for code in rng.sample(TELLING, len(TELLING)):
        if (
            code in sheet.absent
            and code not in close
            and not any({code, *found} & g == {code, *found} for g in _TOGETHER)
        ):
            found.append(code)
    return found


def _open(name: str, file: str, rng: random.Random, blocked: frozenset[str] = frozenset(), **slots: Node) -> Node:
    """A choice among a few templates of a list."""
    nodes = [template(source, **slots) for source in book(file)[name]]
    return _pick([node for node in (without(node, blocked) for node in nodes) if node is not None], rng)


def interpretation(sheet: Sheet, reasoned: Reasoned | None, order: random.Random | None = None) -> Node:
    """Which named units speak for the label, what is against it or for the runner-up, how open it is."""
    rng = order or _plan(sheet)
    words = book("interpretation")
    how = sureness(sheet.confidence)
    slots: dict[str, Node] = {"label": text(sheet.label), "pointing": phrases(words["pointing"][how])}
    named = [unit.code for unit in sheet.named]
    typical = _typical(sheet.label)
    support = [code for code in named if code in typical]
    emotion = canonical(sheet.label)
    if emotion == "neutral":
        key, cited = ("quiet", named) if named else ("still" if not sheet.visible else "faint", [])
    elif not typical:
        key, cited = "own", []
    elif support:
        key, cited = "supported", support
    else:
        key, cited = ("faint" if typical & set(sheet.visible) else "unsupported"), []
    if cited:
        slots["units"] = _listed(cited, rng)
    frames = words[key][how] if key == "supported" else words[key]
    sentences: list[Node] = [Sentence(_choose(frames, rng, slots))]
    if reasoned and reasoned.label != sheet.label:
        sentences.append(Sentence(_choose(words["disagree"], rng, slots | {"other": text(reasoned.label)})))
    else:
        sentences += _second(sheet, rng, slots, named, typical)
    return Seq(tuple(sentences))


def _second(
    sheet: Sheet, rng: random.Random, slots: dict[str, Node], named: list[str], typical: set[str]
) -> list[Node]:
    """A sentence on what else the face might be called."""
    words = book("interpretation")
    if sheet.runner_up is None:
        return [Sentence(_choose(words["alone"], rng, slots))] if rng.random() < 0.5 else []
    slots = slots | {"second": text(sheet.runner_up)}
    other = _typical(sheet.runner_up)
    shared = [code for code in named if code in other]
    lacking = [code for code in TELLING if code in sheet.absent and code in other - typical]
    if shared:
        frames, slots = words["second"]["shared"], slots | {"units2": _listed(shared, rng)}
    elif lacking:
        own = unit_slots(lacking[0], None, _many(lacking[0]))
        frames, slots = words["second"]["lacking"], slots | {"lacking": Seq((own["noun"], own["at"]))}
    else:
        frames = words["second"]["plain"]
    return [Sentence(_choose(frames, rng, slots))]


def _choose(frames: Sequence[str], rng: random.Random, slots: dict[str, Node]) -> Node:
    return _pick([template(frame, **slots) for frame in rng.sample(frames, min(FRAMES, len(frames)))], rng)


def _typical(label: str) -> set[str]:
    """The units of a label's prototypes."""
    prototypes = PROTOTYPES.get(canonical(label) or "", ())
    return {code for prototype in prototypes for code in (*prototype.units, *prototype.optional)}


def _many(code: str) -> bool:
    return "many" in book("observations")["units"][code]


def _listed(codes: list[str], rng: random.Random) -> Node:
    """Up to two units as noun phrases."""
    chosen = sorted(rng.sample(codes, min(2, len(codes))), key=codes.index)
    nodes = [_pick(unit_nodes(code, None, "reference"), rng) for code in chosen]
    return nodes[0] if len(nodes) == 1 else seq(nodes[0], "and", nodes[1])


def sureness(confidence: float) -> str:
    return next(name for name, lower in SURENESS if confidence >= lower)


def conclusion(sheet: Sheet, reasoned: Reasoned | None, order: random.Random | None = None) -> Node:
    """The label, how sure, the runner-up when it is close."""
    rng = order or _plan(sheet)
    words = book("interpretation")
    slots: dict[str, Node] = {"label": text(sheet.label), "percent": _percent(sheet.confidence)}
    body = _choose(words["verdict"][sureness(sheet.confidence)], rng, slots)
    if sheet.runner_up:
        slots |= {"second": text(sheet.runner_up), "percent2": _percent(sheet.probabilities[sheet.runner_up])}
        body = Seq((body, _choose(words["runner_up"], rng, slots)))
    sentences = [Sentence(body)]
    if not sheet.calibrated:
        sentences.append(Sentence(_choose(words["uncalibrated"], rng, slots)))
    return Seq(tuple(sentences))


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
    parts = (
        template(rng.choice(words[key]), why=text(why)) for key in ("observations", "interpretation", "conclusion")
    )
    return three_lines(*(sample(Sentence(part), rng) for part in parts))
