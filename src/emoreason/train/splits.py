"""Which face is for what. Persons and copies of a picture stand on one side only; the same seed gives the same parts.

train     the head learns from these
holdout   chooses the epoch and fits temperature and operating points
report    is looked at once, at the end: the figures before and after
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emoreason.core.errors import EmoreasonError

if TYPE_CHECKING:
    from emoreason.train.labeled_faces import LabeledFaces

MIN_TRAIN_FACES = 2  # faces of a label in train; one in each of the others
MAX_HELD_OUT = 2000


@dataclass(frozen=True)
class Splits:
    """Row numbers."""

    train: np.ndarray
    holdout: np.ndarray
    report: np.ndarray
    report_name: str  # validation, test, or "a share of the faces"
    removed: int  # training faces whose person or picture stands in the report as well
    untouched: dict[str, int]  # splits of the data that nothing was done with

    def named(self) -> dict[str, np.ndarray]:
        return {"train": self.train, "holdout": self.holdout, "report": self.report}


def share_of(
    faces: "LabeledFaces", rows: np.ndarray, share: float, seed: int, max_faces: int | None = None
) -> np.ndarray:
    """About `share` of these rows, of each label alike and at least one of each, whole units only; sorted."""
    labels, strata = max(1, len(faces.labels)), faces.stratum
    counts = np.bincount(strata[rows], minlength=labels)
    share = share if max_faces is None else min(share, max_faces / max(1, len(rows)))
    wanted = np.where(counts > 0, np.maximum(1, np.round(share * counts)), 0)
    members: dict[int, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(int(faces.unit[row]), []).append(row)
    content = {unit: np.bincount(strata[inside], minlength=labels) for unit, inside in members.items()}
    # Ordered by picture and not by place, so that the order of the files has no say.
    order = sorted(members, key=lambda unit: _drawn(seed, min(faces.keys[row] for row in members[unit])))
    chosen: set[int] = set()
    for label in np.argsort(counts, kind="stable"):  # the rarest first, while there is a choice
        holding = [unit for unit in order if content[unit][label]]
        for unit in holding:
            if wanted[label] <= 0:
                break
            here = content[unit]
            useful = np.minimum(here, np.maximum(wanted, 0)).sum()
            if unit not in chosen and 2 * useful > here.sum():  # more of it is wanted than not
                chosen.add(unit)
                wanted = wanted - here
        if holding and not any(unit in chosen for unit in holding):  # only large units hold it: the smallest of them
            smallest = min(holding, key=lambda unit: content[unit].sum())
            chosen.add(smallest)
            wanted = wanted - content[smallest]
    return np.array(sorted(row for unit in chosen for row in members[unit]), dtype=int)


def make_splits(faces: "LabeledFaces", validation: float, holdout: float, seed: int, limit: int = 0) -> Splits:
    """The data's own validation (else test) split for the report, or a share of the faces."""
    split = np.array([name or "" for name in faces.split])
    rows = np.arange(len(faces))
    here = [name for name in ("validation", "test") if (split == name).any()]
    untouched: dict[str, int] = {}
    if (split == "train").any() and here:
        report, train, name = rows[split == here[0]], rows[split == "train"], here[0]
        used = np.isin(split, ["train", here[0]])
        untouched = dict(Counter(str(name) or "(no split)" for name in split[~used]))
        kept = train[~np.isin(faces.unit[train], faces.unit[np.isin(split, ["validation", "test"])])]
        removed, train = len(train) - len(kept), kept
    else:
        report, name, removed = share_of(faces, rows, validation, seed), "a share of the faces", 0
        train = np.setdiff1d(rows, report)
    if limit and len(train) > limit:
        train = np.sort(np.random.default_rng(seed).permutation(train)[:limit])
    held_out = share_of(faces, train, holdout, seed + 1, MAX_HELD_OUT)
    parts = Splits(np.setdiff1d(train, held_out), held_out, report, name, removed, untouched)
    _check(faces, parts)
    return parts


def _check(faces: "LabeledFaces", parts: Splits) -> None:
    counts = {name: faces.counts(rows) for name, rows in parts.named().items()}
    own = parts.report_name in ("validation", "test")
    few = [
        label
        for label in faces.labels
        if counts["train"][label] < MIN_TRAIN_FACES
        or not counts["holdout"][label]
        or not (own or counts["report"][label])
    ]
    if not few:
        return
    rest = [label for label in faces.labels if label not in few]
    persons = len({sample.groups.get(faces.subject) for sample in faces.samples})
    together = [f" (persons stay together: column {faces.subject}, {persons} of them)"] * bool(faces.subject)
    together += [" (copies of a picture stay together)"] * (len(set(faces.unit)) < len(faces))
    way_out = f", or leave them out: --labels {','.join(rest)}" if len(rest) > 1 else ""
    told = ", ".join(f"{label} ({sum(c[label] for c in counts.values())})" for label in few)
    unseen = faces.left_out.get("no face found", 0)
    way_out += f". In {unseen} pictures no face was found: --no-detect takes them as they are" if unseen else ""
    how = "".join(together[:1])
    raise EmoreasonError(
        f"too few faces of {told}: after the split{how} a label needs {MIN_TRAIN_FACES} faces to train on, one to "
        "choose by and "
        f"one for the report, which takes four or more. Add faces{way_out}"
    )


def _drawn(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()
