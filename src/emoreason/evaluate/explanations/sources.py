"""The faces of a battery, measured, and their texts: written by an explainer, or another system's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError
from emoreason.data.protocols import ferplus_target
from emoreason.data.schema import Sample
from emoreason.evaluate.explanations.cases import Case, Row, RowJournal, explain_cases, row_of, unique
from emoreason.evaluate.explanations.imported import matched, read_texts
from emoreason.explain.explanation import Explainer
from emoreason.explain.sheet import Sheet
from emoreason.faces.detect import whole_picture
from emoreason.knowledge.emotions import label_set
from emoreason.media.images import open_picture
from emoreason.reasoner import DEFAULT_LABELS, Reasoner

READ_AT_ONCE = 128


def measured(
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
    journal: RowJournal,
    decide: str,
    batch_size: int,
    progress: Callable[[str, int], None] = lambda part, n: None,
) -> Iterator[Row]:
    """A row per face. An explainer that fails on a batch is asked face by face; a second failure is counted."""
    by_id = {case.id: case for case in cases}

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        faces = [by_id[id] for id in ids]
        texts = explain_cases([face.subject() for face in faces], explainer, decide)
        yield from (row_of(face, made).to_dict() for face, made in zip(faces, texts, strict=True))
        progress("explaining", len(journal.rows) + len(ids))

    for kept in journal.fill(list(by_id), make, batch_size):
        yield Row.from_dict(kept)


def imported(
    path: str | Path, cases: Sequence[Case], labels: Sequence[str] | None
) -> tuple[list[Case], list[Row], int]:
    """Rows of another system's texts. With faces: of those that have a text, and how many have none."""
    found = read_texts(path)
    if not cases:
        asked_for = tuple(labels or label_set(DEFAULT_LABELS).labels)
        rows = [Row(f"{i}/{one.name}", one.text, target=one.label, labels=asked_for) for i, one in enumerate(found)]
        return [], rows, 0
    texts = matched(found, [case.id for case in cases])
    if not texts:
        raise EmoreasonError(f"no text of {path} ({found[0].name}, …) belongs to a face of the data ({cases[0].id}, …)")
    kept = [case for case in cases if case.id in texts]
    made = [Row(case.id, texts[case.id].text, case.sheet, None, None, case.target, case.groups) for case in kept]
    return kept, made, len(cases) - len(kept)
