"""The protocols that turn ten votes into a target. Each gives other figures, so every report names its protocol.

All protocols first drop a face whose winner is *unknown* or *not a face*. On a tie, the first in the order of FER+'s
columns wins, which reproduces the published counts (validation: 3,191 / 3,555 / 2,866).
"""

from __future__ import annotations

from collections.abc import Mapping

from emoreason.core.errors import UsageError
from emoreason.knowledge.emotions import label_set

EMOTIONS = label_set("ferplus8").labels
VOTES = (*EMOTIONS, "unknown", "not_a_face")  # the order of the vote columns
PROTOCOLS = ("majority", "argmax8", "strict", "probability")


def ferplus_target(votes: Mapping[str, float], protocol: str = "majority") -> str | dict[str, float] | None:
    """The target of a face: an emotion, or for `probability` a distribution over the eight. None: the face is left out.

    majority     votes of 1 or less become 0; then more than half of the rest (Barsoum et al. 2016 and its public code)
    argmax8      the most votes
    strict       more than half of all votes
    probability  the distribution over the eight emotions, without votes of 1 or less, if others are left
    """
    if protocol not in PROTOCOLS:
        raise UsageError(f"unknown protocol {protocol!r}; expected one of: {', '.join(PROTOCOLS)}")
    counts = {name: float(votes.get(name, 0)) for name in VOTES}
    winner = max(VOTES, key=counts.__getitem__)  # the first one on a tie
    if counts[winner] <= 0 or winner not in EMOTIONS:
        return None
    if protocol == "argmax8":
        return winner
    if protocol == "strict":
        return winner if 2 * counts[winner] > sum(counts.values()) else None
    above_one = {name: count if count > 1 else 0.0 for name, count in counts.items()}
    if protocol == "majority":
        return winner if 2 * above_one[winner] > sum(above_one.values()) else None
    shares = {name: above_one[name] for name in EMOTIONS}
    if not any(shares.values()):
        shares = {name: counts[name] for name in EMOTIONS}
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items()}


def majority_label(votes: Mapping[str, float]) -> str | None:
    """The label by the protocol `majority`."""
    target = ferplus_target(votes)
    return target if isinstance(target, str) else None
