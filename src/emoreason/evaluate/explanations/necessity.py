"""Measures necessity: does the label depend on the regions of the face that the explanation cites?"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from emoreason.evaluate.explanations.cases import Row, random_of, sample_cases
from emoreason.evaluate.explanations.intervals import mean, share, sign_test
from emoreason.evaluate.explanations.setup import Setup
from emoreason.evaluate.metrics import EPSILON
from emoreason.explain.explanation import Subject
from emoreason.explain.read.claims import mentions
from emoreason.explain.sheet import Sheet
from emoreason.faces.detect import whole_picture
from emoreason.faces.regions import BOXES
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.media.images import open_picture

Box = tuple[float, float, float, float]  # left, top, right, bottom as shares of the crop
AT_ONCE = 32


def necessity(setup: Setup) -> dict[str, Any]:
    """Covers the region of a cited unit with grey, then another one of the same size: which costs the label more?"""
    cited = {case.id: (case, unit) for case, row in setup.explained if (unit := cited_unit(row))}
    chosen = sample_cases([case for case, _ in cited.values()], setup.faces("necessity"), "necessity", setup.seed)
    with_verdict = {case.id for case in sample_cases(chosen, setup.faces("necessity_reasoned"), "reasoned", setup.seed)}
    with_verdict = with_verdict if hasattr(setup.explainer, "verdicts") else set()

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        crops: list[Image.Image] = []
        for id in ids:
            case, unit = cited[id]
            box = BOXES[ACTION_UNITS[unit].region]
            other = elsewhere(box, random_of(setup.seed, "necessity", id))
            crop = case.crop()
            crops += [crop, cover(crop, box), cover(crop, other)]
            rows.append({"id": id, "unit": unit, "box": box, "random_box": other, "label": case.sheet.label})
        sheets = measure(setup, crops, cited[ids[0]][0].sheet.labels)
        for i, row in enumerate(rows):
            three = slice(3 * i, 3 * i + 3)
            row |= {"evidence": _logs(sheets[three], row["label"]), "reasoned": None}
            if row["id"] in with_verdict:
                subjects = [Subject(sheet, crop) for sheet, crop in zip(sheets[three], crops[three], strict=True)]
                verdicts = setup.explainer.verdicts(subjects)
                row["reasoned"] = _logs(verdicts, verdicts[0].label)
            yield row

    rows = setup.journal("necessity").fill([case.id for case in chosen], make, AT_ONCE)
    figures: dict[str, Any] = {"n": len(rows), "faces_without_a_cited_unit": len(setup.explained) - len(cited)}
    figures |= {who: _necessary([row for row in rows if row[who]], who, setup.seed) for who in ("evidence", "reasoned")}
    return figures


def cited_unit(row: Row) -> str | None:
    """The strongest sure unit that the interpretation names, or else the one that the observations name."""
    if row.sections is None or row.sheet is None:
        return None
    for part in (row.sections.interpretation, row.sections.observations):
        named = (mention.action_unit for mention in mentions(part) if mention.present)
        codes = [code for code in named if code in row.sheet.sure]
        if codes:
            return max(codes, key=lambda code: row.sheet.units[code] if row.sheet else 0.0)
    return None


def elsewhere(box: Box, rng: random.Random) -> Box:
    """A random box of the same size that lies inside the crop and does not overlap the given one."""
    width, height = box[2] - box[0], box[3] - box[1]
    for _ in range(10_000):
        x, y = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
        if x >= box[2] or x + width <= box[0] or y >= box[3] or y + height <= box[1]:
            return (x, y, x + width, y + height)
    raise ValueError(f"the crop has no room for a second box of the size of {box}")


def cover(crop: Image.Image, box: Box) -> Image.Image:
    """The crop with the box filled with the crop's mean grey."""
    grey = round(float(np.asarray(crop.convert("L")).mean()))
    covered = crop.convert("RGB")
    left, top, right, bottom = (round(share * side) for share, side in zip(box, crop.size * 2, strict=True))
    covered.paste((grey,) * 3, (left, top, right, bottom))
    return covered


def measure(setup: Setup, crops: Sequence[Image.Image], labels: Sequence[str]) -> list[Sheet]:
    pictures = [open_picture(crop) for crop in crops]
    analyses = setup.reasoner.analyze_faces([(picture, [whole_picture(picture)]) for picture in pictures], labels)
    return [Sheet.of(analysis.faces[0].evidence) for analysis in analyses]


def _logs(readings: Sequence[Any], label: str) -> dict[str, float]:
    """log p of one label: for the plain crop, with the cited region covered, with another region covered."""
    logs = [math.log(max(reading.probabilities[label], EPSILON)) for reading in readings]
    return dict(zip(("before", "cited", "random"), logs, strict=True))


def _necessary(rows: Sequence[dict[str, Any]], who: str, seed: int) -> dict[str, Any]:
    logs = [row[who] for row in rows]
    wins, losses = (sum(sign * (log["random"] - log["cited"]) > 0 for log in logs) for sign in (1, -1))
    regions: dict[str, list[bool]] = {}
    for row in rows:
        regions.setdefault(ACTION_UNITS[row["unit"]].region, []).append(row[who]["cited"] < row[who]["random"])
    return {
        "win_rate": share([log["cited"] < log["random"] for log in logs if log["cited"] != log["random"]], seed=seed),
        "ties": len(logs) - wins - losses,
        "p": sign_test(wins, losses),
        "change_cited": mean([log["cited"] - log["before"] for log in logs], seed),
        "change_random": mean([log["random"] - log["before"] for log in logs], seed),
        "difference": mean([log["cited"] - log["random"] for log in logs], seed),
        "regions": {name: share(won, seed=seed) for name, won in sorted(regions.items())},
    }
