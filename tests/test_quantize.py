"""Packed weights and the slim Gemma against transformers itself, on small random models."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.models import packed_linear
from emoreason.models.cache import cache_argument, cache_of, check_cache, roomy_cache
from emoreason.models.packed_linear import PackedLinear
from emoreason.models.quantize import bitsandbytes_config, int8, pack, step_bytes

VOCABULARY, WINDOW = 97, 12


def gemma(kv_heads=1):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=kv_heads, head_dim=32, query_pre_attn_scalar=24, sliding_window=WINDOW, pad_token_id=0,
        bos_token_id=2, eos_token_id=None, max_position_embeddings=128, initializer_range=0.2,
        layer_types=["sliding_attention", "full_attention"] * 2,
    )  # fmt: skip
    model = Gemma3ForCausalLM(config).eval()
    for name, weight in model.named_parameters():
        if "norm" in name:  # they begin as zeros, which would hide a forgotten one
            nn.init.normal_(weight, std=0.3)
    return model


def llama_like(name):
    import transformers

    torch.manual_seed(0)
    size = {
        "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2, "eos_token_id": None,
        "tie_word_embeddings": name == "Qwen2",
    }  # fmt: skip
    return getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**size)).eval()


@pytest.fixture(scope="module")
def pair():
    """transformers' Gemma, and the slim one with the same weights in float32."""
    model = gemma()
    return model, pack(copy.deepcopy(model), "float32")


def tokens(*shape, seed=0):
    return torch.randint(3, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def close(a, b, most=1e-3):
    assert a.shape == b.shape
    assert float((a - b).abs().max()) < most


def error(a, b):
    return float((a - b).norm() / b.norm())


# ---- the slim forward ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kv_heads", [1, 2])
@torch.inference_mode()
def test_slim_gemma_computes_what_transformers_computes(kv_heads):
    model = gemma(kv_heads)
    slim = pack(copy.deepcopy(model), "float32")
    for length in (1, 7, WINDOW, 3 * WINDOW):  # within and beyond the window
        ids = tokens(3, length)
        close(slim(ids).logits, model(ids).logits)


@torch.inference_mode()
def test_token_by_token_is_the_same_as_at_once(pair):
    model, slim = pair
    ids = tokens(1, 40)
    whole = model(ids).logits
    cache, said = None, []
    for piece in ids.split([9, *[1] * 20, 4, *[1] * 7], dim=1):
        out = slim(piece, **cache_argument(cache), use_cache=True)
        cache = cache_of(out)
        said.append(out.logits)
    close(torch.cat(said, dim=1), whole)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
@torch.inference_mode()
def test_the_cache_is_used_under_its_name_of_today_and_its_older_one(pair, name):
    _, slim = pair
    ids, cache = tokens(1, 8), roomy_cache()
    slim.model(ids[:, :5], **{name: cache})
    close(slim.lm_head(slim.model(ids[:, 5:], **{name: cache}).last_hidden_state), slim(ids).logits[:, 5:])
    assert cache.get_seq_length() == 8
    with pytest.raises(TypeError, match="keys_and_values"):
        slim.model(ids, keys_and_values=cache)


def test_a_model_that_ignores_its_cache_is_refused(pair, monkeypatch):
    model, slim = pair
    check_cache(model)
    check_cache(slim)
    forward = slim.model.forward
    monkeypatch.setattr(
        slim.model, "forward", lambda *given, cache=None, past_key_values=None, **more: forward(*given, **more)
    )
    with pytest.raises(EmoreasonError, match="cache holds 0"):
        check_cache(slim)


def test_a_cache_that_is_filled_and_not_read_is_refused(pair, monkeypatch):
    _, slim = pair
    forward = slim.model.forward

    def forgetful(input_ids=None, cache=None, past_key_values=None, **more):
        given = cache if cache is not None else past_key_values
        if given is not None:
            forward(input_ids, cache=given, **more)
        return forward(input_ids, **more)

    monkeypatch.setattr(slim.model, "forward", forgetful)
    with pytest.raises(EmoreasonError, match="differs by"):
        check_cache(slim)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_batches_with_padding_and_holes_compute_what_each_row_computes_alone(pair, data):
    """Pieces of any length, right-aligned in their columns, as texts of different length are fed side by side."""
    _, slim = pair
    sizes = data.draw(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3).filter(any), min_size=1, max_size=6))
    ids = tokens(3, 30)
    at, last = [0, 0, 0], [None, None, None]
    cache, mask = roomy_cache(), torch.zeros(3, 0, dtype=torch.long)
    with torch.inference_mode():
        for row_sizes in sizes:
            width = max(row_sizes)
            piece, here = torch.zeros(3, width, dtype=torch.long), torch.zeros(3, width, dtype=torch.long)
            positions = torch.zeros(3, width, dtype=torch.long)
            for row, size in enumerate(row_sizes):
                if size:
                    piece[row, -size:], here[row, -size:] = ids[row, at[row] : at[row] + size], 1
                    positions[row, -size:] = torch.arange(at[row], at[row] + size)
                    at[row] += size
            mask = torch.cat([mask, here], dim=1)
            logits = slim(
                piece, attention_mask=mask, position_ids=positions, **cache_argument(cache), use_cache=True
            ).logits
            for row, size in enumerate(row_sizes):
                if size:
                    last[row] = logits[row, -1]
        for row, said in enumerate(last):
            if (
                said is not None and mask.shape[1] <= WINDOW
            ):  # the window counts columns, holes too, as transformers' does
                close(said, slim(ids[row : row + 1, : at[row]]).logits[0, -1])


