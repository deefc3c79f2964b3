"""Where a text that arrives piece by piece has to stop."""

from collections.abc import Sequence


def split_at_stop(text: str, stops: Sequence[str]) -> tuple[str, str, bool]:
    """What may be shown of the text, what has to wait, and whether a stop string was found.

    The end of the text waits while it could be the beginning of a stop string."""
    if places := [at for stop in stops if (at := text.find(stop)) >= 0]:
        return text[: min(places)], "", True
    longest = min(max(map(len, stops), default=0) - 1, len(text))
    waiting = next((n for n in range(longest, 0, -1) if any(stop.startswith(text[-n:]) for stop in stops)), 0)
    return text[: len(text) - waiting], text[len(text) - waiting :], False
