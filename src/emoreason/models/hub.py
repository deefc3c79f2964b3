"""The Hugging Face Hub: models come from it by --model hub:OWNER/NAME and go to it by `emoreason models push`.

What goes: the files that model_files names, with a card whose head the Hub reads. Never pictures, checkpoints or
split.csv, which names the pictures; places on this machine are cut down to their last name. The token is that of
`hf auth login` or HF_TOKEN; it is neither asked for nor stored here.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from emoreason.core.errors import EmoreasonError, UsageError, first_line
from emoreason.models.bundle import BUNDLES, HUB_PREFIX, PACKAGE_PREFIX, SUMS, Bundle, bundles, find_bundle
from emoreason.models.files import copy, metrics, model_files, public, write_sums
from emoreason.models.registry import check

REPO = re.compile(r"[\w.-]+/[\w.-]+")
READABLE = (".md", ".json", ".jsonl", ".yaml", ".txt")
TAGS = ("emoreason", "facial-expression-recognition", "emotion")
FIGURES = (("accuracy", "accuracy", "Accuracy (WAR)"), ("uar", "recall", "UAR"), ("macro_f1", "f1", "Macro-F1"))


def stage(name: str, repo: str, target: Path, licence: str = "other") -> list[Path]:
    """Lay out in the empty folder `there` what is to be uploaded; the files."""
    if not REPO.fullmatch(repo):
        raise UsageError(f"--repo {repo}: OWNER/NAME was expected, such as me/my-faces")
    bundle = find_bundle(name)
    folder = bundle.folder if bundle else Path(name)
    if bundle is None and not (folder / "explainer.json").is_file():
        raise UsageError(f"{name} is neither a run, nor a model's name, nor an explainer's folder")
    if folder.parent == BUNDLES:
        raise UsageError(f"{name} is a model of the package: everybody who has emoreason has it")
    if bundle is not None:
        check(bundle)
    _refuse_places(bundle, folder)
    copy(folder, target)
    for file in model_files(target):
        if file.suffix in READABLE and not file.name.startswith(("tokenizer", "vocab", "merges")):
            text = (target / file).read_text(encoding="utf-8")
            (target / file).write_text(public(text, folder), encoding="utf-8")
    card = target / "README.md"
    body = card.read_text(encoding="utf-8") if card.is_file() else f"# {repo.split('/')[1]}\n"
    body = re.sub(r"\A---\n.*?\n---\n", "", body, flags=re.S)
    body = re.sub(r"(emoreason explain photo\.jpg --model ).*", rf"\g<1>{HUB_PREFIX}{repo}", body)
    head = yaml.safe_dump(front_matter(bundle, folder, repo, licence), sort_keys=False, allow_unicode=True)
    card.write_text(f"---\n{head}---\n{body}", encoding="utf-8")
    write_sums(target)
    return [*model_files(target), Path(SUMS)]


def upload(
    target: Path, repo: str, private: bool = False, endpoint: str | None = None, token: str | None = None
) -> str:
    """A laid-out folder as one commit; the address of the repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT"), token=token, library_name="emoreason")
    try:
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=target, commit_message="Upload with emoreason")
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        answer = getattr(error, "response", None)
        known = getattr(answer, "status_code", None) in (401, 403)
        more = "; log in with `hf auth login`, or set HF_TOKEN to a token that may write" if known else ""
        raise EmoreasonError(f"{repo} could not be uploaded: {first_line(error)}{more}") from None
    return str(address)


def push(
    name: str,
    repo: str,
    private: bool,
    agreed: Callable[[Sequence[tuple[str, int]]], bool],
    licence: str = "other",
) -> str | None:
    """Show what would go (name and bytes of each file) and, where that is agreed to, upload it: the address."""
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        target = Path(place)
        files = stage(name, repo, target, licence)
        if not agreed([(file.as_posix(), (target / file).stat().st_size) for file in files]):
            return None
        return upload(target, repo, private)


def front_matter(bundle: Bundle | None, folder: Path, repo: str, licence: str) -> dict[str, Any]:
    """What the Hub shows and searches."""
    spec = bundle.spec if bundle else {}
    head: dict[str, Any] = {"license": licence}
    if licence == "other":
        head |= {"license_name": "see-the-card", "license_link": "README.md"}
    head |= {"library_name": "emoreason", "tags": list(TAGS)}
    head["pipeline_tag"] = "image-classification" if bundle else "image-to-text"
    if bases := _hub_bases(spec, folder):
        head["base_model"] = bases
    known: dict[str, Any] = {key: spec[key] for key in ("kind", "base", "base_revision", "labels") if key in spec}
    if digest := spec.get("trained_on", {}).get("data_sha256"):
        known["data_sha256"] = digest
    head["emoreason"] = known
    after = (metrics(folder) or {}).get("after")
    if after:
        digest = known.get("data_sha256", "")
        results = [
            {"type": kind, "value": round(after[key]["value"], 4), "name": called}
            for key, kind, called in FIGURES
            if key in after
        ]
        dataset = {"name": f"own faces, {after.get('split', 'held out')} ({after['n']})", "type": "private",
                   "revision": digest[:12]}  # fmt: skip
        task = {"type": "image-classification", "name": "Facial expression recognition"}
        head["model-index"] = [
            {"name": repo.split("/")[1], "results": [{"task": task, "dataset": dataset, "metrics": results}]}
        ]
    return head


def _hub_bases(spec: dict[str, Any], folder: Path) -> list[str]:
    """Models of the Hub that this one stands on."""
    from emoreason.models.files import HIDDEN

    found = []
    base = spec.get("merged_from", spec).get("base", "")
    if base.startswith(HUB_PREFIX):
        found.append(base.removeprefix(HUB_PREFIX))
    for place in (folder, folder / "explainer"):
        if (place / "explainer.json").is_file():
            language = _json(place / "explainer.json")["language"].removeprefix(PACKAGE_PREFIX)
            language = HIDDEN.get(language, language)
            found += [language] if REPO.fullmatch(language) and not language.startswith(".") else []
    return found


def _refuse_places(bundle: Bundle | None, folder: Path) -> None:
    """A model that stands on a folder of this machine would load nowhere else."""
    base = bundle.spec.get("base", "") if bundle else ""
    if base and not base.startswith(("./", HUB_PREFIX)) and base not in bundles() and Path(base).exists():
        raise UsageError(f"{folder} stands on {base}, a folder of this machine: first emoreason models merge")
    for place in (folder, folder / "explainer"):
        if (place / "explainer.json").is_file():
            language = _json(place / "explainer.json")["language"]
            if not language.startswith("./") and Path(language).exists():
                raise UsageError(f"the explainer stands on {language}, a folder of this machine: first emoreason "
                                 "models merge")  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    import json

    return json.loads(path.read_text(encoding="utf-8"))
