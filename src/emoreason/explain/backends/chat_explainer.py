"""Uses a general chat model as explainer, as a conversation of the steps that our own explainer takes.

(1) The model sees the movements but no label and writes what is seen. (2) It gives its own distribution over the
labels, or one label. (3) It sees the distribution that decides, and writes the reading and how well the movements fit.
A text that fails the checks is written again, up to CANDIDATES texts; if none passes, the built-in one is taken.
"""

import random
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from math import exp
from typing import Protocol

from PIL import Image

from emoreason.core.messages import Message
from emoreason.explain.backends import chat_prompts, parts
from emoreason.explain.backends.chat_sections import loops, one_line, without_thoughts
from emoreason.explain.backends.parts import Part
from emoreason.explain.check import explanations as check
from emoreason.explain.check.answers import check_answer
from emoreason.explain.explanation import Answer, Explanation, Piece, Question, Style, Subject, check_decide, combine
from emoreason.explain.read.sections import Sections, stated_label
from emoreason.explain.sheet import Reasoned, Sheet
from emoreason.explain.write.answers import answer as written_answer


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
    """Explains with a Chat and checks its texts. Texts come when they have passed; before, there are empty pieces."""

    visual_tokens = 0  # unknown: it depends on the model's processor

    def __init__(self, chat: Chat, name: str, weight: float = 0.5):
        """weight: weight of the model's verdict in `--decide both`. It is not fitted for a general model."""
        self.chat, self.name, self.weight = chat, name, weight

    def count_tokens(self, text: str) -> int:
        """Number of tokens by the model's tokenizer; for a server, the number of words and punctuation marks."""
        if (tokenizer := getattr(self.chat, "tokenizer", None)) is not None:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])
        return len(re.findall(r"\w+|[^\w\s]", text))

    # ---- explanations ------------------------------------------------------------------------------------------------

    def explain(
        self, subjects: Sequence[Subject], decide: str = "evidence", style: Style = Style()
    ) -> Generator[Piece, None, list[Explanation]]:
        check_decide(decide)
        explanations = []
        for row, subject in enumerate(subjects):
            if subject.sheet.units:
                explanations.append((yield from self._explain(row, subject, decide, style)))
            else:
                explanations.append(parts.unread(subject.sheet, self.name))
                yield Piece(row, explanations[-1].short)
        return explanations

    def _explain(self, row: int, subject: Subject, decide: str, style: Style) -> Generator[Piece, None, Explanation]:
        sheet, images = subject.sheet, [subject.crop] if self.chat.sees else []
        talk = [chat_prompts.system()]
        seen = yield from self._part(
            row, talk, chat_prompts.seen(sheet, bool(images)), images, style,
            lambda text: check.seen_problems(text, sheet), lambda: parts.built_in(subject, None).seen,
        )  # fmt: skip
        verdict, has_shares = self._verdict(talk, images, sheet.labels)
        decided = self._decided(sheet, verdict, decide if has_shares or decide != "both" else "evidence")
        fallback = parts.built_in(Subject(decided, subject.crop), verdict)
        reading = yield from self._part(
            row, talk, chat_prompts.reading(decided), images, style,
            lambda text: check.reading_problems(text, decided), lambda: fallback.reading,
        )  # fmt: skip
        yield Piece(row, f"{reading.text} {seen.text}")
        weighing = yield from self._part(
            row, talk, chat_prompts.weighing(decided), images, style,
            lambda text: check.weighing_problems(text, decided), lambda: fallback.weighing,
        )  # fmt: skip
        yield Piece(row, f" {weighing.text}")
        text = Sections(seen.text, weighing.text, reading.text).text()
        agreement = verdict.label == sheet.label if verdict else None
        return Explanation.of(text, decided, self.name, parts.worst((seen, weighing, reading)), reasoned=verdict,
                              agreement=agreement)  # fmt: skip

    def _verdict(
        self, talk: list[Message], images: Sequence[Image.Image], labels: Sequence[str]
    ) -> tuple[Reasoned | None, bool]:
        """The model's own verdict, and whether it is a distribution. The talk grows by it.

        If the model gives no probabilities, a single label counts as 100%; any other answer is no verdict."""
        request = chat_prompts.user(chat_prompts.verdict(labels))
        scores = self.chat.score([*talk, request], images, labels)
        if scores is not None:
            masses = [exp(score - max(scores)) for score in scores]
            verdict = Reasoned({label: mass / sum(masses) for label, mass in zip(labels, masses, strict=True)})
        else:
            answer = one_line("".join(without_thoughts(self.chat.complete([*talk, request], images))))
            exact = next((k for k in labels if k.casefold() == answer.strip(" .!\"'").casefold()), None)
            word = exact or stated_label(answer, labels)
            if word is None:
                return None, False
            verdict = Reasoned({label: float(label == word) for label in labels})
        talk += [request, chat_prompts.assistant(verdict.label)]
        return verdict, scores is not None

    def _decided(self, sheet: Sheet, verdict: Reasoned | None, decide: str) -> Sheet:
        """The sheet with the distribution that decides."""
        if decide == "evidence" or verdict is None:
            return sheet
        combined = combine(sheet.probabilities, verdict.probabilities, decide, self.weight)
        return replace(sheet, probabilities=combined, calibrated=False)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def answer(self, questions: Sequence[Question], style: Style = Style()) -> Generator[Piece, None, list[Answer]]:
        """Answer questions about the faces in view, each in a conversation of its own."""
        answers = []
        for row, question in enumerate(questions):
            part = yield from self._answer(row, question, style)
            yield Piece(row, part.text)
            answers.append(Answer(part.text, part.route))
        return answers

    def _answer(self, row: int, question: Question, style: Style) -> Generator[Piece, None, Part]:
        pictures = tuple(question.about) if self.chat.sees else ()
        images = [question.crops[i] for i in pictures]
        variant = str(style.variation) if style.variation else ""
        subject = Subject(question.faces[question.focus].sheet, question.crop)
        rng = random.Random(parts.seed(subject, question.text + variant))
        return (yield from self._part(
            row, chat_prompts.conversation(question, pictures),
            chat_prompts.asked(question.text, question, question.about), images, style,
            lambda text: check_answer(text, question.text, question.view),
            lambda: written_answer(question.text, question.view, rng),
        ))  # fmt: skip

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _part(
        self, row: int, talk: list[Message], request: str, images: Sequence[Image.Image], style: Style,
        judge: Callable[[str], list[str]], fallback: Callable[[], str],
    ) -> Generator[Piece, None, Part]:  # fmt: skip
        """The first text without problems, or else the fallback. The talk grows by the request and this text."""
        part = None
        for attempt in range(parts.CANDIDATES):
            warmth = parts.RETRY_TEMPERATURE if attempt else parts.temperature(style)
            wording = Style(warmth, style.variation * parts.CANDIDATES + attempt)
            asked = chat_prompts.user(chat_prompts.again(request) if attempt else request)
            text = yield from self._text(row, [*talk, asked], images, wording)
            if not judge(text):
                part = Part(text, check.RETRIED if attempt else check.MODEL)
                break
        part = part or Part(fallback(), check.WRITTEN)
        talk += [chat_prompts.user(request), chat_prompts.assistant(part.text)]
        return part

    def _text(
        self, row: int, messages: Sequence[Message], images: Sequence[Image.Image], style: Style
    ) -> Generator[Piece, None, str]:
        """What the model writes; empty if it goes in circles."""
        text = ""
        for piece in without_thoughts(self.chat.complete(messages, images, style)):
            text += piece
            yield Piece(row, "")
            if loops(text):
                return ""
        return one_line(text)
