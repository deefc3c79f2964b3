"""Any words as labels: prompts through the text encoder, cosine to the face, a distribution.

Prior correction, temperature and an Exp-CLIP projection are options. They are off unless asked for, and what a model
brings along for its own labels was fitted on a held-out part of its training data.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoreason.core.errors import EmoreasonError, UsageError, first_line
from emoreason.core.resources import resource
from emoreason.models.encoder import Encoder, Features

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class LabelPrompts:
    """Templates, the words of known labels, and optional descriptions of the action units that go with an emotion."""

    templates: tuple[str, ...]
    words: Mapping[str, Sequence[str]]
    descriptors: Mapping[str, Sequence[str]]

    def texts(self, label: str) -> list[str]:
        words = self.words.get(label, (label.replace("_", " "),))
        return [t.format(w) for w in words for t in self.templates] + list(self.descriptors.get(label, ()))

    @property
    def id(self) -> str:
        """Changes when any word changes: stands in every row that was labeled with these prompts."""
        text = repr((self.templates, sorted(self.words.items()), sorted(self.descriptors.items())))
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def load_label_prompts(path: Path | None = None, descriptors: bool = False) -> LabelPrompts:
    """`prompts/labels.yaml` or a file laid out like it; `descriptors` adds those of `prompts/descriptors.yaml`."""
    import yaml

    place = Path(path) if path else resource("prompts/labels.yaml")
    try:
        given = yaml.safe_load(place.read_text())
        templates = tuple(given["templates"])
        words = {str(k): tuple(map(str, v)) for k, v in (given.get("words") or {}).items()}
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise UsageError(
            f"{place} is no prompt file ({error}): 'templates:' with a list and 'words:' with lists per label "
            "were expected, as in prompts/labels.yaml"
        ) from None
    if not templates or not all(isinstance(t, str) and "{}" in t for t in templates):
        raise UsageError(f"{place}: every template needs a {{}} where the label goes")
    described: dict[str, tuple[str, ...]] = {}
    if descriptors:
        told = yaml.safe_load(resource("prompts/descriptors.yaml").read_text())
        described = {emotion: tuple(line["text"] for line in lines) for emotion, lines in told.items()}
    return LabelPrompts(templates, words, described)


class TextCache:
    """Prompt embeddings on disk, keyed by the text encoder and the very texts: changed words are never read from it."""

    def __init__(self, folder: Path | None = None):
        if folder is None:
            from platformdirs import user_cache_path

            folder = user_cache_path("emoreason") / "text"
        self.folder = folder

    def prototype(self, encoder: Encoder, texts: list[str]) -> np.ndarray:
        """(D,) unit length: the mean embedding of the texts."""
        key = hashlib.sha256("\n".join([encoder.name, encoder.revision, *texts]).encode()).hexdigest()
        path = self.folder / f"{key}.npy"
        if path.is_file():
            try:
                return np.load(path, allow_pickle=False)
            except (OSError, ValueError):
                pass  # a damaged entry is made again
        mean = encoder.encode_texts(texts).mean(axis=0)
        mean = mean / np.linalg.norm(mean)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(f".{hashlib.sha256(repr(id(mean)).encode()).hexdigest()[:8]}.tmp")
            with fresh.open("wb") as file:
                np.save(file, mean)
            fresh.replace(path)
        except OSError:
            pass  # a read-only home: the cache is a convenience
        return mean


@dataclass(frozen=True)
class Projection:
    """Exp-CLIP's head: one bias-free linear map, applied to the image and to the text before both are normalised."""

    weight: np.ndarray  # (outputs, D)

    def __call__(self, embedding: np.ndarray) -> np.ndarray:
        projected = embedding @ self.weight.T
        return projected / np.linalg.norm(projected, axis=1, keepdims=True)


def load_projection(path: Path, width: int) -> Projection:
    """Read a published `ExpCLIP_*_model.pth` (weights only, no pickled code) or the safetensors made from it."""
    tensors = _read_tensors(Path(path))
    keys = [key for key in tensors if key.removeprefix("module.") == "mlp.weight"]
    if len(keys) != 1:
        raise EmoreasonError(
            f"{path} is no Exp-CLIP head: one tensor 'mlp.weight' was expected, it holds {sorted(tensors)[:4]}"
        )
    weight = tensors[keys[0]].float().numpy()
    if weight.ndim != 2 or weight.shape[1] != width:
        raise EmoreasonError(
            f"{path} maps from {weight.shape[-1]} dimensions and the model gives {width}: use the head of the "
            "same CLIP (B16 for ViT-B-16/openai, L14 for ViT-L-14/openai)"
        )
    return Projection(weight)


def convert_projection(source: Path, target: Path) -> None:
    """Write a published head as safetensors, so that the pickle need never be opened again."""
    from safetensors.torch import save_file

    save_file({k.removeprefix("module."): v.contiguous() for k, v in _read_tensors(Path(source)).items()}, target)


def _read_tensors(path: Path) -> dict[str, "torch.Tensor"]:
    import torch
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # files that are no weights make the readers raise almost anything
        raise EmoreasonError(f"{path} cannot be read as weights: {first_line(error)}") from None


@dataclass(frozen=True)
class ZeroShot:
    """Labels as text against faces."""

    encoder: Encoder
    prompts: LabelPrompts
    cache: TextCache
    projection: Projection | None = None

    def with_projection(self, path: Path) -> "ZeroShot":
        width = self.encoder.encode_texts(["width"]).shape[1]
        return replace(self, projection=load_projection(path, width))

    def prototypes(self, labels: Sequence[str]) -> np.ndarray:
        """(L, D) unit length; with a projection, in its space."""
        found = np.stack([self.cache.prototype(self.encoder, self.prompts.texts(label)) for label in labels])
        return self.projection(found) if self.projection else found

    def logits(self, features: Features, labels: Sequence[str]) -> np.ndarray:
        """(B, L): CLIP's logit scale times cosine."""
        seen = self.projection(features.embedding) if self.projection else features.embedding
        return self.encoder.logit_scale * seen @ self.prototypes(labels).T


def check_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """At least two different, non-empty labels."""
    cleaned = tuple(label.strip() for label in labels)
    if len(cleaned) < 2 or not all(cleaned) or len(set(cleaned)) < len(cleaned):
        raise UsageError(
            f"--labels {','.join(labels)!r}: at least two different words were expected, such as --labels bored,engaged"
        )
    return cleaned


def as_rows(labels: Sequence[str], probabilities: np.ndarray) -> list[dict[str, Any]]:
    """(B, L) -> one name -> probability mapping a face."""
    return [dict(zip(labels, map(float, row), strict=True)) for row in probabilities]
