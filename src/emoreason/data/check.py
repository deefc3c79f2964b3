"""Checks if a data set is fit for training and evaluation: counts, labels, bad files, copies, leaks, conflicts."""

from __future__ import annotations

import difflib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from emoreason.data.duplicates import SIMILARITY, Fingerprint, exact_groups, fingerprints, is_missing, near_groups
from emoreason.data.duplicates import copies_in as copies_in
from emoreason.data.duplicates import duplicate_groups as duplicate_groups
from emoreason.data.duplicates import exact_key as exact_key
from emoreason.data.schema import Sample, label_name
from emoreason.data.sources import read, sniff
from emoreason.knowledge import emotions

NO_LABEL, NO_SPLIT = "(no label)", "(no split)"


@dataclass(frozen=True)
class SampleProblem:
    """A sample that cannot be used, and why."""

    id: str
    split: str | None
    why: str


@dataclass(frozen=True)
class UnknownLabel:
    count: int
    nearest: tuple[str, ...]


@dataclass(frozen=True)
class Copies:
    """Samples that show the same picture."""

    ids: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str | None, ...]

    @property
    def leaks(self) -> bool:
        return len(set(self.splits)) > 1

    @property
    def conflicts(self) -> bool:
        return len(set(self.labels) - {None}) > 1


@dataclass(frozen=True)
class DataReport:
    """What a check found. `ok` is False if something needs repair; copies inside one split are listed but allowed."""

    source: str
    format: str
    n: int
    seconds: float
    counts: dict[str, dict[str, int]]  # split -> label -> samples
    groups: dict[str, dict[str, int]]  # attribute -> value -> samples
    voted: int  # samples with votes or a distribution
    measured: dict[str, int]  # "AU 12", "valence", "arousal", "explanation" -> samples that have it
    words: dict[str, tuple[str, ...]]  # label -> its spellings in the data, if they differ from it
    unknown_labels: dict[str, UnknownLabel]
    expected: tuple[str, ...]  # the labels that the caller named; empty: every emotion word
    missing: tuple[SampleProblem, ...]  # files that do not exist
    broken: tuple[SampleProblem, ...]  # rows and pictures that cannot be read
    repeated_ids: tuple[str, ...]
    exact: tuple[Copies, ...]
    near: tuple[Copies, ...]  # groups with at least one near copy, including exact copies of its members

    @property
    def total(self) -> dict[str, int]:
        """Label -> samples, over all splits."""
        return dict(sum((Counter(counts) for counts in self.counts.values()), Counter()))

    @property
    def surplus(self) -> int:
        """Samples to remove so that one of each group of exact copies is left."""
        return sum(len(group.ids) - 1 for group in self.exact)

    @property
    def problems(self) -> tuple[str, ...]:
        """What has to be repaired, one line each."""
        unknown = sum(entry.count for entry in self.unknown_labels.values())
        words = ", ".join(self.unknown_labels)
        exact, near = (sum(group.leaks for group in groups) for groups in (self.exact, self.near))
        found = (
            (len(self.missing), "file is missing", "files are missing"),
            (len(self.broken), "row or picture is broken", "rows or pictures are broken"),
            (unknown, f"sample has an unknown label ({words[:200]})", f"samples have an unknown label ({words[:200]})"),
            (len(self.repeated_ids), "id is used more than once", "ids are used more than once"),
            (exact, "picture is in several splits (exact copies)", "pictures are in several splits (exact copies)"),
            (near, "picture is in several splits (near copies)", "pictures are in several splits (near copies)"),
        )
        return tuple(f"{count} {one if count == 1 else many}" for count, one, many in found if count)

    @property
    def ok(self) -> bool:
        return not self.problems

    def leaks(self, kind: str = "exact") -> dict[str, dict[str, int]]:
        """Per pair of splits: how many groups of copies have members in both, and how many samples of each split."""
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for group in self.exact if kind == "exact" else self.near:
            sizes = Counter(group.splits)
            names = sorted(sizes)
            for position, a in enumerate(names):
                for b in names[position + 1 :]:
                    found[f"{a} + {b}"].update({"groups": 1, a: sizes[a], b: sizes[b]})
        return {pair: dict(counter) for pair, counter in found.items()}

    def to_dict(self) -> dict[str, Any]:
        summary = {
            "ok": self.ok,
            "problems": list(self.problems),
            "surplus": self.surplus,
            "leaks": {kind: self.leaks(kind) for kind in ("exact", "near")},
            "conflicts": {
                kind: sum(group.conflicts for group in groups)
                for kind, groups in (("exact", self.exact), ("near", self.near))
            },
        }
        return {**summary, **asdict(self)}


