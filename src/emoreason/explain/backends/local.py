"""The explainer of emoreason's own models. It works in three steps that stream as one text.

(a) The model sees picture and movements but no label and writes the observations. (b) Its own distribution over the
labels is read at that point. (c) It sees the distribution that decides and writes interpretation and conclusion.
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

FREE_TOKENS = 120  # limit per section without a grammar: twice the usual length
FREE_TEXT = 320  # token limit of a whole free-form text
VARIED_FREE = 0.7  # temperature for another wording without a grammar: higher ones cost accuracy
VARIED = 2.0  # temperature under a grammar: every choice is true there, so variety costs no accuracy
GREEDY = 0.0
PLANS = 3  # sentence plans that the model chooses from


class LocalExplainer:
    """Explains with a VisionLanguageModel that is constrained to the grammar of prompts/*.yaml."""

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
        """picture, units: set one to False to withhold it from the model, for ablations."""
        self.vlm, self.name, self.constrained = vlm, name, constrained
        default = VARIED if constrained else GREEDY
        self.temperature = default if temperature is None else temperature
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
        self, subjects: Sequence[Subject], decide: str = "evidence", style: Style = Style()
    ) -> Generator[Piece, None, list[Explanation]]:
        is_free = self.vlm.spec.form == "free"  # such a model may have learned to write from the picture alone
        results: dict[int, Explanation] = {}
        rows = []
        for i, subject in enumerate(subjects):
            if not subject.sheet.abstained and (subject.sheet.units or is_free):
                rows.append(i)
            else:  # without measurements the text must claim nothing, so there is nothing to reason about
                text = writer.abstention(subject.sheet)
                yield Piece(i, text)
                results[i] = Explanation.of(text, subject.sheet, self.name)
        if rows:
            write = self._freely if is_free else self._reasoned
            explanations = yield from write([subjects[i] for i in rows], rows, decide, style)
            results |= dict(zip(rows, explanations, strict=True))
        return [results[i] for i in range(len(subjects))]

    def _freely(
        self, subjects: list[Subject], rows: list[int], decide: str, style: Style
    ) -> Generator[Piece, None, list[Explanation]]:
        """Write texts in the form that the model learned, without sections and without reading a verdict."""
        if decide != "evidence":
            raise UsageError(f"--decide {decide}: {self.name} writes free-form texts and has no verdict; use evidence")
        variant = str(style.variation) if style.variation else ""
        session, rngs = self._begin(subjects), [_seeded(subject, variant) for subject in subjects]
        session.read([self.script.turn(self.vlm.spec.question)] * len(rows))
        texts = yield from self._free_texts(session, rngs, rows, style.temperature or (VARIED_FREE if variant else 0.0))
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
        self, subjects: list[Subject], rows: list[int], decide: str, style: Style
    ) -> Generator[Piece, None, list[Explanation]]:
        sheets = [subject.sheet for subject in subjects]
        variant = str(style.variation) if style.variation else ""
        session, rngs = self._begin(subjects), [_seeded(subject, variant) for subject in subjects]
        texts = [""] * len(rows)

        def planned(write: Callable[..., Node], *arguments: Sequence[Any]) -> list[Node]:
            """For each face, a choice of PLANS grammars; `arguments` holds one value per face."""
            return [
                choice(*(write(*values, random.Random(_seed(subject, f"{variant}/{n}"))) for n in range(PLANS)))
                for subject, *values in zip(subjects, *arguments, strict=True)
            ]

        def section(number: int, nodes: list[Node]) -> Iterator[Piece]:
            head = ("\n" if number else "") + HEADINGS[number] + ":"
            for at, row in enumerate(rows):
                texts[at] += head
                yield Piece(row, head)
            for at, words in self._write(session, nodes, rngs, style.temperature):
                texts[at] += words
                yield Piece(rows[at], words)

        session.read([self.script.observations] * len(rows))
        yield from section(0, planned(writer.observations, sheets))
        verdicts = self.read_verdicts(session, sheets)
        decided = []
        for sheet, verdict in zip(sheets, verdicts, strict=True):
            weight = self.vlm.spec.verdict.get("weight", 0.5)
            combined = combine(sheet.probabilities, verdict.probabilities, decide, weight)
            decided.append(dataclasses.replace(sheet, probabilities=combined))
        session.read([f" {verdict.label}{self.script.disclosure(sheet)}{self.script.interpretation}"
                      for verdict, sheet in zip(verdicts, decided, strict=True)])  # fmt: skip
        yield from section(1, planned(writer.interpretation, decided, verdicts))
        for at, row in enumerate(rows):
            if said := writer.notes(sheets[at]):
                texts[at] += said
                yield Piece(row, said)
        session.read([self.script.conclusion] * len(rows))
        yield from section(2, planned(writer.conclusion, decided, verdicts))
        return [
            Explanation.of(text, shown, self.name, reasoned=verdict, agreement=verdict.label == sheet.label)
            for text, shown, verdict, sheet in zip(texts, decided, verdicts, sheets, strict=True)
        ]

    def read_verdicts(self, session: Session, sheets: Sequence[Sheet]) -> list[Reasoned]:
        """The model's own distribution over the labels, with the calibration that was fitted on held-out faces."""
        session.read([self.script.verdict] * len(sheets))
        labels = sheets[0].labels
        if any(sheet.labels != labels for sheet in sheets):
            raise EmoreasonError("all faces of a batch must have the same labels")
        spec = self.vlm.spec
        scores = session.score(labels)  # (B, L)
        if all(label in spec.prior for label in labels):  # the prior is only known for these labels
            prior = torch.tensor([spec.prior[label] for label in labels], device=scores.device)
            scores = scores - spec.verdict.get("prior_strength", 0.0) * prior.clamp(min=1e-6).log()
        scores = scores / spec.verdict.get("temperature", 1.0)
        return [Reasoned(dict(zip(labels, row.tolist(), strict=True))) for row in scores.softmax(dim=1)]

    def verdicts(self, subjects: Sequence[Subject]) -> list[Reasoned]:
        """Read only the verdicts, without writing observations first: fast, for tests and ablations."""
        return self.read_verdicts(self._begin(subjects), [subject.sheet for subject in subjects])

    def _begin(self, subjects: Sequence[Subject]) -> Session:
        session = Session(self.vlm, len(subjects))
        visual = list(self.vlm.see([subject.crop for subject in subjects])) if self.picture else [None] * len(subjects)
        shows_units = self.units and self.vlm.spec.sheet
        session.read([self.script.measured_units(s.sheet) if shows_units else "" for s in subjects], visual)
        return session

    def _write(
        self, session: Session, nodes: list[Node], rngs: list[torch.Generator], temperature: float | None
    ) -> Iterator[tuple[int, str]]:
        """Write one section with or without the grammar; yields (row, new text), never half a character."""
        temperature = self.temperature if temperature is None else temperature
        if self.constrained:
            walks = [Walk(node, self.atoms, self.line) for node in nodes]
            tokens = session.write(walks, rngs, temperature)
        else:
            tokens = session.write_freely(self.line, rngs, temperature, FREE_TOKENS)
        yield from self._decoded(tokens, len(nodes))

    def _decoded(self, tokens: Iterator[tuple[int, int]], n: int) -> Iterator[tuple[int, str]]:
        written: list[list[int]] = [[] for _ in range(n)]
        sent = [""] * n
        for row, token in tokens:
            written[row].append(token)
            text = self.vlm.tokenizer.decode(written[row])
            if not text.endswith("\ufffd"):  # the character is complete
                yield row, text[len(sent[row]) :]
                sent[row] = text

    def answer(self, questions: Sequence[Question], style: Style = Style()) -> Generator[Piece, None, list[str]]:
        """Answer follow-up questions: classify each, then write under a grammar of answers that match the evidence."""
        variant = str(style.variation) if style.variation else ""
        if self.vlm.spec.form == "free":
            return (yield from self._answer_freely(questions, variant, style))
        nodes = []
        for question in questions:
            intent = understand(question.text, question.sheet.labels)
            nodes.append(answer_grammar(intent, question.sheet, question.reasoned, question.beside))
        session = self._begin([question.about for question in questions])
        session.read([self._prompt(question) for question in questions])
        texts = [""] * len(nodes)
        rngs = [_seeded(question.about, question.text + variant) for question in questions]
        for row, words in self._write(session, nodes, rngs, style.temperature):
            words = words if texts[row] else words.lstrip()
            texts[row] += words
            yield Piece(row, words)
        return texts

    def _answer_freely(
        self, questions: Sequence[Question], variant: str, style: Style
    ) -> Generator[Piece, None, list[str]]:
        """Answer in the form that the model learned.

        Policy questions, faces without a reading and comparisons get the built-in answer."""
        texts = [""] * len(questions)
        rows: list[int] = []
        for i, question in enumerate(questions):
            intent = understand(question.text, question.sheet.labels)
            if intent.kind in POLICY_KINDS or question.sheet.abstained or question.other:
                grammar = answer_grammar(intent, question.sheet, question.reasoned, question.beside)
                texts[i] = sample(grammar, random.Random(_seed(question.about, question.text + variant)))
                yield Piece(i, texts[i])
            else:
                rows.append(i)
        if rows:
            session = self._begin([questions[i].about for i in rows])
            session.read([self._free_prompt(questions[i]) for i in rows])
            rngs = [_seeded(questions[i].about, questions[i].text + variant) for i in rows]
            written = yield from self._free_texts(session, rngs, rows, style.temperature or 0.0)
            for i, text in zip(rows, written, strict=True):
                texts[i] = text
        return texts

    def _free_prompt(self, question: Question) -> str:
        first = [Turn(self.vlm.spec.question, question.explanation.text)] if question.explanation else []
        past = "".join(f"{self.script.turn(turn.question)} {turn.answer}" for turn in (*first, *question.history[-3:]))
        return past + self.script.turn(question.text)

    def _prompt(self, question: Question) -> str:
        """The conversation so far and the question, in the format of the training texts."""
        script, sheet = self.script, question.sheet
        explained = f"{script.observations} " if question.explanation else ""
        if question.explanation and (sections := question.explanation.sections):
            verdict = f"{script.verdict} {question.reasoned.label}" if question.reasoned else ""
            explained = (f"{script.observations} {sections.observations}{verdict}{script.disclosure(sheet)}"
                    f"{script.interpretation} {sections.interpretation}"
                    f"{script.conclusion} {sections.conclusion}")  # fmt: skip
        past = "".join(f"{script.turn(turn.question)} {turn.answer}" for turn in question.history[-3:])
        return explained + past + script.turn(question.text, question.beside)


def _seed(subject: Subject, more: str = "") -> int:
    """A seed per face, so that the same face gets the same text again.

    It is computed from the picture, because the last digits of measurements vary with the batch."""
    return zlib.crc32(more.encode(), zlib.crc32(subject.crop.tobytes()))


def _seeded(subject: Subject, more: str = "") -> torch.Generator:
    return torch.Generator().manual_seed(_seed(subject, more))
