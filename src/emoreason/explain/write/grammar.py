"""A small grammar of sentences that can be sampled, recognised and walked token by token.

`template("the [outer|] brows [are|look] {how} raised", how=...)`: brackets hold alternatives (an empty one makes a word
optional; brackets nest), braces insert another node. A `Sentence` starts with a capital and ends with a mark.
An *atom* is a word or a punctuation mark. Sampling and recognition use the same atoms, so every sample is accepted.
"""

import random
import re
from dataclasses import dataclass

_ATOM = re.compile(r"\d+(?:\.\d+)?%|[\w'’]+(?:-[\w'’]+)*|[^\w\s]")
_NO_SPACE_BEFORE = set(".,;:!?")


@dataclass(frozen=True)
class Text:
    atoms: tuple[str, ...]


@dataclass(frozen=True)
class Seq:
    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    options: tuple["Node", ...]


@dataclass(frozen=True)
class Sentence:
    body: "Node"
    end: str = "."


Node = Text | Seq | Choice | Sentence


def text(words: str) -> Text:
    return Text(tuple(_ATOM.findall(words)))


def seq(*parts: "Node | str") -> Node:
    return Seq(tuple(text(part) if isinstance(part, str) else part for part in parts))


def choice(*options: "Node | str") -> Node:
    if not options:
        raise ValueError("a choice without options accepts nothing")
    return Choice(tuple(template(option) if isinstance(option, str) else option for option in options))


def template(source: str, /, **slots: "Node | str") -> Node:
    """Parse a text with `[a|b]` alternatives and `{slot}` insertions into a node."""
    pieces = re.findall(r"[\[\]|]|\{\w+\}|[^\[\]|{}]+", source)
    node, rest = _alternatives(pieces, slots)
    if rest:
        raise ValueError(f"unbalanced brackets in the template {source!r}")
    return node


def _alternatives(pieces: list[str], slots: dict) -> tuple[Node, list[str]]:
    options: list[Node] = []
    parts: list[Node] = []
    while pieces and pieces[0] != "]":
        piece, pieces = pieces[0], pieces[1:]
        if piece == "|":
            options.append(Seq(tuple(parts)))
            parts = []
        elif piece == "[":
            node, pieces = _alternatives(pieces, slots)
            if not pieces:
                raise ValueError("a bracket in a template is not closed")
            parts.append(node)
            pieces = pieces[1:]
        elif piece.startswith("{"):
            slot = slots[piece[1:-1]]
            parts.append(template(slot, **slots) if isinstance(slot, str) else slot)
        elif piece.strip():
            parts.append(text(piece))
    options.append(Seq(tuple(parts)))
    return (options[0] if len(options) == 1 else Choice(tuple(options))), pieces


def sample(node: Node, rng: random.Random) -> str:
    """A random text of the grammar."""
    return join(_sampled(node, rng))


def join(atoms: list[str]) -> str:
    """Join atoms to text."""
    joined = ""
    for atom in atoms:
        joined += atom if not joined or atom in _NO_SPACE_BEFORE else f" {atom}"
    return joined


def split(written: str) -> list[str]:
    """Split text into atoms: the inverse of `join`."""
    return _ATOM.findall(written)


def _sampled(node: Node, rng: random.Random) -> list[str]:
    match node:
        case Text(atoms):
            return list(atoms)
        case Seq(parts):
            return [atom for part in parts for atom in _sampled(part, rng)]
        case Choice(options):
            return _sampled(rng.choice(options), rng)
        case Sentence(body, end):
            first, *rest = _sampled(body, rng)
            return [capital(first), *rest, end]


def capital(atom: str) -> str:
    return atom[:1].upper() + atom[1:]


@dataclass
class Network:
    """A grammar as a state machine: an edge writes an atom, or nothing if it carries None."""

    edges: list[list[tuple[str | None, int]]]
    start: int
    end: int

    def closure(self, states: frozenset[int]) -> frozenset[int]:
        """The states reachable without writing an atom."""
        found, todo = set(states), list(states)
        while todo:
            for atom, target in self.edges[todo.pop()]:
                if atom is None and target not in found:
                    found.add(target)
                    todo.append(target)
        return frozenset(found)


def network(node: Node) -> Network:
    net = Network([[]], 0, 0)

    def state() -> int:
        net.edges.append([])
        return len(net.edges) - 1

    def build(node: Node, at: int, first: bool) -> tuple[int, int | None]:
        """Add the node after state `at`.

        Returns its end state, and the end state if nothing was written and the next atom still needs the capital
        (None if there is none)."""
        match node:
            case Text(atoms):
                if not atoms:
                    return (at, at) if first else (at, None)
                for i, atom in enumerate(atoms):
                    target = state()
                    net.edges[at].append((capital(atom) if first and i == 0 else atom, target))
                    at = target
                return at, None
            case Seq(parts):
                return sequence(list(parts), at, first)
            case Choice(options):
                end, due = state(), (state() if first else None)
                for option in options:
                    begin = state()
                    net.edges[at].append((None, begin))
                    done, pending = build(option, begin, first)
                    if pending is None or done != pending:
                        net.edges[done].append((None, end))
                    if pending is not None and due is not None:
                        net.edges[pending].append((None, due))
                return end, due
            case Sentence(body, mark):
                done, pending = build(body, at, True)
                target = state()
                net.edges[done].append((mark, target))
                return target, None

    def sequence(parts: list[Node], at: int, first: bool) -> tuple[int, int | None]:
        due: int | None = at if first else None
        done: int | None = None if first else at
        for part in parts:
            ends: list[int] = []
            new_due = None
            if due is not None:
                end, new_due = build(part, due, True)
                if end != new_due:
                    ends.append(end)
            if done is not None:
                ends.append(build(part, done, False)[0])
            if len(ends) == 2:
                joined = state()
                for end in ends:
                    net.edges[end].append((None, joined))
                ends = [joined]
            done, due = (ends[0] if ends else None), new_due
        if done is None:
            assert due is not None
            return due, due
        return done, due

    net.end, _ = build(node, net.start, False)
    return net


def accepts(node: Node, written: str) -> bool:
    """Whether the grammar contains the text."""
    net = network(node)
    states = net.closure(frozenset({net.start}))
    for atom in split(written):
        states = net.closure(frozenset(t for s in states for a, t in net.edges[s] if a == atom))
        if not states:
            return False
    return net.end in states
