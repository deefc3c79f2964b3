"""The interface of all explainers: they take faces with their sheets and return checked texts."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from PIL import Image

from emoreason.core.errors import UsageError
from emoreason.explain.check.explanations import MODEL, RETRIED, Checks, check
from emoreason.explain.check.statements import View
from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.read.sections import Sections, parse
from emoreason.explain.sheet import Placed, Reasoned, Sheet

DECIDERS = ("evidence", "reasoned", "both")


@dataclass(frozen=True)
class Subject:
    """One face to explain: its measurements, and its crop for models that see pictures."""

    sheet: Sheet
    crop: Image.Image


@dataclass(frozen=True)
class Explanation:
    text: str  # the three sections as written
    sheet: Sheet  # the sheet it was written from; its probabilities are those that decided the label
    checks: Checks
    explainer: str
    reasoned: Reasoned | None = None  # the language model's own verdict, made before it saw the distribution
    agreement: bool | None = None  # whether that verdict equals the evidence's label
    free: bool = False  # a text without the three sections, as the user's training texts taught; see `unchecked`

    @property
    def unchecked(self) -> bool:
        """Whether the text has a form that the checks cannot compare with the evidence."""
        return self.free and not self.checks.parsed

    @property
    def repaired(self) -> bool:
        """Whether a first text failed a check, and this one was written after it."""
        return self.checks.route == RETRIED

    @classmethod
    def of(cls, text: str, sheet: Sheet, explainer: str, route: str = MODEL, **more: Any) -> "Explanation":
        return cls(text, sheet, check(text, sheet, route), explainer, **more)

    @property
    def sections(self) -> Sections | None:
        return parse(self.text)

    @property
    def short(self) -> str:
        """The text for readers: the reading first, then what is seen, then how well it fits."""
        sections = self.sections
        if sections is None:
            return self.text
        if not self.sheet.units:
            return sections.conclusion
        return f"{sections.conclusion} {sections.observations} {sections.interpretation}"

    @property
    def mentions(self) -> list[Mention]:
        """The action units that the observations mention."""
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
            "short": self.short,
            "reasoned": self.reasoned and {
                "label": self.reasoned.label,
                "probabilities": {k: round(p, 6) for k, p in self.reasoned.probabilities.items()}},
            "agreement": self.agreement,
            "checks": self.checks.to_dict(),
            "explainer": self.explainer,
            "repaired": self.repaired,
        }  # fmt: skip


def sentence(text: str, at: int) -> str:
    """The sentence around position `at`."""
    end = text.find(". ", at)
    return text[text.rfind(". ", 0, at) + 1 : len(text) if end < 0 else end + 1].strip()


class Piece(NamedTuple):
    """New text of the face (or question) with index `row`."""

    row: int
    text: str


class Turn(NamedTuple):
    """An earlier question and its answer, with the indices of the faces that it was about."""

    question: str
    answer: str
    about: tuple[int, ...] = ()


@dataclass(frozen=True)
class Question:
    """A question about the faces in view."""

    text: str
    faces: Sequence[Placed]
    focus: int  # index of the face that the conversation is about
    about: Sequence[int]  # indices of the faces that the question is about
    crops: Sequence[Image.Image]  # of the faces, in the same order
    explanation: Explanation | None = None  # of the face in focus
    history: Sequence[Turn] = ()
    missing: bool = False  # whether it names a face that does not exist

    @property
    def view(self) -> View:
        return View(self.faces, self.about, self.missing)

    @property
    def crop(self) -> Image.Image:
        return self.crops[self.focus]


@dataclass(frozen=True)
class Answer:
    text: str
    route: str = MODEL  # model, retried or written
    problems: tuple[str, ...] = ()  # of a text that is shown although it did not pass


@dataclass(frozen=True)
class Style:
    """How a text is worded."""

    temperature: float | None = None  # None: the explainer's default
    variation: int = 0  # another number gives another wording for the same face
    brief: bool = False  # name only the two strongest movements


class Explainer(Protocol):
    """Writes texts about faces. `explain` and `answer` are generators that yield pieces of text and return the results.

    All faces or questions of one call are processed together. Closing the generator stops the model.
    """

    name: str

    @property
    def visual_tokens(self) -> int:
        """Number of tokens that the picture of one face takes."""
        ...

    def count_tokens(self, text: str) -> int:
        """Number of tokens in a text. Thread-safe."""
        ...

    def explain(
        self, subjects: Sequence[Subject], decide: str = "evidence", style: Style = Style()
    ) -> Generator[Piece, None, list[Explanation]]: ...

    def answer(self, questions: Sequence[Question], style: Style = Style()) -> Generator[Piece, None, list[Answer]]: ...


def check_decide(decide: str) -> None:
    """Raise UsageError unless `decide` is one of DECIDERS."""
    if decide not in DECIDERS:
        raise UsageError(f"--decide {decide!r} is not one of {', '.join(DECIDERS)}")


def combine(
    evidence: Mapping[str, float], reasoned: Mapping[str, float], decide: str, weight: float
) -> dict[str, float]:
    """The distribution that decides the label: the evidence's, the language model's, or their weighted product."""
    check_decide(decide)
    share = {"evidence": 0.0, "reasoned": 1.0, "both": weight}[decide]
    product = {k: evidence[k] ** (1 - share) * reasoned[k] ** share for k in evidence}
    total = sum(product.values())
    return {k: p / total for k, p in product.items()} if total else dict(evidence)


def consume(pieces: Generator[Any, None, Any]) -> Any:
    """Run a generator to its end and return its value."""
    while True:
        try:
            next(pieces)
        except StopIteration as done:
            return done.value
