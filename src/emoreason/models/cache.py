"""The key-value cache of a language model: it grows without copying, and works with old and new transformers.

transformers 5.24 renamed the argument `past_key_values` to `cache`, and the field of the outputs too. All code that
passes a cache to a model, or takes one from an output, uses `cache_argument` and `cache_of`.

Importing transformers takes most of a second, and a packed Gemma does without it. So it is never imported here before
something else has imported it: until then there is no model that needs its kind of cache.
"""

import sys
from functools import cache as cached
from typing import Any, cast

import torch
from torch import Tensor

from emoreason.core.errors import EmoreasonError

NAMES = ("cache", "past_key_values")
TOLERANCE = 0.1  # relative; rounded weights give about 0.01, an ignored cache about 1
PROBE = (2, 5, 3)  # any tokens
TESTED = ">=5.23,<5.25"  # as in pyproject.toml


class Roomy:
    """Keys and values of one layer with spare room at the end, so that appending a token copies nothing."""

    keys: Tensor | None = None  # (B, heads, n, width)
    values: Tensor | None = None
    _room: tuple[Tensor, Tensor] | None = None

    def get_seq_length(self) -> int:
        return 0 if self.keys is None else self.keys.shape[-2]

    def append(self, key_states: Tensor, value_states: Tensor) -> tuple[Tensor, Tensor]:
        past = self.get_seq_length()
        total = past + key_states.shape[-2]
        # cropped keys still start at the room's first byte; selected or repeated keys are new tensors
        in_room = past and self._room is not None and cast(Tensor, self.keys).data_ptr() == self._room[0].data_ptr()
        if not in_room or self._room is None or total > self._room[0].shape[-2]:
            batch, heads, _, width = key_states.shape
            room = [key_states.new_empty(batch, heads, total + 128, width) for _ in range(2)]
            if past:
                room[0][:, :, :past] = cast(Tensor, self.keys)
                room[1][:, :, :past] = cast(Tensor, self.values)
            self._room = (room[0], room[1])
        keys, values = self._room
        keys[:, :, past:total], values[:, :, past:total] = key_states, value_states
        self.keys, self.values = keys[:, :, :total], values[:, :, :total]
        return self.keys, self.values


class RoomyCache:
    """A cache for FastGemma, with the names of transformers' Cache."""

    def __init__(self) -> None:
        self.layers: list[Roomy] = []

    def get_seq_length(self) -> int:
        return self.layers[0].get_seq_length() if self.layers else 0

    def update(self, key_states: Tensor, value_states: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        while len(self.layers) <= layer:
            self.layers.append(Roomy())
        return self.layers[layer].append(key_states, value_states)

    def crop(self, length: int) -> None:
        """Keep the first tokens; a negative length removes the last ones."""
        for layer in self.layers:
            if layer.keys is not None and layer.values is not None:
                layer.keys, layer.values = layer.keys[:, :, :length], layer.values[:, :, :length]


@cached
def _transformers_layer() -> type:
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(Roomy, DynamicLayer):
        def get_seq_length(self) -> int:
            return DynamicLayer.get_seq_length(self)

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
            return self.append(key_states, value_states)

    return RoomyLayer


def roomy_cache() -> Any:
    """A cache for any language model, faster than DynamicCache; `crop(-n)` removes the last n tokens."""
    if "transformers" not in sys.modules:
        return RoomyCache()
    from transformers.cache_utils import Cache

    return Cache(layer_class_to_replicate=_transformers_layer())


@cached
def _name_in_transformers() -> str:
    from transformers.modeling_outputs import BaseModelOutputWithPast

    return next(name for name in NAMES if name in BaseModelOutputWithPast.__dataclass_fields__)


def _name() -> str:
    return _name_in_transformers() if "transformers" in sys.modules else NAMES[0]


def cache_argument(cache: Any) -> dict[str, Any]:
    """The cache as keyword argument of a model, under the name that the installed transformers expects."""
    return {_name(): cache}


def cache_of(output: Any) -> Any:
    """The cache in a model's output."""
    return getattr(output, _name())


@torch.inference_mode()
def check_cache(model: Any) -> None:
    """Raise unless a few tokens give the same result at once and one by one through a cache.

    Takes milliseconds and runs at every load: a model that ignored its cache would still write, but nonsense."""
    tokens = torch.tensor([PROBE], device=model.get_input_embeddings().weight.device)
    expected = model(tokens).logits[:, -1].float()
    cache = roomy_cache()
    for token in tokens.split(1, dim=1):
        stepwise = model(token, use_cache=True, **cache_argument(cache)).logits[:, -1].float()
    error = float((stepwise - expected).norm() / expected.norm().clamp(min=1e-6))
    cached = cache.get_seq_length()
    if cached != len(PROBE) or not error < TOLERANCE:
        import transformers

        raise EmoreasonError(
            f"this language model does not work with transformers {transformers.__version__}: after {len(PROBE)} "
            f"tokens its cache holds {cached}, and the result differs by {error:.0%}. Install a tested version: "
            f"pip install 'transformers{TESTED}'"
        )
