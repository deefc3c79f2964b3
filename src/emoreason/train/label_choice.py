"""Which labels a fine-tuning trains: in the words of the user, and misspelt ones are asked about."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.protocols import EMOTIONS
from emoreason.data.schema import Sample, label_name
from emoreason.knowledge import emotions
from emoreason.train.finetune_config import FinetuneData

TYPO = 0.84  # two labels whose spelling is closer than that are asked about: hapiness, happiness


def chosen_labels(
    targets: Iterable[dict[str, float] | None], config: FinetuneData, words: Mapping[str, str]
) -> tuple[str, ...]:
    """The labels in the order of FER+ or of the alphabet, or those that were asked for, in the words of the asker.

    `words`: how the data writes a label, where it does so in one way only."""
    counts = Counter(word for target in targets if target for word in target)
    if not counts:
        raise EmoreasonError(
            f"{config.source} has no labels. Expected a folder for each label, or a table with the columns path and "
            "label; `emoreason data check` shows what was read"
        )
    if config.labels:
        return _asked(config.labels, {words.get(label, label): label for label in counts})
    _refuse_twins(counts, words)
    if len(counts) < 2:
        raise EmoreasonError(
            f"all faces have the label {next(iter(counts))!r}: a second one is needed to tell it from. Expected a "
            "folder for each label, or a table with the columns path and label"
        )
    order = {name: i for i, name in enumerate(EMOTIONS)}
    return tuple(sorted(counts, key=lambda label: (order.get(label, len(order)), words.get(label, label))))


def _asked(labels: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """`known`: word -> label."""
    asked = tuple(dict.fromkeys(word.strip() for word in labels.split(",") if word.strip()))
    for word in asked:
        if label_name(word) not in known.values():
            near = difflib.get_close_matches(word, known, n=3, cutoff=0.5) or sorted(known)
            raise UsageError(f"no face has the label {word!r}; the data has {', '.join(near)}")
    if len(asked) < 2 or len({label_name(word) for word in asked}) < len(asked):
        raise UsageError(f"--labels {labels}: at least two labels that differ were expected")
    return asked


def _refuse_twins(counts: Mapping[str, int], words: Mapping[str, str]) -> None:
    """A label that is no emotion word and looks like a more frequent one, as that is written or as emoreason calls it,
    is taken for a slip; not so with a syllable before it (attentive, inattentive) or with a number (pain 1, pain 2)."""
    for label in counts:
        mine = _plain(words.get(label, label))
        if emotions.canonical(label) is not None or re.search(r"\d", mine):
            continue
        spelt = {_plain(form): other for other in counts if other != label for form in (other, words.get(other, other))}
        for near in difflib.get_close_matches(mine, spelt, n=3, cutoff=TYPO):
            other = spelt[near]
            longer, shorter = sorted((mine, near), key=len, reverse=True)
            if counts[label] <= counts[other] and not (longer != shorter and longer.endswith(shorter)):
                told = words.get(label, label), words.get(other, other)
                raise EmoreasonError(
                    f"the labels {told[0]!r} ({counts[label]} faces) and {told[1]!r} ({counts[other]}) look like one: "
                    f"rename one of them, or say which are meant: --labels "
                    f"'{','.join(sorted(words.get(name, name) for name in counts))}'"
                )


def _plain(word: str) -> str:
    return re.sub(r"[\W_]+", " ", word).strip().casefold()


def words_of(samples: Iterable[Sample]) -> dict[str, str]:
    """How the user writes an emotion (engaged, not interest), where it is always written in one way."""
    written: dict[str, set[str]] = {}
    for sample in samples:
        label = sample.label or label_name(sample.word)  # shares without a label have the word of the largest
        if sample.word and label and emotions.canonical(label) is not None:
            written.setdefault(label, set()).add(sample.word.strip().lower())
    found = {label: next(iter(words)) for label, words in written.items() if len(words) == 1}
    return {label: word for label, word in found.items() if re.fullmatch(r"[^\W\d_]+([ -][^\W\d_]+)*", word)}


def unknown_words(labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The labels that are no emotion words, with the nearest that are: not wrong, but worth a look."""
    return {word: emotions.nearest(word) for word in labels if emotions.canonical(word) is None}
