"""The measures of the battery that need texts and sheets only: no model, and the texts of any system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from emoreason.evaluate.explanations.cases import Row
from emoreason.evaluate.explanations.intervals import share
from emoreason.evaluate.explanations.verdicts import headline, scored
from emoreason.evaluate.predictions import Prediction
from emoreason.evaluate.score import score
from emoreason.explain.explanation import combine
from emoreason.explain.read.claims import leaks
from emoreason.knowledge.facs import ACTION_UNITS

# What a stated band is worth to a classifier: the middle of its range. A unit without a band counts as in between.
LEVELS = {"trace": 0.3, "slight": 0.5, "marked": 0.725, "strong": 0.925}
UNBANDED = 0.6
FOLDS, NEIGHBOURS, STRENGTH = 5, 15, 1.0
MIN_GROUP = 30
EXAMPLES = 5


def form(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Does it parse, is the label kept out of the observations, does it pass every check."""
    parsed = [row.sections is not None for row in rows]
    leaking = [leaks(row.sections.observations, row.asked) if row.sections else [] for row in rows]
    told = Counter(word for found in leaking for word in found)
    checked = [row.checks.ok for row in rows if row.checks]
    return {
        "parse_rate": share(parsed, seed=seed),
        # Of those that parse: where there are no observations there is nothing to leak into.
        "leak_rate": share([bool(found) for found, fine in zip(leaking, parsed, strict=True) if fine], seed=seed),
        "leaked_words": dict(told.most_common(10)),
        "all_checks": share(checked, seed=seed),
        "repaired": share([row.repaired for row in rows], seed=seed),
        "errors": share([bool(row.error) for row in rows], seed=seed),
        "failures": _examples(rows),
    }


