"""Ends a streamed text at a stop string or a token limit."""

from collections.abc import Callable, Sequence

from emoreason.core.stop_strings import split_at_stop

Count = Callable[[str], int]


class StopSequences:
    """Takes text as it is generated and returns the part that can be sent.

    Text that may be the start of a stop string is held back until that is clear. `reason` is set at the end."""

    def __init__(self, stops: Sequence[str], max_tokens: int | None, count: Count):
        self.stops, self.max_tokens, self.count = stops, max_tokens, count
        self.shown, self.held = "", ""
        self.reason: str | None = None  # "stop" or "length"

    def feed(self, text: str) -> str:
        if self.reason:
            return ""
        ready, self.held, stopped = split_at_stop(self.held + text, self.stops)
        self.reason = "stop" if stopped else None
        return self._limit(ready)

    def end(self) -> str:
        """The text still held back. Call it when generation has finished."""
        if self.reason:
            return ""
        ready, self.held = self.held, ""
        ready = self._limit(ready)
        self.reason = self.reason or "stop"
        return ready

    def _limit(self, ready: str) -> str:
        if self.max_tokens is not None and self.count(self.shown + ready) > self.max_tokens:
            self.reason = "length"
            while ready and self.count(self.shown + ready) > self.max_tokens:
                ready = ready[:-1]
        self.shown += ready
        return ready
