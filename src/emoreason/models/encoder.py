"""CLIP image and text encoders: the mini with its own image tower, every hub model with open_clip.

open_clip takes seconds to import, so only hub models, training, and texts that no cache knows import it."""

import importlib
import importlib.util
import json
import logging
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from emoreason.core import device
from emoreason.core.errors import EmoreasonError, UsageError, first_line
from emoreason.models.bundle import PACKAGE_PREFIX, Bundle, bundles, find_bundle, models_folder

if TYPE_CHECKING:
    import torch

    from emoreason.models.face_readout import FaceFeatures, FaceReadout

MODEL_CONFIGS = Path(__file__).parent / "model_configs"


@cache
def register_models() -> None:
    """Register our image tower with timm and our model configs with open_clip."""
    import open_clip

    from emoreason.models import image_tower

    image_tower.register()
    with tempfile.TemporaryDirectory() as folder:  # open_clip wants config files; it reads them immediately
        for path in MODEL_CONFIGS.glob("*.json"):
            config = json.loads(path.read_text())
            text = config["text_cfg"]
            for key in ("hf_model_name", "hf_tokenizer_name"):
                if text.get(key, "").startswith(PACKAGE_PREFIX):
                    text[key] = str(importlib.import_module(text[key].removeprefix(PACKAGE_PREFIX)).MODEL_DIR)
            (Path(folder) / path.name).write_text(json.dumps(config))
        open_clip.add_model_config(folder)


@contextmanager
def _quiet():
    """Silence transformers, which prints a bar and a table about the pooling layer that a sentence encoder lacks."""
    from transformers.utils import logging as transformers_logging

    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    root = logging.getLogger()
    level = root.level
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    root.setLevel(logging.ERROR)  # open_clip warns that a model without weights has no weights
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        root.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def create_clip(
    name: str, pretrained: str | None = None, preprocess: dict[str, Any] | None = None, quick_gelu: bool = False
):
    """Create (model, tokenizer) by open_clip name, `emoreason-mini` included; `pretrained` names the weights."""
    import open_clip

    register_models()
    with _quiet():
        model = open_clip.create_model(
            name, pretrained=pretrained, force_preprocess_cfg=preprocess, force_quick_gelu=quick_gelu
        )
        return model.eval().requires_grad_(False), open_clip.get_tokenizer(name)


@dataclass(frozen=True)
class Features:
    """What the encoder computes for B crops."""

    embedding: np.ndarray  # (B, D) unit length, in CLIP's joint space
    units: np.ndarray | None = None  # (B, U) action-unit intensities 0..1, if the model reads faces
    face: "FaceFeatures | None" = None  # the other things it reads off a face

    @classmethod
    def concatenate(cls, parts: "Sequence[Features]") -> "Features":
        from emoreason.models.face_readout import FaceFeatures

        units = [part.units for part in parts if part.units is not None]
        faces = [part.face for part in parts if part.face is not None]
        return cls(
            np.concatenate([part.embedding for part in parts]),
            np.concatenate(units) if units else None,
            FaceFeatures.concatenate(faces) if faces else None,
        )


