"""How ten votes become a target. The protocol decides the number, so it is named every time.

All protocols first drop a face whose winner is *unknown* or *not a face*. Where several share the most votes the first
in the order of FER+'s columns wins, which is how the published counts come about (validation: 3,191 / 3,555 / 2,866).
"""

from __future__ import annotations

from collections.abc import Mapping

from emoreason.core.errors import UsageError
from emoreason.knowledge.emotions import label_set

EMOTIONS = label_set("ferplus8").labels
VOTES = (*EMOTIONS, "unknown", "not_a_face")  # the order of the vote columns
PROTOCOLS = ("majority", "argmax8", "strict", "probability")


def ferplus_target(votes: Mapping[str, float], protocol: str = "majority") -> str | dict[str, float] | None:
    """The emotion (or, for `probability`, the distribution over the eight) that a face counts for; None = left out.

    majority     votes of 1 or less become 0; more than half of what is left (Barsoum et al. 2016 and its public code)
    argmax8      the most votes
    strict       more than half of all votes
    probability  the distribution over the eight emotions, votes of 1 or less dropped where others are left
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol {protocol!r}; expected one of: {', '.join(PROTOCOLS)}")
    counts = {name: float(votes.get(name, 0)) for name in VOTES}
    winner = max(VOTES, key=counts.__getitem__)  # the first of several
    if counts[winner] <= 0 or winner not in EMOTIONS:
        return None
    if protocol == "argmax8":
        return winner
    if protocol == "strict":
        return winner if 2 * counts[winner] > sum(counts.values()) else None
    kept = {name: count if count > 1 else 0.0 for name, count in counts.items()}
    if protocol == "majority":
        return winner if 2 * kept[winner] > sum(kept.values()) else None
    shares = {name: kept[name] for name in EMOTIONS}
    if not any(shares.values()):
        shares = {name: counts[name] for name in EMOTIONS}
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def majority_label(votes: Mapping[str, float]) -> str | None:
    """The label of the headline protocol."""
    target = ferplus_target(votes)
    return target if isinstance(target, str) else None
