"""Measures the faces of the explanation benchmark, and gets their texts from an explainer or from a file."""

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
    """The measured faces, and the pictures that cannot be opened, with the reason."""
    cases: list[Case] = []
    failed: list[dict[str, str]] = []
    remaining = unique(samples)
    while chunk := list(islice(remaining, READ_AT_ONCE)):
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
    """The target of a face: by its votes if it has votes, as in the evaluation."""
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
    """A row per face. If a batch fails, its faces are tried one by one; faces that fail again get an error row."""
    by_id = {case.id: case for case in cases}

    def make(ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        faces = [by_id[id] for id in ids]
        texts = explain_cases([face.subject() for face in faces], explainer, decide)
        yield from (row_of(face, text).to_dict() for face, text in zip(faces, texts, strict=True))
        progress("explaining", len(journal.rows) + len(ids))

    for saved in journal.fill(list(by_id), make, batch_size):
        yield Row.from_dict(saved)


def imported(
    path: str | Path, cases: Sequence[Case], labels: Sequence[str] | None
) -> tuple[list[Case], list[Row], int]:
    """The rows of another system's texts, with the faces that have a text and the number of faces without one.

    Without faces, every text gets a row without a sheet."""
    entries = read_texts(path)
    if not cases:
        requested = tuple(labels or label_set(DEFAULT_LABELS).labels)
        rows = [Row(f"{i}/{e.name}", e.text, target=e.label, labels=requested) for i, e in enumerate(entries)]
        return [], rows, 0
    texts = matched(entries, [case.id for case in cases])
    if not texts:
        raise EmoreasonError(
            f"no text of {path} ({entries[0].name}, …) matches a face of the data ({cases[0].id}, …) by its name"
        )
    with_text = [case for case in cases if case.id in texts]
    rows = [Row(case.id, texts[case.id].text, case.sheet, None, None, case.target, case.groups) for case in with_text]
    return with_text, rows, len(cases) - len(with_text)
