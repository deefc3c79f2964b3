"""From what was seen of a data set to the three parts of a fine-tuning: train, held out, report."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.duplicates import Fingerprint, exact_groups, look_groups
from emoreason.data.protocols import ferplus_target
from emoreason.data.schema import Sample, label_name
from emoreason.train.features import PictureFeatures
from emoreason.train.finetune_config import FinetuneData
from emoreason.train.label_choice import chosen_labels, words_of

SUBJECT = ("subject", "subject_id", "person", "actor", "identity", "group")
MAX_GROUP_SHARE = 0.1  # share of the faces that one group of near copies may hold


@dataclass(frozen=True)
class LabeledFaces:
    """n usable faces, row by row."""

    labels: tuple[str, ...]  # none where the data has other columns only
    samples: tuple[Sample, ...]  # without their bytes
    ids: tuple[str, ...]
    features: np.ndarray  # (n, D)
    targets: np.ndarray  # (n, L) rows that sum to 1
    label: np.ndarray  # (n,) class numbers, -1 where the annotators do not agree on one
    unit: np.ndarray  # (n,) faces of one person, and copies of one picture, share a number
    split: tuple[str | None, ...]  # as the data has it
    keys: tuple[str, ...]  # of the pixels
    subject: str  # the column that the persons come from, "" for none
    left_out: dict[str, int]  # why -> how many
    alike: int  # so many look so much alike that they may be one film; 0: no such thing

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def stratum(self) -> np.ndarray:
        """(n,) the label with the largest share; all alike without labels."""
        return self.targets.argmax(axis=1) if self.labels else np.zeros(len(self), int)

    def counts(self, rows: np.ndarray) -> dict[str, int]:
        found = Counter(self.stratum[rows].tolist())
        return {label: found[i] for i, label in enumerate(self.labels)}


def gather(entries: Sequence[tuple[Sample, PictureFeatures | str]], config: FinetuneData) -> LabeledFaces:
    """The faces that can be used, with what each shows."""
    if entries and all(isinstance(seen, str) for _, seen in entries):
        raise EmoreasonError(
            f"{config.source}: none of its {len(entries)} pictures can be read; the first: {entries[0][1]}. Paths in a "
            "table start at the folder that it is in"
        )
    targets = [None if isinstance(seen, str) else target_of(sample) for sample, seen in entries]
    unlabeled = not any(targets) and any(teaches_more(sample) for sample, _ in entries)
    words = words_of(sample for sample, _ in entries)
    labels = () if unlabeled else chosen_labels(targets, config, words)
    names = labels if config.labels else tuple(words.get(label, label) for label in labels)
    place = {label_name(label): i for i, label in enumerate(names)}
    left_out: Counter[str] = Counter()
    usable: list[tuple[Sample, PictureFeatures, np.ndarray]] = []
    for (sample, seen), target in zip(entries, targets, strict=True):
        if isinstance(seen, str):
            left_out["broken or missing"] += 1
        elif seen.embedding is None:
            left_out["no face found"] += 1
        elif unlabeled and teaches_more(sample):
            usable.append((sample, seen, np.zeros(0, np.float32)))
        elif not target:
            left_out["no label"] += 1
        else:
            row = np.zeros(len(names), np.float32)
            for word, share in target.items():
                if word in place:
                    row[place[word]] += share
            if row.sum() <= 0 or (sample.label is not None and sample.label not in place):
                left_out["another label"] += 1
            else:
                usable.append((sample, seen, row / row.sum()))
    if not usable:
        hint = ". If the pictures are face crops, --no-detect takes them as they are" * bool(left_out["no face found"])
        raise EmoreasonError(f"no face can be used: {_told(left_out) or 'there is no picture'}{hint}")
    samples = [sample for sample, _, _ in usable]
    subject = _subject(samples, config.subject)
    copies, alike = copies_of([seen.fingerprint for _, seen, _ in usable])
    return LabeledFaces(
        labels=names,
        samples=tuple(samples),
        ids=tuple(sample.id for sample in samples),
        features=np.stack([seen.embedding for _, seen, _ in usable if seen.embedding is not None]),
        targets=np.stack([row for _, _, row in usable]),
        label=np.array([_one(sample, row, place) for sample, _, row in usable]),
        unit=together([sample.groups.get(subject) for sample in samples], copies),
        split=tuple(sample.split for sample in samples),
        keys=tuple(seen.fingerprint.key for _, seen, _ in usable),
        subject=subject,
        left_out=dict(left_out),
        alike=alike,
    )


def teaches_more(sample: Sample) -> bool:
    """Something besides a label can be learned from it."""
    return bool(sample.units or sample.explanation) or sample.valence is not None or sample.arousal is not None


def copies_of(prints: Sequence[Fingerprint]) -> tuple[list[list[int]], int]:
    """Groups of exact and near copies. Where one group of near copies holds much of the data (frames of a film, one
    studio), it would stand on one side with all that it holds: then exact copies only, and how many look alike."""
    near = look_groups(prints)
    largest = max(map(len, near), default=0)
    exact = exact_groups(prints)
    if largest > max(MAX_GROUP_SHARE * len(prints), max(map(len, exact), default=0)):
        return exact, largest
    return near, 0


def target_of(sample: Sample) -> dict[str, float] | None:
    """Label or votes as shares that sum to 1; None for a face without either."""
    if sample.source == "ferplus" and sample.votes is not None:
        shares = ferplus_target(sample.votes, "probability")
        return dict(shares) if isinstance(shares, dict) else None
    total = sum((sample.votes or {}).values())
    if sample.votes is not None and total > 0:
        return {name: count / total for name, count in sample.votes.items() if count > 0}
    return {sample.label: 1.0} if sample.label is not None else None


def _one(sample: Sample, row: np.ndarray, place: dict[str | None, int]) -> int:
    """The class that a face counts for in the report; FER+'s reader has decided where its annotators disagree."""
    if not len(row):
        return -1
    if sample.label is not None:
        return place[sample.label]
    return -1 if sample.source == "ferplus" or row.max() <= 0.5 else int(row.argmax())


def _subject(samples: Sequence[Sample], wanted: str) -> str:
    found = {name.lower(): name for sample in samples for name in sample.groups}
    if wanted and wanted.lower() not in found:
        raise UsageError(f"data.subject {wanted!r}: the data has {', '.join(found) or 'no columns about persons'}")
    return next((found[name] for name in ((wanted.lower(),) if wanted else SUBJECT) if name in found), "")


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {why}" for why, n in counts.items())


def together(subjects: Sequence[str | None], copies: Sequence[Sequence[int]]) -> np.ndarray:
    """(n,) one number for all faces that hang together, by person or by picture: that of the first of them."""
    parent = list(range(len(subjects)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[str, int] = {}
    pairs = [(i, first.setdefault(s, i)) for i, s in enumerate(subjects) if s is not None]
    pairs += [(group[0], other) for group in copies for other in group[1:]]
    for a, b in pairs:
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    return np.array([root(i) for i in range(len(subjects))])
