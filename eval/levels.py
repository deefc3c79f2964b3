"""What each weight level of the mini's explainer costs and gives, end to end: python eval/levels.py --data ferplus/validation.parquet

One process per level, one after the other: time to the first word, seconds an explanation, tokens a second, batched faces a
second, resident memory; the verdict's accuracy and UAR, and the checks of its texts with and without the grammar.
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
ALONE, TOGETHER = 12, 48  # faces that are explained one by one; in batches
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
    telling = [subject for subject in subjects if not subject.sheet.abstained]
    start = time.monotonic()
    explainer = model.explainer
    assert isinstance(explainer, LocalExplainer)
    loaded = time.monotonic() - start
    consume(explainer.explain(telling[:1]))  # once, so that nothing is timed that happens only once

    first, whole, tokens = [], [], 0
    for subject in telling[:ALONE]:
        start = time.monotonic()
        pieces = explainer.explain([subject])
        next(pieces), next(pieces)  # the heading, then the first word
        first.append(time.monotonic() - start)
        text = consume(pieces)[0].text
        whole.append(time.monotonic() - start)
        tokens += len(explainer.atoms.encode(text))
    alone_memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, made = time.monotonic(), []
    for at in range(0, TOGETHER, BATCH):
        made += consume(explainer.explain(telling[at : at + BATCH]))
    together = TOGETHER / (time.monotonic() - start)
    reasoned = [r for at in range(0, len(subjects), BATCH) for r in explainer.verdicts(subjects[at : at + BATCH])]
    votes = [{k: v for k, v in (s.votes or {}).items() if v > 1} for s in samples]
    shares = [{k: v / sum(vote.values()) for k, v in vote.items()} if vote else {"unknown": 1.0} for vote in votes]
    verdict = scored([r.probabilities for r in reasoned], shares)
    free = LocalExplainer(explainer.vlm, "free", constrained=False)
    loose = [m for at in range(0, TOGETHER, BATCH) for m in consume(free.explain(telling[at : at + BATCH]))]
    return {
        "level": level, "load_s": loaded, "first_word_s": sum(first) / len(first), "explanation_s": sum(whole) / len(whole),
        "slowest_s": max(whole), "tokens_per_s": tokens / sum(whole), "faces_per_s_alone": len(whole) / sum(whole),
        "faces_per_s_batched": together, "rss_mib_alone": alone_memory / 1024,
        "rss_mib_batched": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "verdict_n": verdict["n"], "verdict_accuracy": verdict["accuracy"], "verdict_uar": verdict["uar"],
        "texts": _checks(made), "free": _checks(loose),
    }  # fmt: skip


def _checks(made: list) -> dict:
    known = [m.checks.evidence_precision for m in made if m.checks.evidence_precision is not None]
    named = [m.checks.evidence_recall for m in made if m.checks.evidence_recall is not None]
    return {"n": len(made), "parsed": sum(m.checks.parsed for m in made) / len(made),
            "leaking": sum(bool(m.checks.leaks) for m in made) / len(made),
            "precision": sum(known) / len(known), "recall": sum(named) / len(named)}  # fmt: skip


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True)
    parser.add_argument("--faces", type=int, default=600, help="whose verdicts are scored")
    parser.add_argument("--levels", default=",".join(LEVELS))
    parser.add_argument("--one", help="measure this level and print JSON: what the script calls itself with")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one, given.data, given.faces)))
        sys.exit()
    rows = []
    for level in given.levels.split(","):
        command = [sys.executable, __file__, "--data", given.data, "--faces", str(given.faces), "--one", level]
        rows.append(
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        )
    if given.output:
        given.output.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
