"""Builds the grammar of the observations section from an evidence sheet. Phrases: prompts/observations.yaml."""

import random
import zlib
from collections.abc import Sequence

from emoreason.explain.sheet import Named, Sheet
from emoreason.explain.write.grammar import Choice, Node, Sentence, Seq, choice, seq, text
from emoreason.explain.write.phrases import (
    blocked_words,
    fill_template,
    general_nodes,
    load_phrases,
    thinned,
    unit_nodes,
    without,
)
from emoreason.knowledge.facs import ACTION_UNITS, opposites

FRAMES = 3  # alternative frames per clause
ROOMY = 4  # from this many named units on, the text is long enough without connecting phrases
QUIET = {1: (1, 2), 2: (0, 2), 3: (0, 1)}  # named units -> minimum and maximum number of clauses on absent units
TELLING = ("12", "4", "1", "2", "25", "5", "15", "26", "7", "24", "43")  # units whose absence is informative
_TOGETHER = ({"25", "26", "27"}, {"5", "7", "43"}, {"1", "2"}, {"12", "15"})  # units that are not denied together


def observations(sheet: Sheet, order: random.Random | None = None) -> Node:
    """Every named unit with its band and a few informative absent ones. Uses no emotion word and no probability."""
    rng = order or plan_of(sheet)
    named = list(sheet.named)
    voices = load_phrases("observations")["voices"]
    voice = rng.choice((*voices, None)) if len(named) < ROOMY else None  # at most one of them may appear in the text
    blocked = blocked_words(sheet.labels) | (set(voices) - {voice})
    if rng.random() < 0.3:
        named.reverse()
    bodies = _affirmed(named, rng, blocked)
    quiet: list[Node] = []
    if named and not sheet.brief:
        fewest, most = QUIET.get(len(named), (0, 0))
        quiet = _quiet_parts(sheet, rng, blocked)[: rng.randint(fewest, most)]
        if quiet and rng.random() < 0.3:  # "The lips are parted, but the jaw is not lowered."
            bodies[-1] = seq(
                bodies[-1], fill_template(load_phrases("observations")["joins"]["but"], {}, {}), quiet.pop(0)
            )
    sentences: list[Node] = [Sentence(body) for body in (*bodies, *quiet)]
    if not sheet.units:
        sentences.append(Sentence(pick(general_nodes("unmeasured", blocked), rng)))
    elif not named and sheet.at_rest:
        sentences += _still(sheet, rng, blocked)
    elif not named:
        sentences.append(Sentence(pick(general_nodes("indistinct", blocked), rng)))
    return thinned(Seq(tuple(sentences)), rng)


def plan_of(sheet: Sheet) -> random.Random:
    """The default random generator for a face: the same measurements give the same plan."""
    return random.Random(zlib.crc32(repr(sorted(sheet.units.items())).encode()))


def pick(nodes: Sequence[Node], rng: random.Random, n: int = FRAMES) -> Node:
    """A choice among at most `n` of the nodes."""
    sampled = rng.sample(nodes, min(n, len(nodes)))
    return sampled[0] if len(sampled) == 1 else Choice(tuple(sampled))


def _affirmed(named: list[Named], rng: random.Random, blocked: frozenset[str]) -> list[Node]:
    """The bodies of the sentences about the named units, one to three units each."""
    sentences: list[Node] = []
    left = list(named)
    while left:
        size = min(len(left), rng.choice((1, 2, 2, 3) if len(named) > 2 else (1, 2, 2)))
        place = "later" if sentences else "all" if size == len(named) else None
        group = [left.pop(0) for _ in range(size)]
        sentences.append(_clauses(group, rng, blocked, place, roomy=len(named) < ROOMY))
    return sentences


