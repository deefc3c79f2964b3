"""Chooses the labels that a fine-tuning trains, in the user's own spelling, and refuses likely misspellings."""

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.data.protocols import EMOTIONS
from emoreason.data.schema import Sample, label_name
from emoreason.knowledge import emotions
from emoreason.train.finetune_config import FinetuneData

TYPO = 0.84  # labels with a higher spelling similarity are probably the same one: hapiness, happiness


def chosen_labels(
    targets: Iterable[dict[str, float] | None], config: FinetuneData, words: Mapping[str, str]
) -> tuple[str, ...]:
    """All labels of the data, in FER+'s order and then alphabetically, or those that config.labels asks for.

    words: how the data spells a label, if it always uses the same spelling."""
    counts = Counter(word for target in targets if target for word in target)
    if not counts:
        raise EmoreasonError(
            f"{config.source} has no labels. Expected a folder for each label, or a table with the columns path and "
            "label; `emoreason data check` shows what was read"
        )
    if config.labels:
        return _requested(config.labels, {words.get(label, label): label for label in counts})
    _refuse_misspelled(counts, words)
    if len(counts) < 2:
        raise EmoreasonError(
            f"all faces have the label {next(iter(counts))!r}: a second one is needed to tell it from. Expected a "
            "folder for each label, or a table with the columns path and label"
        )
    order = {name: i for i, name in enumerate(EMOTIONS)}
    return tuple(sorted(counts, key=lambda label: (order.get(label, len(order)), words.get(label, label))))


def _requested(labels: str, known: Mapping[str, str]) -> tuple[str, ...]:
    """The labels of the option --labels. known: word -> label."""
    requested = tuple(dict.fromkeys(word.strip() for word in labels.split(",") if word.strip()))
    for word in requested:
        if label_name(word) not in known.values():
            near = difflib.get_close_matches(word, known, n=3, cutoff=0.5) or sorted(known)
            raise UsageError(f"no face has the label {word!r}; the data has {', '.join(near)}")
    if len(requested) < 2 or len({label_name(word) for word in requested}) < len(requested):
        raise UsageError(f"--labels {labels}: at least two labels that differ were expected")
    return requested


def _refuse_misspelled(counts: Mapping[str, int], words: Mapping[str, str]) -> None:
    """Raise an error if a label that is no emotion word is spelled almost like a more frequent label.

    Labels with a prefix (attentive, inattentive) or a number (pain 1, pain 2) are taken as they are."""
    for label in counts:
        spelling = _plain(words.get(label, label))
        if emotions.canonical(label) is not None or re.search(r"\d", spelling):
            continue
        others = {
            _plain(form): other for other in counts if other != label for form in (other, words.get(other, other))
        }
        for near in difflib.get_close_matches(spelling, others, n=3, cutoff=TYPO):
            other = others[near]
            longer, shorter = sorted((spelling, near), key=len, reverse=True)
            if counts[label] <= counts[other] and not (longer != shorter and longer.endswith(shorter)):
                pair = words.get(label, label), words.get(other, other)
                raise EmoreasonError(
                    f"the labels {pair[0]!r} ({counts[label]} faces) and {pair[1]!r} ({counts[other]}) look like one: "
                    f"rename one of them, or say which are meant: --labels "
                    f"'{','.join(sorted(words.get(name, name) for name in counts))}'"
                )


def _plain(word: str) -> str:
    return re.sub(r"[\W_]+", " ", word).strip().casefold()


def words_of(samples: Iterable[Sample]) -> dict[str, str]:
    """How the user spells each emotion (engaged instead of interest), if the spelling is always the same."""
    by_label: dict[str, set[str]] = {}
    for sample in samples:
        label = sample.label or label_name(sample.word)  # if a sample has only shares, `word` is that of the largest
        if sample.word and label and emotions.canonical(label) is not None:
            by_label.setdefault(label, set()).add(sample.word.strip().lower())
    spellings = {label: next(iter(words)) for label, words in by_label.items() if len(words) == 1}
    return {label: word for label, word in spellings.items() if re.fullmatch(r"[^\W\d_]+([ -][^\W\d_]+)*", word)}


def unknown_words(labels: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The labels that are no emotion words, each with the most similar emotion words."""
    return {word: emotions.nearest(word) for word in labels if emotions.canonical(word) is None}
