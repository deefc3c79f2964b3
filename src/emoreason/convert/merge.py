"""Merge a run into one self-contained folder, with LoRA merged into the weights and the base model included.

model.json, weights.safetensors   those of the run; the weights include the merged image tower
base/                             the base model: its text tower is used for all other labels
explainer/language/               the language model with its LoRA merged, a plain transformers folder
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emoreason.core.device import Compute
from emoreason.core.errors import EmoreasonError, UsageError
from emoreason.core.files import sha256
from emoreason.models.bundle import Bundle, find_bundle
from emoreason.models.encoder import create_clip, load_encoder
from emoreason.models.files import copy, model_files, replace_folder
from emoreason.models.registry import check

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from emoreason.models.vlm import ExplainerSpec

DTYPES = ("float32", "bfloat16", "float16")
EXPLAINER, LANGUAGE, BASE = "explainer", "language", "base"
Notify = Callable[[str], None]


def merge(
    name: str, out: Path, dtype: str = "float32", overwrite: bool = False, notify: Notify = lambda text: None
) -> Path:
    """Merge a run, an added model or the folder of an explainer into one self-contained folder."""
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: expected one of {', '.join(DTYPES)}")
    bundle = find_bundle(name)
    if bundle is None:
        explainer = explainer_of(name)
        return replace_output(out, lambda target: merge_explainer(explainer, target, dtype), overwrite)
    if bundle.base is None:
        raise UsageError(f"{name} has no base model: there is nothing to merge")
    run = bundle
    check(run)

    def write(target: Path) -> None:
        notify(f"copying {run.base} into the folder")
        merge_run(run, target)
        if (run.folder / EXPLAINER / "explainer.json").is_file():
            notify("merging the language model")
            merge_explainer(run.folder / EXPLAINER, target / EXPLAINER, dtype)

    return replace_output(out, write, overwrite)


def explainer_of(name: str) -> Path:
    """The folder of an explainer, given that folder, or a run or model that contains it."""
    bundle = find_bundle(name)
    for folder in [Path(name)] + ([bundle.folder / EXPLAINER] if bundle else []):
        if (folder / "explainer.json").is_file():
            return folder
    reason = ": only its labels were trained, and it uses the explainer of its base model" if bundle else ""
    raise UsageError(f"{name} has no explainer of its own{reason}; expected a folder with explainer.json")


def replace_output(out: Path, write: Callable[[Path], None], overwrite: bool = False) -> Path:
    """Let `write` fill a folder that appears as `out` only when it is complete."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        is_model = any((out / name).is_file() for name in ("SHA256SUMS", "adapter_config.json", "config.json"))
        if not overwrite:
            raise UsageError(f"{out} exists already: replace it with --overwrite, or choose another -o")
        if not is_model:
            raise UsageError(f"{out} does not contain a model, so it is not replaced; choose another -o")
    try:
        replace_folder(out, write)
    except OSError as error:
        raise EmoreasonError(f"-o {out} cannot be written: {error.strerror or error}") from None
    return out


def merge_run(run: Bundle, target: Path) -> None:
    """Merge the part that predicts labels: head, image tower and base model."""
    from safetensors.numpy import load_file, save_file

    assert run.base is not None
    copy(run.folder, target)
    for file in model_files(target):  # these are replaced by merged weights
        if file.parts[0] in (EXPLAINER, "adapter"):
            (target / file).unlink()
    _drop_empty(target)
    spec = {key: value for key, value in run.spec.items() if key != "files"} | {"base": f"./{BASE}"}
    spec["merged_from"] = {"base": run.spec["base"], "base_revision": run.spec["base_revision"]}
    base = find_bundle(run.base)
    if base is not None:
        copy(base.folder, target / BASE)
    else:
        spec["base_revision"] = _save_open_clip(run.base, target / BASE)["sha256"][:12]
    if spec.get("what") == "lora":
        spec["what"] = "full"
        tensors = load_file(run.weights) | _merged_tower(run)
        save_file(tensors, target / "weights.safetensors")
        spec["sha256"] = sha256(target / "weights.safetensors")
    optional = ("measures.safetensors", "measures.json", "projection.safetensors")
    if files := {name: sha256(target / name) for name in optional if (target / name).is_file()}:
        spec["files"] = files
    _write_json(target / "model.json", spec)
    _update_card(target)


