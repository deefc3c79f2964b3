"""Lets a chat model rewrite the built-in training texts, under the same checks as every explanation.

Texts that fail a check are counted and dropped, and the built-in text stays. `provenance` says who wrote what.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.explain.backends import chat_prompts
from emoreason.explain.backends.chat_explainer import Chat
from emoreason.explain.backends.chat_sections import one_line, without_thoughts
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.explanations import reading_problems, seen_problems, weighing_problems
from emoreason.explain.check.statements import View
from emoreason.explain.prompts import load_prompts
from emoreason.explain.read.claims import mentions
from emoreason.explain.sheet import Placed, Sheet

# The answers that the model writes about a face: index of the message -> its name and its check.
PARTS: dict[int, tuple[str, Callable[..., list[str]]]] = {
    1: ("seen", seen_problems), 5: ("reading", reading_problems), 7: ("weighing", weighing_problems),
}  # fmt: skip
FIRST_QUESTION = 8  # index in a conversation of describe.py
PATIENCE = 5  # the run ends after this many server failures in a row
_INNER = re.compile(r"\b(feel(s|ing)?|felt|is in a .*mood|inside|emotional state|thinks?|intends?)\b", re.I)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Teacher:
    """Rewrites a conversation about a sheet."""

    def __init__(self, chat: Chat, name: str):
        self.chat, self.name = chat, name
        self.counts: Counter[str] = Counter()
        self._failures_in_a_row = 0

    def __call__(self, talk: Conversation, sheet: Sheet) -> Conversation:
        texts = [message.content for message in talk.messages]
        by_teacher = []
        for at, (kind, problems) in PARTS.items():
            wanted = "rewrite_observations" if kind == "seen" else "rewrite_answer"
            new_text = self._rewrite(kind, wanted, texts[at], sheet, partial(problems, sheet=sheet))
            if new_text is not None:
                texts[at] = new_text
                by_teacher.append(kind)
        view = View([Placed(sheet)])
        for at in range(FIRST_QUESTION, len(texts) - 1, 2):
            question = _question(texts[at])
            judge = partial(check_answer, question=question, view=view)
            new_text = self._rewrite("answer", "rewrite_answer", texts[at + 1], sheet, judge, question)
            if new_text is not None:
                texts[at + 1] = new_text
                by_teacher.append(f"answer {(at - FIRST_QUESTION) // 2 + 1}")
        messages = tuple(Message(message.role, text) for message, text in zip(talk.messages, texts, strict=True))
        writer = f"built-in, rewritten by {self.name}" if by_teacher else "built-in"
        provenance = {**talk.provenance, "writer": writer, "rewritten": by_teacher}
        return dataclasses.replace(talk, messages=messages, provenance=provenance)

    def report(self) -> str:
        """One line for the log."""
        kinds = (*(kind for kind, _ in PARTS.values()), "answer")
        parts = [f"{kind} {self.counts[f'{kind} kept']} of {self.counts[f'{kind} asked']}" for kind in kinds]
        lost = f"; the server failed {self.counts['failed']} times" if self.counts["failed"] else ""
        rejected = sum(self.counts[f"{kind} rejected"] for kind in kinds)
        return f"rewritten by {self.name}: {', '.join(parts)}; {rejected} rejected by the checks{lost}"

    def _rewrite(self, kind: str, wanted: str, text: str, sheet: Sheet, problems: Callable[[str], list[str]],
                 question: str = "What does the face show?") -> str | None:  # fmt: skip
        """The text in the teacher's words; None if the server failed or the new text fails the checks."""
        self.counts[f"{kind} asked"] += 1
        request = chat_prompts.words(wanted, sheet=chat_prompts.sheet_text(sheet), text=text, question=question)
        talk = [Message("system", chat_prompts.words("rewrite_system")), Message("user", request)]
        try:
            new_text = one_line("".join(without_thoughts(self.chat.complete(talk))))
        except EmoreasonError:
            self._failures_in_a_row += 1
            self.counts["failed"] += 1
            if self._failures_in_a_row >= PATIENCE or not self.counts["answered"]:
                raise
            return None
        self._failures_in_a_row = 0
        self.counts["answered"] += 1
        wrong = problems(new_text) or changed_facts(text, new_text, sheet.labels) or IMAGE in new_text
        if wrong or (_INNER.search(new_text) and not _INNER.search(text)):
            self.counts[f"{kind} rejected"] += 1
            return None
        if new_text.casefold() == one_line(text).casefold():
            return None
        self.counts[f"{kind} kept"] += 1
        return new_text


def changed_facts(text: str, new_text: str, labels: Sequence[str]) -> list[str]:
    """Problems of the rewritten text: facts that were not in the text, and changed numbers or labels."""
    problems = []
    before, after = ({(said.action_unit, said.present) for said in mentions(words)} for words in (text, new_text))
    problems += [f"AU {code} was not spoken of" for code, _ in sorted(after - before)]
    if sorted(_NUMBER.findall(text)) != sorted(_NUMBER.findall(new_text)):
        problems.append("the numbers differ")
    for label in labels:
        had, has = (re.search(rf"(?<!\w){re.escape(label)}(?!\w)", words, re.I) for words in (text, new_text))
        if bool(had) != bool(has):
            problems.append(f"{label} was {'lost' if had else 'added'}")
    return problems


def _question(request: str) -> str:
    """The question in a message written by `Script.turn`."""
    script = load_prompts()
    return request.removesuffix(script.answer).rpartition(script.question.split("{")[0])[2].strip()


def load_teacher(teacher: str, model: str = "") -> Teacher:
    """Load a teacher: an http(s)://HOST/v1 address with a model name, or a transformers chat model (name or folder)."""
    from emoreason.explain.backends.factory import TEXT, VISION, WEB, load_chat

    if teacher.startswith(VISION):
        raise UsageError("a teacher rewrites text and gets no picture: leave out vision:")
    chat, name = load_chat(teacher if teacher.startswith((TEXT, *WEB)) else TEXT + teacher, model=model)
    return Teacher(chat, name)
