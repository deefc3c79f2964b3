"""The battery: what an explainer's texts are worth, measured on this machine without anybody's judgement.

Faces are read, explained and written to `explanations.jsonl` as it goes; every figure is computed from the kept rows,
and each probe keeps its own, so that a killed run goes on where it was. Definitions: docs/explanations.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from emoreason.data.protocols import ferplus_target
from emoreason.data.schema import Sample
from emoreason.errors import EmoreasonError, UsageError
from emoreason.evaluate import text_parts
from emoreason.evaluate.benchmark import _limited as limited
from emoreason.evaluate.benchmark import _version as version
from emoreason.evaluate.explained import Case, Journal, Row, unique
from emoreason.evaluate.textstats import diversity
from emoreason.explain.explanation import DECIDERS, Explainer, Explanation, consume
from emoreason.explain.sheet import Sheet
from emoreason.faces import whole_picture
from emoreason.images import open_picture
from emoreason.reasoner import Reasoner
from emoreason.resources import resource

VERSION = 1  # of the definitions: figures of different versions are not to be compared
READ_AT_ONCE = 128


@dataclass(frozen=True)
class Setup:
    """What every part is given."""

    cases: list[Case]
    rows: list[Row]
    reasoner: Reasoner
    explainer: Explainer
    folder: Path
    settings: dict[str, Any]  # eval/explanations.yaml
    decide: str = "evidence"
    batch_size: int = 16
    seed: int = 0
    weight: float = 0.5

    def journal(self, part: str) -> Journal:
        return Journal(self.folder / "probes" / f"{part}.jsonl")

    def faces(self, part: str) -> int:
        return self.settings["faces"][part]

    @property
    def explained(self) -> list[tuple[Case, Row]]:
        """Faces on which a claim was made, with its text."""
        kept = zip(self.cases, self.rows, strict=True)
        return [(case, row) for case, row in kept if not case.sheet.abstained and not row.error]


Part = Callable[[Setup], dict[str, Any]]

TEXT_PARTS: dict[str, Callable[[Sequence[Row], int], dict[str, Any]]] = {
    "form": text_parts.form,
    "evidence": text_parts.evidence,
    "sufficiency": text_parts.sufficiency,
    "groups": text_parts.groups,
    "diversity": lambda rows, seed: diversity([row.text for row in rows if row.text], rows[0].asked if rows else ()),
}
PARTS = (*TEXT_PARTS, "verdict")


def run_battery(
    samples: Iterable[Sample],
    reasoner: Reasoner,
    explainer: Explainer,
    folder: str | Path,
    *,
    limit: int | None = None,
    batch_size: int = 16,
    decide: str = "evidence",
    parts: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    protocol: str = "majority",
    seed: int = 0,
    overwrite: bool = False,
    command: str | None = None,
    progress: Callable[[str, int], None] = lambda part, n: None,
) -> dict[str, Any]:
    """Every figure, written to `folder` as report.json and report.md. `parts` leaves the others out."""
    from emoreason.evaluate.battery_report import write_battery

    chosen = _parts(parts)
    if decide not in DECIDERS:
        raise UsageError(f"--decide {decide!r} is not one of {', '.join(DECIDERS)}")
    folder = Path(folder)
    made_with = {
        "battery": VERSION, "explainer": explainer.name, "model": reasoner.name, "revision": reasoner.revision,
        "decide": decide, "seed": seed, "limit": limit, "protocol": protocol,
        "labels": list(labels) if labels else None,
    }  # fmt: skip
    _begin(folder, made_with, overwrite)
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    begin = time.monotonic()
    cases, failed = _cases(limited(iter(samples), limit, seed), reasoner, labels, protocol)
    if not cases:
        raise EmoreasonError(
            f"none of the {len(failed)} pictures could be read: check them with `emoreason data check`"
        )
    read = time.monotonic()
    rows = list(explained(cases, explainer, Journal(folder / "explanations.jsonl"), decide, batch_size, progress))
    settings = battery_settings()
    setup = Setup(cases, rows, reasoner, explainer, folder, settings, decide, batch_size, seed, _weight(explainer))
    figures: dict[str, Any] = {}
    written = time.monotonic()
    for name in chosen:
        start = time.monotonic()
        progress(name, 0)
        figures[name] = _part(name, setup)
        figures[name]["seconds"] = round(time.monotonic() - start, 2)
    report = {
        "battery_version": VERSION, **made_with, "n": len(cases), "n_unreadable": len(failed), "unreadable": failed[:5],
        "labels": list(cases[0].sheet.labels), "targets": settings["targets"], "command": command,
        "emoreason_version": version(), "started": started,
        "seconds": {"reading": round(read - begin, 2), "explaining": round(written - read, 2),
                    "all": round(time.monotonic() - begin, 2)},
        "parts": figures,
    }  # fmt: skip
    write_battery(report, folder)
    return report


def _part(name: str, setup: Setup) -> dict[str, Any]:
    if name == "verdict":
        return text_parts.verdict(setup.rows, setup.weight, setup.seed)
    return TEXT_PARTS[name](setup.rows, setup.seed)


def _parts(asked: Sequence[str] | None) -> tuple[str, ...]:
    if asked is None:
        return PARTS
    unknown = [name for name in asked if name not in PARTS]
    if unknown:
        raise UsageError(f"the battery has no part {', '.join(unknown)}; it has {', '.join(PARTS)}")
    return tuple(name for name in PARTS if name in asked)


def battery_settings() -> dict[str, Any]:
    import yaml

    return yaml.safe_load(resource("eval/explanations.yaml").read_text(encoding="utf-8"))


def _weight(explainer: Explainer) -> float:
    """The weight of the reasoned verdict in the product, as the explainer was shipped with it."""
    spec = getattr(getattr(explainer, "vlm", None), "spec", None)
    return float(getattr(spec, "verdict", {}).get("weight", 0.5))


def _begin(folder: Path, made_with: dict[str, Any], overwrite: bool) -> None:
    """A folder goes on with the run that it holds, and refuses another one: its rows would be mixed."""
    import json
    import shutil

    about = folder / "run.json"
    if overwrite and folder.is_dir():
        for name in ("explanations.jsonl", "run.json", "report.json", "report.md"):
            (folder / name).unlink(missing_ok=True)
        shutil.rmtree(folder / "probes", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if about.is_file():
        before = json.loads(about.read_text(encoding="utf-8"))
        other = [key for key in made_with if before.get(key) != made_with[key]]
        if other:
            told = "; ".join(f"{key} = {before.get(key)}, now {made_with[key]}" for key in other)
            raise UsageError(f"{folder} holds another run ({told}): give the same options, --overwrite, or another -o")
    about.write_text(json.dumps(made_with) + "\n", encoding="utf-8")


def _cases(
    samples: Iterable[Sample], reasoner: Reasoner, labels: Sequence[str] | None, protocol: str
) -> tuple[list[Case], list[dict[str, str]]]:
    """Every face that can be opened, measured; and those that cannot, with the reason."""
    cases: list[Case] = []
    failed: list[dict[str, str]] = []
    waiting = unique(samples)
    while chunk := list(islice(waiting, READ_AT_ONCE)):
        opened = []
        for id, sample in chunk:
            try:
                if sample.problem:
                    raise EmoreasonError(sample.problem)
                opened.append((id, sample, open_picture(sample.image)))
            except EmoreasonError as error:
                failed.append({"id": id, "error": str(error)})
        faces = [(picture, [whole_picture(picture)]) for _, _, picture in opened]
        for (id, sample, _), analysis in zip(opened, reasoner.analyze_faces(faces, labels), strict=True):
            sheet = Sheet.of(analysis.faces[0].evidence)
            cases.append(Case(id, sample.image, sheet, _target(sample, protocol), sample.groups))
    return cases, failed


def _target(sample: Sample, protocol: str) -> str | None:
    """The label that a face counts for: by the votes where there are votes, as the evaluation does."""
    if sample.votes is None:
        return sample.label
    target = ferplus_target(sample.votes, protocol)
    return target if isinstance(target, str) else None


def explained(
    cases: Sequence[Case],
    explainer: Explainer,
    journal: Journal,
    decide: str,
    batch_size: int,
    progress: Callable[[str, int], None] = lambda part, n: None,
) -> Iterator[Row]:
    """A row per face. An explainer that fails on a batch is asked face by face; a second failure is counted."""
    by_id = {case.id: case for case in cases}

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        for case, made in zip(
            (by_id[id] for id in ids), _explain([by_id[id] for id in ids], explainer, decide), strict=True
        ):
            yield row_of(case, made).to_dict()
        progress("explaining", len(journal.rows))

    for kept in journal.fill(list(by_id), make, batch_size):
        yield Row.from_dict(kept)


def _explain(cases: Sequence[Case], explainer: Explainer, decide: str) -> list[Explanation | str]:
    try:
        return list(consume(explainer.explain([case.subject() for case in cases], decide)))
    except EmoreasonError as error:
        if len(cases) == 1:
            return [str(error)]
    return [made for case in cases for made in _explain([case], explainer, decide)]


def row_of(case: Case, made: Explanation | str) -> Row:
    if isinstance(made, str):
        return Row(case.id, "", case.sheet, None, None, case.target, case.groups, False, made)
    shown = None if made.sheet.probabilities == case.sheet.probabilities else made.sheet.probabilities
    own = made.reasoned.probabilities if made.reasoned else None
    return Row(case.id, made.text, case.sheet, shown, own, case.target, case.groups, made.repaired)
