"""Keeps language models in the user's cache folder as they compute: adapter merged, weights packed.

Reading a language model from its GGUF file, adding the adapter and packing takes several seconds of work. The result is
stored once and mapped into memory at later starts. A file's name is a checksum of all that it was made from, so another
adapter gets another file, and every tensor has a checksum of its own: what is broken is made again.
"""

import hashlib
import json
import os
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from emoreason.core.files import cache_folder
from emoreason.models.fast_decoder import FastGemma, PackedGemma
from emoreason.models.packed_linear import PackedLinear

FORMAT = 1  # to be raised when other tensors are stored, or the same ones are computed in another way
KEPT = 3  # files; the one that was not used for the longest time goes first


def prepared_file(made_from: dict[str, Any]) -> Path:
    """The file of a language model. made_from: checksums and settings, all that its numbers depend on."""
    text = json.dumps({"format": FORMAT, **made_from}, sort_keys=True)
    return cache_folder("language") / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"


def load_prepared(file: Path) -> PackedGemma | None:
    """The model in a file; None if there is none or if it is broken."""
    if not file.is_file():
        return None
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as content:
            about = json.loads((content.metadata() or {})["about"])
            tensors = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        if {name: _checksum(tensor) for name, tensor in tensors.items()} != about["checksums"]:
            return None
        model = PackedGemma.restored(about["settings"], tensors)
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        return None
    with suppress(OSError):
        os.utime(file)  # it was used
    return model


def save_prepared(file: Path, language: Any) -> None:
    """Store a packed model, completely or not at all. Models of other kinds are passed over, and so is a folder that
    cannot be written or a full disk: the next start takes longer, nothing else."""
    model, head = getattr(language, "model", None), language.get_output_embeddings()
    if not isinstance(model, FastGemma) or not isinstance(head, PackedLinear) or head.weight is None:
        return
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    packed = PackedGemma(model, head)
    tensors = {name: tensor.detach().contiguous() for name, tensor in packed.tensors().items()}
    checksums = {name: _checksum(tensor) for name, tensor in tensors.items()}
    about = json.dumps({"settings": packed.settings(), "checksums": checksums})
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".writing-")
        os.close(handle)
        try:
            save_file(tensors, temporary, {"about": about})
            os.replace(temporary, file)
        finally:
            Path(temporary).unlink(missing_ok=True)
        for old in sorted(file.parent.glob("*.safetensors"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            old.unlink(missing_ok=True)
    except (OSError, SafetensorError):
        return


def _checksum(tensor: Tensor) -> int:
    """Finds damage at some gigabytes a second; nobody is kept from writing a wrong file on purpose."""
    return zlib.crc32(cast(Any, tensor.reshape(-1).view(torch.uint8).numpy()))
