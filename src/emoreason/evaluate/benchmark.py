"""Loads benchmarks: a YAML file each, with its protocols and published figures of other systems."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.resources import resource
from emoreason.data.protocols import ferplus_target
from emoreason.evaluate.score import Target

VOTE_PROTOCOLS = ("majority", "argmax8", "strict", "probability")
LABEL_PROTOCOL = "label"


@dataclass(frozen=True)
class Anchor:
    """A published result; figures are shares of 1. `note` says what its source leaves open."""

    system: str
    source: str
    regime: str
    accuracy: float | None = None
    uar: float | None = None
    macro_f1: float | None = None
    protocol: str | None = None
    split: str | None = None
    note: str = ""


@dataclass(frozen=True)
class Benchmark:
    name: str
    title: str
    version: int
    label_set: str | None  # None: the labels found in the data
    split: str | None
    protocols: tuple[str, ...]  # the first is the default
    licence: str
    format: str = "auto"
    note: str = ""
    anchors: tuple[Anchor, ...] = ()


BATTERY = ("explanations",)  # the YAML of the explanation benchmark, in the same folder


def benchmark_names() -> list[str]:
    return sorted(path.stem for path in resource("eval").glob("*.yaml") if path.stem not in BATTERY)


def load_benchmark(name: str | Path) -> Benchmark:
    """A shipped benchmark by name, or your own by the path of its YAML."""
    import yaml

    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = benchmark_names()
        if str(name) not in known and path.exists():
            raise UsageError(f"{name} is data, not a benchmark: emoreason eval folder --data {shlex.quote(str(name))}")
        if str(name) not in known:
            near = difflib.get_close_matches(str(name), known, 3) or known
            raise UsageError(
                f"unknown benchmark {str(name)!r}; did you mean {', '.join(near)}? All: {', '.join(known)}"
            )
        path = resource(f"eval/{name}.yaml")
    if not path.is_file():
        raise UsageError(
            f"{path} does not exist; expected a benchmark's YAML file or one of: {', '.join(benchmark_names())}"
        )
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        anchors = tuple(_anchor(**anchor) for anchor in fields.pop("anchors", None) or ())
        benchmark = Benchmark(**{**fields, "protocols": tuple(fields["protocols"]), "anchors": anchors})
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as problem:
        raise EmoreasonError(
            f"{path} is not a benchmark: {problem}. Compare it with {resource('eval/folder.yaml')}"
        ) from None
    votes, labels = set(benchmark.protocols) <= set(VOTE_PROTOCOLS), benchmark.protocols == (LABEL_PROTOCOL,)
    if not benchmark.protocols or not (votes or labels):
        raise EmoreasonError(
            f"{path}: protocols {list(benchmark.protocols)}; "
            f"expected [{LABEL_PROTOCOL}] or some of {', '.join(VOTE_PROTOCOLS)}"
        )
    if labels:  # with one label per face there is only one protocol
        anchors = tuple(replace(anchor, protocol=LABEL_PROTOCOL) for anchor in anchors)
    return replace(benchmark, anchors=anchors)


def _anchor(
    accuracy: float | None = None, uar: float | None = None, macro_f1: float | None = None, **fields: Any
) -> Anchor:
    """An anchor from its YAML, which has percents as the sources print them."""
    shares = [None if value is None else round(value / 100, 6) for value in (accuracy, uar, macro_f1)]
    return Anchor(accuracy=shares[0], uar=shares[1], macro_f1=shares[2], **fields)


def target_of(label: str | None, votes: Mapping[str, float] | None, protocol: str, labels: Sequence[str]) -> Target:
    """The target of a sample under a protocol; None: the sample does not count."""
    if protocol == LABEL_PROTOCOL:
        return label if label in labels else None
    return None if votes is None else ferplus_target(votes, protocol)
