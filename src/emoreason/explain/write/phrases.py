"""Turns the phrases of `prompts/` into grammar nodes: bands, units, singular and plural, and blocked words."""

import random
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from emoreason.core.resources import resource
from emoreason.explain.write.grammar import Choice, Node, Sentence, Seq, Text, choice, template, text
from emoreason.knowledge.emotions import SETS_KEPT, SYNONYMS, canonical, emotion_words

NODES_KEPT = 2048  # cache size: usual labels need a few hundred nodes, labels that are common words need their own
MAX_ALTERNATIVES = 6  # alternatives per choice in the grammar of one face
_IRREGULAR = {"are": "is", "have": "has", "do": "does"}
_SUFFIX = re.compile(r"(edly|ness|less|ment|ful|ing|ied|ies|ed|ly|es|s|y|e)$")
_STEM = 4  # shorter stems ("mad", "sad", "scar-ed") also begin unrelated words


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
    """The node with "a" or "an" before each of its texts."""
    match node:
        case Text(atoms):
            return Text((*with_article(atoms[0]).split()[:1], *atoms))
        case Seq(parts):
            return Seq((articled(parts[0]), *parts[1:]))
        case Choice(options):
            return Choice(tuple(articled(option) for option in options))
        case _:
            return node


def fill_template(source: str, words: Mapping[str, Any], values: Mapping[str, Node], many: bool = True) -> Node:
    """A template whose {slots} come from `values` or from the phrases `words`; `^verb` agrees in number."""
    slots = {name: values.get(name) or _entry(words[name], words, values, many) for name in _slots(source)}
    return template(_numbered(source, many), **slots) if slots else _plain(source, many)


def _entry(source: str, words: Mapping[str, Any], values: Mapping[str, Node], many: bool) -> Node:
    return fill_template(source, words, values, many) if "{" in source else _plain(source, many)


def _slots(source: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", source)


@cache
def _plain(source: str, many: bool = True) -> Node:
    return template(_numbered(source, many))


def _numbered(source: str, many: bool) -> str:
    return re.sub(r"\^(\w+)", lambda found: found[1] if many else third_person(found[1]), source)


def thinned(node: Node, rng: random.Random, limit: int = MAX_ALTERNATIVES) -> Node:
    """Keep at most `limit` random alternatives per choice: a small grammar that still differs from face to face."""
    match node:
        case Choice(options):
            sampled = options if len(options) <= limit else tuple(rng.sample(options, limit))
            return Choice(tuple(thinned(option, rng, limit) for option in sampled))
        case Seq(parts):
            return Seq(tuple(thinned(part, rng, limit) for part in parts))
        case Sentence(body, end):
            return Sentence(thinned(body, rng, limit), end)
        case _:
            return node


def plural(code: str) -> bool:
    """Whether the unit takes the plural: "the lips are", but "the jaw is"."""
    return "many" in load_phrases("observations")["units"][code]


@cache
def unit_slots(code: str, band: str | None) -> dict[str, Node]:
    """The slots that a frame about this unit may use."""
    many = plural(code)
    unit = load_phrases("observations")["units"][code]
    names = ("participle", "attribute", "moved", "noun", "at", "nominal", "mass", "stuff")
    slots = {name: _plain(unit[name], many) for name in names if name in unit}
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
    """The phrases for a band that suit the unit, by their position in a clause."""
    words = load_phrases("observations")
    more = words["suits"][words["units"][code]["kind"]].get(band, {})
    odd = "as far as it goes" if plural(code) else "as far as they go"
    return {
        name: [cue for cue in (*listed, *more.get(name, ())) if cue != odd]
        for name, listed in load_phrases("bands")[band].items()
    }


@lru_cache(maxsize=NODES_KEPT)
def unit_nodes(code: str, band: str | None, frames: str, blocked: frozenset[str] = frozenset()) -> tuple[Node, ...]:
    """One node per frame in the list `frames`, without the blocked words."""
    words = load_phrases("interpretation" if frames in ("reference", "state", "undone") else "observations")
    own = _own_frames(words["units"][code], band) if frames == "clauses" else []
    slots = unit_slots(code, band)
    known = slots.keys() | words.keys()  # some slots are missing: not every band has a quantity
    usable = [source for source in (*words[frames], *own) if known >= set(_slots(source))]
    return _allowed([fill_template(source, words, slots, plural(code)) for source in usable], blocked)


def _own_frames(unit: Mapping[str, Any], band: str | None) -> list[str]:
    return [*unit.get("own", ()), *unit.get("graded", {}).get(band, ())]


@lru_cache(maxsize=NODES_KEPT)
def general_nodes(name: str, blocked: frozenset[str], region: str | None = None) -> tuple[Node, ...]:
    """The sentences in the list `name`, which mention no unit; `region` fills in a region at rest."""
    words = load_phrases("observations")
    entry = words["rest"][region] if region else {}
    many = "one" not in entry
    values = {"rested": _plain(entry["many" if many else "one"]), "way": _plain(entry["way"])} if region else {}
    return _allowed([fill_template(source, words, values, many) for source in words[name]], blocked)


def _allowed(nodes: Sequence[Node], blocked: frozenset[str]) -> tuple[Node, ...]:
    if not blocked:
        return tuple(nodes)
    allowed = tuple(clean for node in nodes if (clean := without(node, blocked)) is not None)
    return allowed or tuple(nodes)  # a label such as "lips" cannot be avoided; the evidence matters more


@lru_cache(maxsize=SETS_KEPT)
def blocked_words(labels: tuple[str, ...]) -> frozenset[str]:
    """Words of the writer's phrases that observations must not use: emotion words, labels, their synonyms and stems."""
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
    """The grammar without the alternatives that contain a blocked word; None if nothing is left."""
    match node:
        case Text(atoms):
            return None if is_blocked(atoms, blocked) else node
        case Seq(parts):
            clean = [without(part, blocked) for part in parts]
            return None if None in clean else Seq(tuple(part for part in clean if part is not None))
        case Choice(options):
            rest = tuple(option for option in (without(option, blocked) for option in options) if option is not None)
            return Choice(rest) if rest else None
        case Sentence(body, end):
            inner = without(body, blocked)
            return None if inner is None else Sentence(inner, end)


def is_blocked(atoms: Sequence[str], blocked: frozenset[str]) -> bool:
    words = _words(" ".join(atoms).casefold())
    running = f" {' '.join(words)} "
    return not blocked.isdisjoint(words) or any(f" {phrase} " in running for phrase in blocked if " " in phrase)


def _words(running: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", running)


def label_phrases(label: str) -> Node:
    """The phrases a sentence may use for a label; each contains it verbatim."""
    known = canonical(label) == label and label not in ("positive", "negative", "other")
    kind = "neutral" if label == "neutral" else "noun" if known else "own"
    return template(load_phrases("interpretation")["spoken"][kind], name=text(label))