def check(
    source: str | Path,
    *,
    format: str = "auto",
    split: str | None = None,
    labels: Sequence[str] | None = None,
    similarity: float | None = SIMILARITY,
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> DataReport:
    """Check a data set.

    `labels`      the expected labels; by default every emotion word (see `emotions.canonical`)
    `similarity`  correlation from which two thumbnails count as near copies; None = do not look for near copies
    `progress`    called with the number of samples done
    `options`     as for `read`
    """
    name = sniff(source) if format == "auto" else format
    samples = read(source, format=name, split=split, **options)
    return check_samples(
        samples,
        source=str(source),
        format=name,
        labels=labels,
        similarity=similarity,
        workers=workers,
        progress=progress,
    )


def check_samples(
    samples: Iterable[Sample],
    *,
    source: str = "",
    format: str = "",
    labels: Sequence[str] | None = None,
    similarity: float | None = SIMILARITY,
    workers: int = 2,
    progress: Callable[[int], None] | None = None,
) -> DataReport:
    """`check` for samples that were read already."""
    return check_entries(fingerprints(samples, workers), source=source, format=format, labels=labels,
                         similarity=similarity, progress=progress)  # fmt: skip


def check_entries(
    entries: Iterable[tuple[Sample, Fingerprint | str]],
    *,
    source: str = "",
    format: str = "",
    labels: Sequence[str] | None = None,
    similarity: float | None = SIMILARITY,
    progress: Callable[[int], None] | None = None,
) -> DataReport:
    """`check` for samples with their fingerprints, or with the reason why a picture has none.

    Keeps only the name, label, split and fingerprint of each sample in memory."""
    started = time.monotonic()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    ids: Counter[str] = Counter()
    missing: list[SampleProblem] = []
    bad: list[SampleProblem] = []
    readable: list[tuple[str, str, str | None]] = []
    prints: list[Fingerprint] = []
    voted = 0
    measured: Counter[str] = Counter()
    words: dict[str, set[str]] = defaultdict(set)
    for sample, entry in entries:
        split = sample.split or NO_SPLIT
        counts[split][sample.label or NO_LABEL] += 1
        ids[sample.id] += 1
        voted += sample.votes is not None
        if sample.label and sample.word and sample.word != sample.label:
            words[sample.label].add(sample.word)
        measured.update(_measured(sample))
        for attribute, value in sample.groups.items():
            groups[attribute][value] += 1
        if isinstance(entry, Fingerprint):
            readable.append((sample.id, split, sample.label))
            prints.append(entry)
        else:
            (missing if is_missing(sample) else bad).append(SampleProblem(sample.id, sample.split, entry))
        if progress:
            progress(ids.total())

    def copies(positions: list[int]) -> Copies:
        return Copies(*zip(*(readable[i] for i in positions), strict=True))

    looks = near_groups(prints, similarity) if similarity is not None else []
    near = [group for group in looks if len({prints[i].key for i in group}) > 1]
    return DataReport(
        source=source,
        format=format,
        n=ids.total(),
        counts={split: dict(counter.most_common()) for split, counter in counts.items()},
        groups={name: dict(counter.most_common()) for name, counter in groups.items()},
        voted=voted,
        measured={name: measured[name] for name in sorted(measured, key=_in_order)},
        words={label: tuple(sorted(found)) for label, found in words.items()},
        unknown_labels=_unknown(counts, labels),
        expected=tuple(labels or ()),
        missing=tuple(missing),
        broken=tuple(bad),
        repeated_ids=tuple(id for id, count in ids.items() if count > 1),
        exact=tuple(copies(group) for group in exact_groups(prints)),
        near=tuple(copies(group) for group in near),
        seconds=round(time.monotonic() - started, 2),
    )


def _measured(sample: Sample) -> list[str]:
    known = {"valence": sample.valence, "arousal": sample.arousal, "explanation": sample.explanation}
    return [f"AU {code}" for code in sample.units or ()] + [name for name, value in known.items() if value is not None]


def _in_order(name: str) -> tuple[int, str]:
    """Units by their number, then the others."""
    return (int(name[3:]), "") if name.startswith("AU ") else (1000, name)


def _unknown(counts: dict[str, Counter[str]], labels: Sequence[str] | None) -> dict[str, UnknownLabel]:
    expected = None if labels is None else {label_name(label) or label for label in labels}
    total: Counter[str] = sum((Counter(c) for c in counts.values()), Counter())
    found = {}
    for word, count in total.most_common():
        known = emotions.canonical(word) if expected is None else (label_name(word) or word) in expected
        if word != NO_LABEL and not known:
            close = emotions.nearest(word) if expected is None else difflib.get_close_matches(word, expected)
            found[word] = UnknownLabel(count, tuple(close))
    return found
