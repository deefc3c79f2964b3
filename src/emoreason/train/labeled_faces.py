"""Selects the usable faces of a data set, with their features, targets and groups."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.duplicates import Fingerprint, exact_groups, near_groups
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

    labels: tuple[str, ...]  # empty if the data has no labels, only other columns
    samples: tuple[Sample, ...]  # without their bytes
    ids: tuple[str, ...]
    features: np.ndarray  # (n, D)
    targets: np.ndarray  # (n, L) rows that sum to 1
    label: np.ndarray  # (n,) class numbers, -1 if the annotators do not agree
    group: np.ndarray  # (n,) group number, shared by faces of one person and by copies of one picture
    split: tuple[str | None, ...]  # the split in the data
    keys: tuple[str, ...]  # hash of the pixels
    subject: str  # the column that names the person, "" if there is none
    left_out: dict[str, int]  # reason -> number of faces
    near_copies: (
        int  # size of a group of near copies that is too large to keep together (maybe frames of one film), else 0
    )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def stratum(self) -> np.ndarray:
        """(n,) the label with the largest share; all 0 without labels."""
        return self.targets.argmax(axis=1) if self.labels else np.zeros(len(self), int)

    def counts(self, rows: np.ndarray) -> dict[str, int]:
        count = Counter(self.stratum[rows].tolist())
        return {label: count[i] for i, label in enumerate(self.labels)}


def select_faces(entries: Sequence[tuple[Sample, PictureFeatures | str]], config: FinetuneData) -> LabeledFaces:
    """Keep the usable faces and count the others by reason."""
    if entries and all(isinstance(features, str) for _, features in entries):
        raise EmoreasonError(
            f"{config.source}: none of its {len(entries)} pictures can be read; the first: {entries[0][1]}. Paths in a "
            "table are relative to the folder of the table"
        )
    targets = [None if isinstance(features, str) else target_of(sample) for sample, features in entries]
    unlabeled = not any(targets) and any(has_other_targets(sample) for sample, _ in entries)
    words = words_of(sample for sample, _ in entries)
    labels = () if unlabeled else chosen_labels(targets, config, words)
    names = labels if config.labels else tuple(words.get(label, label) for label in labels)
    class_of = {label_name(label): i for i, label in enumerate(names)}
    left_out: Counter[str] = Counter()
    usable: list[tuple[Sample, PictureFeatures, np.ndarray]] = []
    for (sample, features), target in zip(entries, targets, strict=True):
        if isinstance(features, str):
            left_out["broken or missing"] += 1
        elif features.embedding is None:
            left_out["no face found"] += 1
        elif unlabeled and has_other_targets(sample):
            usable.append((sample, features, np.zeros(0, np.float32)))
        elif not target:
            left_out["no label"] += 1
        else:
            row = np.zeros(len(names), np.float32)
            for word, share in target.items():
                if word in class_of:
                    row[class_of[word]] += share
            if row.sum() <= 0 or (sample.label is not None and sample.label not in class_of):
                left_out["another label"] += 1
            else:
                usable.append((sample, features, row / row.sum()))
    if not usable:
        hint = ". If the pictures are face crops, --no-detect takes them as they are" * bool(left_out["no face found"])
        raise EmoreasonError(f"no face can be used: {_format_counts(left_out) or 'there is no picture'}{hint}")
    samples = [sample for sample, _, _ in usable]
    subject = _subject_column(samples, config.subject)
    copies, near_copies = copies_of([features.fingerprint for _, features, _ in usable])
    return LabeledFaces(
        labels=names,
        samples=tuple(samples),
        ids=tuple(sample.id for sample in samples),
        features=np.stack([features.embedding for _, features, _ in usable if features.embedding is not None]),
        targets=np.stack([row for _, _, row in usable]),
        label=np.array([_class_number(sample, row, class_of) for sample, _, row in usable]),
        group=group_numbers([sample.groups.get(subject) for sample in samples], copies),
        split=tuple(sample.split for sample in samples),
        keys=tuple(features.fingerprint.key for _, features, _ in usable),
        subject=subject,
        left_out=dict(left_out),
        near_copies=near_copies,
    )


def has_other_targets(sample: Sample) -> bool:
    """Whether the sample has action units, a text, valence or arousal to learn from."""
    return bool(sample.units or sample.explanation) or sample.valence is not None or sample.arousal is not None


def copies_of(prints: Sequence[Fingerprint]) -> tuple[list[list[int]], int]:
    """Groups of exact and near copies, and 0.

    If one group of near copies is a large share of the data (frames of a film, one studio), keeping it on one side
    would spoil the split. Then it returns groups of exact copies only, and the size of that large group."""
    near = near_groups(prints)
    largest = max(map(len, near), default=0)
    exact = exact_groups(prints)
    if largest > max(MAX_GROUP_SHARE * len(prints), max(map(len, exact), default=0)):
        return exact, largest
    return near, 0


def target_of(sample: Sample) -> dict[str, float] | None:
    """Label or votes as shares that sum to 1; None if the face has neither."""
    if sample.source == "ferplus" and sample.votes is not None:
        shares = ferplus_target(sample.votes, "probability")
        return dict(shares) if isinstance(shares, dict) else None
    total = sum((sample.votes or {}).values())
    if sample.votes is not None and total > 0:
        return {name: count / total for name, count in sample.votes.items() if count > 0}
    return {sample.label: 1.0} if sample.label is not None else None


def _class_number(sample: Sample, row: np.ndarray, class_of: dict[str | None, int]) -> int:
    """The class number of a face in the report, -1 for none. FER+'s reader has already decided where votes disagree."""
    if not len(row):
        return -1
    if sample.label is not None:
        return class_of[sample.label]
    return -1 if sample.source == "ferplus" or row.max() <= 0.5 else int(row.argmax())


def _subject_column(samples: Sequence[Sample], wanted: str) -> str:
    columns = {name.lower(): name for sample in samples for name in sample.groups}
    if wanted and wanted.lower() not in columns:
        raise UsageError(f"data.subject {wanted!r}: the data has {', '.join(columns) or 'no columns about persons'}")
    return next((columns[name] for name in ((wanted.lower(),) if wanted else SUBJECT) if name in columns), "")


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {why}" for why, n in counts.items())


def group_numbers(subjects: Sequence[str | None], copies: Sequence[Sequence[int]]) -> np.ndarray:
    """(n,) the group of each face: faces of the same person or picture get the row number of the first one."""
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
