"""Checks that an answer responds to its question, where that can be told from a few plain words of the question."""

import re

from emoreason.explain.check.statements import PERCENT, View
from emoreason.explain.read.claims import mentions
from emoreason.explain.read.sections import label_words
from emoreason.knowledge.emotion_words import find
from emoreason.knowledge.emotions import canonical

CODE = re.compile(r"\b(?:au|action unit)s? ?#?(\d{1,2})\b", re.I)
_CODES = re.compile(r"\b(?:au|facs) ?(?:codes?|numbers?)\b|\bwith (?:the )?(?:aus|codes)\b|action units?\b", re.I)
_HOW_MANY = re.compile(
    r"\b(?:how many|number of|total of|count) (?:the )?(?:faces|people|persons|guys|ppl|heads|humans|folks)\b", re.I
)
_HOW_LIKELY = re.compile(
    r"\b(?:how (?:likely|probable)|chances?|odds|probability|likelihood|what (?:share|percentage|percent)|how (?:many|much) percent)\b",
    re.I,
)
_HOW_SURE = re.compile(r"\bhow (?:sure|certain|confident) are (?:you|u)\b", re.I)
_ONE_WORD = re.compile(r"\b(?:in )?(?:one|1|a single|just one|single) word\b", re.I)
_SCALE = re.compile(r"\b(?:1|one|0|zero) ?(?:to|-|–) ?(?:10|ten)\b|\bout of (?:10|ten)\b", re.I)
_FOREIGN = re.compile(
    r"\b(?:ist|sind|das|oder|nicht|wie|warum|welche\w*|und|elle|il|est|pas|une|pourquoi|quel\w*|está|ella|esta|por|qué|che|sono|lei|perché"
    r"|czy|jest|dlaczego|yüz|neden|mi|bu|waarom|wat|het|een|hur|är|varför)\b|[\u0400-\u04ff\u3040-\u30ff\u4e00-\u9fff\u0600-\u06ff]{2,}",
    re.I,
)
_LEAD = r"\W*(?:\(I answer in English\.\)\W*)?"
_YES = re.compile(_LEAD + r"(?:yes|yeah|yep|indeed|correct|right|true|exactly|absolutely|agreed)\b", re.I)
_NO = re.compile(_LEAD + r"(?:no|nope|not really|not at all|neither|none|nobody)\b", re.I)
_UNCLEAR = re.compile(_LEAD + r"(?:not clear|unclear|hard to|i can't|too faint)", re.I)
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
FEWEST_FOREIGN = 2  # words of another language that make a question foreign


def unanswered(text: str, question: str, view: View) -> list[str]:
    """What the question asked for and the answer lacks."""
    problems = []
    read = any(sheet.units for sheet in view.sheets)
    code = CODE.search(question)
    if (
        code
        and read
        and len(view.about) == 1
        and not begins_with(text)
        and not re.search(rf"\b{code[1]}\b", text)
        and not _names(text, code[1])
    ):
        problems.append(f"AU {code[1]} is not spoken of")
    if (
        read
        and _CODES.search(question)
        and not code
        and not re.search(r"\bAU ?\d", text)
        and any(s.sure for s in view.sheets)
    ):
        problems.append("the codes are missing")
    if _HOW_MANY.search(question):
        n = len(view.faces)
        spelled = _NUMBERS[n] if n < len(_NUMBERS) else str(n)
        if not re.search(rf"\b(?:{n}|{spelled})\b", text, re.I):
            problems.append(f"the number of faces, {n}, is missing")
    if read and len(view.about) == 1:
        problems += _numbers(text, question, view)
    if _ONE_WORD.search(question) and read and len(view.about) == 1 and len(text.split()) > 9:
        problems.append("more than a word")
    if len(_FOREIGN.findall(question)) >= FEWEST_FOREIGN and "English" not in text:
        problems.append("the answer does not say that it is in English")
    return problems


def begins_with(text: str) -> str | None:
    """yes, no or unclear, if the answer begins with it."""
    if _YES.match(text):
        return "yes"
    if _NO.match(text):
        return "no"
    return "unclear" if _UNCLEAR.match(text) else None


def _numbers(text: str, question: str, view: View) -> list[str]:
    sheet = view.sheets[0]
    labels = {spot.entry for spot in find(question, label_words(sheet.labels))}
    if _HOW_LIKELY.search(question) and len(labels) == 1:
        share = 100 * sheet.probabilities[labels.pop()]
        said = [float(value) for value in PERCENT.findall(text)]
        if (
            not any(abs(value - share) <= 1.01 or (share < 1 and value <= 1) for value in said)
            and "no label" not in text
        ):
            return [f"the probability, {share:.0f} %, is missing"]
    elif _HOW_SURE.search(question) and not PERCENT.search(text):
        return ["no percentage is given"]
    elif (
        _SCALE.search(question)
        and sheet.sure
        and canonical(sheet.label) not in (None, "neutral")
        and not re.search(r"\d|\b(?:one|two|three|four|five|six|seven|eight|nine|ten)\b", text)
    ):
        return ["no number is given"]
    return []


def _names(text: str, code: str) -> bool:
    return any(code in (mention.action_unit, *mention.others) for mention in mentions(text))
