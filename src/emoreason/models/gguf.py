"""Read Gemma 3 from a GGUF file, with only the embedding rows that are needed.

transformers can read the same file, but it first builds 776,000 string objects and unpacks the whole table of 262,144
tokens, which takes half a minute and four gigabytes. This takes seconds, and memory only for the rows it keeps.
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from emoreason.core.errors import EmoreasonError

if TYPE_CHECKING:
    from transformers import Gemma3ForCausalLM

_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


# GGUF's value types: number -> struct format; 8 is a string, 9 an array.
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]  # fastest first
    type: int
    start: int  # byte offset in the file


def read_gemma(path: Path, rows: "np.ndarray | None" = None) -> "Gemma3ForCausalLM":
    """Read the model in float32. `rows`: the token ids to keep, all by default."""
    import torch
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        fields, tensors = _header(data)
        state = {}
        for tensor in tensors:
            kind = GGMLQuantizationType(tensor.type)
            block, size = GGML_QUANT_SIZES[kind]
            width = tensor.shape[0] // block * size  # bytes in a row
            height = int(np.prod(tensor.shape[1:], dtype=np.int64))
            packed = np.frombuffer(data, np.uint8, width * height, tensor.start).reshape(height, width)
            if tensor.name == "token_embd.weight" and rows is not None:
                packed = packed[rows]
            if size == 4 * block:
                values = torch.from_numpy(packed.copy().view(np.float32))
            else:
                values = torch.from_numpy(np.ascontiguousarray(dequantize(packed, kind), dtype=np.float32))
            if len(tensor.shape) == 1:
                values = values[0] - 1  # norms: the file stores the weight, transformers the weight minus one
            state[_transformers_name(tensor.name)] = values
            del packed
    field = {key.removeprefix("gemma3."): value for key, value in fields.items()}
    config = Gemma3TextConfig(
        vocab_size=len(state["model.embed_tokens.weight"]),
        hidden_size=field["embedding_length"],
        intermediate_size=field["feed_forward_length"],
        num_hidden_layers=field["block_count"],
        num_attention_heads=field["attention.head_count"],
        num_key_value_heads=field["attention.head_count_kv"],
        head_dim=field["attention.key_length"],
        query_pre_attn_scalar=field["attention.key_length"],
        sliding_window=field["attention.sliding_window"],
        rms_norm_eps=field["attention.layer_norm_rms_epsilon"],
        max_position_embeddings=field["context_length"],
        tie_word_embeddings=True,
        bos_token_id=2,
        eos_token_id=1,
        pad_token_id=0,
    )
    with torch.device("meta"):
        model = Gemma3ForCausalLM(config)
    model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    _make_buffers(model, config)
    return model.eval().requires_grad_(False)


def _header(data: mmap.mmap) -> tuple[dict[str, Any], list[Tensor]]:
    """The metadata fields (arrays are skipped) and the list of tensors."""
    position = 0

    def read(form: str) -> Any:
        nonlocal position
        (value,) = struct.unpack_from("<" + form, data, position)
        position += struct.calcsize("<" + form)
        return value

    def skip_string() -> None:
        nonlocal position
        position += 8 + int.from_bytes(data[position : position + 8], "little")

    def read_string() -> str:
        nonlocal position
        length = read("Q")
        position += length
        return data[position - length : position].decode("utf-8")

    def read_value(kind: int) -> Any:
        nonlocal position
        if kind == _STRING:
            return read_string()
        if kind != _ARRAY:
            return read(_FORMATS[kind])
        inner, n = read("I"), read("Q")
        if inner == _STRING:
            for _ in range(n):
                skip_string()
        else:
            position += n * struct.calcsize("<" + _FORMATS[inner])
        return None

    if data[:4] != b"GGUF":
        raise EmoreasonError("this is not a GGUF file: it does not begin with 'GGUF'")
    position = 4
    version, n_tensors, n_fields = read("I"), read("Q"), read("Q")
    if version not in (2, 3):
        raise EmoreasonError(f"GGUF version {version} is not supported; expected 2 or 3")
    fields = {}
    for _ in range(n_fields):
        key = read_string()
        fields[key] = read_value(read("I"))
    entries = []
    for _ in range(n_tensors):
        name = read_string()
        shape = tuple(read("Q") for _ in range(read("I")))
        entries.append((name, shape, read("I"), read("Q")))
    alignment = fields.get("general.alignment", 32)
    start = -(-position // alignment) * alignment
    return fields, [Tensor(name, shape, kind, start + offset) for name, shape, kind, offset in entries]


def _transformers_name(name: str) -> str:
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{_LAYER[part]}.weight"


def _make_buffers(model: Any, config: Any) -> None:
    """Create the buffers that are computed, not stored; the model was built on the meta device, without memory."""
    import torch
    from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding

    model.model.rotary_emb = Gemma3RotaryEmbedding(config)
    model.model.embed_tokens.embed_scale = torch.tensor(config.hidden_size**0.5)
