"""A run as one folder that needs no other: LoRA merged into the weights, and the base model inside.

model.json, weights.safetensors   as the run has them; a merged image tower stands in the weights
base/                             the model that it stands on: its text tower answers for all other labels
explainer/language/               the language model with its LoRA merged, a plain transformers folder
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """A run, an added model or an explainer's folder, as one folder that nothing has to be named for."""
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: {', '.join(DTYPES)} were expected")
    bundle = find_bundle(name)
    if bundle is None:
        explainer = explainer_of(name)
        return whole(out, lambda there: merge_explainer(explainer, there, dtype), overwrite)
    if bundle.base is None:
        raise UsageError(f"{name} stands on no other model: there is nothing to merge")
    run = bundle
    check(run)

    def write(target: Path) -> None:
        notify(f"{run.base} goes into the folder")
        merge_run(run, target)
        if (run.folder / EXPLAINER / "explainer.json").is_file():
            notify("the language model is merged")
            merge_explainer(run.folder / EXPLAINER, target / EXPLAINER, dtype)

    return whole(out, write, overwrite)


def explainer_of(name: str) -> Path:
    """The folder of an explainer: the one that is named, or that of a run or a model."""
    bundle = find_bundle(name)
    places = [Path(name)] + ([bundle.folder / EXPLAINER] if bundle else [])
    for place in places:
        if (place / "explainer.json").is_file():
            return place
    more = ": its labels were trained, and its words are those of its base model" if bundle else ""
    raise UsageError(f"{name} has no explainer of its own{more}; a folder with explainer.json was expected")


def whole(out: Path, write: Callable[[Path], None], overwrite: bool = False) -> Path:
    """A folder that is there when all of it is."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        ours = any((out / name).is_file() for name in ("SHA256SUMS", "adapter_config.json", "config.json"))
        if not overwrite:
            raise UsageError(f"{out} is there already: --overwrite replaces it, or give another -o")
        if not ours:
            raise UsageError(f"{out} holds other things: it is not replaced; give another -o")
    try:
        replace_folder(out, write)
    except OSError as error:
        raise EmoreasonError(f"-o {out} cannot be written: {error.strerror or error}") from None
    return out


def merge_run(run: Bundle, target: Path) -> None:
    """Labels: head, image tower and base model."""
    from safetensors.numpy import load_file, save_file

    assert run.base is not None
    copy(run.folder, target)
    for file in model_files(target):  # what is written merged
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
        tensors = load_file(run.weights) | _tower(run)
        save_file(tensors, target / "weights.safetensors")
        spec["sha256"] = sha256(target / "weights.safetensors")
    left = ("measures.safetensors", "measures.json", "projection.safetensors")
    if files := {name: sha256(target / name) for name in left if (target / name).is_file()}:
        spec["files"] = files
    _write_json(target / "model.json", spec)
    _card(target)


def _tower(run: Bundle) -> dict[str, Any]:
    """The image tower with LoRA merged, as it computes."""
    encoder = load_encoder(str(run.folder), _float32())
    return {f"visual.{k}": v.float().contiguous().numpy() for k, v in encoder.visual.state_dict().items()}


def _save_open_clip(name: str, folder: Path) -> dict[str, Any]:
    """Both towers of an open_clip model, as a bundle."""
    from safetensors.torch import save_file

    architecture, _, pretrained = name.partition("/")
    clip, _ = create_clip(architecture, pretrained)
    folder.mkdir(parents=True)
    save_file({k: v.float().contiguous().clone() for k, v in clip.state_dict().items()}, folder / "weights.safetensors")
    look = clip.visual.preprocess_cfg
    size = look["size"]
    spec = {
        "name": name, "clip": architecture, "mirror": False, "units": [],
        "image_size": size if isinstance(size, int) else size[0],
        "preprocess": {key: look[key] for key in ("mean", "std", "interpolation", "resize_mode")},
        "quick_gelu": any(type(module).__name__ == "QuickGELU" for module in clip.modules()),
        "parameters": sum(p.numel() for p in clip.visual.parameters()),
        "sha256": sha256(folder / "weights.safetensors"),
        "calibration": {"labels": [], "prior": {}, "points": {}, "abstain_below": 0.0},
    }  # fmt: skip
    _write_json(folder / "model.json", spec)
    return spec


def merge_explainer(folder: Path, target: Path, dtype: str = "float32") -> None:
    """Words: the projector, and the language model with its LoRA merged in language/."""
    from emoreason.models.vlm import PROJECTOR, SPEC, ExplainerSpec

    spec = ExplainerSpec.read(folder)
    target.mkdir(parents=True, exist_ok=True)
    save_language(folder, target / LANGUAGE, dtype)
    (target / PROJECTOR).write_bytes((folder / PROJECTOR).read_bytes())
    _write_json(target / SPEC, asdict(replace(spec, language=f"./{LANGUAGE}")))


def save_language(folder: Path, target: Path, dtype: str = "float32") -> None:
    """What AutoModelForCausalLM and AutoTokenizer load: the language model of an explainer, its LoRA merged."""
    import torch

    model, tokenizer = merged_language(folder)
    model.to(getattr(torch, dtype))
    model.config.dtype = getattr(torch, dtype)
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def merged_language(folder: Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """In float32. A model whose vocabulary was cut comes with the whole one: other programs know no cut tokenizer."""
    import logging

    from emoreason.models.gguf import read_gemma
    from emoreason.models.language import load_language, package_file
    from emoreason.models.vlm import ExplainerSpec

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # peft imports it; it misses kernels of GPUs
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
    """The whole tokenizer of an explainer's language model."""
    from transformers import AutoTokenizer

    from emoreason.models.language import package_file

    if file := package_file(spec.language):
        return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    return AutoTokenizer.from_pretrained(str(folder / spec.language) if spec.merged else spec.language)


def _card(target: Path) -> None:
    file = target / "README.md"
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        file.write_text(re.sub(r"\b(is|are) not in this folder", rf"\1 in `{BASE}/` of this folder", text), "utf-8")


def _drop_empty(folder: Path) -> None:
    for place in sorted((p for p in folder.rglob("*") if p.is_dir()), reverse=True):
        if not any(place.iterdir()):
            place.rmdir()


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _float32() -> Any:
    from emoreason.core.device import Compute

    return Compute("cpu", "float32", "as it was stored")