@pytest.mark.parametrize("length", [6, 2 * WINDOW])
@torch.inference_mode()
def test_left_padding_and_holes_as_transformers(pair, length):
    model, slim = pair
    ids = tokens(3, length + 1)
    mask = torch.ones(3, length + 1, dtype=torch.long)
    mask[0, :3] = 0
    mask[1, 2:4] = 0
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    out = [], []
    for model_, said in zip((model, slim), out, strict=True):
        first = model_(ids[:, :-1], attention_mask=mask[:, :-1], position_ids=positions[:, :-1], use_cache=True)
        rest = {"attention_mask": mask, "position_ids": positions[:, -1:], **cache_argument(cache_of(first))}
        said += [first.logits, model_(ids[:, -1:], **rest).logits]
    close(out[1][1], out[0][1])
    close(out[1][0][mask[:, :-1].bool()], out[0][0][mask[:, :-1].bool()])


@torch.inference_mode()
def test_prepared_masks_embeddings_and_either_cache(pair):
    from transformers import DynamicCache

    model, slim = pair
    ids, more = tokens(2, 5), tokens(2, 3, seed=1)
    own = torch.eye(3, dtype=torch.bool)  # three continuations that do not see each other
    seen = torch.cat([torch.ones(3, 5, dtype=torch.bool), own], dim=1).expand(2, 1, -1, -1)
    added = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)
    places = torch.full((2, 3), 5)
    results = []
    for model_, cache, mask in (
        (model, DynamicCache(), added),
        (slim, DynamicCache(), added),
        (slim, roomy_cache(), seen),
    ):
        embed = model_.get_input_embeddings()
        model_(inputs_embeds=embed(ids), **cache_argument(cache))
        out = model_.get_decoder()(
            inputs_embeds=embed(more), attention_mask=mask, position_ids=places, **cache_argument(cache)
        )
        cache.crop(-3)
        assert cache.get_seq_length() == 5
        again = model_(more, **cache_argument(cache))
        results.append((model_.get_output_embeddings()(out.last_hidden_state), again.logits))
    for logits, again in results[1:]:
        close(logits, results[0][0])
        close(again, results[0][1])


@torch.inference_mode()
def test_generate_of_transformers_goes_through_the_slim_forward(pair):
    model, slim = pair
    ids, mask = tokens(2, 6), torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6])
    said = [m.generate(ids, attention_mask=mask, max_new_tokens=20, do_sample=False) for m in (model, slim)]
    assert said[0].tolist() == said[1].tolist()  # beyond the window, with transformers' own forgetful cache


@torch.inference_mode()
def test_a_roomy_cache_grows_is_cropped_and_reordered(pair):
    model, slim = pair
    for model_ in (model, slim):
        cache = roomy_cache()
        model_(tokens(2, 90), **cache_argument(cache))
        cache.crop(-80)
        cache.reorder_cache(torch.tensor([1, 0]))
        cache.batch_repeat_interleave(2)
        ids = tokens(4, 300, seed=2)  # more than there is room for
        mixed = torch.cat([tokens(2, 90)[[1, 1, 0, 0], :10], ids], dim=1)
        close(model_(ids, **cache_argument(cache)).logits, model(mixed).logits[:, 10:])


def test_other_models_are_not_taken_for_gemma():
    from emoreason.models.fast_decoder import is_gemma

    assert is_gemma(gemma())
    assert not is_gemma(llama_like("Qwen2"))
    both_ways = gemma()
    both_ways.config.use_bidirectional_attention = True
    assert not is_gemma(both_ways)


