"""The rows of a battery: faces with their sheets and texts, in files that grow line by line and can be gone on with."""

from __future__ import annotations

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
from emoreason.explain.check.explanations import Checks, check
from emoreason.explain.explanation import Explainer, Explanation, Subject, consume
from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.read.sections import Sections, parse, stated_label
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.faces.detect import whole_picture
from emoreason.media.images import open_picture


@dataclass(frozen=True)
class Case:
    """A face of the data with what was measured on it. Its crop is opened when it is asked for: many do not fit."""

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
    """What an explainer wrote about a face. `shown` is the distribution it was told to decide by."""

    id: str
    text: str
    sheet: Sheet | None = None  # None: an imported text whose face was not measured
    shown: dict[str, float] | None = None
    reasoned: dict[str, float] | None = None
    target: str | None = None
    groups: dict[str, str] = field(default_factory=dict)
    repaired: bool = False
    error: str = ""
    labels: tuple[str, ...] = ()  # where there is no sheet to tell them

    @cached_property
    def told(self) -> Sheet | None:
        """The sheet as the writer saw it at the end."""
        if self.sheet is None or self.shown is None:
            return self.sheet
        return replace_probabilities(self.sheet, self.shown)

    @property
    def asked(self) -> tuple[str, ...]:
        return self.sheet.labels if self.sheet else self.labels

    @cached_property
    def own(self) -> Reasoned | None:
        return Reasoned(self.reasoned) if self.reasoned else None

    @cached_property
    def sections(self) -> Sections | None:
        return parse(self.text)

    @cached_property
    def said(self) -> list[Mention]:
        return mentions(self.sections.observations) if self.sections else []

    @cached_property
    def stated(self) -> str | None:
        return stated_label(self.sections.conclusion, self.asked) if self.sections else None

    @cached_property
    def checks(self) -> Checks | None:
        return check(self.text, self.told) if self.told else None

    def explanation(self, explainer: str) -> Explanation:
        """As it was when it was written, for the questions that come after it."""
        assert self.told is not None
        return Explanation.of(self.text, self.told, explainer, reasoned=self.own)

    def to_dict(self) -> dict[str, Any]:
        assert self.sheet is not None
        sheet = self.sheet
        return {"id": self.id, "target": self.target, "groups": self.groups, "units": sheet.units,
                "probabilities": sheet.probabilities, "calibrated": sheet.calibrated, "abstained": sheet.abstained,
                "why": sheet.why, "text": self.text, "shown": self.shown, "reasoned": self.reasoned,
                "repaired": self.repaired, "error": self.error,
                "checks": self.checks.to_dict() if self.checks else None}  # fmt: skip

    @classmethod
    def from_dict(cls, kept: dict[str, Any]) -> Row:
        """Checks are made again from the text: rows may be older than the reader."""
        sheet = Sheet(kept["units"], kept["probabilities"], kept["calibrated"], kept["abstained"], kept["why"])
        return cls(kept["id"], kept["text"], sheet, kept["shown"], kept["reasoned"], kept["target"], kept["groups"],
                   kept["repaired"], kept["error"])  # fmt: skip


def replace_probabilities(sheet: Sheet, probabilities: dict[str, float]) -> Sheet:
    return Sheet(sheet.units, probabilities, sheet.calibrated, sheet.abstained, sheet.why)


class RowJournal:
    """A JSONL file, one object a line with an `id`; what stands there is not computed again."""

    def __init__(self, path: Path):
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            whole = 0
            with path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):  # a killed run could not end it
                        break
                    try:
                        row = json.loads(line)
                    except ValueError:
                        raise EmoreasonError(f"{path} is damaged: remove it, and its part is computed again") from None
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
        """The rows of these ids, in order; those that are missing are made, `at_once` together, and kept."""
        missing = [id for id in ids if id not in self.rows]
        for start in range(0, len(missing), at_once):
            for row in make(missing[start : start + at_once]):
                self.write(row)
        return [self.rows[id] for id in ids if id in self.rows]


def sample_cases(cases: Sequence[Case], n: int, part: str, seed: int) -> list[Case]:
    """`n` of the faces, the same ones every time, in their order."""
    if len(cases) <= n:
        return list(cases)
    chosen = random.Random(f"{seed}/{part}").sample(range(len(cases)), n)
    return [cases[i] for i in sorted(chosen)]


def random_of(seed: int, part: str, id: str) -> random.Random:
    """The chance of one face in one part: it does not depend on which faces came before."""
    return random.Random(f"{seed}/{part}/{id}")


def unique(samples: Iterable[Sample]) -> Iterator[tuple[str, Sample]]:
    """Samples with ids that stand once, as the evaluation gives them."""
    seen: dict[str, int] = {}
    for sample in samples:
        seen[sample.id] = seen.get(sample.id, 0) + 1
        yield (sample.id if seen[sample.id] == 1 else f"{sample.id}#{seen[sample.id]}"), sample


def explain_cases(subjects: Sequence[Subject], explainer: Explainer, decide: str) -> list[Explanation | str]:
    """An explanation for each, or what went wrong. A batch that fails is asked again face by face."""
    try:
        return list(consume(explainer.explain(subjects, decide)))
    except EmoreasonError as error:
        if len(subjects) == 1:
            return [str(error)]
    return [made for subject in subjects for made in explain_cases([subject], explainer, decide)]


def row_of(case: Case, made: Explanation | str) -> Row:
    if isinstance(made, str):
        return Row(case.id, "", case.sheet, None, None, case.target, case.groups, False, made)
    shown = None if made.sheet.probabilities == case.sheet.probabilities else made.sheet.probabilities
    own = made.reasoned.probabilities if made.reasoned else None
    return Row(case.id, made.text, case.sheet, shown, own, case.target, case.groups, made.repaired)
