"""Upload models to the Hugging Face Hub (`emoreason models push`); --model hub:OWNER/NAME downloads them.

Uploads the files that `model_files` lists, with a card whose front matter the Hub reads. Pictures, checkpoints and
split.csv, which names the pictures, are never uploaded, and local paths are shortened to their last part. The token is
that of `hf auth login` or HF_TOKEN; this module neither asks for it nor stores it.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from emoreason.core.errors import EmoreasonError, UsageError, first_line
from emoreason.models.bundle import BUNDLES, HUB_PREFIX, PACKAGE_PREFIX, SUMS, Bundle, bundles, find_bundle
from emoreason.models.files import HUB_NAMES, copy, hide_local_paths, metrics, model_files, write_sums
from emoreason.models.registry import check

REPO = re.compile(r"[\w.-]+/[\w.-]+")
TEXT_SUFFIXES = (".md", ".json", ".jsonl", ".yaml", ".txt")
TAGS = ("emoreason", "facial-expression-recognition", "emotion")
# Key in metrics.json, type on the Hub, name on the Hub.
FIGURES = (("accuracy", "accuracy", "Accuracy (WAR)"), ("uar", "recall", "UAR"), ("macro_f1", "f1", "Macro-F1"))


def stage(name: str, repo: str, target: Path, licence: str = "other") -> list[Path]:
    """Copy the files to upload into the empty folder `target`. Returns their names."""
    if not REPO.fullmatch(repo):
        raise UsageError(f"--repo {repo}: expected OWNER/NAME, such as me/my-faces")
    bundle = find_bundle(name)
    folder = bundle.folder if bundle else Path(name)
    if bundle is None and not (folder / "explainer.json").is_file():
        raise UsageError(f"{name} is neither a run, nor the name of a model, nor the folder of an explainer")
    if folder.parent == BUNDLES:
        raise UsageError(f"{name} is part of the package: everybody who installs emoreason has it")
    if bundle is not None:
        check(bundle)
    _refuse_local_bases(bundle, folder)
    copy(folder, target)
    for file in model_files(target):
        if file.suffix in TEXT_SUFFIXES and not file.name.startswith(("tokenizer", "vocab", "merges")):
            text = (target / file).read_text(encoding="utf-8")
            (target / file).write_text(hide_local_paths(text, folder), encoding="utf-8")
    card = target / "README.md"
    body = card.read_text(encoding="utf-8") if card.is_file() else f"# {repo.split('/')[1]}\n"
    body = re.sub(r"\A---\n.*?\n---\n", "", body, flags=re.S)
    body = re.sub(r"(emoreason explain photo\.jpg --model ).*", rf"\g<1>{HUB_PREFIX}{repo}", body)
    header = yaml.safe_dump(front_matter(bundle, folder, repo, licence), sort_keys=False, allow_unicode=True)
    card.write_text(f"---\n{header}---\n{body}", encoding="utf-8")
    write_sums(target)
    return [*model_files(target), Path(SUMS)]


def upload(
    target: Path, repo: str, private: bool = False, endpoint: str | None = None, token: str | None = None
) -> str:
    """Upload a staged folder as one commit. Returns the URL of the repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT"), token=token, library_name="emoreason")
    try:
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=target, commit_message="Upload with emoreason")
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        denied = getattr(getattr(error, "response", None), "status_code", None) in (401, 403)
        hint = "; log in with `hf auth login`, or set HF_TOKEN to a token with write access" if denied else ""
        raise EmoreasonError(f"{repo} could not be uploaded: {first_line(error)}{hint}") from None
    return str(url)


def push(
    name: str,
    repo: str,
    private: bool,
    confirm: Callable[[Sequence[tuple[str, int]]], bool],
    licence: str = "other",
) -> str | None:
    """Upload a model if `confirm`, called with the name and bytes of each file, agrees.

    Returns the URL of the repository, or None if nothing was uploaded."""
    with tempfile.TemporaryDirectory() as temporary:
        target = Path(temporary)
        files = stage(name, repo, target, licence)
        if not confirm([(file.as_posix(), (target / file).stat().st_size) for file in files]):
            return None
        return upload(target, repo, private)


def front_matter(bundle: Bundle | None, folder: Path, repo: str, licence: str) -> dict[str, Any]:
    """The metadata that the Hub shows and searches."""
    spec = bundle.spec if bundle else {}
    header: dict[str, Any] = {"license": licence}
    if licence == "other":
        header |= {"license_name": "see-the-card", "license_link": "README.md"}
    header |= {"library_name": "emoreason", "tags": list(TAGS)}
    header["pipeline_tag"] = "image-classification" if bundle else "image-to-text"
    if bases := _hub_bases(spec, folder):
        header["base_model"] = bases
    details: dict[str, Any] = {key: spec[key] for key in ("kind", "base", "base_revision", "labels") if key in spec}
    if digest := spec.get("trained_on", {}).get("data_sha256"):
        details["data_sha256"] = digest
    header["emoreason"] = details
    after = (metrics(folder) or {}).get("after")
    if after:
        digest = details.get("data_sha256", "")
        results = [
            {"type": kind, "value": round(after[key]["value"], 4), "name": title}
            for key, kind, title in FIGURES
            if key in after
        ]
        dataset = {"name": f"own faces, {after.get('split', 'held out')} ({after['n']})", "type": "private",
                   "revision": digest[:12]}  # fmt: skip
        task = {"type": "image-classification", "name": "Facial expression recognition"}
        header["model-index"] = [
            {"name": repo.split("/")[1], "results": [{"task": task, "dataset": dataset, "metrics": results}]}
        ]
    return header


def _hub_bases(spec: dict[str, Any], folder: Path) -> list[str]:
    """The base models of this one that are on the Hub."""
    found = []
    base = spec.get("merged_from", spec).get("base", "")
    if base.startswith(HUB_PREFIX):
        found.append(base.removeprefix(HUB_PREFIX))
    for language in _language_models(folder):
        language = language.removeprefix(PACKAGE_PREFIX)
        language = HUB_NAMES.get(language, language)
        found += [language] if REPO.fullmatch(language) and not language.startswith(".") else []
    return found


def _refuse_local_bases(bundle: Bundle | None, folder: Path) -> None:
    """Refuse a model whose base model is a local folder: it could not be loaded anywhere else."""
    base = bundle.spec.get("base", "") if bundle else ""
    if base and not base.startswith(("./", HUB_PREFIX)) and base not in bundles() and Path(base).exists():
        raise UsageError(f"{folder} needs {base}, a folder of this machine: first type emoreason models merge")
    for language in _language_models(folder):
        if not language.startswith("./") and Path(language).exists():
            raise UsageError(f"the explainer needs {language}, a folder of this machine: first type emoreason "
                             "models merge")  # fmt: skip


def _language_models(folder: Path) -> list[str]:
    """The language models of the explainers in a folder."""
    specs = [path for path in (folder / "explainer.json", folder / "explainer" / "explainer.json") if path.is_file()]
    return [json.loads(path.read_text(encoding="utf-8"))["language"] for path in specs]
