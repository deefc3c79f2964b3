"""The rows of predictions.jsonl: what the model answered for a sample, and what the data set says about it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from emoreason.core.errors import EmoreasonError

STATUSES = ("ok", "no_face", "abstained", "error")


@dataclass(frozen=True)
class Prediction:
    """A model fills `id`, `status`, `label`, `probabilities`, `face_score` and `error`; the runner adds the rest.

    "abstained" rows still have label and probabilities: the headline counts them as answers, the risk-coverage curve
    shows the gain of declining. `target` is a name, a distribution (probability protocol), or None if the face does not
    count under the protocol of the run (the row is written all the same, as it may count under another protocol).
    """

    id: str
    status: str = "ok"
    label: str | None = None
    probabilities: dict[str, float] = field(default_factory=dict)
    face_score: float | None = None
    error: str | None = None
    target: str | dict[str, float] | None = None
    votes: dict[str, float] | None = None
    groups: dict[str, str] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise EmoreasonError(
                f"prediction {self.id!r}: status {self.status!r}; expected one of: {', '.join(STATUSES)}"
            )

    def to_json(self) -> str:
        """One line. NaN and infinite probabilities become null, as JSON has no NaN, and count as missing."""
        finite = {name: p if math.isfinite(p) else None for name, p in self.probabilities.items()}
        return json.dumps({**asdict(self), "probabilities": finite}, ensure_ascii=False, allow_nan=False)


def read_predictions(path: str | Path) -> Iterator[Prediction]:
    """The rows of a predictions.jsonl. Skips a half-written last line, which a killed run can leave."""
    path = Path(path)
    if not path.is_file():
        raise EmoreasonError(
            f"{path} does not exist; expected the predictions.jsonl of an earlier `emoreason eval … -o DIR`"
        )
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield Prediction(**json.loads(line))
            except (ValueError, TypeError) as problem:
                if not line.endswith("\n"):
                    return
                raise EmoreasonError(f"{path}, line {number}: not a prediction row ({problem})") from None
