"""Ask the held-out questions of eval/questions/ and judge the answers.

    python eval/ask_questions.py --data ferplus/validation.parquet -o questions/ [--explainer text:MODEL] [--limit 30]

answers.jsonl has every answer with the verdict of the rules (right, wrong, or "read": a person has to). `--read FILE`
adds a person's verdicts: lines of scene, kind and right, useless or wrong, separated by tabs.
"""

import argparse
import json
from pathlib import Path

import emoreason
from emoreason.data import sources
from emoreason.evaluate import questions

FOLDER = Path(__file__).parent / "questions"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("-o", "--out", type=Path, required=True)
    options.add_argument("--explainer", default="auto")
    options.add_argument("--limit", type=int, default=0, help="scenes")
    options.add_argument("--read", type=Path)
    asked = options.parse_args()
    model = emoreason.load("mini", explainer=asked.explainer)
    assert model.explainer is not None
    scenes = questions.read_questions(FOLDER)[: asked.limit or None]
    samples = list(sources.read(asked.data))
    rows = list(questions.ask(scenes, samples, model, model.explainer))
    asked.out.mkdir(parents=True, exist_ok=True)
    questions.write_rows(rows, asked.out / "answers.jsonl")
    by_eye = {}
    if asked.read:
        lines = [line.split("\t") for line in asked.read.read_text(encoding="utf-8").splitlines() if line.strip()]
        by_eye = {(scene, kind): verdict for scene, kind, verdict, *_ in lines}
    report = {"explainer": model.explainer.name, **questions.summary(rows, by_eye)}
    (asked.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
