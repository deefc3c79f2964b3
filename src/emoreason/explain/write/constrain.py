"""Constrained generation: a grammar is walked token by token, so that the text is the grammar's and none other."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from emoreason.core.errors import EmoreasonError
from emoreason.explain.write.grammar import Node, network, split

if TYPE_CHECKING:
    import torch

_PUNCTUATION = set(".,;:!?")


class Atoms:
    """Atoms as tokens, each encoded once. A word carries the space before it."""

    def __init__(self, encode: Callable[[str], Sequence[int]]):
        self._encode = encode
        self._known: dict[str, tuple[int, ...]] = {}

    def tokens(self, atom: str) -> tuple[int, ...]:
        if atom not in self._known:
            spelled = tuple(self._encode(atom if atom in _PUNCTUATION else f" {atom}"))
            if not spelled:
                raise EmoreasonError(f"the language model's tokenizer has no way to write {atom!r}")
            self._known[atom] = spelled
        return self._known[atom]

    def encode(self, text: str) -> list[int]:
        """A whole text, token by token as a walk would write it."""
        return [token for atom in split(text) for token in self.tokens(atom)]


class Walk:
    """One text on its way through a grammar: which tokens may come next."""

    def __init__(self, node: Node, atoms: Atoms, end: int):
        self._net, self._atoms, self._end = network(node), atoms, end
        self._partial: list[tuple[tuple[int, ...], int, int]] = []  # tokens of an atom, how many are written, target
        self._may_end = False
        self._arrive(frozenset({self._net.start}))
        self.tokens: list[int] = []
        self.done = False

    def allowed(self) -> list[int]:
        """The tokens that continue the text; `end` where it may stop. Empty once it is done."""
        if self.done:
            return []
        found = dict.fromkeys(tokens[written] for tokens, written, _ in self._partial)
        if self._may_end:
            found[self._end] = None
        return list(found)

    def advance(self, token: int) -> None:
        if token == self._end and self._may_end:
            self.done = True
            return
        going = [(tokens, written + 1, to) for tokens, written, to in self._partial if tokens[written] == token]
        if not going:
            raise ValueError(f"token {token} is not allowed here")
        self.tokens.append(token)
        complete = frozenset(to for tokens, written, to in going if written == len(tokens))
        self._partial, self._may_end = [], False
        if complete:
            self._arrive(complete)
        self._partial += [step for step in going if step[1] < len(step[0])]

    def _arrive(self, states: frozenset[int]) -> None:
        reached = self._net.closure(states)
        self._may_end = self._net.end in reached
        for state in reached:
            for atom, target in self._net.edges[state]:
                if atom is not None:
                    self._partial.append((self._atoms.tokens(atom), 0, target))


class GrammarLogits:
    """The same as a logits processor for transformers' `generate`: one walk per row of the batch."""

    def __init__(self, walks: Sequence[Walk], prompt_length: int):
        self._walks, self._at = walks, prompt_length

    def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
        """(B, n) tokens so far, (B, V) scores -> scores with all that the grammar forbids at minus infinity."""
        import torch

        allowed: Any = torch.full_like(scores, float("-inf"))
        for row, walk in enumerate(self._walks):
            for token in input_ids[row, self._at :].tolist():
                if not walk.done:
                    walk.advance(token)
            choices = walk.allowed() or [walk._end]
            allowed[row, choices] = scores[row, choices]
        self._at = input_ids.shape[1]
        return allowed
