"""Probes that change the sheet, the picture or the explainer, and check whether the text changes as it should.

Each probe takes the setup of the benchmark, saves the new text of each face, and scores the saved texts.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from emoreason.evaluate.explanations import nonfaces, text_metrics
from emoreason.evaluate.explanations.cases import (
    Case,
    Row,
    explain_cases,
    random_of,
    replace_probabilities,
    row_of,
    sample_cases,
)
from emoreason.evaluate.explanations.intervals import share
from emoreason.evaluate.explanations.setup import Setup
from emoreason.evaluate.explanations.verdicts import scored
from emoreason.explain.explanation import Subject, combine
from emoreason.explain.read.claims import mentions
from emoreason.explain.read.sections import parse, stated_label
from emoreason.explain.sheet import Sheet
from emoreason.knowledge.emotion_words import find, index, leaks, synonyms
from emoreason.media.images import open_picture

STRONG, ABSENT = 0.95, 0.05  # intensities of a flipped unit


# ---- counterfactual --------------------------------------------------------------------------------------------------


def counterfactual(setup: Setup) -> dict[str, Any]:
    """Flips one unit of the sheet and nothing else: does its sentence appear or disappear?"""
    plans = {}
    for case, row in setup.explained:
        found = flip(case.sheet, random_of(setup.seed, "counterfactual", case.id))
        if found:
            plans[case.id] = (case, row, *found)
    chosen = sample_cases(
        [plan[0] for plan in plans.values()], setup.faces("counterfactual"), "counterfactual", setup.seed
    )

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        changed = [plans[id][0].subject(plans[id][3]) for id in ids]
        for id, result in zip(ids, explain_cases(changed, setup.explainer, setup.decide), strict=True):
            case, _, unit, sheet = plans[id]
            after = row_of(dataclasses.replace(case, sheet=sheet), result)
            yield {
                "id": id,
                "unit": unit,
                "to": "strong" if sheet.units[unit] == STRONG else "absent",
                "text": after.text,
            }

    rows = []
    for saved in setup.journal("counterfactual").fill([case.id for case in chosen], make, setup.batch_size):
        case, row, unit, sheet = plans[saved["id"]]
        after = Row(case.id, saved["text"], sheet)
        was, now = _affirms(row, unit), _affirms(after, unit)
        true = sum((mention.action_unit in sheet.sure) == mention.present for mention in after.mentions)
        follows = (now and not was) if saved["to"] == "strong" else (was and not now)
        rows.append(saved | {"named_before": was, "named_after": now, "said": len(after.mentions), "true": true,
                             "follows": follows})  # fmt: skip
    by_side = {to: [row["follows"] for row in rows if row["to"] == to] for to in ("strong", "absent")}
    return {
        "n": len(rows),
        "counterfactual": share([row["follows"] for row in rows], seed=setup.seed),
        "appears": share(by_side["strong"], seed=setup.seed),
        "goes": share(by_side["absent"], seed=setup.seed),
        "precision_after": share([row["true"] for row in rows], [row["said"] for row in rows], setup.seed),
        "failures": [row for row in rows if not row["follows"]][: text_metrics.EXAMPLES],
    }


def flip(sheet: Sheet, rng: random.Random) -> tuple[str, Sheet] | None:
    """A unit, and the sheet with it flipped: a named unit becomes absent, or an absent one strong enough to be named.

    Both directions are equally likely. None if the sheet allows neither."""
    named = [unit.code for unit in sheet.named]
    for to in rng.sample((STRONG, ABSENT), 2):
        codes = list(sheet.absent) if to == STRONG else named
        for code in rng.sample(codes, len(codes)):
            changed = dataclasses.replace(sheet, units={**sheet.units, code: to})
            if (to == STRONG) == any(unit.code == code for unit in changed.named):
                return code, changed
    return None


def _affirms(row: Row, unit: str) -> bool:
    return any(mention.present and mention.action_unit == unit for mention in row.mentions)


# ---- another label on top --------------------------------------------------------------------------------------------

_CONFLICT = re.compile(
    r"\b(disagree\w*|conflict\w*|contradict\w*|at odds|does not (?:fit|match|support)|do not (?:fit|match|support)"
    r"|not (?:supported|borne out)|speaks? against|differs?|on the other hand|despite|although|mismatch\w*)\b",
    re.I,
)


def shuffle(setup: Setup) -> dict[str, Any]:
    """Puts a wrong label on top of the distribution: does the text follow it, and does it report the conflict?"""
    by_id = {case.id: (case, row) for case, row in setup.explained if len(case.sheet.labels) > 1}
    chosen = sample_cases([case for case, _ in by_id.values()], setup.faces("shuffle"), "shuffle", setup.seed)

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        sheets = [swapped(by_id[id][0], random_of(setup.seed, "shuffle", id)) for id in ids]
        subjects = [by_id[id][0].subject(sheet) for id, sheet in zip(ids, sheets, strict=True)]
        for id, sheet, result in zip(ids, sheets, explain_cases(subjects, setup.explainer, "evidence"), strict=True):
            case, before = by_id[id]
            after = row_of(dataclasses.replace(case, sheet=sheet), result)
            yield {"id": id, "label": case.sheet.label, "shown": sheet.label, "text": after.text,
                   "own": after.own_verdict.label if after.own_verdict else None,
                   "own_before": before.own_verdict.label if before.own_verdict else None}  # fmt: skip

    rows = []
    for saved in setup.journal("shuffle").fill([case.id for case in chosen], make, setup.batch_size):
        after = Row(saved["id"], saved["text"], by_id[saved["id"]][0].sheet)
        text = f"{after.sections.interpretation} {after.sections.conclusion}" if after.sections else ""
        # An explainer with its own verdict has to name that label; others the label that was on top, or a conflict.
        reports = says(text, saved["own"] or saved["label"]) or (saved["own"] is None and bool(_CONFLICT.search(text)))
        rows.append(saved | {"stated": after.stated, "reports": reports})
    conflicts = [row for row in rows if row["own"] != row["shown"]]
    verdicts = [row for row in rows if row["own"] and row["own_before"]]
    return {
        "n": len(rows),
        "follows_sheet": share([row["stated"] == row["shown"] for row in rows], seed=setup.seed),
        "reports_conflict": share([row["reports"] for row in conflicts], seed=setup.seed),
        "own_verdict_unmoved": share([row["own"] == row["own_before"] for row in verdicts], seed=setup.seed),
        "failures": [row for row in conflicts if not row["reports"]][: text_metrics.EXAMPLES],
    }


def swapped(case: Case, rng: random.Random) -> Sheet:
    """The sheet with the probabilities of its label and of a random wrong label swapped."""
    first = case.sheet.label
    wrong = [label for label in case.sheet.labels if label not in (first, case.target)] or list(case.sheet.labels)
    other = rng.choice(wrong)
    probabilities = dict(case.sheet.probabilities)
    probabilities[first], probabilities[other] = probabilities[other], probabilities[first]
    return replace_probabilities(case.sheet, probabilities)


def says(text: str, label: str) -> bool:
    """Whether the text contains the label, a form of it or a synonym."""
    return bool(find(text, index(tuple((word, label) for word in (label, *synonyms(label))))))


# ---- no face at all --------------------------------------------------------------------------------------------------


def nonface(setup: Setup) -> dict[str, Any]:
    """Pictures without a face: as photographs that are searched for faces, and as crops taken as faces."""
    labels = setup.cases[0].sheet.labels
    blanks, photographs = list(nonfaces.blanks()), list(nonfaces.photographs())
    crops = [*blanks, *(tile for name, picture in photographs for tile in nonfaces.tiles(name, picture))]
    pictures = {f"searched/{name}": picture for name, picture in (*blanks, *photographs)}
    pictures |= {f"crop/{name}": picture for name, picture in crops}

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        for id in ids:
            picture = open_picture(pictures[id])
            faces = setup.reasoner.faces(picture, detect=id.startswith("searched/"))
            analysis = setup.reasoner.analyze_faces([(picture, faces)], labels)[0]
            subjects = [Subject(Sheet.of(face.evidence), face.face.crop) for face in analysis.faces]
            results = explain_cases(subjects, setup.explainer, setup.decide) if subjects else []
            texts = [result.text for result in results if not isinstance(result, str)]
            yield {"id": id, "faces": len(subjects), "texts": texts}

    saved = setup.journal("nonface").fill(list(pictures), make)
    rows = [row | {"claims": any(claims(text, labels) for text in row["texts"])} for row in saved]
    by_kind = {name: [row for row in rows if row["id"].startswith(f"{name}/")] for name in ("searched", "crop")}
    return {
        "n": len(rows),
        "false_explanations": share([row["claims"] for row in by_kind["searched"]], seed=setup.seed),
        "false_explanations_of_crops": share([row["claims"] for row in by_kind["crop"]], seed=setup.seed),
        "photographs": len(photographs),
        "failures": [row for row in rows if row["claims"]][: 2 * text_metrics.EXAMPLES],
    }


def claims(text: str, labels: Sequence[str]) -> bool:
    """Whether a text claims an expression: it has a label, an affirmed movement or an emotion word."""
    sections = parse(text)
    conclusion = sections.conclusion if sections else text
    affirmed = any(mention.present for mention in mentions(text))
    return affirmed or stated_label(conclusion, labels) is not None or bool(leaks(text, labels))


# ---- the explainer changed -------------------------------------------------------------------------------------------


def free(setup: Setup) -> dict[str, Any]:
    """The first texts of the same explainer, before any check."""
    if not hasattr(setup.explainer, "checked"):
        return {"n": 0, "note": "the checks of this explainer cannot be switched off"}
    unchecked = copy.copy(setup.explainer)
    unchecked.checked = False
    claiming = [case for case, _ in setup.explained]
    chosen = {case.id: case for case in sample_cases(claiming, setup.faces("free"), "free", setup.seed)}

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        results = explain_cases([chosen[id].subject() for id in ids], unchecked, setup.decide)
        for id, result in zip(ids, results, strict=True):
            yield row_of(chosen[id], result).to_dict()

    rows = [Row.from_dict(row) for row in setup.journal("free").fill(list(chosen), make, setup.batch_size)]
    return {"n": len(rows), **text_metrics.form(rows, setup.seed), **text_metrics.evidence(rows, setup.seed)}


def ablation(setup: Setup) -> dict[str, Any]:
    """The reasoned verdict from action units alone, from the picture alone and from both, read before any text."""
    explainer = setup.explainer
    if not all(hasattr(explainer, name) for name in ("verdicts", "picture", "units")):
        return {"n": 0, "note": "this explainer has no verdict of its own, so no part of its input can be left out"}
    labelled = [case for case in setup.cases if case.target in case.sheet.labels]
    chosen = {case.id: case for case in sample_cases(labelled, setup.faces("ablation"), "ablation", setup.seed)}
    figures: dict[str, Any] = {"n": len(chosen)}
    if not chosen:
        return figures | {"note": "no face has a label"}
    columns: dict[str, list[str | None]] = {"evidence": [case.sheet.label for case in chosen.values()]}
    for name, inputs in {"units": (False, True), "picture": (True, False), "units and picture": (True, True)}.items():
        partial: Any = copy.copy(explainer)
        partial.picture, partial.units = inputs

        def make(ids: Sequence[str], reader: Any = partial) -> Iterator[dict[str, Any]]:
            verdicts = reader.verdicts([chosen[id].subject() for id in ids])
            yield from ({"id": id, "probabilities": own.probabilities} for id, own in zip(ids, verdicts, strict=True))

        rows = setup.journal(f"ablation-{name.replace(' ', '-')}").fill(list(chosen), make, setup.batch_size)
        own = [row["probabilities"] for row in rows]
        faces_own = zip(chosen.values(), own, strict=True)
        both = [combine(case.sheet.probabilities, p, "both", setup.weight) for case, p in faces_own]
        columns[name] = [max(p, key=p.__getitem__) for p in own]
        columns[f"evidence × {name}"] = [max(p, key=p.__getitem__) for p in both]
    faces = [Row(case.id, "", case.sheet, target=case.target) for case in chosen.values()]
    figures["scores"], figures["against_evidence"] = scored(faces, columns, setup.seed)
    return figures | {"weight": setup.weight}
