"""A language model with fewer words: keep the rows of embedding and head that are needed, and cut the tokenizer alike.

63 % of Gemma 270M is a table of 262,144 tokens in a hundred languages. What is kept computes the same numbers as
before; a text that needs a token that is gone is spelled by smaller ones, down to single bytes, which are always kept.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

FIRST = 16384  # the most frequent tokens come first in Gemma's table, and before them control tokens and bytes


def needed(tokenizer: "PreTrainedTokenizerFast", texts: Iterable[str], first: int = FIRST) -> list[int]:
    """The token numbers to keep for these texts, ascending."""
    kept = set(range(min(first, len(tokenizer))))
    for words in texts:
        kept.update(tokenizer(words, add_special_tokens=False)["input_ids"])
    return sorted(kept)


class CutTokenizer:
    """The tokenizer of a cut model: numbers are places in the list of kept rows.

    Byte pair encoding walks to a token over smaller ones. Those steps stay in the tokenizer even where their rows are
    gone, so that texts of kept tokens are split as before; a step that a text stops at is spelled by its kept parts.
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
        if self._names[number] not in self._parts:  # a single character that was not kept
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
    """The same tokenizer with the tokens of these rows and the steps to them."""
    from tokenizers import Tokenizer

    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    model = spec["model"]
    vocabulary: dict[str, int] = model["vocab"]
    ways: dict[str, list[tuple[str, str]]] = {}
    for left, right in model["merges"]:
        ways.setdefault(left + right, []).append((left, right))
    names = {number: name for name, number in vocabulary.items()}
    place = {names[number]: i for i, number in enumerate(rows)}
    todo = list(place)
    while todo:
        for part in (part for pair in ways.get(todo.pop(), ()) for part in pair):
            if part not in place:
                place[part] = len(place)
                todo.append(part)
    model["vocab"] = place
    model["merges"] = [pair for pair in model["merges"] if pair[0] + pair[1] in place]
    spec["added_tokens"] = [
        dict(token, id=place[token["content"]]) for token in spec["added_tokens"] if token["content"] in place
    ]
    spec["post_processor"] = None  # whoever writes a prompt writes its first token too
    return CutTokenizer(Tokenizer.from_str(json.dumps(spec)), len(rows))


def cut_rows(model: Any, rows: "torch.Tensor") -> None:
    """Keep these rows of the (tied or separate) embedding and head of a causal language model, in place."""
    import torch

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head.weight is embedding.weight
    with torch.no_grad():
        embedding.weight = torch.nn.Parameter(embedding.weight[rows].clone(), requires_grad=False)
        embedding.num_embeddings = len(rows)
        if embedding.padding_idx is not None:
            embedding.padding_idx = 0
        kept = embedding.weight if tied else torch.nn.Parameter(head.weight[rows].clone(), requires_grad=False)
        head.weight, head.out_features = kept, len(rows)
        if head.bias is not None:
            head.bias = torch.nn.Parameter(head.bias[rows].clone(), requires_grad=False)
    model.config.vocab_size = len(rows)
