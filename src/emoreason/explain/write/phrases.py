"""The phrases of `prompts/` as grammar nodes: bands, units, the number of a subject, and words that must not stand."""

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from emoreason.core.resources import resource
from emoreason.explain.write.grammar import Choice, Node, Sentence, Seq, Text, choice, template, text
from emoreason.knowledge.emotions import SETS_KEPT, SYNONYMS, canonical, emotion_words

NODES_KEPT = 2048  # those of usual labels are some hundreds; labels that are common words have their own
MAX_ALTERNATIVES = 6  # alternatives that stay open at one place of one face's grammar
_IRREGULAR = {"are": "is", "have": "has", "do": "does"}
_SUFFIX = re.compile(r"(edly|ness|less|ment|ful|ing|ied|ies|ed|ly|es|s|y|e)$")
_STEM = 4  # shorter stems ("mad", "sad", "scar-ed") begin words that have nothing to do with them


@cache
def load_phrases(name: str) -> dict[str, Any]:
    """A file of `prompts/`."""
    import yaml

    return yaml.safe_load(resource(f"prompts/{name}.yaml").read_text(encoding="utf-8"))


def third_person(verb: str) -> str:
    """ "rise" -> "rises"."""
    if verb in _IRREGULAR:
        return _IRREGULAR[verb]
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}es" if re.search(r"(s|sh|ch|x|z|o)$", verb) else f"{verb}s"


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def articled(node: Node) -> Node:
    """The article before whatever a phrase begins with."""
    match node:
        case Text(atoms):
            return Text((*with_article(atoms[0]).split()[:1], *atoms))
        case Seq(parts):
            return Seq((articled(parts[0]), *parts[1:]))
        case Choice(options):
            return Choice(tuple(articled(option) for option in options))
        case _:
            return node


def written(source: str, words: Mapping[str, Any], given: Mapping[str, Node], many: bool = True) -> Node:
    """A template whose {slots} are given or stand in the book `words`; `^verb` takes the number."""
    slots = {name: given.get(name) or _entry(words[name], words, given, many) for name in _slots(source)}
    return template(_numbered(source, many), **slots) if slots else _plain(source, many)


def _entry(source: str, words: Mapping[str, Any], given: Mapping[str, Node], many: bool) -> Node:
    return written(source, words, given, many) if "{" in source else _plain(source, many)


