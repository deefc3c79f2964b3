"""Where a text ends: stop strings and the largest number of tokens. And how tokens are counted."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from emoreason.reasoner import Reasoner

Count = Callable[[str], int]


class StopSequences:
    """Text goes in as it is written, and comes out as far as it may be shown.

    What could be the beginning of a stop string is held back until it is known. `reason` is set at the end."""

    def __init__(self, stops: Sequence[str], most: int | None, count: Count):
        self.stops, self.most, self.count = stops, most, count
        self.shown, self.held = "", ""
        self.reason: str | None = None  # "stop" or "length"

    def feed(self, text: str) -> str:
        if self.reason:
            return ""
        self.held += text
        places = [at for stop in self.stops if (at := self.held.find(stop)) >= 0]
        if places:
            ready, self.held, self.reason = self.held[: min(places)], "", "stop"
        else:
            keep = self._beginning()
            ready, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return self._within(ready)

    def end(self) -> str:
        """What was held back and turned out to be no stop string."""
        if self.reason:
            return ""
        ready, self.held = self.held, ""
        ready = self._within(ready)
        self.reason = self.reason or "stop"
        return ready

    def _beginning(self) -> int:
        """How many of the last characters could begin a stop string."""
        longest = min(max(map(len, self.stops), default=0) - 1, len(self.held))
        return next(
            (n for n in range(longest, 0, -1) if any(stop.startswith(self.held[-n:]) for stop in self.stops)), 0
        )

    def _within(self, ready: str) -> str:
        if self.most is not None and self.count(self.shown + ready) > self.most:
            self.reason = "length"
            while ready and self.count(self.shown + ready) > self.most:
                ready = ready[:-1]
        self.shown += ready
        return ready


def counter(reasoner: Reasoner) -> Count:
    """Tokens of a text by the language model's own tokenizer; words and marks where it is not at hand."""
    explainer: Any = reasoner.explainer if reasoner.has_words else None
    if (vlm := getattr(explainer, "vlm", None)) is not None:
        return lambda text: len(vlm.tokenizer.encode(text))
    if (tokenizer := getattr(getattr(explainer, "chat", None), "tokenizer", None)) is not None:
        return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return lambda text: len(re.findall(r"\w+|[^\w\s]", text))


def visual_tokens(reasoner: Reasoner) -> int:
    """Tokens that stand for the picture of one face."""
    vlm = getattr(reasoner.explainer if reasoner.has_words else None, "vlm", None)
    return vlm.spec.grid**2 if vlm is not None else 0
