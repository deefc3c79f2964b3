"""Before and after, on held-back faces: how well the texts are foretold, and what the written ones are worth."""

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
from emoreason.explain.read.claims import leaks, mentions
from emoreason.explain.sheet import Sheet
from emoreason.models.vlm import ExplainerSpec, VisionLanguageModel
from emoreason.reasoner import Reasoner
from emoreason.train.text.own_texts import answers_in, subjects_in

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
class Written:
    texts: dict[str, Any] | None  # None: there was no explainer before
    loss: float  # a token

    def figures(self) -> dict[str, Any]:
        return {"loss": round(self.loss, 4), "perplexity": round(math.exp(min(self.loss, 20)), 3), **(self.texts or {})}


def written_by(explainer: str, reasoner: Reasoner, private: Path, limit: int) -> dict[str, Any]:
    """Write about the held-back faces and measure the texts."""
    encoder = reasoner.reader.zeroshot.encoder
    shared = encoder if ExplainerSpec.read(Path(explainer)).encoder == encoder.name else None
    vlm = VisionLanguageModel.from_pretrained(explainer, reasoner.compute, encoder=shared)
    own = LocalExplainer(vlm, "measured")
    faces = subjects_in(private / "report.jsonl", limit)
    made = []
    for start in range(0, len(faces), BATCH):
        part = [Subject(sheet, crop) for sheet, crop in faces[start : start + BATCH]]
        made += [explanation.text for explanation in consume(own.explain(part))]
    return measured(made, [sheet for sheet, _ in faces])


def theirs(private: Path, limit: int) -> dict[str, Any]:
    """The held-back texts themselves, by the same measures."""
    path = private / "report.jsonl"
    return measured(answers_in(path, limit), [sheet for sheet, _ in subjects_in(path, limit)])


def measured(texts: Sequence[str], sheets: Sequence[Sheet]) -> dict[str, Any]:
    """A text without the three sections is read as a whole: what it names, and whether it names an emotion."""
    checks = [check(text, sheet) for text, sheet in zip(texts, sheets, strict=True)]
    found = [
        (bool(c.leaks), c.evidence_precision, c.evidence_recall) if c.parsed else _whole(text, sheet)
        for c, text, sheet in zip(checks, texts, sheets, strict=True)
    ]
    precision = [precise for _, precise, _ in found if precise is not None]
    recall = [named for _, _, named in found if named is not None]
    return {
        "n": len(texts),
        "parsed": mean(c.parsed for c in checks),
        "leaking": mean(leak for leak, _, _ in found),
        "precision": round(mean(precision), 4) if precision else None,
        "recall": round(mean(recall), 4) if recall else None,
        "words": round(mean(len(words(text)) for text in texts), 1),
        "distinct_2": round(distinct(texts) or 0.0, 4),
        "examples": list(texts[:3]),
    }


def _whole(text: str, sheet: Sheet) -> tuple[bool, float | None, float | None]:
    said = mentions(text)
    true = [m for m in said if (m.action_unit in sheet.visible if m.present else m.action_unit in sheet.absent)]
    affirmed, due = {m.action_unit for m in said if m.present}, [unit.code for unit in sheet.named]
    recall = sum(code in affirmed for code in due) / len(due) if due else None
    return bool(leaks(text, sheet.labels)), len(true) / len(said) if said else None, recall


def table(figures: dict[str, Any]) -> list[str]:
    """Markdown."""
    columns = {name: figures[name] for name in ("before", "after", "theirs")}
    lines = [
        f"| {figures['after']['n']} held-back faces | before | after | the held-back texts |",
        "| --- | ---: | ---: | ---: |",
    ]
    for key, name, form in ROWS:
        cells = [format(figure[key], form) if figure.get(key) is not None else "–" for figure in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines
