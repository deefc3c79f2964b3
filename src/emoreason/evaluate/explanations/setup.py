"""The `Setup` that every part of the explanation benchmark gets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoreason.evaluate.explanations.cases import Case, Row, RowJournal


@dataclass(frozen=True)
class Setup:
    """The faces, their texts and the settings of a run."""

    cases: list[Case]
    rows: list[Row]
    folder: Path
    settings: dict[str, Any]  # eval/explanations.yaml
    reasoner: Any = None  # a Reasoner and an Explainer; None if texts are imported
    explainer: Any = None
    decide: str = "evidence"
    batch_size: int = 16
    seed: int = 0
    probe_limit: int | None = None  # at most so many faces or questions in each probe

    def journal(self, part: str) -> RowJournal:
        return RowJournal(self.folder / "probes" / f"{part}.jsonl")

    def faces(self, part: str) -> int:
        return min(self.settings["faces"][part], self.probe_limit or self.settings["faces"][part])

    @property
    def weight(self) -> float:
        """The weight of the reasoned verdict in the product of both, as shipped with the explainer."""
        spec = getattr(getattr(self.explainer, "vlm", None), "spec", None)
        return float(getattr(spec, "verdict", {}).get("weight", 0.5))

    @property
    def explained(self) -> list[tuple[Case, Row]]:
        """The faces with a claim, and their texts."""
        pairs = zip(self.cases, self.rows, strict=True)
        return [(case, row) for case, row in pairs if not case.sheet.abstained and not row.error]


VERSION = 1  # of the definitions; do not compare figures of different versions
