"""Reports of a fine-tuning: the data at its start, the calibration and scores of the model at its end."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emoreason.data.check import NO_LABEL, check_entries
from emoreason.data.schema import Sample
from emoreason.evaluate.predictions import Prediction
from emoreason.evaluate.score import score
from emoreason.evidence.calibration import Calibration
from emoreason.evidence.head import LabelHead
from emoreason.evidence.openset import OpenSet
from emoreason.evidence.reader import Reader
from emoreason.models.encoder import Features
from emoreason.train.features import PictureFeatures
from emoreason.train.finetune_config import FinetuneConfig
from emoreason.train.heads.label_model import LabelModel
from emoreason.train.heads.operating_points import fit_points
from emoreason.train.label_choice import unknown_words
from emoreason.train.labeled_faces import LabeledFaces
from emoreason.train.splits import Splits

ENOUGH = 50  # labeled faces outside the training of the head; calibration on fewer would fit noise
TRAINED = {
    "head": "The head learned from {n} faces; the encoder is frozen.",
    "lora": "The head and LoRA on the image tower learned from {n} faces.",
    "full": "The head and the whole image tower learned from {n} faces.",
}


def data_summary(entries: Sequence[tuple[Sample, PictureFeatures | str]], config: FinetuneConfig) -> list[str]:
    """A short version of `emoreason data check`."""
    report = check_entries(
        ((sample, features if isinstance(features, str) else features.fingerprint) for sample, features in entries),
        similarity=None,
    )
    by_table = ", listed by a table in the folder" * (
        Path(config.data.source).is_dir() and entries[0][0].source == "table"
    )
    lines = [f"{config.data.source}: {report.n} pictures{by_table}"]
    unusable = (*report.missing, *report.broken)
    lines += [f"cannot be used: {trouble.id}: {trouble.why}" for trouble in unusable[:3]]
    lines += [f"… and {len(unusable) - 3} more; emoreason data check lists them all"] if len(unusable) > 3 else []
    conflicts = sum(group.conflicts for group in report.exact)
    if report.exact:
        lines.append(f"exact copies of other pictures: {report.surplus}")
        lines += [f"pictures under more than one label: {conflicts}"] if conflicts else []
    for pair, counts in report.leaks().items():
        lines.append(f"pictures in {pair}, which are not trained on: {counts['groups']}")
    unknown = unknown_words([word for word in report.unknown_labels if word != NO_LABEL])
    if unknown and all(word.isdigit() for word in unknown):
        lines.append(
            f"the labels are numbers ({', '.join(sorted(unknown))}), so the answers will be numbers too; use words"
        )
    elif unknown:
        words = (word + (f" (near: {', '.join(near)})" if near else "") for word, near in unknown.items())
        lines.append(f"no known emotion words, taken as labels of your own: {', '.join(words)}")
    return lines


def calibrate(learned: LabelModel, faces: LabeledFaces, parts: Splits, prior: np.ndarray) -> dict[str, Any]:
    """Fit temperatures and operating points on held-out faces.

    The abstention threshold stays 0, because the user decides about it."""
    held_out = learned.held_out(parts)
    rows, clear = held_out.rows, int((faces.label[held_out.rows] >= 0).sum())
    if clear < ENOUGH:
        return {"labels": [], "prior": {}, "points": {"accurate": {}}, "abstain_below": 0.0}
    return {
        "labels": list(faces.labels),
        "prior": {label: round(float(p), 6) for label, p in zip(faces.labels, prior, strict=True)},
        "points": fit_points(held_out.logits, faces.label[rows], faces.targets[rows], prior),
        "abstain_below": 0.0,
        "fitted_on": f"{clear} faces with one label, "
        + (
            f"each judged by one of {held_out.heads} heads, which had not seen it"
            if learned.crossfitted
            else "held out"
        ),
    }


def calibration_message(calibration: Mapping[str, Any], learned: LabelModel, parts: Splits) -> str:
    """One line on how far the model's percentages can be trusted."""
    if calibration["labels"]:
        return f"confidence: calibrated on {calibration['fitted_on']}"
    return (
        f"confidence: not calibrated, {len(learned.held_out(parts).rows)} faces are too few "
        f"({ENOUGH} with one label are needed): use it to rank answers, not as the probability of being right"
    )


def data_hash(faces: LabeledFaces, parts: Splits) -> str:
    """SHA-256 of pictures, targets and parts, independent of their order."""
    lines = [
        f"{name} {faces.keys[row]} {np.round(faces.targets[row], 4).tolist()}"
        for name, rows in parts.named().items()
        for row in rows
    ]
    return hashlib.sha256("\n".join([json.dumps(faces.labels), *sorted(lines)]).encode()).hexdigest()


def label_spec(learned: LabelModel, faces: LabeledFaces, parts: Splits, config: FinetuneConfig) -> dict[str, Any]:
    """The part of model.json about the labels."""
    spec = {
        "what": learned.what,
        "calibration": calibrate(learned, faces, parts, faces.targets[parts.train].mean(axis=0)),
    }
    if config.openset > 0:
        spec["openset"] = OpenSet.fit(learned.held_out(parts).logits, keep=1 - config.openset).to_spec()
    return spec


