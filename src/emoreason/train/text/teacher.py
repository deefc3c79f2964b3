"""A chat model that puts the built-in training text into other words, under the same checks as every explanation.

What does not pass is thrown away and counted, and the built-in text stays; `provenance` says who wrote what.
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.messages import IMAGE, Conversation, Message
from emoreason.explain.backends import chat_prompts as script_of_chat
from emoreason.explain.backends.chat_explainer import Chat, observation_problems
from emoreason.explain.backends.chat_sections import SectionStream, one_line, spoken
from emoreason.explain.check.answers import check_answer
from emoreason.explain.check.explanations import check
from emoreason.explain.prompts import load_prompts
from emoreason.explain.questions.understand import understand
from emoreason.explain.read.claims import mentions
from emoreason.explain.read.sections import HEADINGS, Sections, parse
from emoreason.explain.sheet import Reasoned, Sheet

OBSERVATIONS, VERDICT, REST, FIRST_QUESTION = 1, 3, 5, 6  # places in a conversation of data/describe.py
PATIENCE = 5  # so many failures of the server in a row end the run
_INNER = re.compile(r"\b(feel(s|ing)?|felt|is in a .*mood|inside|emotional state|thinks?|intends?)\b", re.I)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


class Teacher:
    """Conversation, Sheet -> Conversation."""

    def __init__(self, chat: Chat, name: str):
        self.chat, self.name = chat, name
        self.counts: Counter[str] = Counter()
        self._silent = 0

    def __call__(self, made: Conversation, sheet: Sheet) -> Conversation:
        texts = [message.content for message in made.messages]
        by_teacher = []
        if (fresh := self._observations(texts[OBSERVATIONS], sheet)) is not None:
            texts[OBSERVATIONS] = fresh
            by_teacher.append("observations")
        if (fresh := self._rest(texts[OBSERVATIONS], texts[REST], sheet)) is not None:
            texts[REST] = fresh
            by_teacher.append("interpretation")
        own = Reasoned({label: float(label == texts[VERDICT]) for label in sheet.labels})
        for at in range(FIRST_QUESTION, len(texts) - 1, 2):
            if (fresh := self._answer(texts[at], texts[at + 1], sheet, own)) is not None:
                texts[at + 1] = fresh
                by_teacher.append(f"answer {(at - FIRST_QUESTION) // 2 + 1}")
        messages = tuple(Message(said.role, text) for said, text in zip(made.messages, texts, strict=True))
        writer = f"built-in, rewritten by {self.name}" if by_teacher else "built-in"
        provenance = {**made.provenance, "writer": writer, "rewritten": by_teacher}
        return dataclasses.replace(made, messages=messages, provenance=provenance)

    def report(self) -> str:
        """One line for the log."""
        kinds = ("observations", "interpretation", "answer")
        told = [f"{kind} {self.counts[f'{kind} kept']} of {self.counts[f'{kind} asked']}" for kind in kinds]
        lost = f"; the server failed {self.counts['failed']} times" if self.counts["failed"] else ""
        rejected = sum(self.counts[f"{kind} rejected"] for kind in kinds)
        unjudged = (
            f", {self.counts['answer not judged']} answers left as they are" if self.counts["answer not judged"] else ""
        )
        return f"rewritten by {self.name}: {', '.join(told)}; {rejected} rejected by the checks{unjudged}{lost}"

    def _observations(self, text: str, sheet: Sheet) -> str | None:
        asked = script_of_chat.words("rewrite_observations", sheet=script_of_chat.sheet_text(sheet), text=text)
        fresh = self._section("observations", asked, HEADINGS[:1])
        return self._judged("observations", text, fresh, observation_problems(fresh, sheet) if fresh else [])

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
            return self._judged("interpretation", rest, written, ["a section is missing"])
        problems = check(whole, sheet).problems() + changed_facts(rest, written or "", sheet.labels)
        fresh = self._judged("interpretation", rest, written, problems)
        lead = text[: len(text) - len(text.lstrip())]
        return fresh and f"{lead}{sections.interpretation}{inner} {sections.conclusion}"

    def _answer(self, request: str, text: str, sheet: Sheet, own: Reasoned) -> str | None:
        question = _question(request)
        kind = understand(question, sheet.labels)
        if check_answer(text, kind, sheet, None, own):  # not the question that the text answers: nothing to judge by
            self.counts["answer not judged"] += 1
            return None
        request = script_of_chat.words("rewrite_answer", question=question, text=text)
        fresh = self._section("answer", request, ())
        problems = check_answer(fresh, kind, sheet, None, own) if fresh else []
        return self._judged("answer", text, fresh, problems + changed_facts(text, fresh or "", sheet.labels))

    def _section(self, kind: str, request: str, headings: Sequence[str]) -> str | None:
        """What the model writes, cleaned; without the first heading. None where the server failed."""
        self.counts[f"{kind} asked"] += 1
        talk = [Message("system", script_of_chat.words("rewrite_system")), Message("user", request)]
        try:
            written = "".join(spoken(self.chat.complete(talk)))
        except EmoreasonError:
            self._silent += 1
            self.counts["failed"] += 1
            if self._silent >= PATIENCE or not self.counts["answered"]:
                raise
            return None
        self._silent = 0
        self.counts["answered"] += 1
        if not headings:
            return one_line(written)
        reader = SectionStream(headings)
        return (reader.feed(written) + reader.close()).strip()

    def _judged(self, kind: str, text: str, fresh: str | None, problems: Sequence[str]) -> str | None:
        """The new text where it passed and is new."""
        if fresh is None:
            return None
        if problems or IMAGE in fresh or (_INNER.search(fresh) and not _INNER.search(text)):
            self.counts[f"{kind} rejected"] += 1
            return None
        if one_line(fresh).casefold() == one_line(text).casefold():
            return None
        self.counts[f"{kind} kept"] += 1
        return fresh


def changed_facts(text: str, fresh: str, labels: Sequence[str]) -> list[str]:
    """What the rewritten text says that the text did not, and the numbers that it lost."""
    problems = []
    before, after = ({(said.action_unit, said.present) for said in mentions(words)} for words in (text, fresh))
    problems += [f"AU {code} was not spoken of" for code, _ in sorted(after - before)]
    if sorted(_NUMBER.findall(text)) != sorted(_NUMBER.findall(fresh)):
        problems.append("the numbers differ")
    for label in labels:
        there, now = (re.search(rf"(?<!\w){re.escape(label)}(?!\w)", words, re.I) for words in (text, fresh))
        if bool(there) != bool(now):
            problems.append(f"{label} was {'lost' if there else 'added'}")
    return problems


def _question(request: str) -> str:
    """The question in a message that `Script.turn` wrote."""
    script = load_prompts()
    return request.removesuffix(script.answer).rpartition(script.question.split("{")[0])[2].strip()


def load_teacher(teacher: str, model: str = "") -> Teacher:
    """An http(s)://HOST/v1 address with the name of its model, or a transformers chat model by name or folder."""
    from emoreason.explain.backends.factory import TEXT, VISION, WEB, load_chat

    if teacher.startswith(VISION):
        raise UsageError("a teacher rewrites text and is shown no picture: leave out vision:")
    chat, name = load_chat(teacher if teacher.startswith((TEXT, *WEB)) else TEXT + teacher, model=model)
    return Teacher(chat, name)
