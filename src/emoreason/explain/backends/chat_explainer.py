"""General chat models as explainers: the three steps of the mini as a conversation, and the same checks.

(1) movements, no label anywhere -> observations; (2) its distribution over the asked labels, or the one word that
it answers with; (3) the distribution that decides is shown -> interpretation and conclusion. A text that fails is
sent back once with what is wrong, at the step that failed: observations are repaired before a label was shown.
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
from emoreason.explain.backends import chat_prompts as script
from emoreason.explain.backends.chat_sections import SectionStream, one_line, spoken
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.explanations import check
from emoreason.explain.explanation import Explanation, Piece, Question, Style, Subject, Turn, check_decide, combine
from emoreason.explain.questions.answers import answer as built_in
from emoreason.explain.questions.understand import POLICY_KINDS, understand
from emoreason.explain.read.sections import HEADINGS, Sections, stated_label
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write import writer
from emoreason.explain.write.grammar import sample

OWN_WORDS = (*POLICY_KINDS, "method", "other")  # questions that are no business of a general model
REMEMBERED = 3  # earlier questions that are told again
AGAIN = 0.7  # temperature of another wording, where none is given


class Chat(Protocol):
    """A chat model, wherever it runs."""

    sees: bool  # it is shown the pictures

    def complete(
        self, messages: Sequence[Message], images: Sequence[Image.Image] = (), manner: Style = Style()
    ) -> Iterator[str]:
        """The answer as it is written. Closing the iterator stops the model."""
        ...

    def score(
        self, messages: Sequence[Message], images: Sequence[Image.Image], options: Sequence[str]
    ) -> list[float] | None:
        """Log-probabilities of the options as the answer; None where the model does not tell."""
        ...


class ChatExplainer:
    """A Chat under the checks. `counts` says how often it had to be repaired, and what could not be."""

    def __init__(self, chat: Chat, name: str, weight: float = 0.5):
        """weight: of its verdict in `--decide both`; a general model's is fitted to nothing."""
        self.chat, self.name, self.weight = chat, name, weight
        self.counts: Counter[str] = Counter()

    visual_tokens = 0  # unknown: the processor of the model decides

    def count_tokens(self, text: str) -> int:
        """By the model's tokenizer; words and punctuation marks where a server keeps it to itself."""
        if (tokenizer := getattr(self.chat, "tokenizer", None)) is not None:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])
        return len(re.findall(r"\w+|[^\w\s]", text))

    def explain(
        self, subjects: Sequence[Subject], decide: str = "evidence", manner: Style = Style()
    ) -> Generator[Piece, None, list[Explanation]]:
        check_decide(decide)
        written = []
        for row, subject in enumerate(subjects):
            if subject.sheet.abstained or not subject.sheet.units:  # nothing may be claimed
                text = writer.abstention(subject.sheet)
                yield Piece(row, text)
                written.append(Explanation.of(text, subject.sheet, self.name))
            else:
                written.append((yield from self._explain(row, subject, decide, _warmed(manner))))
        return written

    def _explain(self, row: int, subject: Subject, decide: str, manner: Style) -> Generator[Piece, None, Explanation]:
        """A section that is repaired is given again, on lines of its own; the value holds the last text only."""
        sheet, images = subject.sheet, self._pictures(subject)
        self.counts["faces"] += 1
        repaired = False
        talk = [script.system(), script.user(script.first_step(sheet, bool(images)))]
        observations = yield from self._section(row, talk, images, HEADINGS[:1], manner)
        if problems := observation_problems(observations, sheet):
            repaired = True
            again = [*talk, script.assistant(_body(observations)), script.user(script.repair(problems))]
            yield Piece(row, "\n")
            observations = yield from self._section(row, again, images, HEADINGS[:1], manner)
        talk.append(script.assistant(_body(observations)))
        own, heard = self._verdict(talk, images, sheet.labels)
        shown = self._decided(sheet, own, heard, decide)
        if own:
            talk += [script.user(script.verdict_step(sheet.labels)), script.assistant(own.label)]
        talk.append(script.user(script.last_step(shown, own)))
        yield Piece(row, "\n")
        rest = yield from self._section(row, talk, images, HEADINGS[1:], manner)
        problems = check(f"{observations}\n{rest}", shown).problems()
        if problems and not repaired:
            repaired = True
            talk += [script.assistant(rest), script.user(script.repair(problems))]
            yield Piece(row, "\n")
            rest = yield from self._section(row, talk, images, HEADINGS[1:], manner)
        agreement = own.label == sheet.label if own else None
        made = Explanation.of(f"{observations}\n{rest}", shown, self.name, reasoned=own, agreement=agreement,
                              repaired=repaired)  # fmt: skip
        self.counts["repair asked"] += repaired
        self.counts["flagged"] += not made.checks.ok
        return made

    def _section(
        self, row: int, talk: list[Message], images: list[Image.Image], headings: Sequence[str], manner: Style
    ) -> Generator[Piece, None, str]:
        text, reader = f"{headings[0]}:", SectionStream(headings)
        yield Piece(row, text)
        for piece in spoken(self.chat.complete(talk, images, manner)):
            if ready := reader.feed(piece):
                text += ready
                yield Piece(row, ready)
        if ready := reader.close():
            text += ready
            yield Piece(row, ready)
        return text

    def _verdict(
        self, talk: list[Message], images: list[Image.Image], labels: Sequence[str]
    ) -> tuple[Reasoned | None, bool]:
        """Its reading, and whether that is a distribution. A bare word counts whole; anything else is no reading."""
        asked = [*talk, script.user(script.verdict_step(labels))]
        scores = self.chat.score(asked, images, labels)
        if scores is not None:
            highest = max(scores)
            masses = [exp(score - highest) for score in scores]
            return Reasoned({k: mass / sum(masses) for k, mass in zip(labels, masses, strict=True)}), True
        answer = one_line("".join(spoken(self.chat.complete(asked, images))))
        word = next((k for k in labels if k.casefold() == answer.strip(" .!\"'").casefold()), None)
        word = word or stated_label(answer, labels)
        if word is None:
            self.counts["verdict not readable"] += 1
            return None, False
        self.counts["verdict without probabilities"] += 1
        return Reasoned({k: float(k == word) for k in labels}), False

    def _decided(self, sheet: Sheet, own: Reasoned | None, heard: bool, decide: str) -> Sheet:
        """The sheet with the distribution that decides. A bare word cannot be multiplied: then the evidence decides."""
        if decide == "evidence" or own is None or (decide == "both" and not heard):
            return sheet
        mixed = combine(sheet.probabilities, own.probabilities, decide, self.weight)
        return dataclasses.replace(sheet, probabilities=mixed, calibrated=False)

    def answer(self, questions: Sequence[Question], manner: Style = Style()) -> Generator[Piece, None, list[str]]:
        """Follow-up questions. Nothing is given before it was checked, so an answer comes as one piece.

        Questions that the policy answers get its words; an answer that stays outside the evidence after one repair is
        replaced by the built-in one.
        """
        texts = []
        for row, asked in enumerate(questions):
            texts.append(self._answer(asked, _warmed(manner)))
            yield Piece(row, texts[-1])
        return texts

    def _answer(self, question: Question, manner: Style) -> str:
        sheet, own, beside = question.sheet, question.reasoned, question.beside
        meant = understand(question.text, sheet.labels, faces=2 if question.other else 1)
        self.counts["questions"] += 1
        if meant.kind not in OWN_WORDS and not sheet.abstained:
            shown = (question.about, question.other) if question.other else (question.about,)
            images = [picture for subject in shown for picture in self._pictures(subject)]
            talk = _conversation(question)
            for attempt in range(2):
                text = one_line("".join(spoken(self.chat.complete(talk, images, manner))))
                problems = check_answer(text, meant, sheet, beside, own)
                if not problems:
                    return text
                self.counts["answer repair asked"] += not attempt
                talk += [script.assistant(text), script.user(script.repair(problems))]
            self.counts["built-in answers"] += 1
        rng = random.Random(
            zlib.crc32(f"{question.text}/{sorted(sheet.units.items())}{manner.variation or ''}".encode())
        )
        return sample(built_in(meant, sheet, own, beside), rng)

    def _pictures(self, subject: Subject) -> list[Image.Image]:
        return [subject.crop] if self.chat.sees else []


def _warmed(manner: Style) -> Style:
    """Another wording of the same needs some chance."""
    if manner.temperature is None and manner.variation:
        return dataclasses.replace(manner, temperature=AGAIN)
    return manner


def _conversation(question: Question) -> list[Message]:
    told = script.facts(question.sheet, question.reasoned, question.beside)
    turns = [Turn(script.words("told"), question.explanation.text)] if question.explanation else []
    talk = [script.system()]
    for turn in (*turns, *question.history[-REMEMBERED:]):
        talk += [script.user(turn.question), script.assistant(turn.answer)]
    talk.append(script.user(script.question(question.text, question.sheet)))
    talk[1] = script.user(f"{told}\n\n{talk[1].content}")
    return talk


def observation_problems(observations: str, sheet: Sheet) -> list[str]:
    """What is wrong with the observations alone: of the other two sections nothing is asked yet."""
    found = check(Sections(_body(observations), "It fits.", sheet.label).text(), sheet)
    return dataclasses.replace(found, stated=found.label).problems()


def _body(section: str) -> str:
    return section.removeprefix(f"{HEADINGS[0]}:").strip()
