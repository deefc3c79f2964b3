"""Runs the explanation benchmark: measures the quality of an explainer's texts without human or model judges.

Explanations go to `explanations.jsonl` line by line, and each probe writes a file of its own, so a killed run can
resume. All figures are computed from these rows. Definitions: docs/explanations.md.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.resources import resource
from emoreason.data.schema import Sample
from emoreason.evaluate.explanations import interventions, necessity, questions, text_metrics
from emoreason.evaluate.explanations.cases import Case, RowJournal
from emoreason.evaluate.explanations.diversity import diversity
from emoreason.evaluate.explanations.setup import VERSION, Setup
from emoreason.evaluate.explanations.sources import explained, imported, measured
from emoreason.evaluate.run import limited, own_version
from emoreason.explain.explanation import DECIDERS, Explainer
from emoreason.reasoner import Reasoner

Progress = Callable[[str, int], None]


def _diversity(setup: Setup) -> dict[str, Any]:
    labels = setup.rows[0].requested_labels
    claiming = [row.text for row in setup.rows if row.text and not (row.sheet and row.sheet.abstained)]
    claims = {key: diversity(claiming, labels)[key] for key in ("n", "distinct_2", "most_shared_sentence")}
    return {**diversity([row.text for row in setup.rows if row.text], labels), "without_abstentions": claims}


Part = Callable[[Setup], dict[str, Any]]
# Parts that only need texts and sheets, so they work on texts of any system.
OF_TEXTS: dict[str, Part] = {
    "form": lambda setup: text_metrics.form(setup.rows, setup.seed),
    "evidence": lambda setup: text_metrics.evidence(setup.rows, setup.seed),
    "verdict": lambda setup: text_metrics.verdict(setup.rows, setup.weight, setup.seed),
    "sufficiency": lambda setup: text_metrics.sufficiency(setup.rows, setup.seed),
    "diversity": _diversity,
    "groups": lambda setup: text_metrics.groups(setup.rows, setup.seed),
}
PROBES: dict[str, Part] = {
    "necessity": necessity.necessity,
    "counterfactual": interventions.counterfactual,
    "polling": questions.polling,
    "sycophancy": questions.sycophancy,
    "shuffle": interventions.shuffle,
    "nonface": interventions.nonface,
}
EXTRA: dict[str, Part] = {"ablation": interventions.ablation, "free": interventions.free}  # only on request
PARTS = {**OF_TEXTS, **PROBES, **EXTRA}


def run_explanation_benchmark(
    samples: Iterable[Sample] | None,
    reasoner: Reasoner | None,
    explainer: Explainer | None,
    folder: str | Path,
    *,
    limit: int | None = None,
    batch_size: int = 16,
    decide: str = "evidence",
    texts: str | Path | None = None,
    parts: Sequence[str] | None = None,
    free: bool = False,
    probe_limit: int | None = None,
    labels: Sequence[str] | None = None,
    protocol: str = "majority",
    seed: int = 0,
    overwrite: bool = False,
    data: str | None = None,
    options: Mapping[str, Any] | None = None,
    command: str | None = None,
    progress: Progress = lambda part, n: None,
) -> dict[str, Any]:
    """Computes the parts, and writes report.json and report.md to `folder`.

    texts: score this file of another system instead of explaining; against our sheets, if samples and a reasoner are
    given. parts: only these (default: all but `ablation` and `free`). free: also score the texts before any check.
    probe_limit: at most so many faces or questions in each probe. data, options, command: only noted in the report.
    """
    from emoreason.evaluate.explanations.report import write_explanation_report

    if decide not in DECIDERS:
        raise UsageError(f"--decide {decide!r} is not one of {', '.join(DECIDERS)}")
    if texts is None and (samples is None or reasoner is None or explainer is None):
        raise UsageError(
            "the explanation benchmark needs --data and an explainer, or --texts with the texts of another system"
        )
    chosen = _parts(parts, free, texts is not None)
    folder = Path(folder)
    name = str(texts) if texts is not None or explainer is None else explainer.name
    made_with = {
        "battery": VERSION, "explainer": name, "model": reasoner.name if reasoner else None,
        "revision": reasoner.revision if reasoner else None, "decide": decide, "data": data, "limit": limit,
        "seed": seed, "protocol": protocol, "labels": list(labels) if labels else None, "options": dict(options or {}),
    }  # fmt: skip
    _begin(folder, made_with, overwrite)
    started, begin = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
    cases: list[Case] = []
    failed: list[dict[str, str]] = []
    if samples is not None and reasoner is not None:
        cases, failed = measured(limited(iter(samples), limit, seed), reasoner, labels, protocol)
        if not cases:
            raise EmoreasonError(f"none of the {len(failed)} pictures can be read; `emoreason data check` says why")
    read = time.monotonic()
    without = 0
    if texts is not None:
        cases, rows, without = imported(texts, cases, labels)
    else:
        assert explainer is not None
        rows = list(
            explained(cases, explainer, RowJournal(folder / "explanations.jsonl"), decide, batch_size, progress)
        )
    written = time.monotonic()
    settings = explanation_settings()
    setup = Setup(cases, rows, folder, settings, reasoner, explainer, decide, batch_size, seed, probe_limit)
    figures: dict[str, Any] = {}
    for part in chosen:
        start = time.monotonic()
        progress(part, 0)
        figures[part] = PARTS[part](setup)
        figures[part]["seconds"] = round(time.monotonic() - start, 2)
    report = {
        "battery_version": VERSION, **made_with, "n": len(rows), "n_unreadable": len(failed), "unreadable": failed[:5],
        "n_without_text": without, "labels": list(rows[0].requested_labels), "most": probe_limit,
        "targets": settings["targets"],
        "command": command, "emoreason_version": own_version(), "started": started,
        "seconds": {"reading": round(read - begin, 2), "explaining": round(written - read, 2),
                    "all": round(time.monotonic() - begin, 2)},
        "parts": figures,
    }  # fmt: skip
    write_explanation_report(report, folder)
    return report


def _parts(requested: Sequence[str] | None, free: bool, of_texts: bool) -> list[str]:
    known = OF_TEXTS if of_texts else PARTS
    unknown = [name for name in requested or () if name not in known]
    if unknown:
        where = "--texts" if of_texts else "the explanation benchmark"
        raise UsageError(f"{where} has no part {', '.join(unknown)}; choose from {', '.join(known)}")
    chosen = [name for name in known if (name in requested if requested is not None else name not in EXTRA)]
    return chosen + ["free"] * (free and not of_texts and "free" not in chosen)


def explanation_settings() -> dict[str, Any]:
    import yaml

    return yaml.safe_load(resource("eval/explanations.yaml").read_text(encoding="utf-8"))


def _begin(folder: Path, made_with: dict[str, Any], overwrite: bool) -> None:
    """Prepares the folder. It may hold the same run, which resumes, but not another run, whose rows would mix in."""
    info = folder / "run.json"
    if overwrite and folder.is_dir():
        for name in ("explanations.jsonl", "run.json", "report.json", "report.md"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "probes", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if info.is_file():
        before = json.loads(info.read_text(encoding="utf-8"))
        changed = [key for key in made_with if before.get(key) != made_with[key]]
        if changed:
            changes = "; ".join(f"{key} = {before.get(key)}, now {made_with[key]}" for key in changed)
            raise UsageError(f"{folder} holds another run ({changes}): use the same options, --overwrite or another -o")
    info.write_text(json.dumps(made_with) + "\n", encoding="utf-8")
