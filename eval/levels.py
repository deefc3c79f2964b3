"""Compares the weight levels of the mini's explainer: speed, memory, accuracy and text checks.

    python eval/levels.py --data ferplus/validation.parquet

Runs one process per level, one after another: time to the first word, seconds per explanation, tokens per second, batched
faces per second, resident memory; the verdict's accuracy and UAR, and the checks of texts with and without the grammar.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

LEVELS = ("float32", "half", "int8")
ALONE, BATCHED = 12, 48  # faces explained one by one, and in batches
BATCH = 16


def measure(level: str, data: str, faces: int) -> dict:
    import emoreason
    from emoreason.data import read
    from emoreason.explain.backends.local import LocalExplainer
    from emoreason.explain.explanation import Subject, consume
    from emoreason.explain.sheet import Sheet
    from emoreason.faces.detect import whole_picture
    from emoreason.media.images import open_picture
    from emoreason.train.text.report import scored

    model = emoreason.load("mini", quantize=level)
    samples = [s for s in islice(read(data), faces) if s.votes]
    pictures = [open_picture(sample.image) for sample in samples]
    analyses = model.analyze_faces([(picture, [whole_picture(picture)]) for picture in pictures])
    subjects = [Subject(Sheet.of(a.faces[0].evidence), a.faces[0].face.crop) for a in analyses]
    claiming = [subject for subject in subjects if not subject.sheet.abstained]
    start = time.monotonic()
    explainer = model.explainer
    assert isinstance(explainer, LocalExplainer)
    loaded = time.monotonic() - start
    consume(explainer.explain(claiming[:1]))  # a warm-up

    first, whole, tokens = [], [], 0
    for subject in claiming[:ALONE]:
        start = time.monotonic()
        pieces = explainer.explain([subject])
        next(pieces), next(pieces)  # the heading, then the first word
        first.append(time.monotonic() - start)
        text = consume(pieces)[0].text
        whole.append(time.monotonic() - start)
        tokens += len(explainer.atoms.encode(text))
    alone_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, explanations = time.monotonic(), []
    for at in range(0, BATCHED, BATCH):
        explanations += consume(explainer.explain(claiming[at : at + BATCH]))
    faces_per_s_batched = BATCHED / (time.monotonic() - start)
    reasoned = [r for at in range(0, len(subjects), BATCH) for r in explainer.verdicts(subjects[at : at + BATCH])]
    votes = [{k: v for k, v in (s.votes or {}).items() if v > 1} for s in samples]
    shares = [{k: v / sum(vote.values()) for k, v in vote.items()} if vote else {"unknown": 1.0} for vote in votes]
    verdict = scored([r.probabilities for r in reasoned], shares)
    free = LocalExplainer(explainer.vlm, "free", constrained=False)
    unconstrained = [m for at in range(0, BATCHED, BATCH) for m in consume(free.explain(claiming[at : at + BATCH]))]
    return {
        "level": level, "load_s": loaded, "first_word_s": sum(first) / len(first), "explanation_s": sum(whole) / len(whole),
        "slowest_s": max(whole), "tokens_per_s": tokens / sum(whole), "faces_per_s_alone": len(whole) / sum(whole),
        "faces_per_s_batched": faces_per_s_batched, "rss_mib_alone": alone_memory / 1024,
        "rss_mib_batched": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "verdict_n": verdict["n"], "verdict_accuracy": verdict["accuracy"], "verdict_uar": verdict["uar"],
        "texts": _checks(explanations), "free": _checks(unconstrained),
    }  # fmt: skip


def _checks(explanations: list) -> dict:
    checks, n = [explanation.checks for explanation in explanations], len(explanations)
    precisions = [check.evidence_precision for check in checks if check.evidence_precision is not None]
    recalls = [check.evidence_recall for check in checks if check.evidence_recall is not None]
    return {"n": n, "parsed": sum(check.parsed for check in checks) / n,
            "leaking": sum(bool(check.leaks) for check in checks) / n,
            "precision": sum(precisions) / len(precisions), "recall": sum(recalls) / len(recalls)}  # fmt: skip


def table(rows: list[dict]) -> str:
    lines = [
        "| weights | first word | explanation | tokens/s | batched / alone | memory | verdict accuracy / UAR | checks | without grammar |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        checks = [f"parse {100 * row[k]['parsed']:.0f}, leak {100 * row[k]['leaking']:.0f}, precision "
                  f"{100 * row[k]['precision']:.1f}, recall {100 * row[k]['recall']:.1f}" for k in ("texts", "free")]  # fmt: skip
        lines.append(
            f"| {row['level']} | {row['first_word_s']:.2f} s | {row['explanation_s']:.2f} s | {row['tokens_per_s']:.0f} | "
            f"{row['faces_per_s_batched'] / row['faces_per_s_alone']:.1f}x | {row['rss_mib_alone']:,.0f} MiB | "
            f"{100 * row['verdict_accuracy']:.1f} / {100 * row['verdict_uar']:.1f} | {checks[0]} | {checks[1]} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--faces", type=int, default=600, help="number of faces whose verdicts are scored")
    parser.add_argument("--levels", default=",".join(LEVELS))
    parser.add_argument("--one", help="only measure this level and print JSON (used for the processes of the levels)")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.data, options.faces)))
        sys.exit()
    rows = []
    for level in options.levels.split(","):
        command = [sys.executable, __file__, "--data", options.data, "--faces", str(options.faces), "--one", level]
        rows.append(
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        )
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
