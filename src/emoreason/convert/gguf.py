"""Write the merged language model of an explainer as GGUF, for llama.cpp and programs built on it. Gemma 3 only.

llama.cpp's conventions: norms store the full weight (transformers' plus one), and the tokenizer is a list of pieces
with scores, in which the piece to merge first has the highest score.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from emoreason.convert.merge import merged_language
from emoreason.core.errors import EmoreasonError, UsageError

TYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "q8_0": "Q8_0"}
# llama.cpp assumes that every sixth layer attends to the whole text and that the others use this RoPE base.
FULL_EVERY = 6
LOCAL_BASE = 10000.0


def write_gguf(folder: Path, out: Path, dtype: str = "float16") -> None:
    if dtype not in TYPES:
        raise UsageError(f"--dtype {dtype}: expected one of {', '.join(TYPES)}")
    import gguf
    from gguf.quants import quantize

    model, tokenizer = merged_language(folder)
    config: Any = model.config
    _check(config)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished = out.with_name(f".{out.name}.part")
        writer = gguf.GGUFWriter(unfinished, "gemma3")
        _write_config(writer, config, folder)
        _write_tokenizer(writer, tokenizer, config.vocab_size)
        kind = gguf.GGMLQuantizationType[TYPES[dtype]]
        writer.add_file_type(gguf.LlamaFileType[{"F32": "ALL_F32"}.get(kind.name, f"MOSTLY_{kind.name}")])
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, config.num_hidden_layers)
        tied = config.tie_word_embeddings
        for name, tensor in model.state_dict().items():
            if name == "lm_head.weight" and tied:
                continue
            values = tensor.float().numpy()
            if name.endswith("norm.weight"):
                values = values + 1
            gguf_name = names.get_name(name, try_suffixes=(".weight",))
            if gguf_name is None:
                raise EmoreasonError(f"GGUF has no name for {name}: this is not a plain Gemma 3")
            tensor_type = kind if values.ndim > 1 and kind.name != "F32" else gguf.GGMLQuantizationType.F32
            if values.shape[-1] % gguf.GGML_QUANT_SIZES[tensor_type][0]:
                tensor_type = gguf.GGMLQuantizationType.F16  # the row length is not a multiple of the block size
            writer.add_tensor(gguf_name, quantize(values, tensor_type), raw_dtype=tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        os.replace(unfinished, out)
    except OSError as error:
        raise EmoreasonError(f"-o {out} cannot be written: {error.strerror or error}") from None


def _check(config: Any) -> None:
    """Check that settings without a field in GGUF have the values of every Gemma 3."""
    if config.model_type != "gemma3_text":
        raise UsageError(
            f"--to gguf writes Gemma 3, and this language model is {config.model_type}: export it "
            "with --to transformers and convert that folder with llama.cpp's convert_hf_to_gguf.py"
        )
    local = config.rope_parameters["sliding_attention"]
    kinds = [
        "full_attention" if (i + 1) % FULL_EVERY == 0 else "sliding_attention" for i in range(len(config.layer_types))
    ]
    expected = {
        "layer_types": config.layer_types == kinds,
        "rope_parameters": local["rope_type"] == "default" and local["rope_theta"] == LOCAL_BASE
        and config.rope_parameters["full_attention"]["rope_type"] == "default",
        "query_pre_attn_scalar": config.query_pre_attn_scalar == config.head_dim,
        "softcapping": not config.attn_logit_softcapping and not config.final_logit_softcapping,
    }  # fmt: skip
    if unusual := [name for name, ok in expected.items() if not ok]:
        raise EmoreasonError(f"llama.cpp would compute this Gemma 3 wrongly: it differs in {', '.join(unusual)}")


def _write_config(writer: Any, config: Any, folder: Path) -> None:
    writer.add_name(f"emoreason {folder.resolve().parent.name} {folder.resolve().name}")
    writer.add_license("gemma")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["full_attention"]["rope_theta"])
    writer.add_sliding_window(config.sliding_window)


def _write_tokenizer(writer: Any, tokenizer: Any, rows: int) -> None:
    from gguf import TokenType

    spec = json.loads(tokenizer.backend_tokenizer.to_str())
    if spec["model"]["type"] != "BPE" or "▁" not in json.dumps(spec["normalizer"], ensure_ascii=False):
        raise EmoreasonError("this tokenizer is not like Gemma's: expected byte pair encoding with ▁ for spaces")
    names = {number: piece for piece, number in spec["model"]["vocab"].items()}
    added = {token["id"]: token for token in spec["added_tokens"]}
    rank: dict[str, int] = {}
    for index, pair in enumerate(spec["model"]["merges"]):
        left, right = pair if isinstance(pair, list) else pair.split(" ")
        rank.setdefault(left + right, index)
    pieces, scores, kinds = [], [], []
    for number in range(rows):
        piece = added[number]["content"] if number in added else names.get(number)
        score, kind = -1000.0, TokenType.USER_DEFINED
        if piece is None:
            piece, kind = f"[PAD{number}]", TokenType.UNUSED
        elif number in added:
            kind = TokenType.CONTROL if added[number]["special"] else TokenType.USER_DEFINED
        elif len(piece) == 6 and piece.startswith("<0x"):
            score, kind = 0.0, TokenType.BYTE
        else:  # single characters are never merged, so they rank last
            score, kind = -float(rank.get(piece, len(rank) + number)), TokenType.NORMAL
        pieces.append(piece)
        scores.append(score)
        kinds.append(int(kind))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores(np.array(scores, dtype=np.float32).tolist())
    writer.add_token_types(kinds)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id)
    if tokenizer.unk_token_id is not None:
        writer.add_unk_token_id(tokenizer.unk_token_id)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
