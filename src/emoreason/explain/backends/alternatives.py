"""A model's distribution over labels, read from the tokens of a server's answer and their alternatives."""

from collections.abc import Mapping, Sequence
from math import exp, log
from typing import Any


def read_alternatives(content: Sequence[Mapping[str, Any]], options: Sequence[str]) -> list[float] | None:
    """Log-probabilities of the options from an answer's tokens with their alternatives; None when it chose no option.

    Along the answer the options are told apart token by token. An alternative that leaves several open is shared among
    them; an option that is never seen gets the smallest probability that is.
    """
    names = [option.casefold() for option in options]
    masses, path, reached = [0.0] * len(names), "", 1.0
    seen: list[float] = []
    chosen = None
    for token in content:
        given = {str(other["token"]): exp(other["logprob"]) for other in token.get("top_logprobs") or ()}
        taken = str(token["token"])
        given[taken] = exp(token["logprob"])
        for text, p in given.items():
            if text == taken:
                continue
            seen.append(reached * p)
            fitting = _fitting(path + text, names) if _plain(path + text) else []
            for at in fitting:
                masses[at] += reached * p / len(fitting)
        path, reached = path + taken, reached * given[taken]
        if not _plain(path):
            continue
        open_now = _fitting(path, names)
        if not open_now:
            return None
        if len(open_now) == 1:
            chosen = open_now[0]
            break
    if chosen is None:
        chosen = next((at for at, name in enumerate(names) if name == _plain(path)), None)
    if chosen is None:
        return None
    masses[chosen] += reached
    least = max(min([p for p in seen if p > 0] or [1e-6]), 1e-9)
    return [log(mass) if mass > 0 else log(min(least, masses[chosen])) for mass in masses]


def _plain(text: str) -> str:
    return text.casefold().strip(" \n\t\"'*`.,:;!?")


def _fitting(text: str, names: Sequence[str]) -> list[int]:
    """Options that the text begins; the one that it is, where a mark follows it."""
    plain = _plain(text)
    whole = [at for at, name in enumerate(names) if name == plain and text.rstrip()[-1:] in "\"'*`.,:;!?"]
    return whole or [at for at, name in enumerate(names) if name.startswith(plain)]
