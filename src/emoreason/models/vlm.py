"""The explainer model: encoder -> projector -> language model (+ LoRA), saved as one folder.

The folder holds everything except the base models, which it names:
    explainer.json              its parts, and what was measured on held-out faces
    adapter_config.json         LoRA in PEFT's layout, readable by peft, TRL and LLaMA-Factory
    adapter_model.safetensors
    projector.safetensors
    vocabulary.safetensors, tokenizer.json      only if the vocabulary was cut
"""

import dataclasses
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from emoreason.core.device import Compute, choose
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.files import sha256
from emoreason.models.bundle import PACKAGE_PREFIX
from emoreason.models.cache import cache_argument, check_cache
from emoreason.models.encoder import Encoder, load_encoder
from emoreason.models.language import TOKENIZER, VOCABULARY, Language, load_language, package_checksum

if TYPE_CHECKING:
    from peft import LoraConfig

LEVELS = ("float32", "half", "int8", "8bit", "4bit")
SPEC, PROJECTOR = "explainer.json", "projector.safetensors"
ADAPTER = ("adapter_config.json", "adapter_model.safetensors")


@dataclass(frozen=True)
class ExplainerSpec:
    """The parts and settings of an explainer, stored in `explainer.json`."""

    encoder: str  # name, as for load_encoder
    language: str  # name, as for load_language; ./language is inside the folder, with LoRA merged into it
    grid: int = 3  # grid x grid visual tokens
    labels: tuple[str, ...] = ()  # those the verdict was trained and calibrated on
    verdict: dict[str, float] = field(default_factory=dict)  # temperature, prior_strength; weight in `--decide both`
    prior: dict[str, float] = field(default_factory=dict)  # share of votes for each label in the training data
    prompts: str = ""  # hash of prompts/explainer.yaml at training time
    encoder_revision: str = ""
    trained_on: dict[str, Any] = field(default_factory=dict)
    form: str = "sections"  # "sections", or "free": trained on texts of any form, which no check can compare
    question: str = ""  # the question that a free text answers
    sheet: bool = True  # whether its prompt starts with the measured movements
    weighs: bool = True  # whether it writes how well the movements fit; if not, the built-in writer does

    @property
    def merged(self) -> bool:
        return self.language.startswith("./")

    @classmethod
    def read(cls, folder: Path) -> "ExplainerSpec":
        fields = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        return cls(**{**fields, "labels": tuple(fields.get("labels", ()))})


