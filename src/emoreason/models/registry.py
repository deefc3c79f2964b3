"""Models by name: those of the package, and those that `emoreason models add` took over from runs."""

import difflib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from emoreason.encoder import HUB_PREFIX, Bundle, bundles, find_bundle, models_folder, read_bundle
from emoreason.errors import EmoreasonError, UsageError
from emoreason.resources import resource

SUMS = "SHA256SUMS"  # as `sha256sum -c` reads it
# What a model consists of. Pictures of faces, checkpoints and split.csv (the names of pictures) are not in the list,
# so that they neither travel with a model nor reach a hub.
TOP = ("model.json", "weights.safetensors", "measures.safetensors", "measures.json", "projection.safetensors",
       "explainer.json", "README.md", "metrics.json", "config.yaml", "env.txt", "log.jsonl", "loss.png",
       "confusion.png", "projector.safetensors", "vocabulary.safetensors")  # fmt: skip
PARTS = ("adapter", "explainer", "base", "language")
# Of the parts: weights, settings and tokenizers as peft and transformers name them.
INSIDE = re.compile(
    r"[\w.-]+\.safetensors|model\.safetensors\.index\.json|(adapter_|generation_)?config\.json|"
    r"(model|explainer|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|"
    r"tokenizer\.model|merges\.txt|chat_template\.jinja|config\.yaml|log\.jsonl|loss\.png"
)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Listed:
    """A line of `emoreason models list`."""

    name: str
    kind: str
    base: str
    labels: tuple[str, ...]
    accuracy: float | None  # percent
    uar: float | None
    measured_on: str
    bytes: int


def model_files(folder: Path) -> list[Path]:
    """The files of a model or an explainer, relative to its folder: no picture, no checkpoint, no names of pictures."""
    explainer = (folder / "explainer.json").is_file()  # its adapter and tokenizer lie beside it
    found = [p for p in folder.iterdir() if p.name in TOP or (explainer and INSIDE.fullmatch(p.name))]
    inside = [p for part in PARTS for p in (folder / part).rglob("*") if INSIDE.fullmatch(p.name)]
    return sorted(p.relative_to(folder) for p in (*found, *inside) if p.is_file() and not _set_aside(p, folder))


def _set_aside(path: Path, folder: Path) -> bool:
    between = path.relative_to(folder).parts[:-1]
    return any(part.startswith((".", "checkpoint", "part-")) for part in between)


def require(name: str) -> Bundle:
    """The model of this name or folder."""
    if bundle := find_bundle(name):
        return bundle
    known = [listed.name for listed in every()]
    near = (difflib.get_close_matches(name, known, n=1) or known)[0]
    raise UsageError(f"no model {name!r}: a name of `emoreason models list` (did you mean {near}?) or a folder with "
                     "model.json was expected")  # fmt: skip


def add(folder: Path, name: str = "", overwrite: bool = False) -> Path:
    """Check a run (or hub:OWNER/NAME) and copy what belongs to the model, whole or not at all; every verb then takes
    its name."""
    if str(folder).startswith(HUB_PREFIX) and (fetched := find_bundle(str(folder))):
        folder = fetched.folder
    bundle = read_bundle(folder)
    if bundle is None:
        why = "it was stopped before its end" if (folder / "config.yaml").is_file() else "no model.json is there"
        raise UsageError(f"{folder} is no finished run: {why}; a folder that `emoreason finetune` wrote was expected")
    name = checked_name(name or str(bundle.spec.get("name") or folder.resolve().name))
    check(bundle)
    target = models_folder() / name
    if target.exists() and not overwrite:
        raise UsageError(f"there is a model {name} already: --overwrite replaces it, --name gives this one another")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".adding-") as there:
            fresh, old = Path(there) / "fresh", Path(there) / "old"
            copy(folder, fresh)
            if (copied := read_bundle(fresh)) and copied.spec.get("name") != name:
                spec = json.dumps(copied.spec | {"name": name}, indent=2, ensure_ascii=False) + "\n"
                (fresh / "model.json").write_text(spec, encoding="utf-8")
            write_sums(fresh)
            if target.exists():
                target.rename(old)
            fresh.rename(target)
    except OSError as error:
        raise EmoreasonError(
            f"{target} cannot be written: {error.strerror or error}. EMOREASON_MODELS=DIR names another folder"
        ) from None
    return target


def checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise UsageError(
            f"--name {name}: letters, digits, dots and dashes were expected, such as my-faces, and no path"
        )
    if name.casefold() in {known.casefold() for known in bundles()}:
        raise UsageError(f"{name} is a model of the package: give this one another name with --name")
    return name


def copy(folder: Path, target: Path) -> None:
    for file in model_files(folder):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, target / file)
    if (bundle := read_bundle(target)) and "files" in bundle.spec:  # checksums of what came along, and of nothing else
        files = {name: digest for name, digest in bundle.spec["files"].items() if (target / name).is_file()}
        spec = json.dumps(bundle.spec | {"files": files}, indent=2, ensure_ascii=False) + "\n"
        (target / "model.json").write_text(spec, encoding="utf-8")