class Encoder:
    """One CLIP model, ready to encode crops and texts in batches."""

    def __init__(
        self,
        clip: Any,
        tokenizer: Any,
        name: str,
        revision: str,
        compute: device.Compute,
        mirror: bool = False,
        readout: "FaceReadout | None" = None,
        unit_codes: tuple[str, ...] = (),
        sided_codes: tuple[str, ...] = (),
    ):
        import torch

        self.name, self.revision, self.compute, self.mirror = name, revision, compute, mirror
        self.tokenizer, self.unit_codes, self.sided_codes = tokenizer, unit_codes, sided_codes
        self.untuned: Encoder | None = None  # for a tuned model: its base, which explainers were trained with
        self.logit_scale = float(clip.logit_scale.exp())
        preprocess = clip.visual.preprocess_cfg
        size = preprocess["size"]
        self.size: int = size if isinstance(size, int) else size[0]
        bilinear = preprocess["interpolation"] == "bilinear"
        self.resample = Image.Resampling.BILINEAR if bilinear else Image.Resampling.BICUBIC
        self.mean = torch.tensor(preprocess["mean"], device=compute.device).view(1, 3, 1, 1)
        self.std = torch.tensor(preprocess["std"], device=compute.device).view(1, 3, 1, 1)
        self._clip = clip.to(compute.device)
        self.readout = readout.to(compute.device).eval() if readout is not None else None
        fold_batch_norm(clip.visual)
        clip.visual.to(memory_format=torch.channels_last)

    @property
    def visual(self) -> Any:
        """open_clip's image tower, with its batch norms folded."""
        return self._clip.visual

    def with_tower(self, visual: Any, revision: str) -> "Encoder":
        """The same model with a tuned image tower. The text tower is shared, and faces are still read off the old
        tower's features, which the read-out was fitted on."""
        import copy

        clip = copy.copy(self._clip)
        clip._modules = dict(self._clip._modules)  # the shallow copy shares this dict; it gets its own tower
        visual.preprocess_cfg = self._clip.visual.preprocess_cfg
        clip.visual = visual
        tuned = Encoder(
            clip,
            self.tokenizer,
            self.name,
            revision,
            self.compute,
            self.mirror,
            None,
            self.unit_codes,
            self.sided_codes,
        )
        tuned.untuned = self
        return tuned

    def normalise(self, faces: "torch.Tensor") -> "torch.Tensor":
        """(B, 3, S, S) floats in 0..1 -> the input of the image tower."""
        return faces.sub(self.mean).div(self.std)

    def pixels(self, crop: Image.Image) -> np.ndarray:
        """A crop -> (size, size, 3) uint8. Crops that are not square are padded with their border, not stretched."""
        if crop.width != crop.height:
            crop = _squared(crop)
        if crop.width != self.size:
            crop = crop.resize((self.size, self.size), self.resample, reducing_gap=2.0)
        return np.asarray(crop.convert("RGB"))

    def encode_pixels(self, pixels: np.ndarray) -> Features:
        """(B, size, size, 3) uint8 -> features, averaged with those of the mirror image if the model uses it."""
        import torch

        with torch.inference_mode():
            faces = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.compute.device)
            faces = self.normalise(faces.permute(0, 3, 1, 2).float().div(255))  # channels_last in memory
            views = [faces, faces.flip(3)] if self.mirror else [faces]
            if self.readout is not None:
                return self._read_off(views)
            with self._autocast():
                outputs = [self._clip.encode_image(view).float() for view in views]
            embedding = _mean_direction(outputs)
            if self.untuned is None or self.untuned.readout is None:
                return Features(embedding)
            return replace(self.untuned._read_off(views), embedding=embedding)

    def _read_off(self, views: "list[torch.Tensor]") -> Features:
        """Features of a model with a read-out, from a batch and perhaps its mirror image."""
        from emoreason.models.face_readout import FaceFeatures

        assert self.readout is not None
        visual = self._clip.visual
        with self._autocast():
            grids = [visual.trunk.forward_features(view) for view in views]
            outputs = [visual.head(grid.mean(dim=(2, 3))).float() for grid in grids]
        units, face = self.readout([grid.float() for grid in grids])
        read = FaceFeatures(**{name: value.float().cpu().numpy() for name, value in face.items()})
        return Features(_mean_direction(outputs), units.cpu().numpy(), read)

    def patches(self, pixels: "torch.Tensor") -> "torch.Tensor":
        """(B, 3, S, S) floats in 0..1 -> the feature grid before pooling (B, C, h, w), the input of a projector."""
        import torch

        with torch.no_grad(), self._autocast():
            faces = self.normalise(pixels.to(self.compute.device))
            visual = self._clip.visual
            if hasattr(visual, "trunk") and hasattr(visual.trunk, "forward_features"):
                grid = visual.trunk.forward_features(faces.to(memory_format=torch.channels_last))
                if grid.ndim == 4:
                    return grid.float()
            outputs = visual.forward_intermediates(faces, indices=1, output_fmt="NCHW", intermediates_only=True)
            return outputs["image_intermediates"][-1].float()

    def encode_faces(self, crops: Sequence[Image.Image], batch_size: int = 128) -> Features:
        """Crops -> features, computed in batches."""
        return Features.concatenate(
            [
                self.encode_pixels(np.stack([self.pixels(crop) for crop in crops[start : start + batch_size]]))
                for start in range(0, len(crops), batch_size)
            ]
        )

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Texts -> (n, D) of unit length. Computed in float32, because prompts decide the result.

        The longest texts go first, which saves padding."""
        import torch

        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        result = np.empty((len(texts), 0), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(texts), batch_size):
                rows = order[start : start + batch_size]
                tokens = self.tokenizer([texts[i] for i in rows]).to(self.compute.device)
                encoded = torch.nn.functional.normalize(self._clip.encode_text(tokens).float(), dim=1).cpu().numpy()
                if not result.shape[1]:
                    result = np.empty((len(texts), encoded.shape[1]), dtype=np.float32)
                result[rows] = encoded
        return result

    def _autocast(self):
        import torch

        device_type = self.compute.device.split(":")[0]
        return torch.autocast(device_type, self.compute.torch_dtype, enabled=self.compute.dtype != "float32")


def _mean_direction(outputs: "list[torch.Tensor]") -> np.ndarray:
    """Embeddings (B, D) of the views -> their mean direction, unit length."""
    import torch
    from torch.nn.functional import normalize

    mean = torch.stack([normalize(output, dim=1) for output in outputs]).mean(dim=0)
    return normalize(mean, dim=1).cpu().numpy()


def _squared(crop: Image.Image) -> Image.Image:
    """Centre the picture in a square and pad it by repeating its border pixels."""
    side, pixels = max(crop.size), np.asarray(crop.convert("RGB"))
    above, left = (side - crop.height) // 2, (side - crop.width) // 2
    padding = ((above, side - crop.height - above), (left, side - crop.width - left), (0, 0))
    return Image.fromarray(np.pad(pixels, padding, mode="edge"))


def fold_batch_norm(module: Any) -> None:
    """Fold each batch norm of our image tower into its convolution: same numbers, fewer passes over memory."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    from emoreason.models.image_tower import Block

    for block in module.modules():
        if isinstance(block, Block) and isinstance(block.bn1, nn.BatchNorm2d):
            block.conv1, block.bn1 = fuse_conv_bn_eval(block.conv1, block.bn1), nn.Identity()  # type: ignore[assignment]
            block.conv2, block.bn2 = fuse_conv_bn_eval(block.conv2, block.bn2), nn.Identity()  # type: ignore[assignment]
            if isinstance(block.shortcut, nn.Sequential):
                block.shortcut = fuse_conv_bn_eval(*block.shortcut)
    stem: Any = getattr(getattr(module, "trunk", None), "stem", None)
    if isinstance(stem, nn.Sequential) and isinstance(stem[1], nn.BatchNorm2d):
        stem[0], stem[1] = fuse_conv_bn_eval(cast(nn.Conv2d, stem[0]), stem[1]), nn.Identity()


