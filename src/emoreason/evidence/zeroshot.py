"""Zero-shot labels: encodes any label words as prompts and compares them with the face by cosine similarity.

Prior correction, temperature and an Exp-CLIP projection are optional and off by default. The values that a model ships
for its own labels were fitted on a held-out part of its training data.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from emoreason.core.errors import EmoreasonError, UsageError, first_line
from emoreason.core.files import cache_folder
from emoreason.core.resources import resource
from emoreason.models.encoder import Encoder, Features

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LabelPrompts:
    """Templates, words for known labels, and optional descriptions of the action units of an emotion."""

    templates: tuple[str, ...]
    words: Mapping[str, Sequence[str]]
    descriptors: Mapping[str, Sequence[str]]

    def texts(self, label: str) -> list[str]:
        words = self.words.get(label, (label.replace("_", " "),))
        return [t.format(w) for w in words for t in self.templates] + list(self.descriptors.get(label, ()))

    @property
    def id(self) -> str:
        """A hash of all prompts. Every row that was labeled with them records it."""
        text = repr((self.templates, sorted(self.words.items()), sorted(self.descriptors.items())))
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def load_label_prompts(path: Path | None = None, descriptors: bool = False) -> LabelPrompts:
    """Read `prompts/labels.yaml` or a file like it; `descriptors` adds the texts of `prompts/descriptors.yaml`."""
    import yaml

    file = Path(path) if path else resource("prompts/labels.yaml")
    try:
        content = yaml.safe_load(file.read_text())
        templates = tuple(content["templates"])
        words = {str(k): tuple(map(str, v)) for k, v in (content.get("words") or {}).items()}
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UsageError(
            f"{file} is not a prompt file ({error}): expected 'templates:' with a list and 'words:' with a list per "
            "label, as in prompts/labels.yaml"
        ) from None
    if not templates or not all(isinstance(t, str) and "{}" in t for t in templates):
        raise UsageError(f"{file}: every template needs a {{}} where the label goes")
    descriptions: dict[str, tuple[str, ...]] = {}
    if descriptors:
        content = yaml.safe_load(resource("prompts/descriptors.yaml").read_text())
        descriptions = {emotion: tuple(line["text"] for line in lines) for emotion, lines in content.items()}
    return LabelPrompts(templates, words, descriptions)


class TextCache:
    """Caches prompt embeddings on disk, keyed by text encoder and texts: a changed prompt is always encoded again."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder or cache_folder("text")

    def prototype(self, encoder: Encoder, texts: list[str]) -> np.ndarray:
        """The mean embedding of the texts: (D,), unit length."""
        key = hashlib.sha256("\n".join([encoder.name, encoder.revision, *texts]).encode()).hexdigest()
        path = self.folder / f"{key}.npy"
        if path.is_file():
            try:
                return np.load(path, allow_pickle=False)
            except (OSError, ValueError):
                pass  # a damaged entry is computed again
        mean = encoder.encode_texts(texts).mean(axis=0)
        mean = mean / np.linalg.norm(mean)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{hashlib.sha256(repr(id(mean)).encode()).hexdigest()[:8]}.tmp")
            with fresh.open("wb") as file:
                np.save(file, mean)
            fresh.replace(path)
        except OSError:
            pass  # for example a read-only home: the cache is optional
        return mean


@dataclass(frozen=True)
class Projection:
    """Exp-CLIP's head: a linear map without bias, applied to image and text embeddings before they are normalised."""

    weight: np.ndarray  # (outputs, D)

    def __call__(self, embedding: np.ndarray) -> np.ndarray:
        projected = embedding @ self.weight.T
        return projected / np.linalg.norm(projected, axis=1, keepdims=True)


def load_projection(path: Path, width: int) -> Projection:
    """Read a published `ExpCLIP_*_model.pth` (weights only, no pickled code) or its safetensors version."""
    tensors = _read_tensors(Path(path))
    keys = [key for key in tensors if key.removeprefix("module.") == "mlp.weight"]
    if len(keys) != 1:
        raise EmoreasonError(
            f"{path} is no Exp-CLIP head: expected one tensor 'mlp.weight', found {sorted(tensors)[:4]}"
        )
    weight = tensors[keys[0]].float().numpy()
    if weight.ndim != 2 or weight.shape[1] != width:
        raise EmoreasonError(
            f"{path} maps from {weight.shape[-1]} dimensions and the model gives {width}: use the head of the "
            "same CLIP (B16 for ViT-B-16/openai, L14 for ViT-L-14/openai)"
        )
    return Projection(weight)


def convert_projection(source: Path, target: Path) -> None:
    """Write a published head as safetensors, so that nobody has to open the pickle again."""
    from safetensors.torch import save_file

    save_file({k.removeprefix("module."): v.contiguous() for k, v in _read_tensors(Path(source)).items()}, target)


def _read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on other files the readers raise almost anything
        raise EmoreasonError(f"{path} cannot be read as weights: {first_line(error)}") from None


@dataclass(frozen=True)
class ZeroShot:
    """Scores faces against labels given as text."""

    encoder: Encoder
    prompts: LabelPrompts
    cache: TextCache
    projection: Projection | None = None

    def with_projection(self, path: Path) -> "ZeroShot":
        width = self.encoder.encode_texts(["width"]).shape[1]
        return replace(self, projection=load_projection(path, width))

    def prototypes(self, labels: Sequence[str]) -> np.ndarray:
        """(L, D) unit-length label embeddings; with a projection, in its output space."""
        means = np.stack([self.cache.prototype(self.encoder, self.prompts.texts(label)) for label in labels])
        return self.projection(means) if self.projection else means

    def logits(self, features: Features, labels: Sequence[str]) -> np.ndarray:
        """(B, L) CLIP's logit scale times the cosine."""
        embedding = self.projection(features.embedding) if self.projection else features.embedding
        return self.encoder.logit_scale * embedding @ self.prototypes(labels).T


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Strip the labels and check that there are at least two different, non-empty ones."""
    cleaned = tuple(label.strip() for label in labels)
    if len(cleaned) < 2 or not all(cleaned) or len({label.casefold() for label in cleaned}) < len(cleaned):
        raise UsageError(
            f"--labels {','.join(labels)!r}: at least two different words were expected, such as bored,engaged "
            "(capitals do not make a word different)"
        )
    return cleaned