def _merged_tower(run: Bundle) -> dict[str, Any]:
    """The weights of the image tower with LoRA merged."""
    encoder = load_encoder(str(run.folder), Compute("cpu", "float32", "as it was stored"))
    return {f"visual.{k}": v.float().contiguous().numpy() for k, v in encoder.visual.state_dict().items()}


def _save_open_clip(name: str, folder: Path) -> dict[str, Any]:
    """Save both towers of an open_clip model as a bundle. Returns its model.json."""
    from safetensors.torch import save_file

    architecture, _, pretrained = name.partition("/")
    clip, _ = create_clip(architecture, pretrained)
    folder.mkdir(parents=True)
    save_file({k: v.float().contiguous().clone() for k, v in clip.state_dict().items()}, folder / "weights.safetensors")
    preprocess = clip.visual.preprocess_cfg
    size = preprocess["size"]
    spec = {
        "name": name, "clip": architecture, "mirror": False, "units": [],
        "image_size": size if isinstance(size, int) else size[0],
        "preprocess": {key: preprocess[key] for key in ("mean", "std", "interpolation", "resize_mode")},
        "quick_gelu": any(type(module).__name__ == "QuickGELU" for module in clip.modules()),
        "parameters": sum(p.numel() for p in clip.visual.parameters()),
        "sha256": sha256(folder / "weights.safetensors"),
        "calibration": {"labels": [], "prior": {}, "points": {}, "abstain_below": 0.0},
    }  # fmt: skip
    _write_json(folder / "model.json", spec)
    return spec


def merge_explainer(folder: Path, target: Path, dtype: str = "float32") -> None:
    """Merge the part that writes explanations: the projector, and the language model with its LoRA in language/."""
    from emoreason.models.vlm import PROJECTOR, SPEC, ExplainerSpec

    spec = ExplainerSpec.read(folder)
    target.mkdir(parents=True, exist_ok=True)
    save_language(folder, target / LANGUAGE, dtype)
    (target / PROJECTOR).write_bytes((folder / PROJECTOR).read_bytes())
    _write_json(target / SPEC, asdict(replace(spec, language=f"./{LANGUAGE}")))


def save_language(folder: Path, target: Path, dtype: str = "float32") -> None:
    """Save the language model of an explainer, LoRA merged, for AutoModelForCausalLM and AutoTokenizer."""
    import torch

    model, tokenizer = merged_language(folder)
    model.to(getattr(torch, dtype))
    model.config.dtype = getattr(torch, dtype)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def merged_language(folder: Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The language model in float32, with its full vocabulary: other programs do not support a cut tokenizer."""
    import logging

    from emoreason.models.gguf import read_gemma
    from emoreason.models.language import load_language, package_file
    from emoreason.models.vlm import ExplainerSpec

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it, and it warns about missing GPU kernels
    from peft import PeftModel

    spec = ExplainerSpec.read(folder)
    model: Any
    if spec.merged:
        model = load_language(str(folder / spec.language)).model
        return model, tokenizer_of(spec, folder)
    file = package_file(spec.language)
    model = read_gemma(file) if file else load_language(spec.language).model
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload().eval(), tokenizer_of(spec)


def tokenizer_of(spec: "ExplainerSpec", folder: Path = Path()) -> "PreTrainedTokenizerBase":
    """The full tokenizer of an explainer's language model."""
    from transformers import AutoTokenizer

    from emoreason.models.language import package_file

    if file := package_file(spec.language):
        return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    return AutoTokenizer.from_pretrained(str(folder / spec.language) if spec.merged else spec.language)


def _update_card(target: Path) -> None:
    file = target / "README.md"
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"\b(is|are) not in this folder", rf"\1 in `{BASE}/` of this folder", text), "utf-8")


def _drop_empty(folder: Path) -> None:
    for path in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(path.iterdir()):
            path.rmdir()


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