def load_encoder(name: str, compute: device.Compute) -> Encoder:
    """Load `mini`, a folder with a bundle, or any open_clip model as `ARCHITECTURE/PRETRAINED` (`ViT-L-14/openai`)."""
    bundle = find_bundle(name)
    if bundle is None:
        return _from_open_clip(name, compute)
    return _from_bundle(bundle, compute) if bundle.base is None else _from_run(bundle, bundle.base, compute)


def _from_run(bundle: Bundle, base: str, compute: device.Compute) -> Encoder:
    """The encoder of a training run: its base model, tuned if the run tuned it.

    The base must be the exact revision that the run was trained on."""
    try:
        encoder = load_encoder(base, compute)
    except EmoreasonError as error:
        raise EmoreasonError(f"{bundle.folder} is a head on top of {base}: {error}") from None
    if encoder.revision != (expected := bundle.spec["base_revision"]):
        raise EmoreasonError(
            f"{bundle.folder} was trained on {base} {expected}, and this {base} is {encoder.revision}: train it again "
            "with emoreason finetune, or use the version of emoreason in its env.txt"
        )
    return encoder if bundle.spec.get("what", "head") in ("head", "none") else _tuned(encoder, bundle)


def _tuned(base: Encoder, bundle: Bundle) -> Encoder:
    """The base model's encoder with the run's LoRA added to its image tower, or with the run's own image tower."""
    import copy

    from safetensors.torch import load_file

    bundle.verify()
    tensors, visual = load_file(bundle.weights), copy.deepcopy(base.visual)
    if bundle.spec["what"] == "lora":
        logging.getLogger("bitsandbytes").setLevel(
            logging.ERROR
        )  # peft imports it, and it warns about missing GPU kernels
        from peft import PeftModel

        visual = PeftModel.from_pretrained(visual, str(bundle.folder / "adapter")).merge_and_unload()
    else:
        visual.load_state_dict({k.removeprefix("visual."): v for k, v in tensors.items() if k.startswith("visual.")})
    return base.with_tower(visual.eval().requires_grad_(False), bundle.spec["sha256"][:12])


