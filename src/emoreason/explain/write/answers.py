"""The built-in answers to questions about faces, from a table of cases. They are the net under the language model.

Every answer is short and true: a question may be misunderstood, but nothing is said that the sheets do not bear out.
The cases and phrases are in prompts/answers.yaml.
"""

import random
import re
from collections.abc import Callable
from functools import partial

from emoreason.explain.check.policy import policy_kind
from emoreason.explain.check.statements import View
from emoreason.explain.sheet import Placed, ranked
from emoreason.explain.write.asked import Asked, listed
from emoreason.explain.write.explanation import TELLING, case_of, clause, named_clauses, reading
from emoreason.explain.write.phrases import load_phrases
from emoreason.explain.write.wording import article, denial, denials, level, noun, phrase, share, signs, spoken
from emoreason.explain.write.wording import words as writer_words
from emoreason.knowledge.emotions import canonical
from emoreason.knowledge.facs import ACTION_UNITS, typical_units

MAX_FACES = 6  # a longer list would be no answer
COUNTS = {1: "one face", 2: "two faces", 3: "three faces", 4: "four faces", 5: "five faces", 6: "six faces"}
MARKS = {"slight": 4, "marked": 6, "strong": 9}  # of ten


def answer(question: str, view: View, rng: random.Random) -> str:
    """A short answer that the sheets of the faces in view bear out."""
    asked = Asked(" ".join(question.replace("’", "'").split()), view, rng)
    text = _answer(asked)
    return f"{load_phrases('answers')['english']} {text}" if asked.in_another_language else text


def _answer(asked: Asked) -> str:
    if asked.view.missing:
        return asked.say("missing", n=COUNTS.get(len(asked.view.faces), f"{len(asked.view.faces)} faces"))
    if kind := policy_kind(asked.text):
        return asked.say(kind)
    for case, need, pattern in load_phrases("answers")["cases"]:
        if asked.has(need) and re.search(pattern, asked.text, re.I):
            return _CASES[case](asked) if case in _CASES else asked.say(case)
    return _summary(asked)


# ---- several faces ---------------------------------------------------------------------------------------------------


def _entry(asked: Asked, face: Placed) -> str:
    sheet = face.sheet
    label = "no label" if sheet.abstained or not sheet.units else f"{spoken(sheet.label)} ({share(sheet, sheet.label)})"
    return f"{asked.who(face)}: {label}"


def _count(asked: Asked) -> str:
    n = len(asked.view.faces)
    return asked.say("count", n=COUNTS.get(n, f"{n} faces"), be="is" if n == 1 else "are")


def _list(asked: Asked, key: str = "list") -> str:
    entries = [_entry(asked, face) for face in asked.faces]
    more = f", and {len(entries) - MAX_FACES} more" if len(entries) > MAX_FACES else ""
    return asked.say(key, list=", ".join(entries[:MAX_FACES]) + more)


def _same(asked: Asked) -> str:
    if not asked.plain or any(face.sheet.abstained or not face.sheet.units for face in asked.faces):
        return _list(asked)
    return _list(asked, "same" if len({face.sheet.label for face in asked.faces}) == 1 else "differ")


def _most(asked: Asked) -> str:
    """The face on which a label or a movement is strongest."""
    faces, label, codes = asked.faces, asked.label, asked.codes
    if label and all(label in face.sheet.labels and face.sheet.units for face in faces):
        best = max(faces, key=lambda face: face.sheet.probabilities[label])
        return asked.say("most", who=asked.who(best), label=spoken(label), share=share(best.sheet, label))
    if not codes:
        return _list(asked)
    showing = [face for face in faces if codes[0] in face.sheet.sure]
    if not showing:
        return asked.say("most_none")
    best = max(showing, key=lambda face: face.sheet.units[codes[0]])
    return asked.say("most_unit", who=asked.who(best), clause=clause(best.sheet, codes[0], asked.rng))


def _some(asked: Asked, everyone: bool = False) -> str:
    """Whether any face, or every face, shows a label or a movement; a list of all faces if that cannot be settled."""
    faces, label, codes = asked.faces, asked.label, asked.codes
    if not asked.plain:
        return _list(asked)
    if label and all(label in face.sheet.labels and not face.sheet.abstained for face in faces):
        showing = [face for face in faces if face.sheet.label == label]
    elif not label and codes and all(codes[0] in (*face.sheet.sure, *face.sheet.absent) for face in faces):
        showing = [face for face in faces if codes[0] in face.sheet.sure]
    else:
        return _list(asked)
    if not showing:
        return asked.say("anyone_no")
    no = everyone and len(showing) < len(faces)
    return asked.say("everyone_no" if no else "anyone_yes", list=listed([asked.who(face) for face in showing]))


# ---- movements -------------------------------------------------------------------------------------------------------


def _presence(asked: Asked) -> str:
    """Whether a movement is there; yes or no only if the question is plain."""
    sheet, codes = asked.sheet, asked.codes
    if there := [code for code in codes if code in sheet.sure][:2]:
        return asked.say("yes_unit" if asked.plain else "unit", clause=asked.clauses(there))
    if any(code in sheet.unclear for code in codes):
        return asked.say("unclear_unit")
    if gone := [code for code in codes if code in sheet.absent][:2]:
        return asked.say("no_unit" if asked.plain else "not_unit", denial=listed([denial(code) for code in gone]))
    return asked.say("hidden_unit" if sheet.covered else "unmeasured_unit")


def _au_meaning(asked: Asked) -> str:
    code, sheet = asked.codes[0], asked.sheet
    if code not in ACTION_UNITS:
        return asked.say("unmeasured_unit")
    text = asked.say("au_meaning", code=code, name=ACTION_UNITS[code].name, noun=noun(code))
    here = clause(sheet, code, asked.rng) if code in sheet.sure else denial(code) if code in sheet.absent else ""
    return f"{text} {asked.say('here', clause=here)}" if here else text


def _region(asked: Asked) -> str:
    sheet = asked.sheet
    here = [code for code in sheet.units if ACTION_UNITS[code].region == asked.part]
    if there := [code for code in sheet.sure if code in here][:3]:
        return asked.say("region", clauses=asked.clauses(there))
    if here and set(here) <= set(sheet.absent):
        return asked.say("region_rest", denials=listed(denials(here, 2)))
    return asked.say("region_unclear" if here or not sheet.covered else "hidden_unit")


def _movements(asked: Asked) -> str:
    if not asked.sheet.sure:
        return asked.say("none")
    if re.search(r"\b(?:au|action unit|facs|code)s?\b", asked.text, re.I):
        codes = [f"AU {code} ({band})" for code, band in asked.sheet.sure.items()]
        return asked.say("codes", codes=", ".join(codes[:8]))
    return asked.say("movements", clauses="; ".join(named_clauses(asked.sheet, asked.rng)[:4]))


def _absent(asked: Asked) -> str:
    still = denials([code for code in TELLING if code in asked.sheet.absent], 3)
    return asked.say("absent", denials=listed(still)) if still else asked.say("absent_none")


def _one(asked: Asked, key: str) -> str:
    """The strongest movement, or the strongest one that is stronger on one side."""
    sheet = asked.sheet
    if key == "one_sided" and not sheet.sides:
        return asked.say("no_sides")
    codes = [code for code in sheet.sure if key == "strongest" or sheet.stronger_side(code)][:1]
    return asked.say(key, clause=asked.clauses(codes)) if codes else asked.say("none" if key == "strongest" else "even")


# ---- labels ----------------------------------------------------------------------------------------------------------


def _is_it(asked: Asked) -> str:
    if asked.sheet.abstained:
        return asked.say("is_open")
    if not asked.plain:
        return _probability(asked)
    return asked.say("is_yes" if asked.label == asked.sheet.label else "is_no")


def _probability(asked: Asked) -> str:
    alone = asked.sheet.abstained or asked.label == asked.sheet.label
    return asked.say("probability") if alone else f"{asked.say('probability')} {asked.say('leads')}"


def _why_not(asked: Asked) -> str:
    if asked.sheet.abstained:
        return asked.say("is_open")
    if asked.label == asked.sheet.label:
        return asked.say("is_label")
    missing = asked.lacking(asked.label or "")
    return asked.say("needs", missing=noun(missing), denial=denial(missing)) if missing else asked.say("whole")


def _change(asked: Asked) -> str:
    if asked.label == asked.sheet.label:
        return _is_it(asked)
    if canonical(asked.label or "") == "neutral" and asked.sheet.sure:
        return asked.say("change_rest")
    missing = asked.lacking(asked.label or "")
    return asked.say("change", missing=noun(missing)) if missing else asked.say("change_whole")


def _why(asked: Asked) -> str:
    """The reason for the label. To "why are the brows raised?" it only says whether they are."""
    sheet, case = asked.sheet, case_of(asked.sheet)
    if asked.units and not any(code in sheet.sure for code in asked.codes):
        return _presence(asked)
    if sheet.abstained:
        return asked.say("no_label")
    if asked.label not in (None, sheet.label):
        return _why_not(asked) if asked.label in sheet.labels else asked.say("is_unknown")
    if case in ("supported", "partly"):
        fitting = [code for code in sheet.sure if code in typical_units(sheet.label)][:2]
        return asked.say("why", case, clauses=asked.clauses(fitting))
    return asked.say("why", case if case in ("rest", "quiet", "moved") else "unsupported")


def _against(asked: Asked) -> str:
    sheet, typical = asked.sheet, typical_units(asked.sheet.label)
    if sheet.abstained:
        return asked.say("no_label")
    aside = [unit.code for unit in sheet.named if unit.code not in typical]
    if aside and typical:
        return asked.say("against", "aside", **phrase(aside, asked.rng))
    if missing := asked.lacking(sheet.label):
        return asked.say("against", "lacking", missing=noun(missing), denial=denial(missing))
    return asked.say("against", "nothing")


