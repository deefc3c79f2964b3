"""What every explainer takes and gives: a face with its sheet goes in, a checked Explanation comes out."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from PIL import Image

from emoreason.core.errors import UsageError
from emoreason.explain.check.explanations import Checks, check
from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.read.sections import Sections, parse
from emoreason.explain.sheet import Reasoned, Sheet

DECIDERS = ("evidence", "reasoned", "both")


@dataclass(frozen=True)
class Subject:
    """One face to explain: what was measured on it, and its crop for those who look."""

    sheet: Sheet
    crop: Image.Image


@dataclass(frozen=True)
class Explanation:
    text: str  # the three sections as written
    sheet: Sheet  # what it was written from; its distribution is the one that decided
    checks: Checks
    explainer: str
    reasoned: Reasoned | None = None  # the language model's own verdict, read before it was shown the distribution
    agreement: bool | None = None  # of that verdict with the evidence's label
    repaired: bool = False  # it failed a check, was asked once to repair it, and this is the second text

    free: bool = False  # of a form of its own, as a user's texts taught it: no sentence can be held to the evidence

    @property
    def unchecked(self) -> bool:
        return self.free and not self.checks.parsed

    @classmethod
    def of(cls, text: str, sheet: Sheet, explainer: str, **more: Any) -> "Explanation":
        return cls(text, sheet, check(text, sheet), explainer, **more)

    @property
    def sections(self) -> Sections | None:
        return parse(self.text)

    @property
    def mentions(self) -> list[Mention]:
        """The movements that the observations speak of."""
        return mentions(self.sections.observations) if self.sections else []

    def to_dict(self) -> dict[str, Any]:
        sections = self.sections
        return {
            "observations": [
                {"action_unit": m.action_unit, "band": m.band, "region": m.region, "present": m.present, "side": m.side,
                 "text": sentence(sections.observations if sections else "", m.start)} for m in self.mentions
            ],
            "interpretation": sections.interpretation if sections else None,
            "conclusion": sections.conclusion if sections else None,
            "text": self.text,
            "reasoned": self.reasoned and {
                "label": self.reasoned.label,
                "probabilities": {k: round(p, 6) for k, p in self.reasoned.probabilities.items()}},
            "agreement": self.agreement,
            "checks": self.checks.to_dict(),
            "explainer": self.explainer,
            "repaired": self.repaired,
        }  # fmt: skip


def sentence(text: str, at: int) -> str:
    """The sentence that holds the place `at`."""
    end = text.find(". ", at)
    return text[text.rfind(". ", 0, at) + 1 : len(text) if end < 0 else end + 1].strip()


class Piece(NamedTuple):
    """Some text of one face, as it is written."""

    row: int
    text: str


class Turn(NamedTuple):
    """An earlier question about a face and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Question:
    """A follow-up question about a face, or about two."""

    text: str
    about: Subject
    explanation: Explanation | None = None
    history: Sequence[Turn] = ()
    other: Subject | None = None

    @property
    def sheet(self) -> Sheet:
        """What the answer may rest on: the sheet that was explained, where one was."""
        return self.explanation.sheet if self.explanation else self.about.sheet

    @property
    def reasoned(self) -> Reasoned | None:
        return self.explanation.reasoned if self.explanation else None

    @property
    def beside(self) -> Sheet | None:
        return self.other.sheet if self.other else None


@dataclass(frozen=True)
class Style:
    """How it is said."""

    temperature: float | None = None  # None: the explainer's own
    variation: int = 0  # another number words the same face another way
    brief: bool = False  # the two strongest movements and no more


class Explainer(Protocol):
    """Writes about faces. `explain` and `answer` are generators: pieces of text come out, the result is their value.

    Faces and questions that are given together are worked on together. Closing the generator stops the model.
    """

    name: str

    @property
    def visual_tokens(self) -> int:
        """Tokens that stand for the picture of one face."""
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of a text. Safe to call from any thread."""
        ...

    def explain(
        self, subjects: Sequence[Subject], decide: str = "evidence", manner: Style = Style()
    ) -> Generator[Piece, None, list[Explanation]]: ...

    def answer(self, questions: Sequence[Question], manner: Style = Style()) -> Generator[Piece, None, list[str]]: ...


def check_decide(decide: str) -> None:
    """Refuse anything but one of DECIDERS, before any work is done."""
    if decide not in DECIDERS:
        raise UsageError(f"--decide {decide!r} is not one of {', '.join(DECIDERS)}")


def combine(
    evidence: Mapping[str, float], reasoned: Mapping[str, float], decide: str, weight: float
) -> dict[str, float]:
    """The distribution that decides: the evidence's, the model's, or their weighted product."""
    check_decide(decide)
    share = {"evidence": 0.0, "reasoned": 1.0, "both": weight}[decide]
    product = {k: evidence[k] ** (1 - share) * reasoned[k] ** share for k in evidence}
    total = sum(product.values())
    return {k: p / total for k, p in product.items()} if total else dict(evidence)


def consume(pieces: Generator[Any, None, Any]) -> Any:
    """The value of a generator whose pieces nobody waits for."""
    while True:
        try:
            next(pieces)
        except StopIteration as done:
            return done.value
