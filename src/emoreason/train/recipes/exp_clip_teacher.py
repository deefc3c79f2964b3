"""Loads the teacher of Exp-CLIP: a language model whose mean hidden state for a face and an instruction is the target.

The paper uses BLIP-2 with Flan-T5-XXL; `own` is the mini's explainer, which needs no download.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from emoreason.core.device import Compute
from emoreason.core.errors import EmoreasonError, UsageError, first_line
from emoreason.models.bundle import find_bundle
from emoreason.models.vlm import ADAPTER, PROJECTOR, SPEC, ExplainerSpec, VisionLanguageModel
from emoreason.train.recipes.exp_clip_config import TeacherConfig

OWN = "own"
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, as BLIP-2's


@dataclass(frozen=True)
class LoadedTeacher:
    """A teacher with its identity for the cache."""

    id: str  # depends on the model and the instruction
    embed: Callable[[Sequence[Image.Image]], np.ndarray]  # B crops -> (B, H)


def load_teacher(config: TeacherConfig, compute: Compute) -> LoadedTeacher:
    if config.model == OWN or (Path(config.model) / SPEC).is_file():
        return _own(config, compute)
    return _blip2(config, compute)


def _own(config: TeacherConfig, compute: Compute) -> LoadedTeacher:
    """An explainer as teacher: the states of the visual tokens and of the instruction, in its question format."""
    from emoreason.explain.backends.factory import OWN_FOLDER
    from emoreason.explain.prompts import load_prompts

    if config.model == OWN:
        bundle = find_bundle("mini")
        assert bundle is not None
        folder = bundle.folder / OWN_FOLDER
    else:
        folder = Path(config.model)
    files = [SPEC, PROJECTOR] + ([] if ExplainerSpec.read(folder).merged else [ADAPTER[1]])
    id = hashlib.sha256(b"".join((folder / name).read_bytes() for name in files) + config.instruction.encode())
    vlm = VisionLanguageModel.from_pretrained(folder, compute)
    words = vlm.tokenizer.encode(load_prompts().turn(config.instruction))

    @torch.inference_mode()
    def embed(crops: Sequence[Image.Image]) -> np.ndarray:
        visual = vlm.see(crops)  # (B, V, H)
        bos, instruction = (vlm.embed(tokens).expand(len(crops), -1, -1) for tokens in ([vlm.tokenizer.bos], words))
        inputs = torch.cat([bos, visual.to(bos.dtype), instruction], dim=1)
        positions = torch.arange(inputs.shape[1], device=inputs.device).expand(len(crops), -1)
        states = vlm.hidden(inputs, torch.ones_like(positions), positions)
        return _mean(states[:, 1:])  # without the first token, whose state is large and equal for all faces

    return LoadedTeacher(f"own {id.hexdigest()[:16]}", embed)


def _blip2(config: TeacherConfig, compute: Compute) -> LoadedTeacher:
    """BLIP-2 as teacher: picture -> Q-Former -> projection -> T5's encoder with the instruction; no decoder."""
    import transformers as hf

    try:
        blip = hf.AutoConfig.from_pretrained(config.model)
        if blip.model_type != "blip-2" or not blip.text_config.is_encoder_decoder:
            raise UsageError(
                f"teacher.model {config.model} is a {blip.model_type} model: a BLIP-2 with a Flan-T5 was expected, "
                "such as Salesforce/blip2-flan-t5-xl, or own"
            )
        tokenizer = hf.AutoTokenizer.from_pretrained(config.model)
        model: Any = hf.Blip2ForConditionalGeneration.from_pretrained(config.model, dtype=compute.torch_dtype)
    except (OSError, ValueError) as error:
        raise EmoreasonError(
            f"teacher.model {config.model} cannot be loaded: {first_line(error)}. --teacher.model own needs no download"
        ) from None
    model.language_model.decoder = model.language_model.lm_head = None
    model = model.eval().requires_grad_(False).to(compute.device)
    encoder, size = model.language_model.get_encoder(), model.config.vision_config.image_size
    words = tokenizer(config.instruction, return_tensors="pt").input_ids.to(compute.device)
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, DEVIATION))

    @torch.inference_mode()
    def embed(crops: Sequence[Image.Image]) -> np.ndarray:
        pixels = np.stack([np.asarray(c.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)) for c in crops])
        faces = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - mean) / deviation
        patches = model.vision_model(pixel_values=faces.to(compute.device, compute.torch_dtype)).last_hidden_state
        queries = model.query_tokens.expand(len(crops), -1, -1)
        visual = model.qformer(query_embeds=queries, encoder_hidden_states=patches).last_hidden_state
        visual = model.language_projection(visual.to(patches.dtype))  # (B, Q, H)
        instruction = encoder.get_input_embeddings()(words).expand(len(crops), -1, -1)
        inputs = torch.cat([visual, instruction.to(visual.dtype)], dim=1)
        mask = torch.ones(inputs.shape[:2], dtype=torch.long, device=inputs.device)
        return _mean(encoder(inputs_embeds=inputs, attention_mask=mask).last_hidden_state)

    return LoadedTeacher(f"{_blip2_id(config.model, blip)} {config.instruction}", embed)


def _blip2_id(name: str, blip: Any) -> str:
    """The identity of a model: its commit on the hub, or the sizes and times of the files in a folder."""
    if not Path(name).is_dir():
        return f"{name} {getattr(blip, '_commit_hash', None)}"
    files = [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(Path(name).glob("*.safetensors"))]
    return f"{Path(name).resolve()} {files}"


def _mean(states: Tensor) -> np.ndarray:
    """(B, n, H) -> (B, H)"""
    return states.float().mean(dim=1).cpu().numpy()
