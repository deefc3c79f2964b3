"""Interventions on sheet, picture and explainer: what is changed, and whether the text follows as it should.

Each probe takes the setup of the battery, keeps what was written about each face, and judges it for its figures.
"""

from __future__ import annotations

import copy
import dataclasses
import random
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from emoreason.evaluate.explanations import nonfaces
from emoreason.evaluate.explanations import text_metrics as text_parts
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
from emoreason.evaluate.explanations.verdicts import scored
from emoreason.explain.explanation import Subject, combine
from emoreason.explain.read.claims import mentions
from emoreason.explain.read.sections import parse, stated_label
from emoreason.explain.sheet import Sheet
from emoreason.knowledge.emotion_words import find, index, leaks, synonyms
from emoreason.media.images import open_picture

if TYPE_CHECKING:
    from emoreason.evaluate.explanations.setup import Setup

STRONG, ABSENT = 0.95, 0.05  # intensities that a flipped unit takes


# ---- counterfactual --------------------------------------------------------------------------------------------------


def counterfactual(setup: Setup) -> dict[str, Any]:
    """One unit of the sheet flipped, everything else as it was: does its sentence come or go?"""
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
        for id, made in zip(ids, explain_cases(changed, setup.explainer, setup.decide), strict=True):
            case, _, unit, sheet = plans[id]
            after = row_of(dataclasses.replace(case, sheet=sheet), made)
            yield {
                "id": id,
                "unit": unit,
                "to": "strong" if sheet.units[unit] == STRONG else "absent",
                "text": after.text,
            }

    rows = []
    for kept in setup.journal("counterfactual").fill([case.id for case in chosen], make, setup.batch_size):
        case, row, unit, sheet = plans[kept["id"]]
        after = Row(case.id, kept["text"], sheet)
        was, now = _affirms(row, unit), _affirms(after, unit)
        true = sum((said.action_unit in sheet.visible) == said.present for said in after.said)
        rows.append(kept | {"named_before": was, "named_after": now, "said": len(after.said), "true": true,
                            "follows": (now and not was) if kept["to"] == "strong" else (was and not now)})  # fmt: skip
    sides = {to: [row["follows"] for row in rows if row["to"] == to] for to in ("strong", "absent")}
    return {
        "n": len(rows),
        "counterfactual": share([row["follows"] for row in rows], seed=setup.seed),
        "appears": share(sides["strong"], seed=setup.seed),
        "goes": share(sides["absent"], seed=setup.seed),
        "precision_after": share([row["true"] for row in rows], [row["said"] for row in rows], setup.seed),
        "failures": [row for row in rows if not row["follows"]][: text_parts.EXAMPLES],
    }


def flip(sheet: Sheet, rng: random.Random) -> tuple[str, Sheet] | None:
    """A named unit made absent or an absent one made strong, so that it is to be named afterwards; each as likely."""
    named = [unit.code for unit in sheet.named]
    for to in rng.sample((STRONG, ABSENT), 2):
        codes = list(sheet.absent) if to == STRONG else named
        for code in rng.sample(codes, len(codes)):
            changed = Sheet({**sheet.units, code: to}, sheet.probabilities, sheet.calibrated)
            if (to == STRONG) == any(unit.code == code for unit in changed.named):
                return code, changed
    return None


def _affirms(row: Row, unit: str) -> bool:
    return any(said.present and said.action_unit == unit for said in row.said)


# ---- another label on top --------------------------------------------------------------------------------------------

_CONFLICT = re.compile(
    r"\b(disagree\w*|conflict\w*|contradict\w*|at odds|does not (?:fit|match|support)|do not (?:fit|match|support)"
    r"|not (?:supported|borne out)|speaks? against|differs?|on the other hand|despite|although|mismatch\w*)\b",
    re.I,
)


def shuffle(setup: Setup) -> dict[str, Any]:
    """The distribution with a wrong label on top: does the text follow its sheet, and does it tell of the conflict?"""
    by_id = {case.id: (case, row) for case, row in setup.explained if len(case.sheet.labels) > 1}
    chosen = sample_cases([case for case, _ in by_id.values()], setup.faces("shuffle"), "shuffle", setup.seed)

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        sheets = [swapped(by_id[id][0], random_of(setup.seed, "shuffle", id)) for id in ids]
        subjects = [by_id[id][0].subject(sheet) for id, sheet in zip(ids, sheets, strict=True)]
        for id, sheet, made in zip(ids, sheets, explain_cases(subjects, setup.explainer, "evidence"), strict=True):
            case, before = by_id[id]
            after = row_of(dataclasses.replace(case, sheet=sheet), made)
            yield {"id": id, "label": case.sheet.label, "shown": sheet.label, "text": after.text,
                   "own": after.own.label if after.own else None,
                   "own_before": before.own.label if before.own else None}  # fmt: skip

    rows = []
    for kept in setup.journal("shuffle").fill([case.id for case in chosen], make, setup.batch_size):
        after = Row(kept["id"], kept["text"], by_id[kept["id"]][0].sheet)
        told = f"{after.sections.interpretation} {after.sections.conclusion}" if after.sections else ""
        # A verdict of its own is told of by its label; without one, the label that was on top is the one to miss.
        reports = says(told, kept["own"] or kept["label"]) or (kept["own"] is None and bool(_CONFLICT.search(told)))
        rows.append(kept | {"stated": after.stated, "reports": reports})
    conflicts = [row for row in rows if row["own"] != row["shown"]]
    moved = [row for row in rows if row["own"] and row["own_before"]]
    return {
        "n": len(rows),
        "follows_sheet": share([row["stated"] == row["shown"] for row in rows], seed=setup.seed),
        "reports_conflict": share([row["reports"] for row in conflicts], seed=setup.seed),
        "own_verdict_unmoved": share([row["own"] == row["own_before"] for row in moved], seed=setup.seed),
        "failures": [row for row in conflicts if not row["reports"]][: text_parts.EXAMPLES],
    }


