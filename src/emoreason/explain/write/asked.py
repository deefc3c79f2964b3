"""A question about faces with what it names (a label, movements, a part of the face), and phrases to answer it."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from emoreason.explain.check.response import CODE
from emoreason.explain.check.statements import View
from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.sheet import Placed, Sheet, ranked
from emoreason.explain.write.explanation import clause, conflicts
from emoreason.explain.write.phrases import load_phrases
from emoreason.explain.write.wording import is_known, reason, say, share, signs, spoken
from emoreason.knowledge.emotion_words import find, index
from emoreason.knowledge.emotions import SETS_KEPT, canonical, emotion_words

PARTS = {"brows": r"brows?|eyebrows?|forehead", "eyes": r"eyes?|lids?|gaze", "cheeks": r"cheeks?",
         "nose": r"nose|nostrils?", "mouth": r"mouth|lips?", "chin": r"chin", "jaw": r"jaw"}  # fmt: skip
FOREIGN = re.compile(
    r"\b(?:ist|sind|das|der|die|oder|nicht|er|sie|wie|elle|il|est|pas|ou|une|dis|está|ella|esta|es|por|qué|che|sono|lei"
    r"|lui|è|czy|jest|yüz)\b|[^\x00-\x7f]{2,}"
)  # words that English questions do not have
NOT_PLAIN = re.compile(
    r"n't\b|\b(?:not|no|why|how|what|where|or|if|mix\w*|vs|differ\w*|inside|secretly|really|actually)\b", re.I
)  # no question for yes or no


@dataclass(frozen=True)
class Asked:
    text: str
    view: View
    rng: random.Random

    @property
    def faces(self) -> list[Placed]:
        return [self.view.faces[i] for i in self.view.about]

    @property
    def face(self) -> Placed:
        return self.faces[0]

    @property
    def sheet(self) -> Sheet:
        return self.face.sheet

    @cached_property
    def label(self) -> str | None:
        """The label or emotion word that is named last, as the sheet spells it."""
        spots = find(self.text, _vocabulary(self.sheet.labels))
        return spots[-1].entry if spots else None

    @cached_property
    def units(self) -> list[Mention]:
        return mentions(self.text)

    @cached_property
    def codes(self) -> list[str]:
        """The codes of the movements that are named, by code or in words."""
        named = [match[1] for match in CODE.finditer(self.text)]
        return list(dict.fromkeys(named or [mention.action_unit for mention in self.units]))

    @cached_property
    def part(self) -> str | None:
        return next((part for part, names in PARTS.items() if re.search(rf"\b(?:{names})\b", self.text, re.I)), None)

    @property
    def plain(self) -> bool:
        """Whether the question can be answered with yes or no."""
        return not NOT_PLAIN.search(self.text) and all(m.present and not m.band and not m.side for m in self.units)

    @property
    def in_another_language(self) -> bool:
        return len(FOREIGN.findall(self.text)) > 1

    def has(self, need: str) -> bool:
        """Whether the question and the faces have what a case needs."""
        label, labels = self.label, self.sheet.labels
        return {
            "any": True,
            "many": len(self.view.about) > 1,
            "unread": not self.sheet.units,
            "code": bool(CODE.search(self.text)),
            "label": label in labels,
            "foreign": label is not None and label not in labels,
            "unit": bool(self.units),
            "part": self.part is not None,
        }[need]

    @cached_property
    def slots(self) -> dict[str, str]:
        """What every phrase may use."""
        sheet, label = self.sheet, self.label
        last = ranked(sheet.probabilities)[-1][0]
        slots = {"who": self.who(self.face), "label": spoken(sheet.label), "percent": share(sheet, sheet.label),
                 "why": reason(sheet, self.rng), "last": spoken(last),
                 "parts": " and the ".join(sheet.covered),"last_share": share(sheet, last)}  # fmt: skip
        if label:
            slots["asked"] = spoken(label)
        if label in sheet.labels:
            slots["share"] = share(sheet, label)
        shown = "unread" if not sheet.units else "no_label" if sheet.abstained else ""
        shown = shown or ("shows" if is_known(sheet.label) else "shows_own")
        return slots | {"shows": say(self.rng, load_phrases("answers")[shown], **slots)}

    def say(self, key: str, *deeper: str, **slots: str) -> str:
        texts: Any = load_phrases("answers")[key]
        for name in deeper:
            texts = texts[name]
        return say(self.rng, texts, **(self.slots | slots))

    def who(self, face: Placed) -> str:
        if len(self.view.faces) == 1:
            return "this face"
        return f"the {face.place} face" if face.place in ("left", "middle", "right") else f"face {face.number}"

    def clauses(self, codes: Sequence[str]) -> str:
        return ", and ".join(clause(self.sheet, code, self.rng) for code in codes)

    def lacking(self, label: str) -> str | None:
        """The code of a usual sign of the label that the face does not show."""
        sheet = self.sheet
        missing = [code for code in signs(label) if code in sheet.absent and not conflicts(code, list(sheet.sure))]
        return missing[0] if missing else None


def listed(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


@lru_cache(maxsize=SETS_KEPT)
def _vocabulary(labels: tuple[str, ...]) -> dict[str, tuple[tuple[tuple[str, ...], str], ...]]:
    """Every emotion word, as the label of the same emotion if there is one."""
    home = {canonical(label): label for label in reversed(labels) if canonical(label)}
    words = {word: home.get(canonical(word), canonical(word) or word) for word in sorted(emotion_words())}
    return index(tuple((words | {label: label for label in labels}).items()))
