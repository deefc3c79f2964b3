"""Lets a chat model rewrite the built-in training texts, under the same checks as every explanation.

Texts that fail a check are counted and dropped, and the built-in text stays. `provenance` says who wrote what.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.explain.backends import chat_prompts as script_of_chat
from emoreason.explain.backends.chat_explainer import Chat, observation_problems
from emoreason.explain.backends.chat_sections import SectionStream, one_line, without_thoughts
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.explanations import check
from emoreason.explain.prompts import load_prompts
from emoreason.explain.questions.understand import understand
from emoreason.explain.read.claims import mentions
from emoreason.explain.read.sections import HEADINGS, Sections, parse
from emoreason.explain.sheet import Reasoned, Sheet

OBSERVATIONS, VERDICT, REST, FIRST_QUESTION = 1, 3, 5, 6  # indices of messages in a conversation of describe.py
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
        if (new_text := self._observations(texts[OBSERVATIONS], sheet)) is not None:
            texts[OBSERVATIONS] = new_text
            by_teacher.append("observations")
        if (new_text := self._rest(texts[OBSERVATIONS], texts[REST], sheet)) is not None:
            texts[REST] = new_text
            by_teacher.append("interpretation")
        own = Reasoned({label: float(label == texts[VERDICT]) for label in sheet.labels})
        for at in range(FIRST_QUESTION, len(texts) - 1, 2):
            if (new_text := self._answer(texts[at], texts[at + 1], sheet, own)) is not None:
                texts[at + 1] = new_text
                by_teacher.append(f"answer {(at - FIRST_QUESTION) // 2 + 1}")
        messages = tuple(Message(message.role, text) for message, text in zip(talk.messages, texts, strict=True))
        writer = f"built-in, rewritten by {self.name}" if by_teacher else "built-in"
        provenance = {**talk.provenance, "writer": writer, "rewritten": by_teacher}
        return dataclasses.replace(talk, messages=messages, provenance=provenance)

    def report(self) -> str:
        """One line for the log."""
        kinds = ("observations", "interpretation", "answer")
        parts = [f"{kind} {self.counts[f'{kind} kept']} of {self.counts[f'{kind} asked']}" for kind in kinds]
        lost = f"; the server failed {self.counts['failed']} times" if self.counts["failed"] else ""
        rejected = sum(self.counts[f"{kind} rejected"] for kind in kinds)
        unjudged = (
            f", {self.counts['answer not judged']} answers left as they are" if self.counts["answer not judged"] else ""
        )
        return f"rewritten by {self.name}: {', '.join(parts)}; {rejected} rejected by the checks{unjudged}{lost}"

    def _observations(self, text: str, sheet: Sheet) -> str | None:
        request = script_of_chat.words("rewrite_observations", sheet=script_of_chat.sheet_text(sheet), text=text)
        new_text = self._section("observations", request, HEADINGS[:1])
        return self._accept("observations", text, new_text, observation_problems(new_text, sheet) if new_text else [])

    def _rest(self, observations: str, text: str, sheet: Sheet) -> str | None:
        inner = load_prompts().conclusion  # between the two sections in training text
        interpretation, found, conclusion = text.partition(inner)
        if not found:
            return None
        before = Sections(observations, interpretation.strip(), conclusion.strip())
        _, _, rest = before.text().partition("\n")
        written = self._section(
            "interpretation", script_of_chat.words("rewrite_interpretation", text=rest), HEADINGS[1:]
        )
        whole = f"{HEADINGS[0]}: {observations}\n{HEADINGS[1]}: {written}"
        sections = parse(whole) if written else None
        if sections is None:
            return self._accept("interpretation", rest, written, ["a section is missing"])
        problems = check(whole, sheet).problems() + changed_facts(rest, written or "", sheet.labels)
        new_text = self._accept("interpretation", rest, written, problems)
        lead = text[: len(text) - len(text.lstrip())]
        return new_text and f"{lead}{sections.interpretation}{inner} {sections.conclusion}"

    def _answer(self, request: str, text: str, sheet: Sheet, own: Reasoned) -> str | None:
        question = _question(request)
        kind = understand(question, sheet.labels)
        if check_answer(text, kind, sheet, None, own):  # the text itself fails, so the check says nothing
            self.counts["answer not judged"] += 1
            return None
        request = script_of_chat.words("rewrite_answer", question=question, text=text)
        new_text = self._section("answer", request, ())
        problems = check_answer(new_text, kind, sheet, None, own) if new_text else []
        return self._accept("answer", text, new_text, problems + changed_facts(text, new_text or "", sheet.labels))

    def _section(self, kind: str, request: str, headings: Sequence[str]) -> str | None:
        """The model's text, cleaned and without the first heading; None if the server failed."""
        self.counts[f"{kind} asked"] += 1
        talk = [Message("system", script_of_chat.words("rewrite_system")), Message("user", request)]
        try:
            written = "".join(without_thoughts(self.chat.complete(talk)))
        except EmoreasonError:
            self._failures_in_a_row += 1
            self.counts["failed"] += 1
            if self._failures_in_a_row >= PATIENCE or not self.counts["answered"]:
                raise
            return None
        self._failures_in_a_row = 0
        self.counts["answered"] += 1
        if not headings:
            return one_line(written)
        reader = SectionStream(headings)
        return (reader.feed(written) + reader.close()).strip()

    def _accept(self, kind: str, text: str, new_text: str | None, problems: Sequence[str]) -> str | None:
        """The new text, if it passes the checks and differs from the old one."""
        if new_text is None:
            return None
        if problems or IMAGE in new_text or (_INNER.search(new_text) and not _INNER.search(text)):
            self.counts[f"{kind} rejected"] += 1
            return None
        if one_line(new_text).casefold() == one_line(text).casefold():
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