def swapped(case: Case, rng: random.Random) -> Sheet:
    """The sheet with the probabilities of its label and of a wrong one exchanged."""
    first = case.sheet.label
    wrong = [label for label in case.sheet.labels if label not in (first, case.target)] or list(case.sheet.labels)
    other = rng.choice(wrong)
    probabilities = dict(case.sheet.probabilities)
    probabilities[first], probabilities[other] = probabilities[other], probabilities[first]
    return replace_probabilities(case.sheet, probabilities)


def says(text: str, label: str) -> bool:
    """Whether the label, a form or a synonym of it is in the text."""
    return bool(find(text, index(tuple((word, label) for word in (label, *synonyms(label))))))


# ---- no face at all --------------------------------------------------------------------------------------------------


def nonface(setup: Setup) -> dict[str, Any]:
    """Pictures without a face, as photographs in which faces are looked for and as crops that are said to be one."""
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
            made = explain_cases(subjects, setup.explainer, setup.decide) if subjects else []
            texts = [one.text for one in made if not isinstance(one, str)]
            yield {"id": id, "faces": len(subjects), "texts": texts}

    kept = setup.journal("nonface").fill(list(pictures), make)
    rows = [row | {"claims": any(claims(text, labels) for text in row["texts"])} for row in kept]
    how = {name: [row for row in rows if row["id"].startswith(f"{name}/")] for name in ("searched", "crop")}
    return {
        "n": len(rows),
        "false_explanations": share([row["claims"] for row in how["searched"]], seed=setup.seed),
        "false_explanations_of_crops": share([row["claims"] for row in how["crop"]], seed=setup.seed),
        "photographs": len(photographs),
        "failures": [row for row in rows if row["claims"]][: 2 * text_parts.EXAMPLES],
    }


def claims(text: str, labels: Sequence[str]) -> bool:
    """Whether a text says anything of an expression: a label, a movement that is there, an emotion word."""
    sections = parse(text)
    conclusion = sections.conclusion if sections else text
    named = any(said.present for said in mentions(text))
    return named or stated_label(conclusion, labels) is not None or bool(leaks(text, labels))


# ---- the explainer changed -------------------------------------------------------------------------------------------


def free(setup: Setup) -> dict[str, Any]:
    """The same explainer without its grammar."""
    if not hasattr(setup.explainer, "constrained"):
        return {"n": 0, "note": "this explainer has no grammar that could be switched off"}
    loose = copy.copy(setup.explainer)
    loose.constrained, loose.temperature = False, 0.0  # nothing but its best guess holds it
    claiming = [case for case, _ in setup.explained]
    chosen = {case.id: case for case in sample_cases(claiming, setup.faces("free"), "free", setup.seed)}

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        made = explain_cases([chosen[id].subject() for id in ids], loose, setup.decide)
        for id, one in zip(ids, made, strict=True):
            yield row_of(chosen[id], one).to_dict()

    rows = [Row.from_dict(row) for row in setup.journal("free").fill(list(chosen), make, setup.batch_size)]
    return {"n": len(rows), **text_parts.form(rows, setup.seed), **text_parts.evidence(rows, setup.seed)}


def ablation(setup: Setup) -> dict[str, Any]:
    """The reasoned verdict from action units alone, from the picture alone and from both, before a word is written."""
    explainer = setup.explainer
    if not all(hasattr(explainer, name) for name in ("verdicts", "picture", "units")):
        return {"n": 0, "note": "this explainer gives no verdict of its own that parts could be left out of"}
    labelled = [case for case in setup.cases if case.target in case.sheet.labels]
    chosen = {case.id: case for case in sample_cases(labelled, setup.faces("ablation"), "ablation", setup.seed)}
    figures: dict[str, Any] = {"n": len(chosen)}
    if not chosen:
        return figures | {"note": "no face has a label"}
    columns: dict[str, list[str | None]] = {"evidence": [case.sheet.label for case in chosen.values()]}
    for name, told in {"units": (False, True), "picture": (True, False), "units and picture": (True, True)}.items():
        partial: Any = copy.copy(explainer)
        partial.picture, partial.units = told

        def make(ids: Sequence[str], reader: Any = partial) -> Iterator[dict[str, Any]]:
            read = reader.verdicts([chosen[id].subject() for id in ids])
            yield from ({"id": id, "probabilities": own.probabilities} for id, own in zip(ids, read, strict=True))

        rows = setup.journal(f"ablation-{name.replace(' ', '-')}").fill(list(chosen), make, setup.batch_size)
        own = [row["probabilities"] for row in rows]
        faces_own = zip(chosen.values(), own, strict=True)
        both = [combine(case.sheet.probabilities, p, "both", setup.weight) for case, p in faces_own]
        columns[name] = [max(p, key=p.__getitem__) for p in own]
        columns[f"evidence × {name}"] = [max(p, key=p.__getitem__) for p in both]
    faces = [Row(case.id, "", case.sheet, target=case.target) for case in chosen.values()]
    figures["scores"], figures["against_evidence"] = scored(faces, columns, setup.seed)
    return figures | {"weight": setup.weight}
