"""The third tab: what the loaded model is, how well it was measured, and what it may be used for. All as Markdown.

Figures are read from the card, which is written from the reports, and from the model itself. None is typed here.
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
from emoreason.models.files import public

if TYPE_CHECKING:
    from emoreason.reasoner import Reasoner


def model_facts(reasoner: "Reasoner") -> str:
    """A table: name, parts, labels, and how its probabilities come about."""
    said, reader = words()["about"], reasoner.reader
    encoder, shipped = reader.zeroshot.encoder, _shipped(reasoner)
    side = encoder.size
    size = said["size"].format(millions=shipped.spec["parameters"] / 1e6, side=side) if shipped else None
    cells = {
        "name": escaped(reasoner.name),
        "revision": escaped(reasoner.revision),
        "size": size or said["input"].format(side=side),
        "language": escaped(_language(reasoner)),
        "detector": escaped(reasoner.detector.name),
        "labels": f"{escaped(', '.join(reasoner.default_labels))}. {said['any_labels']}",
        "label_sets": escaped(", ".join(LABEL_SETS)),
        "units": escaped(", ".join(f"AU{code}" for code in reader.unit_codes)) or said["no_units"],
        "prompts": escaped(reasoner.prompt_id),
        "point": escaped(_point(reasoner)),
        "threshold": _threshold(reasoner),
        "calibration": escaped(_calibration(reasoner)),
        "device": escaped(f"{reasoner.compute.device}, {reasoner.compute.dtype}: {reasoner.compute.reason}"),
    }
    lines = [f"| {said['facts'][key]} | {cell} |" for key, cell in cells.items()]
    return "\n".join(["| | |", "| --- | --- |", *lines])


def scores(reasoner: "Reasoner") -> str:
    """The headline of the card."""
    found = re.search(r"^## (Scores\b.*?)(?=^##)", _card(reasoner), re.M | re.S)
    return f"### {found[1].strip()}" if found else _none("no_scores", reasoner)


def card(reasoner: "Reasoner") -> str:
    """The whole card, without the lines for the hub."""
    return _card(reasoner) or _none("no_card", reasoner)


def licence(reasoner: "Reasoner") -> str:
    if _shipped(reasoner):
        return words()["about"]["licence"]
    found = re.search(r"^## Licence and use\n(.*?)(?=^##|\Z)", _card(reasoner), re.M | re.S)
    return found[1].strip() if found else _none("other_licence", reasoner)


def policy() -> str:
    return words()["about"]["policy"]


def versions() -> str:
    return f"```text\n{environment.describe().text}\n```"


def _shipped(reasoner: "Reasoner") -> Bundle | None:
    """The model of the package that this is; a model trained further bears its name but not its figures."""
    found = bundles().get(reasoner.name)
    return found if found and found.spec["sha256"].startswith(reasoner.revision) else None


def _card(reasoner: "Reasoner") -> str:
    """Of a model of the package, or of a run: README.md in its folder, without pictures and without its places."""
    own = reasoner.folder / "README.md" if reasoner.folder else None
    if _shipped(reasoner):
        text = resource(f"model_cards/{reasoner.name}.md").read_text(encoding="utf-8")
    elif reasoner.folder and own and own.is_file() and _of_folder(reasoner):
        text = re.sub(r"!\[.*?\]\(.*?\)\n*", "", public(own.read_text(encoding="utf-8"), reasoner.folder))
    else:
        return ""
    return re.sub(r"\A---\n.*?\n---\n|<!--.*?-->\n?", "", text, flags=re.S)


def _of_folder(reasoner: "Reasoner") -> bool:
    """The run was not trained again since it was loaded."""
    bundle = read_bundle(reasoner.folder) if reasoner.folder else None
    return bundle is not None and bundle.spec["sha256"].startswith(reasoner.revision)


def _none(key: str, reasoner: "Reasoner") -> str:
    return words()["about"][key].format(name=escaped(reasoner.name))


def _language(reasoner: "Reasoner") -> str:
    """The explainer's name, and the language model that it was trained on where it is one of ours."""
    if reasoner.explainer is None:
        return words()["about"]["no_words"]
    spec = Path(reasoner.explainer_name) / "explainer.json"
    base = f" ({json.loads(spec.read_text())['language'].removeprefix('package:')})" if spec.is_file() else ""
    return reasoner.explainer.name + base


def _point(reasoner: "Reasoner") -> str:
    said, reader = words()["about"], reasoner.reader
    point = reader.calibration.points.get(reader.point)
    if point is None:
        return said["plain_point"]
    told = said["temperature"].format(temperature=point.temperature, strength=point.prior_strength)
    return f"{reader.point}: {told}"


def _threshold(reasoner: "Reasoner") -> str:
    said, reader = words()["about"], reasoner.reader
    if reader.threshold is not None:
        return said["below_all"].format(limit=reader.threshold) if reader.threshold else said["no_threshold"]
    limit = reader.calibration.abstain_below if _calibrated(reasoner) else 0
    return said["below"].format(limit=limit) if limit else said["no_threshold"]


def _calibration(reasoner: "Reasoner") -> str:
    said = words()["about"]
    if not _calibrated(reasoner):
        return said["not_calibrated"]
    calibration = reasoner.reader.calibration
    return said["calibrated"].format(faces=calibration.fitted_on, labels=", ".join(calibration.labels))


def _calibrated(reasoner: "Reasoner") -> bool:
    reader = reasoner.reader
    return reader.own_prompts and reader.zeroshot.projection is None and bool(reader.calibration.labels)
