"""A start is cheap: nothing heavy is imported that it does not need, and prepared weights are kept and checked."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from emoreason.core.device import choose
from emoreason.core.files import cache_folder
from emoreason.models import prepared, vlm
from emoreason.models.encoder import architectures, load_encoder
from emoreason.models.image_tower import DropPath, SqueezeExcite
from emoreason.models.language import load_language
from emoreason.models.packed_linear import PackedLinear
from emoreason.models.vlm import ADAPTER, ExplainerSpec, VisionLanguageModel
from emoreason.train.recipes.smoke_texts import save_language

HEAVY = ("open_clip", "torchvision", "timm", "transformers", "peft", "gguf")
IDS = torch.tensor([[2, 5, 3, 7, 11, 4]])


# ---- imports ---------------------------------------------------------------------------------------------------------


def imported(program: str, *arguments: object) -> set[str]:
    """Which packages a program has imported at its end."""
    program += "\nimport sys\nprint('imported:', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rpartition("imported:")[2].split())


def test_reading_a_face_needs_only_torch(astronaut):
    program = (
        "import sys, emoreason; model = emoreason.load('mini', device_name='cpu')\n"
        "assert model.analyze(sys.argv[1], labels=('angry', 'glad'), explain=False).faces"
    )
    names = imported(program, astronaut)
    assert "torch" in names and not names & set(HEAVY)


@pytest.mark.parametrize(
    "mistake",
    [
        ["no/such.jpg"],
        ["example", "--model", "mni"],
        ["example", "--label-set", "nothing"],
        ["example", "--decide", "nobody"],
        ["example", "--detector", "none"],
        ["example", "--prompts", "no/such.yaml"],
    ],
)
def test_mistakes_are_answered_before_torch_is_imported(mistake):
    names = imported("import sys; from emoreason.apps.cli.main import execute; assert execute(sys.argv[1:]) in (1, 2)",
                     "explain", *mistake)  # fmt: skip
    assert not names & {"torch", *HEAVY}


def test_names_of_architectures_are_those_of_open_clip():
    import open_clip

    assert set(architectures()) - {"emoreason-mini"} == set(open_clip.list_models()) - {"emoreason-mini"}


# ---- the image network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [16, 64, 128, 256])
def test_squeeze_and_excitation_is_that_of_timm(channels):
    from timm.layers import SEModule

    theirs = SEModule(channels, rd_ratio=1 / 8)
    ours = SqueezeExcite(channels, theirs.fc1.out_channels)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, channels, 5, 5)
    assert torch.equal(ours(x), theirs(x))


def test_drop_path_is_that_of_timm():
    from timm.layers import DropPath as Theirs

    x = torch.randn(64, 3, 2, 2)
    for training in (True, False):
        results = []
        for layer in (DropPath(0.3), Theirs(0.3)):
            torch.manual_seed(0)
            results.append(layer.train(training)(x))
        assert torch.equal(*results)


def test_texts_are_encoded_as_by_open_clip():
    from emoreason.models.encoder import create_clip

    encoder, texts = load_encoder("mini", choose("cpu")), ["helpless", "a face  that looks bored"]
    clip, tokenizer = create_clip("emoreason-mini")
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(clip.encode_text(tokenizer(texts)), dim=1).numpy()
    np.testing.assert_allclose(encoder.encode_texts(texts), expected, atol=1e-6)


# ---- prepared weights ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An explainer's folder on a tiny Gemma that comes as a package."""
    from peft import LoraConfig

    language = load_language(str(save_language(tmp_path / "language")))
    rows = np.arange(language.model.config.vocab_size)

    def read_gemma(path, rows):
        return load_language(str(path)).model

    package = SimpleNamespace(EXPECTED_SHA256="0" * 64, assemble=lambda: tmp_path / "language")
    monkeypatch.setitem(sys.modules, "tiny_gguf", package)
    monkeypatch.setattr("emoreason.models.gguf.read_gemma", read_gemma)
    spec = ExplainerSpec("mini", "package:tiny_gguf", grid=2)
    made = VisionLanguageModel.create(
        spec, load_encoder("mini", choose("cpu")), dataclasses.replace(language, rows=rows)
    )
    made.add_lora(LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in made.language.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    made.save_pretrained(tmp_path / "explainer")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "explainer"


@pytest.fixture
def assembled(monkeypatch):
    """How often the model was made from its parts."""
    calls, make = [], VisionLanguageModel._assembled
    monkeypatch.setattr(VisionLanguageModel, "_assembled", lambda *given: calls.append(1) or make(*given))
    return calls


def logits(folder, quantize=None):
    model = VisionLanguageModel.from_pretrained(folder, choose("cpu"), quantize=quantize)
    with torch.inference_mode():
        return model.language(IDS).logits


def files():
    return sorted(cache_folder("language").glob("*"))


@pytest.mark.parametrize("quantize", [None, "int8", "float32"])
def test_the_second_start_uses_what_the_first_one_kept(folder, assembled, quantize):
    first = logits(folder, quantize)
    assert len(files()) == len(assembled) == 1
    assert torch.equal(logits(folder, quantize), first)
    assert len(files()) == len(assembled) == 1


@pytest.mark.parametrize("level", ["half", "int8", "float32"])
def test_a_layer_is_restored_from_weights_that_begin_anywhere(level):
    """Files put them where they fit; the int8 kernel crashes on those that torch would not have put there."""
    torch.manual_seed(0)
    layer = PackedLinear(torch.randn(128, 256), torch.randn(128), level)
    moved = {}
    for name, tensor in layer.tensors().items():
        room = torch.zeros(tensor.numel() + 8, dtype=tensor.dtype)
        moved[name] = room[3 : 3 + tensor.numel()].view(tensor.shape).copy_(tensor)
    again = PackedLinear.restored(moved)
    for rows in (1, 4, 30):
        x = torch.randn(rows, 256)
        assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize("damage", ["short", "changed", "empty"])
def test_a_broken_file_is_made_again(folder, assembled, damage):
    first = logits(folder)
    (file,) = files()
    good = file.read_bytes()
    bad = {"short": good[:-9], "changed": good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], "empty": b""}[damage]
    file.write_bytes(bad)
    assert torch.equal(logits(folder), first)
    assert len(assembled) == 2 and file.read_bytes() == good