def _from_bundle(bundle: Bundle, compute: device.Compute) -> Encoder:
    from safetensors.torch import load_file

    spec = bundle.spec
    bundle.verify()
    tensors = load_file(bundle.weights)
    read = {k.removeprefix("readout."): tensors.pop(k) for k in list(tensors) if k.startswith("readout.")}
    tensors = {k: v for k, v in tensors.items() if not k.startswith("units.")}  # the first training's own unit head
    has_text_tower = any(k.startswith(("text.", "transformer.")) for k in tensors)  # else it comes from a package
    clip, tokenizer = _untrained(spec, with_texts=has_text_tower)
    missing, unexpected = clip.load_state_dict(tensors, strict=False)
    needed = [k for k in missing if has_text_tower or k.startswith("visual.")]
    needed = [k for k in needed if not k.endswith("num_batches_tracked")]
    if needed or unexpected:
        raise EmoreasonError(
            f"{bundle.weights} does not fit {spec['clip']}: missing {needed[:3]}, unexpected {unexpected[:3]}"
        )
    units, sides = tuple(spec.get("units", ())), tuple(spec.get("sided_units", ()))
    readout = None
    if read:
        from emoreason.models.face_readout import FaceReadout

        rank = read["shift_whiten"].shape[1]
        readout = FaceReadout(clip.visual.trunk.num_features, len(units), len(sides), rank).requires_grad_(False)
        readout.load_state_dict(read)
    return Encoder(clip, tokenizer, spec["name"], spec["sha256"][:12], compute, spec["mirror"], readout, units, sides)


def _untrained(spec: dict[str, Any], with_texts: bool) -> tuple[Any, Any]:
    """The model and the tokenizer of a bundle, before its weights are loaded.

    with_texts: whether the bundle has weights for the texts too."""

    def create() -> tuple[Any, Any]:
        return create_clip(spec["clip"], None, spec["preprocess"], spec.get("quick_gelu", False))

    config = MODEL_CONFIGS / f"{spec['clip']}.json"
    if with_texts or not config.is_file():
        return create()
    from emoreason.models.face_clip import FaceClip, Texts

    texts = Texts(create)
    clip = FaceClip(json.loads(config.read_text()), spec["preprocess"], texts)
    return clip.eval().requires_grad_(False), texts


def architectures() -> list[str]:
    """The names that open_clip knows, and ours, without importing open_clip."""
    package = importlib.util.find_spec("open_clip")
    folders = [Path(folder) / "model_configs" for folder in (package and package.submodule_search_locations) or ()]
    return sorted({path.stem for folder in (*folders, MODEL_CONFIGS) for path in folder.glob("*.json")})


def check_name(name: str) -> None:
    """Raise if nothing has this name. Imports nothing heavy, so that a wrong name is answered at once."""
    known, architecture = architectures(), name.partition("/")[0]
    if find_bundle(name) is None and architecture not in known:
        import difflib

        added = [path.parent.name for path in models_folder().glob("[!.]*/model.json")]
        near = difflib.get_close_matches(name, [*added, *bundles(), *known], n=3) or [*bundles(), "ViT-L-14/openai"]
        raise UsageError(f"no model {name!r}: expected a name such as 'mini' or 'ViT-L-14/openai', or a folder with "
                         f"model.json; nearest: {', '.join(near)}")  # fmt: skip


def _from_open_clip(name: str, compute: device.Compute) -> Encoder:
    check_name(name)
    import open_clip

    register_models()
    architecture, _, pretrained = name.partition("/")
    if not pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)[:6]) or "a weights file"
        raise UsageError(f"{architecture} has several sets of weights: type {architecture}/TAG with one of {tags}")
    try:
        clip, tokenizer = create_clip(architecture, pretrained)
    except (RuntimeError, OSError) as error:
        raise EmoreasonError(
            f"the weights of {name} could not be loaded: {first_line(error)}. They come from a hub: go online once, "
            f"or give a file as {architecture}/PATH.safetensors; --model mini needs no hub"
        ) from None
    return Encoder(clip, tokenizer, name, pretrained, compute)
