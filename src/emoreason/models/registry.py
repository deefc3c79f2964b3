"""Models by name: those of the package, and those added from training runs with `emoreason models add`."""

import difflib
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.resources import resource
from emoreason.models.bundle import HUB_PREFIX, Bundle, bundles, find_bundle, models_folder, read_bundle
from emoreason.models.files import copy, metrics, model_files, replace_folder, verify

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Listed:
    """One line of `emoreason models list`."""

    name: str
    kind: str
    base: str
    labels: tuple[str, ...]
    accuracy: float | None  # percent
    uar: float | None
    measured_on: str
    bytes: int


def require(name: str) -> Bundle:
    """The model with this name or in this folder; an error with the nearest name if there is none."""
    if bundle := find_bundle(name):
        return bundle
    known = [describe_model.name for describe_model in list_models()]
    near = (difflib.get_close_matches(name, known, n=1) or known)[0]
    raise UsageError(f"no model {name!r}: expected a name of `emoreason models list` (did you mean {near}?) or a "
                     "folder with model.json")  # fmt: skip


def add(folder: Path, name: str = "", overwrite: bool = False) -> Path:
    """Check a run (or hub:OWNER/NAME) and copy its model, completely or not at all.

    Afterwards all commands accept its name."""
    if str(folder).startswith(HUB_PREFIX) and (fetched := find_bundle(str(folder))):
        folder = fetched.folder
    bundle = read_bundle(folder)
    if bundle is None:
        reason = "it was stopped early" if (folder / "config.yaml").is_file() else "it has no model.json"
        raise UsageError(f"{folder} is not a finished run: {reason}; expected a folder that `emoreason finetune` wrote")
    name = checked_name(name or str(bundle.spec.get("name") or folder.resolve().name))
    check(bundle)
    target = models_folder() / name
    if target.exists() and not overwrite:
        raise UsageError(
            f"there is a model {name} already: replace it with --overwrite, or choose another name with --name"
        )

    def write(empty: Path) -> None:
        copy(folder, empty)
        if (copied := read_bundle(empty)) and copied.spec.get("name") != name:
            spec = json.dumps(copied.spec | {"name": name}, indent=2, ensure_ascii=False) + "\n"
            (empty / "model.json").write_text(spec, encoding="utf-8")

    try:
        replace_folder(target, write)
    except OSError as error:
        raise EmoreasonError(
            f"{target} cannot be written: {error.strerror or error}. set EMOREASON_MODELS=DIR to use another folder"
        ) from None
    return target


def checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UsageError(f"--name {name}: expected letters, digits, dots and dashes, such as my-faces, and no path")
    if name.casefold() in {known.casefold() for known in bundles()}:
        raise UsageError(f"{name} is a model of the package: choose another name with --name")
    return name


def remove(name: str) -> Path:
    """Delete an added model. The run that it came from is kept."""
    if name in bundles():
        raise UsageError(f"{name} is part of the package and cannot be removed")
    folder = models_folder() / name
    if not NAME.fullmatch(name) or not (folder / "model.json").is_file():
        raise UsageError(f"no model {name!r} was added; type emoreason models list to see the models")
    shutil.rmtree(folder)
    return folder


def check(bundle: Bundle) -> None:
    """Check that a model can be used: intact files, labels, and exactly the encoder that it was trained on."""
    verify(bundle.folder)
    if bundle.base is None:
        return
    if "labels" not in bundle.spec:
        raise EmoreasonError(f"{bundle.folder}/model.json has no labels: train it again with emoreason finetune")
    if not bundle.spec.get("base_revision"):
        raise EmoreasonError(f"{bundle.folder}/model.json has no base_revision: train it again")
    base = find_bundle(bundle.base)
    if base is None and "/" not in bundle.base:
        raise EmoreasonError(f"{bundle.folder} needs the model {bundle.base}, which does not exist")
    if base is not None and (found := base.spec["sha256"][:12]) != bundle.spec["base_revision"]:
        raise EmoreasonError(f"{bundle.folder} was trained on {bundle.base} {bundle.spec['base_revision']}, but the "
                             f"installed {bundle.base} is {found}")  # fmt: skip


def card(name: str) -> str:
    """The card of a model, by name or folder. Its example command shows the model under the name given here."""
    bundle = require(name)
    if name in bundles():
        return resource(f"model_cards/{name}.md").read_text(encoding="utf-8")
    file = bundle.folder / "README.md"
    if not file.is_file():
        raise EmoreasonError(f"{bundle.folder} has no README.md, so this model has no card")
    return re.sub(r"(?m)^(    emoreason explain photo\.jpg --model ).*", lambda line: line[1] + shlex.quote(name),
                  file.read_text(encoding="utf-8"))  # fmt: skip


def list_models() -> Iterator[Listed]:
    """All models: those of the package, then the added ones."""
    for name, bundle in bundles().items():
        yield describe_model(bundle, name)
    folder = models_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if NAME.fullmatch(path.name) and (added := read_bundle(path)):
            yield describe_model(added, path.name)


def describe_model(bundle: Bundle, name: str) -> Listed:
    spec = bundle.spec
    size = sum((bundle.folder / file).stat().st_size for file in model_files(bundle.folder))
    if bundle.base is None:
        figures = re.match(r"([\d.]+) / UAR ([\d.]+)", spec.get("headline", ""))
        kind = f"{spec['parameters'] / 1e6:.1f} M parameters, {spec['image_size']}×{spec['image_size']}"
        accuracy, uar = (float(figures[1]), float(figures[2])) if figures else (None, None)
        return Listed(name, kind, "–", tuple(spec["calibration"]["labels"]), accuracy, uar, "FER+ validation", size)
    after = (metrics(bundle.folder) or {}).get("after", {})
    accuracy, uar = (100 * after[key]["value"] if key in after else None for key in ("accuracy", "uar"))
    where = f"{after['n']} faces, {after.get('split', 'held out')}" if after else "–"
    base = "in the folder" if spec["base"].startswith("./") else f"{spec['base']} {spec['base_revision']}"
    return Listed(name, str(spec.get("what", "head")), base, tuple(spec["labels"]), accuracy, uar, where, size)


def measurements(name: str) -> dict[str, Any] | None:
    """What was measured before and after a model's training, without paths and names of pictures."""
    bundle = find_bundle(name)
    if bundle is None:
        return None
    if bundle.base is None:
        line = describe_model(bundle, name)
        if line.accuracy is None or line.uar is None:
            return None
        figures = {"accuracy": line.accuracy / 100, "uar": line.uar / 100}
        return {"measured_on": line.measured_on, "before": None, "after": figures, "counts": {}, "protocol": ""}
    found = metrics(bundle.folder) or {}
    if "after" not in found:
        return None
    scores = {
        when: {key: found[when][key]["value"] for key in ("accuracy", "uar", "macro_f1")} if when in found else None
        for when in ("before", "after")
    }
    where = f"{found['after']['n']} faces, {found['after'].get('split', 'held out')}"
    return {"measured_on": where, "counts": found.get("counts", {}), "protocol": found.get("protocol", ""), **scores}