def _insist(asked: Asked) -> str:
    sheet, label = asked.sheet, asked.label
    if sheet.abstained:
        return asked.say("is_open" if label in sheet.labels else "no_label")
    if label == sheet.label:
        return asked.say("agree" if asked.plain else "stay_unnamed")
    return asked.say("stay" if label in sheet.labels else "stay_unnamed")


def _label_meaning(asked: Asked) -> str:
    known = listed([noun(code) for code in signs(asked.label or "")])
    neutral = canonical(asked.label or "") == "neutral"
    return asked.say("label_neutral" if neutral else "label_meaning" if known else "label_own", signs=known)


def _second(asked: Asked) -> str:
    rivals = [label for label, _ in ranked(asked.sheet.probabilities)[1:2]]
    best = {"rival": spoken(rivals[0]), "share": share(asked.sheet, rivals[0])} if rivals else {}
    return asked.say("second" if rivals else "only", **best)


def _numbers(asked: Asked) -> str:
    best = [f"{spoken(label)} {share(asked.sheet, label)}" for label, _ in ranked(asked.sheet.probabilities)[:4]]
    return asked.say("numbers", numbers=", ".join(best))


def _sure(asked: Asked) -> str:
    if asked.sheet.abstained:
        return asked.say("no_label")
    return f"{asked.say('sure', level(asked.sheet))} {asked.say('trust', asked.sheet.trust)}"


def _scale(asked: Asked) -> str:
    """One to ten by the strength of a movement: the one that is named, or the strongest that fits the label."""
    sheet, label = asked.sheet, asked.label
    if label in sheet.labels and label != sheet.label:
        return asked.say("scale_other", n=str(max(1, round(4 * sheet.probabilities[label]))))
    wanted = asked.codes or [code for code in sheet.sure if code in typical_units(sheet.label)]
    if code := next((code for code in wanted if code in sheet.sure), None):
        return asked.say("scale", n=str(MARKS[sheet.sure[code]]), clause=asked.clauses([code]))
    if gone := next((code for code in asked.codes if code in sheet.absent), None):
        return asked.say("scale_low", denial=denial(gone))
    if asked.codes:
        return asked.say("unclear_unit")
    return asked.say("scale_none") if typical_units(sheet.label) else _summary(asked)


def _point(asked: Asked) -> str:
    sheet = asked.sheet
    if sheet.valence is None or sheet.arousal is None:
        return asked.say("point_none")
    return asked.say("point", valence=f"{sheet.valence:+.1f}", arousal=f"{sheet.arousal:+.1f}")


def _looks(asked: Asked, kind: str) -> str:
    """The face in few words, as an alt text, a caption or one word."""
    sheet = asked.sheet
    adjective = "" if sheet.abstained else writer_words()["adjectives"].get(sheet.label, "")
    nouns = listed([noun(unit.code) for unit in sheet.named[:3]]) if kind == "alt" else ""
    key = f"{kind}{'' if adjective else '_own'}{'_nouns' if nouns else ''}"
    key = "one_word_none" if kind == "one_word" and sheet.abstained else key
    return asked.say(key, adjective=adjective, nouns=nouns, a=article(adjective))


def _summary(asked: Asked) -> str:
    """The reading, what carries it, and an offer."""
    sheet = asked.sheet
    if not sheet.units:
        return asked.say("unread")
    codes = [unit.code for unit in sheet.named][: 1 if sheet.abstained else 2]
    text = reading(sheet, asked.rng)
    return f"{text} {asked.say('region', clauses=asked.clauses(codes))}" if codes else f"{text} {asked.say('offer')}"


_CASES: dict[str, Callable[[Asked], str]] = {
    "count": _count, "same": _same, "most": _most, "everyone": partial(_some, everyone=True), "anyone": _some,
    "list": _list, "au_meaning": _au_meaning, "presence": _presence, "numbers": _numbers, "point": _point,
    "alt": partial(_looks, kind="alt"), "caption": partial(_looks, kind="caption"),
    "one_word": partial(_looks, kind="one_word"), "short": _summary, "scale": _scale, "codes": _movements,
    "second": _second, "label_meaning": _label_meaning, "change": _change, "why_not": _why_not,
    "probability": _probability, "against": _against, "why": _why, "insist": _insist, "is_it": _is_it,
    "region": _region, "one_sided": partial(_one, key="one_sided"), "strongest": partial(_one, key="strongest"),
    "absent": _absent, "movements": _movements, "sure": _sure,
    "trust_meaning": lambda asked: asked.say("trust_meaning", asked.sheet.trust),
    "unknown": lambda asked: asked.say("is_unknown"),
    "best_guess": lambda asked: asked.say("best_guess" if asked.sheet.abstained else "named"),
}  # fmt: skip