def _examples(rows: Sequence[Row]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for row in rows:
        problems = row.checks.problems() if row.checks else []
        if problems and len(found) < EXAMPLES:
            found.append({"id": row.id, "problems": problems, "text": row.text, "error": row.error})
    return found


def evidence(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Precision, recall and F1 of the movements that the observations name, over all mentions of all texts."""
    checked = [row for row in rows if row.checks]
    table = np.array([_counts(row) for row in checked], dtype=float).reshape(len(checked), 6)
    said, true, due, named, bands, wrong = table.T
    precision, recall = share(true, said, seed), share(named, due, seed)
    unsupported = Counter(code for row in checked if row.checks for code in row.checks.unsupported)
    missing = Counter(code for row in checked if row.checks for code in row.checks.missing)
    return {
        "evidence_precision": precision,
        "evidence_recall": recall,
        "evidence_f1": f1(precision["value"], recall["value"]),
        "band_error": share(wrong, bands, seed),
        "denied_mentions": sum(not m.present for row in rows for m in row.said),
        "one_sided_mentions": sum(m.side is not None for row in rows for m in row.said),
        "unsupported": _named(unsupported),
        "missing": _named(missing),
    }


def f1(precision: float | None, recall: float | None) -> float | None:
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _counts(row: Row) -> tuple[int, int, int, int, int, int]:
    """Mentions, true ones, units due, units named, bands stated, wrong ones. An unparsable text names nothing."""
    assert row.checks and row.told
    said, due = len(row.said), 0 if row.told.abstained else len(row.told.named)
    true = round((row.checks.evidence_precision or 0) * said)
    named = round((row.checks.evidence_recall or 0) * due)
    return said, true, due, named, row.checks.bands_stated, row.checks.band_errors


def _named(codes: Counter[str]) -> dict[str, int]:
    return {f"AU {code} ({ACTION_UNITS[code].name})": n for code, n in codes.most_common(5)}


def verdict(rows: Sequence[Row], weight: float, seed: int = 0) -> dict[str, Any]:
    """Whether conclusion, evidence and the language model's own reading agree, and how right each of them is."""
    sheets = [(row, row.sheet, row.told) for row in rows if row.sheet and row.told]
    claiming = [(row, sheet, told) for row, sheet, told in sheets if not sheet.abstained]
    figures: dict[str, Any] = {
        "evidence_agreement": share([row.stated == sheet.label for row, sheet, _ in claiming], seed=seed),
        "decided_agreement": share([row.stated == told.label for row, _, told in claiming], seed=seed),
        "reasoned_agreement": share([row.own.label == sheet.label for row, sheet, _ in claiming if row.own], seed=seed),
        "silent_when_abstained": share([row.stated is None for row, sheet, _ in sheets if sheet.abstained], seed=seed),
        "weight": weight,
        "scores": {},
        "against_evidence": {},
    }
    labelled = [row for row in rows if row.target is not None and row.target in row.asked]
    if not labelled or len(labelled[0].asked) < 2:
        return figures
    everybody = {"conclusion": [row.stated for row in labelled]}
    if all(row.sheet for row in labelled):
        everybody["evidence"] = [row.sheet.label if row.sheet else None for row in labelled]
    figures["on_all"] = scored(labelled, everybody, seed)[0]
    # Compared on the faces on which everybody claims something: an abstained face has no verdict but the evidence's.
    both = [(row, row.sheet) for row in labelled if row.sheet and not row.sheet.abstained]
    columns: dict[str, list[str | None]] = {"evidence": [sheet.label for _, sheet in both]}
    if both and all(row.own for row, _ in both):
        products = [combine(sheet.probabilities, row.reasoned or {}, "both", weight) for row, sheet in both]
        columns["reasoned"] = [row.own.label if row.own else None for row, _ in both]
        columns["both"] = [max(product, key=product.__getitem__) for product in products]
    columns["conclusion"] = [row.stated for row, _ in both]
    if both:
        figures["scores"], figures["against_evidence"] = scored([row for row, _ in both], columns, seed)
    return figures


def sufficiency(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """UAR of small classifiers that see the movements stated in the observations and nothing else, cross-validated."""
    # An abstention states nothing on purpose: what is missing there is no lack of the words.
    counted = [row for row in rows if row.target in row.asked and not (row.sheet and row.sheet.abstained)]
    labels = [label for label in (counted[0].asked if counted else ()) if any(row.target == label for row in counted)]
    if len(labels) < 2 or len(counted) < 2 * FOLDS:
        return {"n": len(counted), "stated": None, "note": f"at least two labels and {2 * FOLDS} faces are needed"}
    codes = sorted(ACTION_UNITS)
    targets = np.eye(len(labels))[[labels.index(row.target or "") for row in counted]]
    stated = _predictable(np.array([_features(row, codes) for row in counted]), targets, seed)
    figures: dict[str, Any] = {"n": len(counted), "stated": stated, "gap_to_label": None}
    sheets = [row.sheet for row in counted if row.sheet]
    if len(sheets) == len(counted):
        units = np.array([[sheet.units.get(code, 0.0) for code in codes] for sheet in sheets])
        answers = np.array([labels.index(sheet.label) if sheet.label in labels else -1 for sheet in sheets])
        figures["measured"] = _predictable(units, targets, seed)
        figures["label"] = headline(targets, answers, seed)
        reached = stated["logistic"]["uar"]["value"]
        figures["gap_to_label"] = figures["label"]["uar"]["value"] - reached
        figures["gap_to_measured"] = figures["measured"]["logistic"]["uar"]["value"] - reached
    return figures


def _features(row: Row, codes: Sequence[str]) -> list[float]:
    """Per unit how much of it is stated, and whether it is denied. No word is a feature, so that no label leaks in."""
    level = dict.fromkeys(codes, 0.0)
    denied = dict.fromkeys(codes, 0.0)
    for said in row.said:
        if said.present:
            level[said.action_unit] = max(level[said.action_unit], LEVELS.get(said.band or "", UNBANDED))
        else:
            denied[said.action_unit] = 1.0
    return [*level.values(), *denied.values()]


def _predictable(features: np.ndarray, targets: np.ndarray, seed: int) -> dict[str, Any]:
    """Held-out answers of both classifiers. Their settings are fixed: a tuned probe would measure the tuning."""
    import warnings

    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    classes = targets.argmax(1)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    near = min(NEIGHBOURS, len(classes) - len(classes) // FOLDS - 1)
    probes = {
        "logistic": LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000),
        "neighbours": KNeighborsClassifier(near),
    }
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # a class with fewer faces than folds is missing from some of them: it counts as wrong
        return {
            name: headline(targets, cross_val_predict(probe, features, classes, cv=folds), seed)
            for name, probe in probes.items()
        }


def groups(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Per attribute: UAR as the evaluation reports it, and the F1 of the evidence per value with its largest gap."""
    known = [row for row in rows if row.groups and row.sheet]
    if not known:
        return {"attributes": {}, "note": "the data have no groups"}
    labels = known[0].asked
    predictions = [
        Prediction(row.id, "ok", row.sheet.label, row.sheet.probabilities, target=row.target, groups=row.groups)
        for row in known
        if row.sheet and row.target in labels
    ]
    by_attribute: dict[str, Any] = {}
    if predictions:
        by_attribute = score(predictions, labels, lambda row: row.target, lambda row: None, seed)["groups"]
    report = {}
    for attribute in sorted({name for row in known for name in row.groups}):
        values: dict[str, Any] = {}
        for value in sorted({row.groups[attribute] for row in known if row.groups.get(attribute)}):
            of_value = [row for row in known if row.groups.get(attribute) == value]
            found = evidence(of_value, seed)
            uar = by_attribute.get(attribute, {}).get("values", {}).get(value, {}).get("uar")
            values[value] = {"n": len(of_value), "uar": uar, "evidence_f1": found["evidence_f1"],
                             "parse_rate": form(of_value, seed)["parse_rate"]}  # fmt: skip
        large = [v["evidence_f1"] for v in values.values() if v["n"] >= MIN_GROUP and v["evidence_f1"] is not None]
        report[attribute] = {
            "values": values,
            "uar_gap": by_attribute.get(attribute, {}).get("uar_gap"),
            "evidence_f1_gap": max(large) - min(large) if len(large) > 1 else None,
        }
    return {"attributes": report, "smallest": MIN_GROUP}