def _slots(source: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", source)


@cache
def _plain(source: str, many: bool = True) -> Node:
    return template(_numbered(source, many))


def _numbered(source: str, many: bool) -> str:
    return re.sub(r"\^(\w+)", lambda found: found[1] if many else third_person(found[1]), source)


def thinned(node: Node, rng: random.Random, limit: int = MAX_ALTERNATIVES) -> Node:
    """At most so many alternatives at every place, drawn anew for every face: a small grammar, yet other words."""
    match node:
        case Choice(options):
            kept = options if len(options) <= limit else tuple(rng.sample(options, limit))
            return Choice(tuple(thinned(option, rng, limit) for option in kept))
        case Seq(parts):
            return Seq(tuple(thinned(part, rng, limit) for part in parts))
        case Sentence(body, end):
            return Sentence(thinned(body, rng, limit), end)
        case _:
            return node


def plural(code: str) -> bool:
    """Whether the unit is spoken of in the plural: "the lips are", "the jaw is"."""
    return "many" in load_phrases("observations")["units"][code]


@cache
def unit_slots(code: str, band: str | None) -> dict[str, Node]:
    """What a frame about this unit may ask for."""
    many = plural(code)
    unit = load_phrases("observations")["units"][code]
    asked = ("participle", "attribute", "moved", "noun", "at", "nominal", "mass", "stuff")
    slots = {name: _plain(unit[name], many) for name in asked if name in unit}
    slots["bare"] = _plain(unit["many" if many else "one"])
    slots["subject"] = Seq((text("the"), slots["bare"]))
    slots["plainly"] = _plain(unit["verb"])
    slots["verb"] = _plain(" | ".join(f"^{verb.strip()}" for verb in unit["verb"].split("|")), many)
    slots["formed"] = _plain(unit.get("showing", unit["noun"]))
    if band:
        fitting = cues(code, band)
        slots |= {name: choice(*listed) for name, listed in fitting.items() if listed}
        slots["an_adjective"] = choice(*map(with_article, fitting["adjective"]))
        slots["before"] = choice(*(cue for cue in fitting["adverb"] if not cue.startswith(("a ", "just ", "only "))))
        looks = Seq((slots["before"], slots["attribute"], slots["bare"]))
        slots["looks"] = looks if many else articled(looks)
    return slots


def cues(code: str, band: str) -> dict[str, list[str]]:
    """The words for a band that suit the unit, by where they stand."""
    words = load_phrases("observations")
    more = words["suits"][words["units"][code]["kind"]].get(band, {})
    odd = "as far as it goes" if plural(code) else "as far as they go"
    return {
        name: [cue for cue in (*listed, *more.get(name, ())) if cue != odd]
        for name, listed in load_phrases("bands")[band].items()
    }


@lru_cache(maxsize=NODES_KEPT)
def unit_nodes(code: str, band: str | None, frames: str, blocked: frozenset[str] = frozenset()) -> tuple[Node, ...]:
    """One node per frame of the list called `frames`, without the blocked words."""
    words = load_phrases("interpretation" if frames in ("reference", "state", "undone") else "observations")
    own = _own_frames(words["units"][code], band) if frames == "clauses" else []
    slots = unit_slots(code, band)
    said = slots.keys() | words.keys()  # not every band has a quantity
    asked = [source for source in (*words[frames], *own) if said >= set(_slots(source))]
    return _allowed([written(source, words, slots, plural(code)) for source in asked], blocked)


def _own_frames(unit: Mapping[str, Any], band: str | None) -> list[str]:
    return [*unit.get("own", ()), *unit.get("graded", {}).get(band, ())]


@lru_cache(maxsize=NODES_KEPT)
def general_nodes(name: str, blocked: frozenset[str], region: str | None = None) -> tuple[Node, ...]:
    """The sentences called `name` that speak of no unit, about a region at rest where one is given."""
    words = load_phrases("observations")
    entry = words["rest"][region] if region else {}
    many = "one" not in entry
    given = {"rested": _plain(entry["many" if many else "one"]), "way": _plain(entry["way"])} if region else {}
    return _allowed([written(source, words, given, many) for source in words[name]], blocked)


def _allowed(nodes: Sequence[Node], blocked: frozenset[str]) -> tuple[Node, ...]:
    if not blocked:
        return tuple(nodes)
    allowed = tuple(kept for node in nodes if (kept := without(node, blocked)) is not None)
    return allowed or tuple(nodes)  # a label such as "lips" cannot be avoided: evidence comes first


@lru_cache(maxsize=SETS_KEPT)
def blocked_words(labels: tuple[str, ...]) -> frozenset[str]:
    """What observations must not use of the writer's own words: emotion words, the labels, their synonyms and stems."""
    full, stems = forbidden(labels)
    lines = [
        line
        for name in ("observations", "bands")
        for line in resource(f"prompts/{name}.yaml").read_text(encoding="utf-8").casefold().splitlines()
        if not line.startswith("#")
    ]
    own = set(_words(" ".join(lines)))
    phrases = {phrase for phrase in full if " " in phrase and own.issuperset(phrase.split())}
    return frozenset(word for word in own if word in full or word.startswith(stems)) | phrases


@lru_cache(maxsize=SETS_KEPT)
def forbidden(labels: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Words and phrases that name an emotion or a label, and the stems of the labels."""
    full, stems = set(emotion_words()), set()
    for label in labels:
        name = canonical(label) or label.casefold()
        full.update((label.casefold(), name, *SYNONYMS.get(name, ())))
        for word in {*_words(label.casefold()), name}:
            stem = _SUFFIX.sub("", word)
            if len(stem) > _STEM or len(stem) == _STEM and stem == word:
                stems.add(stem)
    return frozenset(full), tuple(sorted(stems))


def without(node: Node, blocked: frozenset[str]) -> Node | None:
    """The grammar less every alternative with a blocked word; None when nothing is left."""
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
    words = _words(" ".join(atoms).casefold())
    running = f" {' '.join(words)} "
    return not blocked.isdisjoint(words) or any(f" {phrase} " in running for phrase in blocked if " " in phrase)


def _words(running: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", running)


def spoken(label: str) -> Node:
    """A label in the ways in which a sentence may speak of it, verbatim in each."""
    known = canonical(label) == label and label not in ("positive", "negative", "other")
    kind = "neutral" if label == "neutral" else "noun" if known else "own"
    return template(load_phrases("interpretation")["spoken"][kind], name=text(label))
