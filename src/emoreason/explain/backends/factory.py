"""Explainers by name: what `--explainer` takes."""

from pathlib import Path
from typing import TYPE_CHECKING

from emoreason.core import device as devices
from emoreason.core.errors import UsageError

if TYPE_CHECKING:
    from emoreason.explain.backends.chat_explainer import Chat
    from emoreason.explain.explanation import Explainer
    from emoreason.models.encoder import Encoder

FORMS = """the forms are
  none                               numbers only
  FOLDER or OWNER/NAME               an explainer that `emoreason finetune` made, in a folder or on the Hub
  text:MODEL                         a transformers chat model that reads the evidence sheet
  vision:MODEL                       a transformers image-text-to-text model that sees the face as well
  http://HOST:PORT/v1#MODEL          an OpenAI-compatible server; it reads the sheet
  vision:http://HOST:PORT/v1#MODEL   the same, and the face's picture is sent to it"""
TEXT, VISION, WEB = "text:", "vision:", ("http://", "https://")
SPEC = "explainer.json"
OWN_FOLDER = "explainer"  # inside the folder of a model, whose name it then bears


def load_explainer(
    name: str,
    *,
    model: str = "",
    quantize: str | None = None,
    device: str = "auto",
    encoder: "Encoder | None" = None,
) -> "Explainer | None":
    """The explainer called `name`, in one of FORMS; None for "none".

    model: the model's name, where the address of a server does not hold it.
    quantize: float32, half, int8, 8bit or 4bit. encoder: the evidence's, shared where the explainer was made with it.
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

        chat, called = load_chat(name, model=model, quantize=quantize, device=device)
        return ChatExplainer(chat, called)
    if model:
        raise UsageError(f"--explainer-model {model} is for servers, and --explainer {name} is none: {FORMS}")
    if (Path(name) / SPEC).is_file() or (name.count("/") == 1 and not Path(name).exists() and name[0] not in "./~"):
        return _own(name, quantize, device, encoder)
    raise UsageError(f"--explainer {name}: there is no such explainer; {FORMS}")


def load_chat(name: str, *, model: str = "", quantize: str | None = None, device: str = "auto") -> "tuple[Chat, str]":
    """The chat model of `text:…`, `vision:…` or `http…`, and what to call it."""
    sees = name.startswith(VISION)
    target = name.removeprefix(VISION).removeprefix(TEXT)
    if not target:
        raise UsageError(f"{name} names no model; {FORMS}")
    if target.startswith(WEB):
        from emoreason.explain.backends.endpoint import Endpoint

        if quantize:
            raise UsageError(f"--quantize {quantize}: the weights of {target} are its server's business")
        address, _, named = target.partition("#")
        if named and model and named != model:
            raise UsageError(f"{target} names the model {named}, and --explainer-model names {model}")
        endpoint = Endpoint(address, named or model, sees=sees)
        return endpoint, f"{VISION if sees else ''}{endpoint.name}"
    if model:
        raise UsageError(f"--explainer-model {model} is for servers: {name} names its model itself")
    compute = devices.choose(device)
    if sees:
        from emoreason.explain.backends.transformers_chat import ImageTextChat

        return ImageTextChat.load(target, compute, quantize), name
    from emoreason.explain.backends.transformers_chat import TransformersChat

    return TransformersChat.load(target, compute, quantize), f"{TEXT}{target}"


def _own(name: str, quantize: str | None, device: str, encoder: "Encoder | None") -> "Explainer":
    from emoreason.explain.backends.local import LocalExplainer
    from emoreason.models.bundle import read_bundle
    from emoreason.models.vlm import ExplainerSpec, VisionLanguageModel

    if encoder is not None and (not Path(name).is_dir() or ExplainerSpec.read(Path(name)).encoder != encoder.name):
        encoder = None  # it was made with another one
    vlm = VisionLanguageModel.from_pretrained(name, devices.choose(device), encoder=encoder, quantize=quantize)
    folder = Path(name).resolve()
    if folder.name != OWN_FOLDER:
        return LocalExplainer(vlm, folder.name)
    bundle = read_bundle(folder.parent)
    return LocalExplainer(vlm, str(bundle.spec["name"]) if bundle else folder.parent.name)
