"""Faces of the explanation benchmark, the texts about them, and the JSONL files from which a killed run resumes."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.data.schema import Sample
from emoreason.explain.check.explanations import MODEL, Checks, check
from emoreason.explain.explanation import Explainer, Explanation, Subject, consume
from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.read.sections import Sections, parse, stated_label
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.faces.detect import whole_picture
from emoreason.media.images import open_picture


@dataclass(frozen=True)
class Case:
    """A measured face of the data. Opens its crop only on demand, as all crops may not fit in memory."""

    id: str
    image: str | bytes
    sheet: Sheet
    target: str | None = None
    groups: dict[str, str] = field(default_factory=dict)

    def crop(self) -> Image.Image:
        return whole_picture(open_picture(self.image)).crop

    def subject(self, sheet: Sheet | None = None) -> Subject:
        return Subject(sheet or self.sheet, self.crop())


@dataclass(frozen=True)
class Row:
    """The text about a face. `shown` is the distribution that the explainer had to follow, if it is not the sheet's."""

    id: str
    text: str
    sheet: Sheet | None = None  # None: an imported text without a measured face
    shown: dict[str, float] | None = None
    reasoned: dict[str, float] | None = None
    target: str | None = None
    groups: dict[str, str] = field(default_factory=dict)
    route: str = MODEL
    error: str = ""
    labels: tuple[str, ...] = ()  # the requested labels, if there is no sheet

    @cached_property
    def shown_sheet(self) -> Sheet | None:
        """The sheet with the distribution that the writer had to follow."""
        if self.sheet is None or self.shown is None:
            return self.sheet
        return replace_probabilities(self.sheet, self.shown)

    @property
    def requested_labels(self) -> tuple[str, ...]:
        return self.sheet.labels if self.sheet else self.labels

    @cached_property
    def own_verdict(self) -> Reasoned | None:
        return Reasoned(self.reasoned) if self.reasoned else None

    @cached_property
    def sections(self) -> Sections | None:
        return parse(self.text)

    @cached_property
    def mentions(self) -> list[Mention]:
        return mentions(self.sections.observations) if self.sections else []

    @cached_property
    def stated(self) -> str | None:
        return stated_label(self.sections.conclusion, self.requested_labels) if self.sections else None

    @cached_property
    def checks(self) -> Checks | None:
        return check(self.text, self.shown_sheet, self.route) if self.shown_sheet else None

    def explanation(self, explainer: str) -> Explanation:
        """The explanation as it was written, for follow-up questions."""
        assert self.shown_sheet is not None
        return Explanation.of(self.text, self.shown_sheet, explainer, self.route, reasoned=self.own_verdict)

    def to_dict(self) -> dict[str, Any]:
        assert self.sheet is not None
        return {"id": self.id, "target": self.target, "groups": self.groups, **dataclasses.asdict(self.sheet),
                "text": self.text, "shown": self.shown, "reasoned": self.reasoned, "route": self.route,
                "error": self.error, "checks": self.checks.to_dict() if self.checks else None}  # fmt: skip

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Row:
        """Checks are made again from the text, as the saved ones may come from an older reader."""
        names = [field.name for field in dataclasses.fields(Sheet)]
        values = {name: saved[name] for name in names if name in saved}
        for name in ("notes", "covered"):
            values[name] = tuple(values.get(name, ()))
        values["sides"] = {code: tuple(pair) for code, pair in values.get("sides", {}).items()}
        return cls(saved["id"], saved["text"], Sheet(**values), saved["shown"], saved["reasoned"], saved["target"],
                   saved["groups"], saved["route"], saved["error"])  # fmt: skip


def replace_probabilities(sheet: Sheet, probabilities: dict[str, float]) -> Sheet:
    return dataclasses.replace(sheet, probabilities=probabilities)


class RowJournal:
    """A JSONL file of objects with an `id`. Rows that it already holds are not computed again."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            whole = 0
            with path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):  # left by a killed run
                        break
                    try:
                        row = json.loads(line)
                    except ValueError:
                        raise EmoreasonError(f"{path} is damaged: remove it to compute its part again") from None
                    self.rows[row["id"]] = row
                    whole += len(line)
            with path.open("rb+") as file:
                file.truncate(whole)

    def write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self.rows[row["id"]] = row

    def fill(
        self, ids: Sequence[str], make: Callable[[Sequence[str]], Iterable[dict[str, Any]]], at_once: int = 1
    ) -> list[dict[str, Any]]:
        """The rows of these ids, in order. Missing rows are made in batches of `at_once`, and written."""
        missing = [id for id in ids if id not in self.rows]
        for start in range(0, len(missing), at_once):
            for row in make(missing[start : start + at_once]):
                self.write(row)
        return [self.rows[id] for id in ids if id in self.rows]


def sample_cases(cases: Sequence[Case], n: int, part: str, seed: int) -> list[Case]:
    """`n` random faces in their original order; the same ones every time."""
    if len(cases) <= n:
        return list(cases)
    chosen = random.Random(f"{seed}/{part}").sample(range(len(cases)), n)
    return [cases[i] for i in sorted(chosen)]


def random_of(seed: int, part: str, id: str) -> random.Random:
    """The random generator of one face in one part. It does not depend on the other faces."""
    return random.Random(f"{seed}/{part}/{id}")


def unique(samples: Iterable[Sample]) -> Iterator[tuple[str, Sample]]:
    """Samples with unique ids, numbered like in `evaluate.run`: a second "a.jpg" becomes "a.jpg#2"."""
    counts: dict[str, int] = {}
    for sample in samples:
        counts[sample.id] = counts.get(sample.id, 0) + 1
        yield (sample.id if counts[sample.id] == 1 else f"{sample.id}#{counts[sample.id]}"), sample


def explain_cases(subjects: Sequence[Subject], explainer: Explainer, decide: str) -> list[Explanation | str]:
    """An explanation for each subject, or an error message. A batch that fails is tried again face by face."""
    try:
        return list(consume(explainer.explain(subjects, decide)))
    except EmoreasonError as error:
        if len(subjects) == 1:
            return [str(error)]
    return [result for subject in subjects for result in explain_cases([subject], explainer, decide)]


def row_of(case: Case, result: Explanation | str) -> Row:
    """The row of a face, from its explanation or an error message."""
    if isinstance(result, str):
        return Row(case.id, "", case.sheet, None, None, case.target, case.groups, MODEL, result)
    shown = None if result.sheet.probabilities == case.sheet.probabilities else result.sheet.probabilities
    own = result.reasoned.probabilities if result.reasoned else None
    return Row(case.id, result.text, case.sheet, shown, own, case.target, case.groups, result.checks.route)
