"""What every part of the explanation benchmark is given."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoreason.evaluate.explanations.cases import Case, Row, RowJournal


@dataclass(frozen=True)
class Setup:
    """What every part is given."""

    cases: list[Case]
    rows: list[Row]
    folder: Path
    settings: dict[str, Any]  # eval/explanations.yaml
    reasoner: Any = None  # a Reasoner and an Explainer, except where texts are imported
    explainer: Any = None
    decide: str = "evidence"
    batch_size: int = 16
    seed: int = 0
    probe_limit: int | None = None  # faces or questions of a probe

    def journal(self, part: str) -> RowJournal:
        return RowJournal(self.folder / "probes" / f"{part}.jsonl")

    def faces(self, part: str) -> int:
        return min(self.settings["faces"][part], self.probe_limit or self.settings["faces"][part])

    @property
    def weight(self) -> float:
        """Of the reasoned verdict in the product, as the explainer was shipped with it."""
        spec = getattr(getattr(self.explainer, "vlm", None), "spec", None)
        return float(getattr(spec, "verdict", {}).get("weight", 0.5))

    @property
    def explained(self) -> list[tuple[Case, Row]]:
        """Faces on which a claim was made, with its text."""
        kept = zip(self.cases, self.rows, strict=True)
        return [(case, row) for case, row in kept if not case.sheet.abstained and not row.error]


VERSION = 1  # of the definitions: figures of different versions are not to be compared
