"""The explainer of emoreason's own models, in three steps that stream as one text.

(a) picture and movements, no label anywhere -> observations; (b) the model's distribution over the asked labels is read
right there; (c) the distribution that decides is shown -> interpretation and conclusion.
"""

import dataclasses
import zlib
from collections.abc import Generator, Iterator, Sequence

import torch

from emoreason.errors import EmoreasonError
from emoreason.explain import writer
from emoreason.explain.constrain import Atoms, Walk
from emoreason.explain.decoding import Session
from emoreason.explain.dialogue import answer as answer_grammar
from emoreason.explain.dialogue import understand
from emoreason.explain.explanation import Explanation, Piece, Subject, Turn, combine
from emoreason.explain.grammar import Node, choice
from emoreason.explain.parser import HEADINGS
from emoreason.explain.script import load_script
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.vlm import VisionLanguageModel

FREE_TOKENS = 120  # of one section without a grammar: twice what one takes
VARIED = 2.0  # under a grammar every word is a fit one, so that variety costs no truth
GREEDY = 0.0
PLANS = 3  # plans of sentences that the model chooses among


class OwnExplainer:
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
        self.script = load_script()
        self.atoms = Atoms(vlm.tokenizer.encode)
        self.line = vlm.tokenizer.encode("\n")[0]

    def explain(
        self, subjects: Sequence[Subject], decide: str = "evidence"
    ) -> Generator[Piece, None, list[Explanation]]:
        texts = ["" for _ in subjects]
        silent = [subject.sheet.abstained or not subject.sheet.units for subject in subjects]
        rows = [i for i, quiet in enumerate(silent) if not quiet]
        results: dict[int, Explanation] = {}
        for i, quiet in enumerate(silent):
            if quiet:  # nothing may be claimed, so there is nothing to reason about
                texts[i] = writer.abstention(subjects[i].sheet)
                yield Piece(i, texts[i])
                results[i] = Explanation.of(texts[i], subjects[i].sheet, self.name)
        if rows:
            written = yield from self._reasoned([subjects[i] for i in rows], rows, decide)
            results |= dict(zip(rows, written, strict=True))
        return [results[i] for i in range(len(subjects))]

    def _reasoned(
        self, subjects: list[Subject], rows: list[int], decide: str
    ) -> Generator[Piece, None, list[Explanation]]:
        sheets = [subject.sheet for subject in subjects]
        session, rngs = self._begin(subjects), [_seeded(sheet) for sheet in sheets]
        texts = [""] * len(rows)

        def section(number: int, nodes: list[Node]) -> Iterator[Piece]:
            head = ("\n" if number else "") + HEADINGS[number] + ":"
            for at, row in enumerate(rows):
                texts[at] += head
                yield Piece(row, head)
            for at, words in self._write(session, nodes, rngs):
                texts[at] += words
                yield Piece(rows[at], words)

        session.read([self.script.observations] * len(rows))
        yield from section(0, [choice(*(writer.observations(s, _plan(s, n)) for n in range(PLANS))) for s in sheets])
        verdicts = self.read_verdicts(session, sheets)
        shown = []
        for sheet, own in zip(sheets, verdicts, strict=True):
            mixed = combine(sheet.probabilities, own.probabilities, decide, self.vlm.spec.verdict.get("weight", 0.5))
            shown.append(dataclasses.replace(sheet, probabilities=mixed))
        session.read([f" {own.label}{self.script.disclosure(s)}{self.script.interpretation}"
                      for own, s in zip(verdicts, shown, strict=True)])  # fmt: skip
        pairs = list(zip(shown, verdicts, strict=True))
        yield from section(
            1, [choice(*(writer.interpretation(s, own, _plan(s, n)) for n in range(PLANS))) for s, own in pairs]
        )
        session.read([self.script.conclusion] * len(rows))
        yield from section(
            2, [choice(*(writer.conclusion(s, own, _plan(s, n)) for n in range(PLANS))) for s, own in pairs]
        )
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
        session.read([self.script.measured_units(s.sheet) if self.units else "" for s in subjects], visual)
        return session

    def _write(self, session: Session, nodes: list[Node], rngs: list[torch.Generator]) -> Iterator[tuple[int, str]]:
        """(row, new text) of one section, under the grammar or free; the tokens of a character are given together."""
        if self.constrained:
            walks = [Walk(node, self.atoms, self.line) for node in nodes]
            tokens = session.write(walks, rngs, self.temperature)
        else:
            tokens = session.write_freely(self.line, rngs, self.temperature, FREE_TOKENS)
        written: list[list[int]] = [[] for _ in nodes]
        given = [""] * len(nodes)
        for row, token in tokens:
            written[row].append(token)
            text = self.vlm.tokenizer.decode(written[row])
            if not text.endswith("\ufffd"):
                yield row, text[len(given[row]) :]
                given[row] = text

    def answer(
        self,
        question: str,
        about: Subject,
        explanation: Explanation | None = None,
        history: Sequence[Turn] = (),
        other: Subject | None = None,
    ) -> Generator[Piece, None, str]:
        """A follow-up question: understood by rules and examples, answered inside the evidence."""
        sheet = explanation.sheet if explanation else about.sheet
        own = explanation.reasoned if explanation else None
        asked = understand(question, sheet.labels, faces=2 if other else 1)
        node = answer_grammar(asked, sheet, own, other.sheet if other else None)
        session = self._begin([about])
        told = f"{self.script.observations} " if explanation else ""
        if explanation and explanation.sections:
            sections = explanation.sections
            verdict = f"{self.script.verdict} {own.label}" if own else ""
            told = (f"{self.script.observations} {sections.observations}{verdict}{self.script.disclosure(sheet)}"
                    f"{self.script.interpretation} {sections.interpretation}"
                    f"{self.script.conclusion} {sections.conclusion}")  # fmt: skip
        past = "".join(f"{self.script.turn(turn.question)} {turn.answer}" for turn in history[-3:])
        session.read([told + past + self.script.turn(question, other.sheet if other else None)])
        text = ""
        for _, words in self._write(session, [node], [_seeded(sheet, question)]):
            words = words if text else words.lstrip()
            text += words
            yield Piece(0, words)
        return text


def _plan(sheet: Sheet, number: int):
    import random

    return random.Random(_key(sheet, str(number)))


def _seeded(sheet: Sheet, more: str = "") -> torch.Generator:
    """The same face gets the same words again, another face others."""
    return torch.Generator().manual_seed(_key(sheet, more))


def _key(sheet: Sheet, more: str) -> int:
    return zlib.crc32(repr((sorted(sheet.units.items()), more)).encode())
