"""Splits the faces into parts. Persons and copies of a picture stay in one part; a seed always gives the same split.

train     trains the head
holdout   chooses the epoch and fits temperature and operating points
report    scored once at the end, before and after training
"""

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emoreason.core.errors import EmoreasonError

if TYPE_CHECKING:
    from emoreason.train.labeled_faces import LabeledFaces

MIN_TRAIN_FACES = 2  # faces per label in train; the other parts need one
MAX_HELD_OUT = 2000


@dataclass(frozen=True)
class Splits:
    """Row numbers of each part."""

    train: np.ndarray
    holdout: np.ndarray
    report: np.ndarray
    report_name: str  # validation, test, or "a share of the faces"
    removed: int  # training faces dropped because their person or picture is also in validation or test
    untouched: dict[str, int]  # splits of the data that were not used -> faces

    def named(self) -> dict[str, np.ndarray]:
        return {"train": self.train, "holdout": self.holdout, "report": self.report}


def share_of(
    faces: "LabeledFaces", rows: np.ndarray, share: float, seed: int, max_faces: int | None = None
) -> np.ndarray:
    """About `share` of these rows, sorted: the same share of each label, at least one face each, and whole groups."""
    labels, label_of = max(1, len(faces.labels)), faces.stratum
    counts = np.bincount(label_of[rows], minlength=labels)
    share = share if max_faces is None else min(share, max_faces / max(1, len(rows)))
    wanted = np.where(counts > 0, np.maximum(1, np.round(share * counts)), 0)
    members: dict[int, list[int]] = {}
    for row in rows.tolist():
        members.setdefault(int(faces.group[row]), []).append(row)
    label_counts = {group: np.bincount(label_of[inside], minlength=labels) for group, inside in members.items()}
    # Ordered by a hash of the picture, so that the order of the files does not matter.
    order = sorted(members, key=lambda group: _random_key(seed, min(faces.keys[row] for row in members[group])))
    chosen: set[int] = set()
    for label in np.argsort(counts, kind="stable"):  # the rarest label first, while all groups are available
        holding = [group for group in order if label_counts[group][label]]
        for group in holding:
            if wanted[label] <= 0:
                break
            own = label_counts[group]
            useful = np.minimum(own, np.maximum(wanted, 0)).sum()
            if group not in chosen and 2 * useful > own.sum():  # more than half of it is still wanted
                chosen.add(group)
                wanted = wanted - own
        if holding and not any(group in chosen for group in holding):  # only large groups have it: take the smallest
            smallest = min(holding, key=lambda group: label_counts[group].sum())
            chosen.add(smallest)
            wanted = wanted - label_counts[smallest]
    return np.array(sorted(row for group in chosen for row in members[group]), dtype=int)


def make_splits(faces: "LabeledFaces", validation: float, holdout: float, seed: int, limit: int = 0) -> Splits:
    """Use the validation split of the data (or else test) for the report; without one, a share of the faces."""
    split = np.array([name or "" for name in faces.split])
    rows = np.arange(len(faces))
    report_splits = [name for name in ("validation", "test") if (split == name).any()]
    untouched: dict[str, int] = {}
    if (split == "train").any() and report_splits:
        report, train, name = rows[split == report_splits[0]], rows[split == "train"], report_splits[0]
        used = np.isin(split, ["train", report_splits[0]])
        untouched = dict(Counter(str(name) or "(no split)" for name in split[~used]))
        remaining = train[~np.isin(faces.group[train], faces.group[np.isin(split, ["validation", "test"])])]
        removed, train = len(train) - len(remaining), remaining
    else:
        report, name, removed = share_of(faces, rows, validation, seed), "a share of the faces", 0
        train = np.setdiff1d(rows, report)
    if limit and len(train) > limit:
        train = np.sort(np.random.default_rng(seed).permutation(train)[:limit])
    held_out = share_of(faces, train, holdout, seed + 1, MAX_HELD_OUT)
    parts = Splits(np.setdiff1d(train, held_out), held_out, report, name, removed, untouched)
    _check_counts(faces, parts)
    return parts


def _check_counts(faces: "LabeledFaces", parts: Splits) -> None:
    counts = {name: faces.counts(rows) for name, rows in parts.named().items()}
    own = parts.report_name in ("validation", "test")
    too_few = [
        label
        for label in faces.labels
        if counts["train"][label] < MIN_TRAIN_FACES
        or not counts["holdout"][label]
        or not (own or counts["report"][label])
    ]
    if not too_few:
        return
    others = [label for label in faces.labels if label not in too_few]
    persons = len({sample.groups.get(faces.subject) for sample in faces.samples})
    together = [f" (persons stay together: column {faces.subject}, {persons} of them)"] * bool(faces.subject)
    together += [" (copies of a picture stay together)"] * (len(set(faces.group)) < len(faces))
    advice = f", or leave them out: --labels {','.join(others)}" if len(others) > 1 else ""
    counted = ", ".join(f"{label} ({sum(c[label] for c in counts.values())})" for label in too_few)
    without_face = faces.left_out.get("no face found", 0)
    advice += (
        f". In {without_face} pictures no face was found: --no-detect takes them as they are" if without_face else ""
    )
    how = "".join(together[:1])
    raise EmoreasonError(
        f"too few faces of {counted}: after the split{how} a label needs {MIN_TRAIN_FACES} faces to train on, one to "
        f"choose on and one for the report, so four or more in all. Add faces{advice}"
    )


def _random_key(seed: int, key: str) -> str:
    return hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()
