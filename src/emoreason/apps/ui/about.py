"""The Model tab as Markdown: facts about the loaded model, its scores, and what it may be used for.

All numbers come from the model itself and from its card, which is generated from evaluation reports.
"""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from emoreason.apps.ui.export import escaped
from emoreason.apps.ui.words import words
from emoreason.core import environment
from emoreason.core.resources import resource
from emoreason.knowledge.emotions import LABEL_SETS
from emoreason.models.bundle import Bundle, bundles, read_bundle
from emoreason.models.files import hide_local_paths

if TYPE_CHECKING:
    from emoreason.reasoner import Reasoner


def model_facts(reasoner: "Reasoner") -> str:
    """A table: name, parts, labels, and how its probabilities are computed."""
    texts, reader = words()["about"], reasoner.reader
    encoder, shipped = reader.zeroshot.encoder, _shipped(reasoner)
    side = encoder.size
    size = texts["size"].format(millions=shipped.spec["parameters"] / 1e6, side=side) if shipped else None
    cells = {
        "name": escaped(reasoner.name),
        "revision": escaped(reasoner.revision),
        "size": size or texts["input"].format(side=side),
        "language": escaped(_language(reasoner)),
        "detector": escaped(reasoner.detector.name),
        "labels": f"{escaped(', '.join(reasoner.default_labels))}. {texts['any_labels']}",
        "label_sets": escaped(", ".join(LABEL_SETS)),
        "units": escaped(", ".join(f"AU{code}" for code in reader.unit_codes)) or texts["no_units"],
        "prompts": escaped(reasoner.prompt_id),
        "point": escaped(_point(reasoner)),
        "threshold": _threshold(reasoner),
        "calibration": escaped(_calibration(reasoner)),
        "device": escaped(f"{reasoner.compute.device}, {reasoner.compute.dtype}: {reasoner.compute.reason}"),
    }
    lines = [f"| {texts['facts'][key]} | {cell} |" for key, cell in cells.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def scores(reasoner: "Reasoner") -> str:
    """The "Scores" section of the card."""
    match = re.search(r"^## (Scores\b.*?)(?=^##)", _card(reasoner), re.M | re.S)
    return f"### {match[1].strip()}" if match else _none("no_scores", reasoner)


def card(reasoner: "Reasoner") -> str:
    """The whole card, without the metadata for the Hub."""
    return _card(reasoner) or _none("no_card", reasoner)


def licence(reasoner: "Reasoner") -> str:
    if _shipped(reasoner):
        return words()["about"]["licence"]
    match = re.search(r"^## Licence and use\n(.*?)(?=^##|\Z)", _card(reasoner), re.M | re.S)
    return match[1].strip() if match else _none("other_licence", reasoner)


def policy() -> str:
    return words()["about"]["policy"]


def versions() -> str:
    return f"```text\n{environment.describe().text}\n```"


def _shipped(reasoner: "Reasoner") -> Bundle | None:
    """The built-in model that this is, if any. A model trained further has the same name but not the same scores."""
    bundle = bundles().get(reasoner.name)
    return bundle if bundle and bundle.spec["sha256"].startswith(reasoner.revision) else None


def _card(reasoner: "Reasoner") -> str:
    """The card of a built-in model, or README.md of a run without its pictures and paths."""
    readme = reasoner.folder / "README.md" if reasoner.folder else None
    if _shipped(reasoner):
        text = resource(f"model_cards/{reasoner.name}.md").read_text(encoding="utf-8")
    elif reasoner.folder and readme and readme.is_file() and _is_current(reasoner):
        text = re.sub(r"!\[.*?\]\(.*?\)\n*", "", hide_local_paths(readme.read_text(encoding="utf-8"), reasoner.folder))
    else:
        return ""
    return re.sub(r"\A---\n.*?\n---\n|<!--.*?-->\n?", "", text, flags=re.S)


def _is_current(reasoner: "Reasoner") -> bool:
    """Whether the run folder still holds the loaded model, and was not trained again."""
    bundle = read_bundle(reasoner.folder) if reasoner.folder else None
    return bundle is not None and bundle.spec["sha256"].startswith(reasoner.revision)


def _none(key: str, reasoner: "Reasoner") -> str:
    return words()["about"][key].format(name=escaped(reasoner.name))


def _language(reasoner: "Reasoner") -> str:
    """The explainer's name, and its base language model if it is one of ours."""
    if reasoner.explainer is None:
        return words()["about"]["no_words"]
    spec = Path(reasoner.explainer_name) / "explainer.json"
    base = f" ({json.loads(spec.read_text())['language'].removeprefix('package:')})" if spec.is_file() else ""
    return reasoner.explainer.name + base


def _point(reasoner: "Reasoner") -> str:
    texts, reader = words()["about"], reasoner.reader
    point = reader.calibration.points.get(reader.operating_point)
    if point is None:
        return texts["plain_point"]
    scaling = texts["temperature"].format(temperature=point.temperature, strength=point.prior_strength)
    return f"{reader.operating_point}: {scaling}"


def _threshold(reasoner: "Reasoner") -> str:
    texts, reader = words()["about"], reasoner.reader
    if reader.threshold is not None:
        return texts["below_all"].format(limit=reader.threshold) if reader.threshold else texts["no_threshold"]
    limit = reader.calibration.abstain_below if _calibrated(reasoner) else 0
    return texts["below"].format(limit=limit) if limit else texts["no_threshold"]


def _calibration(reasoner: "Reasoner") -> str:
    texts = words()["about"]
    if not _calibrated(reasoner):
        return texts["not_calibrated"]
    calibration = reasoner.reader.calibration
    return texts["calibrated"].format(faces=calibration.fitted_on, labels=", ".join(calibration.labels))


def _calibrated(reasoner: "Reasoner") -> bool:
    reader = reasoner.reader
    return reader.own_prompts and reader.zeroshot.projection is None and bool(reader.calibration.labels)
