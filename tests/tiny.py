"""Small random models of real architectures, written to a folder as users have them."""

from pathlib import Path

WORDS = (
    "the a face shows expression is and with of to no not key observations overall emotional interpretation conclusion "
    "movements measured question answer shown none above threshold brows lips raised marked slight strong trace corner "
    "puller happiness sadness anger fear surprise disgust contempt neutral 1% 2% 90%"
)


def save_language(folder: Path, kind: str = "gemma3", width: int = 32) -> Path:
    """A causal language model with its tokenizer: gemma3, qwen2 or llama."""
    import torch
    import transformers as hf

    tokenizer = save_tokenizer(folder)
    common = dict(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    if kind == "gemma3":
        config = hf.Gemma3TextConfig(**common, head_dim=16, sliding_window=512, query_pre_attn_scalar=16)
        model: hf.PreTrainedModel = hf.Gemma3ForCausalLM(config)
    elif kind == "qwen2":
        model = hf.Qwen2ForCausalLM(hf.Qwen2Config(**common))
    else:
        model = hf.LlamaForCausalLM(hf.LlamaConfig(**common))
    model.save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path):
    """Byte pairs over a few words; single bytes spell the rest, so that every text round-trips."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "\n", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False)
    lines = [f" {word}" for word in WORDS.split()] + [f" {word.capitalize()}" for word in WORDS.split()]
    backend.train_from_iterator(lines * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer
