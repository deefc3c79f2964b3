"""Reports a finished explainer run: validation scores, loss.png and README.md."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emoreason.data import messages
from emoreason.explain.backends.local import LocalExplainer
from emoreason.explain.explanation import Subject, combine, consume
from emoreason.models.vlm import ExplainerSpec, VisionLanguageModel
from emoreason.train.curve import draw
from emoreason.train.text.config import ExplainerConfig
from emoreason.train.text.texts import sheet_of

BATCH = 16


def score_validation(folder: Path, config: ExplainerConfig) -> dict[str, Any]:
    """Score verdicts on some validation faces, and check some generated texts, with and without second tries."""
    path = Path(config.data.validation)
    vlm = VisionLanguageModel.from_pretrained(folder)
    conversations = list(messages.read(path))[: config.run.look_faces]
    subjects, votes = [], []
    for conversation in conversations:
        sheet = sheet_of(conversation)
        assert sheet is not None
        subjects.append(Subject(sheet, Image.open(path.parent / conversation.images[0]).convert("RGB")))
        votes.append((conversation.evidence or {})["votes"])
    explainer = LocalExplainer(vlm, config.name)
    reasoned = [r for part in _parts(subjects) for r in explainer.verdicts(part)]
    weight = vlm.spec.verdict.get("weight", 0.5)
    rows = list(zip(subjects, reasoned, strict=True))
    scores = {
        "evidence": scored([s.sheet.probabilities for s in subjects], votes),
        "reasoned": scored([r.probabilities for r in reasoned], votes),
        "both": scored([combine(s.sheet.probabilities, r.probabilities, "both", weight) for s, r in rows], votes),
    }
    for name, checked in (("texts", True), ("first texts", False)):
        writer = LocalExplainer(vlm, config.name, checked=checked)
        checks = [
            written.checks
            for part in _parts(subjects[: config.run.look_texts])
            for written in consume(writer.explain(part))
        ]
        precisions = [c.evidence_precision for c in checks if c.evidence_precision is not None]
        recalls = [c.evidence_recall for c in checks if c.evidence_recall is not None]
        scores[name] = {
            "n": len(checks), "parsed": float(np.mean([c.parsed for c in checks])),
            "leaking": float(np.mean([bool(c.leaks) for c in checks])),
            "precision": float(np.mean(precisions)) if precisions else None,
            "recall": float(np.mean(recalls)) if recalls else None,
        }  # fmt: skip
    return scores


def scored(answers: list[dict[str, float]], votes: list[dict[str, float]]) -> dict[str, Any]:
    """Accuracy and UAR over the faces with a clear majority of votes."""
    clear = [(max(a, key=a.__getitem__), max(v, key=v.__getitem__)) for a, v in zip(answers, votes, strict=True)
             if max(v.values()) > 0.5]  # fmt: skip
    if not clear:
        return {"n": 0, "accuracy": None, "uar": None}
    by_label: dict[str, list[bool]] = {}
    for answer, target in clear:
        by_label.setdefault(target, []).append(answer == target)
    return {"n": len(clear), "accuracy": round(float(np.mean([a == t for a, t in clear])), 4),
            "uar": round(float(np.mean([np.mean(hits) for hits in by_label.values()])), 4)}  # fmt: skip


def _parts(subjects: list[Subject]) -> list[list[Subject]]:
    return [subjects[start : start + BATCH] for start in range(0, len(subjects), BATCH)]


def plot_log(folder: Path) -> None:
    """Write loss.png: text, verdict and held-out loss over the steps of both stages."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [line for line in lines if "stage" in line]
    before = {"align": 0, "tune": max((line["step"] for line in lines if line["stage"] == "align"), default=0)}
    curves = {}
    for key in ("text", "verdict", "held_out"):
        points = [(before[line["stage"]] + line["step"], line[key]) for line in lines if key in line]
        curves[key.replace("_", " ")] = points
    (folder / "loss.png").write_bytes(draw(curves, "step", "cross-entropy"))


def write_card(folder: Path) -> None:
    """Write README.md: what the model is, how to use it, and its scores."""
    spec = ExplainerSpec.read(folder)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    measured = next((line["validation"] for line in reversed(log) if "validation" in line), None)
    lines = [
        f"# An emoreason explainer for {spec.encoder}",
        "",
        f"LoRA on {spec.language}, a projector of {spec.grid}x{spec.grid} visual tokens.",
        f"Labels: {', '.join(spec.labels)}." if spec.labels else "It writes texts in a free form.",
        f"Trained on {spec.trained_on.get('conversations')} conversations "
        f"(SHA-256 {str(spec.trained_on.get('data_sha256'))[:12]}, seed {spec.trained_on.get('seed')}); config.yaml, "
        "log.jsonl and loss.png are beside this file.",
        "",
        f"    emoreason explain photo.jpg --explainer {folder.as_posix()}",
        "",
        "It describes the expression that is shown, not what a person feels. Not for use at work or in education, "
        "not a lie detector, not a diagnosis.",
    ]
    if measured:
        lines += ["", "| on validation | n | accuracy | UAR |", "| --- | --- | --- | --- |"]
        lines += [f"| {who} | {measured[who]['n']} | {measured[who]['accuracy']} | {measured[who]['uar']} |"
                  for who in ("evidence", "reasoned", "both")]  # fmt: skip
        lines += ["", "| texts | n | parsed | leaking | precision | recall |", "| --- | --- | --- | --- | --- | --- |"]
        columns = ("n", "parsed", "leaking", "precision", "recall")
        for who in ("texts", "first texts"):
            lines.append(f"| {who} | " + " | ".join(str(measured[who][key]) for key in columns) + " |")
    (folder / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
