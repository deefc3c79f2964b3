"""Texts that are written side by side, part by part, each checked and if need be written again.

A part that fails its check is written again, up to CANDIDATES texts in one batch; the first that passes is taken. If
none passes, the built-in text is.
"""

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from emoreason.explain.backends.decoding import Session
from emoreason.explain.backends.parts import CANDIDATES, RETRY_TEMPERATURE, Part
from emoreason.explain.check.explanations import MODEL, RETRIED, WRITTEN
from emoreason.models.vlm import VisionLanguageModel

AT_ONCE = 16  # rows of a batch of candidates
MAX_TOKENS = 140  # of one part

Ticks = Generator[None, None, list[list[int]]]  # yields after every token, so that the caller can turn to other work
Judge = Callable[[int, str], list[str]]  # (row, text) -> its problems


class Draft:
    """A batch of texts that grow part by part."""

    def __init__(self, vlm: VisionLanguageModel, visual: Sequence[Tensor | None], seeds: Sequence[int], end: int):
        """end: the token that ends a part."""
        self.vlm, self.visual, self.seeds, self.end = vlm, list(visual), list(seeds), end
        self.most_tokens = MAX_TOKENS
        self.session = Session(vlm, len(self.visual))
        self.tokens: list[list[int]] = [[] for _ in self.visual]  # of each row, without the picture
        self.outdated = False  # whether the session holds a text that was replaced

    def read(self, prompts: Sequence[str]) -> None:
        if self.outdated:  # begin again, with the texts that were taken
            self.session, self.outdated = Session(self.vlm, len(self.visual)), False
            self.session.read_tokens(self.tokens, self.visual)
        new = [self.vlm.tokenizer.encode(prompt) for prompt in prompts]
        self.session.read_tokens(new, self.visual)
        for tokens, more in zip(self.tokens, new, strict=True):
            tokens += more

    def write(
        self, judge: Judge, fallback: Callable[[int], str], temperature: float = 0.0
    ) -> Generator[None, None, list[Part]]:
        """Write one part of every row; every text is judged."""
        written = yield from self._texts(self.session, self.seeds, temperature)
        parts = [Part(self._text(tokens), MODEL) for tokens in written]
        failed = [row for row, part in enumerate(parts) if judge(row, part.text)]
        passed: dict[int, list[int]] = {}
        for start in range(0, len(failed), AT_ONCE // CANDIDATES):
            passed |= yield from self._again(failed[start : start + AT_ONCE // CANDIDATES], judge)
        for row in failed:
            if row in passed:
                written[row], parts[row] = passed[row], Part(self._text(passed[row]), RETRIED)
            else:
                parts[row] = Part(fallback(row), WRITTEN)
                written[row] = self.vlm.tokenizer.encode(f" {parts[row].text}")
        for row, tokens in enumerate(written):
            self.tokens[row] += tokens
        self.outdated = self.outdated or bool(failed)
        return parts

    def _again(self, rows: Sequence[int], judge: Judge) -> Generator[None, None, dict[int, list[int]]]:
        """The first new text of each row that passes, if any does."""
        session = Session(self.vlm, len(rows) * CANDIDATES)
        copies = [row for row in rows for _ in range(CANDIDATES)]
        session.read_tokens([self.tokens[row] for row in copies], [self.visual[row] for row in copies])
        seeds = [self.seeds[row] + 1 + n % CANDIDATES for n, row in enumerate(copies)]
        passed: dict[int, list[int]] = {}
        written = yield from self._texts(session, seeds, RETRY_TEMPERATURE)
        for row, tokens in zip(copies, written, strict=True):
            if row not in passed and not judge(row, self._text(tokens)):
                passed[row] = tokens
        return passed

    def _texts(self, session: Session, seeds: Sequence[int], temperature: float) -> Ticks:
        rngs = [torch.Generator().manual_seed(seed) for seed in seeds]
        written: list[list[int]] = [[] for _ in seeds]
        for row, token in session.write(self.end, rngs, temperature, self.most_tokens):
            written[row].append(token)
            yield
        return written

    def _text(self, tokens: list[int]) -> str:
        return self.vlm.tokenizer.decode(tokens).strip()
