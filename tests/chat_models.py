"""Small random models of transformers with a chat template, written to a folder as a hub would hold them."""

from pathlib import Path

import torch

from emoreason.knowledge.facs import ACTION_UNITS

CHATML = (
    "{% for m in messages %}{% if m.content is string %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' }}{% for part in m.content %}{% if part.type == 'image' %}"
    "{{ IMAGE }}{% else %}{{ part.text }}{% endif %}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
EYES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 56,
        "patch_size": 14}  # fmt: skip


def tokenizer(template: str | None = CHATML, marks: tuple[str, ...] = (), **named: str):
    """A byte-level tokenizer that knows some words. marks: special tokens; named: those of them that have a role."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    words = [phrase for unit in ACTION_UNITS.values() for phrase in unit.phrases["marked"]] + ["happiness", "neutral"]
    special = ["<|im_start|>", "<|im_end|>", "<pad>", *marks]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    inner.train_from_iterator(
        words, trainers.BpeTrainer(vocab_size=600, special_tokens=special, initial_alphabet=alphabet)
    )
    extra = {"extra_special_tokens": named} if named else {}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<pad>", chat_template=template, **extra
    )


def text_model(folder: Path, kind: str = "Qwen2", template: str | None = CHATML) -> str:
    import transformers

    torch.manual_seed(1)
    words = tokenizer(template)
    more = {"head_dim": 8, "sliding_window": 16} if kind == "Gemma3Text" else {}
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(words), eos_token_id=words.eos_token_id, pad_token_id=words.pad_token_id, **SIZES, **more
    )
    model = getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")(config)
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.5)  # sure of itself, as trained models are
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return f"text:{folder}"


def qwen2_vl(folder: Path) -> str:
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    marks = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>")
    template = CHATML.replace("IMAGE", "'<|vision_start|><|image_pad|><|vision_end|>'")
    words = tokenizer(template, marks)
    start, image, end, video = words.convert_tokens_to_ids(list(marks))
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    config = Qwen2VLConfig(
        text_config={**SIZES, "vocab_size": len(words), "eos_token_id": words.eos_token_id, "rope_parameters": rope},
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 14},
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    size = {"shortest_edge": 56 * 56, "longest_edge": 112 * 112}
    images, videos = Qwen2VLImageProcessor(size=size), Qwen2VLVideoProcessor(size=size)
    Qwen2VLProcessor(images, words, videos, chat_template=template).save_pretrained(folder)
    return f"vision:{folder}"


def gemma3(folder: Path) -> str:
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

    marks = ("<start_of_image>", "<end_of_image>", "<image_soft_token>")
    template = CHATML.replace("IMAGE", "'<start_of_image>'")
    words = tokenizer(template, marks, boi_token=marks[0], eoi_token=marks[1], image_token=marks[2])
    begin, end, image = words.convert_tokens_to_ids(list(marks))
    config = Gemma3Config(
        text_config={**SIZES, "vocab_size": len(words), "head_dim": 8, "sliding_window": 1024},
        vision_config=EYES,
        mm_tokens_per_image=4,
        boi_token_index=begin,
        eoi_token_index=end,
        image_token_index=image,
    )
    model = Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight)  # it begins as zeros
    model.save_pretrained(folder)
    images = Gemma3ImageProcessor(size={"height": 56, "width": 56})
    Gemma3Processor(images, words, chat_template=template, image_seq_length=4).save_pretrained(folder)
    return f"vision:{folder}"


def idefics3(folder: Path) -> str:
    """The architecture of SmolVLM."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessor, Idefics3Processor

    template = CHATML.replace("IMAGE", "'<image>'")
    words = tokenizer(template, ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"))
    config = Idefics3Config(
        text_config={**SIZES, "vocab_size": len(words), "model_type": "llama"},
        vision_config=EYES,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=words.pad_token_id,
    )
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    images = Idefics3ImageProcessor(
        size={"longest_edge": 112}, max_image_size={"longest_edge": 56}, do_image_splitting=False
    )
    Idefics3Processor(images, words, image_seq_len=4, chat_template=template).save_pretrained(folder)
    return f"vision:{folder}"
