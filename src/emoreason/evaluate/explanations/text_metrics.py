"""The measures that only need texts and sheets. They need no model, so they work on texts of any system."""

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
from emoreason.explain.check.explanations import MODEL, RETRIED, WRITTEN
from emoreason.explain.explanation import combine
from emoreason.knowledge.emotion_words import leaks
from emoreason.knowledge.facs import ACTION_UNITS

# The feature value of a stated band: the middle of its range. A unit without a band gets a value in between.
LEVELS = {"trace": 0.3, "slight": 0.5, "marked": 0.725, "strong": 0.925}
UNBANDED = 0.6
FOLDS, NEIGHBOURS, STRENGTH = 5, 15, 1.0
MIN_GROUP = 30
EXAMPLES = 5


def form(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Whether texts parse, keep the label out of the observations, and pass all checks."""
    parsed = [row.sections is not None for row in rows]
    leaking = [leaks(row.sections.observations, row.requested_labels) if row.sections else [] for row in rows]
    leaked = Counter(word for words in leaking for word in words)
    checked = [row.checks.ok for row in rows if row.checks]
    readable = [row for row in rows if row.sheet is None or row.sheet.units]  # of the others there is nothing to write
    return {
        "parse_rate": share(parsed, seed=seed),
        # Only over texts that parse, as the others have no observations.
        "leak_rate": share([bool(words) for words, ok in zip(leaking, parsed, strict=True) if ok], seed=seed),
        "leaked_words": dict(leaked.most_common(10)),
        "all_checks": share(checked, seed=seed),
        **{
            f"route_{route}": share([row.route == route for row in readable], seed=seed)
            for route in (MODEL, RETRIED, WRITTEN)
        },
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
    """Precision, recall and F1 of the movements in the observations, pooled over all mentions of all texts."""
    checked = [row for row in rows if row.checks]
    table = np.array([_counts(row) for row in checked], dtype=float).reshape(len(checked), 6)
    n, true, due, named, bands, wrong = table.T
    precision, recall = share(true, n, seed), share(named, due, seed)
    unsupported = Counter(code for row in checked if row.checks for code in row.checks.unsupported)
    missing = Counter(code for row in checked if row.checks for code in row.checks.missing)
    return {
        "evidence_precision": precision,
        "evidence_recall": recall,
        "evidence_f1": f1(precision["value"], recall["value"]),
        "band_error": share(wrong, bands, seed),
        "denied_mentions": sum(not m.present for row in rows for m in row.mentions),
        "one_sided_mentions": sum(m.side is not None for row in rows for m in row.mentions),
        "unsupported": _with_names(unsupported),
        "missing": _with_names(missing),
    }


def f1(precision: float | None, recall: float | None) -> float | None:
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _counts(row: Row) -> tuple[int, int, int, int, int, int]:
    """Mentions, true mentions, units to name, units named, bands stated, wrong bands. Unparsable texts name nothing."""
    assert row.checks and row.shown_sheet
    n, due = len(row.mentions), len(row.shown_sheet.named)
    true = round((row.checks.evidence_precision or 0) * n)
    named = round((row.checks.evidence_recall or 0) * due)
    return n, true, due, named, row.checks.bands_stated, row.checks.band_errors


def _with_names(codes: Counter[str]) -> dict[str, int]:
    return {f"AU {code} ({ACTION_UNITS[code].name})": n for code, n in codes.most_common(5)}


def verdict(rows: Sequence[Row], weight: float, seed: int = 0) -> dict[str, Any]:
    """How often conclusion, evidence and the language model's own verdict agree, and how often each is right."""
    sheets = [(row, row.sheet, row.shown_sheet) for row in rows if row.sheet and row.shown_sheet]
    claiming = [(row, sheet, shown) for row, sheet, shown in sheets if not sheet.abstained]
    figures: dict[str, Any] = {
        "evidence_agreement": share([row.stated == sheet.label for row, sheet, _ in claiming], seed=seed),
        "decided_agreement": share([row.stated == shown.label for row, _, shown in claiming], seed=seed),
        "reasoned_agreement": share(
            [row.own_verdict.label == sheet.label for row, sheet, _ in claiming if row.own_verdict], seed=seed
        ),
        "silent_when_abstained": share([row.stated is None for row, sheet, _ in sheets if sheet.abstained], seed=seed),
        "weight": weight,
        "scores": {},
        "against_evidence": {},
    }
    labelled = [row for row in rows if row.target is not None and row.target in row.requested_labels]
    if not labelled or len(labelled[0].requested_labels) < 2:
        return figures
    on_all = {"conclusion": [row.stated for row in labelled]}
    if all(row.sheet for row in labelled):
        on_all["evidence"] = [row.sheet.label if row.sheet else None for row in labelled]
    figures["on_all"] = scored(labelled, on_all, seed)[0]
    # The comparison leaves out abstained faces, which have no verdict other than the evidence's.
    claims = [(row, row.sheet) for row in labelled if row.sheet and not row.sheet.abstained]
    columns: dict[str, list[str | None]] = {"evidence": [sheet.label for _, sheet in claims]}
    if claims and all(row.own_verdict for row, _ in claims):
        products = [combine(sheet.probabilities, row.reasoned or {}, "both", weight) for row, sheet in claims]
        columns["reasoned"] = [row.own_verdict.label if row.own_verdict else None for row, _ in claims]
        columns["both"] = [max(product, key=product.__getitem__) for product in products]
    columns["conclusion"] = [row.stated for row, _ in claims]
    if claims:
        figures["scores"], figures["against_evidence"] = scored([row for row, _ in claims], columns, seed)
    return figures


def sufficiency(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Cross-validated UAR of small classifiers that only see the movements stated in the observations."""
    # Without abstentions, which state nothing on purpose.
    counted = [row for row in rows if row.target in row.requested_labels and not (row.sheet and row.sheet.abstained)]
    labels = [
        label
        for label in (counted[0].requested_labels if counted else ())
        if any(row.target == label for row in counted)
    ]
    if len(labels) < 2 or len(counted) < 2 * FOLDS:
        return {"n": len(counted), "stated": None, "note": f"it needs at least two labels and {2 * FOLDS} faces"}
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
    """For each unit its stated level, and whether it is denied. No words are features, so the label cannot leak in."""
    level = dict.fromkeys(codes, 0.0)
    denied = dict.fromkeys(codes, 0.0)
    for mention in row.mentions:
        if mention.present:
            level[mention.action_unit] = max(level[mention.action_unit], LEVELS.get(mention.band or "", UNBANDED))
        else:
            denied[mention.action_unit] = 1.0
    return [*level.values(), *denied.values()]


def _predictable(features: np.ndarray, targets: np.ndarray, seed: int) -> dict[str, Any]:
    """Scores of both classifiers on held-out folds. Their settings are fixed, so that no tuning affects the result."""
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
        warnings.simplefilter("ignore")  # some folds miss classes with fewer faces than folds; they count as wrong
        return {
            name: headline(targets, cross_val_predict(probe, features, classes, cv=folds), seed)
            for name, probe in probes.items()
        }


def groups(rows: Sequence[Row], seed: int = 0) -> dict[str, Any]:
    """Per attribute: UAR as in the evaluation, and the evidence F1 of each value with the largest gap."""
    known = [row for row in rows if row.groups and row.sheet]
    if not known:
        return {"attributes": {}, "note": "the data has no groups"}
    labels = known[0].requested_labels
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
            members = [row for row in known if row.groups.get(attribute) == value]
            figures = evidence(members, seed)
            uar = by_attribute.get(attribute, {}).get("values", {}).get(value, {}).get("uar")
            values[value] = {"n": len(members), "uar": uar, "evidence_f1": figures["evidence_f1"],
                             "parse_rate": form(members, seed)["parse_rate"]}  # fmt: skip
        large = [v["evidence_f1"] for v in values.values() if v["n"] >= MIN_GROUP and v["evidence_f1"] is not None]
        report[attribute] = {
            "values": values,
            "uar_gap": by_attribute.get(attribute, {}).get("uar_gap"),
            "evidence_f1_gap": max(large) - min(large) if len(large) > 1 else None,
        }
    return {"attributes": report, "smallest": MIN_GROUP}
