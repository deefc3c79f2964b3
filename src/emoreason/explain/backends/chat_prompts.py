"""The prompts for general chat models: fills prompts/chat_explainer.yaml from the sheet."""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from emoreason.core.messages import Message
from emoreason.core.probabilities import percent
from emoreason.explain.read.claims import mentions
from emoreason.explain.sheet import Reasoned, Sheet, ranked
from emoreason.explain.write.phrases import load_phrases
from emoreason.knowledge.facs import ACTION_UNITS

SHOWN_LABELS = 3  # labels of the distribution in the last step; follow-up questions show all labels
MIN_SHOWN = 0.02


def words(prompt: str, /, **values: object) -> str:
    """The named prompt with its values filled in."""
    return load_phrases("chat_explainer")[prompt].format(**values).strip()


def system() -> Message:
    return Message("system", words("system"))


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def sheet_text(sheet: Sheet) -> str:
    """The movements without a label: the ones to name first, then the rest."""
    named = [unit.code for unit in sheet.named]
    others = [code for code in sheet.visible if code not in named]
    more = load_phrases("chat_explainer")["more"].format(lines=_lines(others, sheet)) if others else ""
    absent = ", ".join(f"{ACTION_UNITS[code].name} (AU {code})" for code in sheet.absent) or words("nothing")
    return words("sheet", named=_lines(named, sheet) or words("none_seen"), more=more, absent=absent)


def _lines(codes: Iterable[str], sheet: Sheet) -> str:
    return "\n".join(
        words("line", name=ACTION_UNITS[code].name.capitalize(), code=code, band=sheet.visible[code],
              phrase=_example(code, sheet.visible[code]))
        for code in codes
    )  # fmt: skip


@cache
def _example(code: str, band: str) -> str:
    """A clause that the checks parse as exactly this unit and band."""
    phrases = ACTION_UNITS[code].phrases[band]
    parsed = {phrase: [(m.action_unit, m.band, m.present) for m in mentions(phrase)] for phrase in phrases}
    return next((phrase for phrase in phrases if parsed[phrase] == [(code, band, True)]), phrases[0])


def first_step(sheet: Sheet, picture: bool) -> str:
    request = words("observations", sheet=sheet_text(sheet))
    return f"{words('picture')}\n{request}" if picture else request


def verdict_step(labels: Sequence[str]) -> str:
    return words("verdict", labels=", ".join(labels))


def last_step(sheet: Sheet, own: Reasoned | None) -> str:
    texts: dict[str, Any] = load_phrases("chat_explainer")
    verdict = ""
    if own:
        verdict = texts["own_agrees"] if own.label == sheet.label else texts["own_differs"]
        verdict = verdict.format(own=own.label, label=sheet.label)
    second = texts["runner_up"].format(runner_up=sheet.runner_up) if sheet.runner_up else ""
    shown = [(label, p) for label, p in ranked(sheet.probabilities)[:SHOWN_LABELS] if p >= MIN_SHOWN]
    return words("interpretation", calibration=_calibration(sheet), labels=_distribution(shown), own=verdict,
                 runner_up=second, label=sheet.label, percent=percent(sheet.confidence))  # fmt: skip


def repair(problems: Sequence[str]) -> str:
    return words("repair", problems="\n".join(f"- {problem}" for problem in problems))


def facts(sheet: Sheet, own: Reasoned | None, other: Sheet | None = None) -> str:
    """The facts that answers to follow-up questions may use."""
    if other is not None:
        return words("facts_other", first=facts(sheet, own), second=facts(other, None))
    verdict = load_phrases("chat_explainer")["facts_own"].format(own=own.label) if own else ""
    return words("facts", sheet=sheet_text(sheet), calibration=_calibration(sheet),
                 labels=_distribution(ranked(sheet.probabilities)), own=verdict)  # fmt: skip


def question(text: str, sheet: Sheet) -> str:
    return words("question", question=" ".join(text.split()), label=sheet.label)


def _distribution(pairs: Iterable[tuple[str, float]]) -> str:
    return ", ".join(f"{label} {percent(p)}" for label, p in pairs)


def _calibration(sheet: Sheet) -> str:
    return "" if sheet.calibrated else load_phrases("chat_explainer")["uncalibrated"]


def plain(messages: Sequence[Message]) -> str:
    """The conversation as plain text, for models whose tokenizer has no chat template."""
    forms = load_phrases("chat_explainer")["plain"]
    return "".join(forms[message.role].format(content=message.content) for message in messages) + forms["opening"]
