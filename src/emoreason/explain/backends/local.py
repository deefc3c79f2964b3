"""The explainer of emoreason's own models, in three steps that stream as one text.

(a) picture and movements, no label anywhere -> observations; (b) the model's distribution over the asked labels is read
right there; (c) the distribution that decides is shown -> interpretation and conclusion.
"""

import dataclasses
import random
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import torch

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.explain.backends.decoding import Session
from emoreason.explain.explanation import Explanation, Piece, Question, Style, Subject, Turn, combine
from emoreason.explain.prompts import load_prompts
from emoreason.explain.questions.answers import answer as answer_grammar
from emoreason.explain.questions.understand import POLICY_KINDS, understand
from emoreason.explain.read.sections import HEADINGS
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write import writer
from emoreason.explain.write.constrain import Atoms, Walk
from emoreason.explain.write.grammar import Node, choice, sample
from emoreason.models.vlm import VisionLanguageModel

FREE_TOKENS = 120  # of one section without a grammar: twice what one takes
FREE_TEXT = 320  # tokens of a whole text of any form
VARIED_FREE = 0.7  # without a grammar, warmth costs truth
VARIED = 2.0  # under a grammar every word is a fit one, so that variety costs no truth
GREEDY = 0.0
PLANS = 3  # plans of sentences that the model chooses among


