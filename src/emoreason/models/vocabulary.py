"""Cut the vocabulary of a language model: keep only the tokens that are needed, and cut its tokenizer to match.

63 % of Gemma 270M is a table of 262,144 tokens in a hundred languages. The kept tokens compute the same numbers as
before. A removed token is spelled with smaller ones, down to single bytes, which are always kept.
"""

import json
from collections.abc import Iterable
from functools import cached_property
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
        self.bos, self.eos, self.pad = (self._id(name) for name in ("<bos>", "<eos>", "<pad>"))

    def _id(self, name: str) -> int:
        number = self.backend.token_to_id(name)
        assert number is not None, name
        return number

    @cached_property
    def _parts(self) -> dict[str, tuple[str, str]]:
        """The two tokens that each removed token is built from. Most texts have none, and reading it takes a while."""
        parts: dict[str, tuple[str, str]] = {}
        for left, right in json.loads(self.backend.to_str())["model"]["merges"]:
            if self._id(left + right) >= self.n_rows:
                parts.setdefault(left + right, (left, right))
        return parts

    def encode(self, text: str) -> list[int]:
        """Text -> row numbers; no token is added."""
        return [row for number in self.backend.encode(text).ids for row in self._spell(number)]

    def decode(self, rows: Iterable[int]) -> str:
        return self.backend.decode(list(rows), skip_special_tokens=True)

    def _spell(self, number: int) -> list[int]:
        if number < self.n_rows:
            return [number]
        name = str(self.backend.id_to_token(number))
        if name not in self._parts:  # a single character without a row
            return [self._id(f"<0x{byte:02X}>") for byte in name.encode()]
        left, right = self._parts[name]
        return [*self._spell(self._id(left)), *self._spell(self._id(right))]

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
