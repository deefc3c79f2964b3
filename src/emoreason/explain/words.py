"""The phrases of `prompts/` as grammar nodes: bands, units, number of the subject, and words that must not stand."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from emoreason.emotions import SYNONYMS, canonical, emotion_words
from emoreason.explain.grammar import Choice, Node, Sentence, Seq, Text, choice, template
from emoreason.resources import resource

_IRREGULAR = {"are": "is", "have": "has", "do": "does", "were": "was"}
_SUFFIX = re.compile(r"(edly|ness|less|ment|ful|ing|ied|ies|ed|ly|es|s|y|e)$")
_STEM = 4  # shorter stems ("mad", "sad") also begin words that have nothing to do with them


@cache
def book(name: str) -> dict[str, Any]:
    import yaml

    return yaml.safe_load(resource(f"prompts/{name}.yaml").read_text())


def third_person(verb: str) -> str:
    """ "rise" -> "rises"."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}es" if re.search(r"(s|sh|ch|x|z|o)$", verb) else f"{verb}s"


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


@cache
def phrases(source: str, many: bool = True) -> Node:
    """Alternatives without slots; `^verb` takes the number."""
    return template(_numbered(source, many))


def _numbered(source: str, many: bool) -> str:
    return re.sub(r"\^(\w+)", lambda found: found[1] if many else third_person(found[1]), source)


@cache
def unit_slots(code: str, band: str | None, many: bool) -> dict[str, Node]:
    """Everything that may stand in a clause about this unit; None without an entry for this number."""
    words = book("observations")
    unit = {**words["units"][code]}
    unit.update(unit.pop(band, {}) if band else {})
    number = "many" if many else "one"
    slots = {
        name: phrases(words[name], many) for name in ("be", "shows", "see", "find", "touch", "stand_out", "not_be")
    }
    for name in ("participle", "attribute", "noun", "at"):
        slots[name] = phrases(unit[name])
    slots["bare"] = phrases(unit[number])
    slots["subject"] = Seq((phrases(words["determiner"][number]), slots["bare"]))
    slots["verb"] = phrases(" | ".join(f"^{verb.strip()}" for verb in unit["verb"].split("|")), many)
    if band:
        cues = book("bands")[band]
        slots |= {name: choice(*cues[name]) for name in ("adverb", "degree", "adjective", "quantity")}
        slots["an_adjective"] = choice(*map(with_article, cues["adjective"]))
        slots["an_adverb"] = choice(*map(with_article, cues["adverb"]))
    return slots


@cache
def unit_nodes(code: str, band: str | None, frames: str, blocked: frozenset[str] = frozenset()) -> tuple[Node, ...]:
    """One node per frame of the list called `frames`, without the blocked words, for each number that the unit has."""
    found: list[Node] = []
    for many in (True, False):
        if ("many" if many else "one") in book("observations")["units"][code]:
            slots = unit_slots(code, band, many)
            found += [template(_numbered(frame, many), **slots) for frame in _frames(frames, many)]
    kept = [node for node in (without(node, blocked) for node in found) if node is not None]
    return tuple(kept)


def _frames(name: str, many: bool) -> list[str]:
    words = book("observations")
    number = "many" if many else "one"
    if name == "reference":
        reference = book("interpretation")["reference"]
        return [reference[number], reference["noun"]]
    frames = list(words[name])
    return [*frames, words["attributive"][number]] if name == "clauses" else frames


@cache
def blocked_words(labels: Sequence[str]) -> frozenset[str]:
    """What observations must not say: emotion words, the labels and their synonyms. A trailing * blocks a stem."""
    blocked = set(emotion_words())
    for label in labels:
        name = canonical(label)
        for word in (label.casefold(), *((name, *SYNONYMS.get(name, ())) if name else ())):
            stem = _SUFFIX.sub("", word)
            blocked.add(f"{stem}*" if stem.isalpha() and len(stem) >= _STEM else word)
    return frozenset(blocked)


def without(node: Node, blocked: frozenset[str]) -> Node | None:
    """The grammar less every alternative with a blocked word; None when nothing is left."""
    if not blocked:
        return node
    match node:
        case Text(atoms):
            return None if is_blocked(atoms, blocked) else node
        case Seq(parts):
            kept = [without(part, blocked) for part in parts]
            return None if None in kept else Seq(tuple(part for part in kept if part is not None))
        case Choice(options):
            left = tuple(option for option in (without(option, blocked) for option in options) if option is not None)
            return Choice(left) if left else None
        case Sentence(body, end):
            inner = without(body, blocked)
            return None if inner is None else Sentence(inner, end)


def is_blocked(atoms: Sequence[str], blocked: frozenset[str]) -> bool:
    words = [part for atom in atoms for part in re.findall(r"[^\W\d_]+", atom.casefold())]
    pairs = [" ".join(pair) for pair in zip(words, words[1:], strict=False)]
    whole = any(word in blocked for word in (*words, *pairs))
    return whole or any(word.startswith(stem) for stem in _stems(blocked) for word in words)


@cache
def _stems(blocked: frozenset[str]) -> tuple[str, ...]:
    return tuple(word[:-1] for word in blocked if word.endswith("*"))