class LocalExplainer:
    """A VisionLanguageModel under the grammar of prompts/*.yaml."""

    def __init__(
        self,
        vlm: VisionLanguageModel,
        name: str,
        *,
        temperature: float | None = None,
        constrained: bool = True,
        picture: bool = True,
        units: bool = True,
    ):
        """picture, units: leave one of the two out of what the model is told, to see what the other is worth."""
        self.vlm, self.name, self.constrained = vlm, name, constrained
        usual = VARIED if constrained else GREEDY
        self.temperature = usual if temperature is None else temperature
        self.picture, self.units = picture, units
        self.script = load_prompts()
        self.atoms = Atoms(vlm.tokenizer.encode)
        self.line = vlm.tokenizer.encode("\n")[0]

    @property
    def visual_tokens(self) -> int:
        return self.vlm.spec.grid**2

    def count_tokens(self, text: str) -> int:
        return len(self.vlm.tokenizer.encode(text))

    def explain(
        self, subjects: Sequence[Subject], decide: str = "evidence", manner: Style = Style()
    ) -> Generator[Piece, None, list[Explanation]]:
        texts = ["" for _ in subjects]
        free = self.vlm.spec.form == "free"  # such a model may have learned to go by the picture alone
        silent = [subject.sheet.abstained or not (subject.sheet.units or free) for subject in subjects]
        rows = [i for i, quiet in enumerate(silent) if not quiet]
        results: dict[int, Explanation] = {}
        for i, quiet in enumerate(silent):
            if quiet:  # nothing may be claimed, so there is nothing to reason about
                texts[i] = writer.abstention(subjects[i].sheet)
                yield Piece(i, texts[i])
                results[i] = Explanation.of(texts[i], subjects[i].sheet, self.name)
        if rows:
            write = self._freely if self.vlm.spec.form == "free" else self._reasoned
            written = yield from write([subjects[i] for i in rows], rows, decide, manner)
            results |= dict(zip(rows, written, strict=True))
        return [results[i] for i in range(len(subjects))]

    def _freely(
        self, subjects: list[Subject], rows: list[int], decide: str, manner: Style
    ) -> Generator[Piece, None, list[Explanation]]:
        """A text of the form that was learned, in one piece. The checks say what it is worth; no verdict is read."""
        if decide != "evidence":
            raise UsageError(f"--decide {decide}: {self.name} writes texts of a form of its own and has no verdict")
        again = str(manner.variation) if manner.variation else ""
        session, rngs = self._begin(subjects), [_seeded(subject, again) for subject in subjects]
        session.read([self.script.turn(self.vlm.spec.question)] * len(rows))
        texts = yield from self._free_texts(session, rngs, rows, manner.temperature or (VARIED_FREE if again else 0.0))
        return [Explanation.of(text, s.sheet, self.name, free=True) for text, s in zip(texts, subjects, strict=True)]

    def _free_texts(
        self, session: Session, rngs: list[torch.Generator], rows: Sequence[int], temperature: float
    ) -> Generator[Piece, None, list[str]]:
        texts = [""] * len(rows)
        for at, words in self._decoded(
            session.write_freely(self.vlm.tokenizer.eos, rngs, temperature, FREE_TEXT), len(rows)
        ):
            words = words if texts[at] else words.lstrip()
            texts[at] += words
            yield Piece(rows[at], words)
        return [text.rstrip() for text in texts]

    def _reasoned(
        self, subjects: list[Subject], rows: list[int], decide: str, manner: Style
    ) -> Generator[Piece, None, list[Explanation]]:
        sheets = [subject.sheet for subject in subjects]
        again = str(manner.variation) if manner.variation else ""
        session, rngs = self._begin(subjects), [_seeded(subject, again) for subject in subjects]
        texts = [""] * len(rows)

        def planned(write: Callable[..., Node], *told: Sequence[Any]) -> list[Node]:
            """A choice of plans per face."""
            return [
                choice(*(write(*given, random.Random(_seed(subject, f"{again}/{n}"))) for n in range(PLANS)))
                for subject, *given in zip(subjects, *told, strict=True)
            ]

        def section(number: int, nodes: list[Node]) -> Iterator[Piece]:
            head = ("\n" if number else "") + HEADINGS[number] + ":"
            for at, row in enumerate(rows):
                texts[at] += head
                yield Piece(row, head)
            for at, words in self._write(session, nodes, rngs, manner.temperature):
                texts[at] += words
                yield Piece(rows[at], words)

        session.read([self.script.observations] * len(rows))
        yield from section(0, planned(writer.observations, sheets))
        verdicts = self.read_verdicts(session, sheets)
        shown = []
        for sheet, own in zip(sheets, verdicts, strict=True):
            mixed = combine(sheet.probabilities, own.probabilities, decide, self.vlm.spec.verdict.get("weight", 0.5))
            shown.append(dataclasses.replace(sheet, probabilities=mixed))
        session.read([f" {own.label}{self.script.disclosure(s)}{self.script.interpretation}"
                      for own, s in zip(verdicts, shown, strict=True)])  # fmt: skip
        yield from section(1, planned(writer.interpretation, shown, verdicts))
        session.read([self.script.conclusion] * len(rows))
        yield from section(2, planned(writer.conclusion, shown, verdicts))
        return [
            Explanation.of(text, seen, self.name, reasoned=own, agreement=own.label == sheet.label)
            for text, seen, own, sheet in zip(texts, shown, verdicts, sheets, strict=True)
        ]

    def read_verdicts(self, session: Session, sheets: Sequence[Sheet]) -> list[Reasoned]:
        """The model's own distribution over the asked labels, calibrated as on held-out faces."""
        session.read([self.script.verdict] * len(sheets))
        labels = sheets[0].labels
        if any(sheet.labels != labels for sheet in sheets):
            raise EmoreasonError("faces of one batch have to be asked for the same labels")
        spec = self.vlm.spec
        scores = session.score(labels)  # (B, L)
        if all(label in spec.prior for label in labels):  # other labels have no known prior
            prior = torch.tensor([spec.prior[label] for label in labels], device=scores.device)
            scores = scores - spec.verdict.get("prior_strength", 0.0) * prior.clamp(min=1e-6).log()
        scores = scores / spec.verdict.get("temperature", 1.0)
        return [Reasoned(dict(zip(labels, row.tolist(), strict=True))) for row in scores.softmax(dim=1)]

    def verdicts(self, subjects: Sequence[Subject]) -> list[Reasoned]:
        """The verdict alone, without a word before it: quick, for tests and ablations."""
        return self.read_verdicts(self._begin(subjects), [subject.sheet for subject in subjects])

    def _begin(self, subjects: Sequence[Subject]) -> Session:
        session = Session(self.vlm, len(subjects))
        visual = list(self.vlm.see([subject.crop for subject in subjects])) if self.picture else [None] * len(subjects)
        told = self.units and self.vlm.spec.sheet
        session.read([self.script.measured_units(s.sheet) if told else "" for s in subjects], visual)
        return session

    def _write(
        self, session: Session, nodes: list[Node], rngs: list[torch.Generator], temperature: float | None
    ) -> Iterator[tuple[int, str]]:
        """(row, new text) of one section, under the grammar or free; the tokens of a character are given together."""
        warmth = self.temperature if temperature is None else temperature
        if self.constrained:
            walks = [Walk(node, self.atoms, self.line) for node in nodes]
            tokens = session.write(walks, rngs, warmth)
        else:
            tokens = session.write_freely(self.line, rngs, warmth, FREE_TOKENS)
        yield from self._decoded(tokens, len(nodes))

    def _decoded(self, tokens: Iterator[tuple[int, int]], n: int) -> Iterator[tuple[int, str]]:
        written: list[list[int]] = [[] for _ in range(n)]
        given = [""] * n
        for row, token in tokens:
            written[row].append(token)
            text = self.vlm.tokenizer.decode(written[row])
            if not text.endswith("\ufffd"):
                yield row, text[len(given[row]) :]
                given[row] = text

    def answer(self, questions: Sequence[Question], manner: Style = Style()) -> Generator[Piece, None, list[str]]:
        """Follow-up questions: understood by rules and examples, answered inside the evidence."""
        again = str(manner.variation) if manner.variation else ""
        if self.vlm.spec.form == "free":
            return (yield from self._answer_freely(questions, again, manner))
        nodes = []
        for asked in questions:
            meant = understand(asked.text, asked.sheet.labels, faces=2 if asked.other else 1)
            nodes.append(answer_grammar(meant, asked.sheet, asked.reasoned, asked.beside))
        session = self._begin([asked.about for asked in questions])
        session.read([self._told(asked) for asked in questions])
        texts = [""] * len(nodes)
        rngs = [_seeded(asked.about, asked.text + again) for asked in questions]
        for row, words in self._write(session, nodes, rngs, manner.temperature):
            words = words if texts[row] else words.lstrip()
            texts[row] += words
            yield Piece(row, words)
        return texts

    def _answer_freely(
        self, questions: Sequence[Question], again: str, manner: Style
    ) -> Generator[Piece, None, list[str]]:
        """As it was learned; but what the policy answers, and what is beside a face that was not read, stays ours."""
        texts = [""] * len(questions)
        own: list[int] = []
        for i, asked in enumerate(questions):
            meant = understand(asked.text, asked.sheet.labels, faces=2 if asked.other else 1)
            if meant.kind in POLICY_KINDS or asked.sheet.abstained or asked.other:
                grammar = answer_grammar(meant, asked.sheet, asked.reasoned, asked.beside)
                texts[i] = sample(grammar, random.Random(_seed(asked.about, asked.text + again)))
                yield Piece(i, texts[i])
            else:
                own.append(i)
        if own:
            session = self._begin([questions[i].about for i in own])
            session.read([self._said_freely(questions[i]) for i in own])
            rngs = [_seeded(questions[i].about, questions[i].text + again) for i in own]
            written = yield from self._free_texts(session, rngs, own, manner.temperature or 0.0)
            for i, text in zip(own, written, strict=True):
                texts[i] = text
        return texts

    def _said_freely(self, question: Question) -> str:
        first = [Turn(self.vlm.spec.question, question.explanation.text)] if question.explanation else []
        past = "".join(f"{self.script.turn(turn.question)} {turn.answer}" for turn in (*first, *question.history[-3:]))
        return past + self.script.turn(question.text)

    def _told(self, question: Question) -> str:
        """The conversation so far, as it would stand in a training text, and the question."""
        script, sheet = self.script, question.sheet
        told = f"{script.observations} " if question.explanation else ""
        if question.explanation and (sections := question.explanation.sections):
            verdict = f"{script.verdict} {question.reasoned.label}" if question.reasoned else ""
            told = (f"{script.observations} {sections.observations}{verdict}{script.disclosure(sheet)}"
                    f"{script.interpretation} {sections.interpretation}"
                    f"{script.conclusion} {sections.conclusion}")  # fmt: skip
        past = "".join(f"{script.turn(turn.question)} {turn.answer}" for turn in question.history[-3:])
        return told + past + script.turn(question.text, question.beside)


def _seed(subject: Subject, more: str = "") -> int:
    """The same face gets the same words again, another face others.

    Of the picture and not of what was measured on it: measured in a batch, the last digits are others."""
    return zlib.crc32(more.encode(), zlib.crc32(subject.crop.tobytes()))


def _seeded(subject: Subject, more: str = "") -> torch.Generator:
    return torch.Generator().manual_seed(_seed(subject, more))
