"""Loads explainers by name, as `--explainer` takes them."""

from pathlib import Path
from typing import TYPE_CHECKING

from emoreason.core import device as devices
from emoreason.core.errors import EmoreasonError, UsageError

if TYPE_CHECKING:
    from emoreason.explain.backends.chat_explainer import Chat
    from emoreason.explain.explanation import Explainer
    from emoreason.models.encoder import Encoder

FORMS = """the forms are
  none                               numbers only
  FOLDER or OWNER/NAME               an explainer that `emoreason finetune` made, in a folder or on the Hub
  text:MODEL                         a transformers chat model that reads the evidence sheet
  vision:MODEL                       a transformers image-text-to-text model that also sees the face
  http://HOST:PORT/v1#MODEL          an OpenAI-compatible server that reads the evidence sheet
  vision:http://HOST:PORT/v1#MODEL   the same, and the face's picture is sent to it"""
TEXT, VISION, WEB = "text:", "vision:", ("http://", "https://")
SPEC = "explainer.json"
OWN_FOLDER = "explainer"  # subfolder of a model for its own explainer, which goes by the model's name


def load_explainer(
    name: str,
    *,
    model: str = "",
    quantize: str | None = None,
    device: str = "auto",
    encoder: "Encoder | None" = None,
) -> "Explainer | None":
    """Load the explainer `name`, given in one of FORMS; returns None for "none".

    model: the model's name, if the address of a server does not contain it.
    quantize: float32, half, int8, 8bit or 4bit.
    encoder: the evidence's encoder, which the explainer shares if it was trained with the same one.
    """
    if name in ("none", ""):
        return None
    if name == "auto":
        from emoreason.models.bundle import find_bundle

        bundle = find_bundle("mini")
        folder = bundle.folder / OWN_FOLDER if bundle else None
        if folder is None or not (folder / SPEC).is_file():
            return None
        name = str(folder)
    if name.startswith((TEXT, VISION, *WEB)):
        from emoreason.explain.backends.chat_explainer import ChatExplainer

        chat, display_name = load_chat(name, model=model, quantize=quantize, device=device)
        return ChatExplainer(chat, display_name)
    if model:
        raise UsageError(f"--explainer-model {model} is for servers, but --explainer {name} is not a server; {FORMS}")
    if (Path(name) / SPEC).is_file() or (name.count("/") == 1 and not Path(name).exists() and name[0] not in "./~"):
        return _load_own(name, quantize, device, encoder)
    raise UsageError(f"--explainer {name}: there is no such explainer; {FORMS}")


def load_chat(name: str, *, model: str = "", quantize: str | None = None, device: str = "auto") -> "tuple[Chat, str]":
    """Load the chat model of `text:…`, `vision:…` or `http…`; returns it with its display name."""
    sees = name.startswith(VISION)
    target = name.removeprefix(VISION).removeprefix(TEXT)
    if not target:
        raise UsageError(f"{name} names no model; {FORMS}")
    if target.startswith(WEB):
        from emoreason.explain.backends.endpoint import Endpoint

        if quantize:
            raise UsageError(
                f"--quantize {quantize}: the weights of {target} are the server's business; leave --quantize out"
            )
        address, _, named = target.partition("#")
        if named and model and named != model:
            raise UsageError(
                f"{target} names the model {named}, but --explainer-model names {model}: leave one of them out"
            )
        endpoint = Endpoint(address, named or model, sees=sees)
        return endpoint, f"{VISION if sees else ''}{endpoint.name}"
    if model:
        raise UsageError(f"--explainer-model {model} is for servers; {name} already names its model")
    compute = devices.choose(device)
    if sees:
        from emoreason.explain.backends.transformers_chat import ImageTextChat

        return ImageTextChat.load(target, compute, quantize), name
    from emoreason.explain.backends.transformers_chat import TransformersChat

    return TransformersChat.load(target, compute, quantize), f"{TEXT}{target}"


def _load_own(name: str, quantize: str | None, device: str, encoder: "Encoder | None") -> "Explainer":
    from emoreason.explain.backends.local import LocalExplainer
    from emoreason.explain.prompts import load_prompts
    from emoreason.models.bundle import read_bundle
    from emoreason.models.vlm import ExplainerSpec, VisionLanguageModel

    if encoder is not None and (not Path(name).is_dir() or ExplainerSpec.read(Path(name)).encoder != encoder.name):
        encoder = None  # it was trained with another encoder
    vlm = VisionLanguageModel.from_pretrained(name, devices.choose(device), encoder=encoder, quantize=quantize)
    if vlm.spec.prompts not in ("", load_prompts().id):
        raise EmoreasonError(
            f"the explainer {name} was trained with other prompts than those of this version: train it again with "
            "`emoreason finetune`, or leave --explainer out to use the model's own"
        )
    folder = Path(name).resolve()
    if folder.name != OWN_FOLDER:
        return LocalExplainer(vlm, folder.name)
    bundle = read_bundle(folder.parent)
    return LocalExplainer(vlm, str(bundle.spec["name"]) if bundle else folder.parent.name)
