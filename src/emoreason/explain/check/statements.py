"""Compares every statement of a free text with the sheets: movements, strengths, labels, percentages, counts of faces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from emoreason.core.probabilities import percent
from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.read.faces import named_faces
from emoreason.explain.read.sections import label_words, stated_label
from emoreason.explain.sheet import Placed, Sheet
from emoreason.knowledge.emotion_words import find
from emoreason.knowledge.facs import ACTION_UNITS, typical_units

SENTENCE = re.compile(r"(?:(?! - )[^.!?;])+(?:[.!?;]+(?=\d)[^.!?;]*)*[.!?;]*")
PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:%|percent\b)")
# What a face would show, shows in general, or what an actor should do: no statement about this face.
GENERAL = re.compile(
    r"\b(?:would|wouldn't|could|couldn't|should|might|may|expect\w*|usual(?:ly)?|normal(?:ly)?|typical(?:ly)?"
    r"|as a rule|in general|generally|often|nearly always|sometimes|and so on|common in|AU ?\d+ is (?:an?|the) (?!strong|only|main)|stands? for|refers? to|such as|if|wants?|mostly (?:come|show)|especially when|a surprised mouth|calls? for|asks? for"
    r"|requires?|tends?|imagine|suppose|to (?:look|get|play|make|show|become|turn|read)|(?:it|that) (?:takes|needs)|for it to"
    r"|I (?:miss|lack)|'d|can (?:seem|come with|pull|make)|let|some (?:faces|mouths)|as a?n? ?\w* ?(?:face|mouth) just)\b"
    r"|(?:^\W*|[,:] |\b(?:and|then|or|just|first|please|now) )(?:lift|lower|raise|relax|open|press|tighten|wrinkle|widen|draw|stretch|smooth|ease"
    r"|loosen|close|push|pull|narrow|drop|bring|add|lose|tuck|drive|part|tuck in|purse|pucker|squeeze|drag|make) (?:the|your|both|one|them|lifted)\b"
    r"|^\W*(?:for|to) (?:a|an|more|extra|push|make|get|be|build)\b"
    r"|\b(?:anger|fear|sadness|disgust|surprise|happiness|contempt|neutral)(?: mostly| often| also| usually)? (?:needs?|lifts?|lowers?|sits?|shows|brings|raises|wants|drops|opens)\b"
    r"|^\W*(?:try|keep|think of|imagine)\b"
    r"|^\W*(?:in|with) (?:real |plain |a |an )?(?:\w+ )?(?:anger|fear|sadness|disgust|surprise|happiness|contempt|smile|laugh)\b",
    re.I,
)
# Questions for what a word means, for how an expression looks in general, or for how it is played or changed.
ASKS_GENERALLY = re.compile(
    r"\bAU ?\d+ ?(?:,|means?\b|please|explain|\?*$)|\b(?:mean(?:s|ing)?|mena|denotes?|stands? for|understood by|defin\w+|explain what|what (?:does|do) an? |what(?:'s| is| are)"
    r" (?:an? |the )?\"?(?:AU|lip|brow|lid|inner|outer|upper|cheek|nose|chin|jaw|dimpler))"
    r"|\b(?:usual(?:ly)?|norma\w+|ordinar\w+|commonly|typical(?:ly)?|convention\w+|in general|generally|on any|people (?:usually )?(?:spot|recogni\w+|tell))\b"
    r"|\b(?:how|what) (?:do|does|dose|is|are|would|looks?)\b.*\b(?:anger|angry|fear|scared|sad\w*|disgust\w*|surprised?|happ\w+|contempt|neutral\w*)\b.*"
    r"(?:\b(?:looks?(?! (?:so|this|that|here))|shown?|shows|recogni[sz]ed?|identified|spot\w*)\b|$)|\b(?:looks?|recogni[sz]e) (?:anger|fear|sad\w*|disgust|surprise|happiness)\b"
    r"|, how(?:'s| is| does) it\b|\b(?:hall)?marks of\b"
    r"|\b(?:act(?:or|ress|ing)?|play(?:ing)? (?:it|this)|coach|stage|reproduce|imitate|instructor|perform|role)\b"
    r"|\b(?:turns?|flip|change)\b.*\b(?:in)?to\b|\bwould (?:it|that|have to|need|change|make|flip|take)|\bneed(?:s|ed) for\b|\b(?:needs?|takes?) (?:for|to) (?:be|look)"
    r"|\bmake (?:him|her|it|them|this|the face) (?:look|more)",
    re.I,
)
# What a picture of a face is compared with, and turns of phrase about the speaker.
LIKE = re.compile(r"\b(?:like|as) (?:when|if|somebody|someone|after|before)\b", re.I)
POLITE = re.compile(
    r"\bI(?:'d| would(?:n't)?| could(?:n't)?)(?: not)? (?:say|call|go|put|stay|measure|see|keep|read|rate)\b|\bif I had to \w+",
    re.I,
)
HERE = re.compile(
    r"\b(?:here|now|this (?:face|one|person)|on (?:this|both)|at the moment|already|in (?:this|picture)|face \d|is missing)\b",
    re.I,
)
UNSURE = re.compile(
    r"\b(?:too (?:\w+ )?(?:faint|small|weak)|not clear|unclear|isn't clear|aren't clear|(?:not|no|without|that|neither) (?:\w+ ){0,9}?clear(?:ly)?|possib\w+|can(?:'t|not)|hard to (?:tell|say|see|judge)"
    r"|whether|no telling|undecided|faint(?:ly)?|hint|confirm\w*|unconfirmed|\w*determin\w+|uncertain|below (?:the|a)|not sure|may|might|neither confirm)\b|n't (?:\w+ )*?clear(?:ly)?\b",
    re.I,
)
# The sentence goes on about the face of the sentence before.
STILL = re.compile(r"\W*(?:its?|they|their|he|she|his|her|that|this|there)\b", re.I)
# A unit's name or code in a statement on its absence: "AU4, the brow lowerer, is at rest".
NAME = re.compile(r"\d+|.*(?<!togeth)er|.*(?:or|ing)", re.I)
AT_REST = re.compile(
    r"(?<!other AUs )(?<!others )(?<!than )\bat rest\b|\b(?:not|n't) (?:there|present|active|here)\b|n't (?:there|present|active)\b|\babsent\b|^\W*No\b",
    re.I,
)
_CLAIM = (
    r"\b(?:looks?|reads? as|shows?|is|are|it's|that's|he's|she's|seems?|appears?|labell?ed|label is|call(?:ed)? it|reading is|comes out as|stays? with|stick with)"
    r"\s+(?:(?:clearly|plainly|still|rather|quite|very|just|simply|mostly|a|an|as|like|to be|the)\s+)*$"
)
_WEIGHED = re.compile(
    r"\b(?:second|next|nearest|after|share|remains?|runner-up|behind|rivals?|alternative|against|less|not|no|n't|leans?|ahead|leads?|guess|most likely|would|could"
    r"|might|may|if|than|rather|instead|under|only|some|bit of|touch of|trace of|hint of|between|or|both|either|neither|far from|unlikely|ruled? out|nor|without|mix"
    r"|like|fits?|word|label|for|also|possible|choose|pick|say|closest|rest|mostly|most of|remaining)\b|n't\b|%",
    re.I,
)


# What follows a movement that is not there: "wide eyes and a dropped jaw are missing".
IS = re.compile(r"\b(?:is|are|has|have|do|does|goes?|fits?|suits?|helps?|carry|add|but|while|so)\b|n't", re.I)
MISSING = re.compile(
    rf"(?:(?!{IS.pattern}).)*\b(?:is|are|both|all|which) (?:both |all |the |now |also |clearly )*(?:missing|absent|at rest)\b|(?:(?!{IS.pattern}).)*: all at rest\b",
    re.I,
)


@dataclass(frozen=True)
class View:
    """The faces in view, and the indices of those that a text is about."""

    faces: Sequence[Placed]
    about: Sequence[int] = (0,)
    missing: bool = False  # whether the question names a face that does not exist

    @property
    def sheets(self) -> list[Sheet]:
        return [self.faces[i].sheet for i in self.about]


def problems_of(text: str, view: View, question: str = "") -> list[str]:
    """The statements that the sheets contradict, in plain sentences."""
    problems: list[str] = []
    current = tuple(view.about)
    first = True  # until the first full stop
    for n, match in enumerate(SENTENCE.finditer(text)):
        sentence = match[0]
        focus = view.about[0] if len(view.about) == 1 else -1
        named = (
            (*named_faces(sentence, view.faces, focus), *_placed(sentence, view.faces)) if len(view.faces) > 1 else ()
        )
        if named:
            before = current if STILL.match(sentence) or (n == 0 and len(view.about) == 1) else ()
            current = tuple(dict.fromkeys((*named, *before)))
        elif len(view.faces) > 1 and re.search(
            r"\b(?:[Oo]ne|both|others?|two)\b(?! (?:mouth )?corner| of the corners)", sentence
        ):
            current = tuple(range(len(view.faces)))
        sheets = [view.faces[i].sheet for i in current]
        general = first and ASKS_GENERALLY.search(question) and not HERE.search(sentence)
        first = first and sentence.endswith(";")
        sentence = LIKE.split(sentence)[0]
        if not general and not GENERAL.search(POLITE.sub("", sentence)):
            problems += _movements(sentence, sheets)
            problems += _labels(sentence, sheets)
        problems += _faint(sentence, sheets) + _signs(sentence, sheets)
    return (
        problems
        + _turn(text, [face.sheet for face in view.faces])
        + _percentages(text, [face.sheet for face in view.faces])
        + _counts(text, len(view.faces))
    )


def movements(text: str, sheets: Sequence[Sheet]) -> list[Mention]:
    """The action units that the text mentions. Labels are masked first: the label "neutral" is not a movement."""
    for label in {label for sheet in sheets for label in sheet.labels}:
        text = re.sub(
            rf"(?<!\w){re.escape(label)}(?:'s part)?(?!\w)", lambda found: "x" * len(found[0]), text, flags=re.I
        )
    return mentions(text)


def _placed(sentence: str, faces: Sequence[Placed]) -> list[int]:
    """Faces whose place the sentence names in any way: "the left lifts the cheeks, the right lowers the brows"."""
    sides = re.sub(r"(?:more|mainly|mostly|stronger|further|own)[\w' ,]* (?:left|right)\b", "", sentence.lower())
    words = set(re.findall(r"\w+", sides))
    return [i for i, face in enumerate(faces) if face.place in words]


def is_true(mention: Mention, sheet: Sheet, along: Sequence[str] = ()) -> bool:
    """Whether the sheet bears the mention out. A unit that may be named is "slight" at least, so a trace is slight.

    along: other units that the same words stand for; the strength may be theirs ("the brows are far up")."""
    if not mention.present:
        return mention.action_unit in sheet.absent
    code = next((code for code in (mention.action_unit, *mention.others) if code in sheet.sure), None)
    if code is None:
        return False
    band = "slight" if mention.stated == "trace" else mention.stated
    fits = band is None or band in {sheet.sure[code], *(sheet.sure.get(other) for other in along)}
    return fits and sheet.stronger_side(code) in (None, mention.side or sheet.stronger_side(code))


def _movements(sentence: str, sheets: Sequence[Sheet]) -> list[str]:
    problems = []
    found = movements(sentence, sheets)
    for mention in found:
        if mention.present and NAME.fullmatch(mention.text) and AT_REST.search(sentence):
            mention = replace(mention, present=False)
        if mention.present and IS.search(mention.text) is None and MISSING.match(sentence[mention.end :]):
            mention = replace(mention, present=False)
        along = [
            other.action_unit
            for other in found
            if other.present and (other.start, other.end) == (mention.start, mention.end)
        ]
        if any(is_true(mention, sheet, along) for sheet in sheets):
            continue
        if re.search(r"\bwhether\b", sentence[: mention.start], re.I):
            continue  # a question, not a claim
        codes = (mention.action_unit, *mention.others)
        if UNSURE.search(sentence) and (
            any(code in sheet.unclear for sheet in sheets for code in codes)
            or not any(code in sheet.units for sheet in sheets for code in codes)
        ):
            continue
        problems.append(_wrong(mention, sheets[0]))
    return problems


def _wrong(mention: Mention, sheet: Sheet) -> str:
    name, code = ACTION_UNITS[mention.action_unit].name, mention.action_unit
    if not mention.present:
        return f"{mention.text!r}: the {name} (AU {code}) was not measured as absent"
    measured = sheet.sure.get(code)
    if measured is None:
        return f"{mention.text!r}: the {name} (AU {code}) was not measured above its threshold"
    return f"{mention.text!r}: the {name} (AU {code}) was measured as {measured}"


def _labels(sentence: str, sheets: Sequence[Sheet]) -> list[str]:
    """Labels that the sentence claims as the reading of a face, although they are not."""
    problems = []
    labels = tuple(dict.fromkeys(label for sheet in sheets for label in sheet.labels))
    tops = {sheet.label for sheet in sheets if not sheet.abstained}
    for clause in re.split(r"[,:;()]|\b(?:but|while|and|though|although|because|since|so|with)\b", sentence):
        stated = stated_label(clause, labels)
        if stated is None or stated in tops or _WEIGHED.search(clause):
            continue
        spots = [spot for spot in find(clause, label_words(labels)) if spot.entry == stated]
        possessive = spots and clause[spots[0].end :].startswith(("'", "’"))
        if spots and not possessive and not mentions(clause) and re.search(_CLAIM, clause[: spots[0].start], re.I):
            problems.append(f"{stated!r} is claimed, but the evidence says {' and '.join(sorted(tops)) or 'nothing'}")
    return problems


_FAINT = re.compile(r"\btoo (?:\w+ )?(?:faint|weak|small) to\b|\b(?:not|isn't|aren't) clear\b(?! sign)", re.I)
_REGIONS = {
    "brows": (r"brows?\b|eyebrow|forehead", ("1", "2", "4")), "eyes": (r"eyes?\b|\blids?\b|eyelid", ("5", "7", "43")),
    "cheeks": ("cheek", ("6",)), "nose": ("nose", ("9",)), "chin": (r"chin\b", ("17",)), "jaw": (r"jaw\b", ("26",)),
    "mouth": (r"\blips?\b|mouth|corner", ("10", "12", "14", "15", "18", "20", "24", "25", "26", "27")),
}  # fmt: skip


def _faint(sentence: str, sheets: Sequence[Sheet]) -> list[str]:
    """What is called too faint to tell must be neither there nor absent."""
    if not (found := _FAINT.search(sentence)):
        return []
    clauses = re.split(r"[,;:]| but | while |(?<!brows) and (?!together)", sentence[: found.start()])
    before, named = "", list[str]()
    while clauses and not named:  # "and they are too faint to tell" speaks of the clause before
        before = clauses.pop()
        named = [region for region, (words, _) in _REGIONS.items() if re.search(words, before, re.I)]
    unclear = {code for sheet in sheets for code in sheet.unclear}
    unmeasured = [sheet for sheet in sheets if len(sheet.units) < len(sheets[0].units) or not sheet.units]
    doubtful = [region for region in named if unclear.intersection(_REGIONS[region][1])]
    problems = [] if doubtful or unmeasured else [f"nothing about the {region} is unclear" for region in named]
    sure = [m for m in mentions(before) if m.present and all(m.action_unit in sheet.sure for sheet in sheets)]
    return problems + [f"{m.text!r} was measured, so it is not too faint to tell" for m in sure]


_SIGN = re.compile(
    r"\b(?:signs?|fits?|belongs?|speaks? for|backs?|suits?|goes? with|go with|wants?|needs?|points? to|picture of)\b",
    re.I,
)


def _signs(sentence: str, sheets: Sequence[Sheet]) -> list[str]:
    """A movement may be called a sign of a label only if some source counts it as one."""
    if not _SIGN.search(sentence) or re.search(
        r"\b(?:not|no|nor|without|less|hardly|rather|than|little)\b|n't\b", sentence, re.I
    ):
        return []
    labels = {spot.entry for spot in find(sentence, label_words(sheets[0].labels))}
    known = [typical_units(label) for label in labels]
    named = {m.action_unit for m in mentions(sentence) if m.present}
    if not labels or not named or not all(known) or named & set().union(*known):
        return []
    return [f"no such movement belongs to {' or '.join(sorted(labels))}"]


def _turn(text: str, sheets: Sequence[Sheet]) -> list[str]:
    """Degrees by which a head is said to be turned."""
    measured = [abs(sheet.yaw) for sheet in sheets if sheet.yaw is not None]
    return [f"{match[0]}: no head is turned so far" for match in re.finditer(r"(\d+) ?(?:°|degrees)", text)
            if not any(abs(float(match[1]) - yaw) <= 1.5 for yaw in measured)]  # fmt: skip


def _percentages(text: str, sheets: Sequence[Sheet]) -> list[str]:
    """Numbers that no face has, and numbers that stand beside the wrong label."""
    known = [100 * p for sheet in sheets for p in sheet.probabilities.values()]
    known += [float(value) for sheet in sheets for value in PERCENT.findall(sheet.why)]
    problems = []
    for match in PERCENT.finditer(text):
        if float(match[1]) not in _PLAIN_NUMBERS and not any(abs(value - float(match[1])) <= 1.01 for value in known):
            problems.append(f"{match[0]} is no probability of this face")
    labels = dict.fromkeys(label for sheet in sheets for label in sheet.labels)
    any_label = "|".join(re.escape(label) for label in labels)
    for label in labels:
        name, number = re.escape(label), r"(\d+) ?(?:%|percent)"
        tied = rf"(?<!and )(?<!or )(?<!% )(?<!not )\b{name}\"?,? \(?(?:{_BETWEEN})*{number}(?!,? (?:left )?(?:(?:for|of|to) )?\"?(?:{any_label}|others?)\b)"
        tied += rf"|{number}(?: for| of)? \"?{name}\b"
        for match in re.finditer(tied, text, re.I):
            value = float(match[1] or match[2])
            under = re.search(r"\b(?:under|below|less than) \d", match[0])
            measured = [100 * sheet.probabilities[label] for sheet in sheets if label in sheet.labels]
            if not any(share < value + 0.5 if under else abs(share - value) <= 1.01 for share in measured):
                shares = ", ".join(percent(sheet.probabilities[label]) for sheet in sheets if label in sheet.labels)
                problems.append(f"{match[0]!r}: {label} has {shares}")
    return problems


_PLAIN_NUMBERS = (86, 100, 0)  # how often it is right on the test set, all, none
_BETWEEN = "(?:only|about|roughly|around|just|gets|has|at|with|keeps|is at|comes to|leads with|is second with|under|below|less than|stays|remains|takes|is|still|leads at|stands at|even|is second at|estimated|stays at|holds) "
_NUMBER = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}


def _counts(text: str, faces: int) -> list[str]:
    found = re.search(
        r"\bI (?:found|see|have|count(?:ed)?) (?:only |just )?(\w+) (?:faces?|people|persons?)\b(?!.*\bone\b)",
        text,
        re.I,
    )
    number = found and (_NUMBER.get(found[1].lower()) or (int(found[1]) if found[1].isdigit() else None))
    return [f"{found[0]!r}: there are {faces}"] if found and number and number != faces else []
