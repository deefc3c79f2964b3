"""Conversations as numbers: which tokens are read, which are to be written, and where the verdict is asked."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emoreason.data.messages import IMAGE, Conversation
from emoreason.explain.constrain import Atoms
from emoreason.vlm import VisionLanguageModel

VISUAL = -1  # stands for one visual token until the projector fills it in
IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """One conversation."""

    tokens: tuple[int, ...]
    written: tuple[bool, ...]  # the token is the model's own word: it is learned
    verdict: int | None  # index of the token after which the label comes
    votes: dict[str, float] | None

    def __len__(self) -> int:
        return len(self.tokens)


class Encoder:
    """Conversations -> tokens, for one tokenizer. The model's words are split as constrained generation writes them."""

    def __init__(self, vlm: VisionLanguageModel, max_tokens: int):
        self.tokenizer, self.visual, self.max_tokens = vlm.tokenizer, vlm.spec.grid**2, max_tokens
        self.atoms = Atoms(vlm.tokenizer.encode)

    def conversation(self, given: Conversation) -> Encoded:
        """Prompts and answers alternate; an answer is followed by the line break that begins the next prompt."""
        line = self.tokenizer.encode("\n")[0]
        tokens, written = [self.tokenizer.bos], [False]
        verdict_message = (given.evidence or {}).get("verdict_message")
        verdict = None
        for i, message in enumerate(given.messages):
            if message.role == "assistant":
                new = [*self._answer(message.content), line]
                if i == verdict_message:
                    verdict = len(tokens) - 1
                mine = i != verdict_message  # the label itself is learned by its distribution
                flags = [mine] * len(new)
            else:
                new = self._prompt(message.content)
                if new[:1] == [line] and tokens[-1] == line:
                    new = new[1:]
                flags = [False] * len(new)
            if len(tokens) + len(new) > self.max_tokens and message.role != "assistant":
                break
            tokens += new
            written += flags
        votes = (given.evidence or {}).get("votes")
        return Encoded(tuple(tokens), tuple(written), verdict, votes)

    def verdict_only(self, sheet_text: str, verdict_text: str, votes: dict[str, float], picture: bool) -> Encoded:
        """A face and the question for its label, without a word of text."""
        tokens = [self.tokenizer.bos, *([VISUAL] * self.visual if picture else [])]
        tokens += self.tokenizer.encode(sheet_text + verdict_text)
        return Encoded(tuple(tokens), (False,) * len(tokens), len(tokens) - 1, votes)

    def _prompt(self, text: str) -> list[int]:
        before, image, after = text.partition(IMAGE)
        return self.tokenizer.encode(before) + [VISUAL] * (self.visual if image else 0) + self.tokenizer.encode(after)

    def _answer(self, text: str) -> list[int]:
        lines = text.split("\n")
        tokens: list[int] = []
        for i, part in enumerate(lines):
            heading, colon, words = part.partition(": ")
            if i and colon:  # a section of its own: its heading is a prompt's text, written by the model too
                tokens += [*self.tokenizer.encode(f"\n{heading}:"), *self.atoms.encode(words)]
            else:
                tokens += self.atoms.encode(part)
        return tokens


@dataclass(frozen=True)
class Batch:
    tokens: Tensor  # (B, n) right-padded, VISUAL where visual tokens go
    mask: Tensor  # (B, n)
    targets: Tensor  # (B, n): the token that position i has to predict, or IGNORED
    verdicts: Tensor  # (B,) position after which the label is read, or -1
    votes: list[dict[str, float] | None]


def collate(items: Sequence[Encoded], pad: int) -> Batch:
    length = max(len(item) for item in items)
    tokens = torch.full((len(items), length), pad)
    mask = torch.zeros(len(items), length, dtype=torch.long)
    targets = torch.full((len(items), length), IGNORED)
    for row, item in enumerate(items):
        n = len(item)
        tokens[row, :n] = torch.tensor(item.tokens)
        mask[row, :n] = 1
        for i in range(1, n):
            if item.written[i]:
                targets[row, i - 1] = item.tokens[i]
    verdicts = torch.tensor([-1 if item.verdict is None else item.verdict for item in items])
    return Batch(tokens, mask, targets, verdicts, [item.votes for item in items])


def grouped_by_length(lengths: Sequence[int], batch_size: int, seed: int, window: int = 8) -> list[list[int]]:
    """One pass over all rows in batches of like length: shuffled, then sorted within a window of some batches."""
    order = list(range(len(lengths)))
    rng = random.Random(seed)
    rng.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * window):
        part = sorted(order[start : start + batch_size * window], key=lambda i: lengths[i])
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    batches = [batch for batch in batches if len(batch) == batch_size] or batches
    rng.shuffle(batches)
    return batches
