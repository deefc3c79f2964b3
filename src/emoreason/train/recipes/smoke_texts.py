"""`--smoke` for explainer recipes: runs them in a minute, with a tiny random language model and made-up faces."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emoreason.core.messages import Conversation
from emoreason.data.messages import write
from emoreason.explain.sheet import Sheet
from emoreason.train.text.config import ExplainerConfig

FACES = 24
# Enough for every label and heading to take few tokens; single characters spell the rest.
WORDS = (
    "the a face shows expression is and with of to no not key observations overall emotional interpretation conclusion "
    "movements measured question answer shown none above threshold brows lips raised marked slight strong trace corner "
    "puller happiness sadness anger fear surprise disgust contempt neutral 1% 2% 90%"
)


def smoke_config(config: ExplainerConfig, folder: Path) -> ExplainerConfig:
    """The recipe with small replacements for everything large; the code that runs is the same."""
    kind = next((name for name in ("qwen2", "llama") if name[:5] in config.language.lower()), "gemma3")
    kind = "llama" if "vicuna" in config.language.lower() else kind
    language = save_language(folder / "language", kind)
    other_layout = "described" not in config.data.train
    for name in ("train", "holdout", "validation"):
        if other_layout:
            _write_expllm(folder, name)
        else:
            write(_conversations(folder, name), folder / f"{name}.jsonl")
    few = {"steps": 4, "batch_size": 4, "verdict_batch": 4}
    align, tune = (dataclasses.replace(stage, **few if stage.steps else {}) for stage in (config.align, config.tune))
    return dataclasses.replace(
        config, encoder="mini", language=str(language), vocabulary="", start="", quantize="", out=str(folder / "run"),
        device="cpu",
        data=dataclasses.replace(config.data, train=str(folder / "train.jsonl"), holdout=str(folder / "holdout.jsonl"),
                                 validation="" if other_layout else str(folder / "validation.jsonl")),
        align=align, tune=tune,
        run=dataclasses.replace(config.run, look_faces=8, look_texts=4),
        loop=dataclasses.replace(config.loop, micro_batch=0, log_every=2, checkpoint_every=2),
    )  # fmt: skip


def _write_expllm(folder: Path, name: str) -> None:
    """Write a file in ExpLLM's layout: a label and a description of each face."""
    rows = []
    for talk in _conversations(folder, name):
        label = max(talk.evidence["votes"], key=talk.evidence["votes"].__getitem__)  # type: ignore[index]
        text = f"**Key Observations:** {talk.messages[1].content}\n\n**Conclusion:** {label}."
        rows.append({"file_name": talk.images[0], "emo": label, "au": [0.0] * 24, "description": text})
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _conversations(folder: Path, name: str) -> list[Conversation]:
    from emoreason.knowledge.emotions import label_set
    from emoreason.train.recipes.mini_geometry import UNITS
    from emoreason.train.text.describe import Plan, write_conversation

    rng, labels = random.Random(name), label_set("ferplus8").labels
    (folder / "images").mkdir(parents=True, exist_ok=True)
    conversations = []
    for number in range(FACES):
        image = f"images/{name}-{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / image)
        weights = [rng.random() ** 4 for _ in labels]
        sheet = Sheet({unit.code: rng.random() for unit in UNITS},
                      {label: w / sum(weights) for label, w in zip(labels, weights, strict=True)})  # fmt: skip
        conversations.append(write_conversation(f"{name}-{number}", sheet, dict(sheet.probabilities), image, Plan()))
    return conversations


def save_language(folder: Path, kind: str = "gemma3", width: int = 32, window: int = 512) -> Path:
    """Save a random causal language model (gemma3, qwen2 or llama) with its tokenizer, in transformers' layout."""
    import torch
    import transformers as hf

    tokenizer = save_tokenizer(folder, kind)
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    torch.manual_seed(0)
    model: Any
    if kind == "gemma3":
        model = hf.Gemma3ForCausalLM(
            hf.Gemma3TextConfig(**common, head_dim=16, sliding_window=window, query_pre_attn_scalar=16)
        )
    elif kind == "qwen2":
        model = hf.Qwen2ForCausalLM(hf.Qwen2Config(**common))
    elif kind == "llama":
        model = hf.LlamaForCausalLM(hf.LlamaConfig(**common))
    else:
        raise ValueError(f"unknown kind {kind!r}: expected gemma3, qwen2 or llama")
    model.save_pretrained(folder)
    return folder


def save_blip2(folder: Path) -> Path:
    """Save a random BLIP-2 with a T5, in transformers' layout."""
    import torch
    import transformers as hf

    tokenizer = save_tokenizer(folder)
    small: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    vision = hf.Blip2VisionConfig(**small, image_size=32, patch_size=16)
    qformer = hf.Blip2QFormerConfig(**small, vocab_size=32, encoder_hidden_size=16, cross_attention_frequency=1)
    text = hf.T5Config(vocab_size=len(tokenizer), d_model=24, d_kv=8, d_ff=32, num_layers=2, num_heads=2,
                       is_encoder_decoder=True, pad_token_id=0, eos_token_id=1)  # fmt: skip
    torch.manual_seed(0)
    config = hf.Blip2Config(vision_config=vision, qformer_config=qformer, text_config=text, num_query_tokens=4)
    hf.Blip2ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def save_tokenizer(folder: Path, kind: str = "gemma3") -> Any:
    """Save a byte-pair tokenizer trained on a few words, with spaces encoded as in Gemma and Llama, or as in Qwen."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    if kind == "qwen2":
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
        backend.normalizer = normalizers.Replace(" ", "▁")
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse()])
        alphabet = ["\n", "▁", *map(chr, range(33, 127))]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    lines = [f" {form}" for word in WORDS.split() for form in (word, word.capitalize())]
    backend.train_from_iterator(lines * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer
