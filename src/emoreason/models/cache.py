"""The key-value cache of a language model: it grows without copying, and works with old and new transformers.

transformers 5.24 renamed the argument `past_key_values` to `cache`, and the field of the outputs too. All code that
passes a cache to a model, or takes one from an output, uses `cache_argument` and `cache_of`.
"""

from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer
from transformers.modeling_outputs import BaseModelOutputWithPast

from emoreason.core.errors import EmoreasonError

NAMES = ("cache", "past_key_values")
NAME = next(name for name in NAMES if name in BaseModelOutputWithPast.__dataclass_fields__)
TOLERANCE = 0.1  # relative; rounded weights give about 0.01, an ignored cache about 1
PROBE = (2, 5, 3)  # any tokens
TESTED = ">=5.23,<5.25"  # as in pyproject.toml


class RoomyLayer(DynamicLayer):
    """Keys and values of one layer with spare room at the end, so that appending a token copies nothing."""

    _room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
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


def roomy_cache() -> Cache:
    """A cache for any transformers model, faster than DynamicCache; `crop(-n)` removes the last n tokens."""
    return Cache(layer_class_to_replicate=RoomyLayer)


def cache_argument(cache: Cache | None) -> dict[str, Any]:
    """The cache as keyword argument of a model, under the name that the installed transformers expects."""
    return {NAME: cache}


def cache_of(output: Any) -> Cache:
    """The cache in a model's output."""
    return getattr(output, NAME)


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
