"""Encodes conversations as tokens: which ones the model reads, which it learns to write, and where the verdict comes.

All conversations of a batch are packed into one row, so no work is spent on padding. Positions restart with each
conversation, and the attention of packing.py keeps conversations apart.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from emoreason.core.messages import IMAGE, Conversation
from emoreason.models.vlm import VisionLanguageModel

VISUAL = -1  # placeholder of a visual token, which the projector fills in
IGNORED = -100


@dataclass(frozen=True)
class Encoded:
    """One conversation as tokens."""

    tokens: tuple[int, ...]
    written: tuple[bool, ...]  # whether the model writes the token, so that it is learned
    verdict: int | None  # index of the token before the label
    votes: dict[str, float] | None

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def learned(self) -> int:
        """The number of learned tokens. The first token is never learned, since nothing comes before it."""
        return sum(self.written[1:])

    @property
    def has_picture(self) -> bool:
        return VISUAL in self.tokens


class Coder:
    """Turns conversations into tokens."""

    def __init__(self, vlm: VisionLanguageModel, max_tokens: int, free: bool = False, verdicts: bool = True):
        """free: answers are plain text that ends with the end token. verdicts: the label is learned as a distribution,
        otherwise as a word."""
        self.tokenizer, self.visual, self.max_tokens = vlm.tokenizer, vlm.spec.grid**2, max_tokens
        self.free, self.verdicts = free, verdicts
        self.line = vlm.tokenizer.encode("\n")[0]

    def conversation(self, talk: Conversation) -> Encoded:
        """Encode prompts and answers in turn.

        A line break ends an answer and begins the next prompt. A free answer may contain line breaks, so it ends with
        the end token."""
        tokens, written = [self.tokenizer.bos], [False]
        verdict_message = (talk.evidence or {}).get("verdict_message") if self.verdicts else None
        verdict = None
        for i, message in enumerate(talk.messages):
            if message.role == "assistant":
                new = self._answer(message.content)
                if i == verdict_message:
                    verdict = len(tokens) - 1
                learned = i != verdict_message  # the label is learned as a distribution instead
                flags = [learned] * len(new)
            else:
                new = self._prompt(message.content)
                if new[:1] == [self.line] and tokens[-1] == self.line:
                    new = new[1:]
                flags = [False] * len(new)
            if len(tokens) + len(new) > self.max_tokens and (message.role != "assistant" or self.free):
                tokens, written = self._cut(tokens, written, new, flags)
                break
            tokens += new
            written += flags
        votes = (talk.evidence or {}).get("votes")
        return Encoded(tuple(tokens), tuple(written), verdict, votes)

    def _cut(
        self, tokens: list[int], written: list[bool], new: list[int], flags: list[bool]
    ) -> tuple[list[int], list[bool]]:
        """Leave out the turn that is too long. Only a first answer is cut instead, or nothing would be learned."""
        if any(written) or not any(flags):
            return tokens, written
        room = max(0, self.max_tokens - len(tokens))
        return tokens + new[:room], written + flags[:room]

    def verdict_only(self, sheet_text: str, verdict_text: str, votes: dict[str, float], picture: bool) -> Encoded:
        """A face and the question for its label, without any text to learn."""
        tokens = [self.tokenizer.bos, *([VISUAL] * self.visual if picture else [])]
        tokens += self.tokenizer.encode(sheet_text + verdict_text)
        return Encoded(tuple(tokens), (False,) * len(tokens), len(tokens) - 1, votes)

    def _prompt(self, text: str) -> list[int]:
        before, image, after = text.partition(IMAGE)
        return self.tokenizer.encode(before) + [VISUAL] * (self.visual if image else 0) + self.tokenizer.encode(after)

    def _answer(self, text: str) -> list[int]:
        """A line break ends an answer; a free text may hold some, so the end token ends it."""
        words = text.strip() if self.free else " ".join(text.split())
        return [*self.tokenizer.encode(f" {words}"), self.tokenizer.eos if self.free else self.line]


@dataclass(frozen=True)
class Batch:
    """R rows of n tokens, with all conversations packed into one row or each in its own."""

    tokens: Tensor  # (R, n) right-padded, VISUAL where visual tokens go
    positions: Tensor  # (R, n) from 0 in every conversation; padding counts as one
    targets: Tensor  # (R, n): the token to predict at this place, or IGNORED
    verdicts: list[tuple[int, int, int]]  # item, row, and place before the label
    order: list[int]  # the items with a picture, in order


def collate(items: Sequence[Encoded], pad: int, packed: bool = False) -> Batch:
    rows = [list(range(len(items)))] if packed else [[i] for i in range(len(items))]
    length = max(sum(len(items[i]) for i in row) for row in rows)
    tokens = torch.full((len(rows), length), pad)
    positions = torch.zeros(len(rows), length, dtype=torch.long)
    targets = torch.full((len(rows), length), IGNORED)
    verdicts = []
    for at, row in enumerate(rows):
        start = 0
        for i in row:
            item, end = items[i], start + len(items[i])
            tokens[at, start:end] = torch.tensor(item.tokens)
            positions[at, start:end] = torch.arange(len(item))
            learned = torch.tensor(
                [t if w else IGNORED for t, w in zip(item.tokens[1:], item.written[1:], strict=True)]
            )
            targets[at, start : end - 1] = learned
            if item.verdict is not None:
                verdicts.append((i, at, start + item.verdict))
            start = end
        positions[at, start:] = torch.arange(length - start)
    return Batch(tokens, positions, targets, verdicts, [i for row in rows for i in row if items[i].has_picture])


def one_pass(n: int, batch_size: int, seed: Sequence[int | str]) -> list[list[int]]:
    """All rows once, shuffled, in full batches; the rest is left to the next pass."""
    order = list(range(n))
    random.Random("/".join(map(str, seed))).shuffle(order)
    size = min(batch_size, n)
    return [order[start : start + size] for start in range(0, n - size + 1, size)]
