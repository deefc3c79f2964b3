"""The prompts for general chat models: fills prompts/chat_explainer.yaml from the sheets."""

from collections.abc import Sequence

from emoreason.core.messages import Message
from emoreason.core.probabilities import percent
from emoreason.explain.backends.parts import TURNS, numbers
from emoreason.explain.explanation import Question
from emoreason.explain.prompts import MIN_SHOWN, load_prompts
from emoreason.explain.sheet import Placed, Sheet, ranked
from emoreason.explain.write.phrases import load_phrases
from emoreason.explain.write.wording import level
from emoreason.knowledge.facs import PLAIN_NAMES


def words(prompt: str, /, **values: object) -> str:
    """The named prompt with its values filled in."""
    return load_phrases("chat_explainer")[prompt].format(**values).rstrip()


def system() -> Message:
    return Message("system", words("system"))


def user(text: str) -> Message:
    return Message("user", text)


def assistant(text: str) -> Message:
    return Message("assistant", text)


def sheet_text(sheet: Sheet) -> str:
    """The movements without a label, and how well the face can be seen."""
    absent = ", ".join(PLAIN_NAMES[code] for code in sheet.absent)
    return load_prompts().measured(sheet).strip() + (words("absent", units=absent) if absent else "")


def seen(sheet: Sheet, picture: bool) -> str:
    named = "; ".join(f"{PLAIN_NAMES[unit.code]} ({unit.band})" for unit in sheet.named)
    prompt = "seen" if named else "seen_nothing"
    request = words(prompt, sheet=sheet_text(sheet), words=words("words"), named=named)
    return f"{words('picture')}\n{request}" if picture else request


def verdict(labels: Sequence[str]) -> str:
    return words("verdict", labels=", ".join(labels))


def reading(sheet: Sheet) -> str:
    if sheet.abstained:
        return words("reading_open", shares=_shares(sheet), why=sheet.why)
    return words("reading", shares=_shares(sheet), label=sheet.label, how=words(level(sheet)))


def weighing(sheet: Sheet) -> str:
    if sheet.abstained:
        return words("weighing_open")
    second = sheet.runner_up
    near = words("runner_up", runner_up=second, share=percent(sheet.probabilities[second])) if second else ""
    return words("weighing", label=sheet.label, runner_up=near)


def again(request: str) -> str:
    return f"{request}\n{words('again')}"


def conversation(question: Question, pictures: Sequence[int]) -> list[Message]:
    """The faces in view, the explanation and the last turns. pictures: indices of the faces whose pictures are sent."""
    faces = "\n\n".join(_face(face, len(question.faces)) for face in question.faces)
    if pictures:
        faces += "\n" + words("pictures", numbers=_listed(numbers(question, pictures)))
    rules = words("answers", system=words("system"), faces=faces, words=words("words"))
    messages = [Message("system", rules)]
    if question.explanation is not None:
        number = question.faces[question.focus].number
        messages += [user(words("told", number=number)), assistant(question.explanation.short)]
    for turn in question.history[-TURNS:]:
        messages += [user(asked(turn.question, question, turn.about)), assistant(turn.answer)]
    return messages


def asked(text: str, question: Question, about: Sequence[int]) -> str:
    """A question as it was typed; if there are several faces in view, with the numbers of those that it is about."""
    listed = _listed(numbers(question, about))
    return words("about", question=text, numbers=listed) if listed and len(question.faces) > 1 else text


def plain(messages: Sequence[Message]) -> str:
    """The conversation as plain text, for models whose tokenizer has no chat template."""
    forms = load_phrases("chat_explainer")["plain"]
    return "".join(forms[message.role].format(content=message.content) for message in messages) + forms["opening"]


def _face(face: Placed, faces: int) -> str:
    sheet, place = face.sheet, words("place", faces=faces, place=face.place) if face.place else ""
    if not sheet.abstained:
        label = words("label", label=sheet.label, shares=_shares(sheet))
    else:
        shares = words("no_label_shares", shares=_shares(sheet)) if sheet.units else ""
        label = words("no_label", why=sheet.why, shares=shares)
    return words("face", number=face.number, place=place, sheet=sheet_text(sheet), label=label)


def _shares(sheet: Sheet) -> str:
    listed = [f"{label} {percent(p)}" for label, p in ranked(sheet.probabilities) if p >= MIN_SHOWN]
    small = [label for label, p in ranked(sheet.probabilities) if p < MIN_SHOWN]
    listed += [f"{', '.join(small)} under 1%"] if small else []
    return words("shares", listed=", ".join(listed), trust=words(sheet.trust))


def _listed(items: Sequence[int]) -> str:
    return " and ".join(map(str, items))
