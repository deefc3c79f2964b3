"""Finds the faces that a question or a sentence names: "face 2", "the left one", "the other", "who smiles most".

A text is first written in code: key words, also misspelt ones, become the names of their classes. "And teh lfet guy's
brow?" becomes "and the LEFT FACE 's PART ?". The patterns below read the code.
"""

import re
from collections.abc import Iterator, Sequence

from emoreason.explain.sheet import Placed

_CLASSES = {
    "LEFT": "left leftmost lefthand",
    "RIGHT": "right rightmost righthand rite",
    "LEFT FACE": "lefty", "RIGHT FACE": "righty",
    "MIDDLE": "middle center centre central",
    "FACE": "face fase head visage countenance",
    "MAN": "person man woman guy gal lad lady girl gril boy kid child dude chap bloke fellow individual subject human "
    "figure character participant model actor actress baby teenager gentleman owner creature pupil stranger",
    "FACES": "faces persons people peoples ppl peeps folks men women guys ladies girls boys kids children dudes "
    "individuals subjects heads humans figures characters participants gentlemen pupils ones strangers",
    "PIC": "picture photo pic image portrait shot photograph foto still",
    "PICS": "pictures photos pics images portraits shots photographs fotos stills",
    "KIN": "wife husband friend buddy mate partner boyfriend girlfriend mother father mum mom dad son daughter brother "
    "sister boss colleague coworker neighbour neighbor companion",
    "PART": "eye brow eyebrow lid eyelid corner cheek lip nostril half ear inner outer upper lower",
    "PARTS": "eyes brows eyebrows lids eyelids corners cheeks lips nostrils halves sides ends",
    "THING": "emotion emotions expression expressions feeling feelings label labels option options reading guess "
    "candidate candidates choice clue clues cue cues sign signs movement movements muscle muscles word words thing "
    "things answer question questions language way place position possibility likely likeliest time night state stuff "
    "numbers percentages possibilities",
    "number": "number num no nr #",
    "ANY": "whoo everyone everybody anyone anybody someone somebody nobody neither either individually whichever "
    "whos who whom whose",
    "BOTH": "each both bth bothe",
    "THEY": "they them em thay theirs",
    "GROUP": "group trio pair couple crowd duo mood moood moods vibe vibes atmosphere everywhere lot",
    "DIFFER": "differ differs difference differences different contrast contrasts diff difrence same "
    "identical alike similar equal matching distinguishes versus vs compare compares comparing compared comparison "
    "compair comparation",
    "the": "teh hte", "and": "adn n an", "in": "inthe", "all": "al", "every": "evry", "which": "whch", "least": "leest",
    "other": "another othr", "these": "these those", "behind": "bihind", "others": "", "remaining": "", "side": "",
    "one": "1 oen", "2": "two", "3": "three", "4": "four", "5": "five", "last": "",
    "th1": "first 1st", "th2": "second 2nd", "th3": "third 3rd", "th4": "fourth 4th",
}  # fmt: skip
_CODE = {word: name for name, words in _CLASSES.items() for word in words.split()}
# Words that are not a misspelt key word although they look like one.
_REAL = (
    "booth bot bother bros coupe crow dues ether ever facs fae fiend fist forth fried hem let mode nether nigh pace "
    "potion stat strange teenage thee their there thin ting tree"
)


def _near_misses(word: str) -> Iterator[str]:
    """The word with two letters swapped, one missing, or one doubled."""
    for i in range(1, len(word)):
        yield word[: i - 1] + word[i] + word[i - 1] + word[i + 1 :]
        yield word[:i] + word[i + 1 :]
        yield word[:i] + word[i - 1 :]


_NEAR = {
    miss: _CODE.get(word, word)
    for word in (*_CODE, *_CLASSES)
    if word.islower() and (len(word) > 4 or word in ("left", "face", "they", "them", "each"))
    for miss in _near_misses(word)
    if miss not in _CODE and miss not in _CLASSES and miss not in _REAL.split()
}
_TOKEN = re.compile(
    r"[-+]?\d+(?:[.,]\d+)?\s*(?:%|percent|procent|°)|\d+[.,]\d+|[-+]\d+|\bn[or]\.?\s*(?=\d)|\d(?:st|nd|rd)|\d+|'s\b"
    r"|[^\W\d_]+|[^\w\s]"
)


