"""Finds copies of a face: exact ones by their pixels, near ones (other size, compression, watermark) by their look.

Near copies are found in two steps. First come pairs whose 64-bit difference hashes differ in at most 7 bits (a banded
lookup, which avoids n² comparisons); then only pairs whose 16×16 thumbnails correlate are left. On FER+ the hash alone
gives four false pairs for each true one; with a correlation of 0.95, all pairs that we looked at were the same
photograph. Shifted crops and mirrored faces are not found.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from emoreason.core.errors import EmoreasonError
from emoreason.data.schema import Sample
from emoreason.media.images import is_data_uri, is_url, open_picture

SIMILARITY = 0.95  # correlation from which two thumbnails count as near copies
RADIUS = 7  # bits; lookups in four bands of 16 bits, each with up to one flipped bit, find all pairs up to this
FLAT = 2.0  # standard deviation in grey levels; plainer thumbnails all look alike, so they are not compared


@dataclass(frozen=True)
class Fingerprint:
    """What stays in memory of a picture: 330 bytes, so 100,000 faces need 33 MB."""

    key: str  # SHA-256 of the size and the RGB pixels
    hash: int  # 64-bit difference hash
    thumbnail: bytes  # 16×16 grey levels


def picture(sample: Sample) -> Image.Image:
    """The decoded picture, or an EmoreasonError that says what is wrong with it."""
    if sample.problem or not sample.image:
        raise EmoreasonError(sample.problem or f"{sample.id}: no picture")
    if is_missing(sample):
        raise EmoreasonError(f"{sample.image!r} does not exist")
    return open_picture(sample.image).image


def is_missing(sample: Sample) -> bool:
    """Whether the picture is a path to a file that does not exist."""
    image = sample.image
    return isinstance(image, str) and image != "" and not (is_url(image) or is_data_uri(image) or Path(image).is_file())


def exact_key(sample: Sample) -> str:
    """Equal for pictures with the same size and pixels, whatever their file format."""
    return _key(picture(sample))


def fingerprint(sample: Sample) -> Fingerprint:
    return fingerprint_of(picture(sample))


def fingerprint_of(image: Image.Image) -> Fingerprint:
    grey = image.convert("L")
    columns = np.asarray(grey.resize((9, 8), Image.Resampling.LANCZOS, reducing_gap=2.0))
    bits = np.packbits(columns[:, 1:] > columns[:, :-1])
    thumbnail = grey.resize((16, 16), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return Fingerprint(_key(image), int.from_bytes(bits.tobytes(), "big"), thumbnail.tobytes())


def fingerprints(samples: Iterable[Sample], workers: int = 2) -> Iterator[tuple[Sample, Fingerprint | str]]:
    """Each sample with its fingerprint, or with what is wrong. Only a few pictures are in memory at a time."""

    def one(sample: Sample) -> tuple[Sample, Fingerprint | str]:
        try:
            return sample, fingerprint(sample)
        except EmoreasonError as error:
            return sample, str(error)

    rest = iter(samples)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        while batch := list(islice(rest, 32 * max(1, workers))):
            yield from pool.map(one, batch)


def duplicate_groups(
    samples: Iterable[Sample], similarity: float | None = SIMILARITY, workers: int = 2
) -> list[tuple[str, ...]]:
    """The ids of samples with the same picture. `similarity=None`: exact copies only. Skips unreadable pictures."""
    ids, prints = _readable(samples, workers)
    found = exact_groups(prints) if similarity is None else near_groups(prints, similarity)
    return [tuple(ids[i] for i in group) for group in found]


def copies_in(
    samples: Iterable[Sample], held_out: Iterable[Sample], similarity: float | None = SIMILARITY, workers: int = 2
) -> set[str]:
    """The ids of the samples (train) that have a copy in `held_out` (validation, test). Remove them before training."""
    ids, prints = _readable(samples, workers)
    _, others = _readable(held_out, workers)
    first = len(prints)
    if similarity is None:
        keys = {p.key for p in others}
        return {id for id, p in zip(ids, prints, strict=True) if p.key in keys}
    groups = near_groups([*prints, *others], similarity)
    return {ids[i] for group in groups if group[-1] >= first for i in group if i < first}


def exact_groups(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """Groups of two or more positions with equal pixels."""
    by_key: dict[str, list[int]] = defaultdict(list)
    for position, entry in enumerate(prints):
        by_key[entry.key].append(position)
    return [group for group in by_key.values() if len(group) > 1]


def near_groups(prints: Sequence[Fingerprint], similarity: float = SIMILARITY) -> list[list[int]]:
    """Groups of positions of exact and near copies, sorted. Near copies chain: a~b and b~c make one group of three."""
    first: dict[str, int] = {}
    parents = [first.setdefault(entry.key, position) for position, entry in enumerate(prints)]

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = i = parents[parents[i]]
        return i

    for a, b, _ in near_pairs(prints, similarity):
        low, high = sorted((root(a), root(b)))
        parents[high] = low
    groups: dict[int, list[int]] = defaultdict(list)
    for position in range(len(prints)):
        groups[root(position)].append(position)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(prints: Sequence[Fingerprint], similarity: float = SIMILARITY) -> list[tuple[int, int, float]]:
    """Pairs with different pixels but the same look: (i, j, correlation), i < j. Uses the first of exact copies."""
    first: dict[str, int] = {}
    for position, entry in enumerate(prints):
        first.setdefault(entry.key, position)
    where = np.fromiter(first.values(), np.int64, len(first))
    if len(where) < 2:
        return []
    thumbnails = np.frombuffer(b"".join(prints[i].thumbnail for i in where), np.uint8).reshape(len(where), -1)
    textured = thumbnails.std(axis=1) >= FLAT
    where, thumbnails = where[textured], thumbnails[textured]
    hashes = np.array([prints[i].hash for i in where], np.uint64)
    pairs: list[tuple[int, int, float]] = []
    for left, right in _close_hashes(hashes):
        a, b = _standardised(thumbnails[left]), _standardised(thumbnails[right])
        correlation = np.einsum("ij,ij->i", a, b)
        close = np.flatnonzero(correlation >= similarity)
        pairs += zip(
            where[left[close]].tolist(), where[right[close]].tolist(), correlation[close].tolist(), strict=True
        )
    return sorted(pairs)


def _close_hashes(hashes: np.ndarray, block: int = 1 << 20) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Each pair within RADIUS bits, once. If seven bits differ over four bands, one band has at most one of them: it is
    enough to look up every band as it is and with each single bit flipped."""
    count = len(hashes)
    found: list[np.ndarray] = []
    for shift in range(0, 64, 16):
        band = (hashes >> np.uint64(shift)).astype(np.uint16)
        order = np.argsort(band, kind="stable")
        ordered = band[order]
        for flip in (0, *(1 << bit for bit in range(16))):
            wanted = band ^ np.uint16(flip)
            low, high = np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right")
            for rows in _blocks(high - low, block):
                sizes = (high - low)[rows]
                left = np.repeat(rows, sizes)
                inside = np.arange(len(left)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
                right = order[np.repeat(low[rows], sizes) + inside]
                close = (left < right) & (np.bitwise_count(hashes[left] ^ hashes[right]) <= RADIUS)
                found.append(left[close] * count + right[close])
    codes = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    for start in range(0, len(codes), 1 << 15):
        part = codes[start : start + (1 << 15)]
        yield part // count, part % count


def _blocks(sizes: np.ndarray, block: int) -> Iterator[np.ndarray]:
    """Runs of rows whose sizes sum up to about `block`, so that a common hash does not fill the memory."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + block, "right")))
        yield np.arange(start, stop)
        start = stop


def _standardised(thumbnails: np.ndarray) -> np.ndarray:
    centred = thumbnails.astype(np.float32) - thumbnails.mean(axis=1, keepdims=True, dtype=np.float32)
    return centred / np.linalg.norm(centred, axis=1, keepdims=True)


def _key(image: Image.Image) -> str:
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return hashlib.sha256(f"{rgb.width}x{rgb.height}:".encode() + rgb.tobytes()).hexdigest()


def _readable(samples: Iterable[Sample], workers: int) -> tuple[list[str], list[Fingerprint]]:
    ids, prints = [], []
    for sample, entry in fingerprints(samples, workers):
        if isinstance(entry, Fingerprint):
            ids.append(sample.id)
            prints.append(entry)
    return ids, prints