class Projector(nn.Module):
    """Turns a grid of image features into a few tokens in the language model's embedding space."""

    def __init__(self, channels: int, width: int, grid: int, scale: float):
        super().__init__()
        self.grid = grid
        self.adapt: nn.Conv2d | None = None  # maps the features of a newer encoder to those it was trained with
        self.norm = nn.LayerNorm(4 * channels)
        self.inner = nn.Linear(4 * channels, 2 * width)
        self.outer = nn.Linear(2 * width, width)
        self.out = nn.LayerNorm(width)
        nn.init.constant_(self.out.weight, scale)  # outputs match the scale of the text embeddings

    def forward(self, patches: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, grid * grid, width)."""
        if self.adapt is not None:
            patches = self.adapt(patches)
        cells = F.adaptive_avg_pool2d(patches, 2 * self.grid)  # (B, C, 2g, 2g); no change if h = w = 2g
        cells = F.pixel_unshuffle(cells, 2).flatten(2).transpose(1, 2)  # (B, g*g, 4C): each token keeps its 2x2 corners
        return self.out(self.outer(F.gelu(self.inner(self.norm(cells)))))


class VisionLanguageModel(nn.Module):
    """The explainer model. The encoder is not in the module tree: it is frozen and shared with the evidence reader."""

    def __init__(self, spec: ExplainerSpec, encoder: Encoder, language: Language, projector: Projector):
        super().__init__()
        self.spec, self.tokenizer, self.rows = spec, language.tokenizer, language.rows
        self.language = language.model
        self.projector = projector
        self._encoder = [encoder]  # in a list, so that torch does not register it as a submodule

    @classmethod
    def create(cls, spec: ExplainerSpec, encoder: Encoder, language: Language) -> "VisionLanguageModel":
        """A new model with a random projector and no LoRA."""
        patches = encoder.patches(torch.zeros(1, 3, encoder.size, encoder.size))  # (1, C, h, w)
        embedding = language.model.get_input_embeddings()
        sample = embedding(torch.arange(min(2048, embedding.num_embeddings), device=embedding.weight.device))
        projector = Projector(patches.shape[1], sample.shape[1], spec.grid, float(sample.float().std()))
        return cls(spec, encoder, language, projector.to(embedding.weight.device))

    @property
    def encoder(self) -> Encoder:
        return self._encoder[0]

    @property
    def device(self) -> torch.device:
        return self.language.get_input_embeddings().weight.device

    def see(self, crops: Sequence[Image.Image]) -> Tensor:
        """Crops -> visual tokens (B, V, H)."""
        import numpy as np

        pixels = torch.from_numpy(np.stack([self.encoder.pixels(crop) for crop in crops]))  # (B, S, S, 3) uint8
        with torch.inference_mode():
            return self.project(self.encoder.patches(pixels.permute(0, 3, 1, 2).float() / 255))

    def project(self, patches: Tensor) -> Tensor:
        return self.projector(patches.to(self.device).float())

    def embed(self, rows: Sequence[int] | Tensor) -> Tensor:
        """Token ids -> embeddings (n, H)."""
        return self.language.get_input_embeddings()(torch.as_tensor(rows, dtype=torch.long, device=self.device))

    def hidden(self, embeddings: Tensor, mask: Tensor | None, positions: Tensor, cache: Any = None) -> Tensor:
        """(B, n, H) embeddings, (B, past + n) mask, (B, n) positions -> hidden states (B, n, H) before the head.

        Without a mask, a position that restarts at 0 starts a new text."""
        body = self.language.get_decoder() if hasattr(self.language, "get_decoder") else self.language.model
        out = body(inputs_embeds=embeddings, attention_mask=mask, position_ids=positions, use_cache=cache is not None,
                   **cache_argument(cache))  # fmt: skip
        return out.last_hidden_state

    def head(self, hidden: Tensor) -> Tensor:
        """(..., H) -> logits (..., vocabulary) in float32."""
        logits = self.language.get_output_embeddings()(hidden).float()
        cap = getattr(self.language.config, "final_logit_softcapping", None)
        return cap * torch.tanh(logits / cap) if cap else logits

    def add_lora(self, config: "LoraConfig") -> None:
        from peft import get_peft_model

        self.language = get_peft_model(self.language, config)

    def merge(self) -> "VisionLanguageModel":
        """Fold LoRA into the weights: same numbers, fewer operations per token."""
        if hasattr(self.language, "merge_and_unload"):
            self.language = self.language.merge_and_unload()
        return self

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Save the adapter, the projector and `explainer.json`; base models are named, not copied.

        dtype: of the stored weights. float16 halves the size and changes no label and no text."""
        from safetensors.numpy import save_file as save_arrays
        from safetensors.torch import load_file, save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not hasattr(self.language, "peft_config"):
            raise EmoreasonError("there is no LoRA adapter to save: it was merged already, or never added")
        self.language.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # peft's empty template; the model card is written elsewhere
        adapter = {k: v.to(dtype or v.dtype) for k, v in load_file(folder / ADAPTER[1]).items()}
        save_file(adapter, folder / ADAPTER[1], {"format": "pt"})
        projector = {k: v.to(dtype or v.dtype).contiguous().cpu() for k, v in self.projector.state_dict().items()}
        save_file(projector, folder / PROJECTOR)
        if self.rows is not None:
            save_arrays({"rows": self.rows}, folder / VOCABULARY)
            self.tokenizer.save(folder / TOKENIZER)
        (folder / SPEC).write_text(json.dumps(dataclasses.asdict(self.spec), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        compute: Compute | None = None,
        encoder: Encoder | None = None,
        quantize: str | None = None,
        merge: bool = True,
    ) -> "VisionLanguageModel":
        """Load a folder that `save_pretrained` wrote, or a Hub id of one.

        encoder: an encoder that is loaded already, to share it. quantize: float32, half or int8 on a CPU (default
        half), 4bit or 8bit on CUDA. merge=False keeps LoRA separate from the weights, to inspect or train it.
        """
        from emoreason.models.packed_linear import Level
        from emoreason.models.prepared import load_prepared, save_prepared

        if quantize not in (None, *LEVELS):
            raise UsageError(f"--quantize {quantize} is not one of {', '.join(LEVELS)}")
        folder = _local(folder)
        spec = ExplainerSpec.read(folder)
        compute = compute or choose()
        encoder = encoder or load_encoder(spec.encoder, compute)
        packs = merge and compute.device == "cpu" and quantize not in ("4bit", "8bit")
        level = cast(Level, quantize or "half")
        file = _prepared_file(folder, spec, level) if packs else None
        model = load_prepared(file) if file else None
        if model is not None:
            language = load_language(spec.language, folder, model=model)
            vlm = cls.create(spec, encoder, language)
            vlm._load_projector(folder)
        else:
            vlm = cls._assembled(folder, spec, encoder, compute, quantize, merge)
            if packs:
                from emoreason.models.quantize import pack

                vlm.language = pack(vlm.language, level)
            check_cache(vlm.language)
            if file:
                save_prepared(file, vlm.language)
        return vlm.eval().requires_grad_(False)

    @classmethod
    def _assembled(
        cls, folder: Path, spec: ExplainerSpec, encoder: Encoder, compute: Compute, quantize: str | None, merge: bool
    ) -> "VisionLanguageModel":
        """The model from its parts, not packed."""
        on_cuda = compute.device.startswith("cuda")
        low_bit = None
        if quantize in ("4bit", "8bit"):
            from emoreason.models.quantize import bitsandbytes_config

            low_bit = bitsandbytes_config(quantize, compute.torch_dtype)
        dtype = compute.torch_dtype if on_cuda else torch.float32
        language = load_language(str(folder / spec.language) if spec.merged else spec.language, folder, low_bit, dtype)
        vlm = cls.create(spec, encoder, language)
        vlm._load_parts(folder)
        if low_bit is None:
            if merge:
                vlm.merge()
            vlm.to(compute.device)
        if merge and compute.device != "cpu" and quantize in ("float32", "half", "int8"):
            raise UsageError(f"--quantize {quantize} works only on a CPU: on {compute.device} use 4bit or 8bit")
        return vlm

    def _load_parts(self, folder: Path) -> None:
        if not self.spec.merged:
            logging.getLogger("bitsandbytes").setLevel(
                logging.ERROR
            )  # peft imports it, and it warns about missing GPU kernels
            from peft import PeftModel

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # transformers warns about its own names
                self.language = PeftModel.from_pretrained(self.language, str(folder))
        self._load_projector(folder)

    def _load_projector(self, folder: Path) -> None:
        from safetensors.torch import load_file

        state = load_file(folder / PROJECTOR, device=str(self.device))
        if "adapt.weight" in state:
            channels = state["adapt.weight"].shape[0]
            self.projector.adapt = nn.Conv2d(channels, channels, 1).to(self.device)
        self.projector.load_state_dict(state)

    def push_to_hub(self, repo: str, **options: Any) -> str:
        """Upload the model to a Hub repository without asking; returns its URL. Log in first with `hf auth login`."""
        import tempfile

        from emoreason.models.hub import stage, upload

        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as staged:
            self.save_pretrained(folder)
            stage(folder, repo, Path(staged))
            return upload(Path(staged), repo, **options)


def _prepared_file(folder: Path, spec: ExplainerSpec, level: str) -> Path | None:
    """Where the language model is kept merged and packed; None for models that are not read from a package."""
    from emoreason.models.packed_linear import PACKED_HALF
    from emoreason.models.prepared import prepared_file

    if not spec.language.startswith(PACKAGE_PREFIX) or not (folder / VOCABULARY).is_file():
        return None
    files = {name: sha256(folder / name) for name in (*ADAPTER, VOCABULARY)}
    return prepared_file({"language": package_checksum(spec.language), "level": level, "half": PACKED_HALF, **files})


def _local(folder: str | Path) -> Path:
    """Check that the explainer's folder is complete. A Hub id is downloaded first."""
    path = Path(folder)
    if not path.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        try:
            path = Path(snapshot_download(str(folder)))
        except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
            raise EmoreasonError(f"no explainer at {folder}: expected a folder with {SPEC} or a Hub id") from None
    merged = (path / SPEC).is_file() and ExplainerSpec.read(path).merged
    needed = (SPEC, PROJECTOR) if merged else (SPEC, *ADAPTER, PROJECTOR)
    missing = [name for name in needed if not (path / name).is_file()]
    if missing:
        raise EmoreasonError(f"the explainer in {path} is incomplete: {', '.join(missing)} is missing; copy the folder "
                             "again, or train it with `emoreason finetune`")  # fmt: skip
    return path