def _in_code(text: str) -> str:
    words = []
    for token in _TOKEN.findall(text.lower().replace("’", "'")):
        if re.match(r"n[or]\W", token):  # "no. 3"
            words.append("number")
        elif re.match(r"[-+]\d|\d+[^\w]", token):
            words.append("%")
        else:
            words.append(_CODE.get(token) or _NEAR.get(token) or token)
    return re.sub(r"\b(LEFT|RIGHT)(?: -)? hand\b", r"\1", " ".join(words))


def _any(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_F = r"(?:FACES?|MAN|PICS?|KIN|one)\b"
_SPOT = r"(?:LEFT|RIGHT|MIDDLE)\b"
_LINK = r"(?:,|and|or|DIFFER|with|to|than|then|from|against|/|&)"
_N = r"(?:\d\b(?! (?:FACES|THING|-))|one\b(?! (?:more|by|after|at|of|line|sentence|FACES|PICS|THING|-)))"
_NUMBERED = _any(
    rf"(?:\b(?:FACES?|MAN|PICS?)(?: number)?|(?<!THING )\bnumber) {_N}(?: {_LINK} (?:{_F} )?(?:number )?{_N})*"
    r"(?! (?:on|in) the list)",
    rf"(?:^|\b(?:between|DIFFER|about) )(?:\d|one) {_LINK} (?:\d|one)\b",
    r"^(?:and |about )*\d(?= [?!.,]|$)",  # "2?"
)
_NTH = _any(
    r"\b(?:th(\d)|last)(?= (?:, )?(?:(?:and|or|,|with|from|DIFFER) (?:the )?(?:th\d|last) )?"
    rf"(?:MIDDLE |young |old |small |[23] )?{_F})",
    r"\b(?:about|and|with|than|from|of|to) the th(\d)(?= \W|$)",
    r"\b(?:in|on) the th(\d)(?! (?:\w+ )?THING)",
    r"\bthe th(\d)(?= (?:and|or|(?!THING)\w+s)\b)",
    r"(?:^|[.;] )the th(\d)(?= [,.:])",
    r"(?:^|[.;!?,] )th(\d)(?= :| , (?:LEFT|MIDDLE|RIGHT))",
)
# What follows a side of one face, or "right" in the sense of correct; what stands before a side of one face.
_PART_AFTER = _any(r" (?:mouth )?PART\b", r" (?:side )?of (?:the|his|her|their|its) (?:FACE|mouth|PART)", r" THING of",
                   r" (?:word|answer|way|now|away|or wrong)\b")  # fmt: skip
_BODY_BEFORE = _any(
    r"\b(?:more|most|mostly|mainly|further|stronger|higher|lower|tighter|bigger|side)(?: so| clearly| strongly)?"
    r"(?: (?:on|to|at|in))?(?: the)? $",
    r"(?:\b(?:his|her|their|its|own)|'s) $",
    r"\bwhich (?:side )?$",
    r"(?:turn|tilt|look|head|degree|%)[^.,;?]* to (?:the )?$",
)
_FACE_AFTER = re.compile(rf"(?: side)?(?: \w+)? {_F}(?! side)")
_PLACE_BEFORE = re.compile(
    r"(?:^|[-.;:!?(/] |\b(?:on|at|in|from|of|by|to|the|and|about|with|than|DIFFER|or|between|then|for|against|does"
    r"|is) )"
    r"(?:the |my |your )?(?:far |very |extreme )*$"
)
_WITH_FACE = re.compile(
    rf"{_F}(?: (?:ANY|that|is|are|\w*stand\w*|sitting|over|there))* (?:on|in|at|to|of|by)(?: the| my| your)?"
    r"(?: far| very)? $"
)
_STARTS = re.compile(r"^(?:(?:and|ok|so|what) )*(?:about )?(?:on )?(?:the )?$")
_OTHER = _any(
    r"(?<!to )\bother (?:of )?(?:\d |\w+ )?(?:FACES?|MAN|one|KIN)\b",
    r"(?<!than )(?<!after )(?<!on )(?<!over )\bthe other(?= (?:\d )?[^\w ]| \d(?! THING)|$"
    r"| (?:is|has|does|looks?|shows?|reads?|gets|and)\b)",
    r"\b(?:the|and|of|about|with|2|3|how) others\b",
    r"^others\b",
    r"(?:^|\b(?:and|about|now|for) )the rest(?= \W|$)|\bthe rest of THEY",
    r"\bremaining (?:FACE|PIC|one|\d)",
    r"\b(?:his|her|their) KIN\b",
    rf"(?:{_F}|ANY)(?: \w+){{0,2}} (?:behind|beside|near|next to|alongside)\b|{_F} on the other side",
)
_OTHER_PICTURE = re.compile(r"\bother (?:\d )?PICS?\b")
_BETWEEN = re.compile(r"(?:FACE|MAN|one)(?: \w+)? between (?:THEY|(?:the |these )?2\b|BOTH|\W)")
_NOT_THIS = re.compile(rf"(?:next to|beside|behind|KIN of|leaving|except|besides|but not)(?: the)? {_SPOT}")
_ELSEWHERE = _any(
    r"\b(?:FACE|MAN|KIN)(?: (?:ANY|that|is|'s|\w+ing|in))* (?:in front|from the side|with (?:him|her|THEY|the phone)"
    r"|in (?:the )?(?:back|background|mirror|doorway|PART|th2))\b",
    r"\b(?:MAN|KIN)(?: (?:ANY|that|is|'s|\w+ing))* at the \w+",
)
# Questions about all faces: whatever they name beside, or unless they name one.
_EVERY = _any(
    rf"\b(?:every|BOTH|through|all)(?: of)?(?: the| these)?(?: \d)? (?:{_F}|THEY)(?! (?:THING|PART))",
    r"one by one|FACE by FACE|(?:FACES?|one) after|LEFT to RIGHT|\ball \d",
)
_ALL = _any(
    r"\b(?:ANY|THEY|GROUP|FACES|PICS|together|none of)\b|any one\b|no one\b|in turn|down the row|more than one",
    r"(?<!be )(?<!it )(?<!bit of )\bBOTH\b(?!(?: of)?(?: the)? (?:PARTS?|side|THING))",
    r"\bwhich (?:FACE|MAN|PIC|one(?! THING)|of|from|THING is \w+(?:ier|est)\b)",
    r"\b(?:per|every|any) (?:FACE|MAN|PIC|one)|\bthe one (?:with|ANY)|\bany (?:of|\w+ in (?:here|there))|\bone or \d",
    r"\b(?:the|these|this|of|all|th1) [2-9]\b(?! (?:THING|best))|(?<!BOTH )\bof these\b(?! THING)|are these",
    r"\b(?:whole|entire|hole|feel|THING of|how many|characteri\w+|sum) (?:\w+ )*PIC|"
    r"\bPIC in (?:a|one) (?:\w+ )?(?:line|sentence)",
    r"^all (?!good|done|right|set|clear)(?:\w+|\w+ or not)(?= [?.!,]|$| or)",
    r"\bwhere .*\b(?:less|least|weakest)|weakest call|\b(?:least|less) (?:sure|certain|confident)",
)
_MOST = _any(  # no more than a superlative
    r"^(?:and |ok |so )?(?:most|more|least|less) (?!detail|please|pls|info|about|on|THING|or|often|of)\w+(?: one)?"
    r"(?: , \w+)*(?: \W)*$",
    r"^(?:and |ok |so |the )*(?!best|rest|honest|test|simpl|short|long|strong|big|interest|guest|easi|earli)"
    r"\w+(?:est|ier|dder)\b(?: one)?(?: ,? ?\w+)?(?: \W)*$",
)


def named_faces(text: str, faces: Sequence[Placed], focus: int) -> tuple[int, ...]:
    """Indices of the faces that a text names by number, place or as "the other"; empty if it names none."""
    return tuple(i for i in _mentions(_in_code(text), faces, focus) if 0 <= i < len(faces))


def asked_faces(
    question: str, faces: Sequence[Placed], focus: int, before: Sequence[int] = ()
) -> tuple[tuple[int, ...], bool]:
    """Indices of the faces that a question is about, and whether it names a face that does not exist.

    focus: the face that the conversation is about; before: the faces of the question before."""
    code = _in_code(question)
    everyone = tuple(range(len(faces)))
    mentions = _mentions(code, faces, focus)
    named = tuple(i for i in mentions if 0 <= i < len(faces))
    labels = {label.lower() for face in faces for label in face.sheet.labels}
    compares = "DIFFER" in code and not any(label in question.lower() for label in labels)
    if len(faces) > 1 and _EVERY.search(code):
        return everyone, False
    if named:
        return (tuple(sorted({focus, *named})) if len(named) == 1 and compares else named), False
    if len(faces) == 1 or mentions:
        return (focus,), bool(mentions)
    if len(before) > 1 and re.search(r"\b(?:THEY|these|BOTH|their)\b", code):
        return tuple(before), False
    if compares or _ALL.search(code) or _MOST.search(code):
        return everyone, False
    return (focus,), False


def _mentions(code: str, faces: Sequence[Placed], focus: int) -> list[int]:
    """Indices of the named faces in the order of the text; len(faces) stands for a face that is not there."""
    found: dict[int, int] = {}  # index -> position
    numbers = [face.number for face in faces]
    separate = len(faces) > 1 and faces[0].place.startswith("picture")
    absent = len(faces)

    def add(index: int, at: int) -> None:
        found[index] = min(at, found.get(index, at))

    for numbered in _NUMBERED.finditer(code):
        for digit in re.finditer(r"\b(?:\d|one)\b", numbered[0]):
            number = 1 if digit[0] == "one" else int(digit[0])
            add(numbers.index(number) if number in numbers else absent, numbered.start() + digit.start())
    for match in _NTH.finditer(code):
        nth = int(next((group for group in match.groups() if group), len(faces)))
        add(min(nth - 1, absent), match.start())
        if re.match(rf" [23] {_F}", code[match.end() :]):  # "the first two pictures"
            for i in range(min(int(code[match.end() + 1]), len(faces))):
                add(i, match.start())
    for index, at in _places(code, faces):
        add(index, at)
    if found and _NOT_THIS.search(code):  # "the one next to the left face"
        return sorted(set(range(len(faces))) - set(found))
    if len(faces) == 3 and (between := _BETWEEN.search(code)):
        add(1, between.start())
    other = _OTHER.search(code) or (_OTHER_PICTURE.search(code) if separate else None)
    if len(faces) == 1 and not found and (other or _ELSEWHERE.search(code)):
        return [absent]
    after = not found or (min(found.values()) < (other.start() if other else 0) and "one of the others" not in code)
    if other and len(faces) > 1 and after:  # "the left one smiles, the others do not"
        for index in set(range(len(faces))) - (set(found) or {focus}):
            add(index, other.start())
    return sorted(found, key=lambda index: found[index])


def _places(code: str, faces: Sequence[Placed]) -> Iterator[tuple[int, int]]:
    """Index and position of the faces that are named by their places."""
    spots = list(re.finditer(_SPOT, code))
    kept: set[int] = set()
    for i, match in enumerate(spots):
        before, after = code[: match.start()], code[match.end() :]
        if _is_place(match[0], before, after, len(faces) > 1, len(spots) > 1):
            kept.add(i)
    for i in range(1, len(spots)):  # "left and right faces", "left vs right"
        between = code[spots[i - 1].end() : spots[i].start()]
        if re.fullmatch(rf"(?: {_F}| side)? {_LINK} (?:the )?", between) and {i - 1, i} & kept:
            kept |= {i - 1, i}
    for i in sorted(kept):
        yield from ((index, spots[i].start()) for index in _at_place(spots[i][0].lower(), faces))


def _is_place(spot: str, before: str, after: str, several: bool, more_spots: bool) -> bool:
    if _PART_AFTER.match(after) or (spot == "MIDDLE" and re.match(" of", after)):
        return False
    if _FACE_AFTER.match(after):
        return True
    if _BODY_BEFORE.search(before):
        return False
    if not several:
        ends = spot != "RIGHT" and re.match(r"(?: side)?(?: [?!.]|$)", after)
        return bool(_WITH_FACE.search(before) or (_STARTS.match(before) and ends))
    beside = more_spots or bool(re.search(rf"{_F}(?: \d)? , $", before))
    if spot == "RIGHT" and re.search(r"(?:^|[,.!?] |\b(?:am i|is it|that|not|and) )$", before):
        whole = not before and re.match(r"(?: \W)*$", after)
        listed = re.search(r"(?:[.]|(?:FACE|\d) ,) $", before)  # "Left, calm. Right, sad.", not "It's left, right?"
        tag = re.match(r" (?:[?!]|$)", after) or (after.startswith(" ,") and not listed)
        return bool(whole or after.startswith(" :") or (beside and not tag))
    if spot == "MIDDLE" or _PLACE_BEFORE.search(before) or _STARTS.match(before):
        return True
    return beside and bool(re.search(r"(?:^|[,.] )$", before) or re.match(" [,.;]", after))


def _at_place(place: str, faces: Sequence[Placed]) -> list[int]:
    n = len(faces)
    if n > 1 and faces[0].place.startswith("picture"):  # separate pictures: in the order in which they came
        found = {"left": [0], "right": [n - 1], "middle": [n // 2] if n % 2 else []}[place]
    else:
        found = [i for i, face in enumerate(faces) if face.place == place]
    return found or [n]