def remove(name: str) -> Path:
    """Delete a model that was added. The run that it came from stays."""
    if name in bundles():
        raise UsageError(f"{name} is a model of the package and stays")
    folder = models_folder() / name
    if not NAME.fullmatch(name) or not (folder / "model.json").is_file():
        raise UsageError(f"no model {name!r} was added; emoreason models list shows those that were")
    shutil.rmtree(folder)
    return folder


def check(bundle: Bundle) -> None:
    """What a model of ours needs to be used: whole files, labels, and the very encoder that it was trained on."""
    verify(bundle.folder)
    if bundle.base is None:
        return
    if "labels" not in bundle.spec:
        raise EmoreasonError(f"{bundle.folder}/model.json names no labels: train it again with emoreason finetune")
    if not bundle.spec.get("base_revision"):
        raise EmoreasonError(f"{bundle.folder}/model.json names no base_revision: train it again")
    base = find_bundle(bundle.base)
    if base is None and "/" not in bundle.base:
        raise EmoreasonError(f"{bundle.folder} stands on {bundle.base}, and there is no such model")
    if base is not None and (found := base.spec["sha256"][:12]) != bundle.spec["base_revision"]:
        raise EmoreasonError(f"{bundle.folder} was trained on {bundle.base} {bundle.spec['base_revision']}, and the "
                             f"{bundle.base} that is here is {found}")  # fmt: skip


def verify(folder: Path) -> dict[str, str]:
    """Compare every file that has a checksum with it; name -> SHA-256."""
    expected: dict[str, str] = {}
    if (folder / SUMS).is_file():
        for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
            digest, _, name = line.partition("  ")
            expected[name] = digest
    for inner in (folder, folder / "base"):
        if bundle := read_bundle(inner):
            for name, digest in bundle.checksums.items():
                expected[(inner / name).relative_to(folder).as_posix()] = digest
    if not expected:
        raise EmoreasonError(f"{folder} has neither {SUMS} nor a model.json: nothing can be compared")
    damaged = []
    for name, digest in expected.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise EmoreasonError(f"{folder}/{SUMS} names {name}, which is not in the folder")
        if not (folder / name).is_file():
            damaged.append(f"{name} is missing")
        elif sha256(folder / name) != digest:
            damaged.append(f"{name} is damaged or was changed")
    if damaged:
        raise EmoreasonError(f"{folder} is not whole: {'; '.join(damaged)}. Copy it again, or train it again")
    return expected


def write_sums(folder: Path) -> None:
    lines = [f"{sha256(folder / file)}  {file.as_posix()}\n" for file in model_files(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()


def card(name: str) -> str:
    """The card of a model, by name or folder."""
    bundle = require(name)
    if name in bundles():
        return resource(f"model_cards/{name}.md").read_text(encoding="utf-8")
    file = bundle.folder / "README.md"
    if not file.is_file():
        raise EmoreasonError(f"{bundle.folder} has no README.md: no card came with this model")
    return file.read_text(encoding="utf-8")


def every() -> Iterator[Listed]:
    """Those of the package, then the added ones."""
    for name, bundle in bundles().items():
        yield listed(bundle, name)
    folder = models_folder()
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if NAME.fullmatch(place.name) and (found := read_bundle(place)):
            yield listed(found, place.name)


def listed(bundle: Bundle, name: str) -> Listed:
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


def measured(name: str) -> dict[str, Any] | None:
    """What was measured of a model before and after its training, without a path or the name of a picture."""
    bundle = find_bundle(name)
    if bundle is None:
        return None
    if bundle.base is None:
        line = listed(bundle, name)
        if line.accuracy is None or line.uar is None:
            return None
        figures = {"accuracy": line.accuracy / 100, "uar": line.uar / 100}
        return {"measured_on": line.measured_on, "before": None, "after": figures, "counts": {}, "protocol": ""}
    found = metrics(bundle.folder) or {}
    if "after" not in found:
        return None
    told = {
        when: {key: found[when][key]["value"] for key in ("accuracy", "uar", "macro_f1")} if when in found else None
        for when in ("before", "after")
    }
    where = f"{found['after']['n']} faces, {found['after'].get('split', 'held out')}"
    return {"measured_on": where, "counts": found.get("counts", {}), "protocol": found.get("protocol", ""), **told}


def public(text: str, folder: Path) -> str:
    """A text of a run without the places of this machine that its settings name: their last name is left."""
    for path, name in _places(folder).items():
        text = text.replace(path, name)
    return text


def _places(folder: Path) -> dict[str, str]:
    found = {str(folder.resolve()), str(folder)}
    for file in (folder / "config.yaml", folder / "explainer" / "config.yaml"):
        if file.is_file():
            found |= set(_strings(yaml.safe_load(file.read_text(encoding="utf-8"))))
    names = {text: Path(text).name for text in sorted(found, key=len, reverse=True) if Path(text).is_absolute()}
    return {path: name for path, name in (names | {str(Path.home()): "~"}).items() if len(path) > 1}


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for inner in value.values() for text in _strings(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in _strings(inner)]
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else []


def metrics(folder: Path) -> dict[str, Any] | None:
    """metrics.json of a run, where it is there."""
    file = folder / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
