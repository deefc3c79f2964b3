"""The text side of mini training: embedded prompts and captions from `prompts/training.yaml`."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from emoreason.train.recipes.mini_faces import EMOTIONS, FerplusFaces
from emoreason.train.recipes.mini_geometry import UNITS

VISIBLE = 0.4  # units above this intensity may be mentioned in a caption


@dataclass(frozen=True)
class PromptBank:
    """The embeddings of all templates x words of each emotion."""

    prompts: list[Tensor]  # per emotion (words * templates, D), unit length

    def prototypes(self, noise: float, rng: torch.Generator) -> Tensor:
        """(8, D): for each emotion the mean of one to eight random prompts, plus a little noise."""
        rows = []
        for bank in self.prompts:
            count = int(torch.randint(1, 9, (1,), generator=rng))
            drawn = bank[torch.randint(len(bank), (count,), generator=rng)].mean(dim=0)
            away = torch.randn(bank.shape[1], generator=rng) * (noise / bank.shape[1] ** 0.5)
            rows.append(F.normalize(drawn, dim=0) + away)
        return F.normalize(torch.stack(rows), dim=1)

    def means(self) -> Tensor:
        return F.normalize(torch.stack([bank.mean(dim=0) for bank in self.prompts]), dim=1)


def embed(texts: list[str], encode_text, tokenizer, bf16: bool = False, batch: int = 256) -> Tensor:
    """Texts -> (n, D) of unit length. Sorts by length, so that little padding is wasted."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    result: list[Tensor] = [torch.empty(0)] * len(texts)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for start in range(0, len(texts), batch):
            rows = order[start : start + batch]
            tokens = tokenizer([texts[i] for i in rows])
            tokens = tokens[:, : int((tokens != 0).sum(dim=1).max())]  # 0 pads
            for i, row in zip(rows, F.normalize(encode_text(tokens).float(), dim=1), strict=True):
                result[i] = row
    return torch.stack(result).clone()


def prompt_bank(training_text: dict, encode) -> PromptBank:
    templates = training_text["templates"]
    return PromptBank([encode([t.format(w) for w in training_text["words"][e] for t in templates]) for e in EMOTIONS])


def captions(faces: FerplusFaces, training_text: dict, rng: np.random.Generator) -> list[str]:
    """One caption per face: a word for an emotion drawn from its votes, and up to two of its visible action units."""
    joins = training_text["captions"]
    result = []
    for share, units in zip(faces.distribution, faces.units, strict=True):
        emotion = EMOTIONS[rng.choice(len(EMOTIONS), p=share / share.sum())]
        word = str(rng.choice(training_text["words"][emotion]))
        visible = [u.code for u, x in zip(UNITS, units, strict=True) if x > VISIBLE]
        drawn = rng.permutation(visible)[:2]
        if len(drawn) == 0:
            result.append(str(rng.choice(training_text["templates"])).format(word))
            continue
        phrases = " and ".join(str(rng.choice(training_text["units"][code])) for code in drawn)
        result.append(str(rng.choice(joins)).format(word=word, units=phrases))
    return result


def caption_targets(distribution: Tensor, units: Tensor) -> Tensor:
    """(B, 8), (B, U) -> (B, B), rows sum to 1: how well the caption of face j also fits face i."""
    described = torch.cat([distribution.sqrt(), 0.7 * units.nan_to_num()], dim=1)
    return F.softmax(-torch.cdist(described, described).square() / 0.1, dim=1)
