"""Constrained generation: tracks which tokens may come next, so that a model can only write texts of a grammar."""

from collections.abc import Callable, Sequence

from emoreason.core.errors import EmoreasonError
from emoreason.explain.write.grammar import Node, network, split

_PUNCTUATION = set(".,;:!?")


class Atoms:
    """Encodes atoms as tokens and caches them. A word includes the space before it."""

    def __init__(self, encode: Callable[[str], Sequence[int]]):
        self._encode = encode
        self._cache: dict[str, tuple[int, ...]] = {}

    def tokens(self, atom: str) -> tuple[int, ...]:
        if atom not in self._cache:
            tokens = tuple(self._encode(atom if atom in _PUNCTUATION else f" {atom}"))
            if not tokens:
                raise EmoreasonError(
                    f"the language model's tokenizer cannot write {atom!r}: use another language model"
                )
            self._cache[atom] = tokens
        return self._cache[atom]

    def encode(self, text: str) -> list[int]:
        """The tokens of a whole text, the same ones that a Walk would write."""
        return [token for atom in split(text) for token in self.tokens(atom)]


class Walk:
    """The state of one text within a grammar: it knows which tokens may come next."""

    def __init__(self, node: Node, atoms: Atoms, end: int):
        self._net, self._atoms, self._end = network(node), atoms, end
        self._partial: list[
            tuple[tuple[int, ...], int, int]
        ] = []  # tokens of an atom, number written so far, target state
        self._may_end = False
        self._arrive(frozenset({self._net.start}))
        self.tokens: list[int] = []
        self.done = False

    def allowed(self) -> list[int]:
        """The tokens that may come next, including `end` if the text may stop; empty once it is done."""
        if self.done:
            return []
        choices = dict.fromkeys(tokens[written] for tokens, written, _ in self._partial)
        if self._may_end:
            choices[self._end] = None
        return list(choices)

    def advance(self, token: int) -> None:
        if token == self._end and self._may_end:
            self.done = True
            return
        matching = [(tokens, written + 1, to) for tokens, written, to in self._partial if tokens[written] == token]
        if not matching:
            raise ValueError(f"token {token} is not allowed here")
        self.tokens.append(token)
        complete = frozenset(to for tokens, written, to in matching if written == len(tokens))
        self._partial, self._may_end = [], False
        if complete:
            self._arrive(complete)
        self._partial += [step for step in matching if step[1] < len(step[0])]

    def _arrive(self, states: frozenset[int]) -> None:
        reached = self._net.closure(states)
        self._may_end = self._net.end in reached
        for state in reached:
            for atom, target in self._net.edges[state]:
                if atom is not None:
                    self._partial.append((self._atoms.tokens(atom), 0, target))
