"""Cut a streamed text at stop strings."""

from collections.abc import Sequence


def split_at_stop(text: str, stops: Sequence[str]) -> tuple[str, str, bool]:
    """Split a text into the part to show and the part to hold back, and say whether a stop string was found.

    The end of the text is held back as long as it may be the beginning of a stop string."""
    if positions := [position for stop in stops if (position := text.find(stop)) >= 0]:
        return text[: min(positions)], "", True
    longest = min(max(map(len, stops), default=0) - 1, len(text))
    held_back = next((n for n in range(longest, 0, -1) if any(stop.startswith(text[-n:]) for stop in stops)), 0)
    return text[: len(text) - held_back], text[len(text) - held_back :], False
