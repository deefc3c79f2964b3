"""Computes how much memory the weights of well-known open models take at each level, for the table in docs/models.md.

    python eval/model_memory.py

The shapes are those of the models' published configs. A model of each shape is made without weights (torch's meta
device) and its parameters are counted, so nothing is downloaded. What is computed: bfloat16 takes 2 bytes for each
parameter. bitsandbytes rounds the linear layers except the head: 8 bits take a byte for each weight and 4 for each row,
4 bits (nf4 with double quantization) take 4.127 bits for each weight; the rest stays in bfloat16. Not included: the
cache, activations, and CUDA itself, together 1 to 2 GB for one face.
"""

from dataclasses import dataclass
from typing import Any

GB = 1e9
NF4 = (4 + 8 / 64 + 32 / (64 * 256)) / 8  # bytes a weight: 4 bits, a scale for 64, and a scale for 256 of those scales


@dataclass(frozen=True)
class Shape:
    """A model by name, with its config in transformers' terms."""

    name: str
    line: str  # for --explainer
    config: str  # the class of the config
    text: dict[str, Any]
    vision: dict[str, Any] | None = None
    tied: bool = False
    more: dict[str, Any] | None = None  # further fields of the whole config


@dataclass(frozen=True)
class Weights:
    parameters: int
    linear: int  # weights in linear layers except the head
    rows: int  # outputs of these layers

    def gigabytes(self, level: str) -> float:
        rest = 2 * (self.parameters - self.linear)
        each = {"bf16": 2 * self.linear, "8bit": self.linear + 4 * self.rows, "4bit": NF4 * self.linear}
        return (rest + each[level]) / GB


def sizes(width: int, inner: int, layers: int, heads: int, kv: int, vocabulary: int, **more: Any) -> dict[str, Any]:
    return {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": vocabulary} | more  # fmt: skip


SIGLIP = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
          "patch_size": 14}  # fmt: skip
CLIP_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
          "image_size": 336, "patch_size": 14, "projection_dim": 768}  # fmt: skip
QWEN25_EYES = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14}
QWEN25_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}}
QWEN3_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [24, 20, 20]}}

SHAPES = (
    Shape("SmolLM2 135M", "text:HuggingFaceTB/SmolLM2-135M-Instruct", "LlamaConfig",
          sizes(576, 1536, 30, 9, 3, 49152), tied=True),
    Shape("Qwen2.5 0.5B", "text:Qwen/Qwen2.5-0.5B-Instruct", "Qwen2Config",
          sizes(896, 4864, 24, 14, 2, 151936), tied=True),
    Shape("Llama 3.2 1B", "text:meta-llama/Llama-3.2-1B-Instruct", "LlamaConfig",
          sizes(2048, 8192, 16, 32, 8, 128256, head_dim=64), tied=True),
    Shape("Llama 3.1 8B", "text:meta-llama/Llama-3.1-8B-Instruct", "LlamaConfig",
          sizes(4096, 14336, 32, 32, 8, 128256)),
    Shape("Vicuna 7B v1.5", "text:lmsys/vicuna-7b-v1.5", "LlamaConfig", sizes(4096, 11008, 32, 32, 32, 32000)),
    Shape("Qwen2.5 7B", "text:Qwen/Qwen2.5-7B-Instruct", "Qwen2Config", sizes(3584, 18944, 28, 28, 4, 152064)),
    Shape("SmolVLM2 2.2B", "vision:HuggingFaceTB/SmolVLM2-2.2B-Instruct", "SmolVLMConfig",
          sizes(2048, 8192, 24, 32, 32, 49280, model_type="llama"), SIGLIP | {"image_size": 384},
          more={"scale_factor": 3}),
    Shape("InternVL3 2B", "vision:OpenGVLab/InternVL3-2B-hf", "InternVLConfig",
          sizes(1536, 8960, 28, 12, 2, 151674, model_type="qwen2"),
          {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
           "image_size": [448, 448], "patch_size": [14, 14], "attention_bias": True}),
    Shape("Qwen2.5-VL 3B", "vision:Qwen/Qwen2.5-VL-3B-Instruct", "Qwen2_5_VLConfig",
          sizes(2048, 11008, 36, 16, 2, 151936, **QWEN25_ROPE), QWEN25_EYES | {"out_hidden_size": 2048}, tied=True),
    Shape("Qwen2.5-VL 7B", "vision:Qwen/Qwen2.5-VL-7B-Instruct", "Qwen2_5_VLConfig",
          sizes(3584, 18944, 28, 28, 4, 152064, **QWEN25_ROPE), QWEN25_EYES | {"out_hidden_size": 3584}),
    Shape("Qwen3-VL 4B", "vision:Qwen/Qwen3-VL-4B-Instruct", "Qwen3VLConfig",
          sizes(2560, 9728, 36, 32, 8, 151936, head_dim=128, **QWEN3_ROPE),
          {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "patch_size": 16,
           "out_hidden_size": 2560, "deepstack_visual_indexes": [5, 11, 17]}, tied=True),
    Shape("Gemma 3 4B", "vision:google/gemma-3-4b-it", "Gemma3Config",
          sizes(2560, 10240, 34, 8, 4, 262208, head_dim=256), SIGLIP | {"image_size": 896, "vision_use_head": False},
          tied=True),
    Shape("LLaVA-1.5 7B", "vision:llava-hf/llava-1.5-7b-hf", "LlavaConfig",
          sizes(4096, 11008, 32, 32, 32, 32064, model_type="llama"), CLIP_L | {"model_type": "clip_vision_model"}),
)  # fmt: skip


def weights(shape: Shape) -> Weights:
    """Counts the parameters of a model of this shape, without making them."""
    import torch
    import transformers as hf

    kind = getattr(hf, shape.config)
    if shape.vision is None:
        config, auto = kind(**shape.text, tie_word_embeddings=shape.tied), hf.AutoModelForCausalLM
    else:
        text = shape.text | {"tie_word_embeddings": shape.tied}
        config = kind(text_config=text, vision_config=shape.vision, tie_word_embeddings=shape.tied,
                      **(shape.more or {}))  # fmt: skip
        auto = hf.AutoModelForImageTextToText
    with torch.device("meta"):
        model = auto.from_config(config)
    model.tie_weights()
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    return Weights(
        sum(parameter.numel() for parameter in model.parameters()),
        sum(layer.weight.numel() for layer in linear),
        sum(layer.out_features for layer in linear),
    )


def table(shapes: tuple[Shape, ...] = SHAPES) -> str:
    lines = ["| `--explainer` | parameters | bf16 | 8bit | 4bit |", "| --- | ---: | ---: | ---: | ---: |"]
    for shape in shapes:
        found = weights(shape)
        levels = " | ".join(f"{found.gigabytes(level):.1f}" for level in ("bf16", "8bit", "4bit"))
        lines.append(f"| `{shape.line}` | {found.parameters / 1e9:.2f} B | {levels} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
