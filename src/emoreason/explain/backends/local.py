"""The explainer of emoreason's own models. Its language model writes freely, and every text is checked.

(a) The model sees picture and movements but no label and writes what is seen. (b) Its own distribution over the labels
is read at that point. (c) It sees the distribution that decides, and writes the reading and how well the movements fit.
"""

import dataclasses
import random
from collections.abc import Callable, Generator, Sequence

import torch

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.explain.backends.decoding import Session
from emoreason.explain.backends.drafts import Draft, Judge
from emoreason.explain.backends.parts import TURNS, Part, built_in, numbers, seed, temperature, unread, worst
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.explanations import MODEL, reading_problems, seen_problems, weighing_problems
from emoreason.explain.explanation import Answer, Explanation, Piece, Question, Style, Subject, combine
from emoreason.explain.prompts import load_prompts
from emoreason.explain.read.sections import Sections
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write.answers import answer as written_answer
from emoreason.models.vlm import VisionLanguageModel

FREE_TEXT = 320  # token limit of a whole free-form text


class LocalExplainer:
    """Explains with a VisionLanguageModel."""

    def __init__(
        self,
        vlm: VisionLanguageModel,
        name: str,
        *,
        checked: bool = True,
        picture: bool = True,
        units: bool = True,
    ):
        """checked=False shows the first texts as they are, for measurements; picture, units: set one to False to
        withhold it from the model, for ablations."""
        self.vlm, self.name, self.checked = vlm, name, checked
        self.picture, self.units = picture, units
        self.script = load_prompts()
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
            if subject.sheet.units or (is_free and not subject.sheet.abstained):
                rows.append(i)
            else:  # a face that could not be read: there is nothing to write about
                results[i] = unread(subject.sheet, self.name)
                yield Piece(i, results[i].short)
        if rows:
            write_all = self._freely if is_free else self._explained
            explanations = yield from write_all([subjects[i] for i in rows], rows, decide, style)
            results |= dict(zip(rows, explanations, strict=True))
        return [results[i] for i in range(len(subjects))]

    def _explained(
        self, subjects: list[Subject], rows: list[int], decide: str, style: Style
    ) -> Generator[Piece, None, list[Explanation]]:
        sheets = [subject.sheet for subject in subjects]
        draft = self._draft(subjects, style)
        heat = temperature(style)
        draft.read([self._movements(sheet) + self.script.seen for sheet in sheets])
        judge = self._judge(seen_problems, sheets)
        seen = yield from _ticking(draft.write(judge, lambda i: built_in(subjects[i], None).seen, heat), rows)
        draft.read([self.script.verdict] * len(rows))
        verdicts = self._verdicts(draft.session, sheets)
        decided = [self._decided(sheet, verdict, decide) for sheet, verdict in zip(sheets, verdicts, strict=True)]
        draft.read([f" {verdict.label}{self.script.disclosure(sheet)}{self.script.reading}"
                    for verdict, sheet in zip(verdicts, decided, strict=True)])  # fmt: skip
        told = [Subject(sheet, subject.crop) for sheet, subject in zip(decided, subjects, strict=True)]
        fallbacks = [built_in(subject, verdict) for subject, verdict in zip(told, verdicts, strict=True)]
        judge = self._judge(reading_problems, decided)
        reading = yield from _ticking(draft.write(judge, lambda i: fallbacks[i].reading, heat), rows)
        for i, row in enumerate(rows):
            yield Piece(row, f"{reading[i].text} {seen[i].text}")
        if self.vlm.spec.weighs:
            draft.read([self.script.weighing] * len(rows))
            judge = self._judge(weighing_problems, decided)
            weighing = yield from _ticking(draft.write(judge, lambda i: fallbacks[i].weighing, heat), rows)
        else:
            weighing = [Part(fallback.weighing, MODEL) for fallback in fallbacks]
        results = []
        for i, row in enumerate(rows):
            yield Piece(row, f" {weighing[i].text}")
            parts = (seen[i], weighing[i], reading[i])
            text = Sections(*(part.text for part in parts)).text()
            agreement = verdicts[i].label == sheets[i].label
            results.append(Explanation.of(text, decided[i], self.name, worst(parts), reasoned=verdicts[i],
                                          agreement=agreement))  # fmt: skip
        return results

    def _judge(self, problems: Callable[[str, Sheet], list[str]], sheets: Sequence[Sheet]) -> Judge:
        if not self.checked:
            return lambda row, text: []
        return lambda row, text: problems(text, sheets[row])

    def _decided(self, sheet: Sheet, verdict: Reasoned, decide: str) -> Sheet:
        weight = self.vlm.spec.verdict.get("weight", 0.5)
        combined = combine(sheet.probabilities, verdict.probabilities, decide, weight)
        return dataclasses.replace(sheet, probabilities=combined)

    def _draft(self, subjects: Sequence[Subject], style: Style) -> Draft:
        variant = str(style.variation) if style.variation else ""
        return Draft(self.vlm, self._visual(subjects), [seed(subject, variant) for subject in subjects], self.line)

    def _visual(self, subjects: Sequence[Subject]) -> list[torch.Tensor | None]:
        return list(self.vlm.see([subject.crop for subject in subjects])) if self.picture else [None] * len(subjects)

    def _movements(self, sheet: Sheet) -> str:
        return self.script.measured(sheet) if self.units and self.vlm.spec.sheet else ""

    # ---- the verdict -------------------------------------------------------------------------------------------------

    def _verdicts(self, session: Session, sheets: Sequence[Sheet]) -> list[Reasoned]:
        """The model's own distribution over the labels, with the calibration that was fitted on held-out faces."""
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
        """Read only the verdicts, without writing what is seen first: fast, for tests and ablations."""
        session = Session(self.vlm, len(subjects))
        prompts = [self._movements(subject.sheet) + self.script.verdict for subject in subjects]
        session.read(prompts, self._visual(subjects))
        return self._verdicts(session, [subject.sheet for subject in subjects])

    # ---- answers -----------------------------------------------------------------------------------------------------

    def answer(self, questions: Sequence[Question], style: Style = Style()) -> Generator[Piece, None, list[Answer]]:
        """Answer questions about the faces in view. Each answer comes when it has passed the checks."""
        subjects = [Subject(question.faces[question.focus].sheet, question.crop) for question in questions]
        variant = str(style.variation) if style.variation else ""
        seeds = [seed(subject, question.text + variant) for subject, question in zip(subjects, questions, strict=True)]
        free = self.vlm.spec.form == "free"
        end = self.vlm.tokenizer.eos if free else self.line
        draft = Draft(self.vlm, self._visual(subjects), seeds, end)
        draft.read([self._free_prompt(q) if free else self._prompt(q) for q in questions])

        def judge(row: int, text: str) -> list[str]:
            question = questions[row]
            return check_answer(text, question.text, question.view) if self.checked else []

        def fallback(row: int) -> str:
            return written_answer(questions[row].text, questions[row].view, random.Random(seeds[row]))

        parts = yield from _ticking(draft.write(judge, fallback, temperature(style)), range(len(questions)))
        for row, part in enumerate(parts):
            yield Piece(row, part.text)
        return [Answer(part.text, part.route) for part in parts]

    def _prompt(self, question: Question) -> str:
        """The faces in view, the explanation, the last turns and the question, in the format of the training texts."""
        script, faces = self.script, question.faces
        prompt = script.faces(faces, question.focus)
        if question.explanation is not None:
            prompt += script.explained.format(text=" ".join(question.explanation.short.split()))
        for turn in question.history[-TURNS:]:
            prompt += f"{script.turn(turn.question, numbers(question, turn.about), len(faces))} {turn.answer}"
        return prompt + script.turn(question.text, numbers(question, question.about), len(faces))

    # ---- models trained on texts of any form -------------------------------------------------------------------------

    def _freely(
        self, subjects: list[Subject], rows: list[int], decide: str, style: Style
    ) -> Generator[Piece, None, list[Explanation]]:
        """Write texts in the form that the model learned, without sections and without reading a verdict."""
        if decide != "evidence":
            raise UsageError(f"--decide {decide}: {self.name} writes free-form texts and has no verdict; use evidence")
        draft = self._draft(subjects, style)
        draft.end, draft.most_tokens = self.vlm.tokenizer.eos, FREE_TEXT
        question = self.script.turn(self.vlm.spec.question)
        draft.read([self._movements(subject.sheet) + question for subject in subjects])
        writing = draft.write(lambda row, text: [], lambda row: "", temperature(style))
        parts = yield from _ticking(writing, rows)
        for row, part in zip(rows, parts, strict=True):
            yield Piece(row, part.text)
        return [Explanation.of(part.text, subject.sheet, self.name, free=True)
                for part, subject in zip(parts, subjects, strict=True)]  # fmt: skip

    def _free_prompt(self, question: Question) -> str:
        prompt = self._movements(question.faces[question.focus].sheet)
        if question.explanation is not None:
            prompt += f"{self.script.turn(self.vlm.spec.question)} {question.explanation.text}"
        for turn in question.history[-TURNS:]:
            prompt += f"{self.script.turn(turn.question)} {turn.answer}"
        return prompt + self.script.turn(question.text)


def _ticking(writing: Generator[None, None, list[Part]], rows: Sequence[int]) -> Generator[Piece, None, list[Part]]:
    """Empty pieces while nothing can be shown yet, so that whoever reads them can turn to other work or stop."""
    while True:
        try:
            next(writing)
        except StopIteration as done:
            return done.value
        yield Piece(rows[0], "")
