"""Decodes several texts in one batch: reads prompts, scores labels, writes.

The rows of a batch differ in length. Padding is masked and position numbers skip it, so that every row computes the
same as it would alone (a test compares).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from emoreason.models.cache import roomy_cache
from emoreason.models.vlm import VisionLanguageModel


class Session:
    """A batch of B conversations."""

    def __init__(self, vlm: VisionLanguageModel, rows: int):
        self.vlm, self.rows = vlm, rows
        self.cache: Any = roomy_cache()
        self.mask = torch.zeros(rows, 0, dtype=torch.long, device=vlm.device)
        self.length = [0] * rows
        self.hidden: Tensor = torch.empty(0)  # (B, H) after the last fed token of each row

    @torch.inference_mode()
    def feed(self, pieces: Sequence[Tensor | None]) -> None:
        """Feed one piece (n, H) per row; None for a row that has nothing to add."""
        sizes = [0 if piece is None else len(piece) for piece in pieces]
        n = max(sizes)
        width = next(piece.shape[1] for piece in pieces if piece is not None)
        kind = next(piece.dtype for piece in pieces if piece is not None)
        embeddings = torch.zeros(self.rows, n, width, dtype=kind, device=self.vlm.device)
        mask = torch.zeros(self.rows, n, dtype=torch.long, device=self.vlm.device)
        positions = torch.zeros(self.rows, n, dtype=torch.long, device=self.vlm.device)
        for row, (piece, size) in enumerate(zip(pieces, sizes, strict=True)):
            if piece is not None and size:
                embeddings[row, n - size :] = piece  # right-aligned: the last column is every row's last token
                mask[row, n - size :] = 1
                positions[row, n - size :] = torch.arange(self.length[row], self.length[row] + size)
                self.length[row] += size
        self.mask = torch.cat([self.mask, mask], dim=1)
        hidden = self.vlm.hidden(embeddings, self.mask, positions, self.cache)[:, -1]  # (B, H)
        fed = torch.tensor([size > 0 for size in sizes], device=hidden.device)
        self.hidden = hidden if bool(fed.all()) else torch.where(fed[:, None], hidden, self.hidden)

    def read(self, prompts: Sequence[str | None], visual: Sequence[Tensor | None] | None = None) -> None:
        """Feed one prompt per row. A row's first prompt gets the start token and the visual tokens in front."""
        encode = self.vlm.tokenizer.encode
        self.read_tokens([None if prompt is None else encode(prompt) for prompt in prompts], visual)

    def read_tokens(
        self, prompts: Sequence[Sequence[int] | None], visual: Sequence[Tensor | None] | None = None
    ) -> None:
        pieces: list[Tensor | None] = []
        for row, tokens in enumerate(prompts):
            if tokens is None:
                pieces.append(None)
                continue
            parts = []
            if not self.length[row]:
                parts.append(self.vlm.embed([self.vlm.tokenizer.bos]))
                if visual is not None and (image := visual[row]) is not None:
                    parts.append(image.to(parts[0].dtype))
            if tokens:
                parts.append(self.vlm.embed(list(tokens)))
            pieces.append(torch.cat(parts))
        self.feed(pieces)

    @torch.inference_mode()
    def score(self, options: Sequence[str]) -> Tensor:
        """log p (B, L) of each option as the continuation, in one pass over all options. The cache stays as it was."""
        option_tokens = [self.vlm.tokenizer.encode(f" {option}") for option in options]
        first = self.vlm.head(self.hidden).log_softmax(dim=1)  # (B, V)
        total = first[:, [tokens[0] for tokens in option_tokens]]  # (B, L)
        if all(len(tokens) == 1 for tokens in option_tokens):
            return total
        feed = [(o, i) for o, tokens in enumerate(option_tokens) for i in range(len(tokens) - 1)]
        n = len(feed)
        own = torch.zeros(n, n, dtype=torch.bool, device=self.vlm.device)
        for a, (option, position) in enumerate(feed):
            for b, (other, before) in enumerate(feed):
                own[a, b] = option == other and before <= position  # an option sees itself and the prefix
        visible = torch.cat([self.mask.bool()[:, None, :].expand(-1, n, -1), own.expand(self.rows, -1, -1)], dim=2)
        piece = self.vlm.embed([option_tokens[o][i] for o, i in feed]).expand(self.rows, -1, -1)
        blocked = torch.finfo(piece.dtype).min
        bias = torch.zeros(visible.shape, dtype=piece.dtype, device=visible.device).masked_fill(~visible, blocked)[
            :, None
        ]
        offsets = torch.tensor([i for _, i in feed], device=piece.device)
        positions = torch.tensor(self.length, device=piece.device)[:, None] + offsets[None]
        hidden = self.vlm.hidden(piece, bias, positions, self.cache)  # (B, n, H)
        self.cache.crop(-n)
        later = self.vlm.head(hidden).log_softmax(dim=2)  # (B, n, V)
        for at, (option, position) in enumerate(feed):
            total[:, option] += later[:, at, option_tokens[option][position + 1]]
        return total

    def write(
        self, end: int, rngs: Sequence[torch.Generator], temperature: float, max_tokens: int
    ) -> Iterator[tuple[int, int]]:
        """Write until `end` or the end-of-text token, at most `max_tokens` tokens; yields (row, token)."""
        active = [True] * self.rows
        for _ in range(max_tokens):
            with torch.inference_mode():
                logits = self.vlm.head(self.hidden).cpu()  # (B, V)
            pieces: list[Tensor | None] = [None] * self.rows
            for row in range(self.rows):
                if not active[row]:
                    continue
                if temperature <= 0:
                    token = int(logits[row].argmax())
                else:
                    token = int(torch.multinomial((logits[row] / temperature).softmax(dim=0), 1, generator=rngs[row]))
                if token in (end, self.vlm.tokenizer.eos):
                    active[row] = False
                    continue
                yield row, token
                pieces[row] = self.vlm.embed([token])
            if all(piece is None for piece in pieces):
                return
            self.feed(pieces)
