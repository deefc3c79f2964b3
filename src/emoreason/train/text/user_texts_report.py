"""Scores an explainer on the report faces before and after: perplexity of their texts, and checks of generated ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from emoreason.evaluate.explanations.diversity import distinct, words
from emoreason.explain.backends.local import LocalExplainer
from emoreason.explain.check.explanations import check
from emoreason.explain.explanation import Subject, consume
from emoreason.explain.read.claims import mentions
from emoreason.explain.sheet import Sheet
from emoreason.knowledge.emotion_words import leaks
from emoreason.models.vlm import ExplainerSpec, VisionLanguageModel
from emoreason.reasoner import Reasoner
from emoreason.train.text.user_texts import answers_in, subjects_in

BATCH = 12
ROWS = (
    ("perplexity", "perplexity of the held-back texts", ".2f"),
    ("parsed", "have the three sections", ".0%"),
    ("leaking", "name an emotion among the observations", ".0%"),
    ("precision", "evidence precision", ".2f"),
    ("recall", "evidence recall", ".2f"),
    ("words", "words a text", ".0f"),
    ("distinct_2", "distinct-2", ".2f"),
)


@dataclass(frozen=True)
class TextScores:
    texts: dict[str, Any] | None  # scores of generated texts; None if there was no explainer before
    loss: float  # per token

    def figures(self) -> dict[str, Any]:
        return {"loss": round(self.loss, 4), "perplexity": round(math.exp(min(self.loss, 20)), 3), **(self.texts or {})}


def score_generated(explainer: str, reasoner: Reasoner, private: Path, limit: int) -> dict[str, Any]:
    """Generate texts for the report faces and score them."""
    encoder = reasoner.reader.zeroshot.encoder
    shared = encoder if ExplainerSpec.read(Path(explainer)).encoder == encoder.name else None
    vlm = VisionLanguageModel.from_pretrained(explainer, reasoner.compute, encoder=shared)
    local = LocalExplainer(vlm, "measured")
    faces = subjects_in(private / "report.jsonl", limit)
    texts = []
    for start in range(0, len(faces), BATCH):
        part = [Subject(sheet, crop) for sheet, crop in faces[start : start + BATCH]]
        texts += [explanation.text for explanation in consume(local.explain(part))]
    return score_texts(texts, [sheet for sheet, _ in faces])


def score_references(private: Path, limit: int) -> dict[str, Any]:
    """Score the texts of the report part themselves, in the same way."""
    path = private / "report.jsonl"
    return score_texts(answers_in(path, limit), [sheet for sheet, _ in subjects_in(path, limit)])


def score_texts(texts: Sequence[str], sheets: Sequence[Sheet]) -> dict[str, Any]:
    """Check the texts against the sheets. A text without the three sections is checked as a whole."""
    checks = [check(text, sheet) for text, sheet in zip(texts, sheets, strict=True)]
    results = [
        (bool(c.leaks), c.evidence_precision, c.evidence_recall) if c.parsed else _score_whole(text, sheet)
        for c, text, sheet in zip(checks, texts, sheets, strict=True)
    ]
    precision = [precise for _, precise, _ in results if precise is not None]
    recall = [named for _, _, named in results if named is not None]
    return {
        "n": len(texts),
        "parsed": mean(c.parsed for c in checks),
        "leaking": mean(leak for leak, _, _ in results),
        "precision": round(mean(precision), 4) if precision else None,
        "recall": round(mean(recall), 4) if recall else None,
        "words": round(mean(len(words(text)) for text in texts), 1),
        "distinct_2": round(distinct(texts) or 0.0, 4),
        "examples": list(texts[:3]),
    }


def _score_whole(text: str, sheet: Sheet) -> tuple[bool, float | None, float | None]:
    claims = mentions(text)
    true = [m for m in claims if (m.action_unit in sheet.visible if m.present else m.action_unit in sheet.absent)]
    named, expected = {m.action_unit for m in claims if m.present}, [unit.code for unit in sheet.named]
    recall = sum(code in named for code in expected) / len(expected) if expected else None
    return bool(leaks(text, sheet.labels)), len(true) / len(claims) if claims else None, recall


def table(figures: dict[str, Any]) -> list[str]:
    """A Markdown table of the scores, before and after."""
    columns = {name: figures[name] for name in ("before", "after", "theirs")}
    lines = [
        f"| {figures['after']['n']} held-back faces | before | after | the held-back texts |",
        "| --- | ---: | ---: | ---: |",
    ]
    for key, name, form in ROWS:
        cells = [format(figure[key], form) if figure.get(key) is not None else "–" for figure in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
