"""Where a text ends: stop strings and the largest number of tokens."""

from collections.abc import Callable, Sequence

from emoreason.core.stop_strings import split_at_stop

Count = Callable[[str], int]


class StopSequences:
    """Text goes in as it is written, and comes out as far as it may be shown.

    What could be the beginning of a stop string is held back until it is known. `reason` is set at the end."""

    def __init__(self, stops: Sequence[str], max_tokens: int | None, count: Count):
        self.stops, self.max_tokens, self.count = stops, max_tokens, count
        self.shown, self.held = "", ""
        self.reason: str | None = None  # "stop" or "length"

    def feed(self, text: str) -> str:
        if self.reason:
            return ""
        ready, self.held, stopped = split_at_stop(self.held + text, self.stops)
        self.reason = "stop" if stopped else None
        return self._within(ready)

    def end(self) -> str:
        """What was held back and turned out to be no stop string."""
        if self.reason:
            return ""
        ready, self.held = self.held, ""
        ready = self._within(ready)
        self.reason = self.reason or "stop"
        return ready

    def _within(self, ready: str) -> str:
        if self.max_tokens is not None and self.count(self.shown + ready) > self.max_tokens:
            self.reason = "length"
            while ready and self.count(self.shown + ready) > self.max_tokens:
                ready = ready[:-1]
        self.shown += ready
        return ready
