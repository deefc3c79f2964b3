"""Uses a general chat model as explainer: the three steps of our own explainer as a conversation, with the same checks.

(1) The model sees the movements but no label and writes the observations. (2) It gives its own distribution over the
labels, or one label. (3) It sees the distribution that decides and writes interpretation and conclusion. A text that
fails the checks goes back once with a list of its problems, at the step that failed: observations are repaired before
the model has seen a label.
"""

import dataclasses
import random
import re
import zlib
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from math import exp
from typing import Protocol

from PIL import Image

from emoreason.core.messages import Message
from emoreason.explain.backends import chat_prompts
from emoreason.explain.backends.chat_sections import SectionStream, one_line, without_thoughts
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.explanations import check
from emoreason.explain.explanation import Explanation, Piece, Question, Style, Subject, Turn, check_decide, combine
from emoreason.explain.questions.answers import answer as answer_grammar
from emoreason.explain.questions.understand import POLICY_KINDS, understand
from emoreason.explain.read.sections import HEADINGS, Sections, stated_label
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write import writer
from emoreason.explain.write.grammar import sample

BUILT_IN_KINDS = (*POLICY_KINDS, "method", "other")  # questions that always get the built-in answer
REMEMBERED = 3  # earlier questions that the model sees again
VARIED = 0.7  # temperature for another wording, if the style sets none


class Chat(Protocol):
    """A chat model, local or on a server."""

    sees: bool  # whether it gets the pictures

    def complete(
        self, messages: Sequence[Message], images: Sequence[Image.Image] = (), style: Style = Style()
    ) -> Iterator[str]:
        """Yields the answer as it is written. Closing the iterator stops the model."""
        ...

    def score(
        self, messages: Sequence[Message], images: Sequence[Image.Image], options: Sequence[str]
    ) -> list[float] | None:
        """Log-probability of each option as the answer; None if the model gives no probabilities."""
        ...


