"""The mini as a CLIP model: its own image tower, and a sentence encoder that is loaded with the first text.

Most starts need no text: the labels are read off the face, and the lexicon knows what most words mean. The sentence
encoder comes with open_clip, which takes seconds to import.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from emoreason.models.image_tower import FaceTower


class Texts:
    """A text tower with its tokenizer, loaded on first use."""

    def __init__(self, load: Callable[[], tuple[Any, Any]]):
        """load: returns an open_clip model, of which only the text tower is kept, and the tokenizer."""
        self._load, self._lock = load, threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def _get(self) -> tuple[Any, Any]:
        with self._lock:
            if self._loaded is None:
                clip, tokenizer = self._load()
                self._loaded = clip.text, tokenizer
            return self._loaded

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Texts -> token ids."""
        return self._get()[1](texts)

    @property
    def tokenizer(self) -> Any:
        """The transformers tokenizer in it."""
        return self._get()[1].tokenizer

    def encode(self, tokens: Tensor) -> Tensor:
        return self._get()[0].to(tokens.device)(tokens)


class FaceClip(nn.Module):
    """What `Encoder` uses of an open_clip model, with the same names of weights."""

    def __init__(self, config: dict[str, Any], preprocess: dict[str, Any], texts: Texts):
        """config: as in model_configs."""
        super().__init__()
        vision = config["vision_cfg"]
        self.visual = FaceTower(config["embed_dim"], vision["timm_drop"], vision["timm_drop_path"])
        self.visual.preprocess_cfg = {"size": vision["image_size"], **preprocess}
        self.logit_scale = nn.Parameter(torch.zeros([]))
        self.texts = texts

    def encode_image(self, faces: Tensor) -> Tensor:
        return self.visual(faces)

    def encode_text(self, tokens: Tensor) -> Tensor:
        return self.texts.encode(tokens)
