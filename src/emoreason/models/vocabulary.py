"""Cut the vocabulary of a language model: keep only the tokens that are needed, and cut its tokenizer to match.

63 % of Gemma 270M is a table of 262,144 tokens in a hundred languages. The kept tokens compute the same numbers as
before. A removed token is spelled with smaller ones, down to single bytes, which are always kept.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

FIRST = 16384  # Gemma's table starts with control tokens and bytes, followed by the most frequent tokens


def needed(tokenizer: "PreTrainedTokenizerFast", texts: Iterable[str], first: int = FIRST) -> list[int]:
    """The ids of the tokens to keep for these texts, ascending."""
    kept = set(range(min(first, len(tokenizer))))
    for text in texts:
        kept.update(tokenizer(text, add_special_tokens=False)["input_ids"])
    return sorted(kept)


class CutTokenizer:
    """The tokenizer of a cut model. A token's number is its index in the list of kept rows.

    Byte pair encoding builds a token from smaller ones. These stay in the tokenizer even if their rows were removed, so
    that texts of kept tokens are split as before. If a text is left with such a removed token, it is spelled with the
    kept parts of that token.
    """

    def __init__(self, backend: "Tokenizer", n_rows: int):
        self.backend, self.n_rows = backend, n_rows
        spec = json.loads(backend.to_str())
        self._names: dict[int, str] = {number: name for name, number in spec["model"]["vocab"].items()}
        self._vocabulary: dict[str, int] = spec["model"]["vocab"]
        self._parts: dict[str, tuple[str, str]] = {}
        for left, right in spec["model"]["merges"]:
            if self._vocabulary[left + right] >= n_rows:
                self._parts.setdefault(left + right, (left, right))
        self.bos, self.eos, self.pad = (self._vocabulary[name] for name in ("<bos>", "<eos>", "<pad>"))

    def encode(self, text: str) -> list[int]:
        """Text -> row numbers; no token is added."""
        return [row for number in self.backend.encode(text).ids for row in self._spell(number)]

    def decode(self, rows: Iterable[int]) -> str:
        return self.backend.decode(list(rows), skip_special_tokens=True)

    def _spell(self, number: int) -> list[int]:
        if number < self.n_rows:
            return [number]
        if self._names[number] not in self._parts:  # a single character without a row
            return [self._vocabulary[f"<0x{byte:02X}>"] for byte in self._names[number].encode()]
        left, right = self._parts[self._names[number]]
        return [*self._spell(self._vocabulary[left]), *self._spell(self._vocabulary[right])]

    def save(self, path: Path) -> None:
        self.backend.save(str(path))

    @classmethod
    def load(cls, path: Path, n_rows: int) -> "CutTokenizer":
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_file(str(path)), n_rows)


def cut_tokenizer(tokenizer: "PreTrainedTokenizerFast", rows: list[int]) -> CutTokenizer:
    """The tokenizer reduced to the tokens of these rows and the smaller tokens they are built from."""
    from tokenizers import Tokenizer

    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    model = spec["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges: dict[str, list[tuple[str, str]]] = {}
    for left, right in model["merges"]:
        merges.setdefault(left + right, []).append((left, right))
    names = {number: name for name, number in vocabulary.items()}
    new_ids = {names[number]: i for i, number in enumerate(rows)}
    todo = list(new_ids)
    while todo:
        for part in (part for pair in merges.get(todo.pop(), ()) for part in pair):
            if part not in new_ids:
                new_ids[part] = len(new_ids)
                todo.append(part)
    model["vocab"] = new_ids
    model["merges"] = [pair for pair in model["merges"] if pair[0] + pair[1] in new_ids]
    spec["added_tokens"] = [
        dict(token, id=new_ids[token["content"]]) for token in spec["added_tokens"] if token["content"] in new_ids
    ]
    spec["post_processor"] = None  # callers add the first token themselves
    return CutTokenizer(Tokenizer.from_str(json.dumps(spec)), len(rows))