class ChatExplainer:
    """Explains with a Chat and checks its texts. `counts` counts repairs, failed checks and built-in answers."""

    def __init__(self, chat: Chat, name: str, weight: float = 0.5):
        """weight: weight of the model's verdict in `--decide both`. It is not fitted for a general model."""
        self.chat, self.name, self.weight = chat, name, weight
        self.counts: Counter[str] = Counter()

    visual_tokens = 0  # unknown: it depends on the model's processor

    def count_tokens(self, text: str) -> int:
        """Number of tokens by the model's tokenizer; for a server, the number of words and punctuation marks."""
        if (tokenizer := getattr(self.chat, "tokenizer", None)) is not None:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])
        return len(re.findall(r"\w+|[^\w\s]", text))

    def explain(
        self, subjects: Sequence[Subject], decide: str = "evidence", style: Style = Style()
    ) -> Generator[Piece, None, list[Explanation]]:
        check_decide(decide)
        explanations = []
        for row, subject in enumerate(subjects):
            if subject.sheet.abstained or not subject.sheet.units:  # without measurements the text must claim nothing
                text = writer.abstention(subject.sheet)
                yield Piece(row, text)
                explanations.append(Explanation.of(text, subject.sheet, self.name))
            else:
                explanations.append((yield from self._explain(row, subject, decide, _with_temperature(style))))
        return explanations

    def _explain(self, row: int, subject: Subject, decide: str, style: Style) -> Generator[Piece, None, Explanation]:
        """Explain one face. A repaired section is yielded again on new lines; the result holds only the last text."""
        sheet, images = subject.sheet, self._pictures(subject)
        self.counts["faces"] += 1
        repaired = False
        messages = [chat_prompts.system(), chat_prompts.user(chat_prompts.first_step(sheet, bool(images)))]
        observations = yield from self._section(row, messages, images, HEADINGS[:1], style)
        if problems := observation_problems(observations, sheet):
            repaired = True
            request = [*messages, chat_prompts.assistant(_body(observations)),
                       chat_prompts.user(chat_prompts.repair(problems))]  # fmt: skip
            yield Piece(row, "\n")
            observations = yield from self._section(row, request, images, HEADINGS[:1], style)
        messages.append(chat_prompts.assistant(_body(observations)))
        verdict, is_distribution = self._verdict(messages, images, sheet.labels)
        decided = self._decided_sheet(sheet, verdict, is_distribution, decide)
        if verdict:
            messages += [
                chat_prompts.user(chat_prompts.verdict_step(sheet.labels)),
                chat_prompts.assistant(verdict.label),
            ]
        messages.append(chat_prompts.user(chat_prompts.last_step(decided, verdict)))
        yield Piece(row, "\n")
        rest = yield from self._section(row, messages, images, HEADINGS[1:], style)
        problems = check(f"{observations}\n{rest}", decided).problems()
        if problems and not repaired:
            repaired = True
            messages += [chat_prompts.assistant(rest), chat_prompts.user(chat_prompts.repair(problems))]
            yield Piece(row, "\n")
            rest = yield from self._section(row, messages, images, HEADINGS[1:], style)
        agreement = verdict.label == sheet.label if verdict else None
        explanation = Explanation.of(f"{observations}\n{rest}", decided, self.name, reasoned=verdict,
                                     agreement=agreement, repaired=repaired)  # fmt: skip
        self.counts["repair asked"] += repaired
        self.counts["flagged"] += not explanation.checks.ok
        return explanation

    def _section(
        self, row: int, messages: list[Message], images: list[Image.Image], headings: Sequence[str], style: Style
    ) -> Generator[Piece, None, str]:
        text, stream = f"{headings[0]}:", SectionStream(headings)
        yield Piece(row, text)
        for piece in without_thoughts(self.chat.complete(messages, images, style)):
            if ready := stream.feed(piece):
                text += ready
                yield Piece(row, ready)
        if ready := stream.close():
            text += ready
            yield Piece(row, ready)
        return text

    def _verdict(
        self, messages: list[Message], images: list[Image.Image], labels: Sequence[str]
    ) -> tuple[Reasoned | None, bool]:
        """The model's own verdict, and whether it is a distribution.

        If the model gives no probabilities, a single label counts as 100%; any other answer is no verdict."""
        request = [*messages, chat_prompts.user(chat_prompts.verdict_step(labels))]
        scores = self.chat.score(request, images, labels)
        if scores is not None:
            highest = max(scores)
            masses = [exp(score - highest) for score in scores]
            return Reasoned({k: mass / sum(masses) for k, mass in zip(labels, masses, strict=True)}), True
        answer = one_line("".join(without_thoughts(self.chat.complete(request, images))))
        word = next((k for k in labels if k.casefold() == answer.strip(" .!\"'").casefold()), None)
        word = word or stated_label(answer, labels)
        if word is None:
            self.counts["verdict not readable"] += 1
            return None, False
        self.counts["verdict without probabilities"] += 1
        return Reasoned({k: float(k == word) for k in labels}), False

    def _decided_sheet(self, sheet: Sheet, verdict: Reasoned | None, is_distribution: bool, decide: str) -> Sheet:
        """The sheet with the distribution that decides.

        With `both`, a verdict without probabilities cannot be multiplied in, so the evidence decides alone."""
        if decide == "evidence" or verdict is None or (decide == "both" and not is_distribution):
            return sheet
        combined = combine(sheet.probabilities, verdict.probabilities, decide, self.weight)
        return dataclasses.replace(sheet, probabilities=combined, calibrated=False)

    def answer(self, questions: Sequence[Question], style: Style = Style()) -> Generator[Piece, None, list[str]]:
        """Answer follow-up questions. Each answer comes as one piece, because it is checked first.

        Policy questions get the built-in answer. So does a question whose answer still contradicts the evidence after
        one repair.
        """
        texts = []
        for row, question in enumerate(questions):
            texts.append(self._answer(question, _with_temperature(style)))
            yield Piece(row, texts[-1])
        return texts

    def _answer(self, question: Question, style: Style) -> str:
        sheet, verdict, second_sheet = question.sheet, question.reasoned, question.beside
        intent = understand(question.text, sheet.labels)
        self.counts["questions"] += 1
        if intent.kind not in BUILT_IN_KINDS and not sheet.abstained:
            subjects = (question.about, question.other) if question.other else (question.about,)
            images = [picture for subject in subjects for picture in self._pictures(subject)]
            messages = _conversation(question)
            for attempt in range(2):
                text = one_line("".join(without_thoughts(self.chat.complete(messages, images, style))))
                problems = check_answer(text, intent, sheet, second_sheet, verdict)
                if not problems:
                    return text
                self.counts["answer repair asked"] += not attempt
                messages += [chat_prompts.assistant(text), chat_prompts.user(chat_prompts.repair(problems))]
            self.counts["built-in answers"] += 1
        rng = random.Random(
            zlib.crc32(f"{question.text}/{sorted(sheet.units.items())}{style.variation or ''}".encode())
        )
        return sample(answer_grammar(intent, sheet, verdict, second_sheet), rng)

    def _pictures(self, subject: Subject) -> list[Image.Image]:
        return [subject.crop] if self.chat.sees else []


def _with_temperature(style: Style) -> Style:
    """The style with a temperature if another wording is wanted: at temperature 0 the wording would not change."""
    if style.temperature is None and style.variation:
        return dataclasses.replace(style, temperature=VARIED)
    return style


def _conversation(question: Question) -> list[Message]:
    facts = chat_prompts.facts(question.sheet, question.reasoned, question.beside)
    turns = [Turn(chat_prompts.words("told"), question.explanation.text)] if question.explanation else []
    messages = [chat_prompts.system()]
    for turn in (*turns, *question.history[-REMEMBERED:]):
        messages += [chat_prompts.user(turn.question), chat_prompts.assistant(turn.answer)]
    messages.append(chat_prompts.user(chat_prompts.question(question.text, question.sheet)))
    messages[1] = chat_prompts.user(f"{facts}\n\n{messages[1].content}")
    return messages


def observation_problems(observations: str, sheet: Sheet) -> list[str]:
    """The problems of the observations alone, before the other two sections exist."""
    checks = check(Sections(_body(observations), "It fits.", sheet.label).text(), sheet)
    return dataclasses.replace(checks, stated=checks.label).problems()


def _body(section: str) -> str:
    return section.removeprefix(f"{HEADINGS[0]}:").strip()
