"""Scores action units and texts against the faces coded by eye, and prints how far the coding passes agree.

    python eval/units_by_eye.py --data ferplus/validation.parquet [--model mini] [--explain] -o units_by_eye.json

A sentence is false if it names a unit that the consensus of the passes calls absent, or denies one that it calls
present. `--explain` reads the texts of the language model; without it, the built-in ones, which make
the same kinds of statements.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

import emoreason
from emoreason.core.types import Evidence
from emoreason.explain.read.claims import mentions
from emoreason.explain.sheet import Sheet
from emoreason.explain.write.explanation import write
from emoreason.knowledge.facs import BANDS, SURE
from emoreason.media.images import open_picture
from emoreason.reasoner import Reasoner
from emoreason.train.recipes.coded_faces import UNITS, consensus, read_line

CODES = Path(__file__).parent / "coded_faces" / "validation.csv"
PRESENT = BANDS[0][1]
FEWEST = 5  # positive faces that a unit needs for a score


def read_passes() -> tuple[list[str], np.ndarray]:
    """Names and (3, n, 20) codes."""
    import csv

    with CODES.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ("first", "second", "third")
    return [row["name"] for row in rows], np.array([[read_line(row[c]) for row in rows] for c in columns])


def agreement(passes: np.ndarray) -> dict[str, dict]:
    """By unit: share of equal codes between the first two passes and Cohen's kappa, "perhaps" counted as present."""
    table = {}
    for code, first, second in zip(UNITS, passes[0].T, passes[1].T, strict=True):
        judged = ~np.isnan(first) & ~np.isnan(second)
        a, b = first[judged] >= 0.5, second[judged] >= 0.5
        equal = float((a == b).mean())
        chance = a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean())
        table[code] = {"first": int(a.sum()), "second": int(b.sum()), "equal": round(equal, 3),
                       "kappa": round(float((equal - chance) / (1 - chance)), 3) if chance < 1 else None}  # fmt: skip
    return table


def unit_scores(evidence: list[Evidence], truth: np.ndarray) -> dict[str, dict]:
    """By unit: F1 from the first band on, precision and recall of what a text may name, AUC."""
    table = {}
    for code, target in zip(UNITS, truth.T, strict=True):
        measured = np.array([e.action_units.get(code, 0.0) for e in evidence])
        clear = ~np.isnan(target) & (target != 0.5)
        shown, x = target[clear] == 1, measured[clear]
        if shown.sum() < FEWEST:
            table[code] = {"present": int(shown.sum())}
            continue
        seen, named = x >= PRESENT, x >= SURE
        table[code] = {
            "present": int(shown.sum()),
            "f1": round(float(2 * (seen & shown).sum() / max(seen.sum() + shown.sum(), 1)), 3),
            "auc": round(float(roc_auc_score(shown, x)), 3),
            "named": int(named.sum()),
            "named_right": round(float(shown[named].mean()), 3) if named.any() else None,
        }
    return table


def false_sentences(observations: list[str], truth: np.ndarray, names: list[str]) -> dict:
    """Share of faces about which a text says something false, and what it was."""
    wrong, said = {}, 0
    for name, text, target in zip(names, observations, truth, strict=True):
        coded = dict(zip(UNITS, target, strict=True))
        found = mentions(text)
        said += len(found)
        false = [f"{'names' if m.present else 'denies'} {m.action_unit}" for m in found
                 if coded.get(m.action_unit) == (0.0 if m.present else 1.0)]  # fmt: skip
        if false:
            wrong[name] = sorted(set(false))
    return {"faces": len(names), "with_a_false_sentence": len(wrong), "share": round(len(wrong) / len(names), 3),
            "statements": said, "which": wrong}  # fmt: skip


def texts(reasoner: Reasoner, analyses: list, explain: bool) -> list[str]:
    if not explain:
        sheets = [Sheet.of(analysis.faces[0].evidence) for analysis in analyses]
        return [write(sheet, None, random.Random(i)).seen for i, sheet in enumerate(sheets)]
    from emoreason.explain.explanation import consume

    found = []
    for start in range(0, len(analyses), 8):
        explained = consume(reasoner.explain(analyses[start : start + 8]))
        found += [analysis.faces[0].explanation.text.split("\n")[0] for analysis in explained]
    return found


def main() -> None:
    import pyarrow.parquet as pq

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--explain", action="store_true")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    names, passes = read_passes()
    truth = consensus(list(passes))
    stored = {row["image"]["path"]: row["image"]["bytes"] for row in pq.read_table(options.data).to_pylist()}
    reasoner = emoreason.load(options.model, explainer="auto" if options.explain else "none")
    pictures = [open_picture(stored[name]) for name in names]
    analyses = reasoner.analyze_faces([(picture, reasoner.faces(picture, detect=False)) for picture in pictures])
    evidence = [analysis.faces[0].evidence for analysis in analyses]
    table = unit_scores(evidence, truth)
    scored = [row["f1"] for row in table.values() if "f1" in row]
    report = {
        "faces": len(names),
        "model": reasoner.name,
        "revision": reasoner.revision,
        "agreement": agreement(passes),
        "units": table,
        "mean_f1": round(float(np.mean(scored)), 3),
        "units_scored": len(scored),
        "sentences": false_sentences(texts(reasoner, analyses, options.explain), truth, names),
        "no_answer": round(float(np.mean([e.abstained for e in evidence])), 3),
    }
    print(json.dumps({k: v for k, v in report.items() if k != "agreement"}, indent=1))
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