def score_before_and_after(
    reader: Reader,
    spec: Mapping[str, Any],
    learned: LabelModel,
    faces: LabeledFaces,
    parts: Splits,
    config: FinetuneConfig,
) -> tuple[dict[str, Any], list[dict[str, float]]]:
    """Scores on the report faces before and after, for metrics.json, and the new probabilities of all faces."""
    calibration = Calibration.from_spec(spec["calibration"])
    head = LabelHead(config.name, "", faces.labels, learned.weight, learned.bias, calibration)
    after = replace(reader, head=head, calibration=calibration, base=reader.calibration, point="accurate")
    readers = {"before": reader, "after": after}
    if calibration.labels:
        readers["balanced"] = replace(after, point="balanced")
    rows = parts.report[faces.label[parts.report] >= 0]
    figures = {
        name: _score(chosen, faces.features if name == "before" else learned.features, faces, rows, config.seed)
        for name, chosen in readers.items()
    }
    for name, figure in figures.items():
        figure |= {"benchmark": config.data.source, "split": parts.report_name, "protocol": "one label a face",
                   "model": reader.zeroshot.encoder.name if name == "before" else config.name}  # fmt: skip
    if config.openset > 0:
        withheld = OpenSet.from_spec(spec["openset"]).unknown(learned.logits(rows))  # type: ignore[union-attr]
        figures["after"]["looks_like_no_label"] = round(float(withheld.mean()), 4)
    answers = after.distribution(Features(learned.features), faces.labels).probabilities
    metrics = {
        "what": learned.what,
        "loss": config.loss.name,
        "protocol": protocol(learned, faces, parts, bool(calibration.labels)),
        "kept": learned.kept,
        **learned.speed,
        **figures,
    }
    return metrics, [dict(zip(faces.labels, map(float, row), strict=True)) for row in answers]


def protocol(learned: LabelModel, faces: LabeledFaces, parts: Splits, calibrated: bool) -> str:
    """A paragraph for the card: what was trained, chosen and scored on which faces."""
    persons = f" Faces of one person ({faces.subject}) and" if faces.subject else ""
    fitted = "fitted temperature and operating points" if calibrated else "were too few to calibrate on"
    if crossfitted := learned.crossfitted:
        chose = (
            f"{crossfitted.heads} other heads were trained, each without some of these and {len(parts.holdout)} more "
            f"faces, and then answered for the faces left out: {len(crossfitted.rows)} answers chose the epoch and "
            f"{fitted}. "
        )
        chose += (
            "So the probabilities were fitted on heads like this one, not on this head itself. " if calibrated else ""
        )
    else:
        chose = f"{len(parts.holdout)} others chose the epoch and {fitted}. "
    return (
        f"{TRAINED[learned.what].format(n=len(parts.train))} {chose}"
        + f"The report is on {len(parts.report)} faces ({parts.report_name}) that no choice was based on."
        + (f"{persons} copies of a picture stay in one part." if persons else " Copies of a picture stay in one part.")
        + (
            f" {faces.near_copies} pictures look nearly the same and may be in different parts."
            if faces.near_copies
            else ""
        )
        + (f" {parts.removed} training faces were removed for that." if parts.removed else "")
        + (f" Not touched: {', '.join(parts.untouched)}." if parts.untouched else "")
    )


def _score(reader: Reader, features: np.ndarray, faces: LabeledFaces, rows: np.ndarray, seed: int) -> dict[str, Any]:
    probabilities = reader.distribution(Features(features[rows]), faces.labels).probabilities
    predictions = [
        Prediction(
            faces.ids[row], "ok", faces.labels[int(p.argmax())], dict(zip(faces.labels, map(float, p), strict=True)),
            target=faces.labels[faces.label[row]],
        )
        for row, p in zip(rows, probabilities, strict=True)
    ]  # fmt: skip
    figures = score(predictions, faces.labels, lambda row: row.target, lambda row: None, seed)
    return {key: value for key, value in figures.items() if value is not None and key not in ("groups", "detected")}


def split_rows(faces: LabeledFaces, parts: Splits) -> list[tuple[str, str, str]]:
    """The rows of split.csv: (id, label, part)."""
    return [
        (faces.ids[row], faces.labels[faces.stratum[row]] if faces.labels else "", name)
        for name, rows in parts.named().items()
        for row in rows
    ]


def split_summary(faces: LabeledFaces, parts: Splits) -> list[str]:
    """Lines for the log: what was left out, the labels, and the sizes of the parts."""
    lines = [f"left out, {why}: {n}" for why, n in faces.left_out.items()]
    if faces.subject:
        lines.append(f"column {faces.subject}: each person stays in one part")
    if faces.near_copies:
        lines.append(
            f"{faces.near_copies} pictures look nearly the same and may be frames of one film: "
            "a column group, with the film or the person, keeps them in one part"
        )
    if faces.labels:
        lines.append("labels: " + ", ".join(f"{label} {n}" for label, n in faces.counts(np.arange(len(faces))).items()))
    lines.append(
        f"{len(parts.train)} faces to train on, {len(parts.holdout)} held out to choose on, "
        f"{len(parts.report)} for the report ({parts.report_name})"
    )
    if parts.removed:
        lines.append(f"{parts.removed} training faces removed: their picture or person is also in the other splits")
    if parts.untouched:
        lines.append("not touched: " + ", ".join(f"{name} ({n})" for name, n in parts.untouched.items()))
    return lines
