"""Models for other programs: ONNX, an adapter for peft and its kin, a transformers folder, GGUF for llama.cpp."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emoreason.convert.merge import DTYPES, explainer_of, save_language, whole
from emoreason.core.errors import UsageError
from emoreason.models.files import HIDDEN

FORMATS = ("onnx", "peft", "transformers", "gguf")
NOTE = """# A LoRA adapter of {name}

Of the language model `{base}`, in PEFT's layout: peft, TRL (`PeftModel.from_pretrained`) and LLaMA-Factory
(`adapter_name_or_path`) read this folder.

It was trained beside a projector, which turns a face into the first tokens of the text. Other programs do not know
that part, so that with this adapter alone the model writes in emoreason's style and sees no picture. The whole of it
is used by `emoreason explain --model`.
"""


def export(
    name: str,
    to: str,
    out: Path,
    *,
    dtype: str = "",
    point: str = "accurate",
    base: str = "",
    overwrite: bool = False,
    notify: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write the model `name` (a run, an added model, an explainer's folder) in the format `to`."""
    if to not in FORMATS:
        raise UsageError(f"--to {to}: one of {', '.join(FORMATS)} was expected")
    if base and to != "peft":
        raise UsageError(f"--base {base} is written into adapters: it goes with --to peft")
    if to in ("onnx", "gguf"):
        if out.suffix != f".{to}":
            raise UsageError(f"-o {out}: a name that ends in .{to} was expected")
        if out.exists() and not overwrite:
            raise UsageError(f"{out} is there already: --overwrite replaces it, or give another -o")
    if to == "onnx":
        if dtype not in ("", "float32"):
            raise UsageError(f"--dtype {dtype}: ONNX is written in float32; onnxruntime's tools quantize it")
        from emoreason.convert.onnx import write_onnx

        write_onnx(name, out, point)
        return out
    folder = explainer_of(name)
    if to == "peft":
        return whole(out, lambda there: save_adapter(folder, there, base), overwrite)
    if to == "gguf":
        from emoreason.convert.gguf import write_gguf

        write_gguf(folder, out, dtype or "float16")
        return out
    if dtype not in ("", *DTYPES):
        raise UsageError(f"--dtype {dtype}: {', '.join(DTYPES)} were expected")
    notify("what sees the face, the projector, stays here: other programs have no place for it")
    return whole(out, lambda there: save_language(folder, there, dtype or "float32"), overwrite)


def save_adapter(folder: Path, target: Path, base: str = "") -> None:
    """The explainer's LoRA with a base model that others can find, and the tokenizer."""
    from emoreason.convert.merge import tokenizer_of
    from emoreason.models.bundle import PACKAGE_PREFIX
    from emoreason.models.vlm import ADAPTER, ExplainerSpec

    spec = ExplainerSpec.read(folder)
    if spec.merged:
        raise UsageError(f"{folder} has no adapter any more: it was merged. Export the run that it was merged from")
    module = spec.language.removeprefix(PACKAGE_PREFIX)
    base = base or HIDDEN.get(module, module)
    config: dict[str, Any] = json.loads((folder / ADAPTER[0]).read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    (target / ADAPTER[0]).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (target / ADAPTER[1]).write_bytes((folder / ADAPTER[1]).read_bytes())
    tokenizer_of(spec).save_pretrained(target)
    (target / "README.md").write_text(NOTE.format(name=folder.resolve().name, base=base), encoding="utf-8")