# ---- packed weights --------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 70) | st.just(128),
    st.integers(1, 70) | st.just(48),
    st.booleans(),
    st.sampled_from(["half", "int8"]),
)
def test_a_packed_layer_is_close_to_the_layer(rows, wide, out, biased, level):
    torch.manual_seed(rows * wide + out)
    layer = nn.Linear(wide, out, bias=biased)
    x = torch.randn(rows, wide)
    packed = PackedLinear(layer.weight, layer.bias, level)
    with torch.inference_mode():
        y, exact = packed(x), layer(x)
        assert y.dtype == torch.float32 and y.shape == exact.shape
        bound = x.abs() @ layer.weight.abs().T + (0 if layer.bias is None else layer.bias.abs())
        assert bool(((y - exact).abs() <= (0.02 if level == "int8" else 0.002) * bound + 1e-4).all())


@pytest.mark.parametrize("packed_half", [True, False])
@pytest.mark.parametrize("name", ["Gemma3", "Qwen2", "Llama"])
@torch.inference_mode()
def test_int8_keeps_the_logits_and_the_greedy_text(name, packed_half, monkeypatch):
    if packed_half and not packed_linear.PACKED_HALF:
        pytest.skip("torch has no float16 kernel for this processor")
    monkeypatch.setattr(packed_linear, "PACKED_HALF", packed_half)
    model = gemma() if name == "Gemma3" else llama_like(name)
    small = int8(copy.deepcopy(model))
    ids = tokens(4, 30)
    exact = model(ids).logits
    assert error(small(ids).logits, exact) < (0.01 if packed_half else 0.1)  # many rows
    cache, said = None, []
    for piece in ids[:1].split(1, dim=1):  # few rows
        out = small(piece, **cache_argument(cache), use_cache=True)
        cache = cache_of(out)
        said.append(out.logits)
    said = torch.cat(said, dim=1)
    assert error(said, exact[:1]) < 0.1
    assert float((said.argmax(-1) == exact[:1].argmax(-1)).float().mean()) > 0.8
    chosen = small.generate(ids, max_new_tokens=8, do_sample=False)
    if packed_half:
        assert float((chosen == model.generate(ids, max_new_tokens=8, do_sample=False)).float().mean()) > 0.9


def test_half_is_nearly_exact(pair):
    model, _ = pair
    with torch.inference_mode():
        assert error(pack(copy.deepcopy(model), "half")(tokens(2, 20)).logits, model(tokens(2, 20)).logits) < 2e-3


def test_int8_takes_less_memory_and_reads_a_quarter():
    small = int8(gemma())
    layers = [m for m in small.model.modules() if isinstance(m, PackedLinear)]
    numbers = sum(m.in_features * m.out_features for m in layers)
    assert numbers < sum(m.nbytes() for m in layers) < 3.2 * numbers  # int8 and float16 beside each other, of 4 bytes
    head = small.lm_head
    assert step_bytes(small) == numbers + head.bytes_read() and head.bytes_read() == 2 * head.weight.numel()
    assert head.weight.data_ptr() == small.model.embed_tokens.weight.data_ptr()  # shared, not copied
    assert not any(isinstance(m, nn.Linear) for m in small.modules())
    assert step_bytes(gemma()) > 3 * step_bytes(small)


def test_models_with_lora_are_merged_first():
    from peft import LoraConfig, get_peft_model

    with pytest.raises(EmoreasonError, match="merge"):
        int8(get_peft_model(gemma(), LoraConfig(r=2, target_modules=["q_proj"])))


def test_int8_is_for_processors():
    with pytest.raises(UsageError, match="4bit or 8bit"):
        int8(gemma().to("meta"))


# ---- bitsandbytes ----------------------------------------------------------------------------------------------------


def test_bitsandbytes_levels(monkeypatch):
    pytest.importorskip("bitsandbytes")
    low = bitsandbytes_config("4bit", torch.bfloat16)
    assert (low.load_in_4bit, low.bnb_4bit_quant_type, low.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert low.bnb_4bit_compute_dtype == torch.bfloat16
    assert bitsandbytes_config("8bit", torch.float16).load_in_8bit
    with pytest.raises(UsageError, match="int8"):
        bitsandbytes_config("int8", torch.float16)


def test_bitsandbytes_that_is_not_there(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmoreasonError, match="pip install bitsandbytes"):
        bitsandbytes_config("4bit", torch.float16)
