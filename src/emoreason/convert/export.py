"""Export models for other programs: ONNX, a PEFT adapter, a transformers folder, or GGUF for llama.cpp."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emoreason.convert.merge import DTYPES, explainer_of, replace_output, save_language, tokenizer_of
from emoreason.core.errors import UsageError
from emoreason.models.files import HUB_NAMES

FORMATS = ("onnx", "peft", "transformers", "gguf")
NOTE = """# A LoRA adapter of {name}

An adapter for the language model `{base}`, in PEFT's layout. peft, TRL (`PeftModel.from_pretrained`) and LLaMA-Factory
(`adapter_name_or_path`) can read this folder.

It was trained together with a projector, which turns a face into the first tokens of the text. Other programs do not
support the projector: with this adapter alone, the model writes in emoreason's style but sees no picture. Use
`emoreason explain --model` for the complete model.
"""


def export(
    name: str,
    to: str,
    out: Path,
    *,
    dtype: str = "",
    point: str = "",
    base: str = "",
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write the model `name` (a run, an added model or the folder of an explainer) in the format `to`."""
    if to not in FORMATS:
        raise UsageError(f"--to {to}: expected one of {', '.join(FORMATS)}")
    if base and to != "peft":
        raise UsageError(f"--base {base} is only for adapters: use it with --to peft")
    if to in ("onnx", "gguf"):
        if out.suffix != f".{to}":
            raise UsageError(f"-o {out}: expected a name that ends in .{to}")
        if out.exists() and not overwrite:
            raise UsageError(f"{out} exists already: replace it with --overwrite, or choose another -o")
    if to == "onnx":
        if dtype not in ("", "float32"):
            raise UsageError(f"--dtype {dtype}: ONNX is written in float32; quantize it with onnxruntime's tools")
        from emoreason.convert.onnx import write_onnx

        write_onnx(name, out, point)
        return out
    folder = explainer_of(name)
    if to == "peft":
        return replace_output(out, lambda target: save_adapter(folder, target, base), overwrite)
    if to == "gguf":
        from emoreason.convert.gguf import write_gguf

        write_gguf(folder, out, dtype or "float16")
        return out
    if dtype not in ("", *DTYPES):
        raise UsageError(f"--dtype {dtype}: expected one of {', '.join(DTYPES)}")
    notify("the projector, which sees the face, is not exported: other programs do not support it")
    return replace_output(out, lambda target: save_language(folder, target, dtype or "float32"), overwrite)


def save_adapter(folder: Path, target: Path, base: str = "") -> None:
    """Write the explainer's LoRA, with a base model that other programs can load, and the tokenizer."""
    from emoreason.models.bundle import PACKAGE_PREFIX
    from emoreason.models.vlm import ADAPTER, ExplainerSpec

    spec = ExplainerSpec.read(folder)
    if spec.merged:
        raise UsageError(f"{folder} has no adapter because it was merged. Export the run that it was merged from")
    module = spec.language.removeprefix(PACKAGE_PREFIX)
    base = base or HUB_NAMES.get(module, module)
    config: dict[str, Any] = json.loads((folder / ADAPTER[0]).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    (target / ADAPTER[0]).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (target / ADAPTER[1]).write_bytes((folder / ADAPTER[1]).read_bytes())
    tokenizer_of(spec).save_pretrained(target)
    (target / "README.md").write_text(NOTE.format(name=folder.resolve().name, base=base), encoding="utf-8")