def _clauses(group: list[Named], rng: random.Random, blocked: frozenset[str], place: str | None, roomy: bool) -> Node:
    """The body of one sentence about a few units."""
    words = load_phrases("observations")

    def part(unit: Named, kind: str) -> Node:
        return pick(unit_nodes(unit.code, unit.band, kind, blocked), rng)

    lead = rng.random() if roomy else 0.5
    first, rest = group[0], group[1:]
    if len(group) > 1 and lead < 0.1 and place == "all":  # "Two things stand out: ..., and ..."
        announced = _unblocked(fill_template(words["announced"][str(len(group))], words, {}), blocked)
        return Seq((announced, _enumerated([part(unit, "counted") for unit in group], "last")))
    parts: list[Node] = []
    half = {"upper" if unit.region in words["upper"] else "lower" for unit in group}
    tail: list[Node] = []
    if place == "later" and lead < 0.12:
        tail = [fill_template(words["joins"]["as_well"], {}, {})]
    elif place == "later" and lead > 0.85:
        parts += [fill_template(words["openers"]["later"], words, {}), text(",")]
    elif len(half) == 1 and lead > 0.74:
        parts += [fill_template(words["places"][min(half)], words, {}), text(",")]
    elif place != "later" and rng.random() < 0.06:
        parts += [text(words["setting"]), text(",")]
    if len(group) == 2 and not parts and rng.random() < 0.2:  # "The face shows raised brows and parted lips"
        both = seq(part(first, "things"), fill_template(words["joins"]["things"], words, {}), part(rest[0], "things"))
        return seq(_unblocked(fill_template(words["shows"], words, {}), blocked), both)
    if len(group) == 2 and len(half) == 1 and rng.random() < 0.4:
        return seq(*parts, part(first, "counted"), words["joins"]["absolute"], part(rest[0], "absolute"))
    if len(group) == 2 and not parts and rng.random() < 0.1:
        return seq("while", part(first, "counted"), ",", part(rest[0], "clauses"))
    free = rng.randrange(len(group)) if roomy or place != "later" else None
    clauses = [part(unit, "clauses" if i == free else "counted") for i, unit in enumerate(group)]
    return Seq((*parts, _enumerated(clauses), *tail))


def _unblocked(node: Node, blocked: frozenset[str]) -> Node:
    return without(node, blocked) or node


def _enumerated(clauses: Sequence[Node], pair: str = "two") -> Node:
    """a, and b; a, b, and c"""
    joins = load_phrases("observations")["joins"]
    *firsts, last = clauses
    parts: list[Node] = []
    for i, clause in enumerate(firsts):
        parts += [text(joins["first"]), clause] if i else [clause]
    between = [fill_template(joins[pair if len(firsts) == 1 else "last"], {}, {})] if firsts else []
    return Seq((*parts, *between, last))


def _still(sheet: Sheet, rng: random.Random, blocked: frozenset[str]) -> list[Node]:
    """The sentences about a face without a visible unit: that nothing moves, and one or two resting parts."""
    parts = _quiet_parts(sheet, rng, blocked)[: 1 if sheet.brief else rng.choice((1, 1, 2))]
    general = pick(general_nodes("nothing", blocked), rng)
    together = [Sentence(_enumerated(parts, "last"))] if parts else []
    match rng.randrange(4) if parts else 0:
        case 0:
            return [Sentence(general), *together]
        case 1:
            return [*together, Sentence(general)]
        case 2:
            return [Sentence(seq(_enumerated(parts, "last"), ";", general))]
        case _:
            return [Sentence(seq(general, choice(":", ";"), _enumerated(parts, "last")))]


def _quiet_parts(sheet: Sheet, rng: random.Random, blocked: frozenset[str]) -> list[Node]:
    """Clauses on absent units, in random order, no region twice."""
    denied = [[code] for code in deniable(sheet)]
    regions = {name: entry["units"] for name, entry in load_phrases("observations")["rest"].items()}
    absent = set(sheet.absent)
    moving = {ACTION_UNITS[code].region for code in sheet.visible}
    resting = [
        (name, units)
        for name, units in regions.items()
        if absent.issuperset(units) and moving.isdisjoint(ACTION_UNITS[code].region for code in units)
    ]
    found: list[tuple[set[str], Node]] = []
    for [code] in denied:
        found.append(({code}, pick(unit_nodes(code, None, "absent", blocked), rng)))
    for name, units in resting * 2:
        found.append((set(units), pick(general_nodes("resting", blocked, name), rng)))
    rng.shuffle(found)
    clauses: list[Node] = []
    used: set[str] = set()
    for codes, node in found:
        related = {code for group in (*_TOGETHER, *map(set, regions.values())) if group & codes for code in group}
        if not related & used:
            used |= codes
            clauses.append(node)
    return clauses


def deniable(sheet: Sheet) -> list[str]:
    """Absent units worth mentioning: none that is related or opposite to a visible unit."""
    visible, absent = set(sheet.visible), set(sheet.absent)
    related = {code for group in _TOGETHER if group & visible for code in group}
    related.update(other for code in visible for other in opposites(code))
    return [code for code in TELLING if code in absent and code not in related]