def test_another_adapter_and_another_level_get_files_of_their_own(folder, assembled):
    from safetensors.torch import load_file, save_file

    first = logits(folder)
    adapter = {name: 2 * tensor for name, tensor in load_file(folder / ADAPTER[1]).items()}
    save_file(adapter, folder / ADAPTER[1], {"format": "pt"})
    assert not torch.equal(logits(folder), first)
    logits(folder, "int8")
    assert len(files()) == len(assembled) == prepared.KEPT
    before = files()
    logits(folder, "float32")
    assert len(files()) == prepared.KEPT and files() != before


def test_a_cache_that_cannot_be_written_is_done_without(folder, assembled, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert torch.equal(logits(folder), logits(folder))
    assert len(assembled) == 2


def test_a_prepared_model_needs_neither_transformers_nor_peft(folder):
    first = logits(folder)
    program = (
        "import sys, torch\n"
        "from emoreason.models.cache import cache_argument, check_cache\n"
        "from emoreason.models.prepared import load_prepared\n"
        "from pathlib import Path\n"
        "model = load_prepared(Path(sys.argv[1]))\n"
        "check_cache(model)\n"
        "ids = torch.tensor(eval(sys.argv[2]))\n"
        "torch.save(model(ids).logits, sys.argv[3])"
    )
    target = folder / "logits.pt"
    names = imported(program, files()[0], IDS.tolist(), target)
    assert not names & set(HEAVY)
    assert torch.allclose(torch.load(target), first, atol=1e-5)


def test_models_that_come_as_no_package_are_not_kept(folder):
    spec = dataclasses.replace(ExplainerSpec.read(folder), language="./language")
    assert vlm._prepared_file(folder, spec, "half") is None
