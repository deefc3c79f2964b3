"""Finds the sentences, percentages, movements and yes/no in an answer."""

import re
from collections.abc import Sequence

from emoreason.explain.read.claims import Mention, mentions
from emoreason.explain.sheet import Sheet

SENTENCE = re.compile(r"[^.!?]+[.!?]*")
GENERAL = re.compile(
    r"\b(would|expect\w*|usual(ly)?|normal(ly)?|typical(ly)?|as a rule|in general|generally|means? that|stands? for"
    r"|describes?|refers? to|such as|if(?! anything))\b",
    re.I,
)
AFFIRMS = re.compile(
    r"\W*(yes|yeah|indeed|correct|right|true|exactly|you are right|you're right|i agree|agreed)\b", re.I
)
DENIES = re.compile(r"\W*no\b", re.I)
PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def movements(text: str, faces: Sequence[Sheet]) -> list[Mention]:
    """The action units that the text mentions. Labels are masked first: the label "neutral" is not a movement."""
    for label in {label for face in faces for label in face.labels}:
        text = re.sub(rf"(?<!\w){re.escape(label)}(?!\w)", lambda found: "x" * len(found[0]), text, flags=re.I)
    return mentions(text)
